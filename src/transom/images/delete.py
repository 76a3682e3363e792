"""Delete an image: the record first goes out of sight, then its data goes (API §8)."""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from transom.catalog.outbox import Look
from transom.errors import ImageProtected, TransomError, UnknownStore
from transom.events.payloads import image_notice
from transom.images.caching import forget_cached
from transom.images.change import refuse_anonymous
from transom.images.clock import now
from transom.model.actor import Actor
from transom.model.event import Notice
from transom.model.image import Image
from transom.model.task import Staged
from transom.registry import Registry

_log = structlog.get_logger(__name__)


async def delete(registry: Registry, actor: Actor, image_id: str) -> None:
    """Delete the image and its data; its id is never used again.

    When a store refuses, the image is put back as it was and the store's error is raised. When the
    process dies in between, the image stays deleted and the sweep removes the data.
    Raises ImageNotFound, PolicyRefused, ImageProtected, ImageInUse, StoreRefused, StoreUnavailable,
    StoreFailed.
    """
    refuse_anonymous(actor)
    image = await registry.catalog.images.get(image_id, seen_by=actor)
    registry.policy.check_image(actor, "delete_image", image)
    if image.protected:
        raise ImageProtected(image_id)
    delayed = registry.settings.delete.delayed
    staged = await registry.catalog.tasks.staged(image_id)
    with registry.events.telling(_gone):
        before = await registry.catalog.images.delete(image_id, now=now(), delayed=delayed)
    _log.info("image.deleted", image_id=image_id, delayed=delayed)
    if staged is not None:
        await asyncio.shield(_remove_staged(registry, staged))
    await forget_cached(registry, image_id)
    if not delayed:
        await asyncio.shield(_remove_data(registry, before))


def _gone(before: Image, look: Look) -> list[Notice]:
    """The image as it was, and that it is deleted."""
    after = look.image(before.id)
    if after is None:
        return []
    told = msgspec.structs.replace(
        before, status=after.status, updated_at=after.updated_at, deleted_at=after.deleted_at
    )
    return [image_notice("image.delete", told)]


async def _remove_staged(registry: Registry, staged: Staged) -> None:
    """Remove data that no import took. What cannot be removed now is left to the sweep."""
    try:
        await registry.stores.find(staged.store).delete(staged.key)
    except TransomError as error:
        _log.warning("image.staged_data_left", image_id=staged.image_id, reason=str(error))
    else:
        await registry.catalog.tasks.forget_object(staged.store, staged.key)


async def _remove_data(registry: Registry, image: Image) -> None:
    for location in image.locations:
        try:
            await registry.stores.get(location.store).delete(location.key)
        except UnknownStore:
            _log.warning(
                "image.data_left",
                image_id=image.id,
                store=location.store,
                reason="the store is not configured any more; remove the object by hand",
            )
        except TransomError:
            with registry.events.telling(lambda again, _: [image_notice("image.update", again)]):
                await registry.catalog.images.restore(image)
            raise
        await registry.catalog.images.data_removed(image.id, location.key)
