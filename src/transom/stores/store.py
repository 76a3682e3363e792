"""The contract of a store: a place that keeps the bytes of images under keys.

Every driver keeps every promise on this page; `tests/contracts/test_store.py` holds it to them.
Drivers raise the store errors of `transom.errors` (StoreFull, StoreUnavailable, StoreRefused,
StoreFailed, ImageInUse) and `KeyMissing`, and no library's own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

import msgspec


class KeyMissing(LookupError):
    """The store holds nothing complete under the key."""


class Features(msgspec.Struct, frozen=True, kw_only=True):
    """What a store can do beyond the core. A caller asks here, never for the driver's type."""

    writable: bool = True
    resumable: bool = True
    """A Writer can be opened again by another process with its token."""
    local_paths: bool = False
    """`local_path` gives a path that this process can open."""
    lists: bool = True
    """`list` tells all complete objects, and `list_partial`, where writers can be re-opened, all
    others."""
    shared: bool = True
    """Other processes see the same objects."""
    exclusive: bool = True
    """Nobody but Transom writes here: what was committed stays as it was. False: the objects are
    other people's, and what is read has to be proven each time."""
    schemes: tuple[str, ...] = ()
    """Schemes of the location URLs that `find` understands."""
    links: bool = False
    """It gives out URLs for reading, as `LinkingStore` says."""


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What a commit made durable."""

    key: str
    url: str
    size_bytes: int


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One object, complete or partial, as a store lists it. `modified_at` is seconds since the epoch."""

    key: str
    size_bytes: int
    modified_at: float
    token: str | None = None
    """For partial objects: what `reopen` takes."""


@runtime_checkable
class Writer(Protocol):
    """Writes one object from its beginning to its end. Commit or vanish.

    - Nothing is readable under the key before `commit` returns.
    - Leaving the `async with` block without a commit cancels, in whoever derives from this class.
    - `cancel` may be called at any time, any number of times, and does nothing after a commit.
    - `write` may buffer; when it returns, the caller may let go of the chunk.
    - Calls of one writer never overlap.
    """

    @property
    def token(self) -> str:
        """What another process needs to go on with this write: text, safe in a database row."""
        ...

    @property
    def offset(self) -> int:
        """Bytes taken so far, durable or not."""
        ...

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes. Raises StoreFull, StoreUnavailable, StoreFailed."""
        ...

    async def flush(self) -> int:
        """Make what was written survive a crash as far as the store can; give that offset (bytes): 0
        where writers cannot be re-opened."""
        ...

    async def commit(self) -> Stored:
        """Make the object durable and readable: on disk with its folder, or acknowledged."""
        ...

    async def cancel(self) -> None:
        """Remove everything written so far."""
        ...

    async def detach(self) -> None:
        """Let go without cancelling: the partial object stays for `reopen` by its token. Where
        writers cannot be re-opened, the same as `cancel`."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the block."""
        await self.cancel()


class Reader(Protocol):
    """Gives the bytes of one object, or of a range of it, piece by piece."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces in order, each at most about 1 MiB; ends early only by raising."""
        ...

    async def close(self) -> None:
        """Free what the reader holds; harmless when called twice."""
        ...


class Store(Protocol):
    """Keeps bytes under keys. Keys are given by the caller and never used twice.

    A key is 1 to 128 characters of `a-z A-Z 0-9 . _ -`, not starting with a dot. Keys of objects
    that others wrote (`find`) may have up to 4096.
    """

    name: str
    features: Features

    def writer(self, key: str, *, size_hint: int | None = None) -> Writer:
        """A Writer for a new object. `size_hint` is the expected length in bytes, if known."""
        ...

    async def reopen(self, token: str) -> Writer:
        """The Writer behind a token, at its durable offset (`writer.offset`).

        Raises KeyMissing when the partial object is gone or was committed.
        """
        ...

    async def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Reader:
        """A Reader of `length` bytes from `offset`, or to the end. Raises KeyMissing before the
        first byte; a range beyond the end is cut at the end. Stores that are not exclusive raise
        PartsRefused for a part that they cannot give, or cannot prove (decision 85)."""
        ...

    def local_path(self, key: str) -> Path | None:
        """Where this process can open the object itself, or None."""
        ...

    async def stat(self, key: str) -> Entry:
        """Facts of a complete object. Raises KeyMissing."""
        ...

    async def delete(self, key: str) -> None:
        """Remove the object, complete or partial; one that is not there is no error. Raises
        ImageInUse, StoreRefused, StoreUnavailable, StoreFailed and then nothing has changed."""
        ...

    def list(self) -> AsyncIterator[Entry]:
        """All complete objects, in no order."""
        ...

    def list_partial(self) -> AsyncIterator[Entry]:
        """All partial objects, with their tokens, in no order. Where writers cannot be re-opened,
        those that the store can see; what it cannot, its server has to clean up."""
        ...

    def properties(self) -> dict[str, object]:
        """What administrators are told of the store (API §15), under the names that Glance has for
        its kind; nothing secret."""
        ...

    def url(self, key: str) -> str:
        """The object's location URL, as clients with `show_multiple_locations` see it."""
        ...

    async def find(self, url: str, *, proves: bool = False) -> Entry:
        """The complete object behind a location URL. Only where `features.schemes` names some.

        Where others write, the entry's key stands for the object as it is now: reads fail once it
        is another one, as far as its server lets us see; with `proves` at least of the whole, if
        need be by reading all of it here. Raises KeyMissing for a URL that is none of this store,
        or behind which there is nothing; UrlRefused, FetchFailed, LocationRefused, ImageTooLarge.
        """
        ...

    def proves(self, key: str) -> bool:
        """True when reading the whole object fails if it has changed. Only asked where the store is
        not exclusive."""
        ...

    async def check(self) -> None:
        """Raise StoreUnavailable unless the store can be read and written now (readiness)."""
        ...

    async def close(self) -> None:
        """Free what the store holds."""
        ...


class LinkingStore(Protocol):
    """What a store with `features.links` can do besides."""

    async def link(self, key: str) -> str:
        """A URL at which whoever has it can read the object, ranges too, for a short time and with
        no further proof. Raises KeyMissing, StoreUnavailable, StoreFailed."""
        ...
