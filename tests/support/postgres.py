"""A real PostgreSQL for tests: a cluster of its own in a temporary folder, on a Unix socket only.

PostgreSQL refuses to run as root, so there the cluster belongs to another user.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Any

import psycopg

_SETTINGS = {
    "listen_addresses": "''",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    # Nobody replicates it, and nobody needs its past.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "min_wal_size": "32MB",
    "max_wal_size": "64MB",
    # Nothing happens that no test asked for: what is known of a table is what a test gathered.
    "autovacuum": "off",
}

_PREFIX = "transom-postgres-"
_OWNER = "owner"
"""A file in the folder of each cluster, locked as long as the process lives that it belongs to. A
process id would not do: after a restart of the machine it is somebody else's."""
_END_SECONDS = 10.0
_for_many_tests: ContextVar[bool] = ContextVar("for_many_tests", default=False)
_DROPPED_TOGETHER = 12
"""Databases of tests that are over go so many at a time: each by itself would cost every test."""


class Cluster:
    """A running PostgreSQL server. Tests make databases in it by the dozen."""

    def __init__(self, folder: Path, bin_folder: Path) -> None:
        self.folder = folder
        self._bin = bin_folder
        self._user = _other_user()
        self._numbers = itertools.count()
        self._lent: list[str] = []
        self._over: list[str] = []
        self._owned: IO[str] | None = None

    @classmethod
    def start(cls) -> Cluster:
        """A new, empty cluster, which is removed when the process ends."""
        remove_leftovers()
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        cluster = cls(folder, _binaries())
        atexit.register(cluster.remove)
        # Nobody sees it without its lock.
        draft = folder / "draft"
        cluster._owned = draft.open("w")
        fcntl.flock(cluster._owned, fcntl.LOCK_EX)
        draft.rename(folder / _OWNER)
        if cluster._user is not None:
            shutil.chown(folder, cluster._user)
        cluster._run(
            "initdb", "-D", cluster.data, "-U", "transom", "-A", "trust", "-E", "UTF8",
            "--locale=C.UTF-8", "--no-sync", "--wal-segsize=4",
        )  # fmt: skip
        cluster.up()
        return cluster

    @property
    def data(self) -> str:
        """The data folder."""
        return str(self.folder / "data")

    def up(self) -> None:
        """Start the server and wait until it answers."""
        settings = {**_SETTINGS, "unix_socket_directories": str(self.folder)}
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        self._run(
            "pg_ctl", "-D", self.data, "-w", "-s", "-l", str(self.folder / "log"),
            "-o", options, "start",
        )  # fmt: skip

    def down(self) -> None:
        """Stop the server, and throw out who is connected."""
        self._run("pg_ctl", "-D", self.data, "-w", "-s", "-m", "fast", "stop")

    def remove(self) -> None:
        """End the server, if it runs, and remove its folder. What is in it is not kept."""
        pid = self._server()
        if pid is not None:
            os.kill(pid, signal.SIGQUIT)
            deadline = time.monotonic() + _END_SECONDS
            # The file that names it goes a moment before the process does.
            while Path(f"/proc/{pid}/cwd").is_dir() and time.monotonic() < deadline:
                time.sleep(0.02)
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._owned is not None:
            self._owned.close()

    def restart(self) -> None:
        """Stop the server and start it again."""
        self.down()
        self.up()

    def database(self, *, template: str = "template0") -> str:
        """The URL of a new database: a copy of another one of this cluster, or empty. It goes when
        the test is over (`end_of_test`), or, if it was made `for_many_tests`, when the cluster does."""
        name = f"test{next(self._numbers)}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        if not _for_many_tests.get():
            self._lent.append(name)
        return self.url(name)

    def end_of_test(self) -> None:
        """What the test was lent is not needed any more."""
        self._over += self._lent
        self._lent.clear()
        if len(self._over) >= _DROPPED_TOGETHER:
            self._drop(self._over)
            self._over.clear()

    def drop(self, url: str) -> None:
        """Remove a database that stays otherwise; one of another cluster is left alone."""
        if str(self.folder) in url:
            self._drop([url.removeprefix("postgresql:///").partition("?")[0]])

    def url(self, name: str) -> str:
        """The URL of a database."""
        return f"postgresql:///{name}?host={self.folder}&user=transom"

    def sql(self, *statements: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """The rows of the last statement, as the superuser; each is a transaction of its own."""
        rows: list[tuple[Any, ...]] = []
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
                rows = cursor.fetchall() if cursor.description else []
        return rows

    def size_bytes(self) -> int:
        """What the cluster takes on the disk."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def _server(self) -> int | None:
        """The process of the server. What its file says may be of a server that was killed, and of
        another machine's start, so it counts only if that process works in the data folder."""
        try:
            pid = int((Path(self.data) / "postmaster.pid").read_text().partition("\n")[0])
            works_in = Path(f"/proc/{pid}/cwd").resolve(strict=True)
        except (OSError, ValueError):
            return None
        return pid if works_in == Path(self.data).resolve() else None

    def _drop(self, names: Sequence[str]) -> None:
        self.sql(*(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)" for name in names))

    def _run(self, program: str, *arguments: str) -> None:
        command: Sequence[str] = (str(self._bin / program), *arguments)
        subprocess.run(
            command,
            user=self._user,
            group=None if self._user is None else pwd.getpwnam(self._user).pw_gid,
            extra_groups=None if self._user is None else [],
            cwd=self.folder,
            # A server that inherits a pipe would keep it open.
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=None,
            text=True,
            check=True,
        )


@functools.cache
def cluster() -> Cluster:
    """The cluster that all tests of this process share."""
    return Cluster.start()


@contextlib.contextmanager
def for_many_tests() -> Iterator[None]:
    """What is made inside outlives the test that asked for it first."""
    token = _for_many_tests.set(True)
    try:
        yield
    finally:
        _for_many_tests.reset(token)


def end_of_test() -> None:
    """The databases that the test was lent go; without a cluster there are none."""
    if cluster.cache_info().currsize:
        cluster().end_of_test()


def binary(name: str) -> Path:
    """A program of the installed PostgreSQL."""
    return _binaries() / name


def remove_leftovers() -> None:
    """Remove the clusters of test processes that were killed before they could do it."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            with (folder / _OWNER).open() as owner:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
                Cluster(folder, _binaries()).remove()
        except OSError:
            # It has an owner, or none yet, or another process is just removing it.
            continue


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    if initdb is None:
        raise RuntimeError("PostgreSQL is missing: install the package `postgresql`.")
    return Path(initdb).resolve().parent


def _other_user() -> str | None:
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
