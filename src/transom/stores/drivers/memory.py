"""A store in the memory of the process: for tests, demos and throw-away deployments.

It keeps every promise of the contract but survival: all is gone when the process ends, and other
processes do not see it, so it fits deployments with one worker. Option `size_bytes_max` (bytes,
default 1 GiB, 0 = unlimited) bounds what all objects, complete and partial, may take.
"""

from __future__ import annotations

import bisect
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

from transom.errors import StoreFailed, StoreFull, StoreUnavailable
from transom.settings import StoreSettings
from transom.stores.keys import checked_key
from transom.stores.options import refuse_unknown_options, size_option
from transom.stores.store import Entry, Features, KeyMissing, Stored, Writer

SIZE_BYTES_MAX_DEFAULT = 1024**3
_PIECE_BYTES = 1024**2
_BLOCK_BYTES = 256 * 1024
_serial = itertools.count(1)


class _Data:
    """The bytes of one object as blocks, with the offset at which each ends."""

    __slots__ = ("blocks", "ends", "held_by", "modified_at", "serial", "tail")

    def __init__(self) -> None:
        self.blocks: list[bytes] = []
        self.ends: list[int] = []
        self.tail = bytearray()
        self.modified_at = time.time()
        self.serial = next(_serial)
        self.held_by: MemoryWriter | None = None

    @property
    def size_bytes(self) -> int:
        return (self.ends[-1] if self.ends else 0) + len(self.tail)

    def append(self, chunk: bytes | bytearray | memoryview) -> None:
        # Small chunks are put together: a list of a million one-byte blocks would take far more
        # memory than is counted.
        if len(chunk) >= _BLOCK_BYTES:
            self.seal()
            self._add(bytes(chunk))
            return
        self.tail += chunk
        if len(self.tail) >= _BLOCK_BYTES:
            self.seal()

    def seal(self) -> None:
        if self.tail:
            tail = bytes(self.tail)
            self.tail.clear()
            self._add(tail)

    def _add(self, block: bytes) -> None:
        self.ends.append((self.ends[-1] if self.ends else 0) + len(block))
        self.blocks.append(block)


class Shelf:
    """What a MemoryStore and its writers share."""

    def __init__(self, name: str, size_bytes_max: int) -> None:
        self.name = name
        self.size_bytes_max = size_bytes_max
        self.size_bytes = 0
        self.complete: dict[str, _Data] = {}
        self.partial: dict[str, _Data] = {}

    def require_room(self, size_bytes: int) -> None:
        """Raise StoreFull unless so many bytes more would fit."""
        if self.size_bytes_max and self.size_bytes + size_bytes > self.size_bytes_max:
            raise StoreFull(self.name)

    def append(self, data: _Data, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes of an object. Raises StoreFull."""
        size_bytes = memoryview(chunk).nbytes
        self.require_room(size_bytes)
        self.size_bytes += size_bytes
        data.append(chunk)

    def drop(self, key: str) -> None:
        """Forget an object, complete or partial."""
        for objects in (self.complete, self.partial):
            data = objects.pop(key, None)
            if data is not None:
                self.size_bytes -= data.size_bytes

    def url(self, key: str) -> str:
        """Where an object is said to be."""
        return f"memory://{self.name}/{key}"


class MemoryStore:
    """A store that forgets. Made from (name, settings, data folder); the folder is not used."""

    features = Features(writable=True, resumable=True, local_paths=False, lists=True, shared=False)

    def __init__(self, name: str, settings: StoreSettings, data: Path) -> None:
        """Raises ConfigurationError for options that it does not know."""
        del data
        refuse_unknown_options(name, settings, ("size_bytes_max",))
        self.name = name
        self._shelf = Shelf(
            name, size_option(name, settings, "size_bytes_max", SIZE_BYTES_MAX_DEFAULT)
        )

    def writer(self, key: str, *, size_hint: int | None = None) -> MemoryWriter:
        """A Writer for a new object; a `size_hint` beyond the free room fails at the first write."""
        return MemoryWriter(self._shelf, checked_key(key), size_hint=size_hint)

    async def reopen(self, token: str) -> MemoryWriter:
        """The Writer behind a token of this process. Raises KeyMissing, and StoreUnavailable while
        another Writer holds it."""
        key, _, serial = token.partition("~")
        data = self._shelf.partial.get(key)
        if data is None or str(data.serial) != serial:
            raise KeyMissing(token)
        if data.held_by is not None:
            raise StoreUnavailable(self.name, "this data is being written by another request")
        return MemoryWriter(self._shelf, key, data)

    async def read(self, key: str, *, offset: int = 0, length: int | None = None) -> MemoryReader:
        """A Reader; what it reads stays even if the object is deleted meanwhile."""
        return MemoryReader(self._find(key), offset, length)

    def local_path(self, key: str) -> Path | None:
        """None: nothing is on disk."""
        checked_key(key)
        return None

    async def stat(self, key: str) -> Entry:
        """Facts of a complete object. Raises KeyMissing."""
        data = self._find(key)
        return Entry(key=key, size_bytes=data.size_bytes, modified_at=data.modified_at)

    async def delete(self, key: str) -> None:
        """Remove the object, complete or partial."""
        self._shelf.drop(checked_key(key))

    async def list(self) -> AsyncIterator[Entry]:
        """All complete objects."""
        for key, data in list(self._shelf.complete.items()):
            yield Entry(key=key, size_bytes=data.size_bytes, modified_at=data.modified_at)

    async def list_partial(self) -> AsyncIterator[Entry]:
        """All partial objects, with their tokens."""
        for key, data in list(self._shelf.partial.items()):
            yield Entry(
                key=key,
                size_bytes=data.size_bytes,
                modified_at=data.modified_at,
                token=f"{key}~{data.serial}",
            )

    def properties(self) -> dict[str, object]:
        """Nothing that Glance has a name for."""
        return {}

    def url(self, key: str) -> str:
        """`memory://<store>/<key>`."""
        return self._shelf.url(checked_key(key))

    async def find(self, url: str, *, proves: bool = False) -> Entry:
        """Raises KeyMissing: no URL leads into the memory of a process."""
        raise KeyMissing(url)

    def proves(self, key: str) -> bool:
        """True: nobody else writes here."""
        return True

    async def check(self) -> None:
        """Nothing can be wrong with it."""

    async def close(self) -> None:
        """Forget everything."""
        for key in [*self._shelf.complete, *self._shelf.partial]:
            self._shelf.drop(key)

    def _find(self, key: str) -> _Data:
        try:
            return self._shelf.complete[checked_key(key)]
        except KeyError:
            raise KeyMissing(key) from None


class MemoryWriter(Writer):
    """Writes one object into a MemoryStore. See the contract of Writer."""

    def __init__(
        self,
        shelf: Shelf,
        key: str,
        data: _Data | None = None,
        *,
        size_hint: int | None = None,
    ) -> None:
        self._shelf = shelf
        self._key = key
        self._data = data or _Data()
        self._data.held_by = self
        self._is_known = data is not None
        self._size_hint = size_hint or 0
        self._is_open = True

    @property
    def token(self) -> str:
        """What `reopen` takes, in this process."""
        return f"{self._key}~{self._data.serial}"

    @property
    def offset(self) -> int:
        """Bytes taken so far."""
        return self._data.size_bytes

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes. Raises StoreFull."""
        self._begin()
        self._shelf.append(self._data, chunk)
        self._data.modified_at = time.time()

    async def flush(self) -> int:
        """The offset: what is in memory is as safe as it gets here."""
        self._begin()
        return self._data.size_bytes

    async def commit(self) -> Stored:
        """Make the object readable. Raises StoreFailed when the key is in use or the partial object
        was deleted."""
        self._begin()
        if self._key in self._shelf.complete:
            raise StoreFailed(self._shelf.name, f"the key {self._key} is in use")
        self._data.seal()
        self._data.modified_at = time.time()
        del self._shelf.partial[self._key]
        self._shelf.complete[self._key] = self._data
        self._let_go()
        return Stored(
            key=self._key, url=self._shelf.url(self._key), size_bytes=self._data.size_bytes
        )

    async def cancel(self) -> None:
        """Remove everything written so far; nothing after a commit or a detach."""
        if not self._is_open:
            return
        self._let_go()
        if self._is_known and self._shelf.partial.get(self._key) is self._data:
            self._shelf.drop(self._key)

    async def detach(self) -> None:
        """Leave the partial object for `reopen`."""
        if self._is_open:
            self._begin()
            self._let_go()

    async def __aenter__(self) -> Self:
        self._begin()
        return self

    def _begin(self) -> None:
        if not self._is_open:
            raise RuntimeError("this Writer has ended; ask the store for a new one")
        shelf = self._shelf
        if not self._is_known:
            if self._key in shelf.partial or self._key in shelf.complete:
                raise StoreFailed(shelf.name, f"the key {self._key} is in use")
            shelf.require_room(self._size_hint)
            shelf.partial[self._key] = self._data
            self._is_known = True
        elif shelf.partial.get(self._key) is not self._data:
            raise StoreFailed(
                shelf.name, f"the data of {self._key} was deleted while it was written"
            )

    def _let_go(self) -> None:
        self._is_open = False
        self._data.held_by = None


class MemoryReader:
    """Reads one object of a MemoryStore."""

    def __init__(self, data: _Data, offset: int, length: int | None) -> None:
        if offset < 0 or (length is not None and length < 0):
            raise ValueError("offset and length must not be negative")
        self._data: _Data | None = data
        self._at = offset
        self._end = data.size_bytes if length is None else min(data.size_bytes, offset + length)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        data = self._data
        if data is None or self._at >= self._end:
            raise StopAsyncIteration
        index = bisect.bisect_right(data.ends, self._at)
        block = data.blocks[index]
        begin = self._at - (data.ends[index] - len(block))
        end = min(len(block), begin + _PIECE_BYTES, begin + self._end - self._at)
        self._at += end - begin
        return block if end - begin == len(block) else block[begin:end]

    async def close(self) -> None:
        """Let go of the object."""
        self._data = None
