"""The limit programs: seeded, started and stopped like the registries they are compared with."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bench import dataset
from bench.limits import schema
from bench.postgres import Postgres

_json = msgspec.json.Encoder().encode


def _time(moment: object) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _image(row: dataset.Row) -> tuple[object, ...]:
    folded = {
        "created_at": _time(row.created_at),
        "updated_at": _time(row.updated_at),
        "properties": _json(row.properties).decode(),
        "tags": _json(row.tags).decode(),
    }
    return tuple(folded.get(column, getattr(row, column)) for column in schema.COLUMNS)


def _parts(rows: list[dataset.Row]) -> Iterator[tuple[str, list[tuple[object, ...]]]]:
    yield "image", [_image(row) for row in rows]
    yield (
        "property",
        [
            (name, value, _time(row.created_at), row.id)
            for row in rows
            for name, value in row.properties.items()
        ],
    )
    yield "tag", [(tag, _time(row.created_at), row.id) for row in rows for tag in row.tags]
    yield (
        "member",
        [(project, _time(row.created_at), row.id) for row in rows for project in row.members],
    )


def _batches(count: int, length: int = 10000) -> Iterator[list[dataset.Row]]:
    batch: list[dataset.Row] = []
    for row in dataset.rows(count):
        batch.append(row)
        if len(batch) == length:
            yield batch
            batch = []
    yield batch


def seed_postgres(postgres: Postgres, database: str, count: int) -> None:
    """Fill an empty database with `count` images."""
    with postgres.connect(database) as connection:
        connection.execute("SET synchronous_commit = off")
        with connection.transaction():
            connection.execute(schema.TABLES.encode())
            for batch in _batches(count):
                for table, lines in _parts(batch):
                    with connection.cursor().copy(f"COPY {table} FROM STDIN".encode()) as copy:
                        for line in lines:
                            copy.write_row(line)
            connection.execute(schema.INDEXES.encode())


def seed_sqlite(path: Path, count: int) -> None:
    """Make an SQLite file with `count` images."""
    for old in path.parent.glob(f"{path.name}*"):
        old.unlink()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")
    connection.executescript(schema.TABLES)
    for batch in _batches(count):
        connection.execute("BEGIN")
        for table, lines in _parts(batch):
            if lines:
                marks = ", ".join("?" * len(lines[0]))
                connection.executemany(f"INSERT INTO {table} VALUES ({marks})", lines)
        connection.execute("COMMIT")
    connection.executescript(schema.INDEXES)
    connection.execute("ANALYZE")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
