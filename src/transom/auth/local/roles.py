"""Roles and the roles that they bring along."""

from __future__ import annotations

from collections.abc import Iterable

from transom.model.identity import IMPLIED


def with_implied(names: Iterable[str]) -> frozenset[str]:
    """The role names and everything that they imply, directly or not."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(IMPLIED.get(name, ()))
    return frozenset(found)
