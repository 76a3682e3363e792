"""Reads on PostgreSQL without a thread: statements go out from the event loop, one behind the other.

A thread for each read costs more than the read: waking it, and being woken by it, is half of what
showing an image takes. Here the loop itself writes a prepared statement to a connection in libpq's
pipeline mode, goes on, and picks up the rows when they are there; many requests share a connection,
and what they ask at the same time shares its packets (decision 0099).

It is a short cut and nothing else. What is not quick, has no connection yet, or goes wrong in any
way gets no answer here, and is read through the lanes, which know about errors and time limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import select
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from transom.catalog.statements import Prepared
from transom.metrics.table import CATALOG_DURATION, CATALOG_OPENED

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

    from transom.metrics.kinds import Distribution

CHANNELS_MAX = 4
"""Connections of one process."""
CROWD = 8
"""Statements on their way over each connection before another one is opened."""
WAITING_MAX = 64
"""Statements on their way over one connection; more go through the lanes."""
SLOW_SECONDS = 0.01
"""When the first statement on a connection takes longer, the next ones do not wait behind it."""
KNOWN_MAX = 1000
"""Statements that a connection has prepared; one that meets more of them is replaced."""
GRACE_SECONDS = 5.0
"""How long after its limit a statement is given up here."""
UNLIMITED_SECONDS = 30.0
"""After so long even a statement without a limit is asked elsewhere."""
PAUSE_SECONDS = 1.0
"""How long after a failure no new connection is tried."""

Rows = list[tuple[Any, ...]]
RowsToCome = asyncio.Future[Rows | None]


class Pipeline:
    """The connections of one event loop. `connect` opens one, in a thread, with the settings of
    those that read; `limit_seconds` is how long a statement may take, 0 = no limit; `measured_as` is
    the metrics' word for this work, empty where nothing is measured."""

    def __init__(
        self, connect: Callable[[], Connection], limit_seconds: float, *, measured_as: str = ""
    ) -> None:
        self._connect = connect
        self._duration = CATALOG_DURATION.at(measured_as) if measured_as else None
        # The server gives a statement up first, where it still can.
        self._limit_seconds = (limit_seconds or UNLIMITED_SECONDS) + GRACE_SECONDS
        self._loop: asyncio.AbstractEventLoop | None = None
        self._channels: list[_Channel] = []
        self._opening: asyncio.Future[None] | None = None
        self._not_before = 0.0
        self._closed = False

    def ask(self, statement: Prepared, values: Mapping[str, Any]) -> RowsToCome | None:
        """What will be all rows of the answer, or None, now or then: then ask through a lane."""
        channel = self._free(statement)
        if channel is None:
            return None
        return channel.ask(statement, statement.arguments(values))

    def close(self) -> None:
        """Close every connection. What is on its way gets no answer here."""
        self._closed = True
        for channel in self._channels:
            channel.close()
        self._channels.clear()

    def _free(self, statement: Prepared) -> _Channel | None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop and not self._moved(loop):
            return None
        self._channels = [channel for channel in self._channels if channel.is_open]
        if statement.is_brief:
            for channel in self._channels:
                if channel.is_held and len(channel) < CROWD:
                    return channel
        best = min(self._channels, key=len, default=None)
        if (best is None or len(best) >= CROWD) and len(self._channels) < CHANNELS_MAX:
            self._open(loop)
        if best is None or len(best) >= WAITING_MAX or best.is_slow:
            return None
        return best

    def _moved(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Serve this loop from now on, unless another one that lives is served."""
        if self._loop is not None and not self._loop.is_closed():
            return False
        for channel in self._channels:
            channel.close()
        self._channels.clear()
        self._loop, self._opening = loop, None
        return True

    def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._opening is not None or self._closed or time.monotonic() < self._not_before:
            return
        self._opening = loop.run_in_executor(None, self._opened, loop)

    def _opened(self, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread: open a connection, and hand it to the loop."""
        try:
            connection = self._connect()
        except Exception:  # noqa: BLE001 - the lanes meet the same error, and tell it
            self._not_before = time.monotonic() + PAUSE_SECONDS
            connection = None
        try:
            loop.call_soon_threadsafe(self._take, loop, connection)
        except RuntimeError:
            # The loop has ended meanwhile.
            if connection is not None:
                connection.close()

    def _take(self, loop: asyncio.AbstractEventLoop, connection: Connection | None) -> None:
        self._opening = None
        if connection is None:
            return
        if self._closed:
            connection.close()
            return
        CATALOG_OPENED.at().add()
        self._channels.append(_Channel(connection, loop, self._limit_seconds, self._duration))


class _Asked:
    """A statement on its way."""

    __slots__ = ("answer", "asked_at", "failed", "known", "left", "result")

    def __init__(self, answer: RowsToCome, known: _Known, results: int) -> None:
        self.answer = answer
        self.known = known
        self.left = results
        """How many results are still to come."""
        self.asked_at = time.monotonic()
        self.result: PGresult | None = None
        self.failed = False
        """By itself, not because one before it did."""


class _Known:
    """A statement that the connection has prepared, for arguments of these types."""

    __slots__ = ("decoder", "has_loaders", "is_prepared", "key", "name")

    def __init__(self, key: Any, name: bytes, decoder: Any) -> None:
        self.key = key
        self.name = name
        self.decoder = decoder
        self.has_loaders = False
        self.is_prepared = False
        """The server has said so."""

    def rows(self, result: PGresult) -> Rows:
        """The rows of an answer, each value as the driver gives it."""
        self.decoder.set_pgresult(result, set_loaders=not self.has_loaders)
        self.has_loaders = True
        found: Rows = self.decoder.load_rows(0, result.ntuples, tuple)
        self.decoder.set_pgresult(None, set_loaders=False)
        return found


class _Channel:
    """One connection in pipeline mode, used on its loop alone."""

    def __init__(
        self,
        connection: Connection,
        loop: asyncio.AbstractEventLoop,
        limit_seconds: float,
        duration: Distribution | None,
    ) -> None:
        # Here, so that SQLite deployments do not load a driver that they have no use for.
        from psycopg.adapt import PyFormat, Transformer
        from psycopg.errors import OperationalError
        from psycopg.pq import ExecStatus

        self._connection = connection
        driver: Any = connection.connection.driver_connection
        self._driver = driver
        self._pg = driver.pgconn
        self._socket: int = self._pg.socket
        self._loop = loop
        self._limit_seconds = limit_seconds
        self._duration = duration
        self._asked: deque[_Asked] = deque()
        self._known: dict[Any, _Known] = {}
        self._names = itertools.count()
        self._is_watched = False
        self._is_writing = False
        self.is_held = False
        """Something waits here for what else is asked in this round of the loop."""
        self.is_open = True
        self._broken = OperationalError
        self._rows, self._done = ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK
        self._sync, self._skipped = ExecStatus.PIPELINE_SYNC, ExecStatus.PIPELINE_ABORTED
        self._transformer = Transformer
        self._encoder = Transformer(self._driver)
        self._auto = PyFormat.AUTO
        # Told of errors and of the other side's end alone, which are told without being asked for.
        self._hang_up = select.poll()
        self._hang_up.register(self._socket, 0)
        self._pg.nonblocking = 1
        self._pg.enter_pipeline_mode()
        loop.add_reader(self._socket, self._read)

    def __len__(self) -> int:
        """How many statements are on their way."""
        return len(self._asked)

    @property
    def is_slow(self) -> bool:
        """True when the statement in front takes its time."""
        return bool(self._asked) and time.monotonic() - self._asked[0].asked_at > SLOW_SECONDS

    def ask(self, statement: Prepared, arguments: list[Any]) -> RowsToCome | None:
        """Send the statement; what will come of it, or None if nothing was sent."""
        encoder = self._encoder
        values = encoder.dump_sequence(arguments, [self._auto] * len(arguments))
        types = encoder.types
        key = (statement.sql, types)
        known = self._known.get(key)
        pg = self._pg
        if known is None and len(self._known) >= KNOWN_MAX:
            if not self._asked:
                self.close()
            return None
        results = 1
        try:
            if self.is_held and not statement.is_brief:
                self._send()
            if known is None:
                known = _Known(
                    key, b"transom_%d" % next(self._names), self._transformer(self._driver)
                )
                pg.send_prepare(known.name, statement.sql.encode(), types)
                self._known[key] = known
                results = 2
            # Times and numbers cost both sides less in binary.
            pg.send_query_prepared(known.name, values, encoder.formats, 1)
            if not statement.is_brief:
                self._send()
            elif not self.is_held:
                # What else is asked in this round of the loop goes with it.
                self.is_held = True
                self._loop.call_soon(self._send_held)
        except self._broken:
            self.close()
            return None
        asked = _Asked(self._loop.create_future(), known, results)
        self._asked.append(asked)
        if not self._is_watched:
            self._is_watched = True
            self._loop.call_later(self._limit_seconds, self._watch)
        return asked.answer

    def close(self) -> None:
        """End the connection; who waits is told to ask elsewhere."""
        if not self.is_open:
            return
        self.is_open = False
        if not self._loop.is_closed():
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            for asked in self._asked:
                if not asked.answer.done():
                    asked.answer.set_result(None)
        self._asked.clear()
        with contextlib.suppress(Exception):
            self._driver.close()
        with contextlib.suppress(Exception):
            self._connection.invalidate()
            self._connection.close()

    def _watch(self) -> None:
        """Give the connection up when a statement is not answered in its time."""
        self._is_watched = False
        if not self._asked or not self.is_open:
            return
        left = self._asked[0].asked_at + self._limit_seconds - time.monotonic()
        if left <= 0:
            self.close()
            return
        self._is_watched = True
        self._loop.call_later(left, self._watch)

    def _send_held(self) -> None:
        if self.is_held and self.is_open:
            try:
                self._send()
            except self._broken:
                self.close()

    def _send(self) -> None:
        """Let the server answer what it was asked until now."""
        self.is_held = False
        self._pg.pipeline_sync()
        self._flush()

    def _flush(self) -> None:
        if self._pg.flush():
            if not self._is_writing:
                self._is_writing = True
                self._loop.add_writer(self._socket, self._write)
        elif self._is_writing:
            self._is_writing = False
            self._loop.remove_writer(self._socket)

    def _write(self) -> None:
        try:
            self._flush()
        except self._broken:
            self.close()

    def _read(self) -> None:
        try:
            self._pg.consume_input()
            self._take_results()
            # libuv tells once of a connection that was reset, and then never again (it stops
            # watching what it takes for a bad descriptor): whatever is left is read now, to the
            # end, which is an error.
            while self._hang_up.poll(0):
                self._pg.consume_input()
                self._take_results()
            if self._is_writing:
                self._flush()
        except self._broken:
            self.close()

    def _take_results(self) -> None:
        pg, asked = self._pg, self._asked
        while asked and not pg.is_busy():
            result = pg.get_result()
            if result is None:
                # The end of one statement; at the end of all there is another one.
                if pg.is_busy():
                    break
                result = pg.get_result()
            if result is None:
                break
            if result.status != self._sync:
                self._take(asked[0], result)

    def _take(self, asked: _Asked, result: PGresult) -> None:
        asked.left -= 1
        if result.status == self._rows:
            asked.result = result
        elif result.status == self._done:
            asked.known.is_prepared = True
        elif result.status != self._skipped:
            asked.failed = True
        if not asked.left:
            self._settle(self._asked.popleft())

    def _settle(self, asked: _Asked) -> None:
        known, rows = asked.known, None
        if self._duration is not None:
            self._duration.observe(time.monotonic() - asked.asked_at)
        if asked.failed or not known.is_prepared:
            # It has to be prepared again.
            if self._known.get(known.key) is known:
                del self._known[known.key]
        elif asked.answer.done():
            return
        elif asked.result is not None:
            rows = known.rows(asked.result)
        if not asked.answer.done():
            asked.answer.set_result(rows)
