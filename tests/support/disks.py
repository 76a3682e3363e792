"""File systems of a test's own: in memory, to be filled, made read-only and taken away."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def run(*command: object) -> None:
    """Run a command of the system. Raises CalledProcessError, FileNotFoundError."""
    subprocess.run([*map(str, command)], check=True, capture_output=True)


def unmount(path: Path) -> None:
    """Take a file system away from where it is, if there is one."""
    subprocess.run(["umount", "--lazy", str(path)], check=False, capture_output=True)


class Disk:
    """A file system in memory, mounted at `path`."""

    def __init__(self, path: Path, size: str) -> None:
        """`size` as mount(8) takes it for tmpfs, with further options behind a comma."""
        self.path = path
        path.mkdir(exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0750", "tmpfs", path)

    def make_read_only(self) -> None:
        """As a disk does that has failed."""
        run("mount", "-o", "remount,ro", self.path)

    def make_writable(self) -> None:
        """Undo `make_read_only`."""
        run("mount", "-o", "remount,rw", self.path)

    def fill(self) -> Path:
        """Leave no room; gives the file that takes it."""
        ballast = self.path / "ballast"
        with ballast.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                return ballast
        raise AssertionError("unreachable")

    def take_away(self) -> None:
        """As a disk that is pulled out."""
        run("umount", "--lazy", self.path)


class Disks:
    """Makes disks below a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: list[Disk] = []

    def __call__(self, size: str) -> Disk:
        """One more. Skips the test where it may not mount."""
        with mounting():
            self._made.append(Disk(self._folder / f"disk{len(self._made)}", size))
        return self._made[-1]

    def unmount(self) -> None:
        """Take all away."""
        for each in self._made:
            unmount(each.path)


@contextmanager
def mounting() -> Iterator[None]:
    """Inside, not being allowed to mount skips the test."""
    try:
        yield
    except (subprocess.CalledProcessError, FileNotFoundError):
        pytest.skip("needs the right to mount a file system; run the tests as root")
