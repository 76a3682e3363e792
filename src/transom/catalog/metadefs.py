"""Metadata definitions as the catalog remembers them: one method, one hop, one transaction.

Every writer holds the row of the namespace first. So what it reads in there stays as it is until it
has written, and names are unique without an error of the database.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from transom.catalog.engine import Engine, is_duplicate, lock
from transom.catalog.metadef_tables import (
    associations,
    namespaces,
    objects,
    properties,
    resource_types,
    tags,
)
from transom.catalog.rows import is_storable
from transom.catalog.schema import ONE, Moment
from transom.errors import (
    DuplicateMetadef,
    MetadefNotFound,
    NamespaceNotFound,
    NamespaceProtected,
)
from transom.model.actor import Actor
from transom.model.metadef import (
    Association,
    Contents,
    MetadefObject,
    MetadefProperty,
    MetadefTag,
    Namespace,
    NamespaceQuery,
    NamespaceVisibility,
    ResourceType,
    TagQuery,
)


class Named(Protocol):
    """What stands in a namespace under a name."""

    @property
    def name(self) -> str:
        """The name, unique among its kind in the namespace."""
        ...


T = TypeVar("T", bound=Named)

_names = msgspec.json.Decoder(tuple[str, ...])
_definition = msgspec.json.Decoder(dict[str, Any])
_definitions = msgspec.json.Decoder(dict[str, dict[str, Any]])

_TYPE_ONCE = sa.text(
    "INSERT INTO metadef_resource_types (name, created_at, updated_at) "
    "VALUES (:name, :created_at, :updated_at) ON CONFLICT DO NOTHING"
).bindparams(sa.bindparam("created_at", type_=Moment), sa.bindparam("updated_at", type_=Moment))


# --- rows ------------------------------------------------------------------------------------------


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _association_of(row: Any) -> Association:
    return Association(
        name=row.name,
        prefix=row.prefix,
        properties_target=row.properties_target,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _property_row(item: MetadefProperty) -> dict[str, Any]:
    return msgspec.structs.asdict(item) | {"definition": _json(item.definition)}


def _property_of(row: Any) -> MetadefProperty:
    return MetadefProperty(
        name=row.name,
        definition=_definition.decode(row.definition),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _object_row(item: MetadefObject) -> dict[str, Any]:
    return msgspec.structs.asdict(item) | {
        "required": _json(item.required),
        "properties": _json(item.properties),
    }


def _object_of(row: Any) -> MetadefObject:
    return MetadefObject(
        name=row.name,
        description=row.description,
        required=_names.decode(row.required),
        properties=_definitions.decode(row.properties),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _tag_of(row: Any) -> MetadefTag:
    return MetadefTag(name=row.name, created_at=row.created_at, updated_at=row.updated_at)


def _namespace_of(row: Any, found: Iterable[Association] = ()) -> Namespace:
    return Namespace(
        id=row.id,
        namespace=row.namespace,
        display_name=row.display_name,
        description=row.description,
        visibility=NamespaceVisibility(row.visibility),
        protected=row.protected,
        owner=row.owner,
        created_at=row.created_at,
        updated_at=row.updated_at,
        associations=tuple(found),
    )


def _namespace_row(namespace: Namespace) -> dict[str, Any]:
    return {
        "namespace": namespace.namespace,
        "display_name": namespace.display_name,
        "description": namespace.description,
        "visibility": str(namespace.visibility),
        "protected": namespace.protected,
        "owner": namespace.owner,
        "created_at": namespace.created_at,
        "updated_at": namespace.updated_at,
    }


@dataclasses.dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """One kind of things in a namespace: its table, and what a row of it means."""

    word: str
    table: sa.Table
    row_of: Callable[[T], dict[str, Any]]
    item_of: Callable[[Any], T]


ASSOCIATION: Kind[Association] = Kind(
    "resource type", associations, msgspec.structs.asdict, _association_of
)
PROPERTY: Kind[MetadefProperty] = Kind("property", properties, _property_row, _property_of)
OBJECT: Kind[MetadefObject] = Kind("object", objects, _object_row, _object_of)
TAG: Kind[MetadefTag] = Kind("tag", tags, msgspec.structs.asdict, _tag_of)


# --- one kind of things in a namespace -------------------------------------------------------------


class Definitions(Generic[T]):
    """What namespaces hold of one kind. Methods take the namespace as it was looked up; all raise
    NamespaceNotFound when it has gone meanwhile, or hold nothing then if they only read."""

    def __init__(self, engine: Engine, kind: Kind[T]) -> None:
        self._engine = engine
        self._kind = kind

    async def list(self, namespace: Namespace) -> list[T]:
        """All, in the order in which they were made."""
        return await self._engine.read(lambda connection: every(connection, self._kind, namespace))

    async def get(self, namespace: Namespace, name: str) -> T:
        """One. Raises MetadefNotFound."""
        if not is_storable(name):
            raise MetadefNotFound(self._kind.word, name, namespace.namespace)
        return await self._engine.read(
            lambda connection: _get(connection, self._kind, namespace, name)
        )

    async def add(self, namespace: Namespace, *items: T, replacing: bool = False) -> None:
        """Add some, all or none; with `replacing`, in place of those there are. Raises
        DuplicateMetadef."""

        def work(connection: Connection) -> None:
            hold(connection, namespace)
            if replacing:
                _clear(connection, self._kind, namespace)
            add(connection, self._kind, namespace, items)

        await self._engine.write(work)

    async def replace(self, namespace: Namespace, name: str, item: T) -> T:
        """Put `item` in the place of the one called `name`; it keeps the time when that was made.
        Gives what is there then. Raises MetadefNotFound, DuplicateMetadef."""
        if not is_storable(name):
            raise MetadefNotFound(self._kind.word, name, namespace.namespace)

        def work(connection: Connection) -> T:
            hold(connection, namespace)
            replace(connection, self._kind, namespace, name, item)
            return _get(connection, self._kind, namespace, item.name)

        return await self._engine.write(work)

    async def remove(self, namespace: Namespace, name: str) -> None:
        """Remove one. Raises MetadefNotFound, NamespaceProtected."""
        if not is_storable(name):
            raise MetadefNotFound(self._kind.word, name, namespace.namespace)

        def work(connection: Connection) -> None:
            hold(connection, namespace, taking_out=True)
            found = self._kind.table
            gone = connection.execute(sa.delete(found).where(_named(found, namespace, name)))
            if gone.rowcount == 0:
                raise MetadefNotFound(self._kind.word, name, namespace.namespace)

        await self._engine.write(work)

    async def clear(self, namespace: Namespace) -> None:
        """Remove all. Raises NamespaceProtected."""

        def work(connection: Connection) -> None:
            hold(connection, namespace, taking_out=True)
            _clear(connection, self._kind, namespace)

        await self._engine.write(work)


class Tags(Definitions[MetadefTag]):
    """The tags of namespaces, which can be read page by page as well."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, TAG)

    async def page(self, namespace: Namespace, query: TagQuery) -> list[MetadefTag]:
        """A page of the tags. Raises MetadefNotFound when the marker is none."""
        marker = query.marker
        if marker is not None and not is_storable(marker):
            raise MetadefNotFound(TAG.word, marker, namespace.namespace)

        def work(connection: Connection) -> list[MetadefTag]:
            after: sa.Row[Any] | None = None
            if marker is not None:
                after = connection.execute(
                    sa.select(tags).where(_named(tags, namespace, marker))
                ).first()
                if after is None:
                    raise MetadefNotFound(TAG.word, marker, namespace.namespace)
            statement = _paged(tags, query.sort_key, query.sort_dir, after, query.limit).where(
                tags.c.namespace_id == namespace.id
            )
            return [_tag_of(row) for row in connection.execute(statement)]

        return await self._engine.read(work)


# --- the namespaces --------------------------------------------------------------------------------


class Metadefs:
    """Namespaces of metadata definitions, and what stands in them. Every method may raise
    CatalogUnavailable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.associations = Definitions[Association](engine, ASSOCIATION)
        self.properties = Definitions[MetadefProperty](engine, PROPERTY)
        self.objects = Definitions[MetadefObject](engine, OBJECT)
        self.tags = Tags(engine)

    async def list(self, query: NamespaceQuery, *, seen_by: Actor | None) -> list[Namespace]:
        """A page of the namespaces that `seen_by` may see; None sees all. Raises NamespaceNotFound
        when the marker is none of them."""
        if query.marker is not None and not is_storable(query.marker):
            raise NamespaceNotFound(query.marker)

        def work(connection: Connection) -> list[Namespace]:
            after: sa.Row[Any] | None = None
            if query.marker is not None:
                after = _row(connection, query.marker, seen_by)
            statement = _paged(namespaces, query.sort_key, query.sort_dir, after, query.limit)
            statement = statement.where(_visible(seen_by))
            if query.visibility is not None:
                statement = statement.where(namespaces.c.visibility == str(query.visibility))
            if query.resource_types is not None:
                asked = [name for name in query.resource_types if is_storable(name)]
                statement = statement.where(
                    namespaces.c.id.in_(
                        sa.select(associations.c.namespace_id).where(associations.c.name.in_(asked))
                    )
                )
            rows = list(connection.execute(statement))
            found = _associations(connection, [row.id for row in rows])
            return [_namespace_of(row, found.get(row.id, ())) for row in rows]

        return await self._engine.read(work)

    async def get(self, name: str, *, seen_by: Actor | None) -> Namespace:
        """The namespace of this name, if `seen_by` may see it; None sees all. Raises
        NamespaceNotFound."""
        if not is_storable(name):
            raise NamespaceNotFound(name)

        def work(connection: Connection) -> Namespace:
            row = _row(connection, name, seen_by)
            return _namespace_of(row, _associations(connection, [row.id]).get(row.id, ()))

        return await self._engine.read(work)

    async def contents(self, namespace: Namespace) -> Contents:
        """Everything that stands in the namespace."""
        return await self._engine.read(lambda connection: contents_of(connection, namespace))

    async def create(self, namespace: Namespace, contents: Contents) -> Namespace:
        """Remember a new namespace with its associations and contents; gives it with its number.
        Raises DuplicateMetadef for its name, or for one twice in it."""
        return await self._engine.write(lambda connection: create(connection, namespace, contents))

    async def replace(self, namespace: Namespace, after: Namespace) -> None:
        """Write the namespace's own fields as `after` has them; it keeps the time when it was
        made, its associations, and its contents. Raises NamespaceNotFound, DuplicateMetadef."""

        def work(connection: Connection) -> None:
            hold(connection, namespace)
            rewrite(connection, namespace, after)

        await self._engine.write(work)

    async def delete(self, namespace: Namespace) -> None:
        """Delete the namespace and all that it holds. Raises NamespaceNotFound,
        NamespaceProtected."""

        def work(connection: Connection) -> None:
            hold(connection, namespace, taking_out=True)
            connection.execute(sa.delete(namespaces).where(namespaces.c.id == namespace.id))

        await self._engine.write(work)

    async def types(self) -> tuple[ResourceType, ...]:
        """Every resource type that was ever associated, by name."""

        def work(connection: Connection) -> tuple[ResourceType, ...]:
            rows = connection.execute(sa.select(resource_types).order_by(resource_types.c.name))
            return tuple(
                ResourceType(name=row.name, created_at=row.created_at, updated_at=row.updated_at)
                for row in rows
            )

        return await self._engine.read(work)


# --- what transactions are made of -----------------------------------------------------------------


def hold(connection: Connection, namespace: Namespace, *, taking_out: bool = False) -> None:
    """Keep the namespace as it is until the transaction ends. Raises NamespaceNotFound when it has
    gone, and, to who wants to take something out of it, NamespaceProtected."""
    row = connection.execute(
        sa.select(namespaces.c.protected).where(namespaces.c.id == namespace.id).with_for_update()
    ).first()
    if row is None:
        raise NamespaceNotFound(namespace.namespace)
    if taking_out and row.protected:
        raise NamespaceProtected(namespace.namespace)


def hold_types(connection: Connection) -> None:
    """Keep the resource types as they are for others until the transaction ends; after the
    namespaces are held, never before, so that no two transactions wait for each other."""
    lock(connection, "transom resource types")


def create(connection: Connection, namespace: Namespace, contents: Contents) -> Namespace:
    """Write a new namespace and all that it holds."""
    try:
        result = connection.execute(sa.insert(namespaces).values(_namespace_row(namespace)))
    except Exception as error:
        if is_duplicate(error):
            raise DuplicateMetadef("namespace", namespace.namespace) from error
        raise
    number = result.inserted_primary_key
    assert number is not None
    made = msgspec.structs.replace(namespace, id=int(number[0]))
    add(connection, ASSOCIATION, made, made.associations)
    add(connection, PROPERTY, made, contents.properties)
    add(connection, OBJECT, made, contents.objects)
    add(connection, TAG, made, contents.tags)
    return made


def rewrite(connection: Connection, namespace: Namespace, after: Namespace) -> None:
    """Write the namespace's own fields, all but the time when it was made."""
    values = _namespace_row(after)
    del values["created_at"]
    try:
        connection.execute(
            sa.update(namespaces).where(namespaces.c.id == namespace.id).values(values)
        )
    except Exception as error:
        if is_duplicate(error):
            raise DuplicateMetadef("namespace", after.namespace) from error
        raise


def contents_of(connection: Connection, namespace: Namespace) -> Contents:
    """Everything that stands in the namespace."""
    return Contents(
        properties=tuple(every(connection, PROPERTY, namespace)),
        objects=tuple(every(connection, OBJECT, namespace)),
        tags=tuple(every(connection, TAG, namespace)),
    )


def add(connection: Connection, kind: Kind[T], namespace: Namespace, items: Iterable[T]) -> None:
    """Write new rows of a kind. The namespace must be held."""
    table = kind.table
    taken = set(
        connection.execute(
            sa.select(table.c.name).where(table.c.namespace_id == namespace.id)
        ).scalars()
    )
    rows = []
    for item in items:
        if item.name in taken:
            raise DuplicateMetadef(kind.word, item.name)
        taken.add(item.name)
        rows.append(kind.row_of(item) | {"namespace_id": namespace.id})
    if not rows:
        return
    if table is associations:
        hold_types(connection)
        connection.execute(
            _TYPE_ONCE,
            [{name: row[name] for name in ("name", "created_at", "updated_at")} for row in rows],
        )
    # One by one, because their numbers are their order.
    for row in rows:
        connection.execute(sa.insert(table).values(row))


def replace(
    connection: Connection, kind: Kind[T], namespace: Namespace, name: str, item: T
) -> None:
    """Write one row of a kind anew. The namespace must be held."""
    table = kind.table
    if item.name != name and _is_there(connection, table, namespace, item.name):
        if not _is_there(connection, table, namespace, name):
            raise MetadefNotFound(kind.word, name, namespace.namespace)
        raise DuplicateMetadef(kind.word, item.name)
    values = kind.row_of(item)
    del values["created_at"]
    written = connection.execute(
        sa.update(table).where(_named(table, namespace, name)).values(values)
    )
    if written.rowcount == 0:
        raise MetadefNotFound(kind.word, name, namespace.namespace)


def _clear(connection: Connection, kind: Kind[T], namespace: Namespace) -> None:
    table = kind.table
    connection.execute(sa.delete(table).where(table.c.namespace_id == namespace.id))


def every(connection: Connection, kind: Kind[T], namespace: Namespace) -> list[T]:
    """All that the namespace holds of a kind, in the order in which it was made."""
    table = kind.table
    rows = connection.execute(
        sa.select(table).where(table.c.namespace_id == namespace.id).order_by(table.c.id)
    )
    return [kind.item_of(row) for row in rows]


def _get(connection: Connection, kind: Kind[T], namespace: Namespace, name: str) -> T:
    table = kind.table
    row = connection.execute(sa.select(table).where(_named(table, namespace, name))).first()
    if row is None:
        raise MetadefNotFound(kind.word, name, namespace.namespace)
    return kind.item_of(row)


def _is_there(connection: Connection, table: sa.Table, namespace: Namespace, name: str) -> bool:
    asked = sa.select(ONE).where(_named(table, namespace, name))
    return connection.execute(asked).first() is not None


def _named(table: sa.Table, namespace: Namespace, name: str) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.namespace_id == namespace.id, table.c.name == name)


def find(connection: Connection, name: str) -> Namespace | None:
    """The namespace of this name with its associations, if there is one."""
    row = connection.execute(sa.select(namespaces).where(namespaces.c.namespace == name)).first()
    if row is None:
        return None
    return _namespace_of(row, _associations(connection, [row.id]).get(row.id, ()))


def _row(connection: Connection, name: str, seen_by: Actor | None) -> sa.Row[Any]:
    row = connection.execute(
        sa.select(namespaces).where(namespaces.c.namespace == name, _visible(seen_by))
    ).first()
    if row is None:
        raise NamespaceNotFound(name)
    return row


def _visible(seen_by: Actor | None) -> sa.ColumnElement[bool]:
    if seen_by is None or seen_by.is_admin:
        return sa.true()
    public = namespaces.c.visibility == str(NamespaceVisibility.PUBLIC)
    if seen_by.project_id is None:
        return public
    return sa.or_(public, namespaces.c.owner == seen_by.project_id)


def _associations(connection: Connection, numbers: list[int]) -> dict[int, list[Association]]:
    found: dict[int, list[Association]] = {}
    if numbers:
        rows = connection.execute(
            sa.select(associations)
            .where(associations.c.namespace_id.in_(numbers))
            .order_by(associations.c.id)
        )
        for row in rows:
            found.setdefault(row.namespace_id, []).append(_association_of(row))
    return found


def _paged(
    table: sa.Table, key: str, direction: str, after: sa.Row[Any] | None, limit: int | None
) -> sa.Select[Any]:
    """The rows after a row, in the order of a column and, where that is the same, of creation."""
    order = sa.tuple_(table.c[key], table.c.id)
    statement = sa.select(table)
    if after is not None:
        bound = sa.tuple_(
            sa.bindparam(None, getattr(after, key), type_=table.c[key].type),
            sa.bindparam(None, after.id, type_=table.c.id.type),
        )
        statement = statement.where(order > bound if direction == "asc" else order < bound)
    way = sa.asc if direction == "asc" else sa.desc
    return statement.order_by(way(table.c[key]), way(table.c.id)).limit(limit)
