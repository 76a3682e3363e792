"""Reading one object, a few requests ahead of what is being sent."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Self

import obstore

from transom.errors import StoreFailed
from transom.stores.buckets import MIB
from transom.stores.drivers.objects.faults import explained
from transom.stores.drivers.objects.shelf import Shelf
from transom.stores.store import KeyMissing

PIECE_BYTES = MIB
BATCH_BYTES = 4 * MIB
"""One request: the library repeats it as a whole when it breaks."""
AHEAD = 2


class ObjectReader:
    """Reads one object of a bucket. See the contract of Reader."""

    def __init__(self, shelf: Shelf, key: str, begin: int, end: int) -> None:
        self._shelf = shelf
        self._key = key
        self._at = begin
        self._end = end
        self._batch = memoryview(b"")
        self._taken = 0
        self._ahead: deque[asyncio.Task[memoryview]] = deque()
        self._is_closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._is_closed:
            raise StopAsyncIteration
        if self._taken >= len(self._batch):
            await self._turn()
        piece = bytes(self._batch[self._taken : self._taken + PIECE_BYTES])
        self._taken += len(piece)
        return piece

    async def close(self) -> None:
        """Give up what is on its way."""
        self._is_closed = True
        self._batch, self._taken = memoryview(b""), 0
        ahead, self._ahead = self._ahead, deque()
        for each in ahead:
            each.cancel()
        await asyncio.gather(*ahead, return_exceptions=True)

    async def _turn(self) -> None:
        while self._at < self._end and len(self._ahead) < AHEAD:
            end = min(self._end, self._at + BATCH_BYTES)
            self._ahead.append(asyncio.create_task(self._get(self._at, end)))
            self._at = end
        if not self._ahead:
            await self.close()
            raise StopAsyncIteration
        self._batch = await asyncio.shield(self._ahead[0])
        self._ahead.popleft()
        self._taken = 0

    async def _get(self, begin: int, end: int) -> memoryview:
        shelf = self._shelf
        try:
            data = await obstore.get_range_async(
                shelf.bucket, shelf.path(self._key), start=begin, end=end
            )
        except Exception as error:
            meaning = explained(error, shelf.name, self._key)
            if isinstance(meaning, KeyMissing):
                meaning = StoreFailed(shelf.name, "an object was deleted while it was read")
            raise meaning from error
        if len(data) != end - begin:
            raise StoreFailed(shelf.name, "an object is shorter than it was")
        return memoryview(data)
