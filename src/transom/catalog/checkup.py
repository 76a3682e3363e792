"""Whether the database is sound: revision, schema, the file itself, rows that refer to nothing,
numbers that were given already. What rows say of images and objects is the doctor's matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError, DBAPIError

from transom.catalog import drift, migrations
from transom.catalog.copying import tables
from transom.catalog.counters import counted_to, counter_of, highest
from transom.catalog.engine import Engine

LINES_MAX = 20
"""How many sentences one question may give."""

_MAY_NOT_COMPARE = ("42501", "25006")
"""SQLSTATEs of a lack of rights, and of a server that only reads."""
_NOT_COMPARED = (
    "it cannot be compared, because this needs temporary tables: ask the primary server, as the "
    "database's owner or after GRANT TEMPORARY ON DATABASE"
)

Question = Literal["revision", "schema", "storage", "references", "numbers"]


class Ailment(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is wrong with the database."""

    question: Question
    says: str


def examine(engine: Engine, *, is_quick: bool = False) -> list[Ailment]:
    """What is wrong; empty where all is well. Changes nothing and may run beside the service.
    `is_quick` leaves out what reads every row of a large database. Raises CatalogUnavailable."""
    if engine.dialect == "sqlite":
        return engine.read_now(lambda connection: [*_look(connection, is_quick)])
    return engine.at_one_moment(lambda connection: [*_look(connection, is_quick)])


def _look(connection: Connection, is_quick: bool) -> Iterator[Ailment]:
    revision, head = migrations.current(connection), migrations.head()
    if revision is None:
        yield Ailment(
            question="revision",
            says="there is no catalog in this database; `transom db upgrade` makes one",
        )
        return
    if revision != head:
        advice = "run `transom db upgrade`"
        if revision not in migrations.revisions():
            advice = "a newer release made it; check it with that one"
        yield Ailment(
            question="revision",
            says=f"the schema is at revision {revision}, this release at {head}: {advice}",
        )
    else:
        try:
            told = drift.differences(connection)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in _MAY_NOT_COMPARE:
                raise
            told = [_NOT_COMPARED]
        yield from (Ailment(question="schema", says=says) for says in told)
    if connection.dialect.name == "sqlite":
        damages = [*_file(connection, is_quick)]
        yield from damages
        if damages:
            # What else could be asked would be answered by chance.
            return
    else:
        yield from _server(connection)
    if not is_quick:
        yield from _references(connection)
    yield from _numbers(connection)


def _file(connection: Connection, is_quick: bool) -> Iterator[Ailment]:
    pragma = "quick_check" if is_quick else "integrity_check"
    try:
        found = [*connection.exec_driver_sql(f"PRAGMA {pragma}({LINES_MAX})").scalars()]
    except DatabaseError as error:
        found = [str(error.orig)]
    if found != ["ok"]:
        yield from (Ailment(question="storage", says=f"{says}; restore a backup") for says in found)


def _server(connection: Connection) -> Iterator[Ailment]:
    failures = connection.exec_driver_sql(
        "SELECT checksum_failures FROM pg_stat_database WHERE datname = current_database()"
    ).scalar()
    if failures:
        yield Ailment(
            question="storage",
            says=f"PostgreSQL has read {failures} damaged pages; see its log, and restore a backup",
        )
    for (name,) in connection.exec_driver_sql(
        "SELECT indexrelid::regclass::text FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid "
        "WHERE c.relnamespace = current_schema()::regnamespace AND NOT x.indisvalid"
    ):
        yield Ailment(question="storage", says=f"index {name} is not valid: REINDEX INDEX {name}")


def _references(connection: Connection) -> Iterator[Ailment]:
    """Rows whose counterpart is missing. A database keeps that itself, unless it was told not to."""
    there = set(sa.inspect(connection).get_table_names())
    for table in tables():
        if table.name not in there:
            continue
        for key in sorted(table.foreign_key_constraints, key=lambda each: str(each.name)):
            parent = key.referred_table
            pairs = [(each.parent, each.column) for each in key.elements]
            orphans = connection.execute(
                sa.select(sa.func.count())
                .select_from(
                    table.outerjoin(parent, sa.and_(*(child == up for child, up in pairs)))
                )
                .where(pairs[0][1].is_(None), *(child.is_not(None) for child, _ in pairs))
            ).scalar_one()
            if orphans:
                yield Ailment(
                    question="references",
                    says=f"{orphans} rows of {table.name} belong to no row of {parent.name}",
                )


def _numbers(connection: Connection) -> Iterator[Ailment]:
    """Numbers that would be given again, as after rows were loaded by hand. SQLite looks at the rows
    before it gives one."""
    if connection.dialect.name != "postgresql":
        return
    there = set(sa.inspect(connection).get_table_names())
    for table in tables():
        column = counter_of(table)
        if column is None or table.name not in there:
            continue
        counted, used = counted_to(connection, table, column), highest(connection, column)
        if counted < used:
            yield Ailment(
                question="numbers",
                says=f"the next {column.name} of {table.name} would be {counted + 1}, but {used} is "
                f"in use: SELECT setval(pg_get_serial_sequence('{table.name}', '{column.name}'), "
                f"{used})",
            )
