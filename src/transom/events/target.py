"""Who is told of events: the contract that every kind of target keeps."""

from __future__ import annotations

from typing import Protocol

from transom.model.event import Outgoing


class Undelivered(Exception):
    """A target did not take an event. `reason` is for the operator.

    `is_away` says that it would not take others now either; `wait_seconds` is what it asks for.
    """

    def __init__(self, reason: str, *, is_away: bool, wait_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_away = is_away
        self.wait_seconds = wait_seconds


class Target(Protocol):
    """One target."""

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        ...

    async def deliver(self, event: Outgoing) -> None:
        """Hand the event over: when this returns, the target has it. Raises Undelivered."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
