"""Tasks as the tasks API makes them: an image from a URL (API §17)."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
import structlog

from transom.errors import DuplicateImage, InvalidBody, UrlRefused
from transom.events.payloads import image_notice, task_notice
from transom.images.clock import now
from transom.images.create import create
from transom.images.track import permit_tasks
from transom.imports import expiry
from transom.imports.run import Run, stores_of
from transom.model.actor import Actor
from transom.model.task import Task, TaskStatus, TaskType
from transom.registry import Registry
from transom.remote.guard import Guard

_log = structlog.get_logger(__name__)
_KEYS = ("import_from", "import_from_format", "image_properties")


async def start_task(
    registry: Registry, actor: Actor, body: dict[str, Any], *, request_id: str
) -> Task:
    """The task that a client asked for. Only the type `import` is for clients: one of another type
    is made, and has failed. Raises PolicyRefused, InvalidBody, UrlRefused."""
    permit_tasks(registry, actor)
    kind, given = _taken_apart(body)
    moment = now()
    task = Task(
        id=str(uuid.uuid4()),
        type=kind,
        owner=actor.project_id,
        user_id=actor.user_id,
        request_id=request_id,
        input=given,
        created_at=moment,
        updated_at=moment,
    )
    if kind is TaskType.IMPORT:
        _check(registry, given)
        notes = {
            "caller": _caller(actor),
            "roles": sorted(actor.roles),
            "image_id": str(uuid.uuid4()),
            "source": {"name": "web-download", "uri": given["import_from"]},
            "stores": [registry.stores.default],
        }
        task = msgspec.structs.replace(task, notes=notes)
        with registry.events.telling(
            lambda _, __: [task_notice("task.create", task), task_notice("task.run", task)]
        ):
            await registry.catalog.tasks.create(task)
        registry.work_waits.set()
        _log.info("task.started", task_id=task.id, type=kind)
        return task
    # What the answer shows is what every client of Glance reads: a new task waits.
    failed = msgspec.structs.replace(
        task,
        status=TaskStatus.FAILURE,
        message=f"Tasks of type {kind} belong to calls on images; use those instead.",
        expires_at=expiry(registry.settings, moment),
    )
    with registry.events.telling(
        lambda _, __: [task_notice("task.create", task), task_notice("task.failure", failed)]
    ):
        await registry.catalog.tasks.create(failed)
    return task


def _taken_apart(body: dict[str, Any]) -> tuple[TaskType, dict[str, Any]]:
    unknown = sorted(set(body) - {"type", "input"})
    if unknown:
        raise InvalidBody(f"A task has a type and an input; leave out {', '.join(unknown)}.")
    kind, given = body.get("type"), body.get("input")
    if kind not in list(TaskType):
        raise InvalidBody(f"The body needs 'type', one of {', '.join(TaskType)}.")
    if not isinstance(given, dict):
        raise InvalidBody("The body needs 'input', an object.")
    return TaskType(kind), given


def _check(registry: Registry, given: dict[str, Any]) -> None:
    for name in _KEYS:
        if name not in given:
            raise InvalidBody(f"Input does not contain '{name}' field; it is required.")
    url, disk_format, properties = (given[name] for name in _KEYS)
    if not isinstance(url, str) or not isinstance(disk_format, str):
        raise InvalidBody("'import_from' and 'import_from_format' must be texts.")
    if not isinstance(properties, dict):
        raise InvalidBody("'image_properties' must be an object.")
    if not url.lower().startswith(("http://", "https://")):
        raise UrlRefused
    Guard.open(registry.settings).check(url)


def _caller(actor: Actor) -> dict[str, Any]:
    """Who the caller is, without the token."""
    caller: dict[str, Any] = msgspec.to_builtins(
        msgspec.structs.replace(actor, token=None, expires_at=None)
    )
    return caller


async def create_image(run: Run) -> None:
    """The image that the task is to fill; made once, however often the step is taken."""
    given = run.task.input
    attributes = {
        "container_format": "bare",
        **given["image_properties"],
        "disk_format": given["import_from_format"],
        "id": run.notes["image_id"],
    }
    actor = msgspec.convert(run.notes["caller"], Actor, strict=False)
    try:
        await create(run.registry, actor, attributes)
    except DuplicateImage:
        _log.info("task.image_made_before", task_id=run.task.id)
    with run.telling(lambda taken, _: [image_notice("image.update", taken)]):
        image = await run.registry.catalog.tasks.take_image(
            run.task, attributes["id"], stores=stores_of(run.task)
        )
    run.task = msgspec.structs.replace(run.task, image_id=image.id)
