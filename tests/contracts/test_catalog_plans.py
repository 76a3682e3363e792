"""How the databases go about each hot statement: by which indexes, and through how many rows.

The plans lie in `tests/contracts/plans`, one file for each database and version. After a change that is
meant, TRANSOM_TEST_WRITE_PLANS=1 writes them anew, and the difference is looked at. With another
version of a database only the rules are kept that hold for all: large tables are entered through an
index, and what is read does not grow with the catalog.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import shutil
import sqlite3
import tempfile
import time
from pathlib import Path

import pytest

from bench import dataset
from bench.growth.measure import Measured, measure
from bench.growth.operations import READS, WRITES
from bench.sides import transom
from tests.support import postgres
from tests.support.catalogs import DIALECTS, fresh_url
from transom.catalog import pages

COUNT = 20_000
FOLDER = Path(__file__).parent / "plans"
LARGE = ("images", "image_properties", "image_tags", "image_members", "image_locations")
OPERATIONS = (*READS, *WRITES)

ROWS_MAX = COUNT // 8
"""Rows that an operation may read on PostgreSQL."""
STEPS_MAX = COUNT
"""Instructions of SQLite: to look at every image takes several for each."""


@functools.cache
def catalog_url(dialect: str) -> str:
    """A catalog that the planner knows well: every row was looked at, so that its estimates are the
    same each time."""
    folder = Path(tempfile.mkdtemp(prefix="transom-plans-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with postgres.for_many_tests():
        url = fresh_url(dialect, folder)
    transom._load(url, COUNT, dataset.project_id(0))
    if dialect == "postgresql":
        settle(url.removeprefix("postgresql:///").partition("?")[0])
    return url


def settle(name: str) -> None:
    """Let the planner know every row, and that everybody sees it: it takes other ways through pages
    that may hold what not everybody sees. A connection that is just closing can be in the way."""
    cluster = postgres.cluster()
    names = ", ".join(f"'{table}'" for table in LARGE)
    for _ in range(100):
        cluster.sql("SET default_statistics_target = 2000", "VACUUM (ANALYZE)", database=name)
        unsettled = cluster.sql(
            f"SELECT relname FROM pg_class WHERE relname IN ({names}) AND relallvisible < relpages",
            database=name,
        )
        if not unsettled:
            return
        time.sleep(0.1)
    raise AssertionError(f"somebody holds on to an old view of {unsettled}")


@functools.cache
def measured(dialect: str) -> dict[str, Measured]:
    """Every operation, three times."""
    # What was counted once is believed, however long the machine takes.
    before = pages.COUNT_SECONDS
    pages.COUNT_SECONDS = 1e9
    try:
        return asyncio.run(measure(catalog_url(dialect), COUNT, 3))
    finally:
        pages.COUNT_SECONDS = before


@functools.cache
def version(dialect: str) -> str:
    """The version of the database whose plans these are."""
    if dialect == "sqlite":
        return ".".join(sqlite3.sqlite_version.split(".")[:2])
    ((number,),) = postgres.cluster().sql("SHOW server_version_num")
    return str(int(number) // 10000)


def as_text(found: dict[str, Measured]) -> str:
    """The plans of all operations, in the order in which they are run."""
    parts = [
        f"# {name}\n" + "\n--\n".join("\n".join(plan) for plan in found[name].plans)
        for name in OPERATIONS
    ]
    return "\n\n".join(parts) + "\n"


def by_operation(text: str) -> dict[str, str]:
    """The plans of a file, by operation."""
    return {
        part.partition("\n")[0].removeprefix("# "): part.partition("\n")[2].strip()
        for part in text.split("\n\n")
    }


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_hot_statement_is_planned_as_it_was(dialect: str) -> None:
    path = FOLDER / f"{dialect}-{version(dialect)}.txt"
    found = as_text(measured(dialect))
    if os.environ.get("TRANSOM_TEST_WRITE_PLANS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(found)
    if not path.exists():
        # The rules below are all that can be said of a version that nobody has looked at.
        assert list(FOLDER.glob(f"{dialect}-*.txt"))
        return
    assert by_operation(found) == by_operation(path.read_text())


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_large_table_is_read_from_its_beginning(dialect: str, operation: str) -> None:
    done = measured(dialect)[operation]
    assert done.plans
    for plan in done.plans:
        for line in plan:
            words = line.split()
            if dialect == "postgresql":
                assert not (line.strip().startswith("Seq Scan") and words[-1] in LARGE), plan
            else:
                assert not (words[0] == "SCAN" and words[1] in LARGE), plan


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_is_read_does_not_grow_with_the_catalog(operation: str) -> None:
    assert measured("postgresql")[operation].rows <= ROWS_MAX
    assert measured("sqlite")[operation].work <= STEPS_MAX


def test_an_index_that_is_lost_is_noticed(tmp_path: Path) -> None:
    source = Path(catalog_url("sqlite").removeprefix("sqlite:///"))
    path = shutil.copy(source, tmp_path / "catalog.db")
    known = "sweep: are keys known"
    with sqlite3.connect(path) as connection:
        connection.execute("DROP INDEX ix_image_locations_store")
    without = asyncio.run(measure(f"sqlite:///{path}", COUNT, 1, [known]))[known]
    assert any("SCAN image_locations" in line for plan in without.plans for line in plan)
    assert without.work > STEPS_MAX

    name = catalog_url("postgresql").removeprefix("postgresql:///").partition("?")[0]
    url = postgres.cluster().database(template=name)
    copy = url.removeprefix("postgresql:///").partition("?")[0]
    stuck = "sweep: stuck images"
    postgres.cluster().sql("DROP INDEX ix_images_status", database=copy)
    without = asyncio.run(measure(url, COUNT, 1, [stuck]))[stuck]
    assert without.plans != measured("postgresql")[stuck].plans
