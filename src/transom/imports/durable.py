"""The library under the engine: DBOS, behind the few calls that are made of it (decision 0080).

Everything here blocks, so it is called in threads. The library keeps one engine per process.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import structlog

from transom.catalog.engine import parse_url
from transom.settings import Settings

_log = structlog.get_logger(__name__)

APPLICATION = "transom"
QUEUE = "tasks"
WORKFLOW = "transom.task"
VERSION = "1"
"""One for all releases: another would strand the workflows of the one before."""

SCHEMA = "transom_tasks"
POLL_SECONDS = 0.1
RECOVERIES_MAX = 1000
_BATCH = 500

_work: Callable[[str], None] | None = None
_is_registered = False


class Stopped(BaseException):
    """The process ends: the workflow is left as it is, for another one to go on with.

    Not an Exception, which the library would record as the workflow's end.
    """


class Held(NamedTuple):
    """How the library stands to a task."""

    status: str
    owner: str | None
    """The process that runs it, or did last."""

    @property
    def is_running(self) -> bool:
        """Some process has it."""
        return self.status == "PENDING"

    @property
    def is_in_hand(self) -> bool:
        """It waits or runs."""
        return self.status in ("PENDING", "ENQUEUED", "DELAYED")


def launch(settings: Settings, process_id: str, work: Callable[[str], None]) -> None:
    """Start the library: from now on it calls `work` with the id of each task, in threads."""
    global _work
    from dbos import DBOS

    _work = work
    url = system_database(settings)
    _prepare_file(url)
    _register_queue(url, settings.imports.tasks_max)
    DBOS(
        config={
            "name": APPLICATION,
            "system_database_url": url,
            "dbos_system_schema": SCHEMA,
            "application_version": VERSION,
            "executor_id": process_id,
            "use_listen_notify": False,
            "enable_otlp": False,
            "log_level": "ERROR",
            "sys_db_pool_size": settings.imports.tasks_max + 4,
            "max_executor_threads": settings.imports.tasks_max + 8,
        }
    )
    _relay_logs()
    _register()
    DBOS.launch()


def _register_queue(url: str, tasks_max: int) -> None:
    """Have the queue stand in the tables before the library starts: it looks for new queues but once
    a second, so the first task of a new deployment would wait for that."""
    from dbos import DBOS, DBOSClient

    DBOS.migrate(url, schema=SCHEMA)
    client = DBOSClient(
        system_database_url=url, dbos_system_schema=SCHEMA, application_name=APPLICATION
    )
    try:
        client.register_queue(
            QUEUE,
            worker_concurrency=tasks_max,
            polling_interval_sec=POLL_SECONDS,
            on_conflict="always_update",
        )
    finally:
        client.destroy()


def close() -> None:
    """Stop the library; what runs has to be stopped before."""
    global _work
    from dbos import DBOS

    DBOS.destroy(workflow_completion_timeout_sec=0)
    _work = None


def enqueue(task_id: str) -> None:
    """Tell the library of a task; one that it knows is no error."""
    from dbos import DBOS, SetWorkflowID

    with SetWorkflowID(task_id):
        DBOS.enqueue_workflow(QUEUE, globals()["_workflow"], task_id)


def states(task_ids: list[str]) -> dict[str, Held]:
    """How it stands to tasks, by their ids."""
    from dbos import DBOS

    found = DBOS.list_workflows(workflow_ids=task_ids, load_input=False, load_output=False)
    return {each.workflow_id: Held(each.status, each.executor_id) for each in found}


def let_go(task_id: str, owner: str) -> None:
    """Put a task into the queue again that its owner does not work on any more. Whoever is first
    takes it; nothing changes when it is not the owner's."""
    from dbos._dbos import _get_dbos_instance

    # Its public way takes up all that a process has, and revives what was cancelled.
    database = _get_dbos_instance()._sys_db  # noqa: SLF001 - the version is pinned, the kill tests watch
    database.reenqueue_for_recovery(task_id, [owner], QUEUE)


def forget(before: dt.datetime, living: set[str]) -> int:
    """Remove what the library keeps of tasks that it was told of before this time, except those
    that live; gives their number. It has no retention of its own."""
    from dbos import DBOS

    removed = 0
    while True:
        found = DBOS.list_workflows(
            end_time=before.isoformat(), limit=_BATCH, load_input=False, load_output=False
        )
        old = [each.workflow_id for each in found if each.workflow_id not in living]
        if old:
            DBOS.delete_workflows(old)
            removed += len(old)
        if not old or len(found) < _BATCH:
            return removed


def run_step(name: str, step: Callable[[], str | None]) -> str | None:
    """The step's result, from the record if it was taken before."""
    from dbos import DBOS

    return DBOS.run_step({"name": name}, step)


def system_database(settings: Settings) -> str:
    """Where the library keeps its tables: a schema of the catalog's own database on PostgreSQL, a
    file beside it with SQLite."""
    text = settings.database.url.replace("<data>", str(settings.data_path))
    url = parse_url(text)
    if url.get_backend_name() == "postgresql":
        return url.render_as_string(hide_password=False).replace(
            "postgresql+psycopg://", "postgresql://", 1
        )
    path = Path(url.database or "")
    return f"sqlite:///{path.with_name(f'{path.stem}-tasks{path.suffix}')}"


def _prepare_file(url: str) -> None:
    """Let readers and the writer of the library's file not wait for each other; steps are recorded
    several times as fast. The library leaves the file as it finds it."""
    database = parse_url(url)
    if database.get_backend_name() != "sqlite":
        return
    path = Path(database.database or "")
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")


def _register() -> None:
    global _is_registered
    if _is_registered:
        return
    from dbos import DBOS

    @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=RECOVERIES_MAX)
    def work(task_id: str) -> None:
        if _work is None:
            raise Stopped
        _work(task_id)

    globals()["_workflow"] = work
    _is_registered = True


class _Relay(logging.Handler):
    """Hands the library's errors to our log."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line, like all others."""
        _log.error("tasks.engine_failed", reason=record.getMessage(), exc_info=record.exc_info)


def _relay_logs() -> None:
    logger = logging.getLogger("dbos")
    for handler in [*logger.handlers]:
        logger.removeHandler(handler)
    logger.propagate = False
    logger.addHandler(_Relay())
