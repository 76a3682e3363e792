"""Whether the rows around images say what the images' own rows say, and how to make them agree.

What an image shows comes from its row; what finds it comes from the rows around it. For tags,
properties and members the image's row is right: it is what clients have been shown. Locations are
different: by their rows data is removed, so where the two disagree nobody can tell from the catalog
alone which of them is right, and the caller decides.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from transom.catalog.engine import Engine
from transom.catalog.images import rows_around
from transom.catalog.locking import locked
from transom.catalog.rows import (
    COLUMNS,
    fold,
    image_of,
    location_row,
    shelf_of,
)
from transom.catalog.schema import (
    image_locations,
    image_members,
    image_properties,
    image_tags,
    images,
)
from transom.catalog.withdrawal import active_locations
from transom.model.image import GONE, Image, Location
from transom.model.reserved import IMPORTING_TO

Part = Literal["tags", "properties", "members", "locations", "copies"]
"""What of an image is not as it should be."""


class Flaw(msgspec.Struct, frozen=True, kw_only=True):
    """An image whose rows disagree about a part of it."""

    image_id: str
    part: Part


class Consistency:
    """Compares and mends. Every method may raise CatalogUnavailable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def flaws(self, *, after: str = "", limit: int = 500) -> tuple[list[Flaw], str]:
        """What seems wrong with the next images in the order of their ids, and the last id that was
        looked at; empty when there are no more. What changes meanwhile may look wrong: `confirm`."""
        return await self._engine.read(lambda connection: _flaws(connection, after, limit))

    async def confirm(self, image_id: str) -> list[Part]:
        """What is wrong with an image, seen while nobody can change it."""
        return await self._engine.write(lambda connection: _look(connection, image_id)[1])

    async def mend(self, image_id: str) -> list[Part]:
        """Make tags, properties, members and the number of copies agree with the image's row;
        gives what was changed."""
        return await self._engine.write(lambda connection: _mend(connection, image_id))

    async def locations(self, image_id: str) -> tuple[tuple[Location, ...], tuple[Location, ...]]:
        """The locations that the image's row names, and those that have rows of their own."""

        def work(connection: Connection) -> tuple[tuple[Location, ...], tuple[Location, ...]]:
            image = _image(connection, image_id)
            return () if image is None else image.locations, active_locations(connection, image_id)

        return await self._engine.read(work)

    async def set_locations(self, image_id: str, kept: Sequence[Location]) -> bool:
        """Make both say that these are the locations of a living image. False when it is gone."""
        return await self._engine.write(
            lambda connection: _set_locations(connection, image_id, kept)
        )

    async def doom_locations(self, image_id: str, *, now: dt.datetime) -> int:
        """Mark what is left of an image that is gone for removal; gives how many."""

        def work(connection: Connection) -> int:
            image = locked(connection, image_id)
            if image is None or image.status not in GONE:
                return 0
            return connection.execute(
                sa.update(image_locations)
                .where(image_locations.c.image_id == image_id, image_locations.c.status == "active")
                .values(status="pending_delete", doomed_at=now)
            ).rowcount

        return await self._engine.write(work)


def _image(connection: Connection, image_id: str) -> Image | None:
    row = connection.execute(sa.select(*COLUMNS, sa.null()).where(images.c.id == image_id)).first()
    return None if row is None else image_of(row, lambda moment: moment)


def _flaws(connection: Connection, after: str, limit: int) -> tuple[list[Flaw], str]:
    rows = connection.execute(
        sa.select(*COLUMNS, sa.null(), images.c.copies, images.c.copying)
        .where(images.c.id > after)
        .order_by(images.c.id)
        .limit(limit)
    ).all()
    if not rows:
        return [], ""
    page = [(image_of(row[:-2], lambda moment: moment), row[-2], row[-1]) for row in rows]
    around = _Around(connection, [image.id for image, _, _ in page])
    found: list[Flaw] = []
    for image, copies, copying in page:
        found += (
            Flaw(image_id=image.id, part=part) for part in _wrong(image, copies, copying, around)
        )
    return found, page[-1][0].id


class _Around:
    """The rows around some images, in a form that can be compared."""

    def __init__(self, connection: Connection, ids: list[str]) -> None:
        self.tags = _grouped(connection, image_tags, ids)
        self.properties = _grouped(connection, image_properties, ids)
        self.members = _grouped(connection, image_members, ids)
        self.locations: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
        for row in connection.execute(
            sa.select(image_locations)
            .where(image_locations.c.image_id.in_(ids), image_locations.c.status == "active")
            .order_by(image_locations.c.position, image_locations.c.number)
        ):
            self.locations[row.image_id].append((row.store, row.key, row.url))


def _grouped(
    connection: Connection, table: sa.Table, ids: list[str]
) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in connection.execute(sa.select(table).where(table.c.image_id.in_(ids))).mappings():
        found[row["image_id"]].append(dict(row))
    return found


def _wrong(image: Image, copies: int, copying: bool, around: _Around) -> Iterable[Part]:
    named = [(place.store, place.key, place.url) for place in image.locations]
    if sorted(named) != sorted(around.locations[image.id]):
        yield "locations"
    if image.status in GONE:
        return
    if copies != len(named) or copying != bool(image.properties.get(IMPORTING_TO)):
        yield "copies"
    should = rows_around(image)
    if _as_set(around.tags[image.id]) != _as_set(should[image_tags]):
        yield "tags"
    if _as_set(around.properties[image.id]) != _as_set(should[image_properties]):
        yield "properties"
    common = (shelf_of(image), image.created_at)
    if any((row["shelf"], row["image_created_at"]) != common for row in around.members[image.id]):
        yield "members"


def _as_set(rows: Iterable[dict[str, Any]]) -> set[tuple[Any, ...]]:
    return {tuple(row[name] for name in sorted(row)) for row in rows}


def _look(connection: Connection, image_id: str) -> tuple[Image | None, list[Part]]:
    image = locked(connection, image_id)
    if image is None:
        return None, []
    copies, copying = connection.execute(
        sa.select(images.c.copies, images.c.copying).where(images.c.id == image_id)
    ).one()
    return image, list(_wrong(image, copies, copying, _Around(connection, [image_id])))


def _mend(connection: Connection, image_id: str) -> list[Part]:
    image, found = _look(connection, image_id)
    if image is None or image.status in GONE:
        return []
    wrong: list[Part] = [part for part in found if part != "locations"]
    should = rows_around(image)
    tables: dict[Part, sa.Table] = {"tags": image_tags, "properties": image_properties}
    for part, table in tables.items():
        if part in wrong:
            connection.execute(sa.delete(table).where(table.c.image_id == image_id))
            if should[table]:
                connection.execute(sa.insert(table), should[table])
    if "members" in wrong:
        connection.execute(
            sa.update(image_members)
            .where(image_members.c.image_id == image_id)
            .values(shelf=shelf_of(image), image_created_at=image.created_at)
        )
    if "copies" in wrong:
        connection.execute(
            sa.update(images)
            .where(images.c.id == image_id)
            .values(copies=len(image.locations), copying=bool(image.properties.get(IMPORTING_TO)))
        )
    return wrong


def _set_locations(connection: Connection, image_id: str, kept: Sequence[Location]) -> bool:
    image = locked(connection, image_id)
    if image is None or image.status in GONE:
        return False
    connection.execute(
        sa.delete(image_locations).where(
            image_locations.c.image_id == image_id, image_locations.c.status == "active"
        )
    )
    connection.execute(
        sa.insert(image_locations),
        [
            location_row(image_id, position, location, image.updated_at)
            for position, location in enumerate(kept)
        ],
    )
    connection.execute(
        sa.update(images)
        .where(images.c.id == image_id)
        .values(locations=fold(tuple(kept)), copies=len(kept), revision=image.revision + 1)
    )
    return True
