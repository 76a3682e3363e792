"""What a worker does with a task: take it up, take its steps, end it, clean up after it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil

import structlog

from transom.errors import (
    ImageNotFound,
    TaskCancelled,
    TaskLost,
    TaskNotFound,
    TransomError,
    UnknownStore,
)
from transom.events.payloads import task_notice
from transom.images.clock import now
from transom.imports import expiry
from transom.imports.kinds import open_kind
from transom.imports.run import Run, scratch_root, stores_of
from transom.metrics.table import TASKS_ENDED
from transom.model.event import Notice
from transom.model.task import Task, TaskObject
from transom.registry import Registry

_log = structlog.get_logger(__name__)


async def take_up(registry: Registry, task_id: str) -> Run | None:
    """The task for this process to work on; None when it has ended."""
    with registry.events.telling(lambda claimed, _: _begun(claimed), of_request=""):
        task = await registry.catalog.tasks.claim(task_id, registry.process_id, now())
    if task is None:
        return None
    kind = open_kind(task.type)
    run = Run(registry, task, kind.perform)
    if "steps" not in run.notes:
        await run.keep(steps=kind.steps_of(registry.settings, task))
    _log.info("task.taken_up", task_id=task.id, image_id=task.image_id, attempt=task.attempt)
    return run


def _begun(task: Task | None) -> list[Notice]:
    """That work on the task begins; once, however many processes take it up."""
    return [task_notice("task.processing", task)] if task is not None and task.attempt == 1 else []


async def give_up(run: Run, reason: str) -> None:
    """End the task as a failure: the image is as before, and says why. Raises TaskLost."""
    registry, task = run.registry, run.task
    with run.telling(run.ended):
        await registry.catalog.tasks.fail(
            task,
            stores=stores_of(task),
            message=reason,
            now=now(),
            expires_at=expiry(registry.settings, now()),
        )
    is_cancelled = reason == str(TaskCancelled(task.id))
    TASKS_ENDED.at(task.type, "cancelled" if is_cancelled else "failure").add()
    _log.info("task.failed", task_id=task.id, image_id=task.image_id, reason=reason)


async def end(registry: Registry, task_id: str, reason: str) -> None:
    """End a task as a failure that nobody works on; whoever does so after all has lost it."""
    task = await registry.catalog.tasks.claim(task_id, registry.process_id, now())
    if task is None:
        return
    try:
        await give_up(Run(registry, task, open_kind(task.type).perform), reason)
    except TaskLost:
        return
    await clear(registry, task_id)


async def has_ended(registry: Registry, task_id: str) -> bool:
    """True when there is nothing left to do for a task."""
    try:
        return (await registry.catalog.tasks.get(task_id)).has_ended
    except TaskNotFound:
        return True


async def drop_forgotten(run: Run) -> None:
    """Remove what an attempt that has lost its task wrote after the one that has it now had thrown
    it away: nobody else knows of it."""
    registry = run.registry
    # In this order: an object that is placed goes from the first to the second.
    known = {(each.store, each.key) for each in await registry.catalog.tasks.objects(run.task.id)}
    if run.task.image_id is not None:
        with contextlib.suppress(ImageNotFound):
            image = await registry.catalog.images.get(run.task.image_id, seen_by=None)
            known |= {(each.store, each.key) for each in image.locations}
    for store, key in run.made:
        if (store, key) not in known:
            await remove_object(
                registry, TaskObject(task_id=run.task.id, store=store, key=key, token="")
            )


async def clear(registry: Registry, task_id: str) -> None:
    """Remove the objects that a task which has ended leaves behind. What cannot be removed now is
    left to the sweep."""
    for each in await registry.catalog.tasks.objects(task_id):
        await remove_object(registry, each)


async def remove_object(registry: Registry, each: TaskObject) -> bool:
    """Remove an object that nobody needs; False when its store cannot do so now."""
    try:
        await registry.stores.find(each.store).delete(each.key)
    except UnknownStore as error:
        _log.warning("task.data_left", task_id=each.task_id, reason=str(error))
    except TransomError as error:
        _log.warning("task.clearing_delayed", task_id=each.task_id, reason=str(error))
        return False
    await registry.catalog.tasks.forget_object(each.store, each.key)
    return True


async def sweep_tasks(registry: Registry) -> int:
    """Remove objects of tasks that are over, scratch folders that nobody uses, and tasks whose time
    is over; gives how many things were removed."""
    removed = 0
    for each in await registry.catalog.tasks.useless_objects(limit=1000):
        removed += await remove_object(registry, each)
    removed += await registry.catalog.tasks.expire(now())
    root = scratch_root(registry)
    # In this order: what an attempt makes that begins meanwhile is not looked at.
    folders = list(root.iterdir()) if root.is_dir() else []
    running = {f"{task.id}.{task.attempt}" for task in await registry.catalog.tasks.unfinished()}
    for folder in folders:
        if folder.name not in running:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            removed += 1
    return removed
