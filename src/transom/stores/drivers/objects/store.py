"""A store in a bucket, whoever's library reaches it."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import obstore

from transom.errors import StoreUnavailable, TransomError
from transom.stores.drivers.objects.faults import explained
from transom.stores.drivers.objects.reader import ObjectReader
from transom.stores.drivers.objects.shelf import Shelf
from transom.stores.drivers.objects.writer import ObjectWriter
from transom.stores.keys import checked_key, is_key
from transom.stores.store import Entry, Features, KeyMissing

_PROBE = ".probe/"
"""Begins with a dot, so it is no key."""


class ObjectStore:
    """Objects in a bucket. What is made of options is the drivers' business."""

    def __init__(self, shelf: Shelf, scheme: str) -> None:
        """`scheme` is that of the locations."""
        self.name = shelf.name
        self.features = Features(writable=True, resumable=False, schemes=(scheme,))
        self._shelf = shelf

    def writer(self, key: str, *, size_hint: int | None = None) -> ObjectWriter:
        """A Writer for a new object; a good `size_hint` lets it send parts at the same time."""
        return ObjectWriter(self._shelf, checked_key(key), size_hint=size_hint)

    async def reopen(self, token: str) -> ObjectWriter:
        """Nothing can be gone on with. Raises KeyMissing."""
        raise KeyMissing(token)

    async def read(self, key: str, *, offset: int = 0, length: int | None = None) -> ObjectReader:
        """A Reader. It fails when the object is deleted meanwhile."""
        size_bytes = (await self.stat(key)).size_bytes
        if offset < 0 or (length is not None and length < 0):
            raise ValueError("offset and length must not be negative")
        end = size_bytes if length is None else min(size_bytes, offset + length)
        return ObjectReader(self._shelf, key, offset, end)

    def local_path(self, key: str) -> Path | None:
        """None: objects are no files."""
        checked_key(key)
        return None

    async def stat(self, key: str) -> Entry:
        """Facts of a complete object. Raises KeyMissing."""
        path = self._shelf.path(checked_key(key))
        try:
            return _entry(key, await obstore.head_async(self._shelf.bucket, path))
        except Exception as error:
            raise explained(error, self.name, key) from error

    async def delete(self, key: str) -> None:
        """Remove the object, and end a write of it in this process. A write of another process that
        is alive may still make an object; it is found as an orphan then."""
        path = self._shelf.path(checked_key(key))
        writer = self._shelf.writers.get(key)
        if writer is not None:
            await writer.drop()
        try:
            with contextlib.suppress(FileNotFoundError):
                await obstore.delete_async(self._shelf.bucket, path)
        except Exception as error:
            raise explained(error, self.name, key, removing=True) from error

    async def list(self) -> AsyncIterator[Entry]:
        """All complete objects."""
        prefix = self._shelf.options.prefix
        try:
            async for batch in obstore.list(self._shelf.bucket, prefix=prefix or None):
                for each in batch:
                    key = each["path"].removeprefix(prefix)
                    if is_key(key):
                        yield _entry(key, each)
        except GeneratorExit:
            raise
        except Exception as error:
            raise explained(error, self.name, "") from error

    async def list_partial(self) -> AsyncIterator[Entry]:
        """Nothing: the library does not see uploads."""
        return
        yield

    def properties(self) -> dict[str, object]:
        """Nothing that Glance has a name for."""
        return {}

    def url(self, key: str) -> str:
        """Where the object is."""
        return self._shelf.url(checked_key(key))

    async def find(self, url: str, *, proves: bool = False) -> Entry:
        """The object whose URL this is. Raises KeyMissing."""
        key = url.removeprefix(self._shelf.url(""))
        if not is_key(key) or url != self._shelf.url(key):
            raise KeyMissing(url)
        return await self.stat(key)

    def proves(self, key: str) -> bool:
        """True: nobody else writes here."""
        return True

    async def check(self) -> None:
        """Write and remove a probe. Raises StoreUnavailable."""
        probe = self._shelf.path(_PROBE + secrets.token_hex(8))
        try:
            await obstore.put_async(self._shelf.bucket, probe, b"probe", use_multipart=False)
            await obstore.delete_async(self._shelf.bucket, probe)
        except Exception as error:
            meaning = explained(error, self.name, _PROBE)
            if isinstance(meaning, StoreUnavailable):
                raise meaning from error
            reason = str(meaning) if isinstance(meaning, TransomError) else "it loses its objects"
            raise StoreUnavailable(self.name, reason.rstrip(".")) from error

    async def close(self) -> None:
        """Nothing is held but connections, which end with the store."""


def _entry(key: str, meta: Any) -> Entry:
    # Whole seconds: listings are more exact than the header of a single object.
    moment = float(int(meta["last_modified"].timestamp()))
    return Entry(key=key, size_bytes=meta["size"], modified_at=moment)
