"""A question to the catalog: which images, in what order, how many."""

from __future__ import annotations

import datetime as dt
from typing import Literal

import msgspec

Direction = Literal["asc", "desc"]
TimeOperator = Literal["eq", "neq", "gt", "gte", "lt", "lte"]

SORT_KEYS = (
    "name", "status", "container_format", "disk_format", "size", "id", "created_at", "updated_at",
)  # fmt: skip
"""What a list of images may be sorted by (API §5.1)."""


class TimeFilter(msgspec.Struct, frozen=True):
    """A comparison of `created_at` or `updated_at`, as shown (whole seconds), with `moment`."""

    column: Literal["created_at", "updated_at"]
    operator: TimeOperator
    moment: dt.datetime


class RangeFilter(msgspec.Struct, frozen=True):
    """An inclusive bound of an integer column; null never matches."""

    column: Literal["size", "virtual_size", "min_ram", "min_disk"]
    bound: Literal["min", "max"]
    value: int


class ImageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a list of images can ask for (API §5). All filters must hold."""

    limit: int
    marker: str | None = None
    sort: tuple[tuple[str, Direction], ...] = (("created_at", "desc"), ("id", "desc"))
    """Total order: always ends with `created_at` and `id` when they are not named before."""
    visibility: Literal["public", "community", "shared", "private", "all"] | None = None
    member_status: Literal["pending", "accepted", "rejected", "all"] = "accepted"
    os_hidden: bool = False
    protected: bool | None = None
    tags: tuple[str, ...] = ()
    """The image must carry all of them."""
    equals: tuple[tuple[str, str], ...] = ()
    """Text columns that must equal a value: name, status, id, container_format, disk_format, owner,
    checksum, os_hash_algo, os_hash_value."""
    integers: tuple[tuple[str, int], ...] = ()
    """Integer columns that must equal a value: size, virtual_size, min_ram, min_disk."""
    one_of: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Text columns that must be one of several values (`in:`); an empty tuple matches nothing."""
    ranges: tuple[RangeFilter, ...] = ()
    times: tuple[TimeFilter, ...] = ()
    properties: tuple[tuple[str, str], ...] = ()
    """Custom properties that must equal a value."""
    matches_nothing: bool = False
    """Set when a filter can match no image at all (a size that is no number)."""
    changed_since: dt.datetime | None = None
    """Only images with `updated_at` at or after this moment, deleted ones included (the Compute
    view's `changes-since`)."""
