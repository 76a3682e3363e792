"""Copies of a whole catalog: into another database, and into a file; and whether one is sound."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from tests.support import every_row, postgres, seed
from tests.support.catalogs import DIALECTS, a_location, an_image, clear, empty_url, fresh_url
from transom.catalog import Catalog, backup, checkup, copying, migrations
from transom.catalog.bulk import load
from transom.catalog.counters import count_on, counted_to, counter_of, highest
from transom.catalog.engine import Engine
from transom.catalog.schema import metadata
from transom.errors import BackupFailed, ConfigurationError, TablesDiffer
from transom.imports import durable
from transom.model.actor import Actor

HEAD = migrations.head()
ALIVE_SECONDS = 30.0
WAYS = [(source, target) for source in DIALECTS for target in DIALECTS]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[str], Engine]]:
    """Opens databases that are closed after the test."""
    engines: list[Engine] = []

    def get(url: str) -> Engine:
        engines.append(Engine(url))
        return engines[-1]

    yield get
    for each in engines:
        each.close()


@pytest.fixture(params=DIALECTS)
def grown(
    request: pytest.FixtureRequest, opened: Callable[[str], Engine], tmp_path: Path
) -> Engine:
    """A catalog with every kind of row."""
    return filled(opened(fresh_url(request.param, tmp_path)))


def filled(engine: Engine) -> Engine:
    """The catalog with every kind of row."""

    def work(connection: Connection) -> None:
        every_row.fill(connection, HEAD)
        for table in metadata.sorted_tables:
            column = counter_of(table)
            if column is not None:
                count_on(connection, table, column, highest(connection, column))

    engine.write_now(work)
    return engine


def all_rows(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """Everything that is in a catalog."""
    return engine.read_now(
        lambda connection: {name: every_row.read(connection, name) for name in metadata.tables}
    )


def copied(source: Engine, target: Engine) -> list[copying.Copied]:
    """What a copy tells of itself."""
    return copying.copy(
        source, target, alive_seconds=ALIVE_SECONDS, tell=lambda _table, _rows: None
    )


def change(engine: Engine, *statements: str) -> None:
    """Change the database by hand."""
    with engine._writing.connect() as connection, connection.begin():
        for statement in statements:
            connection.exec_driver_sql(statement)


# --- copies into another database --------------------------------------------------------------------


@pytest.mark.parametrize(("source", "target"), WAYS)
def test_every_kind_of_row_is_copied(
    opened: Callable[[str], Engine], tmp_path: Path, source: str, target: str
) -> None:
    original = filled(opened(fresh_url(source, tmp_path)))
    copy = opened(empty_url(target, tmp_path))
    done = copied(original, copy)
    assert all_rows(copy) == all_rows(original)
    assert {each.table: each.rows for each in done} == {
        name: len(rows) for name, rows in all_rows(original).items()
    }
    assert all(each.rows for each in done)
    assert all(each.is_same for each in done)
    assert checkup.examine(copy) == []
    assert Catalog(copy).current_revision() == HEAD


@pytest.mark.parametrize(("source", "target"), WAYS)
def test_numbers_go_on_where_they_had_come_to(
    opened: Callable[[str], Engine], tmp_path: Path, source: str, target: str
) -> None:
    original = filled(opened(fresh_url(source, tmp_path)))
    # The last of each is gone again; its number must not come back where that is promised.
    change(original, "DELETE FROM events WHERE number = 13", "DELETE FROM metadef_tags")
    copy = opened(empty_url(target, tmp_path))
    copied(original, copy)
    for table in metadata.sorted_tables:
        column = counter_of(table)
        # Without this word SQLite looks at the rows, and promises nothing of those that are gone.
        is_kept = target == "postgresql" or table.dialect_options["sqlite"]["autoincrement"]
        if column is not None and is_kept:
            used, counted = copy.read_now(
                lambda connection, table=table, column=column: (
                    highest(connection, column),
                    counted_to(connection, table, column),
                )
            )
            assert max(used, counted) == max(
                original.read_now(
                    lambda connection, table=table, column=column: (
                        highest(connection, column),
                        counted_to(connection, table, column),
                    )
                )
            )
    row = dict(every_row.ROWS["0006"]["events"][0])
    del row["number"]
    events = metadata.tables["events"]
    copy.write_now(lambda connection: connection.execute(sa.insert(events), [row]) and None)
    assert copy.read_now(lambda connection: highest(connection, events.c.number)) == 14


async def test_a_copied_catalog_is_worked_with(
    grown: Engine, opened: Callable[[str], Engine], tmp_path: Path
) -> None:
    other = "postgresql" if grown.dialect == "sqlite" else "sqlite"
    copy = opened(empty_url(other, tmp_path))
    await asyncio.to_thread(copied, grown, copy)
    catalog = Catalog(copy)
    fresh = an_image(owner=every_row.PROJECT, locations=(a_location(),), tags=("t",))
    await catalog.images.create(fresh)
    assert await catalog.images.get(fresh.id, seen_by=Actor(project_id=every_row.PROJECT)) == fresh


def test_thousands_of_images_are_copied_in_batches(
    opened: Callable[[str], Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "BATCH", 700)
    original = opened(fresh_url("sqlite", tmp_path))
    load(original, seed.images(3000), seed.members(seed.images(3000)))
    heard: list[tuple[str, int]] = []
    copy = opened(empty_url("postgresql", tmp_path))
    copying.copy(
        original,
        copy,
        alive_seconds=ALIVE_SECONDS,
        tell=lambda table, rows: heard.append((table, rows)),
    )
    assert [rows for table, rows in heard if table == "images"] == [700, 1400, 2100, 2800, 3000]
    assert all_rows(copy) == all_rows(original)
    # Plans need statistics from the first request on.
    known = copy.read_now(
        lambda connection: connection.exec_driver_sql(
            "SELECT reltuples FROM pg_class WHERE oid = 'images'::regclass"
        ).scalar_one()
    )
    assert known == 3000


def test_an_empty_catalog_is_copied_too(opened: Callable[[str], Engine], tmp_path: Path) -> None:
    done = copied(opened(fresh_url("sqlite", tmp_path)), opened(empty_url("postgresql", tmp_path)))
    assert len(done) == len(metadata.tables)
    assert {each.rows for each in done} == {0}


def test_a_database_with_rows_is_not_copied_into(
    grown: Engine, opened: Callable[[str], Engine], tmp_path: Path
) -> None:
    full = filled(opened(fresh_url("postgresql", tmp_path)))
    before = all_rows(full)
    with pytest.raises(ConfigurationError, match="holds rows already, in images and 27 other"):
        copied(grown, full)
    assert all_rows(full) == before


def test_a_database_of_another_program_is_not_copied_into(
    grown: Engine, opened: Callable[[str], Engine], tmp_path: Path
) -> None:
    other = opened(empty_url("postgresql", tmp_path))
    change(other, "CREATE TABLE theirs (id INTEGER)")
    with pytest.raises(ConfigurationError, match="not Transom's"):
        copied(grown, other)


def test_the_schema_of_a_newer_release_is_not_copied_into(
    grown: Engine, opened: Callable[[str], Engine], tmp_path: Path
) -> None:
    newer = opened(fresh_url("postgresql", tmp_path))
    # A step of the same generation, which this release may serve.
    change(newer, f"UPDATE alembic_version SET version_num = '{HEAD[:2]}99'")
    with pytest.raises(ConfigurationError, match=f"revision {HEAD[:2]}99"):
        copied(grown, newer)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_older_catalog_is_upgraded_before_it_is_copied(
    opened: Callable[[str], Engine], tmp_path: Path, dialect: str
) -> None:
    old = opened(empty_url(dialect, tmp_path))
    old.exclusively(lambda connection: migrations.take_steps(connection, "0005"))
    empty = opened(empty_url("postgresql", tmp_path))
    with pytest.raises(ConfigurationError, match=f"revision 0005, this release at {HEAD}"):
        copied(old, empty)
    assert empty.read_now(lambda connection: sa.inspect(connection).get_table_names()) == []


async def test_nothing_is_copied_while_a_process_works_with_the_catalog(
    grown: Engine, opened: Callable[[str], Engine], tmp_path: Path
) -> None:
    catalog = Catalog(grown)
    await catalog.processes.join("living", host="node-7", pid=4242, started="1")
    empty = opened(empty_url("postgresql", tmp_path))
    with pytest.raises(ConfigurationError, match=r"node-7 \(pid 4242\)"):
        await asyncio.to_thread(copied, grown, empty)
    await catalog.processes.leave("living")
    assert await asyncio.to_thread(copied, grown, empty)


async def test_no_process_joins_while_a_copy_is_made(
    grown: Engine, opened: Callable[[str], Engine], tmp_path: Path
) -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def tell(_table: str, _rows: int) -> None:
        begun.set()
        assert goes_on.wait(10)

    empty = opened(empty_url("postgresql", tmp_path))
    copy = asyncio.create_task(
        asyncio.to_thread(copying.copy, grown, empty, alive_seconds=30.0, tell=tell)
    )
    await asyncio.to_thread(begun.wait, 10)
    late = Catalog(opened(grown.url.render_as_string(hide_password=False)))
    joining = asyncio.create_task(late.processes.join("late", host="node-8", pid=1, started="1"))
    await asyncio.sleep(0.3)
    assert not joining.done()
    goes_on.set()
    await copy
    await joining
    assert [each["process_id"] for each in all_rows(empty)["processes"]] == ["dead"]


def test_a_copy_that_differs_is_not_kept(
    grown: Engine,
    opened: Callable[[str], Engine],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    empty = opened(empty_url("postgresql", tmp_path))
    write = copying._values_for

    def forgetful(connection: Connection, table: sa.Table, columns: Any) -> Any:
        whole = write(connection, table, columns)
        return whole if table.name != "image_tags" else lambda rows: whole(rows[1:])

    monkeypatch.setattr(copying, "_values_for", forgetful)
    with pytest.raises(TablesDiffer, match="image_tags"):
        copied(grown, empty)
    assert empty.read_now(lambda connection: sa.inspect(connection).get_table_names()) == []


def test_a_digest_sees_a_row_that_changed_and_not_their_order() -> None:
    rows = [["a", 1, None, b"x", True], ["b", 2, 3, b"", False]]
    assert copying.digest_of(rows) == copying.digest_of(reversed(rows))
    assert copying.digest_of(rows) != copying.digest_of([rows[0], ["b", 2, 4, b"", False]])
    assert copying.digest_of([["ab", "c"]]) != copying.digest_of([["a", "bc"]])
    assert copying.digest_of([rows[0], rows[0]]) != copying.digest_of([])


# --- a database that is examined -------------------------------------------------------------------


def told(engine: Engine) -> str:
    """What the examination says."""
    return "\n".join(f"{each.question}: {each.says}" for each in checkup.examine(engine))


def test_a_sound_catalog_has_nothing_wrong(grown: Engine) -> None:
    assert checkup.examine(grown) == checkup.examine(grown, is_quick=True) == []


def test_what_an_operator_added_is_not_wrong(grown: Engine) -> None:
    change(
        grown,
        "CREATE INDEX of_mine ON images (name)",
        "CREATE TABLE notes (id INTEGER PRIMARY KEY)",
    )
    assert checkup.examine(grown) == []


@pytest.mark.parametrize(
    ("by_hand", "says"),
    [
        ("DROP INDEX ix_images_name", "schema: index ix_images_name is missing"),
        ("DROP TABLE staged", "schema: table staged is missing"),
        ("ALTER TABLE tasks DROP COLUMN phase", "phase"),
        (
            "DROP INDEX ix_images_owner; CREATE INDEX ix_images_owner ON images (owner)",
            "schema: index ix_images_owner is",
        ),
    ],
    ids=["index", "table", "column", "other-index"],
)
def test_a_schema_that_was_changed_by_hand_is_told(grown: Engine, by_hand: str, says: str) -> None:
    change(grown, *by_hand.split("; "))
    assert says in told(grown)
    assert len(checkup.examine(grown)) == 1


def test_a_constraint_that_is_gone_is_told_on_postgresql(
    opened: Callable[[str], Engine], tmp_path: Path
) -> None:
    engine = filled(opened(fresh_url("postgresql", tmp_path)))
    change(
        engine,
        "ALTER TABLE image_tags DROP CONSTRAINT fk_image_tags_image_id",
        "ALTER TABLE images DROP CONSTRAINT ck_images_copies, "
        "ADD CONSTRAINT ck_images_copies CHECK (copies >= 0) NOT VALID",
        "INSERT INTO image_tags VALUES ('nobody', 'tag', 0, 'private', now())",
    )
    said = told(engine)
    assert "schema: constraint image_tags.fk_image_tags_image_id is missing" in said
    assert "schema: constraint images.ck_images_copies is" in said
    assert "references: 1 rows of image_tags belong to no row of images" in said
    assert "references" not in "".join(
        each.question for each in checkup.examine(engine, is_quick=True)
    )


def test_rows_that_belong_to_nothing_are_told_on_sqlite(
    opened: Callable[[str], Engine], tmp_path: Path
) -> None:
    url = fresh_url("sqlite", tmp_path)
    filled(opened(url))
    with sqlite3.connect(url.removeprefix("sqlite:///")) as by_hand:
        by_hand.execute("DELETE FROM images WHERE id LIKE '%0001'")
    said = told(opened(url))
    assert "references: 2 rows of image_tags belong to no row of images" in said
    assert "references: 3 rows of image_members belong to no row of images" in said


def test_a_counter_that_was_left_behind_is_told(
    opened: Callable[[str], Engine], tmp_path: Path
) -> None:
    engine = opened(fresh_url("postgresql", tmp_path))
    engine.write_now(lambda connection: every_row.fill(connection, HEAD) and None)
    said = told(engine)
    assert "numbers: the next number of image_locations would be 1, but 41 is in use" in said
    change(engine, "SELECT setval(pg_get_serial_sequence('image_locations', 'number'), 41)")
    assert "image_locations" not in told(engine)


def test_a_damaged_file_is_told(opened: Callable[[str], Engine], tmp_path: Path) -> None:
    url = fresh_url("sqlite", tmp_path)
    load(first := Engine(url), seed.images(500))
    first.close()
    path = Path(url.removeprefix("sqlite:///"))
    with sqlite3.connect(path) as connection:
        (root,) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'ix_images_checksum'"
        ).fetchone()
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * page_bytes)
        file.write(b"\xff" * 40)
    assert "storage: " in told(opened(url))


def test_who_may_not_make_temporary_tables_is_told(
    opened: Callable[[str], Engine], tmp_path: Path
) -> None:
    engine = filled(opened(fresh_url("postgresql", tmp_path)))
    change(
        engine,
        f"REVOKE TEMPORARY ON DATABASE {engine.url.database} FROM PUBLIC",
        "CREATE ROLE looker LOGIN",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO looker",
        "GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO looker",
    )
    as_looker = opened(str(engine.url.update_query_dict({"user": "looker"})))
    try:
        (only,) = checkup.examine(as_looker)
        assert only.question == "schema"
        assert "GRANT TEMPORARY" in only.says
    finally:
        change(engine, "DROP OWNED BY looker", "DROP ROLE looker")


def test_an_older_or_empty_database_is_told(
    opened: Callable[[str], Engine], tmp_path: Path
) -> None:
    engine = opened(empty_url("postgresql", tmp_path))
    assert told(engine) == (
        "revision: there is no catalog in this database; `transom db upgrade` makes one"
    )
    engine.exclusively(lambda connection: migrations.take_steps(connection, "0003"))
    assert told(engine) == (
        f"revision: the schema is at revision 0003, this release at {HEAD}: run `transom db upgrade`"
    )


# --- copies into a file ----------------------------------------------------------------------------


def backed_up(engine: Engine, path: Path, *, replaces: bool = False) -> int:
    """The bytes of a backup."""
    return backup.backup(engine, path, replaces=replaces, tell=lambda _part: None)


def restored(engine: Engine, path: Path, folder: Path) -> str:
    """The URL of a database that was restored from a backup, as the how-to tells."""
    if engine.dialect == "sqlite":
        shutil.copy(path, folder / "restored.db")
        return f"sqlite:///{folder / 'restored.db'}"
    url = postgres.cluster().database()
    subprocess.run(
        [
            postgres.binary("pg_restore"), "--no-owner", "--exit-on-error", "--single-transaction",
            f"--dbname={url}", path,
        ],
        check=True,
    )  # fmt: skip
    return url


def test_a_backup_holds_everything_and_can_be_restored(
    grown: Engine, opened: Callable[[str], Engine], tmp_path: Path
) -> None:
    target = tmp_path / "backups" / "catalog"
    target.parent.mkdir()
    size_bytes = backed_up(grown, target)
    assert size_bytes == target.stat().st_size
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [path.name for path in target.parent.iterdir()] == ["catalog"]
    before = all_rows(grown)
    clear(Catalog(grown))
    again = opened(restored(grown, target, tmp_path))
    assert all_rows(again) == before
    assert checkup.examine(again) == []
    row = dict(every_row.ROWS["0006"]["events"][0])
    del row["number"]
    again.write_now(
        lambda connection: connection.execute(sa.insert(metadata.tables["events"]), [row]) and None
    )


def test_what_the_library_under_the_tasks_keeps_is_not_in_a_backup(
    opened: Callable[[str], Engine], tmp_path: Path
) -> None:
    assert backup.TASKS_SCHEMA == durable.SCHEMA
    engine = filled(opened(fresh_url("postgresql", tmp_path)))
    change(
        engine,
        f"CREATE SCHEMA {durable.SCHEMA}",
        f"CREATE TABLE {durable.SCHEMA}.workflow_status (id INTEGER)",
    )
    backed_up(engine, tmp_path / "catalog")
    listed = subprocess.run(
        [postgres.binary("pg_restore"), "--list", tmp_path / "catalog"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "images" in listed
    assert durable.SCHEMA not in listed


async def test_a_backup_is_of_one_moment_while_others_write(
    grown: Engine, opened: Callable[[str], Engine], tmp_path: Path
) -> None:
    """An image and its tag come in one transaction: a backup has both or neither."""
    catalog = Catalog(grown)
    load(grown, seed.images(2000))
    begun, ends = asyncio.Event(), asyncio.Event()
    made: list[str] = []

    async def create() -> None:
        while not ends.is_set():
            image = an_image(tags=("torn",), owner="busy")
            await catalog.images.create(image)
            made.append(image.id)
            if len(made) == 20:
                begun.set()

    writers = [asyncio.create_task(create()) for _ in range(4)]
    await begun.wait()
    before = len(made)
    await asyncio.to_thread(backed_up, grown, tmp_path / "catalog")
    during = len(made) - before
    ends.set()
    await asyncio.gather(*writers)
    again = opened(restored(grown, tmp_path / "catalog", tmp_path))
    rows = all_rows(again)
    images = {row["id"] for row in rows["images"] if row["owner"] == "busy"}
    tagged = {row["image_id"] for row in rows["image_tags"] if row["tag"] == "torn"}
    assert images == tagged
    assert set(made[:before]) <= images
    assert during > 0
    assert checkup.examine(again) == []


def test_a_backup_replaces_nothing_unless_told_to(grown: Engine, tmp_path: Path) -> None:
    target = tmp_path / "catalog"
    target.write_text("the last one")
    with pytest.raises(ConfigurationError, match="is there already"):
        backed_up(grown, target)
    assert target.read_text() == "the last one"
    assert backed_up(grown, target, replaces=True) > 1000


def test_a_backup_that_fails_leaves_the_last_one(
    grown: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "backups" / "catalog"
    target.parent.mkdir()
    target.write_text("the last one")

    def full(_path: Path) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(backup, "_to_disk", full)
    with pytest.raises(BackupFailed, match="No space left"):
        backed_up(grown, target, replaces=True)
    assert target.read_text() == "the last one"
    assert [path.name for path in target.parent.iterdir()] == ["catalog"]
    with pytest.raises(BackupFailed, match="No such file"):
        backed_up(grown, tmp_path / "nowhere" / "catalog")


def test_a_missing_pg_dump_is_told_with_what_to_install(
    opened: Callable[[str], Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = opened(fresh_url("postgresql", tmp_path))
    monkeypatch.setattr(backup, "_installed", list)
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(ConfigurationError, match="postgresql-client"):
        backed_up(engine, tmp_path / "catalog")
    assert list(tmp_path.iterdir()) == []


def test_pg_dump_is_told_the_password_where_nobody_sees_it() -> None:
    url = Engine("postgresql://me:hunter%402@db.example:5433/catalog?sslmode=require").url
    parameters, environment = backup.libpq_parameters(url)
    assert environment == {"PGPASSWORD": "hunter@2"}
    assert "hunter" not in parameters
    for part in ("host=db.example", "port=5433", "user=me", "dbname=catalog", "sslmode=require"):
        assert part in parameters
