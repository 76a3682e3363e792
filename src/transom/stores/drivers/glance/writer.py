"""Writing one object through the library, which pulls."""

from __future__ import annotations

import asyncio

from transom.errors import StoreFailed, TransomError
from transom.stores.drivers.glance.backend import Trouble
from transom.stores.drivers.glance.pipe import Pipe
from transom.stores.drivers.glance.shelf import Shelf
from transom.stores.pulled import PulledWriter
from transom.stores.store import KeyMissing
from transom.stores.threads import run_to_end, settled

HEAD_BYTES = 1024 * 1024
"""What is held back before the library begins: objects up to this length have a known size, and what
fails early leaves no trace."""


class GlanceWriter(PulledWriter):
    """Writes one object into a GlanceStore."""

    def __init__(self, shelf: Shelf, key: str, *, size_hint: int | None) -> None:
        super().__init__(shelf.name, shelf.writers, key)
        self._shelf = shelf
        # Only as a last resort: a library that is told a size takes no other.
        self._size_hint = size_hint or 0 if shelf.backend.counts_sizes else 0
        self._pipe: Pipe | None = None
        self._adding: asyncio.Future[int] | None = None

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

    async def _complete(self) -> str:
        if self._adding is None:
            await self._start(len(self._head))
        if self._pipe is not None:
            self._pipe.end()
        self._hold_to(await self._added())
        return await run_to_end(self._shelf.io, self._shelf.url, self._key)

    async def _stop(self) -> None:
        if self._pipe is not None and self._adding is not None:
            self._pipe.abandon()
            await settled(self._adding)

    async def _remove(self) -> None:
        await run_to_end(self._shelf.io, self._removed)

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

    def _removed(self) -> None:
        try:
            self._shelf.backend.delete(self._shelf.url(self._key))
        except Exception as error:
            meaning = self._shelf.explained(error, self._key, removing=True)
            if not isinstance(meaning, KeyMissing):
                raise meaning from error
