"""How the schema of the catalog grows."""
