"""A memory of verdicts about tokens: bounded, and each for a limited time."""

from __future__ import annotations

import hashlib
import os
import time
from collections import OrderedDict
from dataclasses import dataclass

from transom.model.actor import Actor

_SALT = os.urandom(16)


def digest(token: str) -> bytes:
    """What a token is remembered by. Nothing that is kept gives the token back."""
    return hashlib.blake2b(token.encode(), digest_size=16, key=_SALT).digest()


@dataclass(slots=True)
class Verdict:
    """What is known about a token: whom it speaks for, or that it is not valid."""

    actor: Actor | None
    until: float
    """Moment at which it is forgotten, on the monotonic clock."""
    renew_at: float
    """Moment from which a caller should have it renewed, on the monotonic clock."""


class Verdicts:
    """The verdicts used last. Tokens that are not valid have room of their own, so that a flood
    of made-up ones does not push out the good."""

    def __init__(self, count_max: int) -> None:
        self._valid = _Shelf(count_max)
        self._refused = _Shelf(max(1, count_max // 4))

    def find(self, key: bytes) -> Verdict | None:
        """The verdict, if it is remembered and has not run out."""
        return self._valid.find(key) or self._refused.find(key)

    def find_valid(self, key: bytes) -> Verdict | None:
        """The verdict, if it is remembered, has not run out and names somebody."""
        return self._valid.find(key)

    def put(self, key: bytes, actor: Actor | None, seconds: float) -> None:
        """Remember a verdict for so many seconds; 0 remembers nothing."""
        self._valid.drop(key)
        self._refused.drop(key)
        if seconds <= 0:
            return
        now = time.monotonic()
        # The last fifth of its life is time enough to renew a verdict without anybody waiting.
        verdict = Verdict(actor, now + seconds, now + seconds * 0.8)
        (self._refused if actor is None else self._valid).put(key, verdict)

    def __len__(self) -> int:
        return len(self._valid) + len(self._refused)


class _Shelf:
    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._entries: OrderedDict[bytes, Verdict] = OrderedDict()

    def find(self, key: bytes) -> Verdict | None:
        verdict = self._entries.get(key)
        if verdict is None:
            return None
        if time.monotonic() >= verdict.until:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return verdict

    def put(self, key: bytes, verdict: Verdict) -> None:
        self._entries[key] = verdict
        if len(self._entries) > self._count_max:
            self._entries.popitem(last=False)

    def drop(self, key: bytes) -> None:
        self._entries.pop(key, None)

    def __len__(self) -> int:
        return len(self._entries)
