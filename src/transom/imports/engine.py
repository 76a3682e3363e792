"""The durable engine under tasks: DBOS, on the catalog's own database (decision 0080).

A task is one workflow; each of its steps is recorded when it is done, and never taken again. Which
tasks there are is the catalog's word: the engine is told of each, again and again until it has it,
so that nothing is lost between the two. The work itself runs on the event loop of the process;
the engine's threads only wait for it.

The library keeps one engine per process, and so does this module.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import structlog

from transom.catalog.engine import parse_url
from transom.errors import CatalogUnavailable, TaskLost, TransomError
from transom.images.clock import now
from transom.images.sweep import dead_processes
from transom.imports.run import PAUSE_SECONDS_MAX, UNEXPECTED, Run
from transom.imports.work import clear, give_up, take_up
from transom.model.task import Task
from transom.registry import Registry
from transom.settings import Settings

_log = structlog.get_logger(__name__)
T = TypeVar("T")

QUEUE = "tasks"
WORKFLOW = "transom.task"
VERSION = "1"
"""One for all releases: another would strand the workflows of the one before."""

SCHEMA = "transom_tasks"
TICK_SECONDS = 1.0
POLL_SECONDS = 0.1
SETTLED_SECONDS = 15.0
"""How long a workflow may have ended before its task does."""
RECOVERIES_MAX = 1000
_IN_HAND = frozenset({"PENDING", "ENQUEUED", "DELAYED"})


class Stopped(BaseException):
    """The process ends: the workflow is left as it is, for another one to go on with.

    Not an Exception, which the engine would record as the workflow's end.
    """


class Engine:
    """Works on the tasks of the catalog, as long as it is started."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_launched = False
        self._is_stopping = False
        self._running: set[concurrent.futures.Future[Any]] = set()
        self._minding: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to look for tasks. The engine itself is launched when there is the first one, so
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
        for future in list(self._running):
            future.cancel()
        if self._is_launched:
            await asyncio.to_thread(_close)

    # --- which tasks there are ----------------------------------------------------------------

    async def _mind(self) -> None:
        waits = self._registry.work_waits
        while True:
            try:
                await self._tick()
            except TransomError as error:
                _log.warning("tasks.not_minded", reason=str(error))
            except Exception:  # noqa: BLE001 - the library's own; the next round tries again
                _log.exception("tasks.not_minded")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(waits.wait(), TICK_SECONDS)
            waits.clear()

    async def _tick(self) -> None:
        tasks = await self._registry.catalog.tasks.unfinished()
        if not tasks:
            return
        if not self._is_launched:
            await asyncio.to_thread(self._launch)
        states = await asyncio.to_thread(_states, [task.id for task in tasks])
        for task in tasks:
            state = states.get(task.id)
            if state is None:
                await asyncio.to_thread(_enqueue, task.id)
            elif state[0] not in _IN_HAND:
                await self._mend(task)
        owners = {owner for status, owner in states.values() if status == "PENDING" and owner}
        if owners - {self._registry.process_id}:
            await self._adopt(owners)

    async def _adopt(self, owners: set[str]) -> None:
        """Take up what processes that are gone were working on."""
        leases = {lease.id for lease in await self._registry.catalog.processes.list()}
        living = leases - set(await dead_processes(self._registry)) | {self._registry.process_id}
        gone = sorted(owners - living)
        if gone:
            _log.info("tasks.adopted", processes=gone)
            await asyncio.to_thread(_recover, gone)

    async def _mend(self, task: Task) -> None:
        """End a task whose workflow ended without it."""
        if (now() - task.updated_at).total_seconds() < SETTLED_SECONDS:
            return
        run = await take_up(self._registry, task.id)
        if run is not None:
            _log.error("task.stranded", task_id=task.id)
            await give_up(run, UNEXPECTED)
            await clear(self._registry, task.id)

    # --- the library ----------------------------------------------------------------------------

    def _launch(self) -> None:
        global _engine
        from dbos import DBOS

        settings = self._registry.settings
        _engine = self
        _write_ahead(system_database(settings))
        logging.getLogger("dbos").setLevel(logging.ERROR)
        DBOS(
            config={
                "name": "transom",
                "system_database_url": system_database(settings),
                "dbos_system_schema": SCHEMA,
                "application_version": VERSION,
                "executor_id": self._registry.process_id,
                "use_listen_notify": False,
                "enable_otlp": False,
                "log_level": "ERROR",
                "sys_db_pool_size": settings.imports.tasks_max + 4,
                "max_executor_threads": settings.imports.tasks_max + 8,
            }
        )
        _register()
        DBOS.launch()
        DBOS.register_queue(
            QUEUE,
            worker_concurrency=settings.imports.tasks_max,
            polling_interval_sec=POLL_SECONDS,
            on_conflict="always_update",
        )
        self._is_launched = True
        _log.info("tasks.engine_launched")

    def work(self, task_id: str) -> None:
        """The workflow: runs in a thread of the engine, again after every crash."""
        from dbos import DBOS

        registry = self._registry
        run = self._on_loop(lambda: take_up(registry, task_id))
        if run is None:
            self._on_loop(lambda: clear(registry, task_id))
            return
        try:
            for step in run.notes["steps"]:
                reason = DBOS.run_step({"name": step}, self._take, run, step)
                if reason is not None:
                    DBOS.run_step({"name": "give up"}, self._give_up, run, reason)
                    break
            self._on_loop(lambda: clear(registry, task_id))
        finally:
            if not self._is_stopping:
                self._on_loop(run.close)

    def _take(self, run: Run, step: str) -> str | None:
        return self._on_loop(lambda: run.do(step))

    def _give_up(self, run: Run, reason: str) -> None:
        self._on_loop(lambda: give_up(run, reason))

    def _on_loop(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of work that is done on the process's own event loop, when the database is
        there to do it. Raises Stopped when the process ends or has lost the task."""
        loop = self._loop
        if loop is None or self._is_stopping or not loop.is_running():
            raise Stopped
        future = asyncio.run_coroutine_threadsafe(_patiently(work), loop)
        self._running.add(future)
        try:
            return future.result()
        except TaskLost as lost:
            # Recorded as the step's end it would end the attempt of whoever has the task now.
            _log.warning("task.lost", reason=str(lost))
            raise Stopped from lost
        except (concurrent.futures.CancelledError, asyncio.CancelledError) as stopped:
            raise Stopped from stopped
        finally:
            self._running.discard(future)


_engine: Engine | None = None
_is_registered = False


async def _patiently(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    pause = 0.2
    while True:
        try:
            return await work()
        except CatalogUnavailable as away:
            _log.warning("tasks.wait", reason=str(away))
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSE_SECONDS_MAX)


def system_database(settings: Settings) -> str:
    """Where the engine keeps its tables: a schema of the catalog's own database on PostgreSQL, a
    file beside it with SQLite."""
    text = settings.database.url.replace("<data>", str(settings.data_path))
    url = parse_url(text)
    if url.get_backend_name() == "postgresql":
        return url.render_as_string(hide_password=False).replace(
            "postgresql+psycopg://", "postgresql://", 1
        )
    path = Path(url.database or "")
    return f"sqlite:///{path.with_name(f'{path.stem}-tasks{path.suffix}')}"


def _write_ahead(url: str) -> None:
    """Let readers and the writer of the engine's file not wait for each other; steps are recorded
    several times as fast. The library leaves the file as it finds it."""
    database = parse_url(url)
    if database.get_backend_name() == "sqlite":
        with contextlib.closing(sqlite3.connect(database.database or "")) as connection:
            connection.execute("PRAGMA journal_mode = WAL")


def _register() -> None:
    global _is_registered
    if _is_registered:
        return
    from dbos import DBOS

    @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=RECOVERIES_MAX)
    def work(task_id: str) -> None:
        if _engine is None:
            raise Stopped
        _engine.work(task_id)

    globals()["_workflow"] = work
    _is_registered = True


def _enqueue(task_id: str) -> None:
    from dbos import DBOS, SetWorkflowID

    with SetWorkflowID(task_id):
        DBOS.enqueue_workflow(QUEUE, globals()["_workflow"], task_id)


def _states(task_ids: list[str]) -> dict[str, tuple[str, str | None]]:
    """Status and owner of the workflows of tasks."""
    from dbos import DBOS

    found = DBOS.list_workflows(workflow_ids=task_ids, load_input=False, load_output=False)
    return {each.workflow_id: (each.status, each.executor_id) for each in found}


def _recover(process_ids: list[str]) -> None:
    from dbos import DBOS

    DBOS._recover_pending_workflows(process_ids)  # noqa: SLF001 - the only way to adopt, pinned


def _close() -> None:
    global _engine
    from dbos import DBOS

    DBOS.destroy(workflow_completion_timeout_sec=0)
    _engine = None
