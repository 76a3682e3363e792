"""How images go: first out of sight, then their data, never their ids."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from transom.catalog import staging
from transom.catalog.locking import locked
from transom.catalog.rows import COLUMNS, fold, image_of, shelf_of, unfold_metadata
from transom.catalog.schema import (
    ONE,
    image_locations,
    image_members,
    image_properties,
    image_tags,
    images,
)
from transom.errors import (
    ImageChanged,
    ImageNotFound,
    ImageProtected,
    ScrubbingBegan,
    StatusConflict,
)
from transom.model.image import GONE, TRANSITIONS, Image, Location, Status
from transom.model.reserved import DELETED_FROM


def delete(connection: Connection, image_id: str, *, now: dt.datetime, delayed: bool) -> Image:
    """The tombstone is written, the locations are marked; gives the image as it was."""
    image = locked(connection, image_id)
    if image is None or image.status in GONE:
        raise ImageNotFound(image_id)
    if image.protected:
        raise ImageProtected(image_id)
    waits = delayed and image.locations and Status.PENDING_DELETE in TRANSITIONS[image.status]
    properties = dict(image.properties)
    if waits and image.status is not Status.ACTIVE:
        # Closed for a reason, it must not come back open.
        properties[DELETED_FROM] = str(image.status)
    gone = msgspec.structs.replace(
        image,
        status=Status.PENDING_DELETE if waits else Status.DELETED,
        properties=properties,
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
    rest = sa.select(ONE).where(image_locations.c.image_id == image_id)
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
    stores: Collection[str] | None,
    *,
    claimed: bool = True,
) -> list[tuple[str, Location]]:
    """Locations to remove, claimed: what is `removing` is not given back by `restore`, and an image
    of which a part is `removing` not by `undelete`."""
    settled = now - dt.timedelta(seconds=settled_seconds)
    due = sa.and_(image_locations.c.doomed_at <= settled, images.c.status == Status.DELETED)
    if scrub_after_seconds is not None:
        waited = now - dt.timedelta(seconds=max(scrub_after_seconds, settled_seconds))
        due = sa.or_(
            due,
            sa.and_(image_locations.c.doomed_at <= waited, images.c.status != Status.DELETED),
        )
    if stores is not None:
        due = sa.and_(due, image_locations.c.store.in_(list(stores)))
    statement = (
        sa.select(image_locations, images.c.status.label("image_status"), images.c.deleted_at)
        .join(images, images.c.id == image_locations.c.image_id)
        .where(image_locations.c.doomed_at.is_not(None), due)
        .order_by(image_locations.c.doomed_at, image_locations.c.number)
        .limit(limit)
    )
    if claimed:
        statement = statement.with_for_update(of=image_locations)
    rows = connection.execute(statement).all()
    if claimed:
        _claim(connection, [row for row in rows if row.status == "pending_delete"])
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


def _claim(connection: Connection, rows: Sequence[Any]) -> None:
    together = {
        row.image_id
        for row in rows
        if row.image_status == Status.PENDING_DELETE and row.doomed_at == row.deleted_at
    }
    if rows:
        connection.execute(
            sa.update(image_locations)
            .where(image_locations.c.number.in_([row.number for row in rows]))
            .values(status="removing")
        )
    if together:
        # All that went with the image, or a part of it might be restored without the rest.
        deleted_at = sa.select(images.c.deleted_at).where(images.c.id == image_locations.c.image_id)
        connection.execute(
            sa.update(image_locations)
            .where(
                image_locations.c.image_id.in_(together),
                image_locations.c.status == "pending_delete",
                image_locations.c.doomed_at == deleted_at.scalar_subquery(),
            )
            .values(status="removing")
        )


def waiting(
    connection: Connection, image_id: str | None, limit: int
) -> list[tuple[Image, tuple[Location, ...]]]:
    """Images whose data waits for the scrubber, last deleted first, and where the data is."""
    statement = (
        sa.select(*COLUMNS, sa.null())
        .where(images.c.shelf.in_([2, 3]), images.c.status == Status.PENDING_DELETE)
        .order_by(images.c.deleted_at.desc(), images.c.id)
        .limit(limit)
    )
    if image_id is not None:
        statement = statement.where(images.c.id == image_id)
    rows = connection.execute(statement).all()
    return [
        (image, tuple(place for place, _ in went_with(connection, image)))
        for image in (image_of(row, lambda value: value) for row in rows)
    ]


def went_with(connection: Connection, image: Image) -> list[tuple[Location, bool]]:
    """The locations that were marked when the image was deleted, in their order, and whether each
    still waits."""
    rows = connection.execute(
        sa.select(image_locations)
        .where(
            image_locations.c.image_id == image.id,
            image_locations.c.doomed_at == image.deleted_at,
        )
        .order_by(image_locations.c.position, image_locations.c.number)
    )
    return [
        (
            Location(
                store=row.store, key=row.key, url=row.url, metadata=unfold_metadata(row.metadata)
            ),
            row.status == "pending_delete",
        )
        for row in rows
    ]


def undelete(connection: Connection, image_id: str, *, now: dt.datetime) -> Image:
    """pending_delete → what the image was: active, or deactivated."""
    gone = locked(connection, image_id)
    if gone is None:
        raise ImageNotFound(image_id)
    if gone.status is not Status.PENDING_DELETE:
        raise StatusConflict(image_id, "restore", gone.status)
    connection.execute(
        sa.select(image_locations.c.number)
        .where(image_locations.c.image_id == image_id)
        .with_for_update()
    ).all()
    places = went_with(connection, gone)
    if not places or not all(waits for _, waits in places):
        raise ScrubbingBegan(image_id)
    properties = dict(gone.properties)
    back = msgspec.structs.replace(
        gone,
        status=Status(properties.pop(DELETED_FROM, None) or Status.ACTIVE),
        updated_at=now,
        deleted_at=None,
        locations=tuple(place for place, _ in places),
        properties=properties,
        revision=gone.revision + 1,
    )
    _write(connection, back)
    connection.execute(
        sa.update(image_locations)
        .where(
            image_locations.c.image_id == image_id,
            image_locations.c.doomed_at == gone.deleted_at,
        )
        .values(status="active", doomed_at=None)
    )
    return back


def _write(connection: Connection, image: Image) -> None:
    connection.execute(
        sa.update(images)
        .where(images.c.id == image.id)
        .values(
            status=image.status,
            updated_at=image.updated_at,
            deleted_at=image.deleted_at,
            properties=fold(image.properties),
            locations=fold(image.locations),
            copies=len(image.locations),
            revision=image.revision,
        )
    )
    for table in (image_properties, image_tags, image_members):
        connection.execute(
            sa.update(table).where(table.c.image_id == image.id).values(shelf=shelf_of(image))
        )
