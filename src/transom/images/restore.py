"""Bring back a deleted image whose data still waits for the scrubber: the operator's own verb."""

from __future__ import annotations

import structlog

from transom.errors import DataNotFound, StoreFailed
from transom.events.payloads import image_notice
from transom.images.clock import now
from transom.model.image import Image, Location
from transom.registry import Registry
from transom.stores.store import KeyMissing

_log = structlog.get_logger(__name__)


async def restore(registry: Registry, image_id: str) -> Image:
    """The image, active again, or deactivated if it was that when it was deleted (lifecycle §1.1).

    All of its data has to be there. Raises ImageNotFound, StatusConflict, ScrubbingBegan,
    DataNotFound, UnknownStore, StoreUnavailable, StoreFailed.
    """
    for image, places in await registry.catalog.images.waiting(image_id=image_id):
        for place in places:
            await _require(registry, image, place)
    with registry.events.telling(lambda again, _: [image_notice("image.update", again)]):
        image = await registry.catalog.images.undelete(image_id, now=now())
    _log.info("image.restored", image_id=image_id, status=str(image.status))
    return image


async def _require(registry: Registry, image: Image, place: Location) -> None:
    store = registry.stores.get(place.store)
    if not store.features.shared:
        return
    try:
        entry = await store.stat(place.key)
    except KeyMissing:
        raise DataNotFound(image.id) from None
    if entry.size_bytes != image.size:
        raise StoreFailed(
            store.name,
            f"it holds {entry.size_bytes} bytes of image {image.id}, which has {image.size}; "
            "look who changed the object",
        )
