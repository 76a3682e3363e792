"""QEMU's own tools, as judges of disk images: qemu-img looks at them, the emulator boots them."""

from __future__ import annotations

import json
import re
import selectors
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

QEMU_IMG_TIMEOUT_SECONDS = 60.0
BOOT_TIMEOUT_SECONDS = 60.0
CHECKABLE = frozenset({"qcow2", "vdi", "vhdx", "vmdk"})
"""Formats that `qemu-img check` knows how to check; for the others it refuses to judge."""

_TERMINAL_CONTROL = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b.")


def tool(name: str, package: str) -> str:
    """Path of a program; fails, naming the Debian package, when it is not installed."""
    path = shutil.which(name)
    if path is None:
        raise AssertionError(
            f"{name} is not installed; `make test` installs it, or: apt-get install {package}"
        )
    return path


def qemu_img(*arguments: str) -> str:
    """Run qemu-img; give what it prints. Fails with its own words when it is not content."""
    done = subprocess.run(
        [tool("qemu-img", "qemu-utils"), *arguments],
        capture_output=True,
        text=True,
        timeout=QEMU_IMG_TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, (
        f"qemu-img {' '.join(arguments)} -> {done.returncode}\n{done.stdout}{done.stderr}"
    )
    return done.stdout


def info(path: Path, qemu_format: str) -> dict[str, Any]:
    """What qemu-img reads from the file's header, taken as the given format."""
    facts: dict[str, Any] = json.loads(
        qemu_img("info", "--output=json", "-f", qemu_format, str(path))
    )
    return facts


def check(path: Path, qemu_format: str) -> None:
    """Fails unless qemu-img finds the file's structure free of errors. Only for CHECKABLE."""
    report = json.loads(qemu_img("check", "--output=json", "-f", qemu_format, str(path)))
    assert report["check-errors"] == 0, report


def compare(path: Path, qemu_format: str, source: Path) -> None:
    """Fails unless a guest would read the same disk from both; `source` is raw."""
    qemu_img("compare", "-f", qemu_format, "-F", "raw", str(path), str(source))


def boot_until(banner: str, arguments: Sequence[str]) -> str:
    """Boot a machine with these drives until its first screen shows the banner.

    The machine is emulated in software, has no network, and its firmware sends what it draws in
    text mode to the serial line. Gives that text, without terminal control, and ends the machine.
    Fails with the text when the banner does not come within BOOT_TIMEOUT_SECONDS.
    """
    command = [
        tool("qemu-system-x86_64", "qemu-system-x86"),
        *("-accel", "tcg", "-m", "128", "-nographic", "-nic", "none", "-no-reboot"),
        *arguments,
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as machine:
        assert machine.stdout is not None
        try:
            return _read_until(banner, machine.stdout.fileno(), machine.stdout.read1)
        finally:
            machine.kill()


def _read_until(banner: str, descriptor: int, read: Any) -> str:
    received = b""
    deadline = time.monotonic() + BOOT_TIMEOUT_SECONDS
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if not selector.select(timeout=left):
                break
            piece = read(65536)
            if not piece:
                break
            received += piece
            screen = _TERMINAL_CONTROL.sub(b"", received).decode("ascii", "replace")
            if banner in screen:
                return screen
    screen = _TERMINAL_CONTROL.sub(b"", received).decode("ascii", "replace")
    raise AssertionError(f"the machine never showed {banner!r}, but this:\n{screen[-3000:]}")
