"""Change an image by a list of operations, all or none (API §7)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from transom.errors import (
    AttributeNotRemovable,
    Forbidden,
    FormatsFrozen,
    ImageChanged,
    LocationsRefused,
    OwnerRefused,
    PropertyConflict,
    ReadOnlyAttribute,
    ReservedAttribute,
)
from transom.events.payloads import image_notice
from transom.images.attributes import BASE, HASHES, READ_ONLY, checked, is_reserved
from transom.images.change import change, refuse_anonymous
from transom.images.clock import now
from transom.images.relocate import Relocation
from transom.images.withdraw import remove_leaving
from transom.model.actor import Actor
from transom.model.image import Image, Status, Visibility
from transom.registry import Registry

_TRIES = 5
"""How often what is behind a URL is read again because the image has changed."""


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
    PropertyConflict, FormatsFrozen, OwnerRefused, QuotaExceeded, what `Relocation` raises for
    operations on locations, and ImageChanged when others keep changing the image faster.
    """
    if not callable(operations) and any(each.name == "locations" for each in operations):
        return await _update_with_locations(registry, actor, image_id, operations)

    def alter(before: Image) -> Image:
        wanted = operations(before) if callable(operations) else operations
        return _altered(registry, actor, before, wanted, None)

    return await change(registry, actor, image_id, alter)


async def _update_with_locations(
    registry: Registry, actor: Actor, image_id: str, operations: list[Operation]
) -> Image:
    refuse_anonymous(actor)
    for attempt in range(_TRIES):
        before = await registry.catalog.images.get(image_id, seen_by=actor)
        relocation = Relocation(registry, actor, before)
        draft = _altered(registry, actor, before, operations, relocation)
        if draft == before:
            return before
        after = await relocation.settle(draft)
        allowance = await registry.limits.allowance(after.owner)
        moment = now()
        try:
            with registry.events.telling(lambda made, _: [image_notice("image.update", made)]):
                image = await registry.catalog.locations.relocate(
                    before,
                    msgspec.structs.replace(after, updated_at=moment),
                    limits=allowance.stored,
                    now=moment,
                )
        except ImageChanged:
            await asyncio.sleep(0.002 * attempt)
            continue
        stay = {each.key for each in image.locations}
        leaving = [each for each in before.locations if each.key not in stay]
        if leaving and not registry.settings.delete.delayed:
            await asyncio.shield(remove_leaving(registry, image_id, leaving))
        return image
    raise ImageChanged(image_id)


def _altered(
    registry: Registry,
    actor: Actor,
    before: Image,
    operations: list[Operation],
    relocation: Relocation | None,
) -> Image:
    after = before
    for operation in operations:
        if operation.name == "locations" and relocation is not None:
            after = _relocated(relocation, after, operation)
        else:
            after = _applied(registry, actor, before, after, operation)
    registry.policy.check_image(actor, "modify_image", before)
    if len(after.properties) > len(before.properties):
        registry.limits.properties(after.properties)
    if len(after.tags) > len(before.tags):
        registry.limits.tags(after.tags)
    return after


def _relocated(relocation: Relocation, image: Image, operation: Operation) -> Image:
    position = operation.path[1] if len(operation.path) > 1 else ""
    match operation.op:
        case "add":
            return relocation.add(image, position, operation.value)
        case "replace":
            return relocation.replace(image, operation.value)
        case "remove":
            return relocation.remove(image, position)


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
