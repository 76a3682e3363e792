"""Read an image, alter it, write it, and start again when somebody else was faster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from transom.errors import AnonymousRefused, ImageChanged
from transom.events.payloads import image_notice
from transom.images.clock import now
from transom.model.actor import Actor
from transom.model.image import Image
from transom.registry import Registry

_TRIES = 20


def refuse_anonymous(actor: Actor) -> None:
    """Raise AnonymousRefused for a caller without identity, before anything is looked up."""
    if actor.is_anonymous:
        raise AnonymousRefused


async def change(
    registry: Registry, actor: Actor, image_id: str, alter: Callable[[Image], Image]
) -> Image:
    """The image as `alter` makes it, written by a compare-and-set.

    `alter` holds the rules: it raises what they refuse, and gives the very image it was handed when
    there is nothing to write. Raises ImageNotFound, AnonymousRefused, and ImageChanged when others
    keep changing the image faster.
    """
    refuse_anonymous(actor)
    for attempt in range(_TRIES):
        before = await registry.catalog.images.get(image_id, seen_by=actor)
        after = alter(before)
        if after is before:
            return before
        try:
            with registry.events.telling(lambda made, _: [image_notice("image.update", made)]):
                return await registry.catalog.images.replace(
                    before, msgspec.structs.replace(after, updated_at=now())
                )
        except ImageChanged:
            await asyncio.sleep(0.002 * attempt)
    raise ImageChanged(image_id)
