"""How images go: first out of sight, then their data, never their ids."""

from __future__ import annotations

import datetime as dt

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from transom.catalog import staging
from transom.catalog.locking import locked
from transom.catalog.rows import fold, shelf_of, unfold_metadata
from transom.catalog.schema import (
    image_locations,
    image_members,
    image_properties,
    image_tags,
    images,
)
from transom.errors import ImageChanged, ImageNotFound, ImageProtected
from transom.model.image import GONE, TRANSITIONS, Image, Location, Status


def delete(connection: Connection, image_id: str, *, now: dt.datetime, delayed: bool) -> Image:
    """The tombstone is written, the locations are marked; gives the image as it was."""
    image = locked(connection, image_id)
    if image is None or image.status in GONE:
        raise ImageNotFound(image_id)
    if image.protected:
        raise ImageProtected(image_id)
    waits = delayed and image.locations and Status.PENDING_DELETE in TRANSITIONS[image.status]
    gone = msgspec.structs.replace(
        image,
        status=Status.PENDING_DELETE if waits else Status.DELETED,
        updated_at=now,
        deleted_at=now,
        locations=(),
        revision=image.revision + 1,
    )
    _write(connection, gone)
    staging.let_go(connection, image_id, now)
    connection.execute(
        sa.update(image_locations)
        .where(image_locations.c.image_id == image_id, image_locations.c.status == "active")
        .values(status="pending_delete", doomed_at=now)
    )
    return image


def restore(connection: Connection, image: Image) -> Image:
    """Undo `delete`, as far as the data is still there."""
    gone = locked(connection, image.id)
    if gone is None:
        raise ImageNotFound(image.id)
    if gone.status not in GONE:
        return gone
    if gone.revision != image.revision + 1:
        raise ImageChanged(image.id)
    keys = [location.key for location in image.locations]
    kept = sa.and_(
        image_locations.c.image_id == image.id,
        image_locations.c.status == "pending_delete",
        image_locations.c.key.in_(keys),
    )
    rows = connection.execute(
        sa.select(image_locations.c.store, image_locations.c.key).where(kept)
    ).all()
    left = {(row.store, row.key) for row in rows}
    if image.locations and not left:
        return gone
    connection.execute(
        sa.update(image_locations).where(kept).values(status="active", doomed_at=None)
    )
    back = msgspec.structs.replace(
        image,
        locations=tuple(
            location for location in image.locations if (location.store, location.key) in left
        ),
        revision=gone.revision + 1,
    )
    _write(connection, back)
    return back


def data_removed(connection: Connection, image_id: str, key: str) -> None:
    """Drop the row of a location whose data is gone; the last one ends `pending_delete`."""
    image = locked(connection, image_id)
    connection.execute(
        sa.delete(image_locations).where(
            image_locations.c.image_id == image_id,
            image_locations.c.key == key,
            image_locations.c.status != "active",
        )
    )
    if image is None or image.status is not Status.PENDING_DELETE:
        return
    rest = sa.select(1).where(image_locations.c.image_id == image_id)
    if connection.execute(rest).first() is None:
        connection.execute(
            sa.update(images)
            .where(images.c.id == image_id)
            .values(status=Status.DELETED, revision=image.revision + 1)
        )


def doomed(
    connection: Connection,
    limit: int,
    now: dt.datetime,
    settled_seconds: float,
    scrub_after_seconds: float | None,
) -> list[tuple[str, Location]]:
    """Locations to remove, claimed: what is `removing` is not given back by `restore`."""
    settled = now - dt.timedelta(seconds=settled_seconds)
    due = sa.and_(image_locations.c.doomed_at <= settled, images.c.status == Status.DELETED)
    if scrub_after_seconds is not None:
        waited = now - dt.timedelta(seconds=max(scrub_after_seconds, settled_seconds))
        due = sa.or_(
            due,
            sa.and_(image_locations.c.doomed_at <= waited, images.c.status != Status.DELETED),
        )
    rows = connection.execute(
        sa.select(image_locations)
        .join(images, images.c.id == image_locations.c.image_id)
        .where(image_locations.c.doomed_at.is_not(None), due)
        .order_by(image_locations.c.doomed_at, image_locations.c.number)
        .limit(limit)
        .with_for_update(of=image_locations)
    ).all()
    fresh = [row.number for row in rows if row.status == "pending_delete"]
    if fresh:
        connection.execute(
            sa.update(image_locations)
            .where(image_locations.c.number.in_(fresh))
            .values(status="removing")
        )
    return [
        (
            row.image_id,
            Location(
                store=row.store,
                key=row.key,
                url=row.url,
                metadata=unfold_metadata(row.metadata),
                status="pending_delete",
            ),
        )
        for row in rows
    ]


def _write(connection: Connection, image: Image) -> None:
    connection.execute(
        sa.update(images)
        .where(images.c.id == image.id)
        .values(
            status=image.status,
            updated_at=image.updated_at,
            deleted_at=image.deleted_at,
            locations=fold(image.locations),
            copies=len(image.locations),
            revision=image.revision,
        )
    )
    for table in (image_properties, image_tags, image_members):
        connection.execute(
            sa.update(table).where(table.c.image_id == image.id).values(shelf=shelf_of(image))
        )
