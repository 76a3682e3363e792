"""Stage the data of an image: bring it in now, import it later (API §9.3)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import structlog

from transom.errors import StatusConflict
from transom.events.payloads import image_notice
from transom.images.change import refuse_anonymous
from transom.images.clock import now
from transom.images.intake import receive
from transom.images.upload import begun_intake, new_key, undo_intake
from transom.model.actor import Actor
from transom.model.image import Image, Status
from transom.model.task import Staged
from transom.registry import Registry

_log = structlog.get_logger(__name__)


async def stage(
    registry: Registry,
    actor: Actor,
    image_id: str,
    body: AsyncIterator[bytes],
    *,
    size_bytes: int | None = None,
) -> Image:
    """The image, `uploading`, after all of `body` is durable in the staging store.

    Neither digests nor the format are looked at yet: the import does, of what it stores.
    `size_bytes` is the announced length. Whatever fails, the image is queued again and nothing is
    left behind. Raises ImageNotFound, PolicyRefused, StatusConflict, SizeMismatch,
    IncompleteUpload, ImageTooLarge, QuotaExceeded, StoreFull, ImageDeletedMeanwhile,
    StoreUnavailable, StoreFailed.
    """
    refuse_anonymous(actor)
    image = await registry.catalog.images.get(image_id, seen_by=actor)
    registry.policy.check_image(actor, "modify_image", image)
    if image.status is not Status.QUEUED:
        raise StatusConflict(image_id, "stage data for", image.status)
    store = registry.stores.staging
    allowance = await registry.limits.allowance(image.owner)
    key = new_key(image_id)
    writer = store.writer(key, size_hint=size_bytes)
    with registry.events.telling(lambda begun, _: [image_notice("image.update", begun)]):
        beginning = registry.catalog.images.begin_intake(
            image_id,
            kind="uploading",
            store=store.name,
            key=key,
            token=writer.token,
            process_id=registry.process_id,
            limit=allowance.uploading,
        )
        image = await begun_intake(registry, store, image_id, key, beginning)
    try:
        async with writer:
            room = await registry.limits.room_for(
                registry.catalog, image, key, size_bytes, allowance
            )
            received = await receive(
                body,
                writer,
                size_bytes_max=registry.limits.image_size_bytes_max,
                size_bytes_expected=size_bytes,
                room=room,
            )
            await writer.commit()
        with registry.events.telling(lambda waiting, _: [image_notice("image.update", waiting)]):
            staged = await registry.catalog.tasks.finish_staging(
                Staged(
                    image_id=image_id,
                    store=store.name,
                    key=key,
                    size_bytes=received,
                    staged_at=now(),
                )
            )
    except BaseException as failure:
        _log.info("image.staging_failed", image_id=image_id, reason=str(failure) or repr(failure))
        await asyncio.shield(asyncio.ensure_future(undo_intake(registry, store, image_id, key)))
        raise
    _log.info("image.staged", image_id=image_id, size_bytes=received)
    return staged
