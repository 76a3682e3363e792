"""Whole namespaces go into the catalog and out of it: for the operator, who is not asked for rights
and is not held up by protection."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from transom.catalog.engine import Engine
from transom.catalog.metadef_tables import associations, namespaces, resource_types
from transom.catalog.metadefs import (
    ASSOCIATION,
    OBJECT,
    PROPERTY,
    TAG,
    Kind,
    T,
    add,
    contents_of,
    create,
    every,
    find,
    hold,
    hold_types,
    replace,
    rewrite,
)
from transom.model.metadef import Contents, Loaded, LoadMode, Namespace


class MetadefLoading:
    """Whole namespaces, for commands: every method blocks, and may raise CatalogUnavailable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def load_now(self, namespace: Namespace, contents: Contents, mode: LoadMode) -> Loaded:
        """Write a namespace that may be there already, all of it or nothing; its owner stays as it
        is unless one is given. Raises DuplicateMetadef for a name that is twice in it."""
        return self._engine.write_now(
            lambda connection: _load(connection, namespace, contents, mode)
        )

    def unload_now(self, names: Collection[str]) -> list[str]:
        """Delete namespaces with all that they hold, protected ones too, and the resource types
        that then have none; gives the names of those that were there."""
        return self._engine.write_now(lambda connection: _unload(connection, names))

    def everything_now(self) -> list[tuple[Namespace, Contents]]:
        """All namespaces with what they hold, by name."""

        def work(connection: Connection) -> list[tuple[Namespace, Contents]]:
            names = connection.execute(
                sa.select(namespaces.c.namespace).order_by(namespaces.c.namespace)
            ).scalars()
            found = [find(connection, name) for name in list(names)]
            return [
                (namespace, contents_of(connection, namespace))
                for namespace in found
                if namespace is not None
            ]

        return self._engine.read_now(work)


def _load(
    connection: Connection, namespace: Namespace, contents: Contents, mode: LoadMode
) -> Loaded:
    there = find(connection, namespace.namespace)
    if there is None:
        create(connection, namespace, contents)
        return Loaded(is_new=True)
    if mode is LoadMode.SKIP:
        return Loaded()
    hold(connection, there)
    if namespace.owner is None:
        namespace = msgspec.structs.replace(namespace, owner=there.owner)
    if mode is LoadMode.REPLACE:
        connection.execute(sa.delete(namespaces).where(namespaces.c.id == there.id))
        create(connection, namespace, contents)
        return Loaded(is_replaced=True)
    is_preferred = mode is LoadMode.PREFER_NEW
    changed = 0
    if is_preferred and _own(namespace) != _own(there):
        rewrite(connection, there, namespace)
        changed = 1
    added = 0
    for more, other in (
        _merge(connection, ASSOCIATION, there, namespace.associations, is_preferred=is_preferred),
        _merge(connection, PROPERTY, there, contents.properties, is_preferred=is_preferred),
        _merge(connection, OBJECT, there, contents.objects, is_preferred=is_preferred),
        _merge(connection, TAG, there, contents.tags, is_preferred=is_preferred),
    ):
        added += more
        changed += other
    return Loaded(added=added, changed=changed)


def _merge(
    connection: Connection,
    kind: Kind[T],
    namespace: Namespace,
    items: Iterable[T],
    *,
    is_preferred: bool,
) -> tuple[int, int]:
    there = {item.name: item for item in every(connection, kind, namespace)}
    fresh = [item for item in items if item.name not in there]
    add(connection, kind, namespace, fresh)
    if not is_preferred:
        return len(fresh), 0
    changed = [
        item
        for item in items
        if item.name in there and _told(kind, item) != _told(kind, there[item.name])
    ]
    for item in changed:
        replace(connection, kind, namespace, item.name, item)
    return len(fresh), len(changed)


def _own(namespace: Namespace) -> tuple[object, ...]:
    return (
        namespace.display_name,
        namespace.description,
        namespace.visibility,
        namespace.protected,
        namespace.owner,
    )


def _told(kind: Kind[T], item: T) -> dict[str, object]:
    # When something was made is not what it says.
    return {
        name: value
        for name, value in kind.row_of(item).items()
        if name not in ("created_at", "updated_at")
    }


def _unload(connection: Connection, names: Collection[str]) -> list[str]:
    there = [found for name in names if (found := find(connection, name)) is not None]
    for namespace in there:
        hold(connection, namespace)
    hold_types(connection)
    for namespace in there:
        held = [one.name for one in every(connection, ASSOCIATION, namespace)]
        connection.execute(sa.delete(namespaces).where(namespaces.c.id == namespace.id))
        connection.execute(
            sa.delete(resource_types).where(
                resource_types.c.name.in_(held),
                resource_types.c.name.not_in(sa.select(associations.c.name)),
            )
        )
    return [namespace.namespace for namespace in there]
