"""Locations that are given to images rather than filled: by a patch, or by a task (API §7.5, §16)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from transom.catalog.engine import Engine, lock
from transom.catalog.images import replace
from transom.catalog.intakes import refuse_more
from transom.catalog.inventory import known
from transom.catalog.locking import locked
from transom.catalog.schema import image_locations
from transom.catalog.tasks import _insert, _mine, refuse_locked
from transom.errors import (
    ImageChanged,
    ImageDeletedMeanwhile,
    ImageNotFound,
    LocationRefused,
    StatusConflict,
    TaskCancelled,
)
from transom.model.image import GONE, Image, Location, Status
from transom.model.limit import BytesLimit
from transom.model.reserved import IMPORT_TASK, LAST_ERROR
from transom.model.task import Facts, Task


class Locations:
    """Changes of the places of images. Every method may raise CatalogUnavailable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def relocate(
        self, before: Image, after: Image, *, limits: Sequence[BytesLimit], now: dt.datetime
    ) -> Image:
        """Write what differs between the two, their locations included, if the image still is as
        `before`; gives it with its new revision. Locations that leave are marked for removal. What
        the project has more of has to be within its limits. Raises ImageNotFound, ImageChanged,
        QuotaExceeded, InvalidValue."""
        return await self._engine.write(
            lambda connection: _relocate(connection, before, after, limits, now)
        )

    async def begin(self, task: Task) -> Image:
        """Remember the task that gives a queued image its first location; the image is `importing`
        and the task's. Raises ImageNotFound, StatusConflict, ImageLocked."""
        return await self._engine.write(lambda connection: _begin(connection, task))

    async def take(
        self,
        task: Task,
        image_id: str,
        location: Location,
        facts: Facts,
        *,
        is_exclusive: bool,
        limits: Sequence[BytesLimit],
        now: dt.datetime,
    ) -> Image:
        """Make the image active with its first location, and leave it to its users. `is_exclusive`:
        the object is to be the image's alone. Done again it changes nothing. Raises TaskLost,
        TaskCancelled, ImageDeletedMeanwhile, StatusConflict, LocationRefused, QuotaExceeded."""
        return await self._engine.write(
            lambda connection: _take(
                connection, task, image_id, location, facts, is_exclusive, limits, now
            )
        )

    async def tell_digests(
        self, task: Task, image_id: str, facts: Facts, *, now: dt.datetime
    ) -> Image:
        """Write the digests of an active image that has none. Raises TaskLost, TaskCancelled,
        ImageDeletedMeanwhile."""
        return await self._engine.write(
            lambda connection: _tell_digests(connection, task, image_id, facts, now)
        )


def _relocate(
    connection: Connection,
    before: Image,
    after: Image,
    limits: Sequence[BytesLimit],
    now: dt.datetime,
) -> Image:
    image = locked(connection, before.id)
    if image is None or image.status in GONE:
        raise ImageNotFound(before.id)
    if image.revision != before.revision:
        raise ImageChanged(before.id)
    if limits and after.owner is not None:
        had_bytes = (before.size or 0) * len(before.locations)
        added_bytes = (after.size or 0) * len(after.locations) - had_bytes
        if added_bytes > 0:
            refuse_more(connection, after.owner, added_bytes, limits)
    stay = {location.key for location in after.locations}
    leaving = [each.key for each in before.locations if each.key not in stay]
    if leaving:
        connection.execute(
            sa.update(image_locations)
            .where(
                image_locations.c.image_id == before.id,
                image_locations.c.status == "active",
                image_locations.c.key.in_(leaving),
            )
            .values(status="pending_delete", doomed_at=now)
        )
    return replace(connection, before, after)


def _begin(connection: Connection, task: Task) -> Image:
    image_id = task.image_id or ""
    image = locked(connection, image_id)
    if image is None or image.status in GONE:
        raise ImageNotFound(image_id)
    if image.status is not Status.QUEUED:
        raise StatusConflict(image_id, "add a location to", image.status)
    refuse_locked(connection, image)
    _insert(connection, task)
    return replace(
        connection,
        image,
        msgspec.structs.replace(
            image,
            status=Status.IMPORTING,
            properties=image.properties | {IMPORT_TASK: task.id},
            updated_at=max(image.updated_at, task.created_at),
        ),
    )


def _take(
    connection: Connection,
    task: Task,
    image_id: str,
    location: Location,
    facts: Facts,
    is_exclusive: bool,
    limits: Sequence[BytesLimit],
    now: dt.datetime,
) -> Image:
    image = _worked_on(connection, task, image_id)
    if any(each.key == location.key for each in image.locations):
        return image
    if image.status is not Status.IMPORTING or image.properties.get(IMPORT_TASK) != task.id:
        raise StatusConflict(image_id, "add a location to", image.status)
    if is_exclusive:
        lock(connection, f"object {location.key} in {location.store}")
        if known(connection, location.store, [location.key]):
            raise LocationRefused("the object at its URL belongs to an image, or is being written")
    if limits and image.owner is not None:
        refuse_more(connection, image.owner, facts.size, limits)
    properties = dict(image.properties)
    del properties[IMPORT_TASK]
    properties.pop(LAST_ERROR, None)
    return replace(
        connection,
        image,
        msgspec.structs.replace(
            image,
            status=Status.ACTIVE,
            locations=(location,),
            properties=properties,
            updated_at=now,
            **msgspec.structs.asdict(facts),
        ),
    )


def _tell_digests(
    connection: Connection, task: Task, image_id: str, facts: Facts, now: dt.datetime
) -> Image:
    image = _worked_on(connection, task, image_id)
    if image.os_hash_value is not None:
        return image
    return replace(
        connection,
        image,
        msgspec.structs.replace(
            image,
            checksum=facts.checksum,
            os_hash_algo=facts.os_hash_algo,
            os_hash_value=facts.os_hash_value,
            updated_at=now,
        ),
    )


def _worked_on(connection: Connection, task: Task, image_id: str) -> Image:
    is_cancelled = _mine(connection, task)
    image = locked(connection, image_id)
    if image is None or image.status in GONE:
        raise ImageDeletedMeanwhile(image_id)
    if is_cancelled:
        raise TaskCancelled(task.id)
    return image
