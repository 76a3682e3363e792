"""List, show, create, replace and delete namespaces (API §20.1)."""

from __future__ import annotations

from typing import Any

import msgspec

from transom.catalog.outbox import Look
from transom.events.payloads import (
    association_notice,
    namespace_notice,
    object_notice,
    property_notice,
    tag_notice,
)
from transom.metadefs.access import now, readable, refuse_anonymous, writable
from transom.metadefs.shapes import NamespaceBody, contents_of, namespace_of, shaped
from transom.model.actor import Actor
from transom.model.event import Notice
from transom.model.metadef import (
    Contents,
    Definition,
    MetadefObject,
    Namespace,
    NamespaceQuery,
)
from transom.policy.check import namespace_target
from transom.registry import Registry


async def list_namespaces(
    registry: Registry, actor: Actor, query: NamespaceQuery
) -> tuple[list[Namespace], bool]:
    """One page of the namespaces that the caller may see, with their associations, and whether the
    page was full before policies took some out of it. Raises PolicyRefused, NamespaceNotFound."""
    own = {"project_id": actor.project_id}
    for rule in ("get_metadef_namespaces", "list_metadef_resource_types"):
        registry.policy.check(actor, rule, own)
    if query.limit == 0:
        return [], False
    found = await registry.catalog.metadefs.list(query, seen_by=actor)
    visible = [
        namespace
        for namespace in found
        if registry.policy.allows(actor, "get_metadef_namespace", namespace_target(namespace))
    ]
    return visible, len(found) == query.limit


async def show_namespace(
    registry: Registry, actor: Actor, name: str, resource_type: str | None = None
) -> tuple[Namespace, Contents]:
    """The namespace and all that it holds; names of properties as things of `resource_type` carry
    them. Raises NamespaceNotFound, PolicyRefused."""
    namespace = await readable(
        registry,
        actor,
        name,
        "get_metadef_namespace",
        "list_metadef_resource_types",
        "get_metadef_objects",
        "get_metadef_properties",
        "get_metadef_tags",
    )
    contents = await registry.catalog.metadefs.contents(namespace)
    prefix = prefix_of(namespace, resource_type)
    return namespace, _prefixed(contents, prefix) if prefix else contents


def prefix_of(namespace: Namespace, resource_type: str | None) -> str | None:
    """What stands before names of properties on things of the type; None when the namespace is not
    for such things."""
    for association in namespace.associations:
        if association.name == resource_type:
            return association.prefix or ""
    return None


def _prefixed(contents: Contents, prefix: str) -> Contents:
    def renamed(properties: dict[str, Definition]) -> dict[str, Definition]:
        return {prefix + name: definition for name, definition in properties.items()}

    def prefixed(one: MetadefObject) -> MetadefObject:
        return msgspec.structs.replace(
            one,
            required=tuple(prefix + name for name in one.required),
            properties=renamed(one.properties),
        )

    return msgspec.structs.replace(
        contents,
        properties=tuple(
            msgspec.structs.replace(one, name=prefix + one.name) for one in contents.properties
        ),
        objects=tuple(prefixed(one) for one in contents.objects),
    )


async def create_namespace(
    registry: Registry, actor: Actor, body: dict[str, Any]
) -> tuple[Namespace, Contents]:
    """A new namespace with all that the body gives it, in one step.

    Raises ReadOnlyAttribute, InvalidBody, AnonymousRefused, PolicyRefused, DuplicateMetadef.
    """
    refuse_anonymous(actor)
    asked = shaped(NamespaceBody, body)
    moment = now()
    namespace, contents = namespace_of(asked, moment), contents_of(asked, moment)
    if namespace.owner is None:
        namespace = msgspec.structs.replace(namespace, owner=actor.project_id)
    target = namespace_target(namespace)
    registry.policy.check(actor, "add_metadef_namespace", target)
    for given, rule in (
        (namespace.associations, "add_metadef_resource_type_association"),
        (contents.objects, "add_metadef_object"),
        (contents.properties, "add_metadef_property"),
        (contents.tags, "add_metadef_tag"),
    ):
        if given:
            registry.policy.check(actor, rule, target)
    with registry.events.telling(lambda made, _: _created(made, contents)):
        return await registry.catalog.metadefs.create(namespace, contents), contents


def _created(made: Namespace, contents: Contents) -> list[Notice]:
    """A namespace, and each thing that came with it."""
    return [
        namespace_notice("metadef_namespace.create", made),
        *(association_notice("metadef_resource_type.create", made, e) for e in made.associations),
        *(object_notice("metadef_object.create", made, each) for each in contents.objects),
        *(property_notice("metadef_property.create", made, each) for each in contents.properties),
        *(tag_notice("metadef_tag.create", made, each) for each in contents.tags),
    ]


async def replace_namespace(
    registry: Registry, actor: Actor, name: str, body: dict[str, Any]
) -> tuple[Namespace, Contents]:
    """Give the namespace its own fields anew: what the body leaves out becomes what it is in a new
    namespace, but for the owner. What it holds stays. Gives the namespace, and nothing of that.

    Raises ReadOnlyAttribute, InvalidBody, AnonymousRefused, NamespaceNotFound, PolicyRefused,
    DuplicateMetadef.
    """
    asked = shaped(NamespaceBody, body)
    before = await writable(registry, actor, name, "modify_metadef_namespace")
    given = namespace_of(asked, now())
    after = msgspec.structs.replace(
        given,
        id=before.id,
        owner=before.owner if given.owner is None else given.owner,
        created_at=before.created_at,
        associations=before.associations,
    )
    with registry.events.telling(
        lambda _, __: [
            namespace_notice("metadef_namespace.update", after, old=before.namespace),
        ]
    ):
        await registry.catalog.metadefs.replace(before, after)
    return after, Contents()


async def delete_namespace(registry: Registry, actor: Actor, name: str) -> None:
    """Delete the namespace and all that it holds. Raises AnonymousRefused, NamespaceNotFound,
    PolicyRefused, NamespaceProtected."""
    namespace = await writable(registry, actor, name, "delete_metadef_namespace")
    moment = now()

    def say(_: None, __: Look) -> list[Notice]:
        return [namespace_notice("metadef_namespace.delete", namespace, gone_at=moment)]

    with registry.events.telling(say):
        await registry.catalog.metadefs.delete(namespace)
