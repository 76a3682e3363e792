"""Resource types: what kinds of things the definitions of a namespace are for (API §20.5)."""

from __future__ import annotations

from typing import Any

from transom.events.payloads import association_notice
from transom.metadefs.access import now, readable, writable
from transom.metadefs.shapes import AssociationBody, association_of, shaped
from transom.model.actor import Actor
from transom.model.metadef import Association, ResourceType
from transom.policy.check import namespace_target
from transom.registry import Registry


async def list_resource_types(registry: Registry, actor: Actor) -> tuple[ResourceType, ...]:
    """Every type that was ever associated with a namespace. Raises PolicyRefused."""
    registry.policy.check(actor, "list_metadef_resource_types", {"project_id": actor.project_id})
    return await registry.catalog.metadefs.types()


async def list_associations(registry: Registry, actor: Actor, name: str) -> tuple[Association, ...]:
    """What the definitions of the namespace are for. Raises NamespaceNotFound, PolicyRefused."""
    namespace = await readable(registry, actor, name, "list_metadef_resource_types")
    if not registry.policy.allows(actor, "get_metadef_resource_type", namespace_target(namespace)):
        return ()
    return namespace.associations


async def add_association(
    registry: Registry, actor: Actor, name: str, body: dict[str, Any]
) -> Association:
    """Say that the definitions of the namespace are for things of a type, too. Raises
    ReadOnlyAttribute, InvalidBody, AnonymousRefused, NamespaceNotFound, PolicyRefused,
    DuplicateMetadef."""
    made = association_of(shaped(AssociationBody, body), now())
    namespace = await writable(registry, actor, name, "add_metadef_resource_type_association")
    with registry.events.telling(
        lambda _, __: [association_notice("metadef_resource_type.create", namespace, made)]
    ):
        await registry.catalog.metadefs.associations.add(namespace, made)
    return made


async def remove_association(
    registry: Registry, actor: Actor, name: str, resource_type: str
) -> None:
    """Say that they are not for things of the type any more. Raises AnonymousRefused,
    NamespaceNotFound, PolicyRefused, NamespaceProtected, MetadefNotFound."""
    namespace = await writable(registry, actor, name, "remove_metadef_resource_type_association")
    found = [one for one in namespace.associations if one.name == resource_type]
    moment = now()
    with registry.events.telling(
        lambda _, __: [
            association_notice("metadef_resource_type.delete", namespace, one, moment)
            for one in found
        ]
    ):
        await registry.catalog.metadefs.associations.remove(namespace, resource_type)
