"""Numbers that the database counts up itself: how far it has come, and where it goes on."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection


def counter_of(table: sa.Table) -> sa.Column[Any] | None:
    """The column that is counted up, if there is one."""
    column = table.autoincrement_column
    return None if column is None or column.autoincrement is False else column


def counted_to(connection: Connection, table: sa.Table, column: sa.Column[Any]) -> int:
    """The last number that was given; 0 when none was, or the database does not keep it."""
    if connection.dialect.name == "postgresql":
        last, is_called = connection.exec_driver_sql(
            f"SELECT last_value, is_called FROM {_sequence(connection, table, column)}"  # noqa: S608
        ).one()
        return int(last) if is_called else 0
    if not _is_kept(table):
        return 0
    statement = sa.text("SELECT seq FROM sqlite_sequence WHERE name = :name")
    return int(connection.execute(statement, {"name": table.name}).scalar() or 0)


def highest(connection: Connection, column: sa.Column[Any]) -> int:
    """The highest number that is in use; 0 when none is."""
    return int(connection.execute(sa.select(sa.func.max(column))).scalar() or 0)


def count_on(connection: Connection, table: sa.Table, column: sa.Column[Any], last: int) -> None:
    """Let the next number be higher than `last`. SQLite may have to look at the rows for that."""
    if connection.dialect.name == "postgresql":
        sequence = _sequence(connection, table, column)
        connection.execute(sa.select(sa.func.setval(sequence, max(last, 1), last > 0)))
    elif _is_kept(table):
        values = {"name": table.name, "last": last}
        connection.execute(sa.text("DELETE FROM sqlite_sequence WHERE name = :name"), values)
        connection.execute(sa.text("INSERT INTO sqlite_sequence VALUES (:name, :last)"), values)


def _sequence(connection: Connection, table: sa.Table, column: sa.Column[Any]) -> str:
    name: str = connection.execute(
        sa.select(sa.func.pg_get_serial_sequence(table.name, column.name))
    ).scalar_one()
    return name


def _is_kept(table: sa.Table) -> bool:
    """True where SQLite remembers the last number, and does not give it again."""
    return bool(table.dialect_options["sqlite"]["autoincrement"])
