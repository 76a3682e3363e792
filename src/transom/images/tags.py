"""Put a tag on an image or take it off (API §12)."""

from __future__ import annotations

import msgspec

from transom.errors import TagNotFound
from transom.images.attributes import checked_tag
from transom.images.change import change
from transom.model.actor import Actor
from transom.model.image import Image
from transom.registry import Registry


async def add_tag(registry: Registry, actor: Actor, image_id: str, tag: str) -> None:
    """Put the tag on the image; it may be there already.

    Raises InvalidValue, ImageNotFound, PolicyRefused, QuotaExceeded.
    """
    checked_tag(tag)

    def alter(image: Image) -> Image:
        registry.policy.check_image(actor, "modify_image", image)
        tags = tuple(dict.fromkeys((*image.tags, tag)))
        if len(tags) > len(image.tags):
            registry.limits.tags(tags)
        return msgspec.structs.replace(image, tags=tags)

    await change(registry, actor, image_id, alter)


async def remove_tag(registry: Registry, actor: Actor, image_id: str, tag: str) -> None:
    """Take the tag off the image. Raises ImageNotFound, PolicyRefused, TagNotFound."""

    def alter(image: Image) -> Image:
        registry.policy.check_image(actor, "modify_image", image)
        if tag not in image.tags:
            raise TagNotFound(image_id, tag)
        return msgspec.structs.replace(
            image, tags=tuple(other for other in image.tags if other != tag)
        )

    await change(registry, actor, image_id, alter)
