"""Releases of one generation run side by side on one database: steps only add (decision 0141)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from tests.support.catalogs import DIALECTS, an_image, empty_url
from transom.catalog import Catalog, checkup, migrations
from transom.catalog.engine import Engine
from transom.errors import ConfigurationError

FIRST_HELD_TO_IT = "0007"
"""Before this revision nobody had replicas to upgrade one by one."""


@pytest.fixture(params=DIALECTS)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An empty database of each kind."""
    opened = Engine(empty_url(str(request.param), tmp_path))
    yield opened
    opened.close()


def schema_of(connection: Connection) -> dict[str, dict[str, Any]]:
    """What an older release relies on, table by table."""
    inspector = sa.inspect(connection)
    return {
        table: {
            "columns": {
                column["name"]: (
                    str(column["type"]),
                    bool(column["nullable"]),
                    column["default"] is not None or bool(column.get("computed")),
                )
                for column in inspector.get_columns(table)
            },
            "checks": {check["sqltext"] for check in inspector.get_check_constraints(table)},
            "unique": {
                tuple(each["column_names"]) for each in inspector.get_unique_constraints(table)
            }
            | {
                tuple(each["column_names"])
                for each in inspector.get_indexes(table)
                if each["unique"]
            },
            "references": {
                (tuple(each["constrained_columns"]), each["referred_table"])
                for each in inspector.get_foreign_keys(table)
            },
        }
        for table in inspector.get_table_names()
    }


def taken_away(before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]) -> list[str]:
    """What a program that knows `before` can no longer do with `after`."""
    found = []
    for table, old in before.items():
        new = after.get(table)
        if new is None:
            found.append(f"table {table} is gone")
            continue
        for name, column in old["columns"].items():
            if name not in new["columns"]:
                found.append(f"column {table}.{name} is gone")
            elif new["columns"][name][0] != column[0]:
                found.append(f"column {table}.{name} has another type")
            elif column[1] and not new["columns"][name][1]:
                found.append(f"column {table}.{name} may not be null any more")
        for name, (_, is_nullable, has_default) in new["columns"].items():
            if name not in old["columns"] and not is_nullable and not has_default:
                found.append(
                    f"column {table}.{name} must be written, which an older release does not"
                )
        for what in ("checks", "unique", "references"):
            found += (f"{table} has one more of {what}: {each}" for each in new[what] - old[what])
    return found


def test_steps_of_a_generation_only_add(engine: Engine) -> None:
    steps = migrations.revisions()
    for before, after in itertools.pairwise(steps):
        engine.exclusively(lambda connection, to=before: migrations.take_steps(connection, to))  # type: ignore[misc]
        old = engine.read_now(schema_of)
        engine.exclusively(lambda connection, to=after: migrations.take_steps(connection, to))  # type: ignore[misc]
        if after >= FIRST_HELD_TO_IT and before[:2] == after[:2]:
            assert taken_away(old, engine.read_now(schema_of)) == [], after


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("DROP TABLE cached_images", "is gone"),
        ("ALTER TABLE processes DROP COLUMN host", "is gone"),
        ("ALTER TABLE processes RENAME COLUMN host TO machine", "is gone"),
        ("ALTER TABLE processes ADD COLUMN color TEXT NOT NULL", "must be written"),
        ("CREATE UNIQUE INDEX one_host ON processes (host)", "one more of unique"),
        ("ALTER TABLE tasks ALTER COLUMN owner SET NOT NULL", "may not be null"),
        ("ALTER TABLE processes ALTER COLUMN pid TYPE INTEGER", "another type"),
        ("ALTER TABLE processes ADD CHECK (pid > 0)", "one more of checks"),
    ],
)
def test_what_an_older_release_misses_is_found(engine: Engine, change: str, sentence: str) -> None:
    if engine.dialect == "sqlite" and ("ALTER COLUMN" in change or "ADD CHECK" in change):
        pytest.skip("SQLite has no such statement")
    if engine.dialect == "sqlite" and "NOT NULL" in change:
        change += " DEFAULT 'x'"
        sentence = ""
    engine.exclusively(lambda connection: migrations.take_steps(connection, migrations.head()))
    before = engine.read_now(schema_of)
    engine.exclusively(lambda connection: connection.exec_driver_sql(change))
    found = taken_away(before, engine.read_now(schema_of))
    # SQLite adds a column that must be written only with a default, and that one is harmless.
    assert any(sentence in each for each in found) if sentence else found == []


async def test_a_database_that_is_ahead_is_served(engine: Engine) -> None:
    catalog = Catalog(engine)
    catalog.upgrade()
    newer = f"{int(migrations.head()) + 1:04}"
    engine.exclusively(
        lambda connection: connection.exec_driver_sql(
            f"UPDATE alembic_version SET version_num = '{newer}'"
        )
    )
    catalog.upgrade()
    assert catalog.current_revision() == newer
    assert migrations.serves(newer)
    (ailment,) = checkup.examine(engine)
    assert ailment.says.endswith("a newer release made it; check it with that one")
    there = an_image()
    await catalog.images.create(there)
    assert await catalog.images.get(there.id, seen_by=None) == there


@pytest.mark.parametrize("revision", ["0100", "9999", "elsewhere", "0006"])
def test_a_database_of_another_generation_is_not_served(engine: Engine, revision: str) -> None:
    assert not migrations.serves(revision)
    if revision == "0006":
        return
    catalog = Catalog(engine)
    catalog.upgrade()
    engine.exclusively(
        lambda connection: connection.exec_driver_sql(
            f"UPDATE alembic_version SET version_num = '{revision}'"
        )
    )
    with pytest.raises(ConfigurationError, match="newer version"):
        catalog.upgrade()
