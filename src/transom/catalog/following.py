"""Pages that follow the index of their first sort key, stretch by stretch.

An index gives the order of its first key, and often not that of the others. Then the images that
share a value have to be sorted, and there may be a hundred thousand of them. So the index is cut
into stretches of a few hundred images, and a value that more images share is a stretch of its own,
which the same index gives in order of creation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import ColumnElement

from transom.catalog.asks import Ask
from transom.catalog.filters import term_condition
from transom.catalog.orders import NULLABLE, Sort, after, is_creation, order
from transom.catalog.rows import COLUMNS
from transom.catalog.schema import downwards, images, upwards
from transom.catalog.visibility import may_list, word
from transom.catalog.ways import on_shelf
from transom.model.image import Visibility

FOLLOWED = {
    "name": "ix_images_name",
    "size": "ix_images_size",
    "updated_at": "ix_images_updated_at",
    "id": "sqlite_autoindex_images_1",
}
"""Sort keys and their indexes."""
FEW_VALUES = frozenset({"status", "container_format", "disk_format"})
"""Sort keys that have so few values that each value is a list of its own."""
STEP = 100
"""How many images the first stretch holds, at least; each further one twice as many."""

Rows = Callable[[Any, Callable[[], sa.Select[Any]], dict[str, Any]], list[Any]]
"""Runs a statement: its shape, how to build it, and its values."""


class Stretch(NamedTuple):
    """A part of the index. `kind`: `all`, `null`, `not null`, `one` (one value), `beyond` (what
    comes after `low`), `from` (with `low` itself); the latter two and `all` may be `… below`
    `high`."""

    kind: str
    values: dict[str, Any]
    after_marker: bool = False

    @property
    def value(self) -> Any:
        """The value that all images of the stretch have."""
        return self.values.get("value")

    @property
    def is_one_value(self) -> bool:
        """True when all images of the stretch have the same value of the key."""
        return self.kind in ("one", "null")


def stretches(ask: Ask, rows: Rows) -> Iterator[Stretch]:
    """The stretches of a list in their order, from the marker on."""
    if ask.sort[0][0] in FEW_VALUES:
        return _values(ask, rows)
    return _in_order(ask) if _gives_all(ask.sort) else _in_steps(ask, rows)


def _gives_all(sort: Sort) -> bool:
    """True when the index has the whole order."""
    (column, direction), *rest = sort
    if column == "id":
        return True
    if not is_creation(tuple(rest)):
        return False
    # The index of names goes the way of `openstack image list`: names up, creation down.
    same = rest[0][1] == direction
    return not same if column == "name" else same


def _in_order(ask: Ask) -> Iterator[Stretch]:
    (column, direction), *rest = ask.sort
    if ask.marker is None:
        yield Stretch("all", {})
        return
    value = ask.marker[0]
    if rest:
        yield _marker_stretch(value)
    if value is not None:
        yield Stretch("beyond", {"low": value})
        if direction == "desc" and column in NULLABLE:
            yield Stretch("null", {})
    elif direction == "asc":
        yield Stretch("not null", {})


def _in_steps(ask: Ask, rows: Rows) -> Iterator[Stretch]:
    column, direction = ask.sort[0]
    start = Stretch("all", {})
    if ask.marker is not None:
        value = ask.marker[0]
        yield _marker_stretch(value)
        if value is not None:
            start = Stretch("beyond", {"low": value})
        elif direction == "desc":
            return
    elif column in NULLABLE and direction == "asc":
        yield Stretch("null", {})
    step = max(STEP, 4 * ask.limit)
    while True:
        first, edge = _edge(ask, rows, start, step)
        if first is None:
            break
        if edge is None:
            yield Stretch("not null", {}) if start.kind == "all" else start
            break
        if edge == first:
            yield Stretch("one", {"value": first})
            start = Stretch("beyond", {"low": first})
        else:
            yield Stretch(f"{start.kind} below", {**start.values, "high": edge})
            start = Stretch("from", {"low": edge})
        step *= 2
    if column in NULLABLE and direction == "desc":
        yield Stretch("null", {})


def _values(ask: Ask, rows: Rows) -> Iterator[Stretch]:
    column, direction = ask.sort[0]
    value = None
    if ask.marker is not None:
        value = ask.marker[0]
        yield _marker_stretch(value)
        if value is None and direction == "desc":
            return
    elif direction == "asc" and column in NULLABLE:
        yield Stretch("null", {})
    while (value := _next(ask, rows, value)) is not None:
        yield Stretch("one", {"value": value})
    if direction == "desc" and column in NULLABLE:
        yield Stretch("null", {})


def _marker_stretch(value: Any) -> Stretch:
    if value is None:
        return Stretch("null", {}, after_marker=True)
    return Stretch("one", {"value": value}, after_marker=True)


def _edge(ask: Ask, rows: Rows, start: Stretch, step: int) -> tuple[Any, Any]:
    """The first value from the start on, and the one `step` images further; None where there is
    none."""
    column, direction = ask.sort[0]

    def build() -> sa.Select[Any]:
        key = images.c[column]
        some = (
            sa.select(key)
            .with_hint(images, FOLLOWED[column], "sqlite")
            .where(on_shelf(images, ask.shelf), *_within(key, direction, start.kind))
            .order_by(*order(ask.sort[:1], images.c.__getitem__))
            .limit(sa.literal_column("1", sa.Integer))
        )
        if column in NULLABLE and start.kind == "all":
            some = some.where(key.is_not(None))
        edge = some.offset(sa.bindparam("step", required=True))
        return sa.select(some.scalar_subquery(), edge.scalar_subquery())

    shape = ("edge", column, direction, ask.shelf, start.kind)
    first, edge = rows(shape, build, {**start.values, "step": step})[0]
    return first, edge


def _next(ask: Ask, rows: Rows, value: str | None) -> str | None:
    """The next value of a key that has few of them."""
    column, direction = ask.sort[0]
    up = direction == "asc"

    def build() -> sa.Select[Any]:
        key = images.c[column]
        extreme = sa.select(sa.func.min(key) if up else sa.func.max(key)).with_hint(
            images, f"ix_images_{column}", "sqlite"
        )
        beyond = [key.is_not(None)] if value is None else _within(key, direction, "beyond")
        return sa.select(
            *(
                extreme.where(
                    on_shelf(images, ask.shelf), images.c.visibility == word(visibility), *beyond
                ).scalar_subquery()
                for visibility in Visibility
            )
        )

    shape = ("next", column, direction, ask.shelf, value is None)
    found = [each for each in rows(shape, build, {"low": value})[0] if each is not None]
    if not found:
        return None
    return str(min(found) if up else max(found))


def _within(key: ColumnElement[Any], direction: str, kind: str) -> list[ColumnElement[bool]]:
    low: ColumnElement[Any] = sa.bindparam("low", required=True)
    high: ColumnElement[Any] = sa.bindparam("high", required=True)
    up = direction == "asc"
    match kind.removesuffix(" below"):
        case "beyond":
            found = [key > low if up else key < low]
        case "from":
            found = [key >= low if up else key <= low]
        case "not null":
            found = [key.is_not(None)]
        case "null":
            found = [key.is_(None)]
        case "one":
            found = [key == sa.bindparam("value", required=True)]
        case _:
            found = []
    if kind.endswith(" below"):
        found.append(key < high if up else key > high)
    if kind == "all below":
        # Null is below everything upwards, and has a stretch of its own.
        found.append(key.is_not(None))
    return found


def followed(ask: Ask, stretch: Stretch, column: str) -> sa.Select[Any]:
    """The images of a stretch that belong into the list, in the order of `ask`: all the keys, or
    those behind the first for a stretch of one value, after the marker's values of them."""
    where = [
        on_shelf(images, ask.shelf),
        *(term_condition(term, f"f{number}", ask.dialect) for number, term in enumerate(ask.terms)),
        may_list(ask.caller, ask.visibility, ask.member_status),
    ]
    direction = "asc" if stretch.is_one_value else ask.sort[0][1]
    key = images.c[column]
    where += _within(key, direction, stretch.kind)
    by = order(ask.sort, images.c.__getitem__)
    if stretch.kind == "null":
        # PostgreSQL does not see that only one value is left: it wants the order of the index.
        up = (ask.sort[0][1] == "asc") is not (column == "name")
        by.insert(0, upwards(key) if up else downwards(key))
    if ask.nulls is not None:
        where.append(after(ask.sort, ask.nulls, images.c.__getitem__))
    return (
        sa.select(*COLUMNS, ask.member())
        .select_from(images)
        .with_hint(images, FOLLOWED[column], "sqlite")
        .where(*where)
        .order_by(*by)
        .limit(sa.bindparam("limit", required=True))
    )
