"""Give out the data of an image, whole or in part (API §9.2)."""

from __future__ import annotations

import structlog

from transom.errors import DataNotFound, ImageDeactivated, StoreUnavailable, TransomError
from transom.model.actor import Actor
from transom.model.image import Image, Location, Status
from transom.registry import Registry
from transom.stores.store import KeyMissing, Reader

_log = structlog.get_logger(__name__)


async def find_data(registry: Registry, actor: Actor, image_id: str) -> Image:
    """The image, if the caller may read its data; it has none when `locations` is empty.

    Raises ImageNotFound, PolicyRefused, ImageDeactivated.
    """
    image = await registry.catalog.images.get(image_id, seen_by=actor)
    if image.status is Status.DEACTIVATED and not actor.is_admin:
        registry.policy.check_image(actor, "get_image", image)
        raise ImageDeactivated(image_id)
    registry.policy.check_image(actor, "download_image", image)
    return image


async def open_data(
    registry: Registry, image: Image, *, offset: int = 0, length: int | None = None
) -> Reader:
    """A Reader of the image's bytes from the best store that can give them now.

    Stores are tried by weight, highest first; one that fails gives way to the next. Raises
    DataNotFound when no store has the data, StoreUnavailable when one may have it later.
    """
    failure: TransomError | None = None
    for location in by_weight(registry, image):
        try:
            store = registry.stores.get(location.store)
            return await store.read(location.key, offset=offset, length=length)
        except KeyMissing:
            _log.error("image.data_missing", image_id=image.id, store=location.store)
        except TransomError as error:
            _log.warning("image.store_failed", image_id=image.id, reason=str(error))
            failure = error
    if failure is None:
        raise DataNotFound(image.id)
    raise StoreUnavailable("all", "no location of the image can be read") from failure


def by_weight(registry: Registry, image: Image) -> list[Location]:
    """The image's locations, those in stores of higher weight first."""
    if len(image.locations) < 2:
        return list(image.locations)
    weight = registry.stores.weight
    return sorted(image.locations, key=lambda location: -weight(location.store))
