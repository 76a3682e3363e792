"""Leases: which processes are alive, so that what a dead one left is found."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from transom.catalog.engine import Engine
from transom.catalog.schema import processes


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """A process that serves this catalog. `started` tells it from a later one with its pid."""

    id: str
    host: str
    pid: int
    started: str
    joined_at: dt.datetime
    beat_at: dt.datetime


class Processes:
    """The leases of all processes, by the clock of the database. Every method may raise
    CatalogUnavailable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._joined: dict[str, dict[str, Any]] = {}
        self._suspects: dict[str, tuple[dt.datetime, float]] = {}
        """Leases that look as if they had run out: as they were, and since when they are so, by a
        clock that nobody sets."""

    async def join(self, process_id: str, *, host: str, pid: int, started: str) -> None:
        """Write the first lease of a process."""
        row = {"process_id": process_id, "host": host, "pid": pid, "started": started}
        self._joined[process_id] = row
        await self._engine.write(lambda connection: _join(connection, row))

    async def beat(self, process_id: str) -> bool:
        """Renew the lease. False when it had been taken away, by others who held the process for
        dead: what it was doing may have been undone. The lease is then written anew."""
        row = self._joined.get(process_id)

        def work(connection: Connection) -> bool:
            renewed = connection.execute(
                sa.update(processes)
                .where(processes.c.process_id == process_id)
                .values(beat_at=clock(connection))
            )
            if renewed.rowcount:
                return True
            if row is not None:
                _join(connection, row)
            return False

        return await self._engine.write(work)

    async def leave(self, process_id: str) -> None:
        """Remove the lease; one that is not there is no error."""
        self._joined.pop(process_id, None)
        await self._engine.write(
            lambda connection: (
                connection.execute(
                    sa.delete(processes).where(processes.c.process_id == process_id)
                ).rowcount
            )
        )

    async def dead(self, older_than_seconds: float, *, watched_seconds: float) -> list[str]:
        """Ids of processes whose lease was last renewed longer ago than this, or so far ahead of
        now that the clock must have been set back, and was not renewed while it was watched here
        for so long: to whoever sets the clock of the database an hour on, everybody is an hour
        silent, and renews the lease a moment later."""

        def work(connection: Connection) -> dict[str, dt.datetime]:
            moment, span = clock(connection), dt.timedelta(seconds=older_than_seconds)
            rows = connection.execute(
                sa.select(processes.c.process_id, processes.c.beat_at)
                .where(
                    sa.or_(processes.c.beat_at < moment - span, processes.c.beat_at > moment + span)
                )
                .order_by(processes.c.beat_at)
            )
            return {row.process_id: row.beat_at for row in rows}

        silent = await self._engine.read(work)
        moment = time.monotonic()
        before = self._suspects
        self._suspects = {
            id_: before[id_] if id_ in before and before[id_][0] == beat_at else (beat_at, moment)
            for id_, beat_at in silent.items()
        }
        return [
            id_ for id_, (_, since) in self._suspects.items() if moment - since >= watched_seconds
        ]

    @property
    def are_suspected(self) -> bool:
        """True when some looked dead at the last look, whether or not they were watched enough."""
        return bool(self._suspects)

    async def list(self) -> list[Process]:
        """All leases, oldest first."""

        def work(connection: Connection) -> list[Process]:
            return [
                Process(
                    id=row.process_id,
                    host=row.host,
                    pid=row.pid,
                    started=row.started,
                    joined_at=row.joined_at,
                    beat_at=row.beat_at,
                )
                for row in connection.execute(
                    sa.select(processes).order_by(processes.c.joined_at, processes.c.process_id)
                )
            ]

        return await self._engine.read(work)


def _join(connection: Connection, row: dict[str, Any]) -> None:
    now = clock(connection)
    connection.execute(sa.insert(processes), {**row, "joined_at": now, "beat_at": now})


def clock(connection: Connection) -> dt.datetime:
    """The database's clock: one for all replicas. SQLite's is that of its only machine."""
    if connection.dialect.name == "postgresql":
        now: dt.datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        return now.astimezone(dt.UTC)
    return dt.datetime.now(dt.UTC)
