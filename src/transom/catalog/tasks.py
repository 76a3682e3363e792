"""Tasks as the catalog remembers them, and what they do to their images, a transaction each.

Whatever a running task writes names its attempt: a process that lost the task to another, because
it was held for dead, is refused and changes nothing (TaskLost).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from transom.catalog import staging
from transom.catalog.engine import Engine
from transom.catalog.images import replace
from transom.catalog.intakes import one_more, refuse_more
from transom.catalog.locking import locked
from transom.catalog.rows import is_storable
from transom.catalog.schema import ONE
from transom.catalog.task_tables import task_objects, tasks
from transom.errors import (
    CopyDiffers,
    FormatsUnset,
    ImageDeletedMeanwhile,
    ImageLocked,
    ImageNotFound,
    InvalidTaskMarker,
    NothingStaged,
    StatusConflict,
    TaskCancelled,
    TaskLost,
    TaskNotFound,
)
from transom.model.image import GONE, Image, Location, Status
from transom.model.limit import BytesLimit, CountLimit
from transom.model.reserved import FAILED_IMPORT, IMPORT_TASK, IMPORTING_TO, LAST_ERROR
from transom.model.task import (
    ENDED,
    Facts,
    Progress,
    Staged,
    Task,
    TaskObject,
    TaskStatus,
    TaskType,
)

_UNFINISHED = (TaskStatus.PENDING, TaskStatus.PROCESSING)
SORT_KEYS = ("id", "type", "status", "owner", "expires_at", "created_at", "updated_at")
"""What a list of tasks can be sorted by (API §17)."""


class TaskQuery(msgspec.Struct, frozen=True, kw_only=True):
    """One page of tasks. `owner` None asks for those of every project."""

    owner: str | None = None
    image_id: str | None = None
    status: str | None = None
    type: str | None = None
    limit: int = 25
    marker: str | None = None
    sort_key: str = "created_at"
    is_descending: bool = True


class Tasks:
    """What tasks there are. Every method may raise CatalogUnavailable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # --- tasks ------------------------------------------------------------------------------

    async def create(self, task: Task) -> None:
        """Remember a new task that has no image yet, or leaves its image as it is."""
        await self._engine.write(lambda connection: _insert(connection, task))

    async def get(self, task_id: str) -> Task:
        """One task. Raises TaskNotFound."""
        if not is_storable(task_id):
            raise TaskNotFound(task_id)
        return await self._engine.read(lambda connection: _get(connection, task_id))

    async def page(self, query: TaskQuery) -> list[Task]:
        """One page of tasks that have not expired. Raises InvalidTaskMarker."""
        return await self._engine.read(lambda connection: _page(connection, query))

    async def unfinished(self) -> list[Task]:
        """Tasks that wait or are worked on, oldest first."""
        statement = (
            sa.select(tasks).where(tasks.c.status.in_(_UNFINISHED)).order_by(tasks.c.created_at)
        )
        return await self._engine.read(
            lambda connection: [task_of(row) for row in connection.execute(statement).mappings()]
        )

    async def expire(self, now: dt.datetime) -> int:
        """Forget tasks whose time is over; gives their number."""
        statement = sa.delete(tasks).where(tasks.c.expires_at <= now)
        return await self._engine.write(lambda connection: connection.execute(statement).rowcount)

    async def cancel(self, task_id: str) -> bool:
        """Ask for the end of a task; False when it has ended. Raises TaskNotFound."""

        def work(connection: Connection) -> bool:
            task = _get(connection, task_id)
            connection.execute(
                sa.update(tasks)
                .where(tasks.c.id == task_id, tasks.c.status.not_in(ENDED))
                .values(is_cancelled=True)
            )
            return not task.has_ended

        return await self._engine.write(work)

    # --- staging ----------------------------------------------------------------------------

    async def finish_staging(self, data: Staged) -> Image:
        """The data that came in for an image is complete and waits for its import. Raises
        ImageDeletedMeanwhile, StatusConflict."""
        return await self._engine.write(lambda connection: staging.finish(connection, data))

    async def staged(self, image_id: str) -> Staged | None:
        """The data that waits for an image, if any."""
        return await self._engine.read(lambda connection: staging.staged_for(connection, image_id))

    async def refuse_more(
        self, project: str, added_bytes: int, limits: Sequence[BytesLimit]
    ) -> None:
        """Raise QuotaExceeded unless the project may have so many bytes more now. It is let have
        none: who places data is asked again."""
        await self._engine.write(
            lambda connection: refuse_more(connection, project, added_bytes, limits)
        )

    # --- the life of an import ----------------------------------------------------------------

    async def begin_import(
        self,
        task: Task,
        *,
        stores: Collection[str],
        from_status: Status,
        needs_formats: bool = True,
        uploading: CountLimit | None = None,
        adds: Sequence[BytesLimit] = (),
    ) -> Image:
        """Remember the task of an image and lock the image for it: properties tell the task and
        the stores to fill. An image that was not active is `importing`; staged data is the task's.

        `uploading` limits how many images of the project data comes in for, `adds` how much they
        have with the size that is known now in each of the stores. Raises ImageNotFound,
        StatusConflict, ImageLocked, FormatsUnset, NothingStaged, QuotaExceeded."""
        return await self._engine.write(
            lambda connection: _begin_import(
                connection, task, stores, from_status, needs_formats, uploading, adds
            )
        )

    async def claim(self, task_id: str, process_id: str, now: dt.datetime) -> Task | None:
        """Take up a task: whoever had it before has lost it. None when it has ended or is not
        there."""
        return await self._engine.write(
            lambda connection: _claim(connection, task_id, process_id, now)
        )

    async def report(self, task: Task, progress: Progress, message: str, now: dt.datetime) -> bool:
        """Write how far a task is; False when its end was asked for. Raises TaskLost."""
        return await self._engine.write(
            lambda connection: _report(connection, task, progress, message, now)
        )

    async def note(self, task: Task, notes: dict[str, Any]) -> None:
        """Write what the steps of a task have to remember. Raises TaskLost."""

        def work(connection: Connection) -> None:
            _mine(connection, task)
            connection.execute(
                sa.update(tasks).where(tasks.c.id == task.id).values(notes=_fold(notes))
            )

        await self._engine.write(work)

    async def take_image(self, task: Task, image_id: str, *, stores: Collection[str]) -> Image:
        """Lock the queued image that a task has made for its own import; done again it changes
        nothing. Raises TaskLost, ImageDeletedMeanwhile, StatusConflict, FormatsUnset."""

        def work(connection: Connection) -> Image:
            _mine(connection, task)
            image = locked(connection, image_id)
            if image is None or image.status in GONE:
                raise ImageDeletedMeanwhile(image_id)
            connection.execute(
                sa.update(tasks).where(tasks.c.id == task.id).values(image_id=image_id)
            )
            if image.properties.get(IMPORT_TASK) == task.id:
                return image
            return _lock(connection, task, image, stores, Status.QUEUED)

        return await self._engine.write(work)

    async def remember_object(
        self, task: Task, store: str, key: str, *, token: str, now: dt.datetime
    ) -> None:
        """Write down where a task is going to write, before the first byte. Raises TaskLost."""

        def work(connection: Connection) -> None:
            _mine(connection, task)
            staging.remember(connection, task.id, store, key, token=token, now=now)

        await self._engine.write(work)

    async def forget_object(self, store: str, key: str) -> None:
        """The object is gone."""
        statement = sa.delete(task_objects).where(
            task_objects.c.store == store, task_objects.c.key == key
        )
        await self._engine.write(lambda connection: connection.execute(statement).rowcount)

    async def objects(self, task_id: str) -> list[TaskObject]:
        """What a task wrote or writes that is in no image, oldest first."""
        statement = (
            sa.select(task_objects)
            .where(task_objects.c.task_id == task_id, ~task_objects.c.is_placed)
            .order_by(task_objects.c.created_at, task_objects.c.key)
        )
        return await self._engine.read(
            lambda connection: [_object_of(row) for row in connection.execute(statement)]
        )

    async def useless_objects(self, limit: int) -> list[TaskObject]:
        """Objects of tasks that have ended or are not there any more."""
        statement = (
            sa.select(task_objects)
            .select_from(task_objects.outerjoin(tasks, tasks.c.id == task_objects.c.task_id))
            .where(
                ~task_objects.c.is_placed,
                sa.or_(tasks.c.id.is_(None), tasks.c.status.in_(ENDED)),
            )
            .order_by(task_objects.c.created_at)
            .limit(limit)
        )
        return await self._engine.read(
            lambda connection: [_object_of(row) for row in connection.execute(statement)]
        )

    async def place(
        self,
        task: Task,
        image_id: str,
        location: Location,
        facts: Facts,
        *,
        changes: dict[str, Any],
        activates: bool,
        limits: Sequence[BytesLimit],
        now: dt.datetime,
    ) -> Image:
        """Add a complete copy to the image. The first one says what the data is and applies
        `changes`; each later one must be the same. `activates` makes the image active with it;
        `limits` are the project's. Done again it changes nothing.
        Raises TaskLost, TaskCancelled, ImageDeletedMeanwhile, CopyDiffers, QuotaExceeded,
        StatusConflict."""
        return await self._engine.write(
            lambda connection: _place(
                connection, task, image_id, location, facts, changes, activates, limits, now
            )
        )

    async def store_failed(
        self, task: Task, image_id: str, store: str, reason: str, now: dt.datetime
    ) -> None:
        """Note on the image that a store could not be filled. Raises TaskLost."""

        def work(connection: Connection) -> None:
            _mine(connection, task)
            image = locked(connection, image_id)
            if image is None or image.status in GONE:
                return
            properties = dict(image.properties)
            _settle(properties, failed=[store])
            properties[LAST_ERROR] = reason
            replace(
                connection,
                image,
                msgspec.structs.replace(image, properties=properties, updated_at=now),
            )

        await self._engine.write(work)

    async def succeed(
        self,
        task: Task,
        image_id: str,
        *,
        result: dict[str, Any],
        message: str,
        now: dt.datetime,
        expires_at: dt.datetime,
    ) -> None:
        """The work is done: the image is active and unlocked, the task a success. Raises TaskLost,
        TaskCancelled, ImageDeletedMeanwhile."""

        def work(connection: Connection) -> None:
            is_cancelled = _mine(connection, task)
            image = locked(connection, image_id)
            if image is None or image.status in GONE:
                raise ImageDeletedMeanwhile(image_id)
            if is_cancelled:
                raise TaskCancelled(task.id)
            properties = dict(image.properties)
            properties.pop(IMPORT_TASK, None)
            if not properties.get(FAILED_IMPORT):
                properties.pop(LAST_ERROR, None)
            status = Status.ACTIVE if image.status is Status.IMPORTING else image.status
            replace(
                connection,
                image,
                msgspec.structs.replace(
                    image, status=status, properties=properties, updated_at=now
                ),
            )
            connection.execute(
                sa.delete(task_objects).where(
                    task_objects.c.task_id == task.id, task_objects.c.is_placed
                )
            )
            _end(connection, task, TaskStatus.SUCCESS, message, result, now, expires_at)

        await self._engine.write(work)

    async def fail(
        self,
        task: Task,
        *,
        stores: Sequence[str],
        message: str,
        now: dt.datetime,
        expires_at: dt.datetime,
    ) -> None:
        """The work has failed: what it placed is taken out of the image again, which is queued
        unless it was active before; the task and the image say why. The objects themselves are
        then useless ones. Where one filled store is enough, those that were filled stay.
        Raises TaskLost."""

        def work(connection: Connection) -> None:
            _mine(connection, task)
            image = None if task.image_id is None else locked(connection, task.image_id)
            if image is not None:
                _put_back(connection, task, image, stores, message, now)
            if image is not None and (image.status in GONE or _keeps(task)):
                # Its data goes with the image, or stays with it.
                connection.execute(
                    sa.delete(task_objects).where(
                        task_objects.c.task_id == task.id, task_objects.c.is_placed
                    )
                )
            connection.execute(
                sa.update(task_objects)
                .where(task_objects.c.task_id == task.id)
                .values(is_placed=False)
            )
            _end(connection, task, TaskStatus.FAILURE, message, None, now, expires_at)

        await self._engine.write(work)


def _insert(connection: Connection, task: Task) -> None:
    connection.execute(
        sa.insert(tasks),
        {
            "id": task.id,
            "type": task.type,
            "status": task.status,
            "owner": task.owner,
            "user_id": task.user_id,
            "request_id": task.request_id,
            "image_id": task.image_id,
            "input": _fold(task.input),
            "result": None if task.result is None else _fold(task.result),
            "message": task.message,
            "created_at": task.created_at,
            "updated_at": task.updated_at,
            "started_at": task.started_at,
            "expires_at": task.expires_at,
            "process_id": task.process_id,
            "attempt": task.attempt,
            "is_cancelled": task.is_cancelled,
            "phase": task.progress.phase,
            "done_bytes": task.progress.done_bytes,
            "total_bytes": task.progress.total_bytes,
            "rate_bytes": task.progress.rate_bytes,
            "notes": _fold(task.notes),
        },
    )


def _get(connection: Connection, task_id: str) -> Task:
    row = connection.execute(sa.select(tasks).where(tasks.c.id == task_id)).mappings().first()
    if row is None:
        raise TaskNotFound(task_id)
    return task_of(row)


def _page(connection: Connection, query: TaskQuery) -> list[Task]:
    statement = sa.select(tasks).where(
        sa.or_(tasks.c.expires_at.is_(None), tasks.c.expires_at > dt.datetime.now(dt.UTC))
    )
    for name in ("owner", "image_id", "status", "type"):
        wanted = getattr(query, name)
        if wanted is not None:
            if not is_storable(wanted):
                return []
            statement = statement.where(tasks.c[name] == wanted)
    column = tasks.c[query.sort_key]
    nothing: Any = sa.null()
    if query.sort_key == "owner":
        nothing = ""
    elif query.sort_key == "expires_at":
        # A task that has not ended expires after all that have.
        nothing = sa.literal(dt.datetime(9999, 1, 1, tzinfo=dt.UTC), tasks.c.expires_at.type)
    key = column if not column.nullable else sa.func.coalesce(column, nothing)
    if query.marker is not None:
        after = _marker(connection, key, query.marker)
        place = sa.tuple_(key, tasks.c.id)
        statement = statement.where(place < after if query.is_descending else place > after)
    order = [key.desc(), tasks.c.id.desc()] if query.is_descending else [key, tasks.c.id]
    rows = connection.execute(statement.order_by(*order).limit(query.limit)).mappings()
    return [task_of(row) for row in rows]


def _marker(connection: Connection, key: Any, marker: str) -> Any:
    if is_storable(marker):
        row = connection.execute(sa.select(key, tasks.c.id).where(tasks.c.id == marker)).first()
        if row is not None:
            return sa.tuple_(sa.literal(row[0], key.type), sa.literal(row[1], tasks.c.id.type))
    raise InvalidTaskMarker(marker)


def _begin_import(
    connection: Connection,
    task: Task,
    stores: Collection[str],
    from_status: Status,
    needs_formats: bool,
    uploading: CountLimit | None,
    adds: Sequence[BytesLimit],
) -> Image:
    image_id = task.image_id or ""
    image = locked(connection, image_id)
    if image is None or image.status in GONE:
        raise ImageNotFound(image_id)
    if image.status is not from_status:
        raise StatusConflict(image_id, "import data into", image.status)
    if needs_formats and (image.disk_format is None or image.container_format is None):
        raise FormatsUnset(image_id)
    refuse_locked(connection, image)
    if image.owner is not None:
        if uploading is not None and from_status is not Status.UPLOADING:
            one_more(connection, image.owner, uploading, "uploading")
        if adds and image.size is not None:
            staged_bytes = image.size if from_status is Status.UPLOADING else 0
            refuse_more(
                connection,
                image.owner,
                image.size * len(stores),
                adds,
                staged_bytes=staged_bytes,
            )
    if from_status is Status.UPLOADING and not staging.hand_over(
        connection, image_id, task.id, task.created_at
    ):
        raise NothingStaged(image_id)
    _insert(connection, task)
    return _lock(connection, task, image, stores, from_status)


def _lock(
    connection: Connection,
    task: Task,
    image: Image,
    stores: Collection[str],
    from_status: Status,
) -> Image:
    """Note on the image which task has it, and which stores that is to fill."""
    if image.status is not from_status:
        raise StatusConflict(image.id, "import data into", image.status)
    properties = dict(image.properties)
    properties[IMPORT_TASK] = task.id
    properties[IMPORTING_TO] = ",".join(sorted(stores))
    properties[FAILED_IMPORT] = _without(properties.get(FAILED_IMPORT), stores)
    status = image.status if from_status is Status.ACTIVE else Status.IMPORTING
    return replace(
        connection,
        image,
        msgspec.structs.replace(
            image,
            status=status,
            properties=properties,
            updated_at=max(image.updated_at, task.created_at),
        ),
    )


def refuse_locked(connection: Connection, image: Image) -> None:
    """Raise ImageLocked while a task that has not ended has the image (API §10.5)."""
    holder = image.properties.get(IMPORT_TASK)
    if holder is None:
        return
    living = sa.select(ONE).where(tasks.c.id == holder, tasks.c.status.in_(_UNFINISHED))
    if connection.execute(living).first() is not None:
        raise ImageLocked(image.id, holder)


def _claim(connection: Connection, task_id: str, process_id: str, now: dt.datetime) -> Task | None:
    taken = connection.execute(
        sa.update(tasks)
        .where(tasks.c.id == task_id, tasks.c.status.in_(_UNFINISHED))
        .values(
            status=TaskStatus.PROCESSING,
            process_id=process_id,
            attempt=tasks.c.attempt + 1,
            started_at=sa.func.coalesce(
                tasks.c.started_at, sa.literal(now, tasks.c.started_at.type)
            ),
            updated_at=now,
        )
    )
    return _get(connection, task_id) if taken.rowcount else None


def _mine(connection: Connection, task: Task) -> bool:
    """Raise TaskLost unless the task is still worked on by this attempt; keeps others out. True when
    its end was asked for."""
    row = connection.execute(
        sa.select(tasks.c.attempt, tasks.c.status, tasks.c.is_cancelled)
        .where(tasks.c.id == task.id)
        .with_for_update()
    ).first()
    if row is None or row.attempt != task.attempt or row.status != TaskStatus.PROCESSING:
        raise TaskLost(task.id)
    return bool(row.is_cancelled)


def _report(
    connection: Connection, task: Task, progress: Progress, message: str, now: dt.datetime
) -> bool:
    written = connection.execute(
        sa.update(tasks)
        .where(
            tasks.c.id == task.id,
            tasks.c.attempt == task.attempt,
            tasks.c.status == TaskStatus.PROCESSING,
        )
        .values(
            phase=progress.phase,
            done_bytes=progress.done_bytes,
            total_bytes=progress.total_bytes,
            rate_bytes=progress.rate_bytes,
            message=message,
            updated_at=now,
        )
    )
    if written.rowcount == 0:
        raise TaskLost(task.id)
    asked = sa.select(tasks.c.is_cancelled).where(tasks.c.id == task.id)
    return not connection.execute(asked).scalar_one()


def _place(
    connection: Connection,
    task: Task,
    image_id: str,
    location: Location,
    facts: Facts,
    changes: dict[str, Any],
    activates: bool,
    limits: Sequence[BytesLimit],
    now: dt.datetime,
) -> Image:
    is_cancelled = _mine(connection, task)
    image = locked(connection, image_id)
    if image is None or image.status in GONE:
        raise ImageDeletedMeanwhile(image_id)
    if is_cancelled:
        raise TaskCancelled(task.id)
    if any(each.key == location.key for each in image.locations):
        return image
    if image.status not in (Status.IMPORTING, Status.ACTIVE):
        raise StatusConflict(image_id, "add a copy to", image.status)
    properties = dict(image.properties)
    values: dict[str, Any] = {}
    if image.locations:
        _refuse_different(image, facts, location.store)
    else:
        values = msgspec.structs.asdict(facts) | {
            name: value for name, value in changes.items() if name != "properties"
        }
        properties |= changes.get("properties", {})
    if limits and image.owner is not None:
        staged_bytes = 0 if image.locations else image.size or 0
        refuse_more(connection, image.owner, facts.size, limits, staged_bytes=staged_bytes)
    _settle(properties, placed=[location.store])
    status = Status.ACTIVE if activates else image.status
    placed = connection.execute(
        sa.update(task_objects)
        .where(task_objects.c.store == location.store, task_objects.c.key == location.key)
        .values(is_placed=True)
    )
    if placed.rowcount == 0:
        raise TaskLost(task.id)
    return replace(
        connection,
        image,
        msgspec.structs.replace(
            image,
            status=status,
            locations=(*image.locations, location),
            properties=properties,
            updated_at=now,
            **values,
        ),
    )


def _refuse_different(image: Image, facts: Facts, store: str) -> None:
    for name in ("size", "checksum", "os_hash_value"):
        known, found = getattr(image, name), getattr(facts, name)
        if known is not None and found is not None and known != found:
            raise CopyDiffers(store, name, known, found)


def _put_back(
    connection: Connection,
    task: Task,
    image: Image,
    stores: Sequence[str],
    message: str,
    now: dt.datetime,
) -> None:
    if image.status in GONE:
        return
    if image.properties.get(IMPORT_TASK) != task.id:
        _forget_algorithm(connection, task, image, now)
        return
    placed = set(
        connection.execute(
            sa.select(task_objects.c.key).where(
                task_objects.c.task_id == task.id, task_objects.c.is_placed
            )
        ).scalars()
    )
    if _keeps(task):
        filled = {each.store for each in image.locations if each.key in placed}
        stores = [each for each in stores if each not in filled]
        placed = set()
    kept = tuple(each for each in image.locations if each.key not in placed)
    properties = dict(image.properties)
    del properties[IMPORT_TASK]
    if IMPORTING_TO in properties:
        # Tasks that fill no store never told of any.
        _settle(properties, failed=stores)
        properties[IMPORTING_TO] = ""
    properties[LAST_ERROR] = message
    after = msgspec.structs.replace(
        image, locations=kept, properties=properties, updated_at=max(image.updated_at, now)
    )
    if not kept:
        after = msgspec.structs.replace(
            after,
            status=Status.QUEUED,
            size=None,
            virtual_size=None,
            checksum=None,
            os_hash_algo=None,
            os_hash_value=None,
        )
        after = _as_before(after, task.notes.get("before"))
    replace(connection, image, after)


def _forget_algorithm(connection: Connection, task: Task, image: Image, now: dt.datetime) -> None:
    """An image in use whose data could not be hashed does not go on naming the algorithm."""
    if (
        task.type is TaskType.LOCATION_IMPORT
        and image.os_hash_algo is not None
        and image.os_hash_value is None
    ):
        after = msgspec.structs.replace(
            image, os_hash_algo=None, updated_at=max(image.updated_at, now)
        )
        replace(connection, image, after)


def _keeps(task: Task) -> bool:
    """True where one filled store is enough: the image may be in use already."""
    return not task.notes.get("must_succeed", True)


def _as_before(image: Image, before: dict[str, Any] | None) -> Image:
    """The image without what came with the data: formats, and properties that it brought."""
    if before is None:
        return image
    properties = dict(image.properties)
    for name in before["brought"]:
        properties.pop(name, None)
    return msgspec.structs.replace(
        image,
        disk_format=before["disk_format"],
        container_format=before["container_format"],
        properties=properties | before["properties"],
    )


def _settle(
    properties: dict[str, str | None],
    *,
    placed: Sequence[str] = (),
    failed: Sequence[str] = (),
) -> None:
    """Take stores off the list of those to fill, and put the failed ones on theirs."""
    properties[IMPORTING_TO] = _without(properties.get(IMPORTING_TO), [*placed, *failed])
    rest = _without(properties.get(FAILED_IMPORT), [*placed, *failed])
    properties[FAILED_IMPORT] = ",".join([*([rest] if rest else []), *failed])


def _without(names: str | None, taken: Collection[str]) -> str:
    return ",".join(name for name in (names or "").split(",") if name and name not in taken)


def _end(
    connection: Connection,
    task: Task,
    status: TaskStatus,
    message: str,
    result: dict[str, Any] | None,
    now: dt.datetime,
    expires_at: dt.datetime,
) -> None:
    connection.execute(
        sa.update(tasks)
        .where(tasks.c.id == task.id)
        .values(
            status=status,
            message=message,
            result=None if result is None else _fold(result),
            updated_at=now,
            expires_at=expires_at,
            # Whatever the steps kept, a token perhaps, has done its work.
            notes="{}",
        )
    )


def _fold(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _object_of(row: Any) -> TaskObject:
    return TaskObject(task_id=row.task_id, store=row.store, key=row.key, token=row.token)


def task_of(row: Any) -> Task:
    """The task of a row of `tasks`."""
    return Task(
        id=row["id"],
        type=TaskType(row["type"]),
        status=TaskStatus(row["status"]),
        owner=row["owner"],
        user_id=row["user_id"],
        request_id=row["request_id"],
        image_id=row["image_id"],
        input=msgspec.json.decode(row["input"]),
        result=None if row["result"] is None else msgspec.json.decode(row["result"]),
        message=row["message"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        started_at=row["started_at"],
        expires_at=row["expires_at"],
        progress=Progress(
            phase=row["phase"],
            done_bytes=row["done_bytes"],
            total_bytes=row["total_bytes"],
            rate_bytes=row["rate_bytes"],
        ),
        process_id=row["process_id"],
        attempt=row["attempt"],
        is_cancelled=row["is_cancelled"],
        notes=msgspec.json.decode(row["notes"]),
    )
