"""What the catalog knows of the objects in stores, and which images nobody works on any more.

The first question is what keeps an orphan sweep from removing living data, so it stands on a rule:
*whoever writes an object has its store and key in one of the tables of `NAMING` before the first
byte, and in one of them until after the last one is removed*. Who hands an object from one table to
another does so in one transaction. A table that names objects joins with one line in `NAMING`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator
from functools import partial

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from transom.catalog.engine import Engine
from transom.catalog.locking import locked
from transom.catalog.rows import unfold_locations, unfold_metadata
from transom.catalog.schema import image_locations, images, intakes
from transom.catalog.task_tables import staged, task_objects, tasks
from transom.catalog.visibility import word
from transom.model.image import Location, Status, Visibility
from transom.model.task import ENDED

NAMING = (image_locations, intakes, staged, task_objects)
"""The tables that name objects, by their columns `store` and `key`."""

KEYS_MAX = 32_766 // len(NAMING)
"""How many keys one question may hold: SQLite takes so many values, and each table wants its own."""

BUSY = (Status.SAVING, Status.UPLOADING, Status.IMPORTING)
"""States in which somebody has to be at work on an image."""

_WORKED_ON = sa.or_(
    sa.exists().where(intakes.c.image_id == images.c.id),
    sa.exists().where(staged.c.image_id == images.c.id),
    sa.exists().where(tasks.c.image_id == images.c.id, tasks.c.status.not_in(ENDED)),
)
"""True for images that data comes in for, or waits for, or that a task has."""


_busy = sa.select(images.c.id, images.c.status, images.c.updated_at).where(
    images.c.shelf.in_([sa.literal_column("0"), sa.literal_column("1")]),
    images.c.visibility.in_([word(each) for each in Visibility]),
    images.c.status.in_([word(each) for each in BUSY]),
)
"""Images in these states. The words stand in its text: PostgreSQL, which plans it without values,
would take them for common ones otherwise, and read every image."""


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A living location, with what its object has to be. `number` orders them."""

    number: int
    image_id: str
    image_status: str
    location: Location
    size_bytes: int | None
    checksum: str | None
    os_hash_algo: str | None
    os_hash_value: str | None


class Stuck(msgspec.Struct, frozen=True, kw_only=True):
    """An image that waits for somebody who is not there."""

    image_id: str
    status: str
    updated_at: dt.datetime


class Inventory:
    """Questions about everything at once, for sweeps and examinations. Every method may raise
    CatalogUnavailable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def known(self, store: str, keys: Collection[str]) -> frozenset[str]:
        """Those of the keys that the catalog names in the store, for whatever reason: locations of
        any status, data that comes in or waits, and what tasks write. At most `KEYS_MAX` keys."""
        return await self._engine.read(lambda connection: known(connection, store, keys))

    async def shown(self, store: str, keys: Collection[str]) -> frozenset[str]:
        """Those of the keys that images show as locations in the store, whatever the rows of
        locations say. Reads every image, so it is for the few keys that nobody else knows."""
        wanted, found, after = frozenset(keys), set[str](), ""
        while wanted:
            page = await self._engine.read(partial(_folded, after=after))
            if not page:
                break
            after = page[-1][0]
            for _, text in page:
                found |= {place.key for place in unfold_locations(text) if place.store == store}
        return wanted & found

    async def stores_named(self) -> dict[str, int]:
        """The stores in which the catalog names objects, and how many in each."""
        every = sa.union_all(
            *(sa.select(table.c.store, table.c.key) for table in NAMING)
        ).subquery()
        statement = (
            sa.select(every.c.store, sa.func.count())
            .group_by(every.c.store)
            .order_by(every.c.store)
        )
        return await self._engine.read(
            lambda connection: {store: int(count) for store, count in connection.execute(statement)}
        )

    async def held(self, *, after: int = 0, limit: int = 500) -> list[Held]:
        """Locations of living images in the order of their numbers, those after `after`."""
        return await self._engine.read(lambda connection: _held(connection, after, limit))

    async def stuck(
        self, *, now: dt.datetime, settled_seconds: float = 60.0, limit: int = 1000
    ) -> list[Stuck]:
        """Images in a state in which somebody has to be at work on them, and nobody is, for longer
        than `settled_seconds`; oldest first."""
        return await self._engine.read(
            lambda connection: _stuck(connection, now, settled_seconds, limit)
        )

    async def unstick(self, image_id: str, *, now: dt.datetime) -> bool:
        """Put a stuck image back: `queued`, without anything of the data that never came. False,
        and nothing changes, when somebody works on it after all."""
        return await self._engine.write(lambda connection: _unstick(connection, image_id, now))


def known(connection: Connection, store: str, keys: Collection[str]) -> frozenset[str]:
    """Those of the keys that some table names in the store."""
    wanted = list(keys)
    # One statement, so one moment: an object that changes from one table to another while this
    # runs is in the first or in the second.
    statement = sa.union(
        *(
            sa.select(table.c.key).where(table.c.store == store, table.c.key.in_(wanted))
            for table in NAMING
        )
    )
    return frozenset(connection.execute(statement).scalars())


def _folded(connection: Connection, *, after: str) -> list[tuple[str, str]]:
    rows = connection.execute(
        sa.select(images.c.id, images.c.locations)
        .where(images.c.id > after, images.c.locations != "[]")
        .order_by(images.c.id)
        .limit(2000)
    )
    return [(row.id, row.locations) for row in rows]


def _held(connection: Connection, after: int, limit: int) -> list[Held]:
    rows = connection.execute(
        sa.select(
            image_locations,
            images.c.status.label("image_status"),
            images.c.size,
            images.c.checksum,
            images.c.os_hash_algo,
            images.c.os_hash_value,
        )
        .join(images, images.c.id == image_locations.c.image_id)
        .where(image_locations.c.status == "active", image_locations.c.number > after)
        .order_by(image_locations.c.number)
        .limit(limit)
    )
    return [
        Held(
            number=row.number,
            image_id=row.image_id,
            image_status=row.image_status,
            location=Location(
                store=row.store, key=row.key, url=row.url, metadata=unfold_metadata(row.metadata)
            ),
            size_bytes=row.size,
            checksum=row.checksum,
            os_hash_algo=row.os_hash_algo,
            os_hash_value=row.os_hash_value,
        )
        for row in rows
    ]


def _stuck(
    connection: Connection, now: dt.datetime, settled_seconds: float, limit: int
) -> list[Stuck]:
    # By state alone: who asks for the time too is led through every image by the index of times.
    busy = connection.execute(_busy).all()
    settled = now - dt.timedelta(seconds=settled_seconds)
    old = {row.id: row for row in busy if row.updated_at <= settled}
    found: list[Stuck] = []
    for some in _in_portions(
        sorted(old, key=lambda image_id: (old[image_id].updated_at, image_id))
    ):
        idle = set(
            connection.execute(
                sa.select(images.c.id).where(images.c.id.in_(some), ~_WORKED_ON)
            ).scalars()
        )
        found += (
            Stuck(image_id=each, status=old[each].status, updated_at=old[each].updated_at)
            for each in some
            if each in idle
        )
        if len(found) >= limit:
            break
    return found[:limit]


def _in_portions(ids: list[str], size: int = 500) -> Iterator[list[str]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def _unstick(connection: Connection, image_id: str, now: dt.datetime) -> bool:
    image = locked(connection, image_id)
    if image is None or image.status not in BUSY:
        return False
    idle = sa.select(images.c.id).where(images.c.id == image_id, ~_WORKED_ON)
    if connection.execute(idle).first() is None:
        return False
    connection.execute(
        sa.update(image_locations)
        .where(image_locations.c.image_id == image_id, image_locations.c.status == "active")
        .values(status="pending_delete", doomed_at=now)
    )
    connection.execute(
        sa.update(images)
        .where(images.c.id == image_id)
        .values(
            status=Status.QUEUED,
            size=None,
            virtual_size=None,
            checksum=None,
            os_hash_algo=None,
            os_hash_value=None,
            locations="[]",
            copies=0,
            updated_at=max(image.updated_at, now),
            revision=image.revision + 1,
        )
    )
    return True
