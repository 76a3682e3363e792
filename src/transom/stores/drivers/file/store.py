"""The file store."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import stat
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from pathlib import Path
from urllib.parse import unquote, urlsplit

import structlog

from transom.errors import StoreFailed, StoreRefused, StoreUnavailable
from transom.settings import StoreSettings
from transom.stores.drivers.file.folder import MARK, NO_PERMISSION, Folder, remove
from transom.stores.drivers.file.reader import PIECE_BYTES, FileReader
from transom.stores.drivers.file.writer import FileWriter
from transom.stores.keys import checked_key, is_key
from transom.stores.options import refuse_unknown_options
from transom.stores.store import Entry, Features, KeyMissing
from transom.stores.threads import run_to_end

_log = structlog.get_logger(__name__)

_LIST_BATCH = 256


class FileStore:
    """Objects as files. Made from (name, settings, data folder)."""

    features = Features(
        writable=True,
        resumable=True,
        local_paths=True,
        lists=True,
        schemes=("file", "filesystem"),
    )

    def __init__(self, name: str, settings: StoreSettings, data: Path) -> None:
        """Makes the folder if it is not there. Raises ConfigurationError when that fails."""
        refuse_unknown_options(name, settings)
        self.name = name
        path = settings.path.replace("<data>", str(data))
        root = Path(path or data / ("images" if name == "main" else f"images-{name}"))
        self._folder = Folder(name, root.expanduser().absolute(), is_synced=settings.fsync)

    # --- the contract ---

    def writer(self, key: str, *, size_hint: int | None = None) -> FileWriter:
        """A Writer for a new object. With `size_hint`, a disk that lacks the room for it is told
        from the start; nothing is reserved, because a hint may lie."""
        return FileWriter(self._folder, checked_key(key), size_hint=size_hint)

    async def reopen(self, token: str) -> FileWriter:
        """The Writer behind a token, at the durable offset. Raises KeyMissing, and StoreUnavailable
        while a living process writes the object."""
        if not is_key(token):
            raise KeyMissing(token)
        writer = FileWriter(self._folder, token)
        await writer.reopen()
        return writer

    async def read(self, key: str, *, offset: int = 0, length: int | None = None) -> FileReader:
        """A Reader; it stays good when the object is deleted meanwhile."""
        if offset < 0 or (length is not None and length < 0):
            raise ValueError("offset and length must not be negative")
        file, size_bytes = await run_to_end(self._folder.io, self._open_object, checked_key(key))
        end = size_bytes if length is None else min(size_bytes, offset + length)
        return FileReader(self._folder, file, min(offset, end), end)

    def local_path(self, key: str) -> Path:
        """Where the object is, or would be."""
        return self._folder.path(checked_key(key))

    async def stat(self, key: str) -> Entry:
        """Facts of a complete object. Raises KeyMissing."""
        path = self._folder.path(checked_key(key))
        try:
            facts = await run_to_end(self._folder.io, path.stat)
        except OSError as error:
            raise self._folder.explained(error, key) from error
        return Entry(key=key, size_bytes=facts.st_size, modified_at=facts.st_mtime)

    async def delete(self, key: str) -> None:
        """Remove the object, complete or partial. The removal itself is not forced to disk: what a
        power failure brings back, the janitor finds."""
        await run_to_end(self._folder.io, self._delete, checked_key(key))

    async def list(self) -> AsyncIterator[Entry]:
        """All complete objects, read from the disk a few hundred at a time."""
        async for entry in self._listed(self._scan()):
            yield entry

    async def list_partial(self) -> AsyncIterator[Entry]:
        """All partial objects, with their tokens, also those that are being written now."""
        async for entry in self._listed(self._scan_partial()):
            yield entry

    def properties(self) -> dict[str, object]:
        """The folder, the bytes of one read, and that files have no holes."""
        return {
            "data_dir": str(self._folder.root),
            "chunk_size": PIECE_BYTES,
            "thin_provisioning": False,
        }

    def url(self, key: str) -> str:
        """`file:///<path>/ab/abcdef…`."""
        return self._folder.path(checked_key(key)).as_uri()

    async def find(self, url: str, *, proves: bool = False) -> Entry:
        """The object whose URL this is: a regular file at the very place that its key has in this
        folder, reached through no link. Raises KeyMissing for every other URL."""
        key = self._key_of(url)
        if not await run_to_end(self._folder.io, self._is_plain, key):
            raise KeyMissing(url)
        return await self.stat(key)

    def proves(self, key: str) -> bool:
        """True: nobody else writes here."""
        return True

    async def check(self) -> None:
        """Write, read and remove a probe. Raises StoreUnavailable."""
        try:
            await run_to_end(self._folder.io, self._probe)
        except OSError as error:
            raise StoreUnavailable(self.name, error.strerror or str(error)) from error

    async def close(self) -> None:
        """Wait for running work and end the threads."""
        await asyncio.to_thread(self._folder.close)

    def _key_of(self, url: str) -> str:
        parts = urlsplit(url)
        try:
            path = unquote(parts.path, errors="strict")
        except UnicodeDecodeError:
            raise KeyMissing(url) from None
        key = path.rpartition("/")[2]
        # Compared as text, so that no `..` and no second spelling leads anywhere.
        is_ours = (
            parts.scheme in self.features.schemes
            and parts.netloc in ("", "localhost")
            and not parts.query
            and not parts.fragment
            and is_key(key)
            and path == str(self._folder.path(key))
        )
        if not is_ours:
            raise KeyMissing(url)
        return key

    # --- in threads ---

    def _is_plain(self, key: str) -> bool:
        path = self._folder.path(key)
        root = self._folder.root.resolve()
        try:
            return (
                stat.S_ISREG(path.lstat().st_mode)
                and path.resolve() == root / path.parent.name / path.name
            )
        except OSError:
            return False

    def _open_object(self, key: str) -> tuple[io.FileIO, int]:
        path = self._folder.path(key)
        try:
            file = io.FileIO(path, "r")
        except IsADirectoryError as error:
            raise StoreFailed(
                self.name, f"{key} is not a file; an operator has to take it out of the folder"
            ) from error
        except OSError as error:
            raise self._folder.explained(error, key) from error
        return file, os.fstat(file.fileno()).st_size

    def _delete(self, key: str) -> None:
        try:
            # In this order: a commit that runs meanwhile either finds no partial object to publish,
            # or has published it before the second step.
            self._folder.remove_partial(key)
            remove(self._folder.path(key))
            self._folder.require_sign()
        except OSError as error:
            if error.errno in NO_PERMISSION:
                _log.error("store.not_permitted", store=self.name, path=error.filename)
                raise StoreRefused(
                    self.name, f"{error.strerror}; an operator has to mend who owns the folder"
                ) from error
            raise self._folder.explained(error, key) from error

    def _probe(self) -> None:
        # `~` is in no key, so a probe is never taken for an object.
        self._folder.require_partial()
        probe = self._folder.partial / f"{MARK}probe-{os.getpid()}-{id(self)}"
        try:
            probe.write_bytes(b"probe")
            if probe.read_bytes() != b"probe":
                raise OSError(errno.EIO, "what was written cannot be read back")
        finally:
            probe.unlink(missing_ok=True)

    def _scan(self) -> Iterator[Entry]:
        try:
            with os.scandir(self._folder.root) as folders:
                for folder in folders:
                    if not folder.name.startswith(".") and folder.is_dir(follow_symlinks=False):
                        yield from self._scan_folder(Path(folder.path), folder.name)
            self._folder.require_sign()
        except OSError as error:
            raise self._folder.explained(error) from error

    def _scan_folder(self, folder: Path, start: str) -> Iterator[Entry]:
        with os.scandir(folder) as files:
            for file in files:
                if is_key(file.name) and file.name[:2] == start and file.is_file():
                    # Deleted since: it is not there, so it is not listed.
                    with contextlib.suppress(FileNotFoundError):
                        facts = file.stat()
                        yield Entry(
                            key=file.name, size_bytes=facts.st_size, modified_at=facts.st_mtime
                        )

    def _scan_partial(self) -> Iterator[Entry]:
        try:
            with os.scandir(self._folder.partial) as files:
                for file in files:
                    if not is_key(file.name):
                        continue
                    if self._folder.path(file.name).exists():
                        # A crash in the last moment of a commit leaves both names. To list it as
                        # partial would invite the caller to delete the complete object.
                        self._folder.remove_partial(file.name)
                        continue
                    with contextlib.suppress(FileNotFoundError):
                        facts = file.stat()
                        yield Entry(
                            key=file.name,
                            size_bytes=facts.st_size,
                            modified_at=facts.st_mtime,
                            token=file.name,
                        )
        except FileNotFoundError:
            # A store on a read-only disk may have none.
            self._folder.require_sign()
        except OSError as error:
            raise self._folder.explained(error) from error

    async def _listed(self, entries: Iterator[Entry]) -> AsyncIterator[Entry]:
        while batch := await run_to_end(self._folder.io, lambda: [*islice(entries, _LIST_BATCH)]):
            for entry in batch:
                yield entry
