"""Writing through a library that pulls the data in one go: no other process can go on with it.

What such writers have in common: the beginning is held back, because what is short needs no upload in
parts and what fails early leaves no trace; one writer has a key; whatever fails leaves nothing.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Self

import structlog

from transom.errors import StoreFailed, TransomError
from transom.stores.store import Stored, Writer

_log = structlog.get_logger(__name__)

Writers = MutableMapping[str, "PulledWriter"]
"""Who writes which key of a store in this process."""


class PulledWriter(Writer):
    """Writes one object. See the contract of Writer; it cannot be re-opened.

    A driver's writer has `write`, which begins with `_begin` and counts `_offset`, and the three steps
    below that end one.
    """

    def __init__(self, store: str, writers: Writers, key: str) -> None:
        """`store` is the store's name."""
        self._store = store
        self._writers = writers
        self._key = key
        self._head = bytearray()
        self._offset = 0
        self._is_open = True
        self._is_known = False
        self._is_deleted = False
        self._may_have_left = False
        """The storage may hold something that is ours to remove."""

    async def _complete(self) -> str:
        """Have the library come to the end; gives the object's location."""
        raise NotImplementedError

    async def _stop(self) -> None:
        """Have the library give up, if it has begun, and wait until it has."""
        raise NotImplementedError

    async def _remove(self) -> None:
        """Remove what was written, to the end, however often the caller is cancelled. Raises the
        errors of the contract."""
        raise NotImplementedError

    @property
    def token(self) -> str:
        """The key: nothing goes on from here, but `delete` removes what is left."""
        return self._key

    @property
    def offset(self) -> int:
        """Bytes taken so far."""
        return self._offset

    async def flush(self) -> int:
        """0: nothing can be gone on with after the end of this process."""
        self._begin()
        return 0

    async def commit(self) -> Stored:
        """Make the object complete. Whatever fails, cancellation included, leaves nothing."""
        self._begin()
        try:
            url = await self._complete()
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
        self._head = bytearray()
        try:
            await self._stop()
            if self._may_have_left:
                await self._remove()
        except TransomError as error:
            _log.warning("store.write_left", store=self._store, key=self._key, reason=str(error))
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

    def _begin(self) -> None:
        if not self._is_open:
            raise RuntimeError("this Writer has ended; ask the store for a new one")
        if self._is_deleted:
            raise StoreFailed(
                self._store, f"the data of {self._key} was deleted while it was written"
            )
        if not self._is_known:
            if self._key in self._writers:
                raise StoreFailed(self._store, f"the key {self._key} is in use")
            self._writers[self._key] = self
            self._is_known = True

    def _let_go(self) -> None:
        self._is_open = False
        if self._writers.get(self._key) is self:
            del self._writers[self._key]
