"""A PostgreSQL cluster of our own: on a free port, as an ordinary user, gone with the run."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

import psycopg
from psycopg import sql

from bench.machine import postgres_bin
from bench.processes import Server, StartFailed, free_port

_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "1GB",
    "max_wal_size": "4GB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_connections": "200",
    "maintenance_work_mem": "512MB",
    "jit": "off",
}
"""Enough memory to keep a million images cached; durability stays as PostgreSQL ships it."""


class Postgres:
    """The cluster in `folder`; databases in it are kept as long as the folder is."""

    def __init__(self, folder: Path, logs: Path, port: int | None = None) -> None:
        """`port`: of a cluster that another process started."""
        self._folder = folder
        self._logs = logs
        self._bin = postgres_bin()
        self._user = _ordinary_user()
        self.port = port or free_port()
        self.server: Server | None = None

    def start(self) -> None:
        """Create the cluster unless it exists, and start it. Raises StartFailed."""
        if not (self._folder / "PG_VERSION").exists():
            self._create()
        self._forget_the_dead()
        argv: list[str | Path] = [self._bin / "postgres", "-D", self._folder, "-p", str(self.port)]
        for name, value in _OPTIONS.items():
            argv += ["-c", f"{name}={value}"]
        self.server = Server(
            argv,
            log=self._logs / "postgres.log",
            ready=self._answers,
            user=self._user,
            stop_signal=signal.SIGINT,
        )
        self.server.start()

    def stop(self) -> None:
        """Stop the cluster."""
        if self.server is not None:
            self.server.stop()

    def url(self, database: str, driver: str = "") -> str:
        """The URL of a database; `driver` as SQLAlchemy names it, with its plus sign."""
        return f"postgresql{driver}://bench@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """A connection in autocommit mode."""
        return psycopg.connect(self.url(database), autocommit=True)

    def has(self, database: str) -> bool:
        """True when the database exists."""
        with self.connect() as connection:
            row = connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", (database,)
            ).fetchone()
            return row is not None

    def create(self, database: str, template: str = "template0") -> None:
        """Make `database` anew, empty or as a copy of `template`."""
        self.drop(database)
        with self.connect() as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    sql.Identifier(database), sql.Identifier(template)
                )
            )

    def rename(self, old: str, new: str) -> None:
        """Give a database another name."""
        with self.connect() as connection:
            connection.execute(
                sql.SQL("ALTER DATABASE {} RENAME TO {}").format(
                    sql.Identifier(old), sql.Identifier(new)
                )
            )

    def drop(self, database: str) -> None:
        """Remove a database if it exists."""
        with self.connect() as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database))
            )

    def settle(self, database: str) -> None:
        """Vacuum and gather statistics, so that the planner knows what was loaded."""
        with self.connect(database) as connection:
            connection.execute("VACUUM ANALYZE")
            connection.execute("CHECKPOINT")

    def files(self, database: str) -> Path:
        """The folder of a database's files. Raises LookupError for one that does not exist."""
        with self.connect() as connection:
            row = connection.execute(
                "SELECT oid FROM pg_database WHERE datname = %s", (database,)
            ).fetchone()
        if row is None:
            raise LookupError(f"there is no database {database}")
        return self._folder / "base" / str(row[0])

    def _answers(self) -> bool:
        try:
            with self.connect():
                return True
        except psycopg.OperationalError:
            return False

    def _forget_the_dead(self) -> None:
        """Remove the lock file of a server that was killed. Raises StartFailed when one runs."""
        lock = self._folder / "postmaster.pid"
        try:
            pid = int(lock.read_text().split()[0])
            program = Path(f"/proc/{pid}/comm").read_text().strip()
        except (FileNotFoundError, ProcessLookupError):
            program = ""
        if program in ("postgres", "postmaster"):
            raise StartFailed(f"a PostgreSQL (process {pid}) runs on {self._folder}; end it first")
        lock.unlink(missing_ok=True)

    def _create(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        done = subprocess.run(
            [
                self._bin / "initdb", "-D", self._folder, "-U", "bench", "--auth=trust",
                "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync",
            ],
            user=self._user,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        if done.returncode:
            raise StartFailed(f"initdb failed:\n{done.stderr}")


def _ordinary_user() -> str | None:
    """PostgreSQL refuses to run as root: the user to become then, else None."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise StartFailed(
        "PostgreSQL does not run as root, and there is no user `postgres` or `nobody`"
    )
