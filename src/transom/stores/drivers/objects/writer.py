"""Writing one object through the library, which pulls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

import obstore
import structlog

from transom.errors import StoreFailed, TransomError
from transom.stores.drivers.objects.faults import explained
from transom.stores.drivers.objects.options import MIB
from transom.stores.drivers.objects.shelf import Shelf
from transom.stores.store import KeyMissing, Stored
from transom.stores.threads import settled

_log = structlog.get_logger(__name__)

PARTS_MAX = 10_000
"""Google takes no more parts of one upload; Azure takes five times as many."""
PART_BYTES_UNKNOWN = 32 * MIB
"""Parts of objects whose length nobody announced: 312 GiB of them are enough parts. They are sent one
at a time, which bounds the memory."""
_WAITING_BYTES = 2 * MIB


class Abandoned(Exception):
    """The data does not come to its end: the library has to abort the upload."""


class ObjectWriter:
    """Writes one object of a bucket. See the contract of Writer; it cannot be re-opened."""

    def __init__(self, shelf: Shelf, key: str, *, size_hint: int | None) -> None:
        self._shelf = shelf
        self._key = key
        options = shelf.options
        self._part_bytes = options.part_size_bytes
        self._parallel = options.parallel_parts
        if size_hint is None:
            self._part_bytes = max(self._part_bytes, PART_BYTES_UNKNOWN)
            self._parallel = 1
        else:
            needed = -(-size_hint // (PARTS_MAX - 1))
            self._part_bytes = max(self._part_bytes, -(-needed // MIB) * MIB)
        self._head = bytearray()
        self._offset = 0
        self._pipe = _Pipe()
        self._putting: asyncio.Task[None] | None = None
        self._is_open = True
        self._is_known = False
        self._is_deleted = False
        self._may_have_left = False

    @property
    def token(self) -> str:
        """The key: nothing goes on from here, but `delete` removes what is complete."""
        return self._key

    @property
    def offset(self) -> int:
        """Bytes taken so far."""
        return self._offset

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

    async def flush(self) -> int:
        """0: nothing can be gone on with after the end of this process."""
        self._begin()
        return 0

    async def commit(self) -> Stored:
        """Make the object readable. Whatever fails, cancellation included, leaves nothing."""
        self._begin()
        try:
            if self._putting is None:
                self._putting = asyncio.create_task(self._put_whole(bytes(self._head)))
            self._pipe.end()
            await self._done(self._putting)
        except BaseException:
            await self.cancel()
            raise
        self._let_go()
        return Stored(key=self._key, url=self._shelf.url(self._key), size_bytes=self._offset)

    async def cancel(self) -> None:
        """Remove everything written so far, and have the server forget the parts. What it does not
        let go now is logged, and left to `delete`."""
        if not self._is_open:
            return
        self._is_open = False
        self._head = bytearray()
        try:
            if self._putting is not None:
                self._pipe.abandon()
                await settled(self._putting)
            if self._may_have_left:
                removing = asyncio.ensure_future(self._remove())
                await settled(removing)
                removing.result()
        except TransomError as error:
            _log.warning(
                "store.write_left", store=self._shelf.name, key=self._key, reason=str(error)
            )
        finally:
            self._let_go()

    async def detach(self) -> None:
        """The same as `cancel`: nobody could go on."""
        await self.cancel()

    async def drop(self) -> None:
        """Remove everything, because the object is being deleted; the next call fails."""
        was_open = self._is_open
        await self.cancel()
        self._is_open, self._is_deleted = was_open, True

    async def __aenter__(self) -> Self:
        self._begin()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.cancel()

    def _begin(self) -> None:
        if not self._is_open:
            raise RuntimeError("this Writer has ended; ask the store for a new one")
        shelf = self._shelf
        if self._is_deleted:
            raise StoreFailed(
                shelf.name, f"the data of {self._key} was deleted while it was written"
            )
        if not self._is_known:
            if self._key in shelf.writers:
                raise StoreFailed(shelf.name, f"the key {self._key} is in use")
            shelf.writers[self._key] = self
            self._is_known = True

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

    async def _remove(self) -> None:
        try:
            await obstore.delete_async(self._shelf.bucket, self._shelf.path(self._key))
        except Exception as error:
            meaning = explained(error, self._shelf.name, self._key, removing=True)
            if not isinstance(meaning, KeyMissing):
                raise meaning from error

    def _let_go(self) -> None:
        self._is_open = False
        if self._shelf.writers.get(self._key) is self:
            del self._shelf.writers[self._key]


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
