"""Objects of a namespace: properties that belong together (API §20.2)."""

from __future__ import annotations

from typing import Any

from transom.events.payloads import namespace_notice, object_notice
from transom.metadefs.access import now, readable, writable
from transom.metadefs.shapes import ObjectBody, object_of, shaped
from transom.model.actor import Actor
from transom.model.metadef import MetadefObject
from transom.policy.check import namespace_target
from transom.registry import Registry


async def list_objects(registry: Registry, actor: Actor, name: str) -> list[MetadefObject]:
    """The objects of the namespace. Raises NamespaceNotFound, PolicyRefused."""
    namespace = await readable(registry, actor, name, "get_metadef_objects")
    if not registry.policy.allows(actor, "get_metadef_object", namespace_target(namespace)):
        return []
    return await registry.catalog.metadefs.objects.list(namespace)


async def show_object(
    registry: Registry, actor: Actor, name: str, object_name: str
) -> MetadefObject:
    """One object. Raises NamespaceNotFound, PolicyRefused, MetadefNotFound."""
    namespace = await readable(registry, actor, name, "get_metadef_object")
    return await registry.catalog.metadefs.objects.get(namespace, object_name)


async def add_object(
    registry: Registry, actor: Actor, name: str, body: dict[str, Any]
) -> MetadefObject:
    """Put an object into the namespace. Raises ReadOnlyAttribute, InvalidBody, AnonymousRefused,
    NamespaceNotFound, PolicyRefused, DuplicateMetadef."""
    made = object_of(shaped(ObjectBody, body), now())
    namespace = await writable(registry, actor, name, "add_metadef_object")
    with registry.events.telling(
        lambda _, __: [object_notice("metadef_object.create", namespace, made)]
    ):
        await registry.catalog.metadefs.objects.add(namespace, made)
    return made


async def replace_object(
    registry: Registry, actor: Actor, name: str, object_name: str, body: dict[str, Any]
) -> MetadefObject:
    """Put the object that the body describes in the place of another one. Raises what `add_object`
    raises, and MetadefNotFound."""
    made = object_of(shaped(ObjectBody, body), now())
    namespace = await writable(registry, actor, name, "modify_metadef_object")
    with registry.events.telling(
        lambda after, _: [object_notice("metadef_object.update", namespace, after, old=object_name)]
    ):
        return await registry.catalog.metadefs.objects.replace(namespace, object_name, made)


async def remove_object(registry: Registry, actor: Actor, name: str, object_name: str) -> None:
    """Take an object out of the namespace. Raises AnonymousRefused, NamespaceNotFound,
    PolicyRefused, NamespaceProtected, MetadefNotFound."""
    namespace = await writable(registry, actor, name, "delete_metadef_object")
    if not registry.events.wants("metadef_object.delete"):
        await registry.catalog.metadefs.objects.remove(namespace, object_name)
        return
    found, moment = await registry.catalog.metadefs.objects.get(namespace, object_name), now()
    with registry.events.telling(
        lambda _, __: [object_notice("metadef_object.delete", namespace, found, gone_at=moment)]
    ):
        await registry.catalog.metadefs.objects.remove(namespace, object_name)


async def remove_all_objects(registry: Registry, actor: Actor, name: str) -> None:
    """Take all objects out of the namespace. Raises AnonymousRefused, NamespaceNotFound,
    PolicyRefused, NamespaceProtected."""
    # No rule speaks of all objects at once: Glance asks for the right to delete the namespace.
    namespace = await writable(registry, actor, name, "delete_metadef_namespace")
    with registry.events.telling(
        lambda _, __: [namespace_notice("metadef_namespace.delete_objects", namespace)]
    ):
        await registry.catalog.metadefs.objects.clear(namespace)
