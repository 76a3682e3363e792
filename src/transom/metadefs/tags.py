"""Tags of a namespace: words that things may be tagged with (API §20.4)."""

from __future__ import annotations

from typing import Any

from transom.events.payloads import namespace_notice, tag_notice
from transom.metadefs.access import now, readable, writable
from transom.metadefs.shapes import TagBody, TagsBody, shaped, tag_of
from transom.model.actor import Actor
from transom.model.metadef import MetadefTag, TagQuery
from transom.registry import Registry


async def list_tags(
    registry: Registry, actor: Actor, name: str, query: TagQuery
) -> list[MetadefTag]:
    """A page of the namespace's tags. Raises NamespaceNotFound, PolicyRefused, and MetadefNotFound
    when the marker is none of them."""
    namespace = await readable(registry, actor, name, "get_metadef_tags")
    if query.limit == 0:
        return []
    return await registry.catalog.metadefs.tags.page(namespace, query)


async def show_tag(registry: Registry, actor: Actor, name: str, tag_name: str) -> MetadefTag:
    """One tag. Raises NamespaceNotFound, PolicyRefused, MetadefNotFound."""
    namespace = await readable(registry, actor, name, "get_metadef_tag")
    return await registry.catalog.metadefs.tags.get(namespace, tag_name)


async def add_tag(registry: Registry, actor: Actor, name: str, tag_name: str) -> MetadefTag:
    """Put a tag into the namespace. Raises InvalidBody, AnonymousRefused, NamespaceNotFound,
    PolicyRefused, DuplicateMetadef."""
    made = tag_of(shaped(TagBody, {"name": tag_name}), now())
    namespace = await writable(registry, actor, name, "add_metadef_tag")
    with registry.events.telling(lambda _, __: [tag_notice("metadef_tag.create", namespace, made)]):
        await registry.catalog.metadefs.tags.add(namespace, made)
    return made


async def add_tags(
    registry: Registry, actor: Actor, name: str, body: dict[str, Any], *, appending: bool
) -> list[MetadefTag]:
    """Put tags into the namespace, in place of those there are or, appending, beside them.

    Raises InvalidBody, AnonymousRefused, NamespaceNotFound, PolicyRefused, DuplicateMetadef.
    """
    moment = now()
    made = [tag_of(one, moment) for one in shaped(TagsBody, body).tags]
    namespace = await writable(registry, actor, name, "add_metadef_tags")
    with registry.events.telling(
        lambda _, __: [tag_notice("metadef_tag.create", namespace, each) for each in made]
    ):
        await registry.catalog.metadefs.tags.add(namespace, *made, replacing=not appending)
    return made


async def replace_tag(
    registry: Registry, actor: Actor, name: str, tag_name: str, body: dict[str, Any]
) -> MetadefTag:
    """Give a tag another name. Raises ReadOnlyAttribute, InvalidBody, AnonymousRefused,
    NamespaceNotFound, PolicyRefused, MetadefNotFound, DuplicateMetadef."""
    made = tag_of(shaped(TagBody, body), now())
    namespace = await writable(registry, actor, name, "modify_metadef_tag")
    with registry.events.telling(
        lambda after, _: [tag_notice("metadef_tag.update", namespace, after, old=tag_name)]
    ):
        return await registry.catalog.metadefs.tags.replace(namespace, tag_name, made)


async def remove_tag(registry: Registry, actor: Actor, name: str, tag_name: str) -> None:
    """Take a tag out of the namespace. Raises AnonymousRefused, NamespaceNotFound, PolicyRefused,
    NamespaceProtected, MetadefNotFound."""
    namespace = await writable(registry, actor, name, "delete_metadef_tag")
    if not registry.events.wants("metadef_tag.delete"):
        await registry.catalog.metadefs.tags.remove(namespace, tag_name)
        return
    found, moment = await registry.catalog.metadefs.tags.get(namespace, tag_name), now()
    with registry.events.telling(
        lambda _, __: [tag_notice("metadef_tag.delete", namespace, found, gone_at=moment)]
    ):
        await registry.catalog.metadefs.tags.remove(namespace, tag_name)


async def remove_all_tags(registry: Registry, actor: Actor, name: str) -> None:
    """Take all tags out of the namespace. Raises AnonymousRefused, NamespaceNotFound,
    PolicyRefused, NamespaceProtected."""
    namespace = await writable(
        registry, actor, name, "delete_metadef_namespace", "delete_metadef_tags"
    )
    with registry.events.telling(
        lambda _, __: [namespace_notice("metadef_namespace.delete_tags", namespace)]
    ):
        await registry.catalog.metadefs.tags.clear(namespace)
