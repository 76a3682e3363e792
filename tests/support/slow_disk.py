"""A real file system that is as slow as a test wants: FUSE over an ordinary folder.

Run as a program, it serves the mount point until it is unmounted. Stopped by a signal, it is a disk
that hangs: whoever asks it for something waits, and nothing ever fails.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

START_SECONDS = 10.0


class SlowDisk:
    """The folder `path`, on a disk whose writes each take `delay_seconds`. Raises OSError where no
    file system can be mounted."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "slow"
        self._below = folder / "below"
        self._delay = folder / "delay"
        self.path.mkdir()
        self._below.mkdir()
        self.delay_seconds = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def delay_seconds(self) -> float:
        """How long a write of up to 128 KiB takes, and a read."""
        return float(self._delay.read_text())

    @delay_seconds.setter
    def delay_seconds(self, seconds: float) -> None:
        fresh = self._delay.with_suffix(".new")
        fresh.write_text(str(seconds))
        fresh.replace(self._delay)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(self.path), str(self._below), str(self._delay)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        until = time.monotonic() + START_SECONDS
        while not self.path.is_mount():
            if self._process.poll() is not None or time.monotonic() > until:
                self._process.kill()
                told = self._process.communicate()[1].decode(errors="replace")
                raise OSError(errno.ENODEV, f"no file system could be mounted: {told[-500:]}")
            time.sleep(0.02)
        return self

    def hang(self) -> None:
        """Answer nothing any more, until `go_on`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End the hanging."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        assert self._process is not None
        self.go_on()
        self.delay_seconds = 0.0
        subprocess.run(["umount", "--lazy", str(self.path)], check=False, capture_output=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._process.kill()
        self._process.communicate()


def _serve(mount_point: str, below: str, delay: str) -> None:
    import mfusepy  # type: ignore[import-untyped]

    class Through(mfusepy.Operations):  # type: ignore[misc]
        """Everything is done to the folder below, some of it late."""

        use_ns = True

        def __init__(self) -> None:
            self._lock = threading.Lock()

        def _wait(self) -> None:
            # A disk does one thing after the other.
            with self._lock:
                time.sleep(float(Path(delay).read_text()))

        def _at(self, path: str) -> str:
            return below + path

        def access(self, path: str, amode: int) -> int:
            if not os.access(self._at(path), amode):
                raise mfusepy.FuseOSError(errno.EACCES)
            return 0

        def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
            found = os.lstat(self._at(path)) if fh is None else os.fstat(fh)
            names = ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_blocks")
            times = {
                f"st_{kind}time": getattr(found, f"st_{kind}time_ns") for kind in ("a", "c", "m")
            }
            return {name: getattr(found, name) for name in names} | times

        def readdir(self, path: str, fh: int) -> Iterator[str]:
            yield from (".", "..", *(each.name for each in Path(self._at(path)).iterdir()))

        def statfs(self, path: str) -> dict[str, int]:
            found = os.statvfs(self._at(path))
            names = ("bavail", "bfree", "blocks", "bsize", "favail", "ffree", "files", "frsize")
            return {f"f_{name}": getattr(found, f"f_{name}") for name in names}

        def mkdir(self, path: str, mode: int) -> int:
            Path(self._at(path)).mkdir(mode)
            return 0

        def rmdir(self, path: str) -> int:
            Path(self._at(path)).rmdir()
            return 0

        def unlink(self, path: str) -> int:
            Path(self._at(path)).unlink()
            return 0

        def rename(self, old: str, new: str) -> int:
            Path(self._at(old)).rename(self._at(new))
            return 0

        def link(self, target: str, source: str) -> int:
            os.link(self._at(source), self._at(target))
            return 0

        def chmod(self, path: str, mode: int) -> int:
            Path(self._at(path)).chmod(mode)
            return 0

        def chown(self, path: str, uid: int, gid: int) -> int:
            os.chown(self._at(path), uid, gid)
            return 0

        def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
            os.utime(self._at(path), ns=times or (time.time_ns(),) * 2)
            return 0

        def create(self, path: str, mode: int, fi: Any = None) -> int:
            return os.open(self._at(path), os.O_RDWR | os.O_CREAT, mode)

        def open(self, path: str, flags: int) -> int:
            # The kernel may read what it writes to in part.
            return os.open(self._at(path), (flags & ~os.O_ACCMODE & ~os.O_APPEND) | os.O_RDWR)

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            self._wait()
            return os.pread(fh, size, offset)

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            self._wait()
            return os.pwrite(fh, data, offset)

        def truncate(self, path: str, length: int, fh: int | None = None) -> int:
            os.truncate(self._at(path) if fh is None else fh, length)
            return 0

        def fsync(self, path: str, datasync: int, fh: int) -> int:
            self._wait()
            return 0

        def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
            self._wait()
            return 0

        def release(self, path: str, fh: int) -> int:
            os.close(fh)
            return 0

    mfusepy.FUSE(Through(), mount_point, foreground=True, nothreads=False, big_writes=True)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
