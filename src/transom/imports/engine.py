"""The durable engine under tasks: DBOS, on the catalog's own database (decision 0080).

A task is one workflow; each of its steps is recorded when it is done, and never taken again. Which
tasks there are is the catalog's word: the engine is told of each, again and again until it has it,
so that nothing is lost between the two. The work itself runs on the event loop of the process;
the engine's threads only wait for it. What keeps a task from being stranded is decision 0081.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import datetime as dt
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import structlog

from transom.errors import CatalogUnavailable, TaskCancelled, TaskLost
from transom.images.clock import now
from transom.images.sweep import living_processes
from transom.imports import durable
from transom.imports.durable import Held, Stopped
from transom.imports.run import PAUSE_SECONDS_MAX, UNEXPECTED, Run
from transom.imports.work import clear, drop_forgotten, end, give_up, has_ended, take_up
from transom.metrics.table import (
    TASKS_ADOPTED,
    TASKS_OLDEST,
    TASKS_RUNNING,
    TASKS_WAITING,
)
from transom.model.task import Task
from transom.registry import Registry
from transom.telemetry import outlived

_log = structlog.get_logger(__name__)
T = TypeVar("T")

TICK_SECONDS = 1.0
SETTLED_SECONDS = 15.0
"""How long a workflow may have ended before its task does."""
STRAY_SECONDS = 5.0
"""How long the library may say that this process runs a task which it does not run."""
IDLE_SECONDS = 60.0
"""After so long without a task the library is closed: its polling costs a few per cent of a core."""
FORGET_SECONDS = 600.0
"""How often what the library keeps of old tasks is removed."""
STOP_SECONDS = 10.0
"""How long steps may take to let go when the process ends."""


class _Lost(Stopped):
    """Another attempt has the task, or it has ended. Recorded as the step's end it would end the
    attempt of whoever has the task now."""


class Engine:
    """Works on the tasks of the catalog, as long as it is started."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_launched = False
        self._is_stopping = False
        self._work: set[asyncio.Task[Any]] = set()
        self._minding: asyncio.Task[None] | None = None
        self._changing: asyncio.Future[None] | None = None
        self._running: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._strays: dict[str, float] = {}
        self._busy_at = 0.0
        self._forgot_at = 0.0
        TASKS_RUNNING.watch(self._count_running)

    async def start(self) -> None:
        """Begin to look for tasks. The library itself is launched when there is the first one, so
        that a service without tasks pays nothing for it."""
        self._loop = asyncio.get_running_loop()
        self._minding = asyncio.create_task(self._mind(), name="tasks")

    async def stop(self) -> None:
        """Stop all work where it is. Other processes, or the next start, go on from there."""
        self._is_stopping = True
        if self._minding is not None:
            self._minding.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._minding
        work = set(self._work)
        for each in work:
            each.cancel()
        if work:
            # What they write is let go of before the stores are closed.
            await asyncio.wait(work, timeout=STOP_SECONDS)
        if self._changing is not None:
            await asyncio.wait([self._changing])
        if self._is_launched:
            await asyncio.to_thread(self._close)

    def works_on(self, task_id: str) -> bool:
        """True while this process runs the task."""
        with self._lock:
            return self._running[task_id] > 0

    def _count_running(self) -> int:
        with self._lock:
            return self._running.total()

    # --- which tasks there are ----------------------------------------------------------------

    async def _mind(self) -> None:
        waits = self._registry.work_waits
        while True:
            with outlived("tasks.not_minded"):
                await self._tick()
            # Not `wait_for`: before Python 3.12 that loses a cancellation which comes with the wake.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await waits.wait()
            waits.clear()

    async def _tick(self) -> None:
        tasks = await self._registry.catalog.tasks.unfinished()
        oldest = min((task.created_at for task in tasks), default=None)
        TASKS_OLDEST.at().set(0 if oldest is None else (now() - oldest).total_seconds())
        if not tasks:
            TASKS_WAITING.at().set(0)
            await self._rest()
            return
        self._busy_at = time.monotonic()
        if not self._is_launched:
            await self._change(self._launch)
        held = await asyncio.to_thread(durable.states, [task.id for task in tasks])
        running = sum(each.is_running for each in held.values())
        TASKS_WAITING.at().set(len(tasks) - running)
        for task in tasks:
            await self._mind_one(task, held.get(task.id))
        self._strays = {id_: at for id_, at in self._strays.items() if id_ in held}
        await self._adopt({task_id: each for task_id, each in held.items() if each.is_running})
        await self._forget({task.id for task in tasks})

    async def _mind_one(self, task: Task, held: Held | None) -> None:
        if task.is_cancelled and not (held is not None and held.is_running):
            # Nobody works on it, so nobody else would notice.
            await end(self._registry, task.id, str(TaskCancelled(task.id)))
        elif held is None:
            await asyncio.to_thread(durable.enqueue, task.id)
        elif not held.is_in_hand:
            await self._mend(task)

    async def _adopt(self, running: dict[str, Held]) -> None:
        """Let go of tasks whose process is gone, or is this one and does not work on them."""
        mine = self._registry.process_id
        await self._let_strays_go(
            {task_id for task_id, held in running.items() if held.owner == mine}
        )
        others = {task_id: held.owner for task_id, held in running.items() if held.owner != mine}
        if not others:
            return
        living = await living_processes(self._registry)
        for task_id, owner in others.items():
            if owner is not None and owner not in living:
                TASKS_ADOPTED.at().add()
                _log.info("task.adopted", task_id=task_id, from_process=owner)
                await asyncio.to_thread(durable.let_go, task_id, owner)

    async def _let_strays_go(self, mine: set[str]) -> None:
        moment = time.monotonic()
        for task_id in mine:
            if self.works_on(task_id):
                self._strays.pop(task_id, None)
            elif moment - self._strays.setdefault(task_id, moment) >= STRAY_SECONDS:
                _log.warning("task.stray", task_id=task_id)
                del self._strays[task_id]
                await asyncio.to_thread(durable.let_go, task_id, self._registry.process_id)

    async def _mend(self, task: Task) -> None:
        """End a task whose workflow ended without it."""
        if (now() - task.updated_at).total_seconds() < SETTLED_SECONDS:
            return
        # Another process may have ended it since the tasks were read: a launch takes its time.
        if not await has_ended(self._registry, task.id):
            _log.error("task.stranded", task_id=task.id)
            await end(self._registry, task.id, UNEXPECTED)

    async def _rest(self) -> None:
        """Close the library when there has been nothing to do for a while."""
        if not self._is_launched or time.monotonic() - self._busy_at < IDLE_SECONDS:
            return
        with self._lock:
            if self._running.total():
                return
        await self._forget(set())
        await self._change(self._close)
        _log.info("tasks.engine_rests")

    async def _forget(self, living: set[str]) -> None:
        moment = time.monotonic()
        if self._forgot_at and moment - self._forgot_at < FORGET_SECONDS:
            return
        self._forgot_at = moment
        before = now() - dt.timedelta(hours=self._registry.settings.imports.task_hours)
        await asyncio.to_thread(durable.forget, before, living)

    # --- the work -----------------------------------------------------------------------------

    async def _change(self, change: Callable[[], None]) -> None:
        # A stop waits for it: half launched, the library could not be closed.
        self._changing = asyncio.ensure_future(asyncio.to_thread(change))
        await asyncio.shield(self._changing)

    def _close(self) -> None:
        durable.close()
        self._is_launched = False

    def _launch(self) -> None:
        durable.launch(self._registry.settings, self._registry.process_id, self.work)
        self._is_launched = True
        _log.info("tasks.engine_launched")

    def work(self, task_id: str) -> None:
        """The workflow: runs in a thread of the library, again after every crash."""
        with self._lock:
            self._running[task_id] += 1
        try:
            self._work_on(task_id)
        finally:
            with self._lock:
                self._running[task_id] -= 1
                self._running += Counter()

    def _work_on(self, task_id: str) -> None:
        registry = self._registry
        run = self._on_loop(lambda: take_up(registry, task_id))
        if run is None:
            self._on_loop(lambda: clear(registry, task_id))
            return
        try:
            self._take_steps(run)
        except _Lost:
            self._on_loop(lambda: drop_forgotten(run))
            if not self._on_loop(lambda: has_ended(registry, task_id)):
                raise Stopped from None
        finally:
            run.close()
        self._on_loop(lambda: clear(registry, task_id))

    def _take_steps(self, run: Run) -> None:
        for step in run.notes["steps"]:
            reason = durable.run_step(step, partial(self._on_loop, partial(run.do, step)))
            if reason is not None:
                durable.run_step("give up", partial(self._on_loop, partial(give_up, run, reason)))
                return

    def _on_loop(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of work that is done on the process's own event loop, when the database is
        there to do it. Raises Stopped when the process ends, _Lost when it has lost the task."""
        loop = self._loop
        if loop is None or self._is_stopping or not loop.is_running():
            raise Stopped
        # The future ends when the work has ended, also when that is cancelled.
        future = asyncio.run_coroutine_threadsafe(self._tracked(work), loop)
        try:
            return future.result()
        except TaskLost as lost:
            _log.warning("task.lost", reason=str(lost))
            raise _Lost from None
        except (concurrent.futures.CancelledError, asyncio.CancelledError) as stopped:
            raise Stopped from stopped

    async def _tracked(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if self._is_stopping:
            raise asyncio.CancelledError
        task = asyncio.current_task()
        assert task is not None
        self._work.add(task)
        try:
            return await _patiently(work)
        finally:
            self._work.discard(task)


async def _patiently(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    pause = 0.2
    while True:
        try:
            return await work()
        except CatalogUnavailable as away:
            _log.warning("tasks.wait", reason=str(away))
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSE_SECONDS_MAX)
