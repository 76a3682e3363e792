"""A folder of cached images, bounded in size, filled once however many wait (API §19, lifecycle §15).

`<folder>/<image id>` is a complete, verified copy; `<folder>/.filling/<image id>` is one on its way. A
copy becomes complete by a rename after its digest was found right, so nothing else is ever served
from here. The age of a copy's last use is its file's access time, set by hand: it survives restarts
and is shared by processes that share the folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from transom.errors import StoreFailed
from transom.metrics.table import CACHE_BYTES, CACHE_BYTES_MAX, CACHE_FILLED

_log = structlog.get_logger(__name__)
T = TypeVar("T")

PIECE_BYTES = 1024 * 1024
NAME = "cache"
"""What errors call it."""
_FILLING = ".filling"
_THREADS = 4


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A complete copy. Times are seconds since the epoch."""

    image_id: str
    size_bytes: int
    last_accessed: float
    last_modified: float


class Filling:
    """One copy on its way into the cache, and all who read it meanwhile.

    Nobody gets the last piece before the digest of all is right: a reader of a copy that turns out
    wrong sees a connection that breaks, never a whole wrong image.
    """

    def __init__(self, image_id: str, size_bytes: int) -> None:
        self.image_id = image_id
        self.size_bytes = size_bytes
        self.written_bytes = 0
        self.is_complete = False
        self.failure: BaseException | None = None
        self._moved = asyncio.Event()

    @property
    def readable_bytes(self) -> int:
        """How much may be read now."""
        if self.is_complete:
            return self.size_bytes
        return max(0, min(self.written_bytes, self.size_bytes - 1))

    def moved(self) -> None:
        """Wake all who wait for more."""
        waiting, self._moved = self._moved, asyncio.Event()
        waiting.set()

    async def more_than(self, offset: int) -> None:
        """Wait until something beyond `offset` may be read. Raises what the filling failed of."""
        while self.readable_bytes <= offset:
            if self.failure is not None:
                raise StoreFailed(NAME, f"the copy could not be completed ({self.failure})")
            if self.is_complete:
                return
            await self._moved.wait()


class CacheFolder:
    """Copies of images on the local disk, at most so many bytes in all."""

    def __init__(self, folder: Path, size_bytes_max: int) -> None:
        """`size_bytes_max` 0 = unlimited."""
        self._folder = folder
        self._size_bytes_max = size_bytes_max
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="cache")
        self._fillings: dict[str, tuple[Filling, asyncio.Task[None]]] = {}
        self._room = asyncio.Lock()
        CACHE_BYTES_MAX.at().set(size_bytes_max)

    async def open(self) -> None:
        """Make the folder; forget what nobody is filling any more. Raises StoreFailed."""
        try:
            await self._do(self._prepare)
        except OSError as error:
            raise StoreFailed(NAME, f"its folder cannot be used ({error.strerror})") from error

    async def close(self) -> None:
        """Stop filling."""
        tasks = [task for _, task in self._fillings.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown(wait=False)

    # --- reading ------------------------------------------------------------------------------

    async def find(self, image_id: str, size_bytes: int) -> Path | None:
        """The complete copy of an image, used just now; None when there is none."""
        return await self._do(lambda: self._use(image_id, size_bytes))

    def filling(self, image_id: str) -> Filling | None:
        """The copy on its way into this cache by this process, if any."""
        found = self._fillings.get(image_id)
        return None if found is None else found[0]

    async def read(self, source: Path | Filling, offset: int, length: int) -> AsyncIterator[bytes]:
        """The bytes of a copy, complete or on its way, piece by piece. Raises StoreFailed."""
        filling = source if isinstance(source, Filling) else None
        path = self._partial(source.image_id) if isinstance(source, Filling) else source
        try:
            descriptor = await self._do(lambda: os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError:
            if filling is None or filling.failure is not None:
                raise StoreFailed(NAME, "the copy is gone; repeat the download") from None
            complete = self._folder / filling.image_id
            descriptor = await self._do(lambda: os.open(complete, os.O_RDONLY | os.O_CLOEXEC))
        try:
            position, end = offset, offset + length
            while position < end:
                ready = end
                if filling is not None:
                    await filling.more_than(position)
                    ready = min(end, filling.readable_bytes)
                wanted = min(PIECE_BYTES, ready - position)
                at = position
                piece = await self._do(lambda: os.pread(descriptor, wanted, at))  # noqa: B023
                if not piece:
                    raise StoreFailed(NAME, "the copy is shorter than its image")
                position += len(piece)
                yield piece
        finally:
            os.close(descriptor)

    # --- filling ------------------------------------------------------------------------------

    async def fill(
        self,
        image_id: str,
        size_bytes: int,
        digest: tuple[str, str],
        source: Callable[[], Awaitable[AsyncIterator[bytes]]],
        completed: Callable[[], Awaitable[None]],
    ) -> Filling | None:
        """Begin to fill the cache with an image, or join who does. None when it does not fit, or
        another process is at it: the image is then read from its store.

        `digest` is an algorithm of hashlib and the value that all bytes must have (hex). `completed`
        is awaited when the copy is there.
        """
        present = self.filling(image_id)
        if present is not None:
            return present
        if self._size_bytes_max and size_bytes > self._size_bytes_max:
            return None
        filling = Filling(image_id, size_bytes)
        descriptor = -1
        async with self._room:
            present = self.filling(image_id)
            if present is not None:
                return present
            try:
                under_way = sum(each.size_bytes for each, _ in self._fillings.values())
                await self._do(lambda: self._make_room(size_bytes + under_way))
                descriptor = await self._do(lambda: self._begin(image_id, size_bytes))
            except OSError as error:
                _log.warning("cache.not_filled", image_id=image_id, reason=str(error))
                return None
            if descriptor < 0:
                return None
            task = asyncio.create_task(self._fill(filling, descriptor, digest, source, completed))
            self._fillings[image_id] = filling, task
        return filling

    async def filled(self, image_id: str) -> None:
        """Wait until nobody of this process fills the cache with the image any more."""
        found = self._fillings.get(image_id)
        if found is not None:
            await asyncio.wait([found[1]])

    async def _fill(
        self,
        filling: Filling,
        descriptor: int,
        digest: tuple[str, str],
        source: Callable[[], Awaitable[AsyncIterator[bytes]]],
        completed: Callable[[], Awaitable[None]],
    ) -> None:
        image_id = filling.image_id
        algorithm, expected = digest
        hashed = hashlib.new(algorithm, usedforsecurity=False)

        def take(piece: bytes, at: int) -> None:
            hashed.update(piece)
            view = memoryview(piece)
            while view:
                written = os.pwrite(descriptor, view, at)
                at += written
                view = view[written:]

        try:
            pieces = await source()
            async for piece in pieces:
                at = filling.written_bytes
                _hold_to(filling, at + len(piece), is_over=False)
                await self._do(lambda: take(piece, at))  # noqa: B023
                filling.written_bytes = at + len(piece)
                filling.moved()
            _hold_to(filling, filling.written_bytes, is_over=True)
            _hold_to_digest(hashed.hexdigest(), expected)
            await self._do(lambda: self._complete(image_id))
            filling.is_complete = True
            filling.moved()
            CACHE_FILLED.at("success").add()
            CACHE_BYTES.at().add(filling.size_bytes)
            _log.info("cache.filled", image_id=image_id, size_bytes=filling.size_bytes)
            await completed()
        except BaseException as failure:
            filling.failure = failure
            CACHE_FILLED.at("failure").add()
            _log.warning("cache.filling_failed", image_id=image_id, reason=repr(failure))
            with contextlib.suppress(OSError):
                self._partial(image_id).unlink()
            if not isinstance(failure, Exception):
                raise
        finally:
            del self._fillings[image_id]
            os.close(descriptor)
            filling.moved()

    # --- keeping it small ---------------------------------------------------------------------

    async def entries(self) -> list[Entry]:
        """All complete copies, those used longest ago first."""
        return await self._do(self._entries)

    async def remove(self, image_id: str) -> None:
        """Drop the copy of an image; none is no error. One on its way is given up."""
        found = self._fillings.get(image_id)
        if found is not None:
            found[1].cancel()
            await asyncio.wait([found[1]])
        await self._do(lambda: self._drop(image_id))

    async def clean(self) -> int:
        """Drop what is left of fillings that nobody is at; gives their number."""
        return await self._do(self._clean)

    async def prune(self) -> tuple[int, int]:
        """Drop copies, those used longest ago first, until the rest fits; gives how many, and how
        many bytes."""
        async with self._room:
            return await self._do(lambda: self._make_room(0))

    # --- in threads ---------------------------------------------------------------------------

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _partial(self, image_id: str) -> Path:
        return self._folder / _FILLING / image_id

    def _prepare(self) -> None:
        (self._folder / _FILLING).mkdir(parents=True, exist_ok=True, mode=0o700)
        self._clean()

    def _use(self, image_id: str, size_bytes: int) -> Path | None:
        path = self._folder / image_id
        try:
            status = path.stat()
            if status.st_size != size_bytes:
                path.unlink()
                return None
            os.utime(path, ns=(time.time_ns(), status.st_mtime_ns))
        except FileNotFoundError:
            return None
        return path

    def _begin(self, image_id: str, size_bytes: int) -> int:
        """A descriptor to fill through, -1 when another process is at it."""
        descriptor = os.open(self._partial(image_id), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            if size_bytes:
                os.posix_fallocate(descriptor, 0, size_bytes)
        except BlockingIOError:
            os.close(descriptor)
            return -1
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                self._partial(image_id).unlink(missing_ok=True)
                os.close(descriptor)
                raise
        return descriptor

    def _complete(self, image_id: str) -> None:
        self._partial(image_id).replace(self._folder / image_id)

    def _drop(self, image_id: str) -> None:
        (self._folder / image_id).unlink(missing_ok=True)

    def _entries(self) -> list[Entry]:
        found = []
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.is_file():
                    status = path.stat()
                    found.append(
                        Entry(
                            image_id=path.name,
                            size_bytes=status.st_size,
                            last_accessed=status.st_atime,
                            last_modified=status.st_mtime,
                        )
                    )
        return sorted(found, key=lambda entry: entry.last_accessed)

    def _make_room(self, wanted_bytes: int) -> tuple[int, int]:
        if not self._size_bytes_max:
            return 0, 0
        entries = self._entries()
        used = sum(entry.size_bytes for entry in entries)
        files = size_bytes = 0
        for entry in entries:
            if used + wanted_bytes <= self._size_bytes_max:
                break
            self._drop(entry.image_id)
            used -= entry.size_bytes
            files += 1
            size_bytes += entry.size_bytes
        if used + wanted_bytes > self._size_bytes_max:
            raise OSError(errno.ENOSPC, "the cache is full of images that are on their way")
        return files, size_bytes

    def _clean(self) -> int:
        removed = 0
        for path in (self._folder / _FILLING).iterdir():
            if path.name in self._fillings:
                continue
            with contextlib.suppress(FileNotFoundError, BlockingIOError):
                descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                try:
                    # Somebody else's, as long as it is locked.
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                    removed += 1
                finally:
                    os.close(descriptor)
        return removed


def _hold_to(filling: Filling, size_bytes: int, *, is_over: bool) -> None:
    if size_bytes > filling.size_bytes or (is_over and size_bytes < filling.size_bytes):
        raise StoreFailed(
            NAME, f"the store does not give the {filling.size_bytes} bytes of the image"
        )


def _hold_to_digest(found: str, expected: str) -> None:
    if found != expected:
        raise StoreFailed(NAME, "the store gives other data than the image has")
