"""A real PostgreSQL for tests: a cluster of its own in a temporary folder, on a Unix socket only.

PostgreSQL refuses to run as root, so there the cluster belongs to another user.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

_SETTINGS = {
    "listen_addresses": "''",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
}


class Cluster:
    """A running PostgreSQL server. Tests make databases in it by the dozen."""

    def __init__(self, folder: Path, bin_folder: Path) -> None:
        self.folder = folder
        self._bin = bin_folder
        self._user = _other_user()
        self._numbers = itertools.count()

    @classmethod
    def start(cls) -> Cluster:
        """A new, empty cluster, which is removed when the process ends."""
        folder = Path(tempfile.mkdtemp(prefix="transom-postgres-"))
        cluster = cls(folder, _binaries())
        atexit.register(cluster.remove)
        if cluster._user is not None:
            shutil.chown(folder, cluster._user)
        cluster._run(
            "initdb", "-D", cluster.data, "-U", "transom", "-A", "trust", "-E", "UTF8",
            "--locale=C.UTF-8", "--no-sync",
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
        """Stop the server and remove its folder."""
        if (self.folder / "data" / "postmaster.pid").exists():
            self.down()
        shutil.rmtree(self.folder, ignore_errors=True)

    def database(self, *, template: str = "template0") -> str:
        """The URL of a new database: a copy of another one of this cluster, or empty."""
        name = f"test{next(self._numbers)}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def url(self, name: str) -> str:
        """The URL of a database."""
        return f"postgresql:///{name}?host={self.folder}&user=transom"

    def sql(self, statement: str, *, database: str = "postgres") -> str:
        """What psql prints for a statement."""
        return self._run(
            "psql", "-h", str(self.folder), "-U", "transom", "-d", database, "-X", "-A", "-t",
            "-v", "ON_ERROR_STOP=1", "-c", statement,
        ).strip()  # fmt: skip

    def _run(self, program: str, *arguments: str) -> str:
        command: Sequence[str] = (str(self._bin / program), *arguments)
        done = subprocess.run(
            command,
            user=self._user,
            group=None if self._user is None else pwd.getpwnam(self._user).pw_gid,
            extra_groups=None if self._user is None else [],
            cwd=self.folder,
            # A server that inherits a pipe would keep it open.
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if program == "psql" else subprocess.DEVNULL,
            stderr=None,
            text=True,
            check=True,
        )
        return done.stdout or ""


@functools.cache
def cluster() -> Cluster:
    """The cluster that all tests of this process share."""
    return Cluster.start()


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
