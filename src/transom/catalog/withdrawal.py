"""Locations that leave an image which lives on: marked first, removed after, never the last one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from transom.catalog.locking import locked
from transom.catalog.rows import fold, unfold_metadata
from transom.catalog.schema import image_locations, images
from transom.errors import ImageChanged, ImageNotFound
from transom.model.image import GONE, Image, Location


def withdraw(
    connection: Connection, before: Image, keys: Collection[str], *, now: dt.datetime
) -> Image:
    """Take the locations with these keys off the image, if its status and locations still are as
    `before`, and mark them for removal."""
    image = locked(connection, before.id)
    if image is None or image.status in GONE:
        raise ImageNotFound(before.id)
    if (image.status, image.locations) != (before.status, before.locations):
        raise ImageChanged(before.id)
    kept = tuple(location for location in image.locations if location.key not in keys)
    if not kept:
        raise ValueError("an image keeps at least one location")
    connection.execute(
        sa.update(image_locations)
        .where(
            image_locations.c.image_id == image.id,
            image_locations.c.status == "active",
            image_locations.c.key.in_(list(keys)),
        )
        .values(status="pending_delete", doomed_at=now)
    )
    return _write(connection, image, kept, max(image.updated_at, now))


def put_back(connection: Connection, image_id: str, keys: Collection[str]) -> bool:
    """Undo `withdraw`, as far as the data is still there and the image lives; False when nothing
    could be put back."""
    image = locked(connection, image_id)
    if image is None or image.status in GONE:
        return False
    found = connection.execute(
        sa.update(image_locations)
        .where(
            image_locations.c.image_id == image_id,
            image_locations.c.status == "pending_delete",
            image_locations.c.key.in_(list(keys)),
        )
        .values(status="active", doomed_at=None)
    )
    if found.rowcount == 0:
        return False
    _write(connection, image, active_locations(connection, image_id), image.updated_at)
    return True


def active_locations(connection: Connection, image_id: str) -> tuple[Location, ...]:
    """The locations that the rows name, in their order: what has to be folded on the image."""
    rows = connection.execute(
        sa.select(image_locations)
        .where(image_locations.c.image_id == image_id, image_locations.c.status == "active")
        .order_by(image_locations.c.position, image_locations.c.number)
    )
    return tuple(
        Location(store=row.store, key=row.key, url=row.url, metadata=unfold_metadata(row.metadata))
        for row in rows
    )


def _write(
    connection: Connection, image: Image, kept: tuple[Location, ...], updated_at: dt.datetime
) -> Image:
    after = msgspec.structs.replace(
        image, locations=kept, updated_at=updated_at, revision=image.revision + 1
    )
    connection.execute(
        sa.update(images)
        .where(images.c.id == image.id)
        .values(
            locations=fold(kept),
            copies=len(kept),
            updated_at=updated_at,
            revision=after.revision,
        )
    )
    return after
