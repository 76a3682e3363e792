"""Brings events from the outbox to their targets: at least once, in order for each subject.

One process at a time delivers to a target, by a row that it holds; when it dies, another takes over.
A target that is away is tried with one event at a time, more and more rarely; meanwhile the others
wait. An event that is refused again and again is laid aside, and the next of its subject follows.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import random
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import Any, Final

import structlog

from transom.catalog import Catalog
from transom.errors import TransomError
from transom.events import Events
from transom.events.target import Target, Undelivered
from transom.metrics.table import EVENTS_DELIVERED, EVENTS_FAILED
from transom.model.event import EventState, Outgoing
from transom.settings import Notifications, Settings
from transom.telemetry import outlived

_log = structlog.get_logger(__name__)

TICK_SECONDS: Final = 1.0
"""How often a process looks for events that others have told of."""
HOLD_SECONDS: Final = 60.0
"""How long a process holds a target without saying so again: the library that sends may be slow."""
STOP_SECONDS: Final = 2.0
"""How long events that are under way may take when the process stops."""
WIDTH: Final = 8
"""Events of different subjects that are under way to one target."""

Living = Callable[[], Awaitable[Collection[str]]]
"""Gives the ids of the processes that are alive."""


def open_targets(settings: Settings) -> list[Target]:
    """The targets of a configuration. Raises ConfigurationError."""
    notifications = settings.notifications
    targets: list[Target] = []
    if notifications.webhooks:
        # Only here: who has none does not pay for the client.
        from transom.events.webhooks import Webhook

        targets += (
            Webhook(
                name,
                webhook.url,
                webhook.secret,
                source=source_of(settings),
                timeout_seconds=notifications.timeout_seconds,
            )
            for name, webhook in notifications.webhooks.items()
        )
    if notifications.amqp.url:
        from transom.events.amqp import Bus

        targets.append(Bus(notifications.amqp, timeout_seconds=notifications.timeout_seconds))
    return targets


def source_of(settings: Settings) -> str:
    """Which deployment events come from: its public address, else the publisher's name."""
    public_url = settings.server.public_url.rstrip("/")
    return public_url or f"urn:transom:{settings.notifications.amqp.publisher_id}"


class Delivery:
    """Delivers what this process may, as long as it is started."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        events: Events,
        process_id: str,
        living: Living,
    ) -> None:
        self.notifications: Notifications = settings.notifications
        self.outbox = catalog.outbox
        self._events = events
        self._process_id = process_id
        self._living = living
        self._targets = open_targets(settings)
        self._tasks: list[asyncio.Task[None]] = []
        self._wakes: list[asyncio.Event] = []

    async def start(self) -> None:
        """Begin."""
        for target in self._targets:
            wake = asyncio.Event()
            self._wakes.append(wake)
            work = self._serve(target, wake)
            self._tasks.append(asyncio.create_task(work, name=f"events-{target.name}"))
        if self._targets:
            self._tasks.append(asyncio.create_task(self._ring(), name="events"))

    async def stop(self) -> None:
        """Stop where it is; what was under way is delivered again by whoever goes on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(TransomError):
            if self._targets:
                await self.outbox.let_go(self._process_id)
        for target in self._targets:
            await target.close()

    async def _ring(self) -> None:
        """Wake all targets when this process has told of something."""
        while True:
            await self._events.waits.wait()
            self._events.waits.clear()
            for wake in self._wakes:
                wake.set()

    async def _serve(self, target: Target, wake: asyncio.Event) -> None:
        round_ = _Round(target, self)
        while True:
            with outlived("events.not_delivered", target=target.name):
                await round_.run()
            # Not `wait_for`: before Python 3.12 that loses a cancellation which comes with the wake.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await wake.wait()
            wake.clear()

    async def hold(self, target: Target) -> bool:
        """Take the target for this process; False when another one has it."""
        living = await self._living()
        seconds = max(HOLD_SECONDS, 6 * self.notifications.timeout_seconds)
        return await self.outbox.hold(target.name, self._process_id, seconds, living)

    def pause_seconds(self, attempts: int) -> float:
        """How long to wait after so many tries: twice as long each time, and a random part of that,
        so that many do not come back at once."""
        notifications = self.notifications
        bound = notifications.retry_seconds * 2.0 ** min(attempts, 32)
        bound = min(bound, notifications.retry_seconds_max)
        return bound * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


class _Round:
    """What is remembered of one target from one look at the outbox to the next."""

    def __init__(self, target: Target, delivery: Delivery) -> None:
        self._target = target
        self._delivery = delivery
        self._held_at = float("-inf")
        self._away = 0
        """How often in a row the target was away."""
        self._paused_until = 0.0
        self._took_at = float("-inf")
        """When the target last took an event."""

    async def run(self) -> None:
        """Deliver all that is due."""
        outbox = self._delivery.outbox
        while time.monotonic() >= self._paused_until:
            width = 1 if self._away else WIDTH
            heads = await outbox.heads(self._target.name, dt.datetime.now(dt.UTC), width)
            if not heads or not await self._is_held():
                return
            await _to_its_end(self._deliver(heads))

    async def _deliver(self, heads: list[Outgoing]) -> None:
        outcomes = await asyncio.gather(*(self._try(event) for event in heads))
        delivered = [event.number for event, failure in outcomes if failure is None]
        if delivered:
            self._took_at = time.monotonic()
        failed = {
            event.number: self._judged(event, failure)
            for event, failure in outcomes
            if failure is not None
        }
        self._look_at([failure for _, failure in outcomes])
        await self._delivery.outbox.settle(delivered, failed)

    async def _is_held(self) -> bool:
        if time.monotonic() - self._held_at < HOLD_SECONDS / 4:
            return True
        if not await self._delivery.hold(self._target):
            return False
        self._held_at = time.monotonic()
        return True

    async def _try(self, event: Outgoing) -> tuple[Outgoing, Undelivered | None]:
        try:
            await self._target.deliver(event)
        except Undelivered as failure:
            EVENTS_FAILED.at(event.target).add()
            _log.warning(
                "event.not_delivered",
                target=event.target,
                event_id=event.event_id,
                type=event.type,
                subject=event.subject,
                attempt=event.attempts + 1,
                reason=failure.reason,
            )
            return event, failure
        EVENTS_DELIVERED.at(event.target).add()
        return event, None

    def _judged(self, event: Outgoing, failure: Undelivered) -> tuple[str, dt.datetime, EventState]:
        state = EventState.WAITING
        if self._is_in_vain(event, failure):
            state = EventState.DEAD
            _log.error(
                "event.laid_aside",
                target=event.target,
                event_id=event.event_id,
                type=event.type,
                subject=event.subject,
            )
        pause = self._delivery.pause_seconds(event.attempts)
        pause = max(pause, failure.wait_seconds or 0.0)
        return failure.reason, dt.datetime.now(dt.UTC) + dt.timedelta(seconds=pause), state

    def _is_in_vain(self, event: Outgoing, failure: Undelivered) -> bool:
        """True when an event was tried often enough. What a target that is away does not take is
        not the event's fault; it is when others are taken meanwhile."""
        notifications = self._delivery.notifications
        if event.attempts + 1 < notifications.tries_max:
            return False
        takes_others = time.monotonic() - self._took_at < 2 * notifications.retry_seconds_max
        age = dt.datetime.now(dt.UTC) - event.created_at
        is_old = age > dt.timedelta(hours=notifications.keep_hours)
        return not failure.is_away or takes_others or is_old

    def _look_at(self, failures: list[Undelivered | None]) -> None:
        away = [each for each in failures if each is not None and each.is_away]
        if not away or None in failures:
            self._away = 0
            return
        pause = self._delivery.pause_seconds(self._away)
        asked = max((each.wait_seconds or 0.0 for each in away), default=0.0)
        self._paused_until = time.monotonic() + max(pause, asked)
        self._away += 1


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Do the work, also when the process stops meanwhile: what a target took is not delivered again.
    A target that hangs is not waited for long."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        with contextlib.suppress(TransomError, TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await task
        raise
