"""Asks a peer that is away once in a while, and not at every request."""

from __future__ import annotations

import time

from transom.errors import IdentityUnavailable

_PAUSE_SECONDS_FIRST = 0.5
_PAUSE_SECONDS_MAX = 8.0


class Circuit:
    """Closed while the peer answers. A failure opens it: callers are turned away at once.

    After a pause that doubles with every failure one caller may try; the others go on being turned
    away until it has come back with news.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._openings = 0
        self._open_until = 0.0
        self._trying = False
        self._reason = ""

    @property
    def is_closed(self) -> bool:
        """True while the peer answers, as far as is known."""
        return not self._failures

    def enter(self) -> int:
        """A ticket to ask the peer with. Raises IdentityUnavailable unless it may be asked now."""
        if self._failures:
            if self._trying or time.monotonic() < self._open_until:
                raise IdentityUnavailable(self._reason)
            self._trying = True
        return self._openings

    def still(self, ticket: int) -> None:
        """Raises IdentityUnavailable if the peer was found to be away since the ticket was given."""
        if ticket != self._openings:
            raise IdentityUnavailable(self._reason)

    def succeeded(self) -> None:
        """The peer answered."""
        self._failures = 0
        self._trying = False

    def failed(self, ticket: int, reason: str, *, pause_seconds: float | None = None) -> bool:
        """The peer did not answer, or not as it should. True when this is news.

        Of many callers that fail at once, one opens the circuit, and the pause grows once.
        """
        if ticket != self._openings:
            return False
        if pause_seconds is None:
            pause_seconds = min(_PAUSE_SECONDS_FIRST * 2**self._failures, _PAUSE_SECONDS_MAX)
        self._openings += 1
        self._failures = min(self._failures + 1, 16)
        self._open_until = time.monotonic() + pause_seconds
        self._trying = False
        self._reason = reason
        return True

    def given_up(self) -> None:
        """The caller went away before there was news."""
        self._trying = False
