"""Endpoints that bring data in by way of staging and tasks (API §9.3, §10, §18)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.responses import Response, StreamingResponse

from transom.api.call import Call, empty_response, json_response
from transom.api.image_data import announced_bytes, body_of, require_octets
from transom.api.views import moment_view, time_view
from transom.errors import PathNotFound, TransomError
from transom.images.stage import stage
from transom.images.track import cancel_image_task, image_tasks
from transom.imports import enabled_methods
from transom.imports.request import parsed
from transom.imports.start import start_import
from transom.model.task import Task

EVENT_SECONDS = 0.5
"""How often the catalog is asked while somebody follows an image."""

KEEPALIVE_SECONDS = 15.0


async def data_stage(call: Call) -> Response:
    """`PUT /v2/images/{image_id}/stage` (API §9.3)."""
    require_octets(call)
    if "glance-direct" not in enabled_methods(call.registry.settings):
        raise PathNotFound
    await stage(
        call.registry,
        call.actor,
        call.params["image_id"],
        body_of(call),
        size_bytes=announced_bytes(call),
    )
    return empty_response()


async def image_import(call: Call) -> Response:
    """`POST /v2/images/{image_id}/import` (API §10)."""
    body = await call.json_object()
    request = parsed(
        call.registry,
        body,
        enabled_methods(call.registry.settings),
        call.headers.get("x-image-meta-store"),
    )
    await start_import(
        call.registry, call.actor, call.params["image_id"], request, request_id=call.request_id
    )
    return empty_response(202)


async def image_task_list(call: Call) -> Response:
    """`GET /v2/images/{image_id}/tasks` (API §18)."""
    await call.refuse_body()
    tasks = await image_tasks(call.registry, call.actor, call.params["image_id"])
    return json_response({"tasks": [image_task_view(task) for task in tasks]})


async def image_task_cancel(call: Call) -> Response:
    """`POST /v2/images/{image_id}/tasks/{task_id}/cancel`: end a task of an image."""
    await call.refuse_body()
    await cancel_image_task(
        call.registry, call.actor, call.params["image_id"], call.params["task_id"]
    )
    return empty_response(202)


def image_task_view(task: Task) -> dict[str, Any]:
    """A task as the image's list shows it, with its progress (ours) at the end."""
    return {
        "id": task.id,
        "type": task.type,
        "status": task.status,
        "owner": task.owner,
        "expires_at": moment_view(task.expires_at),
        "created_at": moment_view(task.created_at),
        "updated_at": moment_view(task.updated_at),
        "deleted_at": None,
        "deleted": False,
        "image_id": task.image_id,
        "request_id": task.request_id,
        "user_id": task.user_id,
        "input": task.input,
        "result": task.result,
        "message": task.message,
        "progress": progress_view(task),
    }


def progress_view(task: Task) -> dict[str, Any]:
    """How far a task is."""
    progress = task.progress
    return {
        "phase": progress.phase,
        "percent": 100 if task.status == "success" else progress.percent,
        "done_bytes": progress.done_bytes,
        "total_bytes": progress.total_bytes,
        "bytes_per_second": progress.rate_bytes,
        "started_at": None if task.started_at is None else time_view(task.started_at),
        "updated_at": time_view(task.updated_at),
    }


async def image_events(call: Call) -> Response:
    """`GET /v2/images/{image_id}/events`: what happens to an image, as server-sent events."""
    await call.refuse_body()
    image_id = call.params["image_id"]
    # Before the stream begins, so that a foreign image is a plain 404.
    await image_tasks(call.registry, call.actor, image_id)
    return StreamingResponse(
        _events(call, image_id),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


async def _events(call: Call, image_id: str) -> AsyncIterator[bytes]:
    """An `image` event when its status changes, a `task` event when a task does, and an end when the
    image is gone or no longer the caller's to see."""
    registry, actor = call.registry, call.actor
    known: dict[str, bytes] = {}
    quiet_seconds = 0.0
    while True:
        try:
            tasks = await image_tasks(registry, actor, image_id)
            image = await registry.catalog.images.get(image_id, seen_by=actor)
        except TransomError as gone:
            yield _event("end", {"reason": str(gone)})
            return
        state = {"id": image.id, "status": image.status, "size": image.size}
        news = [("image", "image", state)]
        news += [
            (task.id, "task", {**image_task_view(task), "input": None}) for task in reversed(tasks)
        ]
        said = False
        for key, kind, value in news:
            encoded = _event(kind, value)
            if known.get(key) != encoded:
                known[key] = encoded
                said = True
                yield encoded
        quiet_seconds = 0.0 if said else quiet_seconds + EVENT_SECONDS
        if quiet_seconds >= KEEPALIVE_SECONDS:
            quiet_seconds = 0.0
            yield b": still here\n\n"
        await asyncio.sleep(EVENT_SECONDS)


def _event(kind: str, value: dict[str, Any]) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode(value) + b"\n\n"
