"""Time as a test counts it that measures the service: without that for which the machine stood still."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

_LOOK_SECONDS = 0.01
_USUAL_SECONDS = 0.1
"""As late as a thread wakes up on a machine that is merely busy."""


class Stopwatch:
    """`with Stopwatch() as watch: …; assert watch.seconds() < 2`."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._stalled = 0.0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._is_over.is_set():
            asleep = time.monotonic()
            time.sleep(_LOOK_SECONDS)
            late = time.monotonic() - asleep - _LOOK_SECONDS
            if late > _USUAL_SECONDS:
                self._stalled += late

    def seconds(self) -> float:
        """How long it has been, without the time in which this very thread of ours did not run."""
        return time.monotonic() - self._began - self._stalled

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_over.set()
        self._thread.join()
