"""Pages: one list of images, from the question to its rows (API §5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection

from transom.catalog.filters import asked, conditions
from transom.catalog.rows import COLUMNS, is_storable
from transom.catalog.schema import downwards, images, upwards
from transom.catalog.statements import Prepared
from transom.catalog.visibility import (
    GONE_STATUSES,
    PROJECT,
    caller_of,
    may_list,
    may_show,
    member_id,
    project_of,
)
from transom.errors import InvalidMarker, MarkerNotVisible
from transom.model.actor import Actor
from transom.model.image import GONE
from transom.model.query import Direction, ImageQuery

NULLABLE = frozenset({"name", "container_format", "disk_format", "size"})
_STATEMENTS_MAX = 2000

Sort = tuple[tuple[str, Direction], ...]


class Pages:
    """Builds the statements of pages, keeps them, and runs them."""

    def __init__(self, dialect: str) -> None:
        self._dialect = dialect
        self._statements: dict[Any, Prepared] = {}

    def rows(self, connection: Connection, query: ImageQuery, actor: Actor) -> list[Any]:
        """The rows of one page. Raises InvalidMarker, MarkerNotVisible."""
        caller = caller_of(actor)
        sort = _significant(query.sort)
        marker: Sequence[Any] | None = None
        if query.marker is not None:
            marker = self._marker(connection, query, sort, actor)
        if query.limit == 0:
            return []
        terms = asked(query, self._dialect)
        if terms is None:
            return []
        nulls = None if marker is None else tuple(value is None for value in marker)
        shape = (
            "plain",
            caller,
            query.visibility,
            query.member_status,
            query.os_hidden,
            query.changed_since is not None,
            sort,
            nulls,
            terms.terms,
        )
        statement = self._statements.get(shape)
        if statement is None:
            where = [
                may_list(caller, query.visibility, query.member_status),
                _on_shelf(int(query.os_hidden), query.changed_since is not None),
                *conditions(terms.terms, self._dialect),
            ]
            if nulls is not None:
                where.append(after(sort, nulls))
            member = member_id() if caller in ("admin", "project") else sa.null()
            statement = self._keep(
                shape,
                sa.select(*COLUMNS, member)
                .where(*where)
                .order_by(*order(sort))
                .limit(sa.bindparam("limit", required=True)),
            )
        values = {PROJECT: project_of(actor), "limit": query.limit, **terms.values}
        for number, value in enumerate(marker or ()):
            values[f"m{number}"] = value
        return statement.rows(connection, values)

    def _keep(self, shape: Any, statement: sa.Select[Any]) -> Prepared:
        if len(self._statements) >= _STATEMENTS_MAX:
            self._statements.clear()
        prepared = self._statements[shape] = Prepared(statement, self._dialect)
        return prepared

    def _marker(
        self, connection: Connection, query: ImageQuery, sort: Sort, actor: Actor
    ) -> Sequence[Any]:
        """The marker's values of the sort keys."""
        marker = query.marker or ""
        if not is_storable(marker):
            raise InvalidMarker(marker)
        caller = caller_of(actor)
        shape = ("marker", caller, sort)
        statement = self._statements.get(shape)
        if statement is None:
            statement = self._keep(
                shape,
                sa.select(
                    images.c.status, may_show(caller), *(images.c[key] for key, _ in sort)
                ).where(images.c.id == sa.bindparam("id", required=True)),
            )
        rows = statement.rows(connection, {"id": marker, PROJECT: project_of(actor)})
        if not rows:
            raise InvalidMarker(marker)
        status, visible, *values = rows[0]
        if status in GONE and query.changed_since is None:
            raise InvalidMarker(marker)
        if not visible:
            raise MarkerNotVisible(marker)
        return values


def _significant(sort: Sort) -> Sort:
    """The keys that decide: each column once, none after the id, which is unique."""
    keys: dict[str, Direction] = {}
    for column, direction in sort:
        keys.setdefault(column, direction)
        if column == "id":
            break
    return tuple(keys.items())


def _on_shelf(shelf: int, with_gone: bool) -> ColumnElement[bool]:
    listed = images.c.shelf == sa.literal_column(str(shelf), sa.SmallInteger)
    if not with_gone:
        return listed
    hidden = sa.literal_column("images.os_hidden", sa.Boolean)
    return sa.or_(
        listed,
        sa.and_(
            images.c.shelf.is_(None),
            sa.literal_column(f"images.status IN ({GONE_STATUSES})", sa.Boolean),
            hidden if shelf else sa.not_(hidden),
        ),
    )


def order(sort: Sort) -> list[ColumnElement[Any]]:
    """ORDER BY, null as the smallest value on every engine."""
    return [_ordered(images.c[column], direction, column in NULLABLE) for column, direction in sort]


def _ordered(column: ColumnElement[Any], direction: str, nullable: bool) -> ColumnElement[Any]:
    if direction == "asc":
        return upwards(column) if nullable else column.asc()
    return downwards(column) if nullable else column.desc()


def after(sort: Sort, nulls: tuple[bool, ...]) -> ColumnElement[bool]:
    """The rows behind the marker, whose values are the parameters `m0`, `m1` …; `nulls` tells
    which of them are null."""
    ways: list[ColumnElement[bool]] = []
    same: list[ColumnElement[bool]] = []
    for number, (column, direction) in enumerate(sort):
        further = _further(column, direction, f"m{number}", nulls[number])
        if further is not None:
            ways.append(sa.and_(*same, further))
        same.append(_same(column, f"m{number}", nulls[number]))
    return sa.or_(*ways) if ways else sa.false()


def _same(column: str, parameter: str, null: bool) -> ColumnElement[bool]:
    if null:
        return images.c[column].is_(None)
    return images.c[column] == sa.bindparam(parameter, required=True)


def _further(column: str, direction: str, parameter: str, null: bool) -> ColumnElement[bool] | None:
    if null:
        return images.c[column].is_not(None) if direction == "asc" else None
    value: ColumnElement[Any] = sa.bindparam(parameter, required=True)
    if direction == "asc":
        return images.c[column] > value
    smaller = images.c[column] < value
    return sa.or_(smaller, images.c[column].is_(None)) if column in NULLABLE else smaller
