"""Start an import: check it, lock the image, leave the rest to a task (API §10)."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
import structlog

from transom.errors import FormatsUnset, StatusConflict
from transom.events.payloads import image_notice, task_notice
from transom.images.change import refuse_anonymous
from transom.images.clock import now
from transom.imports import open_method
from transom.imports.plugins import target_format
from transom.imports.request import ImportRequest, missing_stores
from transom.model.actor import Actor
from transom.model.image import Image, Status
from transom.model.task import Task, TaskType
from transom.registry import Registry
from transom.signatures import is_signed

_log = structlog.get_logger(__name__)


async def start_import(
    registry: Registry, actor: Actor, image_id: str, request: ImportRequest, *, request_id: str
) -> Task | None:
    """The task that brings the data in, remembered together with the image's change; None when
    there is nothing to do, because every store holds the image already.

    Raises ImageNotFound, PolicyRefused, StatusConflict, FormatsUnset, ImageLocked, NothingStaged,
    InvalidBody, UrlRefused, StoresDisagree, QuotaExceeded, IdentityUnavailable.
    """
    refuse_anonymous(actor)
    method = open_method(request.method)
    image = await registry.catalog.images.get(image_id, seen_by=actor)
    registry.policy.check_image(actor, method.action, image)
    if image.status is not method.needs:
        raise StatusConflict(image_id, f"import data by {method.name} into", image.status)
    if method.needs_formats and (image.disk_format is None or image.container_format is None):
        raise FormatsUnset(image_id)
    method.check(registry, request, image)
    copies = method.needs is Status.ACTIVE
    stores = missing_stores(registry, request, image) if copies else request.stores
    if not stores:
        return None
    if not copies:
        # One image has one format, so stores that want different ones are refused now.
        target_format(registry.settings, stores)
    allowance = await registry.limits.allowance(image.owner)
    moment = now()
    task = Task(
        id=str(uuid.uuid4()),
        type=TaskType.API_IMAGE_IMPORT,
        owner=actor.project_id,
        user_id=actor.user_id,
        request_id=request_id,
        image_id=image_id,
        input={"image_id": image_id, "import_req": request.body, "backend": list(stores)},
        created_at=moment,
        updated_at=moment,
        notes=await _notes(registry, actor, image, request),
    )
    with registry.events.telling(
        lambda taken, _: [
            task_notice("task.create", task),
            image_notice("image.update", taken),
            task_notice("task.run", task),
        ]
    ):
        await registry.catalog.tasks.begin_import(
            task,
            stores=stores,
            from_status=method.needs,
            needs_formats=method.needs_formats,
            uploading=allowance.uploading,
            adds=allowance.stored,
        )
    registry.work_waits.set()
    _log.info("import.started", image_id=image_id, task_id=task.id, method=method.name)
    return task


async def _notes(
    registry: Registry, actor: Actor, image: Image, request: ImportRequest
) -> dict[str, Any]:
    notes: dict[str, Any] = {
        "roles": sorted(actor.roles),
        "expected": request.expected,
        "must_succeed": request.must_succeed,
    }
    is_verified = registry.signatures.needs_token and is_signed(image.properties)
    if request.method == "glance-download" or is_verified:
        # The other Glance, or the key manager, is asked in the caller's name. Gone as soon as the task has ended.
        notes["token"] = actor.token
    if request.method == "glance-direct":
        staged = await registry.catalog.tasks.staged(image.id)
        if staged is not None:
            notes["staged"] = msgspec.to_builtins(staged)
    return notes
