"""Show and cancel tasks: those of an image, and all of them (API §17, §18)."""

from __future__ import annotations

from transom.catalog.tasks import TaskQuery
from transom.errors import TaskNotFound
from transom.images.change import refuse_anonymous
from transom.images.clock import now
from transom.model.actor import Actor
from transom.model.image import Image
from transom.model.task import Task
from transom.registry import Registry


async def image_tasks(registry: Registry, actor: Actor, image_id: str) -> list[Task]:
    """The tasks of an image: all for an administrator, else those of the caller's project. Raises
    ImageNotFound, PolicyRefused."""
    image = await registry.catalog.images.get(image_id, seen_by=actor)
    registry.policy.check_image(actor, "get_image", image)
    return await _of_image(registry, actor, image)


async def _of_image(registry: Registry, actor: Actor, image: Image) -> list[Task]:
    query = TaskQuery(
        image_id=image.id,
        owner=None if actor.is_admin else (actor.project_id or ""),
        limit=registry.settings.limits.page_size_max,
    )
    return await registry.catalog.tasks.page(query)


def permit_tasks(registry: Registry, actor: Actor) -> None:
    """Raise PolicyRefused unless the caller may use the tasks API."""
    registry.policy.check(actor, "tasks_api_access", {"project_id": actor.project_id})


async def list_tasks(registry: Registry, actor: Actor, query: TaskQuery) -> list[Task]:
    """One page of tasks. Raises PolicyRefused, InvalidTaskMarker."""
    permit_tasks(registry, actor)
    return await registry.catalog.tasks.page(query)


async def show_task(registry: Registry, actor: Actor, task_id: str) -> Task:
    """One task that has not expired. Raises PolicyRefused, TaskNotFound."""
    permit_tasks(registry, actor)
    task = await registry.catalog.tasks.get(task_id)
    if task.expires_at is not None and task.expires_at <= now():
        raise TaskNotFound(task_id)
    return task


async def cancel_image_task(registry: Registry, actor: Actor, image_id: str, task_id: str) -> None:
    """Ask for the end of a task of an image; one that has ended stays as it is. Whoever may change
    the image may. Raises ImageNotFound, PolicyRefused, TaskNotFound."""
    refuse_anonymous(actor)
    image = await registry.catalog.images.get(image_id, seen_by=actor)
    registry.policy.check_image(actor, "modify_image", image)
    task = await registry.catalog.tasks.get(task_id)
    if task.image_id != image.id:
        raise TaskNotFound(task_id)
    await registry.catalog.tasks.cancel(task_id)
    registry.work_waits.set()
