"""Keystone's unified limits, read into numbers."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class _Service(msgspec.Struct):
    id: str


class Services(msgspec.Struct):
    """The answer to a question about services."""

    services: list[_Service]


class _Registered(msgspec.Struct):
    resource_name: str
    default_limit: int
    region_id: str | None = None


class RegisteredLimits(msgspec.Struct):
    """What every project may have unless it is said otherwise."""

    registered_limits: list[_Registered]


class _Own(msgspec.Struct):
    resource_name: str
    resource_limit: int
    project_id: str | None = None
    region_id: str | None = None


class Limits(msgspec.Struct):
    """What is said otherwise."""

    limits: list[_Own]


def effective(registered: RegisteredLimits, own: Limits, project_id: str) -> dict[str, int]:
    """The limits of a project: its own where it has one, else the registered ones.

    Where a resource has several for different regions, the smallest counts.
    """
    defaults = _smallest(
        (one.resource_name, one.default_limit) for one in registered.registered_limits
    )
    mine = _smallest(
        (one.resource_name, one.resource_limit)
        for one in own.limits
        if one.project_id == project_id
    )
    return defaults | mine


def _smallest(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, limit in pairs:
        # -1 stands for no limit at all.
        if name not in found or found[name] < 0 or 0 <= limit < found[name]:
            found[name] = limit
    return found
