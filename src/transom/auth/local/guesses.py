"""A brake on guessing: after some failures in a row the next attempt has to wait.

Kept in memory for each process, and bounded: what it forgets under pressure, argon2's own cost and
the few threads that run it still slow down.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from transom.errors import TooManyGuesses

_NAMES_MAX = 10_000


class Guesses:
    """Failures in a row for each name. The first `free` cost nothing; each one after doubles the
    wait, from one second up to `wait_seconds_max`. A success, or ten quiet minutes, forgives all.
    """

    def __init__(
        self,
        *,
        free: int = 5,
        wait_seconds_max: float = 30.0,
        forget_seconds: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._free = free
        self._wait_seconds_max = wait_seconds_max
        self._forget_seconds = forget_seconds
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def check(self, name: str) -> None:
        """Raise TooManyGuesses while the name has to wait."""
        count, last = self._failures.get(name, (0, 0.0))
        if count <= self._free:
            return
        wait = min(2.0 ** (count - self._free - 1), self._wait_seconds_max)
        left = last + wait - self._clock()
        if left > 0:
            raise TooManyGuesses(left)

    def failed(self, name: str) -> None:
        """Note one more failure."""
        now = self._clock()
        count, last = self._failures.pop(name, (0, now))
        if now - last > self._forget_seconds:
            count = 0
        self._failures[name] = (count + 1, now)
        if len(self._failures) > _NAMES_MAX:
            self._failures.popitem(last=False)

    def succeeded(self, name: str) -> None:
        """Forgive the name."""
        self._failures.pop(name, None)
