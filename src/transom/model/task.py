"""A task: long work on an image, asked for by one request and finished by the service."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from typing import Any

import msgspec


class TaskStatus(StrEnum):
    """States of a task (lifecycle §13). The last two are final."""

    PENDING = "pending"
    PROCESSING = "processing"
    SUCCESS = "success"
    FAILURE = "failure"


class TaskType(StrEnum):
    """What a task does (API §17)."""

    IMPORT = "import"
    """Make an image from a URL, asked for through the tasks API."""
    API_IMAGE_IMPORT = "api_image_import"
    """An interoperable import (API §10)."""
    LOCATION_IMPORT = "location_import"
    """Take a location into an image and check its data (API §16)."""


ENDED = frozenset({TaskStatus.SUCCESS, TaskStatus.FAILURE})


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a task is: what it does now, and bytes of that."""

    phase: str = ""
    done_bytes: int = 0
    total_bytes: int | None = None
    rate_bytes: int = 0
    """Bytes per second, lately."""

    @property
    def percent(self) -> int | None:
        """Of the present phase, 0 to 100; None while the total is unknown."""
        if self.total_bytes is None:
            return None
        if self.total_bytes <= 0:
            return 100
        return min(100, self.done_bytes * 100 // self.total_bytes)


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A task as the catalog knows it. Times are aware UTC."""

    id: str
    type: TaskType
    status: TaskStatus = TaskStatus.PENDING
    owner: str | None = None
    """The project of the caller who caused it."""
    user_id: str | None = None
    request_id: str | None = None
    image_id: str | None = None
    input: dict[str, Any] = msgspec.field(default_factory=dict)
    result: dict[str, Any] | None = None
    message: str = ""
    created_at: dt.datetime
    updated_at: dt.datetime
    started_at: dt.datetime | None = None
    expires_at: dt.datetime | None = None
    progress: Progress = Progress()
    process_id: str | None = None
    """The process that works on it, or did last."""
    attempt: int = 0
    """Grows each time a process takes the task up; what an earlier one still writes is refused."""
    is_cancelled: bool = False
    """Somebody asked for its end."""
    notes: dict[str, Any] = msgspec.field(default_factory=dict)
    """What its steps have to remember. Never shown."""

    @property
    def has_ended(self) -> bool:
        """True in a final state."""
        return self.status in ENDED


class TaskObject(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes in a store that belong to a task: written or being written, in no image's locations."""

    task_id: str
    store: str
    key: str
    token: str
    """What `Store.reopen` takes while the object is partial."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of data that a task brought in whole. Sizes are bytes."""

    size: int
    virtual_size: int | None = None
    checksum: str | None = None
    os_hash_algo: str | None = None
    os_hash_value: str | None = None


class Staged(msgspec.Struct, frozen=True, kw_only=True):
    """Data that was staged for an image and waits for its import."""

    image_id: str
    store: str
    key: str
    size_bytes: int
    staged_at: dt.datetime
