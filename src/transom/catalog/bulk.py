"""Many images at once: for copying a catalog to another database, and for filling one to measure.

Everything is one transaction. An empty catalog loses its indexes for the time of the load, because
sorting a million entries once is many times faster than inserting them one by one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from transom.catalog.engine import Engine, is_duplicate
from transom.catalog.images import rows_around
from transom.catalog.rows import moment_value, values_of
from transom.catalog.schema import (
    Moment,
    image_locations,
    image_members,
    image_properties,
    image_tags,
    images,
)
from transom.errors import Conflict
from transom.model.image import Image
from transom.model.member import Member

BATCH = 5000
_TABLES = (images, image_properties, image_tags, image_locations)


def load(engine: Engine, batch: Iterable[Image], members: Iterable[Member] = ()) -> int:
    """Write all the images, then all the members, which must be of images that are there. Gives
    the number of images. Raises Conflict when one of the ids was in use; nothing is written then.
    """
    try:
        return engine.exclusively(lambda connection: _load(connection, batch, members))
    except Exception as error:
        if not is_duplicate(error):
            raise
        raise Conflict(
            "Some of these images or members are in the catalog already; load them into an empty "
            "catalog."
        ) from error


def _load(connection: Connection, batch: Iterable[Image], members: Iterable[Member]) -> int:
    empty = connection.execute(sa.select(images.c.id).limit(1)).first() is None
    indexes = [index for table in (*_TABLES, image_members) for index in _indexes_of(table)]
    if empty:
        for index in indexes:
            index.drop(connection)
    count = 0
    rest = iter(batch)
    while some := list(islice(rest, BATCH)):
        count += len(some)
        _write(connection, images, map(values_of, some))
        around = [rows_around(image) for image in some]
        for table in _TABLES[1:]:
            _write(connection, table, (row for rows in around for row in rows[table]))
    _write_members(connection, members)
    if empty:
        for index in indexes:
            index.create(connection)
    if connection.dialect.name == "postgresql":
        for table in (*_TABLES, image_members):
            connection.execute(sa.text(f"ANALYZE {table.name}"))
    return count


def _indexes_of(table: sa.Table) -> list[sa.Index]:
    return sorted(table.indexes, key=lambda index: str(index.name))


def _write(connection: Connection, table: sa.Table, rows: Iterable[dict[str, Any]]) -> None:
    columns = [
        column
        for column in table.columns
        if column.computed is None and column is not image_locations.c.number
    ]
    _copy(connection, table.name, columns, _tuples(connection, columns, rows))


def _tuples(
    connection: Connection, columns: Sequence[sa.Column[Any]], rows: Iterable[dict[str, Any]]
) -> Iterator[tuple[Any, ...]]:
    dialect = connection.dialect.name
    names = [(column.name, isinstance(column.type, Moment)) for column in columns]
    for row in rows:
        yield tuple(
            moment_value(dialect, row[name]) if moment and row[name] is not None else row[name]
            for name, moment in names
        )


def _copy(
    connection: Connection,
    table: str,
    columns: Sequence[sa.Column[Any]],
    rows: Iterator[tuple[Any, ...]],
) -> None:
    driver: Any = connection.connection.driver_connection
    names = ", ".join(f'"{column.name}"' for column in columns)
    if isinstance(driver, sqlite3.Connection):
        marks = ", ".join("?" * len(columns))
        driver.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", rows)  # noqa: S608
        return
    with driver.cursor() as cursor, cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def _write_members(connection: Connection, members: Iterable[Member]) -> None:
    """Members as they are, with what they copy from their images."""
    given = [
        column
        for column in image_members.columns
        if column not in (image_members.c.shelf, image_members.c.image_created_at)
    ]
    names = ", ".join(column.name for column in given)
    types = ", ".join(
        f"{column.name} {column.type.compile(connection.dialect)}" for column in given
    )
    connection.execute(sa.text(f"CREATE TEMPORARY TABLE loaded_members ({types})"))
    rest = ({column.name: getattr(member, column.name) for column in given} for member in members)
    while some := list(islice(rest, BATCH)):
        _copy(connection, "loaded_members", given, _tuples(connection, given, some))
    loaded = connection.execute(sa.text("SELECT count(*) FROM loaded_members")).scalar_one()
    written = connection.execute(
        sa.text(
            f"INSERT INTO image_members ({names}, shelf, image_created_at) "  # noqa: S608
            f"SELECT {', '.join(f'm.{column.name}' for column in given)}, i.shelf, i.created_at "
            "FROM loaded_members m JOIN images i ON i.id = m.image_id"
        )
    )
    connection.execute(sa.text("DROP TABLE loaded_members"))
    if written.rowcount != loaded:
        raise Conflict("A member belongs to no image of the catalog; load its image first.")
