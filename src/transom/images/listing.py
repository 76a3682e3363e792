"""List images (API §5)."""

from __future__ import annotations

from transom.model.actor import Actor
from transom.model.image import Image
from transom.model.query import ImageQuery
from transom.registry import Registry


async def list_images(
    registry: Registry, actor: Actor, query: ImageQuery
) -> tuple[list[Image], bool]:
    """One page of the images that the caller may see, and whether the page was full before
    policies took images out of it. Raises PolicyRefused, InvalidMarker, MarkerNotVisible."""
    registry.policy.check(actor, "get_images", {"project_id": actor.project_id})
    if query.limit == 0:
        return [], False
    images = await registry.catalog.images.list(query, seen_by=actor)
    return registry.policy.visible(actor, images), len(images) == query.limit
