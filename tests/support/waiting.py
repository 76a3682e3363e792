"""Waiting for a state that comes by itself, instead of for a time in which it should have come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any


def until(what: Callable[[], Any], seconds: float = 10, told: str | Callable[[], str] = "") -> Any:
    """What the call gives, as soon as it gives something true. `told` is what to say when it never
    does, or gives that."""
    deadline = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise AssertionError(
                f"not so after {seconds} s: {told if isinstance(told, str) else told()}"
            )
        time.sleep(0.01)


async def until_so(is_so: Callable[[], Any], seconds: float = 20) -> None:
    """Come back as soon as it is so; everything else in the loop goes on meanwhile."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        await asyncio.sleep(0.005)
