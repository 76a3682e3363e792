"""The store behind Glance's driver library."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from transom.errors import ConfigurationError, StoreUnavailable, TransomError
from transom.settings import StoreSettings
from transom.stores.drivers.glance.backend import Backend, Found
from transom.stores.drivers.glance.library import Library
from transom.stores.drivers.glance.reader import GlanceReader
from transom.stores.drivers.glance.shelf import Shelf, checked, foreign_key
from transom.stores.drivers.glance.writer import GlanceWriter
from transom.stores.keys import checked_key, is_key
from transom.stores.options import choice_option, text_option
from transom.stores.store import Entry, Features, KeyMissing
from transom.stores.threads import run_to_end

if TYPE_CHECKING:
    from collections.abc import Iterator

BACKENDS = {
    "rbd": "transom.stores.drivers.glance.rbd:RbdBackend",
    "swift": "transom.stores.drivers.glance.swift:SwiftBackend",
    "cinder": "transom.stores.drivers.glance.cinder:CinderBackend",
}
"""Option `kind` → class, by dotted name: each needs libraries of its own."""
_NEEDS = {
    "rbd": (
        "it belongs to Ceph, not to PyPI: install the system packages python3-rbd and python3-rados, "
        "and let this Python see them"
    ),
    "swift": "install the extra glance_store",
    "cinder": "install python-cinderclient and os-brick",
}
PREFIX_DEFAULT = "transom-"
_LIST_BATCH = 64


class GlanceStore:
    """Objects through Glance's drivers. Made from (name, settings, data folder), the last unused.

    Options: `kind`, `prefix` (of object names; empty: the store does not list), and all that Glance's
    driver of that kind has.
    """

    def __init__(self, name: str, settings: StoreSettings, data: Path) -> None:
        """Reaches no storage. Raises ConfigurationError."""
        del data
        if settings.path:
            raise ConfigurationError(
                f"stores.{name}.path = {settings.path!r}: such a store has no folder; leave it out."
            )
        if "kind" not in settings.options:
            raise ConfigurationError(f"stores.{name}.kind: use one of {', '.join(BACKENDS)}.")
        kind = choice_option(name, settings, "kind", tuple(BACKENDS), "")
        prefix = text_option(name, settings, "prefix", PREFIX_DEFAULT)
        if prefix and not is_key(prefix):
            raise ConfigurationError(
                f"stores.{name}.prefix = {prefix!r}: use letters, digits, dots, underscores and "
                "dashes, no dot first."
            )
        options = {
            key: each for key, each in settings.options.items() if key not in ("kind", "prefix")
        }
        backend = _backend(name, kind, options)
        self.name = name
        self._shelf = Shelf(name, backend, prefix)
        self.features = Features(
            writable=True,
            resumable=False,
            # Without a prefix the objects of others would pass for forgotten ones of ours.
            lists=bool(prefix) and backend.lists(),
            schemes=backend.schemes,
        )

    def writer(self, key: str, *, size_hint: int | None = None) -> GlanceWriter:
        """A Writer for a new object."""
        return GlanceWriter(self._shelf, checked_key(key), size_hint=size_hint)

    async def reopen(self, token: str) -> GlanceWriter:
        """Nothing can be gone on with. Raises KeyMissing."""
        raise KeyMissing(token)

    async def read(self, key: str, *, offset: int = 0, length: int | None = None) -> GlanceReader:
        """A Reader. It fails, and gives no wrong bytes, when the object is deleted meanwhile."""
        checked(key)
        if offset < 0 or (length is not None and length < 0):
            raise ValueError("offset and length must not be negative")
        source = await self._run(self._open, key, key=key)
        size_bytes = source.found.size_bytes
        end = size_bytes if length is None else min(size_bytes, offset + length)
        return GlanceReader(self._shelf, key, source, offset, end)

    def local_path(self, key: str) -> Path | None:
        """None: objects are no files."""
        checked(key)
        return None

    async def stat(self, key: str) -> Entry:
        """Facts of a complete object. Raises KeyMissing."""
        checked(key)
        return _entry(key, await self._run(self._stat, key, key=key))

    async def delete(self, key: str) -> None:
        """Remove the object, complete or partial. Raises ImageInUse while others use it: clones of an
        RBD image, a volume that is attached, a write of another process."""
        checked(key)
        writer = self._shelf.writers.get(key)
        if writer is not None:
            await writer.drop()
        with contextlib.suppress(KeyMissing):
            await self._run(self._delete, key, key=key, removing=True)

    async def list(self) -> AsyncIterator[Entry]:
        """All complete objects of ours; none without a prefix."""
        async for key, found in self._listed():
            if found.is_complete:
                yield _entry(key, found)

    async def list_partial(self) -> AsyncIterator[Entry]:
        """What writes that did not end have left, and what is being written. `reopen` takes none of
        these; `delete` does."""
        async for key, found in self._listed():
            if not found.is_complete:
                yield Entry(
                    key=key, size_bytes=found.size_bytes, modified_at=found.modified_at, token=key
                )

    def properties(self) -> dict[str, object]:
        """What Glance tells of such a store."""
        return self._shelf.backend.properties()

    def url(self, key: str) -> str:
        """The location as Glance would write it, which Nova and Cinder understand. Asks the storage
        once, for its id. Raises StoreUnavailable."""
        checked(key)
        try:
            return self._shelf.url(key)
        except Exception as error:
            raise self._shelf.explained(error, key) from error

    async def find(self, url: str, *, proves: bool = False) -> Entry:
        """The object of a location of this kind, by whomever it was written: what Glance stored, and
        what Nova and Cinder put beside it, is found, read and deleted as our own."""
        try:
            name = await asyncio.to_thread(self._shelf.backend.name_of, url)
        except ValueError:
            raise KeyMissing(url) from None
        except Exception as error:
            if type(error).__name__ == "BadStoreUri":
                raise KeyMissing(url) from None
            raise self._shelf.explained(error, url) from error
        own = None if name is None else name.removeprefix(self._shelf.prefix)
        if own is not None and name == self._shelf.object_name(own) and is_key(own):
            return await self.stat(own)
        return await self.stat(foreign_key(url))

    def proves(self, key: str) -> bool:
        """True: complete objects do not change."""
        return True

    async def check(self) -> None:
        """Write and remove a probe. Raises StoreUnavailable."""
        try:
            await self._run(self._shelf.backend.check, key="")
        except (KeyMissing, TransomError) as error:
            if isinstance(error, StoreUnavailable):
                raise
            raise StoreUnavailable(
                self.name, "its storage does not take data; an operator has to look after it"
            ) from error

    async def close(self) -> None:
        """Wait for running work and end the threads."""
        await asyncio.to_thread(self._shelf.close)

    # --- in threads ---

    async def _run(self, work: Any, *arguments: Any, key: str, removing: bool = False) -> Any:
        try:
            return await run_to_end(self._shelf.io, work, *arguments)
        except Exception as error:
            if isinstance(error, KeyMissing | TransomError):
                raise
            raise self._shelf.explained(error, key, removing=removing) from error

    def _open(self, key: str) -> Any:
        return self._shelf.backend.open(self._shelf.url(key))

    def _stat(self, key: str) -> Found:
        return self._shelf.backend.stat(self._shelf.url(key))

    def _delete(self, key: str) -> None:
        self._shelf.backend.delete(self._shelf.url(key))

    async def _listed(self) -> AsyncIterator[tuple[str, Found]]:
        if not self.features.lists:
            return
        prefix = self._shelf.prefix
        found = self._shelf.backend.list(prefix)
        try:
            while batch := await self._run(_some, found, key=""):
                for each in batch:
                    key = each.name.removeprefix(prefix)
                    if is_key(key):
                        yield key, each
        finally:
            close = getattr(found, "close", None)
            if close is not None:
                await run_to_end(self._shelf.io, close)


def _some(found: Iterator[Found]) -> list[Found]:
    """The next of a listing; none at its end."""
    batch: list[Found] = []
    for each in found:
        batch.append(each)
        if len(batch) == _LIST_BATCH:
            break
    return batch


def _entry(key: str, found: Found) -> Entry:
    return Entry(key=key, size_bytes=found.size_bytes, modified_at=found.modified_at)


def _backend(name: str, kind: str, options: dict[str, Any]) -> Backend:
    """The backend of a kind, with the library's driver. Raises ConfigurationError."""
    module, _, made = BACKENDS[kind].partition(":")
    try:
        library = Library(name, kind, options)
        return cast("Backend", getattr(importlib.import_module(module), made)(library))
    except ImportError as missing:
        package = (missing.name or "").partition(".")[0]
        needs = _NEEDS[kind]
        if package in ("glance_store", "oslo_config"):
            needs = "install the extra glance_store"
        raise ConfigurationError(
            f"stores.{name}.kind = {kind!r}: the Python module {package} cannot be imported; {needs}."
        ) from missing
