"""Whether a database has the schema that the program believes in: tables, columns, constraints,
indexes, as the database itself tells them.

The schema as it should be is made beside the one that is there, in memory or among the temporary
tables, and both are asked in the same words. So nothing is compared that could be written in two ways.
"""

from __future__ import annotations

import re
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from transom.catalog.schema import metadata

Schema = dict[str, Any]
"""What there is by its name, such as `index ix_images_name`, and how it is defined."""

_PG_COLUMNS = """
SELECT 'column ' || c.relname || '.' || a.attname, format_type(a.atttypid, a.atttypmod),
       a.attnotnull, l.collname, a.attgenerated::text, pg_get_expr(d.adbin, d.adrelid)
  FROM pg_attribute a
  JOIN pg_class c ON c.oid = a.attrelid AND c.relkind = 'r'
  LEFT JOIN pg_collation l ON l.oid = a.attcollation
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE c.relnamespace = {namespace} AND a.attnum > 0 AND NOT a.attisdropped
"""
_PG_CONSTRAINTS = """
SELECT 'constraint ' || c.relname || '.' || o.conname, pg_get_constraintdef(o.oid)
  FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid
 WHERE c.relnamespace = {namespace} AND o.contype IN ('p', 'u', 'f', 'c')
"""
_PG_INDEXES = """
SELECT 'index ' || i.relname,
       regexp_replace(pg_get_indexdef(x.indexrelid), ' ON [^ ]+\\.', ' ON '), x.indisvalid
  FROM pg_index x
  JOIN pg_class i ON i.oid = x.indexrelid
 WHERE i.relnamespace = {namespace}
   AND NOT EXISTS (SELECT FROM pg_constraint o
                    WHERE o.conindid = x.indexrelid AND o.contype IN ('p', 'u'))
"""


def differences(connection: Connection) -> list[str]:
    """Sentences about what is missing or different; what somebody added is left alone. Nothing stays
    of what is made for the comparison."""
    if connection.dialect.name == "postgresql":
        found, wanted = _postgresql(connection)
    else:
        found, wanted = _sqlite(connection)
    told = [f"{name} is missing" for name in sorted(wanted.keys() - found.keys())]
    told += (
        f"{name} is {_words(found[name], wanted[name])}, should be "
        f"{_words(wanted[name], found[name])}"
        for name in sorted(wanted.keys() & found.keys())
        if found[name] != wanted[name]
    )
    # A table that is missing takes everything of it along.
    gone = {each.split()[1] for each in told if each.startswith("table ") and "missing" in each}
    return [each for each in told if each.startswith("table ") or not _is_of(each, gone)]


def _is_of(told: str, tables: set[str]) -> bool:
    name = told.split()[1]
    return name.partition(".")[0] in tables or any(
        index.name == name for table in tables for index in metadata.tables[table].indexes
    )


def _words(one: tuple[Any, ...], other: tuple[Any, ...]) -> str:
    """What one definition says that the other does not."""
    return " ".join(str(word) for word in one if word not in other) or "without that"


# --- SQLite ----------------------------------------------------------------------------------------


def _sqlite(connection: Connection) -> tuple[Schema, Schema]:
    beside = sa.create_engine("sqlite://")
    with beside.begin() as memory:
        metadata.create_all(memory, checkfirst=False)
        wanted = _sqlite_schema(memory)
    beside.dispose()
    return _sqlite_schema(connection), wanted


def _sqlite_schema(connection: Connection) -> Schema:
    found: Schema = {}
    for kind, name, text in connection.exec_driver_sql(
        "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite%'"
    ):
        # Columns and constraints may stand in another order.
        lines = (re.sub(r"\s+", " ", line).strip(" ,") for line in text.splitlines())
        found[f"{kind} {name}"] = tuple(sorted(line for line in lines if line))
    return found


# --- PostgreSQL ------------------------------------------------------------------------------------


def _postgresql(connection: Connection) -> tuple[Schema, Schema]:
    there = connection.exec_driver_sql("SELECT current_schema()").scalar_one()
    found = _pg_schema(connection, f"'{there}'::regnamespace")
    beside = connection.begin_nested()
    try:
        connection.exec_driver_sql("SET LOCAL search_path TO pg_temp")
        metadata.create_all(connection, checkfirst=False)
        wanted = _pg_schema(connection, "pg_my_temp_schema()")
    finally:
        beside.rollback()
    return found, wanted


def _pg_schema(connection: Connection, namespace: str) -> Schema:
    found: Schema = {}
    for query in (_PG_COLUMNS, _PG_CONSTRAINTS, _PG_INDEXES):
        for name, *rest in connection.exec_driver_sql(query.format(namespace=namespace)):
            found[name] = tuple(rest)
    tables = connection.exec_driver_sql(
        f"SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = {namespace}"  # noqa: S608
    )
    found.update({f"table {name}": () for name in tables.scalars()})
    return found
