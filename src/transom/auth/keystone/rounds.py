"""One question at a time for all who ask the same, and no answer older than anyone's question."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Rounds(Generic[T]):
    """Asks a slow peer on behalf of many.

    Who comes while a question is under way waits for the next one, which begins when that has
    ended, together with all others who came meanwhile. So everyone is told what is true after they
    asked, and the peer is asked once at a time for each key.
    """

    def __init__(self, question: Callable[[str], Awaitable[T]]) -> None:
        self._question = question
        self._running: dict[str, asyncio.Task[T]] = {}
        self._next: dict[str, asyncio.Task[T]] = {}

    async def ask(self, key: str) -> T:
        """The answer, not older than this call. Raises what the question raises."""
        task = self._next.get(key)
        if task is None:
            task = self._next[key] = asyncio.create_task(self._round(key, self._running.get(key)))
            task.add_done_callback(_seen)
        # A caller that goes away must not take the answer from the others that wait for it.
        return await asyncio.shield(task)

    async def close(self) -> None:
        """End what is under way."""
        tasks = [*self._running.values(), *self._next.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _round(self, key: str, before: asyncio.Task[T] | None) -> T:
        if before is not None:
            await asyncio.wait([before])
        # From here on it is too late to join.
        mine = self._running[key] = self._next.pop(key)
        try:
            return await self._question(key)
        finally:
            if self._running.get(key) is mine:
                del self._running[key]


def _seen(task: asyncio.Task[T]) -> None:
    """Take note of a failure whose waiters may all have gone."""
    if not task.cancelled():
        task.exception()
