"""A copy of the catalog in a file, made while the service serves, as of one moment.

The file is complete and on the disk before it has its name. It does not hold what the library under
the tasks keeps: tasks begin anew from the catalog (decisions 80 and 102).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.engine import URL

from transom.catalog.engine import Engine
from transom.errors import BackupFailed, ConfigurationError

TASKS_SCHEMA = "transom_tasks"
"""What the library under the tasks has on PostgreSQL."""

_PAGES = 4096
"""Pages of SQLite that are copied between two words about the progress."""

Tell = Callable[[float], None]
"""Hears which part of the whole is done, 0 to 1; PostgreSQL says nothing of it."""


def backup(engine: Engine, target: Path, *, replaces: bool, tell: Tell) -> int:
    """Write a copy of the catalog to the file; gives its bytes. `replaces` allows the file to be
    there already, which stays whole until the new one takes its name. Raises ConfigurationError,
    BackupFailed, CatalogUnavailable."""
    if target.exists() and not replaces:
        raise ConfigurationError(
            f"{target} is there already; name another file, or add --replace to have it replaced."
        )
    half = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        # Password hashes and signing keys are in it: for the owner's eyes only.
        os.close(os.open(half, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        if engine.dialect == "sqlite":
            engine.read_now(lambda connection: _of_sqlite(connection, half, tell))
        else:
            _of_postgresql(engine, half)
        _to_disk(half)
        if replaces:
            half.replace(target)
        else:
            _name(half, target)
        _to_disk(target.parent)
    except OSError as error:
        raise BackupFailed(f"{target}: {error.strerror}.") from error
    finally:
        half.unlink(missing_ok=True)
    return target.stat().st_size


def _name(half: Path, target: Path) -> None:
    """Give the file its name, if nobody else took it meanwhile."""
    try:
        os.link(half, target)
    except FileExistsError:
        raise ConfigurationError(
            f"{target} has come to be meanwhile and was left alone; name another file."
        ) from None


def _to_disk(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


# --- SQLite ----------------------------------------------------------------------------------------


def _of_sqlite(connection: Connection, half: Path, tell: Tell) -> None:
    source: Any = connection.connection.driver_connection
    with contextlib.closing(sqlite3.connect(half, isolation_level=None)) as copy:
        # A transaction that reads sees one moment, so the copy never has to begin anew for what
        # others write meanwhile, and they do not have to wait.
        source.execute("BEGIN")
        try:
            source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            source.backup(
                copy, pages=_PAGES, progress=lambda _, left, all_: tell(1 - left / max(all_, 1))
            )
        finally:
            source.execute("ROLLBACK")
        # One file that needs no others beside it.
        copy.execute("PRAGMA journal_mode = DELETE")
        (found,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise BackupFailed(f"the catalog is damaged ({found}); see `transom db check`.")


# --- PostgreSQL ------------------------------------------------------------------------------------


def _of_postgresql(engine: Engine, half: Path) -> None:
    major = engine.read_now(
        lambda connection: (
            int(connection.exec_driver_sql("SHOW server_version_num").scalar_one()) // 10000
        )
    )
    program = _pg_dump(major)
    parameters, environment = libpq_parameters(engine.url)
    done = subprocess.run(  # noqa: S603 - the program is PostgreSQL's own
        [
            str(program),
            "--format=custom",
            "--no-owner",
            "--no-privileges",
            f"--exclude-schema={TASKS_SCHEMA}",
            f"--file={half}",
            f"--dbname={parameters}",
        ],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BackupFailed(f"pg_dump says: {done.stderr.strip()[-1000:]}")


def _pg_dump(major: int) -> Path:
    """The pg_dump of this major version of the server, or a newer one. Raises ConfigurationError."""
    fitting = [path for version, path in _installed() if version >= major]
    found = fitting[0] if fitting else shutil.which("pg_dump")
    if found is None:
        raise ConfigurationError(
            "A backup of PostgreSQL is made by pg_dump, which is not installed here; install the "
            f"package postgresql-client-{major}, or run pg_dump where PostgreSQL runs (see the how-to "
            "about backups)."
        )
    return Path(found)


def _installed() -> list[tuple[int, Path]]:
    """Every pg_dump that lies where Debian puts them, with its major version, oldest first."""
    found = Path("/usr/lib/postgresql").glob("*/bin/pg_dump")
    versions = ((path.parts[-3], path) for path in found)
    return sorted((int(version), path) for version, path in versions if version.isdigit())


def libpq_parameters(url: URL) -> tuple[str, dict[str, str]]:
    """How PostgreSQL's own programs are told of a database: a connection string that anybody may
    see among the processes, and an environment that holds the password."""
    from psycopg.conninfo import make_conninfo
    from sqlalchemy.dialects.postgresql import psycopg

    _, arguments = psycopg.dialect().create_connect_args(url)  # type: ignore[no-untyped-call]
    environment = {}
    password = arguments.pop("password", None)
    if password is not None:
        environment["PGPASSWORD"] = str(password)
    return make_conninfo("", **arguments), environment
