"""The machine: which tools it needs, how to get them, and how to describe it."""

from __future__ import annotations

import mmap
import os
import platform
import shutil
import subprocess
from pathlib import Path


class ToolMissing(Exception):
    """A program that the measurements need is not installed and could not be."""


def need(program: str, package: str) -> str:
    """The path of `program`; installs Debian's `package` when it is missing and we are root."""
    found = shutil.which(program)
    if found:
        return found
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        raise ToolMissing(f"`{program}` is missing: install it (Debian: `apt install {package}`)")
    print(f"installing {package}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run([apt, "update", "-qq"], check=False, env=environment, capture_output=True)
    subprocess.run(
        [apt, "install", "-y", "-qq", package], check=False, env=environment, capture_output=True
    )
    found = shutil.which(program)
    if found is None:
        raise ToolMissing(f"`apt-get install {package}` did not bring `{program}`")
    return found


def postgres_bin() -> Path:
    """The folder with PostgreSQL's programs, the newest when there are several."""
    folders = _postgres_folders()
    if not folders:
        need("pg_ctlcluster", "postgresql")
        folders = _postgres_folders()
    if not folders:
        raise ToolMissing("PostgreSQL's `initdb` is missing: install the server (`postgresql`)")
    return folders[-1]


def _postgres_folders() -> list[Path]:
    root = Path("/usr/lib/postgresql")
    found = [path.parent for path in root.glob("*/bin/initdb")]
    on_path = shutil.which("initdb")
    if not found and on_path:
        found = [Path(on_path).resolve().parent]
    return sorted(found, key=lambda path: (len(path.parent.name), path.parent.name))


def describe(folder: Path) -> dict[str, str]:
    """What the numbers were taken on: processor, memory, disk, kernel, versions."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    load = Path("/proc/loadavg").read_text().split()[0]
    return {
        "processor": f"{os.cpu_count()} x {cpu}",
        "memory": f"{memory_kib / 1048576:.0f} GiB",
        "file system": _file_system(folder),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load before": load,
    }


def _file_system(folder: Path) -> str:
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, name, *_ = line.split()
        inside = str(folder.resolve()).startswith(mount.rstrip("/") + "/")
        if inside and len(mount) > len(best):
            best, kind = mount, name
    return kind


def warm_memory(size_bytes: int) -> None:
    """Touch that much memory and give it back at once, so that what follows finds it at hand.

    A virtual machine may hand freed memory back to its host and then pays seconds of processor
    time for each GiB it touches anew; whoever is measured just then would carry that.
    """
    piece = 64 << 20
    pieces = []
    for _ in range(-(-size_bytes // piece)):
        memory = mmap.mmap(-1, piece)
        for offset in range(0, piece, mmap.PAGESIZE):
            memory[offset] = 1
        pieces.append(memory)
    for memory in pieces:
        memory.close()
