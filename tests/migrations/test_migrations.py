"""Schemas grow step by step, and end where the tables of the program say."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from tests.support import every_row
from tests.support.catalogs import DIALECTS, a_location, an_image, empty_url
from transom.catalog import Catalog, checkup, migrations
from transom.catalog.counters import count_on, counter_of, highest
from transom.catalog.engine import Engine
from transom.catalog.schema import metadata
from transom.errors import ConfigurationError
from transom.model.actor import Actor
from transom.model.query import ImageQuery


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> str:
    """Each of the databases."""
    return str(request.param)


@pytest.fixture
def url(dialect: str, tmp_path: Path) -> str:
    """An empty database."""
    return empty_url(dialect, tmp_path)


@pytest.fixture
def catalog(url: str) -> Iterator[Catalog]:
    """A catalog over the empty database."""
    opened = Catalog(Engine(url))
    yield opened
    opened.close()


def schema_of(connection: Connection) -> dict[str, Any]:
    """Everything that the database itself says about its schema, and every row in it."""
    found: dict[str, Any] = {}
    if connection.dialect.name == "sqlite":
        for kind, name, text in connection.exec_driver_sql(
            "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL"
        ):
            # Columns keep their order; constraints follow in any.
            lines = [re.sub(r"\s+", " ", line).strip(" ,") for line in text.splitlines()]
            columns = [line for line in lines if not line.startswith("CONSTRAINT")]
            found[f"{kind} {name}"] = columns, sorted(set(lines) - set(columns))
    else:
        for query in (
            (
                "SELECT 'column ' || table_name || '.' || column_name, ordinal_position, data_type, "
                "is_nullable, column_default, collation_name, generation_expression "
                "FROM information_schema.columns WHERE table_schema = 'public'"
            ),
            (
                "SELECT 'constraint ' || conrelid::regclass || '.' || conname, "
                "pg_get_constraintdef(oid) FROM pg_constraint "
                "WHERE connamespace = 'public'::regnamespace"
            ),
            "SELECT 'index ' || indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
        ):
            found |= {name: tuple(rest) for name, *rest in connection.exec_driver_sql(query)}
    for table in sa.inspect(connection).get_table_names():
        found[f"rows {table}"] = [
            tuple(row) for row in connection.exec_driver_sql(f"SELECT * FROM {table}")
        ]
    return found


def test_the_steps_end_where_the_tables_say(catalog: Catalog, dialect: str, tmp_path: Path) -> None:
    catalog.upgrade()
    stepped = Engine(empty_url(dialect, tmp_path))
    stepped.exclusively(lambda connection: migrations.take_steps(connection, migrations.head()))
    by_steps = stepped.read_now(schema_of)
    assert len(by_steps) > 20
    assert by_steps == catalog.engine.read_now(schema_of)
    stepped.close()


def test_there_is_one_line_of_steps_and_its_head_is_the_last_file() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations.FOLDER))
    script = ScriptDirectory.from_config(config)
    assert script.get_heads() == [migrations.head()]
    assert [step.revision for step in script.walk_revisions()] == migrations.revisions()[::-1]


async def test_an_older_database_keeps_its_images(catalog: Catalog) -> None:
    first = migrations.revisions()[0]
    catalog.engine.exclusively(lambda connection: migrations.take_steps(connection, first))
    assert catalog.current_revision() == first
    there = an_image(tags=("t",), properties={"a": "b"})
    await catalog.images.create(there)
    catalog.upgrade()
    assert catalog.current_revision() == migrations.head()
    assert await catalog.images.get(there.id, seen_by=Actor(project_id="mine")) == there


def test_an_upgraded_database_is_left_alone(catalog: Catalog) -> None:
    assert catalog.current_revision() is None
    catalog.upgrade()
    assert catalog.current_revision() == migrations.head()
    before = catalog.engine.read_now(schema_of)
    catalog.upgrade()
    assert catalog.engine.read_now(schema_of) == before


@pytest.mark.parametrize("start", ["empty", "old"])
async def test_several_processes_upgrade_at_once(catalog: Catalog, url: str, start: str) -> None:
    if start == "old":
        catalog.engine.exclusively(lambda connection: migrations.take_steps(connection, "0001"))
    program = (
        "import sys\n"
        "from transom.catalog import Catalog\n"
        "from transom.catalog.engine import Engine\n"
        "catalog = Catalog(Engine(sys.argv[1]))\n"
        "catalog.upgrade()\n"
        "print(catalog.current_revision())\n"
        "catalog.close()\n"
    )
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, url, stdout=asyncio.subprocess.PIPE
        )
        for _ in range(5)
    ]
    printed = [(await process.communicate())[0].decode().strip() for process in processes]
    assert printed == [migrations.head()] * 5
    assert [process.returncode for process in processes] == [0] * 5


def test_a_start_on_a_present_database_does_not_load_alembic(catalog: Catalog, url: str) -> None:
    program = (
        "import sys\n"
        "from transom.catalog import Catalog\n"
        "from transom.catalog.engine import Engine\n"
        "catalog = Catalog(Engine(sys.argv[1]))\n"
        "catalog.upgrade()\n"
        "catalog.close()\n"
        "sys.exit('alembic' in sys.modules)\n"
    )
    for _ in ("empty", "present"):
        subprocess.run([sys.executable, "-c", program, url], check=True)
    assert catalog.current_revision() == migrations.head()


def test_a_database_of_a_newer_version_is_refused_and_left_alone(catalog: Catalog) -> None:
    catalog.upgrade()
    catalog.engine.write_now(
        lambda connection: (
            connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'")).rowcount
        )
    )
    before = catalog.engine.read_now(schema_of)
    with pytest.raises(ConfigurationError, match="revision 9999"):
        catalog.upgrade()
    assert catalog.engine.read_now(schema_of) == before


def test_a_database_of_another_program_is_refused_and_left_alone(catalog: Catalog) -> None:
    catalog.engine.write_now(
        lambda connection: connection.execute(sa.text("CREATE TABLE images (id INTEGER)"))
    )
    before = catalog.engine.read_now(schema_of)
    with pytest.raises(ConfigurationError, match="not Transom's"):
        catalog.upgrade()
    assert catalog.engine.read_now(schema_of) == before


def test_a_step_that_fails_leaves_the_older_schema(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.engine.exclusively(lambda connection: migrations.take_steps(connection, "0001"))
    before = catalog.engine.read_now(schema_of)

    def half_a_step(connection: Connection, _revision: str) -> None:
        connection.execute(sa.text("CREATE TABLE half (id INTEGER)"))
        raise RuntimeError("on purpose")

    monkeypatch.setattr(migrations, "take_steps", half_a_step)
    with pytest.raises(RuntimeError):
        catalog.upgrade()
    assert catalog.engine.read_now(schema_of) == before


@pytest.mark.parametrize("url", ["mysql://x/y", "nonsense", "sqlite://", "sqlite:///:memory:", ""])
def test_another_kind_of_database_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"database\.url"):
        Engine(url)


def test_secrets_of_the_url_are_not_in_the_error() -> None:
    with pytest.raises(ConfigurationError) as refused:
        Engine("mysql://user:hunter2@host/name")
    assert "hunter2" not in str(refused.value)


def test_the_file_of_a_new_catalog_is_for_its_owner_alone(tmp_path: Path) -> None:
    catalog = Catalog(Engine(f"sqlite:///{tmp_path}/new folder/catalog.db"))
    catalog.upgrade()
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "new folder").iterdir()}
    assert modes["catalog.db"] == 0o600
    assert set(modes.values()) == {0o600}
    catalog.close()


# --- rows ------------------------------------------------------------------------------------------


def test_every_revision_has_its_rows_and_every_table_has_some() -> None:
    assert list(every_row.ROWS) == migrations.revisions()
    known = {name for found in every_row.ROWS.values() for name in found}
    assert known == set(metadata.tables)


@pytest.mark.parametrize("revision", migrations.revisions())
def test_rows_of_every_older_schema_come_through(catalog: Catalog, revision: str) -> None:
    engine = catalog.engine
    engine.exclusively(lambda connection: migrations.take_steps(connection, revision))
    written = engine.write_now(lambda connection: every_row.fill(connection, revision))
    before = engine.read_now(
        lambda connection: {name: every_row.read(connection, name) for name in written}
    )
    assert {name: len(rows) for name, rows in written.items()} == {
        name: len(rows) for name, rows in before.items()
    }
    for name, rows in written.items():
        for row, found in zip(sorted(rows, key=repr), before[name], strict=True):
            if name != "images":
                assert row == found
    catalog.upgrade()
    assert catalog.current_revision() == migrations.head()
    after = engine.read_now(
        lambda connection: {name: every_row.read(connection, name) for name in metadata.tables}
    )
    assert {name: rows for name, rows in after.items() if name in before} == before
    assert not [name for name, rows in after.items() if rows and name not in before]
    engine.write_now(advance)
    assert checkup.examine(engine) == []


@pytest.mark.parametrize("revision", migrations.revisions())
async def test_an_older_database_is_worked_with_after_its_upgrade(
    catalog: Catalog, revision: str
) -> None:
    catalog.engine.exclusively(lambda connection: migrations.take_steps(connection, revision))
    catalog.engine.write_now(lambda connection: every_row.fill(connection, revision))
    catalog.upgrade()
    owner = Actor(project_id=every_row.PROJECT)
    shown = await catalog.images.get("00000000-0000-4000-8000-000000000001", seen_by=owner)
    assert shown.name == every_row.TEXT
    assert shown.tags == ("a", "ß")
    listed = await catalog.images.list(ImageQuery(limit=100), seen_by=owner)
    assert len(listed) == 39 - 4
    # Numbers go on behind those that are there.
    fresh = an_image(owner=every_row.PROJECT, locations=(a_location(),), tags=("new",))
    catalog.engine.write_now(advance)
    await catalog.images.create(fresh)
    assert await catalog.images.get(fresh.id, seen_by=owner) == fresh


def advance(connection: Connection) -> None:
    """Rows that a test wrote with their numbers leave PostgreSQL's counter behind."""
    for table in metadata.sorted_tables:
        column = counter_of(table)
        if column is not None:
            count_on(connection, table, column, highest(connection, column))
