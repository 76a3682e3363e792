"""The catalog: what images there are, remembered in SQL. The only floor that knows SQLAlchemy."""
