"""Properties that stand in a namespace by themselves (API §20.3)."""

from __future__ import annotations

from typing import Any

from transom.errors import MetadefNotFound
from transom.events.payloads import namespace_notice, property_notice
from transom.metadefs.access import now, readable, writable
from transom.metadefs.namespaces import prefix_of
from transom.metadefs.shapes import PropertyBody, property_of, shaped
from transom.model.actor import Actor
from transom.model.metadef import MetadefProperty
from transom.registry import Registry


async def list_properties(registry: Registry, actor: Actor, name: str) -> list[MetadefProperty]:
    """The properties of the namespace. Raises NamespaceNotFound, PolicyRefused."""
    namespace = await readable(registry, actor, name, "get_metadef_properties")
    return await registry.catalog.metadefs.properties.list(namespace)


async def show_property(
    registry: Registry,
    actor: Actor,
    name: str,
    property_name: str,
    resource_type: str | None = None,
) -> MetadefProperty:
    """One property; with `resource_type` asked for by the name that things of the type carry.

    Raises NamespaceNotFound, PolicyRefused, MetadefNotFound.
    """
    if resource_type is None:
        namespace = await readable(registry, actor, name, "get_metadef_property")
    else:
        namespace = await readable(
            registry, actor, name, "get_metadef_property", "get_metadef_resource_type"
        )
        prefix = prefix_of(namespace, resource_type)
        if prefix is None:
            raise MetadefNotFound("resource type", resource_type, name)
        if not property_name.startswith(prefix):
            raise MetadefNotFound("property", property_name, name)
        property_name = property_name.removeprefix(prefix)
    return await registry.catalog.metadefs.properties.get(namespace, property_name)


async def add_property(
    registry: Registry, actor: Actor, name: str, body: dict[str, Any]
) -> MetadefProperty:
    """Put a property into the namespace. Raises ReadOnlyAttribute, InvalidBody, AnonymousRefused,
    NamespaceNotFound, PolicyRefused, DuplicateMetadef."""
    made = property_of(shaped(PropertyBody, body), now())
    namespace = await writable(registry, actor, name, "add_metadef_property")
    with registry.events.telling(
        lambda _, __: [property_notice("metadef_property.create", namespace, made)]
    ):
        await registry.catalog.metadefs.properties.add(namespace, made)
    return made


async def replace_property(
    registry: Registry, actor: Actor, name: str, property_name: str, body: dict[str, Any]
) -> MetadefProperty:
    """Put the property that the body describes in the place of another one. Raises what
    `add_property` raises, and MetadefNotFound."""
    made = property_of(shaped(PropertyBody, body), now())
    namespace = await writable(registry, actor, name, "modify_metadef_property")
    with registry.events.telling(
        lambda after, _: [
            property_notice("metadef_property.update", namespace, after, old=property_name)
        ]
    ):
        return await registry.catalog.metadefs.properties.replace(namespace, property_name, made)


async def remove_property(registry: Registry, actor: Actor, name: str, property_name: str) -> None:
    """Take a property out of the namespace. Raises AnonymousRefused, NamespaceNotFound,
    PolicyRefused, NamespaceProtected, MetadefNotFound."""
    namespace = await writable(registry, actor, name, "remove_metadef_property")
    if not registry.events.wants("metadef_property.delete"):
        await registry.catalog.metadefs.properties.remove(namespace, property_name)
        return
    found, moment = await registry.catalog.metadefs.properties.get(namespace, property_name), now()
    with registry.events.telling(
        lambda _, __: [property_notice("metadef_property.delete", namespace, found, gone_at=moment)]
    ):
        await registry.catalog.metadefs.properties.remove(namespace, property_name)


async def remove_all_properties(registry: Registry, actor: Actor, name: str) -> None:
    """Take all properties out of the namespace. Raises AnonymousRefused, NamespaceNotFound,
    PolicyRefused, NamespaceProtected."""
    # No rule speaks of all properties at once: Glance asks for the right to delete the namespace.
    namespace = await writable(registry, actor, name, "delete_metadef_namespace")
    with registry.events.telling(
        lambda _, __: [namespace_notice("metadef_namespace.delete_properties", namespace)]
    ):
        await registry.catalog.metadefs.properties.clear(namespace)
