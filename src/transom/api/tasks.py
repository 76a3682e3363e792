"""Endpoints of tasks (API §17)."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from transom.api.call import Call, json_response
from transom.api.imports import progress_view
from transom.api.paging import choice, links, page_size
from transom.api.views import time_view
from transom.catalog.tasks import SORT_KEYS, TaskQuery
from transom.errors import MethodNotAllowed
from transom.images.track import list_tasks, permit_tasks, show_task
from transom.imports.legacy import start_task
from transom.model.task import Task, TaskStatus, TaskType


async def task_list(call: Call) -> Response:
    """`GET /v2/tasks`."""
    await call.refuse_body()
    query = _query(call)
    tasks = await list_tasks(call.registry, call.actor, query) if query.limit else []
    is_full = bool(tasks) and len(tasks) == query.limit
    return json_response(
        {
            "tasks": [task_view(task, is_stub=True) for task in tasks],
            **links("/v2/tasks", call.query, tasks[-1].id if is_full else None),
            "schema": "/v2/schemas/tasks",
        }
    )


async def task_create(call: Call) -> Response:
    """`POST /v2/tasks`."""
    body = await call.json_object()
    task = await start_task(call.registry, call.actor, body, request_id=call.request_id)
    location = f"{call.base_url}/v2/tasks/{task.id}"
    return json_response(task_view(task), 201, {"location": location})


async def task_show(call: Call) -> Response:
    """`GET /v2/tasks/{task_id}`."""
    await call.refuse_body()
    return json_response(
        task_view(await show_task(call.registry, call.actor, call.params["task_id"]))
    )


async def task_delete(call: Call) -> Response:
    """`DELETE /v2/tasks/{task_id}`: refused, because tasks expire by themselves."""
    permit_tasks(call.registry, call.actor)
    raise MethodNotAllowed("DELETE", ("GET",))


def task_view(task: Task, *, is_stub: bool = False) -> dict[str, Any]:
    """A task; a stub in lists."""
    view: dict[str, Any] = {
        "id": task.id,
        "type": task.type,
        "status": task.status,
        "owner": task.owner,
        "created_at": time_view(task.created_at),
        "updated_at": time_view(task.updated_at),
        "self": f"/v2/tasks/{task.id}",
        "schema": "/v2/schemas/task",
    }
    view |= {
        name: getattr(task, name)
        for name in ("image_id", "request_id", "user_id")
        if getattr(task, name) is not None
    }
    if task.expires_at is not None:
        view["expires_at"] = time_view(task.expires_at)
    if not is_stub:
        view |= {"input": task.input, "result": task.result, "message": task.message}
        view["progress"] = progress_view(task)
    return view


def _query(call: Call) -> TaskQuery:
    asked = dict(call.query)
    return TaskQuery(
        owner=None if call.actor.is_admin else (call.actor.project_id or ""),
        status=choice(asked, "status", tuple(TaskStatus)),
        type=choice(asked, "type", tuple(TaskType)),
        limit=page_size(asked.get("limit"), call.registry.settings.limits),
        marker=asked.get("marker"),
        sort_key=choice(asked, "sort_key", SORT_KEYS) or "created_at",
        is_descending=choice(asked, "sort_dir", ("asc", "desc")) != "asc",
    )
