"""A member: a project that an image is shared with."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum

import msgspec


class MemberStatus(StrEnum):
    """What the project made of the offer."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One project that an image is shared with (API §11)."""

    image_id: str
    member_id: str
    status: MemberStatus = MemberStatus.PENDING
    created_at: dt.datetime
    updated_at: dt.datetime
