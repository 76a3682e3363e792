"""What the system says about this process: proc(5)."""

from __future__ import annotations

import os
import platform
import resource
import threading
import time
from pathlib import Path

from transom.metrics import table

_PAGE_BYTES = resource.getpagesize()


def watch(version: str) -> None:
    """Have the facts about this process read whenever the metrics are. `version` is Transom's."""
    table.BUILD_INFO.at(version, platform.python_version()).set(1)
    table.PROCESSES.at().set(1)
    table.PROCESS_CPU.watch(time.process_time)
    table.PROCESS_MEMORY.watch(_memory_bytes)
    table.PROCESS_FILES.watch(_files)
    table.PROCESS_FILES_MAX.watch(lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    table.PROCESS_THREADS.watch(threading.active_count)
    table.PROCESS_STARTED.at().set(_started())


def _memory_bytes() -> float:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


def _files() -> float:
    try:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names alone
    except OSError:
        return 0


def _started() -> float:
    try:
        stat = Path("/proc/self/stat").read_text(errors="replace")
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        return time.time()
    # Field 22 counts ticks since the machine started.
    ticks = int(stat.rpartition(")")[2].split()[19])
    return time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK")
