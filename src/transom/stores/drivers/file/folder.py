"""The folder of a file store: its layout, its threads, its bounds, and what its errors mean."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog

from transom.errors import (
    ConfigurationError,
    StoreFailed,
    StoreFull,
    StoreUnavailable,
    TransomError,
)
from transom.stores.store import KeyMissing

_log = structlog.get_logger(__name__)

MARK = "~"
"""Ends the names of marks, and begins those of probes. It is in no key."""
FILE_MODE = 0o640
FOLDER_MODE = 0o750
_PARTIAL = ".partial"
"""Begins with a dot, so it is never the folder of a key."""

_IO_THREADS = 16
_SYNC_THREADS = 4
"""Syncs have threads of their own: many slow ones must not hold up reads and writes."""

NO_PERMISSION = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_AWAY = frozenset(
    {
        errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH,
        errno.ENODEV, errno.ENXIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EBUSY,
    }
)  # fmt: skip


class Folder:
    """What a FileStore and its writers and readers share. Counters belong to the event loop."""

    def __init__(self, name: str, root: Path, *, is_synced: bool) -> None:
        """Makes the folder if it is not there. Raises ConfigurationError when that fails."""
        self.name = name
        self.root = root
        self.partial = root / _PARTIAL
        self.is_synced = is_synced
        self.batched_bytes = 0
        """What all writers hold to put small chunks together."""
        self.ahead_bytes = 0
        """What all readers have read ahead, or are reading."""
        self._durable: set[Path] = set()
        self._sign = self._open()
        self.io = ThreadPoolExecutor(_IO_THREADS, thread_name_prefix=f"store-{name}")
        self.syncs = ThreadPoolExecutor(_SYNC_THREADS, thread_name_prefix=f"store-{name}-sync")

    def _open(self) -> Path:
        """The path by which the store is known to be there: an unmounted disk leaves an empty
        folder, which must not pass for a store without objects."""
        missing = [each for each in (self.root, *self.root.parents) if not each.exists()]
        try:
            self.root.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            for each in missing:
                self._sync_name(each)
        except OSError as refused:
            raise ConfigurationError(
                f"stores.{self.name}.path = {str(self.root)!r}: the folder cannot be made "
                f"({refused.strerror}); make it, or choose another path."
            ) from refused
        try:
            if not self.partial.exists():
                self.partial.mkdir(mode=FOLDER_MODE, exist_ok=True)
                self._sync_name(self.partial)
        except OSError as refused:
            if not os.access(self.root, os.R_OK | os.X_OK):
                raise ConfigurationError(
                    f"stores.{self.name}.path = {str(self.root)!r}: the folder can be neither read "
                    "nor written; give it to the user that Transom runs as."
                ) from refused
            _log.warning("store.read_only", store=self.name, reason=refused.strerror)
            return self.root
        return self.partial

    def path(self, key: str) -> Path:
        """Where the complete object is, or would be."""
        return self.root / key[:2] / key

    def partial_path(self, key: str) -> Path:
        """Where the object is while it is written."""
        return self.partial / key

    def mark_path(self, key: str) -> Path:
        """Where the durable length of the partial object is noted."""
        return self.partial / (key + MARK)

    def make_shard(self, key: str, *, is_lost: bool = False) -> Path:
        """The folder of the complete object, made if it is not there, and durable itself. `is_lost`
        = it was seen to be missing."""
        shard = self.path(key).parent
        if is_lost or shard not in self._durable:
            shard.mkdir(mode=FOLDER_MODE, exist_ok=True)
            # Not only for a new one: who made it may not have come to this point.
            self._sync_name(shard)
            self._durable.add(shard)
        return shard

    def sync(self, folder: Path) -> None:
        """Force the names in a folder to disk."""
        if self.is_synced:
            sync_folder(folder)

    def _sync_name(self, path: Path) -> None:
        self.sync(path.parent)

    def remove_partial(self, key: str) -> None:
        """Remove a partial object and its mark; either may be gone."""
        remove(self.partial_path(key))
        remove(self.mark_path(key))

    def require_sign(self) -> None:
        """Raise StoreUnavailable when the store's folder is gone."""
        if not self._sign.exists():
            _log.error("store.folder_gone", store=self.name, path=str(self.root))
            raise StoreUnavailable(
                self.name, "its folder is gone; an operator has to bring it back"
            )

    def require_partial(self) -> None:
        """Make the folder of partial objects, if it could not be made when the store was opened."""
        if self._sign != self.partial:
            self.partial.mkdir(mode=FOLDER_MODE, exist_ok=True)
            self._sign = self.partial

    def free_bytes(self) -> int:
        """Room left on the file system, for this user."""
        facts = os.statvfs(self.partial)
        return facts.f_bavail * facts.f_frsize

    def explained(self, error: OSError, key: str = "") -> Exception:
        """The domain's error for one of the system's; KeyMissing when nothing is wrong but that
        the object is not there."""
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            try:
                self.require_sign()
            except TransomError as gone:
                return gone
            return KeyMissing(key)
        reason = f"{error.strerror} (errno {error.errno})"
        if error.errno in _NO_ROOM:
            return StoreFull(self.name)
        if error.errno in NO_PERMISSION:
            # Where the data lies is for the operator's eyes.
            _log.error("store.not_permitted", store=self.name, path=str(self.root), reason=reason)
            return StoreUnavailable(self.name, f"{reason}; an operator has to mend its permissions")
        if error.errno in _AWAY:
            return StoreUnavailable(self.name, reason)
        if error.errno == errno.EFBIG:
            return StoreFailed(self.name, f"{reason}; its file system takes no file this large")
        return StoreFailed(self.name, f"{reason}; look for disk errors in the system's log")

    def close(self) -> None:
        """Wait for running work and end the threads."""
        self.io.shutdown()
        self.syncs.shutdown()


def remove(path: Path) -> None:
    """Remove a file that may not be there: which is no error, even where nothing can be removed."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        # A file system that is read-only says so before it looks whether the file exists.
        if os.path.lexists(path):
            raise


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to disk. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
