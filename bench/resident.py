"""Files held in memory: nobody measured is to pay for the disk because he was asked first."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

SPARE_BYTES = 3 << 30
"""Memory that is left to the programs."""

_libc = ctypes.CDLL(None, use_errno=True)
_PROT_READ, _MAP_SHARED = 1, 1
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
)  # fmt: skip
_libc.mlock.argtypes = _libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


@contextmanager
def resident(files: Iterable[Path]) -> Iterator[None]:
    """Hold the files, as long as they are now, in the page cache until the block ends.

    Reading them is not enough: a machine that hands idle memory back to its host drops pages within
    seconds. Raises OSError when the machine has not the memory, or does not let us lock it.
    """
    wanted = list(files)
    if sum(file.stat().st_size for file in wanted) > _available_bytes() - SPARE_BYTES:
        raise OSError(errno.ENOMEM, "there is not enough memory for the files")
    with ExitStack() as stack:
        for file in wanted:
            _lock(file, stack)
        yield


def _available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 0


def _lock(file: Path, stack: ExitStack) -> None:
    handle = os.open(file, os.O_RDONLY)
    try:
        length = os.fstat(handle).st_size
        if not length:
            return
        # mmap.mmap gives no address of a mapping that is only to be read.
        address = _libc.mmap(None, length, _PROT_READ, _MAP_SHARED, handle, 0)
    finally:
        os.close(handle)
    if address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(file))
    stack.callback(_libc.munmap, address, length)
    if _libc.mlock(address, length):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(file))
