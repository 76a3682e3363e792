"""The present moment, in one place, and whoever moves it."""

from __future__ import annotations

import asyncio
import datetime as dt
import time

import structlog

from transom.metrics.table import CLOCK_JUMPS

_log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
"""How often the clocks are compared."""
JUMP_SECONDS = 1.0
"""What the clock may gain or lose from one look to the next: whoever steers it slowly moves it far
less, whoever sets it moves it more."""


def now() -> dt.datetime:
    """The present as an aware UTC datetime."""
    return dt.datetime.now(dt.UTC)


async def watch_clock() -> None:
    """Tell when the clock of the machine is set, for ever: it is compared with one that nobody can
    set. Leases, timeouts and pauses do not depend on it; times that clients see, and the ends of
    tokens, do."""
    before = _ahead_seconds()
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        ahead = _ahead_seconds()
        jump_seconds = ahead - before
        before = ahead
        if abs(jump_seconds) >= JUMP_SECONDS:
            CLOCK_JUMPS.at("forward" if jump_seconds > 0 else "backward").add()
            _log.warning("clock.set", jump_seconds=round(jump_seconds, 3))


def _ahead_seconds() -> float:
    return time.time() - time.monotonic()
