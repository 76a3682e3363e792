"""Time as a test counts it that measures the service: without that for which the machine stood still."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

_LOOK_SECONDS = 0.01
_USUAL_SECONDS = 0.1
"""As late as a thread wakes up on a machine that is merely busy."""


@contextlib.contextmanager
def stopwatch() -> Iterator[Callable[[], float]]:
    """`with stopwatch() as seconds: …; assert seconds() < 2`: how long it has been since the block
    began, without the time in which a thread that only looks at the clock did not get to it."""
    began, stalled = time.monotonic(), 0.0
    is_over = threading.Event()

    def look() -> None:
        nonlocal stalled
        asleep = time.monotonic()
        while not is_over.wait(_LOOK_SECONDS):
            awake = time.monotonic()
            late = awake - asleep - _LOOK_SECONDS
            if late > _USUAL_SECONDS:
                stalled += late
            asleep = awake

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield lambda: time.monotonic() - began - stalled
    finally:
        is_over.set()
        looking.join()
