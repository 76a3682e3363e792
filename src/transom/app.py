"""The one place that sees everything: opens the parts, puts them together, serves them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from granian.server.embed import Server
from starlette.types import ASGIApp, Receive, Scope, Send

from transom.api.cors import with_cors
from transom.api.face import Face
from transom.api.listener import listener, renew, stop
from transom.audit import AuditLog
from transom.auth import open_authenticator
from transom.cache import CacheFolder
from transom.catalog import Catalog
from transom.errors import TransomError
from transom.events import Events
from transom.events.delivery import Delivery
from transom.images.caching import keep_cache
from transom.images.clock import watch_clock
from transom.images.neighbours import warn_of_neighbours
from transom.images.sweep import WATCHED_SECONDS, join, living_processes, sweep
from transom.imports.engine import Engine
from transom.imports.work import sweep_tasks
from transom.metrics.table import (
    EVENTS_DEAD,
    EVENTS_WAITING,
    LEASE_FAILURES,
    SWEEP_FAILURES,
    SWEEP_MENDED,
    SWEEP_SUCCEEDED,
)
from transom.model.event import EventState
from transom.policy import Policy
from transom.policy.protections import Protections
from transom.quotas import Limits
from transom.registry import Registry
from transom.settings import Settings
from transom.signatures import Signatures
from transom.stores import Stores
from transom.telemetry import outlived

_log = structlog.get_logger(__name__)

DRAIN_SIGNAL = signal.SIGUSR1
"""What the main process tells its worker processes with that they will be stopped soon."""
BEAT_SECONDS = 5.0
SWEEP_SECONDS = 30.0
COUNT_SECONDS = 10.0
"""How often the events that wait are counted, for the metrics."""


def open_registry(settings: Settings) -> Registry:
    """Open every part. The catalog's schema must be current. Raises ConfigurationError,
    CatalogUnavailable."""
    catalog = Catalog.open(settings)
    policy = Policy.open(settings)
    identity = open_authenticator(settings, catalog)
    return Registry(
        settings=settings,
        catalog=catalog,
        stores=Stores.open(settings),
        policy=policy,
        protections=Protections.open(settings, policy),
        limits=Limits.open(settings, identity),
        identity=identity,
        signatures=Signatures.open(settings),
        cache=_open_cache(settings),
        process_id=uuid.uuid4().hex,
        announces_stores=settings.announces_stores(),
        events=Events.open(settings, catalog),
        audit=AuditLog(Path(settings.audit.path)) if settings.audit.path else None,
    )


def _open_cache(settings: Settings) -> CacheFolder | None:
    cache = settings.cache
    return CacheFolder(Path(cache.path), cache.size_bytes_max) if cache.enabled else None


@dataclass(slots=True)
class Background:
    """What goes on beside requests: the lease of this process, the sweep, work on tasks."""

    registry: Registry
    is_worker: bool
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    worker: Engine | None = None
    delivery: Delivery | None = None

    async def start(self) -> None:
        """Write the first lease, then begin."""
        await join(self.registry)
        await warn_of_neighbours(self.registry)
        self.tasks.append(asyncio.create_task(self._beat(), name="lease"))
        self.tasks.append(asyncio.create_task(self._sweep(), name="sweep"))
        self.tasks.append(asyncio.create_task(watch_clock(), name="clock"))
        if self.registry.settings.metrics.bind and self.registry.events.is_on:
            self.tasks.append(asyncio.create_task(self._count_events(), name="event counts"))
        if self.registry.cache is not None:
            await self.registry.cache.open()
            keeping = keep_cache(self.registry, sweep_seconds=SWEEP_SECONDS)
            self.tasks.append(asyncio.create_task(keeping, name="cache"))
        if self.is_worker:
            self.worker = Engine(self.registry)
            await self.worker.start()
            await self._deliver()

    async def _deliver(self) -> None:
        registry = self.registry
        if registry.events.is_on:
            self.delivery = Delivery(
                registry.settings,
                registry.catalog,
                registry.events,
                registry.process_id,
                lambda: living_processes(registry),
            )
            await self.delivery.start()

    async def stop(self) -> None:
        """End it, and close every part of the registry."""
        if self.worker is not None:
            await self.worker.stop()
        if self.delivery is not None:
            await self.delivery.stop()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if self.registry.cache is not None:
            await self.registry.cache.close()
        with contextlib.suppress(TransomError):
            await self.registry.catalog.processes.leave(self.registry.process_id)
        await self.registry.stores.close()
        await self.registry.identity.close()
        self.registry.catalog.close()
        if self.registry.audit is not None:
            await asyncio.to_thread(self.registry.audit.close)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            with outlived("lease.not_renewed", LEASE_FAILURES.at().add):
                await self.registry.catalog.processes.beat(self.registry.process_id)

    async def _sweep(self) -> None:
        while True:
            with outlived("sweep.failed", SWEEP_FAILURES.at().add):
                await sweep(self.registry)
                SWEEP_MENDED.at("task").add(await sweep_tasks(self.registry))
                SWEEP_SUCCEEDED.at().set(time.time())
            # After a crash, what the dead left is not to wait for a second round.
            doubtful = self.registry.catalog.processes.are_suspected
            await asyncio.sleep(min(WATCHED_SECONDS, SWEEP_SECONDS) if doubtful else SWEEP_SECONDS)

    async def _count_events(self) -> None:
        # Those whom nothing waits for are shown too, as 0.
        known = set(self.registry.events.targets)
        while True:
            with outlived("events.not_counted"):
                counts = await self.registry.catalog.outbox.count()
                known |= {target for target, _ in counts}
                for target in known:
                    waiting = counts.get((target, EventState.WAITING), 0)
                    EVENTS_WAITING.at(target).set(waiting)
                    EVENTS_DEAD.at(target).set(counts.get((target, EventState.DEAD), 0))
            await asyncio.sleep(COUNT_SECONDS)


@dataclass(slots=True)
class App:
    """A running Transom: the registry, its HTTP face, and what goes on in the background."""

    registry: Registry
    face: Face
    background: Background
    compute: Server | None = None
    """The listener of the Compute view at an address of its own."""
    serving: asyncio.Task[None] | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    started: list[Callable[[], None]] = field(default_factory=list)
    """What is called when a worker process is about to serve."""
    closing: list[Callable[[], None]] = field(default_factory=list)
    """What is called last of all."""

    @property
    def application(self) -> ASGIApp:
        """The ASGI application: the face, behind what browsers ask for."""
        return with_cors(self.face, self.registry.settings)

    @classmethod
    def build(cls, settings: Settings) -> App:
        """Everything opened and put together, not yet started."""
        registry = open_registry(settings)
        if registry.audit is not None:
            registry.audit.require()
        background = Background(registry, is_worker=settings.server.worker)
        app = cls(registry, Face(registry), background)
        app.face.lifespan = app.lifespan
        return app

    async def start(self) -> None:
        """Begin the background work, then listen."""
        await self.background.start()
        bind = self.registry.settings.compute.bind
        if bind:
            settings = self.registry.settings
            self.compute = listener(with_cors(self.face.at_compute_bind, settings), bind, settings)
            if settings.server.tls_certificate:
                self.tasks.append(
                    asyncio.create_task(renew(settings, self.compute), name="certificate")
                )
            self.serving = asyncio.create_task(self.compute.serve(), name="compute")

    async def stop(self) -> None:
        """End the background work and close every part."""
        if self.compute is not None and self.serving is not None:
            stop(self.compute)
            await self.serving
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.background.stop()
        for close in self.closing:
            await asyncio.to_thread(close)

    async def lifespan(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """The server's start and stop, as ASGI tells them."""
        await receive()
        try:
            await self.start()
        except TransomError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        asyncio.get_running_loop().add_signal_handler(DRAIN_SIGNAL, self.face.drain)
        for told in self.started:
            told()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.face.finish(self.registry.settings.server.shutdown_seconds)
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})
