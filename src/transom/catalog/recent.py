"""What was found out about the size of sets, believed for a while. No SQL in this file.

How a page is made depends on how many images its terms find. The page is right in any case, so an
answer may be old; asking anew for each page would cost as much as the page.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Hashable
from typing import Any, TypeVar, cast

T = TypeVar("T")
A = TypeVar("A")
S = TypeVar("S")


class Recent:
    """Answers by question, each for `seconds`, at most `answers_max` of them. For many threads:
    two that ask the same at once may both have to find it."""

    def __init__(self, seconds: float, answers_max: int) -> None:
        self._seconds = seconds
        self._answers_max = answers_max
        self._answers: dict[Hashable, tuple[float, Any]] = {}

    def answer(
        self, question: Hashable, find: Callable[[], Generator[A, S, T]]
    ) -> Generator[A, S, T]:
        """What was found for the question a short while ago, or what the steps of `find` give
        now."""
        now = time.monotonic()
        known = self._answers.get(question)
        if known is not None and now - known[0] < self._seconds:
            return cast("T", known[1])
        found = yield from find()
        if len(self._answers) >= self._answers_max:
            self._answers.clear()
        self._answers[question] = (now, found)
        return found
