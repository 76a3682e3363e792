"""A catalog as a whole, copied into an empty database: on another engine, or on the same.

One moment of the source is read, in batches, and written in one transaction, so that what a broken
copy leaves behind is an empty database. What was written is then read again, and must be what was read.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from transom.catalog import migrations
from transom.catalog.counters import count_on, counted_to, counter_of, highest
from transom.catalog.engine import Engine
from transom.catalog.processes import clock
from transom.catalog.schema import EPOCH, MICROSECOND, Moment, images, metadata, processes
from transom.errors import ConfigurationError, TablesDiffer

BATCH = 5000
"""Rows that are in memory at a time."""

_HASH_BYTES = 16
_encode = msgspec.msgpack.Encoder().encode


class Copied(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a table: how many rows were read and written, and the digests of both."""

    table: str
    rows: int
    rows_written: int
    digest: str
    digest_written: str

    @property
    def is_same(self) -> bool:
        """True when what is there now is what was there before."""
        return (self.rows, self.digest) == (self.rows_written, self.digest_written)


Tell = Callable[[str, int], None]
"""Hears how many rows of a table have been read so far."""


def copy(source: Engine, target: Engine, *, alive_seconds: float, tell: Tell) -> list[Copied]:
    """Copy everything from one database into another that has no rows; gives what was copied, in
    the order in which it was.

    Nobody may work with either of them: a process whose lease was renewed in the last
    `alive_seconds` does, and none can join while the copy is made. Leases of the dead are copied,
    and what they left unfinished, for the sweep and the workers of the new place to find. Raises
    ConfigurationError for databases that this cannot be done with, TablesDiffer,
    CatalogUnavailable.
    """

    def read(reading: Connection) -> list[Copied]:
        _require_head(reading)
        if reading.dialect.name == "postgresql":
            # SQLite has let nobody else write since the transaction began.
            reading.exec_driver_sql("LOCK TABLE processes IN SHARE MODE")
        source.read_now(lambda now: _require_rest(now, alive_seconds))
        return target.exclusively(lambda writing: _copy_all(reading, writing, tell))

    done = source.at_one_moment(read)
    target.gather_statistics([table.name for table in tables()])
    return done


def tables() -> list[sa.Table]:
    """Every table, those that others refer to first."""
    return list(metadata.sorted_tables)


def digest_of(rows: Iterable[Sequence[Any]]) -> tuple[int, str]:
    """How many rows these are, and a digest of them that does not depend on their order: the sum of
    the digests of the single rows."""
    count = total = 0
    for row in rows:
        count += 1
        total += _row_digest(row)
    return count, _as_text(total)


def _copy_all(reading: Connection, writing: Connection, tell: Tell) -> list[Copied]:
    _make_ready(writing)
    indexes = [index for table in tables() for index in sorted(table.indexes, key=_by_name)]
    for index in indexes:
        index.drop(writing)
    read = {table.name: _copy_table(reading, writing, table, tell) for table in tables()}
    for index in indexes:
        index.create(writing)
    for table in tables():
        column = counter_of(table)
        if column is not None:
            last = max(counted_to(reading, table, column), highest(reading, column))
            count_on(writing, table, column, last)
    done = []
    for table in tables():
        rows, digest = read[table.name]
        rows_written, digest_written = digest_of(_rows(writing, table))
        done.append(
            Copied(
                table=table.name,
                rows=rows,
                rows_written=rows_written,
                digest=digest,
                digest_written=digest_written,
            )
        )
    wrong = [each.table for each in done if not each.is_same]
    if wrong:
        raise TablesDiffer(wrong)
    return done


def _by_name(index: sa.Index) -> str:
    return str(index.name)


def _require_head(reading: Connection) -> None:
    revision = migrations.current(reading)
    if revision != migrations.head():
        raise ConfigurationError(
            f"The database to be copied is at revision {revision or 'none'}, this release at "
            f"{migrations.head()}: bring it there with `transom db upgrade` first."
        )


def _require_rest(reading: Connection, alive_seconds: float) -> None:
    """Raise ConfigurationError while a process works with the database."""
    limit = clock(reading) - dt.timedelta(seconds=alive_seconds)
    living = reading.execute(
        sa.select(processes.c.host, processes.c.pid)
        .where(processes.c.beat_at >= limit)
        .order_by(processes.c.host, processes.c.pid)
    ).all()
    if living:
        named = ", ".join(f"{row.host} (pid {row.pid})" for row in living)
        raise ConfigurationError(
            f"These processes work with the database to be copied: {named}. What they write would be "
            f"missing in the copy: stop them. One that was killed counts for {alive_seconds:.0f} "
            "seconds more."
        )


def _make_ready(writing: Connection) -> None:
    """The present schema, without rows. Raises ConfigurationError."""
    migrations.upgrade(writing)
    revision = migrations.current(writing)
    if revision != migrations.head():
        raise ConfigurationError(
            f"The database to copy into is at revision {revision}, this release at "
            f"{migrations.head()}: a newer release made it. Name an empty one, or copy with that release."
        )
    full = [
        table.name
        for table in tables()
        if writing.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first()
    ]
    if full:
        first = images.name if images.name in full else full[0]
        others = f" and {len(full) - 1} other tables" if len(full) > 1 else ""
        raise ConfigurationError(
            f"The database to copy into holds rows already, in {first}{others}; name an empty one."
        )


# --- rows ------------------------------------------------------------------------------------------


def _copy_table(
    reading: Connection, writing: Connection, table: sa.Table, tell: Tell
) -> tuple[int, str]:
    given = [column for column in table.columns if column.computed is None]
    places = [number for number, column in enumerate(table.columns) if column.computed is None]
    values = _values_for(writing, table, given)
    count = total = 0
    rest = _rows(reading, table)
    while some := list(islice(rest, BATCH)):
        count += len(some)
        total += sum(map(_row_digest, some))
        values([[row[place] for place in places] for row in some])
        tell(table.name, count)
    return count, _as_text(total)


def _rows(connection: Connection, table: sa.Table) -> Iterator[Sequence[Any]]:
    """All rows, with moments as microseconds and true and false as themselves on every engine."""
    moments = [number for number, each in enumerate(table.columns) if isinstance(each.type, Moment)]
    statement = sa.select(table).execution_options(yield_per=BATCH)
    for row in connection.execute(statement):
        values = list(row)
        for number in moments:
            if values[number] is not None:
                values[number] = (values[number] - EPOCH) // MICROSECOND
        yield values


def _values_for(
    writing: Connection, table: sa.Table, columns: Sequence[sa.Column[Any]]
) -> Callable[[list[list[Any]]], None]:
    """What writes rows of these columns, as `_rows` gives them."""
    driver: Any = writing.connection.driver_connection
    names = ", ".join(f'"{column.name}"' for column in columns)
    if isinstance(driver, sqlite3.Connection):
        marks = ", ".join("?" * len(columns))
        insert = f"INSERT INTO {table.name} ({names}) VALUES ({marks})"  # noqa: S608
        return lambda rows: _nothing(driver.executemany(insert, rows))
    moments = [number for number, each in enumerate(columns) if isinstance(each.type, Moment)]
    statement = f"COPY {table.name} ({names}) FROM STDIN"

    def write(rows: list[list[Any]]) -> None:
        with driver.cursor() as cursor, cursor.copy(statement) as target:
            for row in rows:
                for number in moments:
                    if row[number] is not None:
                        row[number] = EPOCH + dt.timedelta(microseconds=row[number])
                target.write_row(row)

    return write


def _nothing(_result: object) -> None:
    return None


def _row_digest(row: Sequence[Any]) -> int:
    return int.from_bytes(
        hashlib.blake2b(_encode(list(row)), digest_size=_HASH_BYTES).digest(), "big"
    )


def _as_text(total: int) -> str:
    return f"{total % 2 ** (8 * _HASH_BYTES):0{2 * _HASH_BYTES}x}"
