"""A file that is read again when it changes."""

from __future__ import annotations

import time
from pathlib import Path

from transom.errors import ConfigurationError

_LOOK_EVERY_SECONDS = 1.0
_SETTLED_AFTER_SECONDS = 0.1

_Identity = tuple[int, int, int]


class WatchedFile:
    """Reads a text file and tells when it has become another one.

    The file is looked at once a second at most, by whoever asks: no thread, no timer. Time of
    change, size and inode together tell files apart, so that neither a quick second edit nor a
    rename over the file goes unnoticed.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self._key = key
        self._seen: _Identity | None = None
        self._look_at = 0.0

    def read(self) -> str:
        """The text of the file. Raises ConfigurationError, which names the setting and the file."""
        self._seen = self._identity()
        self._look_at = time.monotonic() + _LOOK_EVERY_SECONDS
        try:
            return self.path.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(
                f"{self._key}: cannot read {self.path}: {error.strerror}; "
                "name a readable file, or leave the setting empty"
            ) from error
        except UnicodeDecodeError as error:
            raise ConfigurationError(
                f"{self._key}: {self.path} is not UTF-8 text: {error}"
            ) from error

    def changed(self) -> bool:
        """True when the file differs from what was read last; never true twice for one change."""
        now = time.monotonic()
        if now < self._look_at:
            return False
        self._look_at = now + _LOOK_EVERY_SECONDS
        identity = self._identity()
        if identity == self._seen:
            return False
        if identity and 0 <= time.time_ns() - identity[0] < _SETTLED_AFTER_SECONDS * 1e9:
            # An editor may have emptied the file and be about to fill it.
            self._look_at = now + _SETTLED_AFTER_SECONDS
            return False
        self._seen = identity
        return True

    def look_now(self) -> None:
        """Make the next `changed` look at the file, however short ago it did."""
        self._look_at = 0.0

    def _identity(self) -> _Identity | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino
