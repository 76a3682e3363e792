"""Reading data that may have changed, and letting its end go only when it has not."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Self

from transom.errors import StoreFailed
from transom.stores.store import Reader

_INLINE_BYTES = 64 * 1024
"""Pieces up to this size are hashed on the spot; longer ones in a thread."""


class ProvenReader:
    """A Reader of a whole object that keeps its last piece until the digest of all is right.

    So nobody ever gets all the bytes of an object that is not the expected one.
    """

    __slots__ = ("_algorithm", "_expected", "_hash", "_held", "_pieces", "_reader", "_store")

    def __init__(self, reader: Reader, *, store: str, algorithm: str, expected: str) -> None:
        """`expected` is hexadecimal; `store` is the name for messages. Raises ValueError for an
        algorithm that hashlib does not know."""
        self._reader = reader
        self._pieces = aiter(reader)
        self._store = store
        self._algorithm = algorithm
        self._expected = expected.lower()
        self._hash = hashlib.new(algorithm, usedforsecurity=False)
        self._held: bytes | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """The next piece. Raises StoreFailed in place of the last one when the data has changed."""
        while True:
            piece = await anext(self._pieces, None)
            if piece is None:
                return self._last()
            if len(piece) > _INLINE_BYTES:
                await asyncio.to_thread(self._hash.update, piece)
            else:
                self._hash.update(piece)
            held, self._held = self._held, piece
            if held is not None:
                return held

    def _last(self) -> bytes:
        held, self._held = self._held, None
        if held is None:
            raise StopAsyncIteration
        if self._hash.hexdigest() != self._expected:
            raise StoreFailed(
                self._store,
                f"the {self._algorithm} of the data is not the image's: the data has changed, or "
                "was another from the start",
            )
        return held

    async def close(self) -> None:
        """Free what the reader holds."""
        await self._reader.close()
