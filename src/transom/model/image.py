"""The image: its attributes, its states, and the moves between them."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum

import msgspec


class Status(StrEnum):
    """States of an image (lifecycle §1)."""

    QUEUED = "queued"
    SAVING = "saving"
    UPLOADING = "uploading"
    IMPORTING = "importing"
    ACTIVE = "active"
    DEACTIVATED = "deactivated"
    KILLED = "killed"
    PENDING_DELETE = "pending_delete"
    DELETED = "deleted"


class Visibility(StrEnum):
    """Who may see an image (lifecycle §2)."""

    PUBLIC = "public"
    COMMUNITY = "community"
    SHARED = "shared"
    PRIVATE = "private"


GONE = frozenset({Status.DELETED, Status.PENDING_DELETE})
"""States in which no API call can reach an image."""

TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset(
        {Status.SAVING, Status.UPLOADING, Status.IMPORTING, Status.ACTIVE, Status.DELETED}
    ),
    Status.SAVING: frozenset({Status.ACTIVE, Status.QUEUED, Status.DELETED}),
    Status.UPLOADING: frozenset({Status.IMPORTING, Status.QUEUED, Status.DELETED}),
    Status.IMPORTING: frozenset({Status.ACTIVE, Status.QUEUED, Status.DELETED}),
    Status.ACTIVE: frozenset({Status.DEACTIVATED, Status.DELETED, Status.PENDING_DELETE}),
    Status.DEACTIVATED: frozenset({Status.ACTIVE, Status.DELETED, Status.PENDING_DELETE}),
    Status.KILLED: frozenset({Status.DELETED}),
    Status.PENDING_DELETE: frozenset({Status.DELETED, Status.ACTIVE, Status.DEACTIVATED}),
    Status.DELETED: frozenset(),
}
"""Every move an image may make (lifecycle §1.1); the catalog refuses all others."""


class Location(msgspec.Struct, frozen=True, kw_only=True):
    """One place that holds the complete data of an image.

    `store` is the store's configured name, `key` the object's name in it; `url` is what clients
    with `show_multiple_locations` see.
    """

    store: str
    key: str
    url: str
    metadata: dict[str, object] = msgspec.field(default_factory=dict)
    status: str = "active"


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """A disk image as the catalog knows it. Times are aware UTC, sizes are bytes."""

    id: str
    created_at: dt.datetime
    updated_at: dt.datetime
    name: str | None = None
    status: Status = Status.QUEUED
    visibility: Visibility = Visibility.SHARED
    owner: str | None = None
    disk_format: str | None = None
    container_format: str | None = None
    size: int | None = None
    virtual_size: int | None = None
    checksum: str | None = None
    os_hash_algo: str | None = None
    os_hash_value: str | None = None
    os_hidden: bool = False
    protected: bool = False
    min_disk: int = 0
    min_ram: int = 0
    deleted_at: dt.datetime | None = None
    properties: dict[str, str | None] = msgspec.field(default_factory=dict)
    tags: tuple[str, ...] = ()
    locations: tuple[Location, ...] = ()
    revision: int = 0
    """Grows by one with every write: the compare in the catalog's compare-and-set."""
    member_id: str | None = None
    """The project through whose membership the reader sees the image, else None."""
