"""Statements that make a page out of sets of images: walking them in order, or gathering them."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement

from transom.catalog.asks import Ask
from transom.catalog.filters import Term, term_condition
from transom.catalog.orders import after, is_creation, keys_of, order
from transom.catalog.rows import COLUMNS
from transom.catalog.schema import images
from transom.catalog.visibility import PROJECT, may_list, sets_of
from transom.catalog.ways import (
    Way,
    meeting,
    open_to,
    owned_by,
    shared_with_caller,
)

_NAMES = [column.name for column in COLUMNS]
_BY_CREATION = _NAMES.index("created_at"), _NAMES.index("id")

Part = tuple[Way, list[ColumnElement[bool]]]
"""A set of images, and the conditions that its way leaves open."""


def visible(ask: Ask, lead: int | None) -> list[Part]:
    """The sets that make up what the caller sees; no image is in two of them. The sets of other
    projects' images go through the index of the leading term, if there is one."""
    owner, status = _number(ask, "owner"), _number(ask, "status")
    in_status = None if status is None else f"f{status}"
    found = []
    for shelf in ask.shelves:
        for kind, value in sets_of(ask.caller, ask.visibility, ask.member_status):
            done: set[int | None] = set()
            if kind == "member":
                way = shared_with_caller(value, shelf)
            elif kind == "own":
                way, done = owned_by(PROJECT, value, shelf, in_status), {status}
            elif owner is not None:
                way, done = owned_by(f"f{owner}", value, shelf, in_status), {owner, status}
            else:
                way = open_to(value, shelf)
                if lead is not None:
                    led = meeting(ask.terms[lead], lead, ask.dialect, shelf, value)
                    if led is not None:
                        way, done = led, {lead}
            found.append((way, _rest(ask, way, done)))
    return found


def meeting_term(ask: Ask, lead: int) -> list[Part]:
    """The images that meet a term, of those that the caller sees."""
    found = []
    for shelf in ask.shelves:
        way = meeting(ask.terms[lead], lead, ask.dialect, shelf)
        if way is not None:
            rest = _rest(ask, way, {lead})
            rest.append(may_list(ask.caller, ask.visibility, ask.member_status))
            found.append((way, rest))
    return found


def _rest(ask: Ask, way: Way, done: set[int | None]) -> list[ColumnElement[bool]]:
    return [
        term_condition(term, f"f{number}", ask.dialect, way.column)
        for number, term in enumerate(ask.terms)
        if number not in done
    ]


def merged(ask: Ask, parts: Sequence[Part], step: int | None) -> sa.Select[Any]:
    """One page out of sets without an image in common: ids and sort keys first, the rows of the
    page afterwards. `step` ends each set, and the page: for PostgreSQL, which has to know it to
    plan well; SQLite merges row by row and is told at the end of the page."""
    if len(parts) == 1 and step is not None and parts[0][0].table is images:
        return _alone(ask, parts[0], step)
    selects = []
    for way, rest in parts:
        keys = [way.column(column).label(f"k{n}") for n, (column, _) in enumerate(ask.sort)]
        select = way.select(*keys, way.column("id").label("image_id"), where=rest)
        if ask.nulls is not None:
            select = select.where(after(ask.sort, ask.nulls, way.column))
        if step is not None:
            select = select.order_by(*order(ask.sort, way.column)).limit(_literal(step))
        selects.append(select)
    union: Any = selects[0] if len(selects) == 1 else sa.union_all(*selects)
    limit = sa.bindparam("limit", required=True) if step is None else _literal(step)
    page = (
        union.order_by(*order(ask.sort, keys_of(ask.sort, union.selected_columns)))
        .limit(limit)
        .subquery("page")
    )
    found = (
        sa.select(*COLUMNS, ask.member())
        .select_from(page.join(images, images.c.id == page.c.image_id))
        .with_hint(images, "sqlite_autoindex_images_1", "sqlite")
    )
    if is_creation(ask.sort):
        # Left to `in_order`: SQLite would pack and unpack every row once more to sort it.
        return found
    return found.order_by(*order(ask.sort, keys_of(ask.sort, page.c)))


def _alone(ask: Ask, part: Part, step: int) -> sa.Select[Any]:
    """One page out of one set, whose index leads to the rows without a detour."""
    way, rest = part
    select = way.select(*COLUMNS, ask.member(), where=rest)
    if ask.nulls is not None:
        select = select.where(after(ask.sort, ask.nulls, way.column))
    return select.order_by(*order(ask.sort, way.column)).limit(_literal(step))


def in_order(ask: Ask, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The rows of `merged` in the order of the list."""
    if is_creation(ask.sort):
        rows.sort(key=itemgetter(*_BY_CREATION), reverse=ask.sort[0][1] == "desc")
    return rows


def count_up_to(ways: Sequence[Way], bound: int) -> ColumnElement[Any]:
    """The size of a set, or the bound if it is smaller."""
    parts = [way.some() for way in ways]
    some: Any = parts[0] if len(parts) == 1 else sa.union_all(*parts)
    limited = some.limit(_literal(bound)).subquery()
    return sa.select(sa.func.count()).select_from(limited).scalar_subquery()


def reach(ask: Ask, way: Way, steps: int) -> ColumnElement[Any]:
    """The creation time that so many steps along the way lead to; null when it is shorter."""
    created_at = way.column("created_at")
    return (
        sa.select(created_at)
        .select_from(way.table)
        .with_hint(way.table, way.index, "sqlite")
        .where(*way.where)
        .order_by(*order((("created_at", ask.sort[0][1]), ("id", ask.sort[0][1])), way.column))
        .limit(_literal(1))
        .offset(_literal(steps))
        .scalar_subquery()
    )


def _number(ask: Ask, column: str) -> int | None:
    term = Term("equal", column)
    return ask.terms.index(term) if term in ask.terms else None


def _literal(number: int) -> ColumnElement[int]:
    return sa.literal_column(str(number), sa.Integer)
