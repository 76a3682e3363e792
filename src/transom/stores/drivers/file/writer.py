"""Writing one object of a file store."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import functools
import os
import re
import sys
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Self

import structlog

from transom.errors import StoreFailed, StoreFull, StoreUnavailable
from transom.stores.drivers.file.folder import FILE_MODE, Folder, sync_folder
from transom.stores.store import KeyMissing, Stored, Writer
from transom.stores.threads import run_to_end, settled

_log = structlog.get_logger(__name__)

MIB = 1024 * 1024
_BATCH_BYTES = MIB
"""Chunks are put together to about this much for one call of the kernel."""
_BATCHED_BYTES_MAX = 32 * MIB
"""What all writers of a store together keep for that: a thousand slow clients must stay cheap."""
_SYNC_EVERY_BYTES = 32 * MIB
_UNSYNCED_BYTES_MAX = 256 * MIB
"""A writer that is so far ahead of the disk waits for it, so that the last sync is short."""
_MARK = re.compile(rb"([0-9]{20}) ([0-9a-z-]*)\n")
"""The durable length of a partial object in bytes, and the id of the boot it was noted in."""
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class FileWriter(Writer):
    """Writes one object into a FileStore. See the contract of Writer."""

    def __init__(self, folder: Folder, key: str, *, size_hint: int | None = None) -> None:
        self._folder = folder
        self._key = key
        self._size_hint = size_hint or 0
        self._partial = folder.partial_path(key)
        self._mark = folder.mark_path(key)
        self._is_over = False
        self._is_committed = False
        self._fd = -1
        self._mark_fd = -1
        self._batch: list[bytes] = []
        self._batch_bytes = 0
        self._written = 0
        """Bytes given to the kernel."""
        self._durable = 0
        """Bytes known to be on disk."""
        self._is_folder_synced = False
        self._failure: Exception | None = None
        self._syncing: asyncio.Future[None] | None = None

    @property
    def token(self) -> str:
        """What `reopen` takes, in any process that sees the folder."""
        return self._key

    @property
    def offset(self) -> int:
        """Bytes taken so far."""
        return self._written + self._batch_bytes

    async def reopen(self) -> None:
        """Go on with a partial object, at its durable offset. Raises KeyMissing, StoreUnavailable."""
        await run_to_end(self._folder.io, self._reopen)

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes."""
        self._require_open()
        if not isinstance(chunk, bytes):
            chunk = bytes(chunk)
        if chunk:
            self._batch.append(chunk)
            self._batch_bytes += len(chunk)
            self._folder.batched_bytes += len(chunk)
        if (
            self._batch_bytes >= _BATCH_BYTES
            or self._folder.batched_bytes > _BATCHED_BYTES_MAX
            or self._fd < 0
        ):
            await self._write_batch()
            await self._sync_early()

    async def flush(self) -> int:
        """Force what was written to disk; gives that offset. With `fsync = false` it survives the
        death of this process, not of the machine."""
        self._require_open()
        await self._write_batch()
        await self._settle_sync()
        if self._folder.is_synced:
            await self._in_thread(self._folder.syncs, self._sync)
        return self._written

    async def commit(self) -> Stored:
        """Force the object and its folder to disk, under its final name."""
        self._require_open()
        await self._write_batch()
        await self._settle_sync()
        await self._in_thread(self._folder.syncs, self._publish)
        self._is_over = True
        self._is_committed = True
        return Stored(
            key=self._key, url=self._folder.path(self._key).as_uri(), size_bytes=self._written
        )

    async def cancel(self) -> None:
        """Remove everything written so far; nothing after a commit or a detach. What cannot be
        removed is logged and stays listed as partial."""
        if self._is_over:
            return
        self._is_over = True
        self._drop_batch()
        if self._syncing is not None:
            await settled(self._syncing)
        await run_to_end(self._folder.io, self._remove)

    async def detach(self) -> None:
        """Write what is held, and leave the partial object for `reopen`; also when that fails, so
        that what was written before is not lost."""
        if self._is_over:
            return
        try:
            await self._write_batch()
            await self._settle_sync()
        finally:
            self._is_over = True
            self._drop_batch()
            if self._syncing is not None:
                await settled(self._syncing)
            await run_to_end(self._folder.io, self._close)

    def __del__(self) -> None:
        # Ends the lock of a Writer that nobody ended, so that its object can be reopened.
        self._drop_batch()
        self._close()

    async def __aenter__(self) -> Self:
        self._require_open()
        if self._fd < 0:
            await self._in_thread(self._folder.io, self._create)
        return self

    # --- between the two worlds ---

    def _require_open(self) -> None:
        if self._is_over:
            raise RuntimeError("this Writer has ended; ask the store for a new one")
        if self._failure is not None:
            raise self._failure

    async def _in_thread(self, threads: ThreadPoolExecutor, work: Callable[[], None]) -> None:
        try:
            await run_to_end(threads, work)
        except OSError as error:
            raise self._remembered(error) from error

    def _remembered(self, error: OSError) -> Exception:
        # The kernel tells of a failed write-back once; after it, every later success is a lie.
        explained = self._folder.explained(error, self._key)
        if isinstance(explained, KeyMissing):
            explained = StoreFailed(
                self._folder.name,
                f"the partial object {self._key} was removed while it was written; repeat it",
            )
        self._failure = explained
        return explained

    async def _write_batch(self) -> None:
        if self._fd < 0:
            await self._in_thread(self._folder.io, self._create)
        if self._batch:
            batch, size_bytes = self._batch, self._batch_bytes
            self._batch, self._batch_bytes = [], 0
            self._folder.batched_bytes -= size_bytes
            await self._in_thread(self._folder.io, lambda: self._write_all(batch))
        if self._failure is not None:
            raise self._failure

    def _drop_batch(self) -> None:
        self._folder.batched_bytes -= self._batch_bytes
        self._batch, self._batch_bytes = [], 0

    async def _sync_early(self) -> None:
        if not self._folder.is_synced or self._written - self._durable < _SYNC_EVERY_BYTES:
            return
        if self._syncing is not None and self._written - self._durable >= _UNSYNCED_BYTES_MAX:
            await self._settle_sync()
        if self._syncing is None or self._syncing.done():
            await self._settle_sync()
            loop = asyncio.get_running_loop()
            self._syncing = loop.run_in_executor(self._folder.syncs, self._sync)

    async def _settle_sync(self) -> None:
        if self._syncing is None:
            return
        syncing, self._syncing = self._syncing, None
        try:
            await asyncio.shield(syncing)
        except asyncio.CancelledError:
            await settled(syncing)
            raise
        except OSError as error:
            raise self._remembered(error) from error

    # --- in threads ---

    def _create(self) -> None:
        folder = self._folder
        folder.require_partial()
        if folder.path(self._key).exists():
            raise StoreFailed(folder.name, f"the key {self._key} is in use")
        if self._size_hint and self._size_hint > folder.free_bytes():
            raise StoreFull(folder.name)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._fd = os.open(self._partial, flags, FILE_MODE)
        except FileExistsError:
            raise StoreFailed(
                folder.name, f"the key {self._key} is in use by another write"
            ) from None
        try:
            _lock(self._fd)
            self._write_mark()
        except OSError:
            self._remove()
            raise

    def _reopen(self) -> None:
        folder = self._folder
        try:
            self._fd = os.open(self._partial, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                self._claim()
                self._take_up()
            except BaseException:
                self._close()
                raise
        except OSError as error:
            raise folder.explained(error, self._key) from error

    def _claim(self) -> None:
        try:
            _lock(self._fd)
        except BlockingIOError:
            raise StoreUnavailable(
                self._folder.name, "this data is being written by another process"
            ) from None
        # Between open and lock the other one may have committed or removed it.
        if self._folder.path(self._key).exists():
            self._folder.remove_partial(self._key)
            raise KeyMissing(self._key)
        if not self._is_ours():
            raise KeyMissing(self._key)

    def _is_ours(self) -> bool:
        """Whether the partial object of this name is the one that is open here: another may have
        been made since ours was deleted."""
        try:
            return os.path.samestat(self._partial.stat(), os.fstat(self._fd))
        except FileNotFoundError:
            return False

    def _take_up(self) -> None:
        size_bytes = os.fstat(self._fd).st_size
        boot, durable = _read_mark(self._mark)
        if boot != boot_id() or not boot:
            size_bytes = min(size_bytes, durable)
        os.ftruncate(self._fd, size_bytes)
        self._written = size_bytes
        self._durable = min(size_bytes, durable)
        self._write_mark()

    def _write_all(self, chunks: list[bytes]) -> None:
        views = deque(memoryview(chunk) for chunk in chunks)
        while views:
            count = os.pwritev(self._fd, [*islice(views, 512)], self._written)
            self._written += count
            while views and count >= len(views[0]):
                count -= len(views.popleft())
            if count:
                views[0] = views[0][count:]

    def _sync(self) -> None:
        size_bytes = self._written
        os.fdatasync(self._fd)
        if not self._is_folder_synced:
            sync_folder(self._folder.partial)
            self._is_folder_synced = True
        self._durable = size_bytes
        self._write_mark()
        os.fdatasync(self._mark_fd)

    def _write_mark(self) -> None:
        if self._mark_fd < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._mark_fd = os.open(self._mark, flags, FILE_MODE)
        # One short write: a disk takes a sector whole or not at all.
        os.pwrite(self._mark_fd, f"{self._durable:020d} {boot_id()}\n".encode(), 0)

    def _publish(self) -> None:
        folder = self._folder
        final = folder.path(self._key)
        if folder.is_synced:
            os.fsync(self._fd)
        shard = folder.make_shard(self._key)
        if not self._is_ours():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._partial))
        try:
            try:
                _rename_to_new(self._partial, final)
            except FileNotFoundError:
                # Somebody tidied up the folder of the object while it was empty.
                shard = folder.make_shard(self._key, is_lost=True)
                _rename_to_new(self._partial, final)
        except FileExistsError:
            raise StoreFailed(folder.name, f"the key {self._key} is in use") from None
        try:
            folder.sync(shard)
        except BaseException:
            final.unlink(missing_ok=True)
            raise
        self._is_committed = True
        self._close()
        # Left over, these two would only be found and removed by the next listing.
        with contextlib.suppress(OSError):
            folder.remove_partial(self._key)

    def _remove(self) -> None:
        try:
            # The caller was cancelled while the commit ran, so nobody knows of the object.
            if self._is_committed:
                self._folder.path(self._key).unlink(missing_ok=True)
            if self._fd >= 0 and self._is_ours():
                self._folder.remove_partial(self._key)
        except OSError as error:
            _log.warning(
                "store.partial_left", store=self._folder.name, key=self._key, reason=error.strerror
            )
        finally:
            self._close()

    def _close(self) -> None:
        for fd in (self._fd, self._mark_fd):
            if fd >= 0:
                with contextlib.suppress(OSError):
                    os.close(fd)
        self._fd = self._mark_fd = -1


def _lock(fd: int) -> None:
    """Claim the file for this process. Raises BlockingIOError while another one has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # A file system without locks can still hold images; leases of the catalog keep order there.
        if error.errno not in (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK):
            raise


def _rename_to_new(source: Path, target: Path) -> None:
    """Give the file a new name; FileExistsError if the name is taken. `source` may stay as a second
    name of it."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS or isinstance(error, FileExistsError):
            raise
        # A file system without hard links; keys are never used twice, so looking first will do.
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        source.rename(target)


def _read_mark(path: Path) -> tuple[str, int]:
    """The boot in which the mark was written, and the bytes that were on disk then."""
    try:
        found = _MARK.fullmatch(path.read_bytes())
    except FileNotFoundError:
        found = None
    return (found[2].decode(), int(found[1])) if found else ("", 0)


@functools.cache
def boot_id() -> str:
    """An id that changes when the machine restarts; empty where the system has none."""
    if sys.platform != "linux":
        return ""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
