"""Orders of a list: what comes before what, and what comes after a marker (API §5.1)."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement

from transom.catalog.filters import Columns
from transom.catalog.schema import downwards, upwards
from transom.model.query import Direction

NULLABLE = frozenset({"name", "container_format", "disk_format", "size"})
"""Sort keys that can be null."""

Sort = tuple[tuple[str, Direction], ...]
Nulls = tuple[bool, ...] | None
"""Which values of a marker are null; None without a marker."""


def significant(sort: Sort) -> Sort:
    """The keys that decide: each column once, none after the id, which is unique."""
    keys: dict[str, Direction] = {}
    for column, direction in sort:
        keys.setdefault(column, direction)
        if column == "id":
            break
    return tuple(keys.items())


def keys_of(sort: Sort, given: Any) -> Columns:
    """Finds the sort keys among columns that are labelled `k0`, `k1` …"""
    names = {column: f"k{number}" for number, (column, _) in enumerate(sort)}
    return lambda column: given[names[column]]


def order(sort: Sort, column_of: Columns) -> list[ColumnElement[Any]]:
    """ORDER BY, null as the smallest value on every engine."""
    found = []
    for name, direction in sort:
        column, nullable = column_of(name), name in NULLABLE
        if direction == "asc":
            found.append(upwards(column) if nullable else column.asc())
        else:
            found.append(downwards(column) if nullable else column.desc())
    return found


def after(
    sort: Sort, nulls: tuple[bool, ...], column_of: Columns, *, first: int = 0
) -> ColumnElement[bool]:
    """The rows behind the marker, whose values are the parameters `m0`, `m1` …, or from `first`
    on; `nulls` tells which of them are null."""
    if is_even(sort) and not any(name in NULLABLE for name, _ in sort):
        # One comparison of rows, which the indexes serve.
        row = sa.tuple_(*(column_of(name) for name, _ in sort))
        values = sa.tuple_(
            *(sa.bindparam(f"m{n}", required=True) for n in range(first, first + len(sort)))
        )
        return row > values if sort[0][1] == "asc" else row < values
    ways: list[ColumnElement[bool]] = []
    same: list[ColumnElement[bool]] = []
    for number, (name, direction) in enumerate(sort):
        column, parameter = column_of(name), f"m{first + number}"
        further = _further(column, direction, parameter, nulls[number], name in NULLABLE)
        if further is not None:
            ways.append(sa.and_(*same, further))
        same.append(same_as(column, parameter, nulls[number]))
    return sa.or_(*ways) if ways else sa.false()


def is_even(sort: Sort) -> bool:
    """True when all keys go in the same direction."""
    return len({direction for _, direction in sort}) == 1


def is_creation(sort: Sort) -> bool:
    """True for the order of creation, upwards or downwards, ids included."""
    return tuple(column for column, _ in sort) == ("created_at", "id") and is_even(sort)


def same_as(column: ColumnElement[Any], parameter: str, null: bool) -> ColumnElement[bool]:
    """The column has the marker's value."""
    if null:
        return column.is_(None)
    return column == sa.bindparam(parameter, required=True)


def _further(
    column: ColumnElement[Any], direction: str, parameter: str, null: bool, nullable: bool
) -> ColumnElement[bool] | None:
    if null:
        return column.is_not(None) if direction == "asc" else None
    value: ColumnElement[Any] = sa.bindparam(parameter, required=True)
    if direction == "asc":
        return column > value
    smaller = column < value
    return sa.or_(smaller, column.is_(None)) if nullable else smaller
