"""Writing that goes on where an earlier attempt ended."""

from __future__ import annotations

from transom.stores.store import Writer

FLUSH_BYTES = 256 * 1024 * 1024
"""So often what is written is made durable: what a crash may cost at most (bytes)."""


class Onward:
    """Takes data from its beginning, and hands on what the writer does not hold yet.

    The digests of an object need all of its bytes; the store needs the missing ones alone.
    """

    def __init__(self, writer: Writer, *, flush_bytes: int = FLUSH_BYTES) -> None:
        self._writer = writer
        self._skip_bytes = writer.offset
        self._flush_bytes = flush_bytes
        self._unflushed_bytes = 0

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes. Raises StoreFull, StoreUnavailable, StoreFailed."""
        size_bytes = len(chunk)
        if self._skip_bytes >= size_bytes:
            self._skip_bytes -= size_bytes
            return
        if self._skip_bytes:
            chunk = memoryview(chunk)[self._skip_bytes :]
            self._skip_bytes = 0
        await self._writer.write(chunk)
        self._unflushed_bytes += len(chunk)
        if self._unflushed_bytes >= self._flush_bytes:
            self._unflushed_bytes = 0
            await self._writer.flush()


class Flushing(Onward):
    """Takes data from where the writer stands, and makes it durable every now and then."""

    def __init__(self, writer: Writer, *, flush_bytes: int = FLUSH_BYTES) -> None:
        super().__init__(writer, flush_bytes=flush_bytes)
        self._skip_bytes = 0
