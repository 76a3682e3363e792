"""Images as the catalog remembers them: one method, one hop, one transaction."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from transom.catalog import deletion, intakes, withdrawal
from transom.catalog.engine import Engine, is_duplicate
from transom.catalog.intakes import IntakeKind, Usage
from transom.catalog.known import Known
from transom.catalog.pages import Pages, made
from transom.catalog.rows import (
    COLUMNS,
    is_storable,
    location_row,
    moment_of,
    property_rows,
    shelf_of,
    tag_rows,
    tags_of,
    values_of,
)
from transom.catalog.schema import (
    ONE,
    image_locations,
    image_members,
    image_properties,
    image_tags,
    images,
)
from transom.catalog.statements import Prepared, inserting
from transom.catalog.visibility import (
    PROJECT,
    caller_of,
    is_there,
    may_show,
    member_id,
    project_of,
)
from transom.errors import (
    DuplicateImage,
    ImageChanged,
    ImageNotFound,
    QuotaExceeded,
    StatusConflict,
)
from transom.model.actor import Actor
from transom.model.image import GONE, TRANSITIONS, Image, Location
from transom.model.limit import BytesLimit, CountLimit
from transom.model.query import ImageQuery


class Images:
    """What images there are. Every method may raise CatalogUnavailable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known = Known(moment_of(engine.dialect))
        self._pages = Pages(engine.dialect)
        self._gets: dict[str, Prepared] = {}

    async def create(self, image: Image, *, limit: CountLimit | None = None) -> None:
        """Remember a new image, within a limit of its project: exact when many create at once.

        Raises DuplicateImage when its id is or was in use, by an image that is gone or that the
        caller cannot see too; InvalidValue for text with NUL; QuotaExceeded.
        """

        def work(connection: Connection) -> None:
            if limit is not None and image.owner is not None:
                intakes.one_more(connection, image.owner, limit, "all")
            insert(connection, image)

        await self._engine.write(work)

    async def get(self, image_id: str, *, seen_by: Actor | None) -> Image:
        """The image, if `seen_by` may see it; None asks no questions. Raises ImageNotFound."""
        if not is_storable(image_id):
            raise ImageNotFound(image_id)
        caller = caller_of(seen_by)
        values = {"id": image_id, PROJECT: project_of(seen_by)}
        statement = self._gets.get(caller)
        if statement is None:
            statement = self._gets[caller] = self._get_statement(caller)
        rows = await self._engine.rows(statement, values)
        if not rows:
            raise ImageNotFound(image_id)
        return self._known.image(rows[0])

    async def replace(self, before: Image, after: Image) -> Image:
        """Write what differs between the two, if the image still is as `before`; gives `after`
        with its new revision. Raises ImageNotFound, ImageChanged, InvalidValue, and StatusConflict
        for a move that TRANSITIONS does not hold. Deleting is not a move of this method."""
        if (before.id, before.created_at) != (after.id, after.created_at):
            raise ValueError("id and created_at of an image never change")
        if before.status != after.status and (
            after.status not in TRANSITIONS[before.status] or after.status in GONE
        ):
            raise StatusConflict(before.id, f"set status {after.status} on", before.status)
        return await self._engine.write(lambda connection: replace(connection, before, after))

    async def begin_intake(
        self,
        image_id: str,
        *,
        kind: IntakeKind,
        store: str,
        key: str,
        token: str,
        process_id: str,
        limit: CountLimit | None = None,
    ) -> Image:
        """Take the queued image for data that comes in: its status becomes `kind`, and a row
        remembers where the bytes go until the intake is finished or abandoned. Exactly one of
        several callers succeeds, and no more images of the project than the limit allows.
        Raises ImageNotFound, StatusConflict, QuotaExceeded."""
        intake = intakes.Intake(
            image_id=image_id,
            kind=kind,
            store=store,
            key=key,
            token=token,
            process_id=process_id,
            started_at=dt.datetime.now(dt.UTC),
        )
        return await self._engine.write(lambda connection: intakes.begin(connection, intake, limit))

    async def finish_upload(
        self,
        image_id: str,
        *,
        location: Location,
        size: int,
        virtual_size: int | None,
        checksum: str | None,
        os_hash_algo: str | None,
        os_hash_value: str | None,
        now: dt.datetime,
    ) -> Image:
        """Make the image active: its data is complete at the location. Sizes are bytes. Raises
        ImageDeletedMeanwhile, and StatusConflict when the intake was abandoned meanwhile."""
        return await self._engine.write(
            lambda connection: intakes.finish(
                connection,
                image_id,
                location,
                {
                    "size": size,
                    "virtual_size": virtual_size,
                    "checksum": checksum,
                    "os_hash_algo": os_hash_algo,
                    "os_hash_value": os_hash_value,
                    "updated_at": now,
                },
            )
        )

    async def abandon_intake(self, image_id: str, key: str, *, left_in: str = "") -> bool:
        """Undo the intake with this key: the image is queued again, without anything that the
        intake wrote. `left_in` names the store that does not let its data be removed now: the sweep
        tries again. False, and the status stays, when the intake is over or the image is gone; a
        gone image only loses its intake row."""
        return await self._engine.write(
            lambda connection: intakes.abandon(connection, image_id, key, left_in)
        )

    async def reserve(
        self,
        image_id: str,
        key: str,
        needed_bytes: int,
        wanted_bytes: int,
        *,
        project: str,
        limits: Sequence[BytesLimit],
    ) -> int:
        """Count bytes in all for the running intake against its project: as many as are wanted, or
        as fit, at least what is needed; gives how many. Exact when many reserve at once. An intake
        that is refused keeps nothing: it is to be given up. Raises QuotaExceeded,
        ImageDeletedMeanwhile, StatusConflict."""
        granted = await self._engine.write(
            lambda connection: intakes.reserve(
                connection,
                image_id,
                key,
                needed_bytes,
                wanted_bytes,
                project=project,
                limits=limits,
            )
        )
        if isinstance(granted, QuotaExceeded):
            raise granted
        return granted

    async def usage(self, project: str) -> Usage:
        """What the project's images use (lifecycle §5)."""
        return await self._engine.read(lambda connection: intakes.usage(connection, project))

    async def delete(self, image_id: str, *, now: dt.datetime, delayed: bool) -> Image:
        """Delete the image and mark its locations for removal; gives it as it was before. Its id
        is never used again, and the row of a running intake stays for the sweep. `delayed` leaves
        the data to the scrubber, if there is any. Raises ImageNotFound, ImageProtected."""
        return await self._engine.write(
            lambda connection: deletion.delete(connection, image_id, now=now, delayed=delayed)
        )

    async def restore(self, image: Image) -> Image:
        """Put a deleted image back as it was, because a store refuses to remove its data: with
        those locations that are still there. An image of whose locations none is left stays
        deleted. Raises ImageNotFound, ImageChanged."""
        return await self._engine.write(lambda connection: deletion.restore(connection, image))

    async def withdraw(self, before: Image, keys: Collection[str], *, now: dt.datetime) -> Image:
        """Take the locations with these keys off a living image and mark them for removal; gives
        the image as it is then. At least one location must stay. Raises ImageNotFound, and
        ImageChanged when its status or its locations are not those of `before` any more."""
        return await self._engine.write(
            lambda connection: withdrawal.withdraw(connection, before, keys, now=now)
        )

    async def put_back_locations(self, image_id: str, keys: Collection[str]) -> bool:
        """Undo `withdraw`, because a store refuses to remove the data. False when the image is
        gone, or a sweep has begun to remove all of it: then the data goes."""
        return await self._engine.write(
            lambda connection: withdrawal.put_back(connection, image_id, keys)
        )

    async def data_removed(self, image_id: str, key: str) -> None:
        """Forget a location that was pending deletion; its data is gone."""
        await self._engine.write(
            lambda connection: deletion.data_removed(connection, image_id, key)
        )

    async def doomed(
        self,
        limit: int,
        now: dt.datetime,
        *,
        settled_seconds: float = 10.0,
        scrub_after_seconds: float | None = None,
        stores: Collection[str] | None = None,
    ) -> list[tuple[str, Location]]:
        """Locations whose data has to go, oldest first: those of deleted images, and those taken
        from living ones with delayed deletion. They cannot be restored any more.

        `settled_seconds` leaves alone what a running deletion may still put back;
        `scrub_after_seconds` adds the delayed ones that have waited so long; `stores` asks for
        those alone that lie in these.
        """
        return await self._engine.write(
            lambda connection: deletion.doomed(
                connection, limit, now, settled_seconds, scrub_after_seconds, stores
            )
        )

    async def due(
        self,
        limit: int,
        now: dt.datetime,
        *,
        settled_seconds: float = 10.0,
        scrub_after_seconds: float | None = None,
    ) -> list[tuple[str, Location]]:
        """What `doomed` would give, without claiming any of it."""
        return await self._engine.read(
            lambda connection: deletion.doomed(
                connection,
                limit,
                now,
                settled_seconds,
                scrub_after_seconds,
                None,
                claimed=False,
            )
        )

    async def waiting(
        self, *, image_id: str | None = None, limit: int = 1000
    ) -> list[tuple[Image, tuple[Location, ...]]]:
        """Deleted images whose data waits for the scrubber, last deleted first, and where it is;
        with `image_id`, that one alone."""
        return await self._engine.read(
            lambda connection: deletion.waiting(connection, image_id, limit)
        )

    async def undelete(self, image_id: str, *, now: dt.datetime) -> Image:
        """Bring back an image whose data waits for the scrubber, with all the locations that it was
        deleted with: active, or deactivated if it was that. Raises ImageNotFound for an id that
        was never used, StatusConflict for an image that is not `pending_delete`, ScrubbingBegan
        once a part of the data is being removed."""
        return await self._engine.write(
            lambda connection: deletion.undelete(connection, image_id, now=now)
        )

    async def list(self, query: ImageQuery, *, seen_by: Actor) -> list[Image]:
        """One page of images (API §5). Raises InvalidMarker for a marker that names no image,
        MarkerNotVisible for one that the caller may not see."""
        rows = await made(lambda: self._pages.steps(query, seen_by), self._engine)
        image = self._known.image
        return [image(row) for row in rows]

    def _get_statement(self, caller: str) -> Prepared:
        member = member_id() if caller in ("admin", "project") else sa.null()
        return Prepared(
            sa.select(*COLUMNS, member).where(
                images.c.id == sa.bindparam("id", required=True), is_there, may_show(caller)
            ),
            self._engine.dialect,
            stable=True,
            brief=True,
        )


def insert(connection: Connection, image: Image) -> None:
    """Write a new image and everything that hangs on it."""
    dialect = connection.dialect.name
    try:
        inserting(images, dialect).run(connection, [values_of(image)])
    except Exception as error:
        if is_duplicate(error):
            raise DuplicateImage(image.id) from None
        raise
    for table, rows in rows_around(image).items():
        inserting(table, dialect).run(connection, rows)


def rows_around(image: Image) -> dict[sa.Table, list[dict[str, Any]]]:
    """The rows of an image in other tables than `images`."""
    return {
        image_properties: property_rows(image, image.properties),
        image_tags: tag_rows(image, tags_of(image)),
        image_locations: [
            location_row(image.id, position, location, image.updated_at)
            for position, location in enumerate(image.locations)
        ],
    }


def replace(connection: Connection, before: Image, after: Image) -> Image:
    """Write the differences. `before` must be what the catalog gave."""
    after = msgspec.structs.replace(after, revision=before.revision + 1, tags=tags_of(after))
    old, new = values_of(before), values_of(after)
    changed = {name: value for name, value in new.items() if value != old[name]}
    written = connection.execute(
        sa.update(images)
        .where(images.c.id == before.id, images.c.revision == before.revision, is_there)
        .values(changed)
    )
    if written.rowcount == 0:
        if connection.execute(sa.select(ONE).where(images.c.id == before.id, is_there)).first():
            raise ImageChanged(before.id)
        raise ImageNotFound(before.id)
    if "properties" in changed:
        _replace_properties(connection, before, after)
    if "tags" in changed:
        _replace_tags(connection, before, after)
    if before.locations != after.locations:
        _replace_locations(connection, after)
    if (shelf_of(before), before.visibility) != (shelf_of(after), after.visibility):
        reshelve(connection, after)
    return after


def reshelve(connection: Connection, image: Image) -> None:
    """Bring the rows around an image to its shelf and visibility, after these changed."""
    common = {"shelf": shelf_of(image), "visibility": str(image.visibility)}
    for table in (image_properties, image_tags):
        connection.execute(sa.update(table).where(table.c.image_id == image.id).values(common))
    connection.execute(
        sa.update(image_members)
        .where(image_members.c.image_id == image.id)
        .values(shelf=common["shelf"])
    )


def _replace_properties(connection: Connection, before: Image, after: Image) -> None:
    old, new = before.properties, after.properties
    changed = [name for name in new if name not in old or old[name] != new[name]]
    stale = [name for name in old if name not in new or old[name] != new[name]]
    _delete_each(connection, image_properties.c.name, before.id, stale)
    rows = property_rows(after, changed)
    if rows:
        connection.execute(sa.insert(image_properties), rows)


def _replace_tags(connection: Connection, before: Image, after: Image) -> None:
    old, new = set(before.tags), set(after.tags)
    _delete_each(connection, image_tags.c.tag, before.id, sorted(old - new))
    rows = tag_rows(after, sorted(new - old))
    if rows:
        connection.execute(sa.insert(image_tags), rows)


def _delete_each(
    connection: Connection, column: sa.Column[Any], image_id: str, values: list[str]
) -> None:
    if values:
        table = column.table
        connection.execute(sa.delete(table).where(table.c.image_id == image_id, column.in_(values)))


def _replace_locations(connection: Connection, after: Image) -> None:
    connection.execute(
        sa.delete(image_locations).where(
            image_locations.c.image_id == after.id, image_locations.c.status == "active"
        )
    )
    rows = [
        location_row(after.id, position, location, after.updated_at)
        for position, location in enumerate(after.locations)
    ]
    if rows:
        connection.execute(sa.insert(image_locations), rows)
