"""The audit log: who did what, on what, with which outcome; one line of JSON for each.

Lines are handed to a thread that writes them, so that a slow disk holds up nobody (decision 95).
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import msgspec
import structlog

from transom.errors import ConfigurationError

_log = structlog.get_logger(__name__)

LINES_MAX = 100_000
"""Lines that wait at most while the file cannot be written. Later ones are counted and lost."""
BATCH = 1000
RETRY_SECONDS = 1.0
CLOSE_SECONDS = 5.0
"""How long lines that wait are still tried when the service stops."""


class AuditLog:
    """A file that lines are appended to, by any number of processes at once.

    It is opened anew when another file, or none, has its name, as logrotate leaves it, and when
    `reopen` is called.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: deque[bytes] = deque()
        self._wake = threading.Condition()
        self._file = -1
        self._lost = 0
        self._is_stale = False
        self._closing_at: float | None = None
        self._is_failing = False
        self._thread: threading.Thread | None = None

    @classmethod
    def open(cls, path: Path) -> AuditLog:
        """The log at a path, ready. Raises ConfigurationError when it cannot be written."""
        log = cls(path)
        log.require()
        return log

    def require(self) -> None:
        """Make the file and its folder. Raises ConfigurationError when that does not work."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            self._reopen()
        except OSError as error:
            raise ConfigurationError(
                f"audit.path = {str(self._path)!r}: cannot be written ({error.strerror}); name a "
                "file in a folder that the service may write to."
            ) from error

    def write(self, event: dict[str, Any]) -> None:
        """Have one event written, soon. Never waits, never fails."""
        line = msgspec.json.encode(event) + b"\n"
        with self._wake:
            if len(self._lines) >= LINES_MAX:
                self._lost += 1
                return
            self._lines.append(line)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="audit", daemon=True)
                self._thread.start()
            self._wake.notify()

    def reopen(self) -> None:
        """Write what comes from now on to the file that has the name then."""
        with self._wake:
            self._is_stale = True
            self._wake.notify()

    def close(self) -> None:
        """Write what waits, and close the file."""
        with self._wake:
            self._closing_at = time.monotonic()
            self._wake.notify()
            thread = self._thread
        if thread is not None:
            thread.join(CLOSE_SECONDS + 1.0)
        if self._file >= 0 and (thread is None or not thread.is_alive()):
            os.close(self._file)
            self._file = -1

    # --- the thread -----------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._wake:
                while not self._lines and self._closing_at is None:
                    self._wake.wait()
                batch = [self._lines.popleft() for _ in range(min(BATCH, len(self._lines)))]
            if not batch:
                return
            self._append(b"".join(batch))

    def _append(self, data: bytes) -> None:
        while data:
            try:
                self._follow()
                data = data[os.write(self._file, data) :]
            except OSError as error:
                if not self._is_failing:
                    _log.error("audit.not_written", path=str(self._path), reason=str(error))
                self._is_failing = True
                closing = self._closing_at
                if closing is not None and time.monotonic() - closing > CLOSE_SECONDS:
                    return
                time.sleep(RETRY_SECONDS)
            else:
                if self._is_failing:
                    self._is_failing = False
                    _log.warning("audit.written_again", path=str(self._path), lost=self._lost)
                    self._lost = 0

    def _follow(self) -> None:
        """Have the file open that has the name now."""
        if not self._is_stale:
            try:
                named, held = self._path.stat(), os.fstat(self._file)
            except OSError:
                self._is_stale = True
            else:
                self._is_stale = (named.st_dev, named.st_ino) != (held.st_dev, held.st_ino)
        if self._is_stale:
            self._reopen()

    def _reopen(self) -> None:
        # O_APPEND: each write goes to the end, whoever else writes.
        fresh = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        stale, self._file = self._file, fresh
        self._is_stale = False
        if stale >= 0:
            os.close(stale)
