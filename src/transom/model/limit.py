"""Limits of a project, as the catalog holds to them (lifecycle §5)."""

from __future__ import annotations

from typing import Literal

import msgspec


class CountLimit(msgspec.Struct, frozen=True):
    """The most images of a kind that a project may have."""

    name: str
    """What errors call it."""
    count_max: int


class BytesLimit(msgspec.Struct, frozen=True, kw_only=True):
    """The most bytes that a project's images may have."""

    name: str
    """What errors call it."""
    bytes_max: int
    counts: Literal["all", "stored", "staged"]
    """`stored`: data of images, and what is on its way into stores; `staged`: data that waits for its
    import, and what is on its way there; `all`: `stored`, and all that is on its way."""
    is_exact: bool = True
    """False: data of unknown size may pass the limit with its own last bytes, if all the others do
    not pass it without them."""
    unit_bytes: int = 1
    """What errors count in."""
