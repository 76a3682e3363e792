"""How the C library of this process deals with memory that was given back to it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping

MIB = 1024 * 1024
KEPT_BYTES = 32 * MIB
"""Free memory that is kept for the next piece of image data, for each arena of the C library."""
MAPPED_FROM_BYTES = 8 * MIB
"""What is as long as this gets a mapping of its own, which ends when it is given back."""
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
"""The numbers of these two in glibc's `malloc.h`."""
_SWITCHES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
"""Environment variables of those who have decided this themselves (`man 3 mallopt`)."""
_TUNABLES = "GLIBC_TUNABLES"
"""The newer way to decide it, among other things of glibc's (`man 8 ld.so`)."""


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> bool:
    """Have memory of pieces of image data kept for the next ones, instead of giving each piece back
    to the kernel and taking it anew, page by page (decision 0152). Gives whether that was done: it
    is glibc alone that needs it, and whoever has set one of its switches is left in peace."""
    if any(switch in environment for switch in _SWITCHES):
        return False
    if "glibc.malloc." in environment.get(_TUNABLES, ""):
        return False
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    if tune is None:
        return False
    done = [
        tune(ctypes.c_int(option), ctypes.c_int(size_bytes)) == 1
        for option, size_bytes in (
            (_TRIM_THRESHOLD, KEPT_BYTES),
            (_MMAP_THRESHOLD, MAPPED_FROM_BYTES),
        )
    ]
    return all(done)
