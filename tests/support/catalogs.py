"""Catalogs for tests: quickly made, on SQLite or on a real PostgreSQL."""

from __future__ import annotations

import atexit
import datetime as dt
import functools
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete

from tests.support import postgres
from transom.catalog import Catalog
from transom.catalog.engine import Engine
from transom.catalog.schema import metadata
from transom.model.image import Image, Location, Visibility

DIALECTS = ("sqlite", "postgresql")

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


def fresh_url(dialect: str, folder: Path) -> str:
    """The URL of a new catalog without images; `folder` is for SQLite's file. PostgreSQL's goes
    with the test, unless it is made `for_many_tests`."""
    template = _template(dialect)
    if dialect == "postgresql":
        return postgres.cluster().database(template=template)
    path = folder / f"{uuid.uuid4().hex}.db"
    shutil.copy(template, path)
    return f"sqlite:///{path}"


def empty_url(dialect: str, folder: Path) -> str:
    """The URL of a database without any tables; SQLite's file does not exist yet."""
    if dialect == "postgresql":
        return postgres.cluster().database()
    return f"sqlite:///{folder / uuid.uuid4().hex}.db"


@functools.cache
def _template(dialect: str) -> str:
    folder = Path(tempfile.mkdtemp(prefix="transom-catalog-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with postgres.for_many_tests():
        url = empty_url(dialect, folder)
    catalog = Catalog(Engine(url))
    catalog.upgrade()
    catalog.close()
    if dialect == "postgresql":
        return str(catalog.engine.url.database)
    return str(next(folder.glob("*.db")))


def clear(catalog: Catalog) -> None:
    """Remove everything from the tables."""

    def work(connection: Connection) -> None:
        for table in reversed(metadata.sorted_tables):
            connection.execute(delete(table))

    catalog.engine.write_now(work)


def an_image(**attributes: Any) -> Image:
    """An image of project `mine`, private unless told otherwise."""
    defaults: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "created_at": NOON,
        "updated_at": NOON,
        "owner": "mine",
        "visibility": Visibility.PRIVATE,
        "disk_format": "raw",
        "container_format": "bare",
    }
    return Image(**defaults | attributes)


def a_location(key: str = "key", store: str = "main") -> Location:
    """A place in a store."""
    return Location(store=store, key=key, url=f"file:///images/{key}")
