"""What the kinds of storage behind the library have in common, seen from Transom."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator
from typing import Any, ClassVar, Protocol

import msgspec


class Trouble(enum.Enum):
    """What an error of the library, or of those below it, means."""

    MISSING = "missing"
    TAKEN = "taken"
    BUSY = "busy"
    FULL = "full"
    AWAY = "away"
    REFUSED = "refused"
    BROKEN = "broken"


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One object as the storage knows it. `modified_at` is seconds since the epoch."""

    name: str
    size_bytes: int
    modified_at: float
    is_complete: bool = True


class Source(Protocol):
    """An object that is open for reading, by one thread at a time."""

    found: Found

    def read(self, offset: int, length: int) -> bytes:
        """The bytes of a range that lies within the object. Raises errors of the library."""
        ...

    def close(self) -> None:
        """Let go of it; harmless when called twice."""
        ...


class Backend(Protocol):
    """One kind of storage. Every method may block, from many threads; errors are those of the
    library and of those below it, and `trouble` says what they mean.

    `name` is the name of an object of this store, `url` any location URL that the kind has.
    """

    schemes: ClassVar[tuple[str, ...]]
    counts_sizes: ClassVar[bool]
    """`add` needs the size beforehand."""

    def __init__(self, library: Any) -> None: ...

    def lists(self) -> bool:
        """True when `list` tells all objects whose names begin with the prefix."""
        ...

    def url(self, name: str) -> str:
        """Where the object is."""
        ...

    def name_of(self, url: str) -> str | None:
        """The name behind a URL that this store gives; None for every other one. A URL that cannot
        belong to this storage raises."""
        ...

    def add(self, name: str, data: Any, size_bytes: int) -> int:
        """Make the object out of all of `data`, a file to read from; gives its length. `size_bytes`
        is the length if it is known, else 0. What fails may leave remains for `remove`."""
        ...

    def open(self, url: str) -> Source:
        """The complete object behind a URL."""
        ...

    def stat(self, url: str) -> Found:
        """Facts of the complete object behind a URL."""
        ...

    def delete(self, url: str) -> None:
        """Remove the object behind a URL, complete or not."""
        ...

    def list(self, prefix: str) -> Iterator[Found]:
        """All objects whose names begin with the prefix, complete or not."""
        ...

    def check(self) -> None:
        """Raise unless objects can be read and written now."""
        ...

    def properties(self) -> dict[str, object]:
        """What administrators see, under Glance's names."""
        ...

    def trouble(self, error: BaseException) -> Trouble | None:
        """What an error means; None for one that is none of the storage's."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and what led to it."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or each.__context__


def named(error: BaseException, names: Collection[str]) -> bool:
    """True when a class of that name is among the error's classes: libraries that are not installed
    cannot be asked."""
    return any(kind.__name__ in names for kind in type(error).__mro__)
