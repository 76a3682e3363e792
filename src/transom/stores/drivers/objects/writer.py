"""Writing one object through the library, which pulls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import obstore

from transom.errors import StoreFailed, TransomError
from transom.stores.buckets import MIB
from transom.stores.drivers.objects.faults import explained
from transom.stores.drivers.objects.shelf import Shelf
from transom.stores.pulled import PulledWriter
from transom.stores.store import KeyMissing
from transom.stores.threads import settled

PARTS_MAX = 10_000
"""Google takes no more parts of one upload; Azure takes five times as many."""
PART_BYTES_UNKNOWN = 32 * MIB
"""Parts of objects whose length nobody announced: 312 GiB of them are enough parts. They are sent one
at a time, which bounds the memory."""
_WAITING_BYTES = 2 * MIB


class Abandoned(Exception):
    """The data does not come to its end: the library has to abort the upload."""


class ObjectWriter(PulledWriter):
    """Writes one object of a bucket."""

    def __init__(self, shelf: Shelf, key: str, *, size_hint: int | None) -> None:
        super().__init__(shelf.name, shelf.writers, key)
        self._shelf = shelf
        options = shelf.options
        self._part_bytes = options.part_size_bytes
        self._parallel = options.parallel_parts
        if size_hint is None:
            self._part_bytes = max(self._part_bytes, PART_BYTES_UNKNOWN)
            self._parallel = 1
        else:
            needed = -(-size_hint // (PARTS_MAX - 1))
            self._part_bytes = max(self._part_bytes, -(-needed // MIB) * MIB)
        self._pipe = _Pipe()
        self._putting: asyncio.Task[None] | None = None

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes."""
        self._begin()
        size_bytes = memoryview(chunk).nbytes
        if self._putting is None:
            self._head += chunk
            self._offset += size_bytes
            # The first part's worth is held back: what fits into one is put in one request.
            if len(self._head) > self._shelf.options.part_size_bytes:
                head, self._head = bytes(self._head), bytearray()
                self._putting = asyncio.create_task(self._put_parts())
                await self._pipe.put(head)
            return
        if self._putting.done():
            await self._done(self._putting)
        self._offset += size_bytes
        await self._pipe.put(bytes(chunk))

    async def _complete(self) -> str:
        if self._putting is None:
            self._putting = asyncio.create_task(self._put_whole(bytes(self._head)))
        self._pipe.end()
        await self._done(self._putting)
        return self._shelf.url(self._key)

    async def _stop(self) -> None:
        if self._putting is not None:
            self._pipe.abandon()
            await settled(self._putting)

    async def _remove(self) -> None:
        removing = asyncio.ensure_future(self._removed())
        await settled(removing)
        removing.result()

    async def _put_whole(self, data: bytes) -> None:
        self._may_have_left = True
        try:
            await obstore.put_async(
                self._shelf.bucket,
                self._shelf.path(self._key),
                data,
                use_multipart=False,
                mode="create",
            )
        except obstore.exceptions.AlreadyExistsError:
            # Another's, so it is not ours to remove.
            self._may_have_left = False
            raise

    async def _put_parts(self) -> None:
        shelf = self._shelf
        path = shelf.path(self._key)
        try:
            # The library has no condition for uploads in parts.
            if await _is_there(shelf, path):
                raise StoreFailed(shelf.name, f"the key {self._key} is in use")
            self._may_have_left = True
            await obstore.put_async(
                shelf.bucket,
                path,
                self._pipe.read(),
                use_multipart=True,
                chunk_size=self._part_bytes,
                max_concurrency=self._parallel,
            )
        finally:
            self._pipe.close()

    async def _done(self, putting: asyncio.Task[None]) -> None:
        try:
            await asyncio.shield(putting)
        except TransomError:
            raise
        except Exception as error:
            raise explained(error, self._shelf.name, self._key) from error

    async def _removed(self) -> None:
        try:
            await obstore.delete_async(self._shelf.bucket, self._shelf.path(self._key))
        except Exception as error:
            meaning = explained(error, self._shelf.name, self._key, removing=True)
            if not isinstance(meaning, KeyMissing):
                raise meaning from error


class _Pipe:
    """Chunks from one task to another, a few at a time."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._held_bytes = 0
        self._changed = asyncio.Condition()
        self._is_ended = False
        self._is_abandoned = False
        self._is_closed = False

    async def put(self, chunk: bytes) -> None:
        """Hand on a chunk; returns when there is room for the next, or nobody reads any more."""
        async with self._changed:
            if chunk:
                self._chunks.append(chunk)
                self._held_bytes += len(chunk)
                self._changed.notify_all()
            await self._changed.wait_for(
                lambda: self._held_bytes <= _WAITING_BYTES or self._is_closed or self._is_abandoned
            )

    def end(self) -> None:
        """No more chunks come."""
        self._is_ended = True
        self._wake()

    def abandon(self) -> None:
        """No more chunks come, and those that came are not wanted."""
        self._is_abandoned = True
        self._wake()

    def close(self) -> None:
        """Nobody reads any more."""
        self._is_closed = True
        self._wake()

    async def read(self) -> AsyncIterator[bytes]:
        """The chunks, to the end. Raises Abandoned."""
        while True:
            async with self._changed:
                await self._changed.wait_for(
                    lambda: self._chunks or self._is_ended or self._is_abandoned
                )
                if self._is_abandoned:
                    raise Abandoned
                chunks, self._chunks = self._chunks, []
                self._held_bytes = 0
                self._changed.notify_all()
            if not chunks:
                return
            for chunk in chunks:
                yield chunk

    def _wake(self) -> None:
        # Waiters look again on their own turn; the lock is theirs to take.
        asyncio.get_running_loop().create_task(self._notify())

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


async def _is_there(shelf: Shelf, path: str) -> bool:
    try:
        await obstore.head_async(shelf.bucket, path)
    except FileNotFoundError:
        return False
    return True
