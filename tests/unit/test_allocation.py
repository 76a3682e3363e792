"""Memory of pieces of image data is kept by the process for the next ones (decision 152)."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from transom.cli import serve
from transom.cli.allocation import keep_freed_memory
from transom.settings import Settings

SCRIPT = """
import resource, sys
from transom.cli.allocation import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory({})

def pages_taken():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def pieces():
    # Eight at once, as one upload has them.
    return [b"x" * (1 << 20) for _ in range(8)]

pieces()
before = pages_taken()
for _ in range(20):
    pieces()
print(pages_taken() - before)
"""
PAGES = 20 * 8 * (1 << 20) // os.sysconf("SC_PAGE_SIZE")
"""What the pieces of the script have in all."""


def pages_taken_anew(how: str) -> int:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, how], env=clean, capture_output=True, text=True, check=True
    )
    return int(ran.stdout)


def test_memory_of_pieces_is_not_taken_anew_from_the_kernel() -> None:
    assert pages_taken_anew("keep") < PAGES / 100
    assert pages_taken_anew("leave") > PAGES / 2, "glibc keeps it by itself: this can go"


@pytest.mark.parametrize(
    ("switch", "value"),
    [
        ("MALLOC_TRIM_THRESHOLD_", "131072"),
        ("MALLOC_MMAP_THRESHOLD_", "131072"),
        ("GLIBC_TUNABLES", "glibc.cpu.x86_shstk=on:glibc.malloc.trim_threshold=131072"),
    ],
)
def test_who_has_decided_it_is_left_in_peace(
    switch: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", None)
    assert not keep_freed_memory({switch: value})


def test_another_c_library_is_left_in_peace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    assert not keep_freed_memory({})


@pytest.mark.parametrize("start", [lambda: serve._serve_here(Settings()), serve.worker_face])
def test_it_is_decided_before_a_process_serves(
    start: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def decide() -> None:
        raise InterruptedError

    monkeypatch.setattr(serve, "keep_freed_memory", decide)
    monkeypatch.delenv("TRANSOM_LAUNCH", raising=False)
    with pytest.raises(InterruptedError):
        start()
