"""The border to the database: reads, writes, transactions, and what a failure is called.

Two engines stand behind the same four verbs. PostgreSQL: connections that read, connections that
write, and the server's own concurrency. SQLite: many readers and one writer, which takes the
writes that wait as one transaction, each in a savepoint, so that they share one fsync.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from transom import tracing
from transom.catalog.lanes import Job, Lane
from transom.catalog.pipeline import Pipeline, RowsToCome
from transom.catalog.statements import Prepared
from transom.errors import CatalogBusy, CatalogUnavailable, ConfigurationError
from transom.metrics.table import (
    CATALOG_ERRORS,
    CATALOG_OPENED,
    CATALOG_REOPENED,
    CATALOG_RETRIES,
)

T = TypeVar("T")
Work = Callable[[Connection], T]

Follower = Callable[[Connection, Any], None]
"""Goes on in a transaction with what its work gave."""

_follower: ContextVar[Follower | None] = ContextVar("follower", default=None)

logger = logging.getLogger("transom.catalog")

RECONNECT_SECONDS = 0.05
"""How often a connection is tried anew while PostgreSQL is away."""
ATTEMPTS = 8
"""How often a transaction is tried that PostgreSQL refuses for the sake of another one."""
EAGER_READERS = 2
"""How many threads read at once as long as nobody waits for it."""
GROUP_MAX = 64
"""How many waiting writes share one transaction on SQLite."""

_SQLITE_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_SQLITE_AWAY = _SQLITE_BUSY | frozenset(
    {
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
_PG_BUSY = _PG_AGAIN | {"55P03", "57014"}
"""SQLSTATEs of what was given up because it took too long, or lost too often: of locks and
statements too."""
_PG_DEMOTED = "25006"
"""SQLSTATE of a server that only reads: another one may be the first by now."""


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long what may take, in seconds; 0 = no limit, but for `outage_seconds`."""

    statement_seconds: float = 30.0
    """One statement on PostgreSQL."""
    lock_seconds: float = 10.0
    """Waiting for what another transaction holds: a row on PostgreSQL, the writer on SQLite."""
    idle_transaction_seconds: float = 60.0
    """A transaction on PostgreSQL whose process does not go on."""
    connect_seconds: float = 5.0
    """Opening a connection to PostgreSQL."""
    pool_wait_seconds: float = 30.0
    """Waiting for a connection that others use."""
    outage_seconds: float = 3.0
    """Waiting for a PostgreSQL that is not there; 0 = none."""


PATIENCE = Patience()


_SQLITE_KINDS = {
    sqlite3.SQLITE_BUSY: "busy",
    sqlite3.SQLITE_LOCKED: "busy",
    sqlite3.SQLITE_PROTOCOL: "busy",
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_READONLY: "read_only",
    sqlite3.SQLITE_CORRUPT: "corrupt",
    sqlite3.SQLITE_NOTADB: "corrupt",
    sqlite3.SQLITE_NOMEM: "resources",
    sqlite3.SQLITE_INTERRUPT: "timeout",
}
_PG_KINDS = (
    ("53100", "full"),
    ("53", "resources"),
    ("25006", "read_only"),
    ("40", "conflict"),
    ("55P03", "busy"),
    ("57014", "timeout"),
    ("58", "io"),
)
"""Beginnings of SQLSTATEs, and the metrics' words for them; the first that fits counts."""


class Engine:
    """The database behind the catalog. `work` functions get a SQLAlchemy connection and must be
    safe to run twice: a transaction that loses to another one is repeated."""

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 8,
        write_pool_size: int = 4,
        patience: Patience = PATIENCE,
        is_measured: bool = False,
    ) -> None:
        """Prepare, without connecting. SQLite has one connection for writing, whatever
        `write_pool_size` says. Raises ConfigurationError for a URL of another kind."""
        words = ("read", "write") if is_measured else ("", "")
        self._ahead: Pipeline | None = None
        self.url = parse_url(url)
        self.dialect = self.url.get_backend_name()
        """`sqlite` or `postgresql`."""
        self._patience = patience
        outage = _Outage(patience.outage_seconds if self.dialect == "postgresql" else 0.0)
        if self.dialect == "sqlite":
            self._reading = _sqlite(self.url, patience, read_only=True)
            self._writing = _sqlite(self.url, patience, read_only=False)
            self._writes = Lane(
                "catalog-write",
                lambda: _GroupWriter(self._writing, outage),
                threads=1,
                batch_max=GROUP_MAX,
                patience_seconds=patience.pool_wait_seconds,
                measured_as=words[1],
            )
        else:
            self._reading = _postgresql(
                self.url, patience, isolation_level="AUTOCOMMIT", read_only=True
            )
            self._writing = _postgresql(self.url, patience, isolation_level="READ COMMITTED")
            self._writes = Lane(
                "catalog-write",
                lambda: _Writer(self._writing, outage),
                threads=write_pool_size,
                patience_seconds=patience.pool_wait_seconds,
                measured_as=words[1],
            )
            self._ahead = Pipeline(
                self._reading.connect, patience.statement_seconds, measured_as=words[0]
            )
        if tracing.is_on():
            _trace_statements(self._reading)
            _trace_statements(self._writing)
        self._reads = Lane(
            "catalog-read",
            lambda: _Reader(self._reading, outage),
            threads=pool_size,
            eager=EAGER_READERS,
            patience_seconds=patience.pool_wait_seconds,
            measured_as=words[0],
        )

    async def ahead(self, statement: Prepared, values: Mapping[str, Any]) -> list[Any] | None:
        """The rows of a quick statement, without a hop to a thread; None where that is not to be
        had now, whatever the reason: then `read` gives them, or the error."""
        answer = self._asked_ahead(statement, values)
        return None if answer is None else await answer

    def _asked_ahead(self, statement: Prepared, values: Mapping[str, Any]) -> RowsToCome | None:
        if self._ahead is None or not statement.is_prepared or tracing.is_on():
            return None
        return self._ahead.ask(statement, values)

    async def rows(self, statement: Prepared, values: Mapping[str, Any]) -> list[Any]:
        """The rows of a quick statement. Raises CatalogUnavailable."""
        answer = self._asked_ahead(statement, values)
        if answer is not None:
            rows = await answer
            if rows is not None:
                return rows
        return await self.read(lambda connection: statement.rows(connection, values))

    async def read(self, work: Work[T]) -> T:
        """What the work gives; it may only read. Raises CatalogUnavailable."""
        if tracing.is_on():
            work = tracing.carried(work, "catalog read")
        return cast("T", await self._reads.run(work))

    async def write(self, work: Work[T]) -> T:
        """What the work gives, after its transaction is durable; an error undoes all of it.

        A cancelled caller continues when the transaction was withdrawn or has ended, so whatever
        it does to clean up finds a settled state. Raises CatalogUnavailable.
        """
        follower = _follower.get()
        if follower is not None:
            work = _followed(work, follower)
        if tracing.is_on():
            work = tracing.carried(work, "catalog write")
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
            engine = _postgresql(self.url, self._endless(), isolation_level="READ COMMITTED")
        with _meanings(), engine.connect() as connection:
            if self.dialect == "sqlite":
                driver: Any = connection.connection.driver_connection
                # Both work outside of transactions only. Rebuilding a table, SQLite's way to
                # alter one, would look like deleting its rows to the foreign keys.
                driver.execute("PRAGMA busy_timeout = 600000")
                driver.execute("PRAGMA foreign_keys = OFF")
            with connection.begin():
                lock(connection, "transom migrations")
                return work(connection)

    def at_one_moment(self, work: Work[T]) -> T:
        """What the work gives, which reads what the database held at one moment, however long it
        takes. On SQLite nobody writes meanwhile. Raises CatalogUnavailable."""
        engine = self._writing
        if self.dialect == "postgresql":
            engine = _postgresql(self.url, self._endless(), isolation_level="REPEATABLE READ")
        with _meanings(), engine.connect() as connection, connection.begin():
            return work(connection)

    def gather_statistics(self, tables: Sequence[str]) -> None:
        """Have PostgreSQL look at these tables at once: at its own time it would not before the
        first requests. SQLite plans without."""
        if self.dialect == "postgresql":
            engine = _postgresql(self.url, self._endless(), isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                connection.exec_driver_sql(f"VACUUM (ANALYZE) {', '.join(tables)}")

    def _endless(self) -> Patience:
        return msgspec.structs.replace(
            self._patience, statement_seconds=0.0, lock_seconds=0.0, idle_transaction_seconds=0.0
        )

    def close(self) -> None:
        """Finish what waits, then close every connection."""
        if self._ahead is not None:
            self._ahead.close()
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


def _sqlite(url: URL, patience: Patience, *, read_only: bool) -> sa.Engine:
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
            # Python has no word for "as long as it takes".
            timeout=patience.lock_seconds or 86400.0,
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
    url: URL, patience: Patience, *, isolation_level: Any, read_only: bool = False
) -> sa.Engine:
    arguments: dict[str, Any] = {
        # Whole seconds; 0 means for ever.
        "connect_timeout": math.ceil(patience.connect_seconds),
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
            "set_config('lock_timeout', %s, false), "
            "set_config('idle_in_transaction_session_timeout', %s, false), "
            # Compiling a plan takes longer than any of our statements.
            "set_config('jit', 'off', false)",
            [
                str(math.ceil(seconds * 1000))
                for seconds in (
                    patience.statement_seconds,
                    patience.lock_seconds,
                    patience.idle_transaction_seconds,
                )
            ],
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


def _trace_statements(engine: sa.Engine) -> None:
    """Show each statement in the trace, with its text and never its values."""

    @event.listens_for(engine, "before_cursor_execute")
    def begun(
        _connection: Connection,
        _cursor: Any,
        statement: str,
        _values: Any,
        context: Any,
        _many: bool,
    ) -> None:
        opened = tracing.span(statement.partition(" ")[0], **{"db.query.text": statement[:2000]})
        opened.__enter__()
        context.transom_span = opened

    @event.listens_for(engine, "after_cursor_execute")
    def ended(
        _connection: Connection,
        _cursor: Any,
        _statement: str,
        _values: Any,
        context: Any,
        _many: bool,
    ) -> None:
        context.transom_span.__exit__(None, None, None)

    @event.listens_for(engine, "handle_error")
    def failed(context: Any) -> None:
        opened = getattr(context.execution_context, "transom_span", None)
        if opened is not None:
            error = context.original_exception
            opened.__exit__(type(error), error, error.__traceback__)


class _Outage:
    """For how long the server has been away, as all threads of an engine see it.

    A server that restarts is waited for, so that nobody is told. One that stays away is not: who
    asks then is told at once, instead of holding up all who ask after him.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None

    def is_over(self) -> bool:
        """To be asked when the server was not reached: true once that is no news."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
        return now - self._since >= self._seconds

    def ended(self) -> None:
        """The server has answered."""
        if self._since is not None:
            self._since = None


class _Worker:
    """A thread's connection: opened at the first job, opened anew when it breaks."""

    def __init__(self, engine: sa.Engine, outage: _Outage) -> None:
        self._engine = engine
        self._outage = outage
        self._connection: Connection | None = None
        self._has_broken = False

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection.close()
            self._connection = None

    def _open(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect()
            CATALOG_OPENED.at().add()
            if self._has_broken:
                self._has_broken = False
                CATALOG_REOPENED.at().add()
        return self._connection

    def _is_lost(self, error: BaseException) -> bool:
        """True when the server was not reached, or the connection is of no use any more; it is
        dropped then."""
        if self._connection is None:
            return _is_away(error)
        broken = (
            (isinstance(error, DBAPIError) and error.connection_invalidated)
            or _sqlstate(error) == _PG_DEMOTED
            or getattr(self._connection.connection.driver_connection, "closed", False)
        )
        if broken:
            self._has_broken = True
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
        is_used = self._connection is not None
        while True:
            try:
                result = self._once(work)
            except Exception as error:
                if not self._is_lost(error):
                    raise
                if is_used:
                    # It may have broken while it lay idle, which says nothing about the server.
                    is_used = False
                    continue
                if self._outage.is_over():
                    raise
                time.sleep(RECONNECT_SECONDS)
            else:
                self._outage.ended()
                return result

    def _once(self, work: Work[Any]) -> Any:
        connection = self._open()
        try:
            return work(connection)
        finally:
            if connection.in_transaction() and not connection.invalidated:
                connection.rollback()


class _Writer(_Worker):
    """Runs one transaction at a time; repeats it when it lost to another one, and when the server
    went away before it was asked to commit."""

    def run(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            try:
                result = self._write(job.work)
            except BaseException as error:  # noqa: BLE001 - handed to the caller as it is
                job.failed(translated(error))
            else:
                job.done(result)

    def _write(self, work: Work[Any]) -> Any:
        is_used = self._connection is not None
        attempt = 1
        while True:
            committing = False
            try:
                connection = self._open()
                with connection.begin() as transaction:
                    result = work(connection)
                    committing = True
                    transaction.commit()
            except Exception as error:
                if self._is_lost(error):
                    if committing:
                        # Nobody knows whether the server heard it.
                        raise
                    if is_used:
                        is_used = False
                        continue
                    if self._outage.is_over():
                        raise
                    time.sleep(RECONNECT_SECONDS)
                    continue
                if _sqlstate(error) not in _PG_AGAIN or attempt == ATTEMPTS:
                    raise
                attempt += 1
                CATALOG_RETRIES.at().add()
                time.sleep(random.uniform(0.0, 0.002 * 2**attempt))  # noqa: S311 - no secret
            else:
                self._outage.ended()
                return result


class _GroupWriter(_Worker):
    """Runs the writes that wait as one transaction: one fsync for all of them."""

    def run(self, jobs: Sequence[Job]) -> None:
        try:
            outcomes = self._together(jobs)
        except BaseException as error:  # noqa: BLE001 - handed to the callers as it is
            self._is_lost(error)
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


def _is_away(error: BaseException) -> bool:
    """True for the error of a database that cannot serve now."""
    original = _original(error)
    if isinstance(original, sqlite3.Error):
        return _sqlite_code(original) in _SQLITE_AWAY
    if not type(original).__module__.startswith("psycopg"):
        return False
    state = _sqlstate(error)
    # libpq gives errors of the connection itself no SQLSTATE.
    return (
        state.startswith(_PG_AWAY)
        or state in _PG_BUSY
        or (not state and type(original).__name__ == "OperationalError")
    )


def _is_busy(error: BaseException) -> bool:
    """True for the error of a database that serves, but took too long."""
    original = _original(error)
    if isinstance(original, sqlite3.Error):
        return _sqlite_code(original) in _SQLITE_BUSY
    return _sqlstate(error) in _PG_BUSY


def _sqlite_code(error: sqlite3.Error) -> int | None:
    """The primary result code."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def translated(error: BaseException) -> BaseException:
    """CatalogUnavailable for a database that cannot serve now, any other error as it is."""
    if not _is_away(error):
        return error
    original = _original(error)
    CATALOG_ERRORS.at(_kind_of(original)).add()
    logger.warning("the database does not serve: %s", type(original).__name__, exc_info=error)
    unavailable = CatalogBusy() if _is_busy(error) else CatalogUnavailable()
    unavailable.__cause__ = error
    return unavailable


@contextlib.contextmanager
def _meanings() -> Iterator[None]:
    """Inside, a database that cannot serve now raises CatalogUnavailable."""
    try:
        yield
    except Exception as error:
        other = translated(error)
        if other is error:
            raise
        raise other from error


def _kind_of(error: BaseException) -> str:
    """The metrics' word for an error of a database that does not serve."""
    if isinstance(error, sqlite3.Error):
        return _SQLITE_KINDS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "io")
    state = getattr(error, "sqlstate", None) or ""
    for beginning, kind in _PG_KINDS:
        if state.startswith(beginning):
            return kind
    # What has no SQLSTATE is libpq's: the connection itself.
    return "connection"
