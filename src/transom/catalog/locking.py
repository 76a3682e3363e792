"""Read an image in order to write it, with everyone else kept out until the transaction ends."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from transom.catalog.rows import COLUMNS, image_of
from transom.catalog.schema import images
from transom.model.image import Image

_locked = sa.select(*COLUMNS, sa.null()).where(images.c.id == sa.bindparam("id")).with_for_update()


def locked(connection: Connection, image_id: str) -> Image | None:
    """The image in whatever state, its tombstone included; None when there never was one."""
    row = connection.execute(_locked, {"id": image_id}).first()
    return None if row is None else image_of(row, lambda moment: moment)
