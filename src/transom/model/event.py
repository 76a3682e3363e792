"""An event: what has happened to a thing, as others are told of it."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from typing import Any

import msgspec


class Priority(StrEnum):
    """How a message bus sorts events; Glance's are of these two."""

    INFO = "INFO"
    ERROR = "ERROR"


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """An event about to be told. `subject` is the thing whose events keep their order."""

    type: str
    """Glance's name of it: `image.create`."""
    subject: str
    payload: dict[str, Any] | str
    """As Glance formats it; a sentence where an upload failed."""
    priority: Priority = Priority.INFO


class EventState(StrEnum):
    """What is to become of an event for one target."""

    WAITING = "waiting"
    DEAD = "dead"
    """Tried in vain so often that only the operator's word brings it back."""


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """An event on its way to one target. Times are aware UTC."""

    number: int
    """Grows with every event: their order."""
    target: str
    event_id: str
    """The same for all targets and for every try, so that receivers know it again."""
    type: str
    subject: str
    priority: Priority
    payload: dict[str, Any] | str
    request_id: str
    created_at: dt.datetime
    state: EventState = EventState.WAITING
    attempts: int = 0
    due_at: dt.datetime
    reason: str = ""
    """Why the last try failed."""
