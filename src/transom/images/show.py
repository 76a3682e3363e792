"""Show one image (API §6)."""

from __future__ import annotations

from transom.model.actor import Actor
from transom.model.image import Image
from transom.registry import Registry


async def show(registry: Registry, actor: Actor, image_id: str) -> Image:
    """The image, if the caller may see it. Raises ImageNotFound."""
    image = await registry.catalog.images.get(image_id, seen_by=actor)
    registry.policy.check_image(actor, "get_image", image)
    return image
