"""Change an image by a list of operations, all or none (API §7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from transom.errors import (
    AttributeNotRemovable,
    Forbidden,
    FormatsFrozen,
    LocationsRefused,
    OwnerRefused,
    PropertyConflict,
    ReadOnlyAttribute,
    ReservedAttribute,
)
from transom.images.attributes import BASE, HASHES, READ_ONLY, checked, is_reserved
from transom.images.change import change
from transom.model.actor import Actor
from transom.model.image import Image, Status, Visibility
from transom.registry import Registry


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One change of one attribute.

    `fresh_only` is the rule of the older patch media type: `add` refuses what exists already.
    """

    op: Literal["add", "replace", "remove"]
    path: tuple[str, ...]
    value: Any = None
    fresh_only: bool = False

    @property
    def name(self) -> str:
        """The attribute that the operation changes."""
        return self.path[0]


async def update(
    registry: Registry,
    actor: Actor,
    image_id: str,
    operations: list[Operation] | Callable[[Image], list[Operation]],
) -> Image:
    """The image after all the operations, which may depend on the image as it is.

    Raises ImageNotFound, PolicyRefused, ReadOnlyAttribute, ReservedAttribute, InvalidValue,
    PropertyConflict, FormatsFrozen, OwnerRefused, QuotaExceeded, and ImageChanged when others keep
    changing the image faster.
    """

    def alter(before: Image) -> Image:
        after = before
        for operation in operations(before) if callable(operations) else operations:
            after = _applied(registry, actor, before, after, operation)
        registry.policy.check_image(actor, "modify_image", before)
        if len(after.properties) > len(before.properties):
            registry.limits.properties(after.properties)
        if len(after.tags) > len(before.tags):
            registry.limits.tags(after.tags)
        return after

    return await change(registry, actor, image_id, alter)


def _applied(
    registry: Registry, actor: Actor, before: Image, image: Image, operation: Operation
) -> Image:
    name = operation.name
    if name in READ_ONLY or name in HASHES or name == "id":
        raise ReadOnlyAttribute(name)
    if name == "locations":
        raise LocationsRefused
    if is_reserved(name):
        raise ReservedAttribute(name)
    if name in BASE:
        return _base_changed(registry, actor, before, image, operation)
    return _property_changed(registry, actor, image, operation)


def _base_changed(
    registry: Registry, actor: Actor, before: Image, image: Image, operation: Operation
) -> Image:
    name = operation.name
    if operation.op == "remove":
        raise AttributeNotRemovable(name)
    if operation.fresh_only and operation.op == "add":
        raise PropertyConflict(f"Property {name} already present.")
    value = checked(name, operation.value, registry.settings)
    if name in ("disk_format", "container_format") and before.status not in (
        Status.QUEUED,
        Status.IMPORTING,
    ):
        raise FormatsFrozen(name, before.status)
    if name == "owner" and not actor.is_admin:
        raise OwnerRefused
    if name == "visibility":
        rule = {
            Visibility.PUBLIC: "publicize_image",
            Visibility.COMMUNITY: "communitize_image",
        }.get(value)
        if rule:
            registry.policy.check_image(actor, rule, before)
    return msgspec.structs.replace(image, **{name: value})


def _property_changed(
    registry: Registry, actor: Actor, image: Image, operation: Operation
) -> Image:
    name = operation.name
    protections = registry.protections
    present = name in image.properties
    readable = protections.readable(actor, name)
    if operation.op == "add":
        if present and not readable:
            raise Forbidden(f"You may not change property {name}.")
        if present and operation.fresh_only:
            raise PropertyConflict(f"Property {name} already present.")
        permitted = (
            protections.updatable(actor, name) if present else protections.creatable(actor, name)
        )
    else:
        if not present or not readable:
            raise PropertyConflict(
                f"Property {name} does not exist; add it instead, or leave it out."
            )
        permitted = (
            protections.updatable(actor, name)
            if operation.op == "replace"
            else protections.deletable(actor, name)
        )
    if not permitted:
        raise Forbidden(f"Property '{name}' is protected; you may not {operation.op} it.")
    properties = dict(image.properties)
    if operation.op == "remove":
        del properties[name]
    else:
        properties[name] = checked(name, operation.value, registry.settings)
    return msgspec.structs.replace(image, properties=properties)
