"""Writing one object through the library, which pulls."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

import structlog

from transom.errors import StoreFailed, TransomError
from transom.stores.drivers.glance.backend import Trouble
from transom.stores.drivers.glance.pipe import Pipe
from transom.stores.drivers.glance.shelf import Shelf
from transom.stores.store import KeyMissing, Stored
from transom.stores.threads import run_to_end, settled

_log = structlog.get_logger(__name__)

HEAD_BYTES = 1024 * 1024
"""What is held back before the library begins: objects up to this length have a known size, and what
fails early leaves no trace."""


class GlanceWriter:
    """Writes one object into a GlanceStore. See the contract of Writer; it cannot be re-opened."""

    def __init__(self, shelf: Shelf, key: str, *, size_hint: int | None) -> None:
        self._shelf = shelf
        self._key = key
        # Only as a last resort: a library that is told a size takes no other.
        self._size_hint = size_hint or 0 if shelf.backend.counts_sizes else 0
        self._head = bytearray()
        self._offset = 0
        self._pipe: Pipe | None = None
        self._adding: asyncio.Future[int] | None = None
        self._is_open = True
        self._is_known = False
        self._is_deleted = False
        self._may_have_left = False

    @property
    def token(self) -> str:
        """The key: nothing goes on from here, but `delete` removes what is left."""
        return self._key

    @property
    def offset(self) -> int:
        """Bytes taken so far."""
        return self._offset

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes."""
        self._begin()
        size_bytes = memoryview(chunk).nbytes
        if self._adding is None:
            self._head += chunk
            self._offset += size_bytes
            if len(self._head) > HEAD_BYTES:
                await self._start(self._size_hint)
            return
        if self._adding.done():
            await self._added()
        self._offset += size_bytes
        await self._put(bytes(chunk))

    async def flush(self) -> int:
        """0: nothing survives the end of this process."""
        self._begin()
        return 0

    async def commit(self) -> Stored:
        """Make the object complete. Whatever fails, cancellation included, leaves nothing."""
        self._begin()
        try:
            if self._adding is None:
                await self._start(len(self._head))
            if self._pipe is not None:
                self._pipe.end()
            self._hold_to(await self._added())
            url = await run_to_end(self._shelf.io, self._shelf.url, self._key)
        except BaseException:
            await self.cancel()
            raise
        self._let_go()
        return Stored(key=self._key, url=url, size_bytes=self._offset)

    async def cancel(self) -> None:
        """Remove everything written so far. What the storage does not let go now is logged, and
        left to `delete`."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            if self._pipe is not None and self._adding is not None:
                self._pipe.abandon()
                await settled(self._adding)
            if self._may_have_left:
                await run_to_end(self._shelf.io, self._remove)
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

    async def _start(self, size_bytes: int) -> None:
        pipe = self._pipe = Pipe()
        head, self._head = bytes(self._head), bytearray()
        loop = asyncio.get_running_loop()
        self._adding = loop.run_in_executor(self._shelf.adds, self._add, pipe, size_bytes)
        await self._put(head)

    async def _put(self, chunk: bytes) -> None:
        if self._pipe is not None and chunk:
            await self._pipe.put(chunk)

    async def _added(self) -> int:
        """What the library gave in the end. Raises the domain's errors."""
        if self._adding is None:
            raise RuntimeError("nothing is being added")
        try:
            return await asyncio.shield(self._adding)
        except (KeyMissing, TransomError):
            raise
        except Exception as error:
            raise self._shelf.explained(error, self._key) from error

    def _hold_to(self, written_bytes: int) -> None:
        if written_bytes != self._offset:
            raise StoreFailed(
                self._shelf.name, f"it stored {written_bytes} bytes of {self._offset}; try again"
            )

    def _let_go(self) -> None:
        self._is_open = False
        if self._shelf.writers.get(self._key) is self:
            del self._shelf.writers[self._key]

    # --- in threads ---

    def _add(self, pipe: Pipe, size_bytes: int) -> int:
        name = self._shelf.object_name(self._key)
        try:
            if self._is_there():
                raise StoreFailed(self._shelf.name, f"the key {self._key} is in use")
            self._may_have_left = True
            try:
                return self._shelf.backend.add(name, pipe, size_bytes)
            except Exception as error:
                if self._shelf.trouble(error) is Trouble.TAKEN:
                    # Another's, so it is not ours to remove.
                    self._may_have_left = False
                raise
        finally:
            pipe.close()

    def _is_there(self) -> bool:
        try:
            self._shelf.backend.stat(self._shelf.url(self._key))
        except Exception as error:
            if self._shelf.trouble(error) is Trouble.MISSING:
                return False
            raise
        return True

    def _remove(self) -> None:
        try:
            self._shelf.backend.delete(self._shelf.url(self._key))
        except Exception as error:
            meaning = self._shelf.explained(error, self._key, removing=True)
            if not isinstance(meaning, KeyMissing):
                raise meaning from error
