"""One staged object, as plugins read it: in a stream, or a little of it anywhere."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

from transom.stores.store import Store


class Staged:
    """One object of the staging store."""

    def __init__(self, store: Store, key: str, size_bytes: int) -> None:
        self._store = store
        self._key = key
        self.size_bytes = size_bytes

    async def stream(self, offset: int, length: int) -> AsyncGenerator[bytes, None]:
        """The bytes from `offset` on, in pieces. Raises the errors of the store."""
        reader = await self._store.read(self._key, offset=offset, length=length)
        try:
            async for piece in reader:
                yield piece
        finally:
            await reader.close()

    async def read(self, offset: int, length: int) -> bytes:
        """A few bytes; fewer than asked for where the object ends."""
        return b"".join([piece async for piece in self.stream(offset, length)])

    def local_path(self) -> Path | None:
        """Where this process can open the object itself, or None."""
        return self._store.local_path(self._key) if self._store.features.local_paths else None
