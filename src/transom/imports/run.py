"""A task while this process works on it: what its steps share, and how it is watched."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec
import structlog

from transom import tracing
from transom.catalog.outbox import Look
from transom.errors import (
    CatalogUnavailable,
    ImageDeletedMeanwhile,
    ImageNotFound,
    StoreUnavailable,
    TaskCancelled,
    TaskLost,
    TransomError,
)
from transom.events import Say
from transom.events.payloads import image_notice, task_notice
from transom.images.clock import now
from transom.images.upload import new_key
from transom.imports.plugin import Material
from transom.metrics.table import TASK_STEP_DURATION
from transom.model.event import Notice
from transom.model.image import GONE, Image
from transom.model.task import Progress, Task
from transom.registry import Registry
from transom.stores.store import KeyMissing, Store, Writer

_log = structlog.get_logger(__name__)

BEAT_SECONDS = 0.7
"""How often progress is written and the end of the task asked after."""

PAUSE_SECONDS_MAX = 10.0
MIB = 1024 * 1024
HASHING = "hashing"
"""The phase in which data is read where it is and goes nowhere."""
UNEXPECTED = "The import failed for a reason that is not yours; the operator's log tells it."

PASSING = (CatalogUnavailable, TaskLost)
"""Failures of an attempt, not of the work: what it wrote stays for the one that goes on from there."""

Step = Callable[["Run", str], Awaitable[None]]


class Run:
    """One attempt at one task. Its notes outlive it: the next attempt begins with them."""

    def __init__(self, registry: Registry, task: Task, perform: Step) -> None:
        self.registry = registry
        self.task = task
        self.notes: dict[str, Any] = task.notes
        self.progress = Progress()
        self.roles: frozenset[str] = frozenset(self.notes.get("roles", ()))
        self.made: list[tuple[str, str]] = []
        """Store and key of what this attempt began to write."""
        self._perform = perform
        self._moved_bytes = 0
        self._clock = time.monotonic()
        self._scratch: Path | None = None

    # --- what steps ask ---------------------------------------------------------------------

    @property
    def source(self) -> dict[str, Any]:
        """The arguments of the import method."""
        return source_of(self.task)

    @property
    def image_id(self) -> str:
        """The image that the task is about."""
        if self.task.image_id is None:
            raise TaskLost(self.task.id)
        return self.task.image_id

    async def image(self) -> Image:
        """The image as it is now. Raises ImageDeletedMeanwhile."""
        try:
            return await self.registry.catalog.images.get(self.image_id, seen_by=None)
        except ImageNotFound:
            raise ImageDeletedMeanwhile(self.image_id) from None

    def telling(self, say: Say) -> AbstractContextManager[None]:
        """Have the write inside tell of itself, as the work of the request that asked for it."""
        return self.registry.events.telling(say, of_request=self.task.request_id or "")

    def ended(self, _: object, look: Look) -> list[Notice]:
        """That the task has ended, and what it left the image as."""
        notices = []
        task = look.task(self.task.id)
        image = None if self.task.image_id is None else look.image(self.task.image_id)
        if image is not None and image.status not in GONE:
            notices.append(image_notice("image.update", image))
        if task is not None and task.has_ended:
            notices.append(task_notice(f"task.{task.status}", task))
        return notices

    @property
    def staging(self) -> Store:
        """Where the data lies between its source and the stores."""
        return self.registry.stores.staging

    @property
    def material(self) -> Material | None:
        """The staged data, once it is complete."""
        found = self.notes.get("material")
        return None if found is None else msgspec.convert(found, Material)

    async def keep(self, **notes: Any) -> None:
        """Remember something for the steps to come, whichever process takes them. Raises
        TaskLost."""
        self.notes |= notes
        await self.registry.catalog.tasks.note(self.task, self.notes)

    def report(self, phase: str, done_bytes: int, total_bytes: int | None) -> None:
        """Tell how far the work is. Cheap; written with the next beat."""
        self.progress = Progress(
            phase=phase,
            done_bytes=done_bytes,
            total_bytes=total_bytes,
            rate_bytes=self.progress.rate_bytes,
        )

    async def writer(self, slot: str, store: Store, *, size_hint: int | None = None) -> Writer:
        """A Writer of the object that a slot of this task stands for: the one of an earlier attempt,
        at its durable offset, or else a new one that the catalog remembers first."""
        slots = self.notes.setdefault("slots", {})
        before = slots.get(slot)
        if before is not None:
            if store.features.resumable:
                # Not there any more; or a process that was held for dead still has it open. What
                # that one writes goes nowhere.
                with contextlib.suppress(KeyMissing, StoreUnavailable):
                    return await store.reopen(before["token"])
            await self.discard(slot, store)
        key = new_key(self.task.image_id or self.task.id)
        writer = store.writer(key, size_hint=size_hint)
        await self.remember(store, key, writer.token)
        slots[slot] = {"key": key, "token": writer.token, "store": store.name}
        await self.keep()
        return writer

    async def remember(self, store: Store, key: str, token: str) -> None:
        """Have the catalog know of an object before its first byte. Raises TaskLost."""
        self.made.append((store.name, key))
        await self.registry.catalog.tasks.remember_object(
            self.task, store.name, key, token=token, now=now()
        )

    def slot(self, slot: str) -> dict[str, Any] | None:
        """What is remembered of a slot's object: key, token, and what steps added."""
        found: dict[str, Any] | None = self.notes.get("slots", {}).get(slot)
        return found

    async def discard(self, slot: str, store: Store) -> None:
        """Remove the object of a slot, complete or not. What its store cannot remove now is removed
        after the task."""
        before = self.notes.get("slots", {}).pop(slot, None)
        if before is not None:
            await self.remove(store, before["key"])

    async def remove(self, store: Store, key: str) -> None:
        """Remove an object of this task, now or after its end."""
        try:
            await store.delete(key)
        except TransomError as error:
            _log.warning("task.clearing_delayed", task_id=self.task.id, reason=str(error))
        else:
            await self.registry.catalog.tasks.forget_object(store.name, key)

    async def scratch(self) -> Path:
        """An empty folder of this task on the local disk."""
        if self._scratch is None:
            self._scratch = scratch_root(self.registry) / f"{self.task.id}.{self.task.attempt}"
            await asyncio.to_thread(_make_empty, self._scratch)
        return self._scratch

    # --- how it is worked on ----------------------------------------------------------------

    async def do(self, step: str) -> str | None:
        """Take one step; None when it is done, else the sentence that tells why the task fails.

        While the database is away the step waits and begins again. Raises TaskLost when another
        process has the task, and CancelledError when this one is stopped.
        """
        began = time.monotonic()
        work = asyncio.create_task(self._traced(step))
        watch = asyncio.create_task(self._watch(work))
        try:
            await work
        except asyncio.CancelledError:
            if not watch.done():
                raise
            return str(await watch)
        except TaskLost:
            raise
        except TransomError as failure:
            _log.info("task.step_failed", task_id=self.task.id, step=step, reason=str(failure))
            return str(failure)
        except Exception:  # noqa: BLE001 - whatever it is, the task must end and say so
            _log.exception("task.step_broke", task_id=self.task.id, step=step)
            return UNEXPECTED
        finally:
            work.cancel()
            watch.cancel()
            TASK_STEP_DURATION.at(step).observe(time.monotonic() - began)
        return None

    def close(self) -> None:
        """Free what this attempt holds on the local disk. Blocks, so it is called in a thread."""
        if self._scratch is not None:
            folder, self._scratch = self._scratch, None
            shutil.rmtree(folder, ignore_errors=True)

    async def _traced(self, step: str) -> None:
        task = self.task
        with tracing.span(
            f"step {step}",
            task_id=task.id,
            task_type=str(task.type),
            image_id=task.image_id or "",
            request_id=task.request_id or "",
        ):
            await self._persist(step)

    async def _persist(self, step: str) -> None:
        pause = 0.2
        while True:
            try:
                return await self._perform(self, step)
            except CatalogUnavailable as away:
                _log.warning("task.waits", task_id=self.task.id, reason=str(away))
                await asyncio.sleep(pause)
                pause = min(2 * pause, PAUSE_SECONDS_MAX)

    async def _watch(self, work: asyncio.Task[None]) -> TaskCancelled:
        """Write progress as it goes; end the work when the task is cancelled or lost."""
        while True:
            try:
                goes_on = await self.registry.catalog.tasks.report(
                    self.task, self._paced(), self._message(), now()
                )
            except CatalogUnavailable as away:
                _log.warning("task.not_reported", task_id=self.task.id, reason=str(away))
            except TaskLost:
                work.cancel()
                raise
            except Exception:  # noqa: BLE001 - who does not watch would never see the end asked for
                _log.exception("task.not_reported", task_id=self.task.id)
            else:
                if not goes_on:
                    work.cancel()
                    return TaskCancelled(self.task.id)
            await asyncio.sleep(BEAT_SECONDS)

    def _paced(self) -> Progress:
        moment, moved = time.monotonic(), self.progress.done_bytes
        seconds, added = moment - self._clock, moved - self._moved_bytes
        if seconds > 0 and added >= 0:
            lately = added / seconds
            rate = self.progress.rate_bytes
            rate_bytes = int(lately if not rate else 0.6 * lately + 0.4 * rate)
            self.progress = msgspec.structs.replace(self.progress, rate_bytes=rate_bytes)
        self._clock, self._moved_bytes = moment, moved
        return self.progress

    def _message(self) -> str:
        if not self.progress.phase:
            return ""
        verb = "Hashed" if self.progress.phase == HASHING else "Copied"
        return f"{verb} {self.progress.done_bytes // MIB} MiB"


def source_of(task: Task) -> dict[str, Any]:
    """The import method's name and arguments."""
    source: dict[str, Any] = task.notes.get("source") or task.input["import_req"]["method"]
    return source


def stores_of(task: Task) -> list[str]:
    """The stores that a task fills, in order."""
    stores: list[str] = task.notes.get("stores") or task.input.get("backend", [])
    return stores


def scratch_root(registry: Registry) -> Path:
    """Where tasks of this data folder keep files that no other process needs."""
    return registry.settings.data_path / "scratch"


def _make_empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
