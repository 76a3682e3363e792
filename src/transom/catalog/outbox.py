"""The outbox: events, written with what they tell of, until each target has them.

An event is a row for each target, written in the transaction that it tells of: either both are
there or neither (decision 96). One process at a time delivers to a target. It takes the first event
of each subject, so that what happened to one image arrives in its order.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from transom.catalog.engine import Engine, followed_by, lock
from transom.catalog.event_tables import event_targets, events
from transom.catalog.locking import locked
from transom.catalog.processes import clock
from transom.catalog.task_tables import tasks
from transom.catalog.tasks import task_of
from transom.model.event import EventState, Notice, Outgoing, Priority
from transom.model.image import Image
from transom.model.task import Task

_WAITING = events.c.state == EventState.WAITING
REASON_LENGTH_MAX = 500


class Look:
    """What can be asked of the catalog inside the transaction that an event tells of."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def image(self, image_id: str) -> Image | None:
        """The image as it is now, its tombstone included."""
        return locked(self._connection, image_id)

    def task(self, task_id: str) -> Task | None:
        """The task as it is now."""
        statement = sa.select(tasks).where(tasks.c.id == task_id)
        row = self._connection.execute(statement).mappings().first()
        return None if row is None else task_of(row)


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A notice with the targets that want it."""

    notice: Notice
    targets: Sequence[str]
    request_id: str = ""


Say = Callable[[Any, Look], Sequence[Letter]]
"""What a transaction's result and a look at the catalog have to tell."""


class Outbox:
    """Events on their way. Every method may raise CatalogUnavailable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def with_next_write(self, say: Say) -> Iterator[None]:
        """Have what is written inside tell of itself, in its own transaction. A write that fails
        tells nothing."""

        def after(connection: Connection, result: Any) -> None:
            _insert(connection, say(result, Look(connection)))

        with followed_by(after):
            yield

    async def add(self, letters: Sequence[Letter]) -> None:
        """Write events of something that is not the catalog's, or was written before."""
        await self._engine.write(lambda connection: _insert(connection, letters))

    # --- delivering -----------------------------------------------------------------------------

    async def hold(
        self, target: str, process_id: str, seconds: float, living: Collection[str]
    ) -> bool:
        """Let this process alone deliver to the target for so long; False when another one that
        lives does."""

        def work(connection: Connection) -> bool:
            lock(connection, f"event target {target}")
            now = clock(connection)
            until = now + dt.timedelta(seconds=seconds)
            mine = event_targets.c.target == target
            row = connection.execute(sa.select(event_targets).where(mine)).first()
            if row is None:
                values = {"target": target, "held_by": process_id, "held_until": until}
                connection.execute(sa.insert(event_targets), values)
                return True
            if row.held_by != process_id and row.held_until > now and row.held_by in living:
                return False
            connection.execute(
                sa.update(event_targets).where(mine).values(held_by=process_id, held_until=until)
            )
            return True

        return await self._engine.write(work)

    async def let_go(self, process_id: str) -> None:
        """Leave the targets of this process to others."""
        statement = sa.delete(event_targets).where(event_targets.c.held_by == process_id)
        await self._engine.write(lambda connection: connection.execute(statement).rowcount)

    async def heads(self, target: str, now: dt.datetime, limit: int) -> list[Outgoing]:
        """The first event of each subject that waits for the target and is due, oldest first."""
        first = (
            sa.select(sa.func.min(events.c.number))
            .where(events.c.target == target, _WAITING)
            .group_by(events.c.subject)
        )
        statement = (
            sa.select(events)
            .where(events.c.number.in_(first), events.c.due_at <= now)
            .order_by(events.c.number)
            .limit(limit)
        )
        return await self._engine.read(lambda connection: _found(connection, statement))

    async def settle(
        self,
        delivered: Collection[int],
        failed: Mapping[int, tuple[str, dt.datetime, EventState]] = {},
    ) -> None:
        """Forget what was delivered, and write of what was not: why, when it is due again, and
        whether it is at all."""

        def work(connection: Connection) -> None:
            if delivered:
                connection.execute(sa.delete(events).where(events.c.number.in_(list(delivered))))
            for number, (reason, due_at, state) in failed.items():
                connection.execute(
                    sa.update(events)
                    .where(events.c.number == number)
                    .values(
                        attempts=events.c.attempts + 1,
                        reason=reason[:REASON_LENGTH_MAX],
                        due_at=due_at,
                        state=state,
                    )
                )

        await self._engine.write(work)

    # --- the operator's -------------------------------------------------------------------------

    async def list(
        self,
        *,
        target: str | None = None,
        state: EventState | None = None,
        after: int = 0,
        limit: int = 100,
    ) -> list[Outgoing]:
        """Events that were not delivered yet, in their order."""
        statement = sa.select(events).where(events.c.number > after, *_chosen(None, target, state))
        statement = statement.order_by(events.c.number).limit(limit)
        return await self._engine.read(lambda connection: _found(connection, statement))

    async def count(self) -> dict[tuple[str, EventState], int]:
        """How many events there are by target and state."""
        statement = sa.select(events.c.target, events.c.state, sa.func.count()).group_by(
            events.c.target, events.c.state
        )
        return await self._engine.read(
            lambda connection: {
                (target, EventState(state)): number
                for target, state, number in connection.execute(statement)
            }
        )

    async def retry(
        self, numbers: Collection[int] | None, *, target: str | None = None, now: dt.datetime
    ) -> int:
        """Have dead events tried again, as if for the first time; None = all. Gives how many."""
        statement = (
            sa.update(events)
            .where(*_chosen(numbers, target, EventState.DEAD))
            .values(state=EventState.WAITING, attempts=0, due_at=now)
        )
        return await self._engine.write(lambda connection: connection.execute(statement).rowcount)

    async def drop(
        self,
        numbers: Collection[int] | None,
        *,
        target: str | None = None,
        state: EventState | None = None,
    ) -> int:
        """Forget events without delivering them; None = all. Gives how many."""
        statement = sa.delete(events).where(*_chosen(numbers, target, state))
        return await self._engine.write(lambda connection: connection.execute(statement).rowcount)


def _insert(connection: Connection, letters: Sequence[Letter]) -> None:
    if not letters:
        return
    now = clock(connection)
    rows = [
        {
            "target": target,
            "event_id": event_id,
            "type": letter.notice.type,
            "subject": letter.notice.subject,
            "priority": letter.notice.priority,
            "payload": msgspec.json.encode(letter.notice.payload).decode(),
            "request_id": letter.request_id,
            "created_at": now,
            "state": EventState.WAITING,
            "attempts": 0,
            "due_at": now,
            "reason": "",
        }
        for letter in letters
        for event_id in (str(uuid.uuid4()),)
        for target in letter.targets
    ]
    if rows:
        connection.execute(sa.insert(events), rows)


def _chosen(
    numbers: Collection[int] | None, target: str | None, state: EventState | None
) -> list[sa.ColumnElement[bool]]:
    chosen: list[sa.ColumnElement[bool]] = []
    if numbers is not None:
        chosen.append(events.c.number.in_(list(numbers)))
    if target is not None:
        chosen.append(events.c.target == target)
    if state is not None:
        chosen.append(events.c.state == state)
    return chosen or [sa.true()]


def _found(connection: Connection, statement: sa.Select[Any]) -> list[Outgoing]:
    return [
        Outgoing(
            number=row.number,
            target=row.target,
            event_id=row.event_id,
            type=row.type,
            subject=row.subject,
            priority=Priority(row.priority),
            payload=msgspec.json.decode(row.payload),
            request_id=row.request_id,
            created_at=row.created_at,
            state=EventState(row.state),
            attempts=row.attempts,
            due_at=row.due_at,
            reason=row.reason,
        )
        for row in connection.execute(statement)
    ]
