"""Intakes: data on its way in, remembered so that nothing of it is ever lost sight of.

A row of `intakes` is written in the transaction that takes the image, before the first byte, and
goes in the one that makes the image active or queued again. Whatever crashes in between leaves the
row, and with it the store, the key and the token of the bytes.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from transom.catalog.engine import Engine, lock
from transom.catalog.locking import locked
from transom.catalog.rows import fold, location_row
from transom.catalog.schema import image_locations, images, intakes, processes
from transom.errors import ImageDeletedMeanwhile, ImageNotFound, QuotaExceeded, StatusConflict
from transom.model.image import GONE, Image, Location, Status
from transom.model.limit import BytesLimit, CountLimit

IntakeKind = Literal["saving", "uploading"]
"""Upload into a store, or into the staging store; the status of the image meanwhile."""

NOBODY = "nobody"
"""The process of intakes that nobody works on any more."""

_ACTIONS: dict[str, str] = {"saving": "upload data to", "uploading": "stage data for"}
_STAGED = (Status.UPLOADING, Status.IMPORTING)


class Intake(msgspec.Struct, frozen=True, kw_only=True):
    """Data that comes in for an image: where it goes and who takes it."""

    image_id: str
    kind: IntakeKind
    store: str
    key: str
    token: str
    process_id: str
    started_at: dt.datetime
    reserved_bytes: int = 0


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a project's images use, as lifecycle §5 counts."""

    bytes_total: int
    """Size times the number of locations."""
    bytes_staged: int
    """Size of images that are staged, importing, or being copied to further stores."""
    bytes_reserved: int
    """What running intakes, into stores and into the staging store, have reserved and not yet turned
    into size."""
    images: int
    uploading: int
    """Images that data is coming in for, copies to further stores included."""


class Intakes:
    """The intakes that are under way. Every method may raise CatalogUnavailable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def of_dead(self, process_ids: Collection[str]) -> list[Intake]:
        """Intakes of these processes and of those that have no row any more, oldest first."""
        dead = list(process_ids)
        statement = (
            sa.select(intakes)
            .where(
                sa.or_(
                    intakes.c.process_id.in_(dead),
                    ~sa.exists().where(processes.c.process_id == intakes.c.process_id),
                )
            )
            .order_by(intakes.c.started_at, intakes.c.image_id)
        )
        return await self._engine.read(
            lambda connection: [_intake_of(row) for row in connection.execute(statement).mappings()]
        )

    async def disown(self, image_id: str, key: str) -> bool:
        """Take the intake from its process, which cannot finish it any more, and leave it to the
        sweep. False when it is over already."""
        statement = (
            sa.update(intakes)
            .where(intakes.c.image_id == image_id, intakes.c.key == key)
            .values(process_id=NOBODY)
        )
        return await self._engine.write(
            lambda connection: connection.execute(statement).rowcount > 0
        )

    async def get(self, image_id: str) -> Intake | None:
        """The intake that is under way for the image, if any."""
        statement = sa.select(intakes).where(intakes.c.image_id == image_id)

        def work(connection: Connection) -> Intake | None:
            row = connection.execute(statement).mappings().first()
            return None if row is None else _intake_of(row)

        return await self._engine.read(work)


def _intake_of(row: Any) -> Intake:
    return Intake(**row)


def begin(connection: Connection, intake: Intake, limit: CountLimit | None = None) -> Image:
    """queued → saving or uploading, and the row; within the limit of images that data comes in for."""
    image = locked(connection, intake.image_id)
    if image is None or image.status in GONE:
        raise ImageNotFound(intake.image_id)
    if image.status is not Status.QUEUED:
        raise StatusConflict(image.id, _ACTIONS[intake.kind], image.status)
    if limit is not None and image.owner is not None:
        one_more(connection, image.owner, limit, "uploading")
    after = msgspec.structs.replace(
        image,
        status=Status(intake.kind),
        updated_at=max(image.updated_at, intake.started_at),
        revision=image.revision + 1,
    )
    connection.execute(
        sa.update(images)
        .where(images.c.id == image.id)
        .values(status=after.status, updated_at=after.updated_at, revision=after.revision)
    )
    connection.execute(sa.insert(intakes), msgspec.structs.asdict(intake))
    return after


def finish(
    connection: Connection, image_id: str, location: Location, facts: dict[str, Any]
) -> Image:
    """saving → active, for the intake whose key the location has; not one that was disowned: a
    sweep may have removed its data."""
    image = locked(connection, image_id)
    if image is None or image.status in GONE:
        raise ImageDeletedMeanwhile(image_id)
    mine = sa.and_(intakes.c.image_id == image_id, intakes.c.key == location.key)
    found = connection.execute(
        sa.delete(intakes).where(mine, intakes.c.kind == "saving", intakes.c.process_id != NOBODY)
    )
    if found.rowcount == 0 or image.status is not Status.SAVING:
        raise StatusConflict(image_id, "finish the upload to", image.status)
    after = msgspec.structs.replace(
        image,
        status=Status.ACTIVE,
        locations=(location,),
        revision=image.revision + 1,
        **facts,
    )
    connection.execute(
        sa.update(images)
        .where(images.c.id == image_id)
        .values(
            status=Status.ACTIVE,
            locations=fold(after.locations),
            copies=1,
            revision=after.revision,
            **facts,
        )
    )
    connection.execute(
        sa.insert(image_locations), location_row(image_id, 0, location, after.updated_at)
    )
    return after


def abandon(connection: Connection, image_id: str, key: str, left_in: str = "") -> bool:
    """saving or uploading → queued, and the row goes; if the data is still in a store, a location
    that is being removed remembers it."""
    image = locked(connection, image_id)
    found = connection.execute(
        sa.delete(intakes).where(intakes.c.image_id == image_id, intakes.c.key == key)
    )
    if image is None or found.rowcount == 0:
        return False
    if left_in:
        left = Location(store=left_in, key=key, url="", status="pending_delete")
        row = location_row(image_id, 0, left, dt.datetime.now(dt.UTC))
        # Nobody may have it back: it was never whole.
        connection.execute(sa.insert(image_locations), {**row, "status": "removing"})
    if image.status not in (Status.SAVING, Status.UPLOADING):
        return False
    connection.execute(
        sa.delete(image_locations).where(
            image_locations.c.image_id == image_id,
            image_locations.c.key == key,
            image_locations.c.status != "removing",
        )
    )
    kept = tuple(location for location in image.locations if location.key != key)
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
            locations=fold(kept),
            copies=len(kept),
            updated_at=max(image.updated_at, dt.datetime.now(dt.UTC)),
            revision=image.revision + 1,
        )
    )
    return True


def one_more(
    connection: Connection, project: str, limit: CountLimit, counts: Literal["all", "uploading"]
) -> None:
    """Let the project have one more image, or one more that data comes in for. Raises QuotaExceeded.

    Until the end of the transaction nobody else is let have one.
    """
    lock(connection, f"usage of {project}")
    statement = _images_statement if counts == "all" else _uploading_statement
    count = connection.execute(statement, {"project": project}).scalar_one()
    if count >= limit.count_max:
        raise QuotaExceeded(limit.name, limit.count_max, count + 1)


def reserve(
    connection: Connection,
    image_id: str,
    key: str,
    needed_bytes: int,
    wanted_bytes: int,
    *,
    project: str,
    limits: Sequence[BytesLimit],
) -> int | QuotaExceeded:
    """Grow the reservation of one intake within the limits of its project; gives what it is now, or
    why there is none any more."""
    # Two intakes of one project must not both find the same room free.
    lock(connection, f"usage of {project}")
    row = connection.execute(
        sa.select(images.c.status, intakes.c.reserved_bytes, intakes.c.kind)
        .select_from(
            images.outerjoin(
                intakes, sa.and_(intakes.c.image_id == images.c.id, intakes.c.key == key)
            )
        )
        .where(images.c.id == image_id)
    ).first()
    if row is None or row.status in GONE:
        raise ImageDeletedMeanwhile(image_id)
    if row.reserved_bytes is None:
        raise StatusConflict(image_id, "upload data to", row.status)
    granted_bytes = max(wanted_bytes, row.reserved_bytes)
    refusal: QuotaExceeded | None = None
    for limit in limits:
        others_bytes = used_bytes(connection, project, limit.counts)
        if row.kind in _KINDS[limit.counts]:
            others_bytes -= row.reserved_bytes
        try:
            room_bytes = _room(limit, others_bytes, needed_bytes, wanted_bytes)
        except QuotaExceeded as over:
            # Its data will be thrown away. Did it keep its room until then, many that grow at once
            # could all be refused for the sake of each other.
            refusal, granted_bytes = over, 0
            break
        granted_bytes = min(granted_bytes, max(room_bytes, row.reserved_bytes))
    if granted_bytes != row.reserved_bytes:
        connection.execute(
            sa.update(intakes)
            .where(intakes.c.image_id == image_id, intakes.c.key == key)
            .values(reserved_bytes=granted_bytes)
        )
    return refusal or int(granted_bytes)


def refuse_more(
    connection: Connection,
    project: str,
    added_bytes: int,
    limits: Sequence[BytesLimit],
    *,
    staged_bytes: int = 0,
) -> None:
    """Raise QuotaExceeded unless the project may have so many bytes more. `staged_bytes` of them lie
    in the staging store already, where some limits count them. Until the end of the transaction
    nobody else is let have any."""
    lock(connection, f"usage of {project}")
    for limit in limits:
        more_bytes = added_bytes
        if limit.counts == "all":
            more_bytes = max(0, added_bytes - staged_bytes)
        _room(limit, used_bytes(connection, project, limit.counts), more_bytes, more_bytes)


def _room(limit: BytesLimit, others_bytes: int, needed_bytes: int, wanted_bytes: int) -> int:
    """How much an intake may have, at least what it needs, beside what the others have."""
    left_bytes = limit.bytes_max - others_bytes
    if needed_bytes <= left_bytes:
        return min(wanted_bytes, left_bytes)
    if left_bytes < 0 or limit.is_exact:
        unit = limit.unit_bytes
        raise QuotaExceeded(
            limit.name, limit.bytes_max // unit, (others_bytes + needed_bytes) // unit
        )
    return wanted_bytes


# A factor of 1.0 makes the sums numeric in PostgreSQL and floating in SQLite, exact up to 2^53 (9
# petabytes): integers would end in an error when someone adds locations that claim absurd sizes.
_plain_size = sa.literal_column("1.0", sa.Numeric) * images.c.size
_times_copies = _plain_size * images.c.copies
# Staged data is in no location yet, and takes as much room as one.
_times_places = sa.case(
    (sa.and_(images.c.status.in_(_STAGED), images.c.copies == 0), _plain_size), else_=_times_copies
)
_KINDS: dict[str, tuple[IntakeKind, ...]] = {
    "all": ("saving", "uploading"),
    "stored": ("saving",),
    "staged": ("uploading",),
}
"""Kinds of intakes whose reservations count against a limit."""

_its = sa.and_(images.c.shelf.in_([0, 1]), images.c.owner == sa.bindparam("project"))
_copying = sa.and_(images.c.copying, images.c.status == Status.ACTIVE)


def _reserved(counts: str) -> sa.ScalarSelect[Any]:
    return (
        sa.select(sa.func.coalesce(sa.func.sum(intakes.c.reserved_bytes), 0))
        .select_from(intakes.join(images, images.c.id == intakes.c.image_id))
        .where(_its, intakes.c.kind.in_(_KINDS[counts]))
        .scalar_subquery()
    )


def _used_statement(counts: str) -> sa.Select[Any]:
    if counts == "staged":
        sizes = sa.select(sa.func.coalesce(sa.func.sum(_plain_size), 0)).where(
            _its, sa.or_(images.c.status.in_(_STAGED), _copying)
        )
    else:
        each = _times_places if counts == "all" else _times_copies
        sizes = sa.select(sa.func.coalesce(sa.func.sum(each), 0)).where(_its)
    # One statement, so that an intake that finishes at this moment counts once: as reserved bytes
    # or as the size of its image.
    return sa.select(sizes.scalar_subquery() + _reserved(counts))


_used_statements = {counts: _used_statement(counts) for counts in _KINDS}
_images_statement = sa.select(sa.func.count()).select_from(images).where(_its)
_uploading_statement = _images_statement.where(
    sa.or_(images.c.status.in_([Status.SAVING, *_STAGED]), _copying)
)
_usage_statement = (
    sa.select(
        images.c.status,
        images.c.copying,
        sa.func.count(),
        sa.func.coalesce(sa.func.sum(_times_copies), 0),
        sa.func.coalesce(sa.func.sum(_plain_size), 0),
        _reserved("all"),
    )
    .where(_its)
    .group_by(images.c.status, images.c.copying)
)


def used_bytes(connection: Connection, project: str, counts: str = "all") -> int:
    """What the project's images have, as `BytesLimit.counts` says."""
    return int(connection.execute(_used_statements[counts], {"project": project}).scalar_one())


def usage(connection: Connection, project: str) -> Usage:
    """The sums over a project's images."""
    total = staged = reserved = count = uploading = 0
    for status, copying, number, times_copies, size, reserved_now in connection.execute(
        _usage_statement, {"project": project}
    ):
        is_copying = copying and status == Status.ACTIVE
        count += number
        total += int(times_copies)
        reserved = int(reserved_now)
        if status in _STAGED or is_copying:
            staged += int(size)
        if status in (Status.SAVING, *_STAGED) or is_copying:
            uploading += number
    return Usage(
        bytes_total=total,
        bytes_staged=staged,
        bytes_reserved=reserved,
        images=count,
        uploading=uploading,
    )
