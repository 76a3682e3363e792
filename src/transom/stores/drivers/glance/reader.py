"""Reading one object in threads, a batch ahead of the one that is being sent."""

from __future__ import annotations

import asyncio
from typing import Self

from transom.errors import StoreFailed
from transom.stores.drivers.glance.backend import Source
from transom.stores.drivers.glance.shelf import Shelf
from transom.stores.store import KeyMissing
from transom.stores.threads import run_to_end, settled

PIECE_BYTES = 1024 * 1024
BATCH_BYTES = 4 * PIECE_BYTES


class GlanceReader:
    """Reads one object of a GlanceStore. See the contract of Reader."""

    def __init__(self, shelf: Shelf, key: str, source: Source, begin: int, end: int) -> None:
        self._shelf = shelf
        self._key = key
        self._source = source
        self._at = begin
        self._end = end
        self._batch = b""
        self._taken = 0
        self._ahead: asyncio.Future[bytes] | None = None
        self._is_closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._is_closed:
            raise StopAsyncIteration
        if self._taken >= len(self._batch):
            await self._turn()
        piece = self._batch[self._taken : self._taken + PIECE_BYTES]
        self._taken += len(piece)
        return piece

    async def close(self) -> None:
        """Let go of the object, once nothing reads from it any more."""
        if self._is_closed:
            return
        self._is_closed = True
        self._batch = b""
        if self._ahead is not None:
            await settled(self._ahead)
        await run_to_end(self._shelf.io, self._source.close)

    async def _turn(self) -> None:
        """The next batch, and have the one after it read."""
        if self._ahead is None:
            self._read()
        if self._ahead is None:
            await self.close()
            raise StopAsyncIteration
        try:
            self._batch = await asyncio.shield(self._ahead)
        except Exception as error:
            meaning = self._shelf.explained(error, self._key)
            if isinstance(meaning, KeyMissing):
                meaning = StoreFailed(self._shelf.name, "an object was deleted while it was read")
            raise meaning from error
        self._taken, self._ahead = 0, None
        self._read()

    def _read(self) -> None:
        size_bytes = min(BATCH_BYTES, self._end - self._at)
        if size_bytes > 0:
            loop = asyncio.get_running_loop()
            self._ahead = loop.run_in_executor(self._shelf.io, self._whole, self._at, size_bytes)
            self._at += size_bytes

    def _whole(self, offset: int, size_bytes: int) -> bytes:
        batch = self._source.read(offset, size_bytes)
        if len(batch) != size_bytes:
            raise StoreFailed(self._shelf.name, "an object is shorter than it was")
        return batch
