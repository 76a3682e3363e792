"""Tell services where the data of an image is (API §16.2)."""

from __future__ import annotations

from transom.images.download import by_weight
from transom.model.actor import Actor
from transom.model.image import Location
from transom.registry import Registry


async def list_locations(registry: Registry, actor: Actor, image_id: str) -> list[Location]:
    """The locations, those in stores of higher weight first; none without data. Raises
    ImageNotFound, PolicyRefused."""
    image = await registry.catalog.images.get(image_id, seen_by=actor)
    registry.policy.check_image(actor, "fetch_image_location", image)
    return by_weight(registry, image)
