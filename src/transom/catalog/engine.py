"""The border to the database: reads, writes, transactions, and what a failure is called.

Two engines stand behind the same four verbs. PostgreSQL: connections that read, connections that
write, and the server's own concurrency. SQLite: many readers and one writer, which takes the
writes that wait as one transaction, each in a savepoint, so that they share one fsync.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy import Connection, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from transom.catalog.lanes import Job, Lane
from transom.errors import CatalogUnavailable, ConfigurationError

T = TypeVar("T")
Work = Callable[[Connection], T]

Follower = Callable[[Connection, Any], None]
"""Goes on in a transaction with what its work gave."""

_follower: ContextVar[Follower | None] = ContextVar("follower", default=None)

logger = logging.getLogger("transom.catalog")

BUSY_SECONDS = 10.0
"""How long a write waits for another process's write on SQLite."""
CONNECT_SECONDS = 5
"""How long opening a connection to PostgreSQL may take."""
ATTEMPTS = 8
"""How often a transaction is tried that PostgreSQL refuses for the sake of another one."""
EAGER_READERS = 2
"""How many threads read at once as long as nobody waits for it."""
GROUP_MAX = 64
"""How many waiting writes share one transaction on SQLite."""

_SQLITE_AWAY = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
    }
)
_PG_AWAY = ("08", "53", "57", "58", "25006")
"""SQLSTATEs of a PostgreSQL that cannot serve now: connection, resources, operator, system, and a
standby that is asked to write."""
_PG_AGAIN = frozenset({"40001", "40P01"})
"""SQLSTATEs of a transaction that lost to another one: serialization failure and deadlock."""


class Engine:
    """The database behind the catalog. `work` functions get a SQLAlchemy connection and must be
    safe to run twice: a transaction that loses to another one is repeated."""

    def __init__(
        self, url: str, *, pool_size: int = 8, statement_timeout_seconds: float = 30.0
    ) -> None:
        """Prepare, without connecting. Raises ConfigurationError for a URL of another kind."""
        self.url = parse_url(url)
        self.dialect = self.url.get_backend_name()
        """`sqlite` or `postgresql`."""
        if self.dialect == "sqlite":
            self._reading = _sqlite(self.url, read_only=True)
            self._writing = _sqlite(self.url, read_only=False)
            self._writes = Lane(
                "catalog-write",
                lambda: _GroupWriter(self._writing),
                threads=1,
                batch_max=GROUP_MAX,
            )
        else:
            self._reading = _postgresql(
                self.url, statement_timeout_seconds, isolation_level="AUTOCOMMIT", read_only=True
            )
            self._writing = _postgresql(
                self.url, statement_timeout_seconds, isolation_level="READ COMMITTED"
            )
            self._writes = Lane(
                "catalog-write", lambda: _Writer(self._writing), threads=max(2, pool_size // 2)
            )
        self._reads = Lane(
            "catalog-read",
            lambda: _Reader(self._reading),
            threads=pool_size,
            eager=EAGER_READERS,
        )

    async def read(self, work: Work[T]) -> T:
        """What the work gives; it may only read. Raises CatalogUnavailable."""
        return cast("T", await self._reads.run(work))

    async def write(self, work: Work[T]) -> T:
        """What the work gives, after its transaction is durable; an error undoes all of it.

        A cancelled caller continues when the transaction was withdrawn or has ended, so whatever
        it does to clean up finds a settled state. Raises CatalogUnavailable.
        """
        follower = _follower.get()
        if follower is not None:
            work = _followed(work, follower)
        return cast("T", await self._writes.run_to_the_end(work))

    def read_now(self, work: Work[T]) -> T:
        """`read`, blocking the calling thread."""
        return cast("T", self._reads.run_now(work))

    def write_now(self, work: Work[T]) -> T:
        """`write`, blocking the calling thread."""
        return cast("T", self._writes.run_now(work))

    def exclusively(self, work: Work[T]) -> T:
        """What the work gives, in one transaction that no other process's call overlaps. For
        migrations: on a connection of its own, without time limit. Raises CatalogUnavailable."""
        engine = self._writing
        if self.dialect == "postgresql":
            engine = _postgresql(self.url, 0.0, isolation_level="READ COMMITTED")
        try:
            with engine.connect() as connection:
                if self.dialect == "sqlite":
                    driver: Any = connection.connection.driver_connection
                    # Both work outside of transactions only. Rebuilding a table, SQLite's way to
                    # alter one, would look like deleting its rows to the foreign keys.
                    driver.execute("PRAGMA busy_timeout = 600000")
                    driver.execute("PRAGMA foreign_keys = OFF")
                with connection.begin():
                    lock(connection, "transom migrations")
                    return work(connection)
        except Exception as error:
            other = translated(error)
            if other is error:
                raise
            raise other from error

    def close(self) -> None:
        """Finish what waits, then close every connection."""
        self._writes.close()
        self._reads.close()
        self._reading.dispose()
        self._writing.dispose()


@contextlib.contextmanager
def followed_by(follower: Follower) -> Iterator[None]:
    """Have every write of this task that begins inside followed, in its own transaction."""
    token = _follower.set(follower)
    try:
        yield
    finally:
        _follower.reset(token)


def _followed(work: Work[T], follower: Follower) -> Work[T]:
    def both(connection: Connection) -> T:
        result = work(connection)
        follower(connection, result)
        return result

    return both


def parse_url(url: str) -> URL:
    """The URL with its driver. Raises ConfigurationError, without the URL's secrets."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            "database.url is not a URL; use sqlite:///<path> or "
            "postgresql://user:password@host/name."
        ) from None
    if parsed.drivername in ("sqlite", "sqlite+pysqlite"):
        if parsed.database in (None, "", ":memory:"):
            raise ConfigurationError(
                "database.url names no file; use sqlite:///<path>, for example "
                "sqlite:////var/lib/transom/transom.db."
            )
        return parsed.set(drivername="sqlite+pysqlite")
    if parsed.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    raise ConfigurationError(
        f"database.url has the scheme '{parsed.drivername}'; use sqlite:///<path> or "
        "postgresql://user:password@host/name."
    )


def lock(connection: Connection, name: str) -> None:
    """Until the end of the transaction, let no other transaction pass the same call. SQLite needs
    nothing for that: it has one writer."""
    if connection.dialect.name == "postgresql":
        connection.execute(
            sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name}
        )


def is_duplicate(error: BaseException) -> bool:
    """True for the database's answer that a row with this key is there already."""
    original = _original(error)
    if isinstance(original, sqlite3.Error):
        return getattr(original, "sqlite_errorcode", None) in (
            sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
            sqlite3.SQLITE_CONSTRAINT_UNIQUE,
        )
    return _sqlstate(error) == "23505"


def _sqlite(url: URL, *, read_only: bool) -> sa.Engine:
    path = Path(cast("str", url.database))

    def connect() -> sqlite3.Connection:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Password hashes may live in it: for the owner's eyes only. SQLite gives its other
            # files the same mode.
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        connection = sqlite3.connect(
            path,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=512,
        )
        for pragma in (
            "journal_mode = WAL",
            # An answer that was given survives a power failure.
            "synchronous = FULL",
            "foreign_keys = ON",
            "temp_store = MEMORY",
            "mmap_size = 2147418112",
            "cache_size = -16384",
            f"query_only = {'ON' if read_only else 'OFF'}",
        ):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    engine = sa.create_engine(
        url, creator=connect, poolclass=NullPool, hide_parameters=True, query_cache_size=2000
    )
    if not read_only:

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            # The write lock at once: a transaction that reads first and writes later could not
            # get it any more when another process wrote in between.
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _postgresql(
    url: URL, statement_timeout_seconds: float, *, isolation_level: Any, read_only: bool = False
) -> sa.Engine:
    arguments: dict[str, Any] = {
        "connect_timeout": CONNECT_SECONDS,
        "client_encoding": "utf8",
        "application_name": "transom",
        # A server that vanished without a word is noticed in seconds, not hours.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30000,
    }
    engine = sa.create_engine(
        url,
        poolclass=NullPool,
        hide_parameters=True,
        query_cache_size=2000,
        isolation_level=isolation_level,
        connect_args={name: value for name, value in arguments.items() if name not in url.query},
    )

    @event.listens_for(engine, "connect")
    def settle(connection: Any, _record: Any) -> None:
        mode = connection.autocommit
        connection.autocommit = True
        connection.execute(
            "SELECT set_config('TimeZone', 'UTC', false), "
            "set_config('statement_timeout', %s, false), "
            "set_config('idle_in_transaction_session_timeout', '60000', false), "
            # Compiling a plan takes longer than any of our statements.
            "set_config('jit', 'off', false)",
            (str(round(statement_timeout_seconds * 1000)),),
        )
        if read_only:
            # Left to itself, PostgreSQL plans the prepared statements of lists anew each time,
            # which takes twice as long as running them; and for a value that it does not know it
            # may take a table from its beginning, hoping to meet some soon (decision 0045).
            connection.execute(
                "SELECT set_config('plan_cache_mode', 'force_generic_plan', false), "
                "set_config('enable_seqscan', 'off', false)"
            )
        connection.autocommit = mode

    return engine


class _Worker:
    """A thread's connection: opened at the first job, opened anew when it breaks."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection.close()
            self._connection = None

    def _open(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    def _broken(self, error: BaseException) -> bool:
        """True when the connection is of no use any more; it is dropped then."""
        if self._connection is None:
            return False
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            broken = True
        else:
            driver = self._connection.connection.driver_connection
            broken = bool(getattr(driver, "closed", False))
        if broken:
            with contextlib.suppress(Exception):
                self._connection.invalidate()
            self.close()
        return broken


class _Reader(_Worker):
    """Runs one read at a time, without a transaction."""

    def run(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            try:
                result = self._read(job.work)
            except BaseException as error:  # noqa: BLE001 - handed to the caller as it is
                job.failed(translated(error))
            else:
                job.done(result)

    def _read(self, work: Work[Any]) -> Any:
        try:
            return self._once(work)
        except Exception as error:
            # A connection that broke while it lay idle says nothing about the database.
            if not self._broken(error):
                raise
        return self._once(work)

    def _once(self, work: Work[Any]) -> Any:
        connection = self._open()
        try:
            return work(connection)
        finally:
            if connection.in_transaction() and not connection.invalidated:
                connection.rollback()


class _Writer(_Worker):
    """Runs one transaction at a time; repeats it when it lost to another one."""

    def run(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            try:
                result = self._write(job.work)
            except BaseException as error:  # noqa: BLE001 - handed to the caller as it is
                job.failed(translated(error))
            else:
                job.done(result)

    def _write(self, work: Work[Any]) -> Any:
        fresh = self._connection is None
        for attempt in range(1, ATTEMPTS + 1):
            committing = False
            try:
                connection = self._open()
                with connection.begin() as transaction:
                    result = work(connection)
                    committing = True
                    transaction.commit()
            except Exception as error:
                broken = self._broken(error)
                if attempt == ATTEMPTS:
                    raise
                if broken and not fresh and not committing:
                    # It lay idle when the server went; nothing was committed.
                    fresh = True
                    continue
                if _sqlstate(error) not in _PG_AGAIN:
                    raise
                time.sleep(random.uniform(0.0, 0.002 * 2**attempt))  # noqa: S311 - no secret
            else:
                return result
        raise AssertionError("unreachable")


class _GroupWriter(_Worker):
    """Runs the writes that wait as one transaction: one fsync for all of them."""

    def run(self, jobs: Sequence[Job]) -> None:
        try:
            outcomes = self._together(jobs)
        except BaseException as error:  # noqa: BLE001 - handed to the callers as it is
            self._broken(error)
            if len(jobs) == 1:
                jobs[0].failed(translated(error))
                return
            # The whole transaction is gone, for the sake of one of them or of none: each by
            # itself then, so that only those fail that have to.
            for job in jobs:
                self.run([job])
            return
        for job, result, failure in outcomes:
            if failure is None:
                job.done(result)
            else:
                job.failed(translated(failure))

    def _together(self, jobs: Sequence[Job]) -> list[tuple[Job, Any, BaseException | None]]:
        connection = self._open()
        if len(jobs) == 1:
            with connection.begin():
                result = jobs[0].work(connection)
            return [(jobs[0], result, None)]
        outcomes: list[tuple[Job, Any, BaseException | None]] = []
        driver = cast("sqlite3.Connection", connection.connection.driver_connection)
        with connection.begin():
            for job in jobs:
                driver.execute("SAVEPOINT job")
                try:
                    result = job.work(connection)
                except Exception as error:
                    if not driver.in_transaction:
                        # SQLite has undone everything (a full disk, an I/O error).
                        raise
                    driver.execute("ROLLBACK TO job")
                    outcomes.append((job, None, error))
                else:
                    outcomes.append((job, result, None))
                driver.execute("RELEASE job")
        return outcomes


def _original(error: BaseException) -> BaseException:
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig
    return error


def _sqlstate(error: BaseException) -> str:
    return getattr(_original(error), "sqlstate", None) or ""


def translated(error: BaseException) -> BaseException:
    """CatalogUnavailable for a database that cannot serve now, any other error as it is."""
    original = _original(error)
    if isinstance(original, sqlite3.Error):
        code = getattr(original, "sqlite_errorcode", None)
        away = code is not None and (code & 0xFF) in _SQLITE_AWAY
    elif type(original).__module__.startswith("psycopg"):
        state = _sqlstate(error)
        # libpq gives errors of the connection itself no SQLSTATE.
        away = state.startswith(_PG_AWAY) or (
            not state and type(original).__name__ == "OperationalError"
        )
        away = away or state in _PG_AGAIN or state == "55P03"
    else:
        away = False
    if not away:
        return error
    logger.warning("the database does not serve: %s", type(original).__name__, exc_info=error)
    unavailable = CatalogUnavailable()
    unavailable.__cause__ = error
    return unavailable
