"""From a Compute query string to an ImageQuery (compute view §5)."""

from __future__ import annotations

import re
from typing import Any, Final

from transom.api.paging import moment
from transom.errors import InvalidQuery
from transom.model.image import Status
from transom.model.query import ImageQuery

LIMIT_MAX: Final = 1000
"""Longest page of the view, as Nova's `max_limit`."""

SHOWN: Final[dict[Status, str]] = {
    Status.ACTIVE: "ACTIVE",
    Status.QUEUED: "SAVING",
    Status.SAVING: "SAVING",
    Status.DELETED: "DELETED",
    Status.PENDING_DELETE: "DELETED",
    Status.KILLED: "ERROR",
}
"""The status shown for each state; every other state is shown as UNKNOWN."""

_IGNORED_COUNTS: Final = ("page_size", "offset")


def shown_status(status: Status) -> str:
    """What the view calls a state."""
    return SHOWN.get(status, "UNKNOWN")


def image_query(pairs: list[tuple[str, str]]) -> ImageQuery:
    """The question that a Compute query string asks; of repeated parameters the last one counts.

    Raises InvalidQuery.
    """
    last = dict(pairs)
    for name in _IGNORED_COUNTS:
        _count(last, name)
    limit = _count(last, "limit")
    parts: dict[str, Any] = {}
    if "changes-since" in last:
        parts["changed_since"] = moment("changes-since", last["changes-since"])
    equals = [("name", last["name"])] if "name" in last else []
    properties = [
        (name.partition("-")[2], value)
        for name, value in last.items()
        if name.startswith("property-")
    ]
    if "server" in last:
        properties.append(("instance_uuid", last["server"].rstrip("/").rpartition("/")[2]))
    if "type" in last:
        properties.append(("image_type", last["type"]))
    integers = []
    for name, column in (("minRam", "min_ram"), ("minDisk", "min_disk")):
        if name in last:
            if re.fullmatch(r"[0-9]{1,18}", last[name], re.ASCII):
                integers.append((column, int(last[name])))
            else:
                parts["matches_nothing"] = True
    if "status" in last:
        parts["one_of"] = (("status", _states(last["status"], deleted="changes-since" in last)),)
    return ImageQuery(
        limit=min(limit or LIMIT_MAX, LIMIT_MAX),
        marker=last.get("marker"),
        equals=tuple(equals),
        integers=tuple(integers),
        properties=tuple(properties),
        **parts,
    )


def _count(last: dict[str, str], name: str) -> int:
    text = last.get(name)
    if text is None:
        return 0
    if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII):
        raise InvalidQuery(name, f"'{text:.40}' is not an integer of 0 or more")
    return int(text)


def _states(word: str, *, deleted: bool) -> tuple[str, ...]:
    if word in tuple(Status) and word == word.lower():
        states: tuple[Status, ...] = (Status(word),)
    else:
        states = tuple(status for status in Status if shown_status(status) == word.upper())
    if not deleted:
        states = tuple(
            status for status in states if status not in (Status.DELETED, Status.PENDING_DELETE)
        )
    return tuple(status.value for status in states)
