"""Staged data: complete, in the staging store, and waiting for its import."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from transom.catalog.intakes import NOBODY as DISOWNED
from transom.catalog.locking import locked
from transom.catalog.schema import images, intakes
from transom.catalog.task_tables import staged, task_objects, tasks
from transom.errors import ImageDeletedMeanwhile, StatusConflict
from transom.model.image import GONE, Image, Status
from transom.model.task import ENDED, Staged

NOBODY = ""
"""The task of objects that no task needs any more."""


def finish(connection: Connection, data: Staged) -> Image:
    """The data that came in for an image is complete: the intake's row becomes one of `staged`. Not
    an intake that was disowned: a sweep may have removed its data."""
    image = locked(connection, data.image_id)
    if image is None or image.status in GONE:
        raise ImageDeletedMeanwhile(data.image_id)
    found = connection.execute(
        sa.delete(intakes).where(
            intakes.c.image_id == data.image_id,
            intakes.c.key == data.key,
            intakes.c.kind == "uploading",
            intakes.c.process_id != DISOWNED,
        )
    )
    if found.rowcount == 0 or image.status is not Status.UPLOADING:
        raise StatusConflict(data.image_id, "finish staging data for", image.status)
    after = msgspec.structs.replace(
        image, size=data.size_bytes, updated_at=data.staged_at, revision=image.revision + 1
    )
    connection.execute(
        sa.update(images)
        .where(images.c.id == image.id)
        .values(size=after.size, updated_at=after.updated_at, revision=after.revision)
    )
    connection.execute(sa.insert(staged), msgspec.structs.asdict(data))
    return after


def staged_for(connection: Connection, image_id: str) -> Staged | None:
    """The data that waits for an image, if any."""
    row = connection.execute(sa.select(staged).where(staged.c.image_id == image_id)).first()
    return None if row is None else Staged(**row._mapping)  # noqa: SLF001


def hand_over(connection: Connection, image_id: str, task_id: str, now: dt.datetime) -> bool:
    """Give the data that waits for an image to a task, or to nobody; False when there is none."""
    data = staged_for(connection, image_id)
    if data is None:
        return False
    connection.execute(sa.delete(staged).where(staged.c.image_id == image_id))
    remember(connection, task_id, data.store, data.key, token="", now=now)
    return True


def remember(
    connection: Connection, task_id: str, store: str, key: str, *, token: str, now: dt.datetime
) -> None:
    """Write down that an object belongs to a task."""
    row: dict[str, Any] = {
        "store": store,
        "key": key,
        "task_id": task_id,
        "token": token,
        "is_placed": False,
        "created_at": now,
    }
    connection.execute(sa.insert(task_objects), row)


def let_go(connection: Connection, image_id: str, now: dt.datetime) -> None:
    """The image goes: nobody needs its staged data any more, and its tasks are to end."""
    hand_over(connection, image_id, NOBODY, now)
    connection.execute(
        sa.update(tasks)
        .where(tasks.c.image_id == image_id, tasks.c.status.not_in(ENDED))
        .values(is_cancelled=True)
    )
