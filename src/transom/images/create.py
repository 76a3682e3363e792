"""Create an image record (API §4)."""

from __future__ import annotations

import uuid
from typing import Any

from transom.errors import (
    OwnerRefused,
    PolicyRefused,
    ReadOnlyAttribute,
    ReservedAttribute,
)
from transom.events.payloads import image_notice
from transom.images.attributes import BASE, HASHES, READ_ONLY, RESERVED, checked
from transom.images.change import refuse_anonymous
from transom.images.clock import now
from transom.model.actor import Actor
from transom.model.image import Image, Visibility
from transom.registry import Registry


async def create(registry: Registry, actor: Actor, attributes: dict[str, Any]) -> Image:
    """A new, queued image with these attributes and custom properties.

    Raises ReadOnlyAttribute, ReservedAttribute, InvalidValue, OwnerRefused, PolicyRefused,
    QuotaExceeded, DuplicateImage, IdentityUnavailable.
    """
    refuse_anonymous(actor)
    for name in attributes:
        if name in READ_ONLY:
            raise ReadOnlyAttribute(name)
        if name in RESERVED or name.startswith("os_glance"):
            raise ReservedAttribute(name)
    settings = registry.settings
    values = {
        name: checked(name, value, settings)
        for name, value in attributes.items()
        if name not in HASHES
    }
    properties = {
        name: value for name, value in values.items() if name not in BASE and name != "id"
    }
    moment = now()
    image = Image(
        **{name: value for name, value in values.items() if name in BASE or name == "id"}
        | {
            "id": values.get("id") or str(uuid.uuid4()),
            "owner": values.get("owner", actor.project_id),
            "visibility": values.get("visibility", Visibility(settings.images.default_visibility)),
            "properties": properties,
            "created_at": moment,
            "updated_at": moment,
        }
    )
    _permit(registry, actor, image, asked_visibility=values.get("visibility"))
    registry.limits.properties(properties)
    registry.limits.tags(image.tags)
    allowance = await registry.limits.allowance(image.owner)
    with registry.events.telling(lambda _, __: [image_notice("image.create", image)]):
        await registry.catalog.images.create(image, limit=allowance.images)
    return image


def _permit(
    registry: Registry, actor: Actor, image: Image, asked_visibility: Visibility | None
) -> None:
    target = {
        "project_id": image.owner,
        "owner": image.owner,
        "visibility": asked_visibility or Visibility.PRIVATE,
    }
    policy = registry.policy
    if image.owner != actor.project_id and not actor.is_admin:
        raise OwnerRefused
    policy.check(actor, "add_image", target)
    if asked_visibility is Visibility.PUBLIC:
        policy.check(actor, "publicize_image", target)
    elif asked_visibility is Visibility.COMMUNITY:
        policy.check(actor, "communitize_image", target)
    for name in image.properties:
        if not registry.protections.creatable(actor, name):
            raise PolicyRefused(f"create property {name}")
