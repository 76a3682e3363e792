"""Close the data of an image to all but administrators, and open it again (API §13)."""

from __future__ import annotations

import msgspec

from transom.errors import StatusForbids
from transom.images.change import change
from transom.model.actor import Actor
from transom.model.image import Image, Status
from transom.registry import Registry


async def deactivate(registry: Registry, actor: Actor, image_id: str) -> None:
    """active → deactivated; nothing when it is that already.

    Raises ImageNotFound, PolicyRefused, StatusForbids.
    """
    await _move(registry, actor, image_id, "deactivate", Status.ACTIVE, Status.DEACTIVATED)


async def reactivate(registry: Registry, actor: Actor, image_id: str) -> None:
    """deactivated → active; nothing when it is that already.

    Raises ImageNotFound, PolicyRefused, StatusForbids.
    """
    await _move(registry, actor, image_id, "reactivate", Status.DEACTIVATED, Status.ACTIVE)


async def _move(
    registry: Registry, actor: Actor, image_id: str, action: str, source: Status, target: Status
) -> None:
    def alter(image: Image) -> Image:
        registry.policy.check_image(actor, action, image)
        if image.status is target:
            return image
        if image.status is not source:
            raise StatusForbids(action, image.status)
        return msgspec.structs.replace(image, status=target)

    await change(registry, actor, image_id, alter)
