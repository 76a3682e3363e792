"""Remove the data of an image from one store; it stays in the others (API §14)."""

from __future__ import annotations

import asyncio

import structlog

from transom.errors import (
    ImageChanged,
    LastLocation,
    LocationNotFound,
    StatusConflict,
    StoreNotEnabled,
    TransomError,
)
from transom.events.payloads import image_notice
from transom.images.change import refuse_anonymous
from transom.images.clock import now
from transom.model.actor import Actor
from transom.model.image import Image, Location, Status
from transom.registry import Registry

_log = structlog.get_logger(__name__)
_TRIES = 20


async def withdraw(registry: Registry, actor: Actor, image_id: str, store_name: str) -> None:
    """Take what the store holds off the image, then remove its data; with delayed deletion the
    scrubber removes it later.

    When the store refuses, the image is put back as it was and the store's error is raised.
    Raises StoreNotEnabled, ImageNotFound, PolicyRefused, StatusConflict, LastLocation,
    LocationNotFound, ImageInUse, StoreRefused, StoreUnavailable, StoreFailed, and ImageChanged when
    others keep changing the image faster.
    """
    if store_name not in registry.stores.names:
        raise StoreNotEnabled(store_name, registry.stores.names)
    refuse_anonymous(actor)
    leaving = await _mark(registry, actor, image_id, store_name)
    delayed = registry.settings.delete.delayed
    _log.info("image.withdrawn", image_id=image_id, store=store_name, delayed=delayed)
    if not delayed:
        await asyncio.shield(remove_leaving(registry, image_id, leaving))


async def _mark(registry: Registry, actor: Actor, image_id: str, store_name: str) -> list[Location]:
    for attempt in range(_TRIES):
        image = await registry.catalog.images.get(image_id, seen_by=actor)
        for rule in ("get_image_location", "delete_image_location"):
            registry.policy.check_image(actor, rule, image)
        leaving = _leaving(image, store_name)
        try:
            with registry.events.telling(lambda made, _: [image_notice("image.update", made)]):
                await registry.catalog.images.withdraw(
                    image, [location.key for location in leaving], now=now()
                )
        except ImageChanged:
            await asyncio.sleep(0.002 * attempt)
        else:
            return leaving
    raise ImageChanged(image_id)


def _leaving(image: Image, store_name: str) -> list[Location]:
    """The image's locations in the store, if they may go."""
    if image.status is not Status.ACTIVE:
        raise StatusConflict(image.id, "remove from a store the data of", image.status)
    leaving = [location for location in image.locations if location.store == store_name]
    if len(image.locations) == 1 or (leaving and len(leaving) == len(image.locations)):
        raise LastLocation(image.id)
    if not leaving:
        raise LocationNotFound(image.id, store_name)
    return leaving


async def remove_leaving(registry: Registry, image_id: str, leaving: list[Location]) -> None:
    """Remove the data of locations that have left an image which lives on. What a store refuses to
    remove is put back, and its error raised."""
    images = registry.catalog.images
    left = [location.key for location in leaving]
    for location in leaving:
        try:
            await registry.stores.get(location.store).delete(location.key)
        except TransomError:
            if not await images.put_back_locations(image_id, left):
                # The image went meanwhile, or the sweep took over: the data goes all the same.
                _log.warning("image.withdrawal_left", image_id=image_id, store=location.store)
            raise
        await images.data_removed(image_id, location.key)
        left.remove(location.key)
