"""Members: the projects that an image is shared with."""

from __future__ import annotations

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from transom.catalog.engine import Engine
from transom.catalog.locking import locked
from transom.catalog.rows import is_storable, shelf_of
from transom.catalog.schema import ONE, image_members
from transom.errors import (
    DuplicateMember,
    ImageNotFound,
    InvalidValue,
    MemberNotFound,
    QuotaExceeded,
)
from transom.model.image import GONE
from transom.model.member import Member, MemberStatus

_columns = (
    image_members.c.image_id,
    image_members.c.member_id,
    image_members.c.status,
    image_members.c.created_at,
    image_members.c.updated_at,
)


class Members:
    """Who shares which image. Every method may raise CatalogUnavailable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def add(self, member: Member, limit: int) -> None:
        """Remember a new member, if the image then has at most `limit` of them; -1 = unlimited.
        Raises ImageNotFound, DuplicateMember, QuotaExceeded."""
        await self._engine.write(lambda connection: add(connection, member, limit))

    async def get(self, image_id: str, member_id: str) -> Member:
        """One member. Raises MemberNotFound."""
        if not is_storable(member_id):
            raise MemberNotFound(image_id, member_id)
        return await self._engine.read(lambda connection: _get(connection, image_id, member_id))

    async def list(self, image_id: str) -> list[Member]:
        """The members of an image in the order in which they were added."""
        statement = (
            sa.select(*_columns)
            .where(image_members.c.image_id == image_id)
            .order_by(image_members.c.created_at, image_members.c.member_id)
        )
        return await self._engine.read(
            lambda connection: [_member_of(row) for row in connection.execute(statement)]
        )

    async def set_status(
        self, image_id: str, member_id: str, status: MemberStatus, *, now: dt.datetime
    ) -> Member:
        """Write what the project made of the offer; gives the member. Raises MemberNotFound."""
        if not is_storable(member_id):
            raise MemberNotFound(image_id, member_id)

        def work(connection: Connection) -> Member:
            connection.execute(
                sa.update(image_members)
                .where(_is(image_id, member_id))
                .values(status=status, updated_at=now)
            )
            return _get(connection, image_id, member_id)

        return await self._engine.write(work)

    async def remove(self, image_id: str, member_id: str) -> None:
        """Forget a member. Raises MemberNotFound."""
        if not is_storable(member_id):
            raise MemberNotFound(image_id, member_id)

        def work(connection: Connection) -> None:
            gone = connection.execute(sa.delete(image_members).where(_is(image_id, member_id)))
            if gone.rowcount == 0:
                raise MemberNotFound(image_id, member_id)

        await self._engine.write(work)


def add(connection: Connection, member: Member, limit: int) -> None:
    """Write the row, with the image locked, so that the limit holds for many at once."""
    if not is_storable(member.member_id):
        raise InvalidValue("member", "text must be UTF-8 without NUL characters; remove them.")
    image = locked(connection, member.image_id)
    if image is None or image.status in GONE:
        raise ImageNotFound(member.image_id)
    of_image = image_members.c.image_id == member.image_id
    if connection.execute(sa.select(ONE).where(_is(member.image_id, member.member_id))).first():
        raise DuplicateMember(member.image_id, member.member_id)
    count = connection.execute(
        sa.select(sa.func.count()).select_from(image_members).where(of_image)
    ).scalar_one()
    if 0 <= limit <= count:
        raise QuotaExceeded("members of an image", limit, count + 1)
    connection.execute(
        sa.insert(image_members), member_row(member, shelf_of(image), image.created_at)
    )


def member_row(member: Member, shelf: int, image_created_at: dt.datetime) -> dict[str, Any]:
    """The row of a member of an image on this shelf."""
    return {
        "image_id": member.image_id,
        "member_id": member.member_id,
        "status": str(member.status),
        "created_at": member.created_at,
        "updated_at": member.updated_at,
        "shelf": shelf,
        "image_created_at": image_created_at,
    }


def _is(image_id: str, member_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(image_members.c.image_id == image_id, image_members.c.member_id == member_id)


def _get(connection: Connection, image_id: str, member_id: str) -> Member:
    row = connection.execute(sa.select(*_columns).where(_is(image_id, member_id))).first()
    if row is None:
        raise MemberNotFound(image_id, member_id)
    return _member_of(row)


def _member_of(row: Any) -> Member:
    return Member(
        image_id=row.image_id,
        member_id=row.member_id,
        status=MemberStatus(row.status),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
