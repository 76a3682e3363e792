"""Pages: one list of images, from the question to its rows (API §5).

There are four ways to make a page, and decision 0021 tells when each is taken:

- *walk*: merge the sets that the caller sees, each in the order of its index, and stop when the
  page is full. The default list, and every list in order of creation that is not selective.
- *gather*: take all of a small set (a rare name, a project with few images), and sort it.
- *follow*: go along the index of the sort key, and skip what does not belong.
- *group*: sort keys with few values, such as the status, are lists in the order of the other keys,
  one value after the other.

Which sets are small is found by counting in the indexes up to a bound, because SQLite keeps no
statistics worth the name.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection

from transom.catalog.filters import Asked, Columns, Term, asked, term_condition
from transom.catalog.rows import COLUMNS, is_storable
from transom.catalog.schema import downwards, images, upwards
from transom.catalog.statements import Prepared
from transom.catalog.visibility import (
    PROJECT,
    caller_of,
    may_list,
    may_show,
    member_id,
    project_of,
    sets_of,
    word,
)
from transom.catalog.ways import (
    Shelf,
    Way,
    best_ordered,
    gone,
    meeting,
    on_shelf,
    open_to,
    owned_by,
    shared_with_caller,
)
from transom.errors import InvalidMarker, MarkerNotVisible
from transom.model.actor import Actor
from transom.model.image import GONE, Visibility
from transom.model.query import Direction, ImageQuery

NULLABLE = frozenset({"name", "container_format", "disk_format", "size"})
"""Sort keys that can be null."""
FEW_VALUES = frozenset({"status", "container_format", "disk_format"})
"""Sort keys that have so few values that each value is a list of its own."""

SMALL = 1000
"""Sets of fewer images than this are gathered: a millisecond or two, whatever else is asked."""
LARGE = 20_000
"""How far two large sets are counted to find the smaller one."""
HANDFUL = 2000
"""In a catalog of fewer images than this, walking is always good enough."""
COUNT_SECONDS = 30.0
"""How long the number of all images is believed."""
STATEMENTS_MAX = 2000

_FOLLOWED = {
    "name": "ix_images_name",
    "size": "ix_images_size",
    "updated_at": "ix_images_updated_at",
    "id": "sqlite_autoindex_images_1",
}
_GROUPED = {column: f"ix_images_{column}" for column in FEW_VALUES}

Sort = tuple[tuple[str, Direction], ...]
Nulls = tuple[bool, ...] | None


class Ask(NamedTuple):
    """A page that is asked for. All but the values decides which statement answers it."""

    caller: str
    visibility: str | None
    member_status: str
    shelf: int
    with_gone: bool
    sort: Sort
    terms: tuple[Term, ...]
    values: dict[str, Any]
    marker: tuple[Any, ...] | None
    limit: int

    @property
    def nulls(self) -> Nulls:
        """Which of the marker's values are null; None without a marker."""
        if self.marker is None:
            return None
        return tuple(value is None for value in self.marker)

    @property
    def shape(self) -> Any:
        """What the statements depend on."""
        return (
            self.caller, self.visibility, self.member_status, self.shelf, self.with_gone,
            self.sort, self.terms, self.nulls,
        )  # fmt: skip

    @property
    def shelves(self) -> tuple[Shelf, ...]:
        """Where the images stand that can be in the list."""
        return (self.shelf, None) if self.with_gone else (self.shelf,)

    def bound(self) -> dict[str, Any]:
        """Every parameter of the statements."""
        values = dict(self.values)
        values["limit"] = self.limit
        for number, value in enumerate(self.marker or ()):
            values[f"m{number}"] = value
        return values


class Pages:
    """Chooses how to make a page, builds the statements, keeps them, and runs them."""

    def __init__(self, dialect: str) -> None:
        self._dialect = dialect
        self._statements: dict[Any, Prepared] = {}
        self._count = 0
        self._counted_at = float("-inf")

    def rows(self, connection: Connection, query: ImageQuery, actor: Actor) -> list[Any]:
        """The rows of one page: COLUMNS and the member. Raises InvalidMarker, MarkerNotVisible."""
        sort = _significant(query.sort)
        marker = None
        if query.marker is not None:
            marker = self._marker(connection, query, sort, actor)
        found = asked(query, self._dialect)
        if query.limit <= 0 or found is None:
            return []
        return self._page(connection, self._ask(query, actor, sort, marker, found))

    def plan(self, connection: Connection, query: ImageQuery, actor: Actor) -> str:
        """The name of the way in which a first page would be made, and what leads it; for tests
        and for people who wonder."""
        found = asked(query, self._dialect)
        if found is None:
            return "nothing"
        ask = self._ask(query, actor, _significant(query.sort), None, found)
        return " ".join(map(str, self._plan(connection, ask)))

    def _ask(
        self,
        query: ImageQuery,
        actor: Actor,
        sort: Sort,
        marker: tuple[Any, ...] | None,
        found: Asked,
    ) -> Ask:
        caller = caller_of(actor)
        # A key that a filter pins to one value orders nothing.
        pinned = {term.column for term in found.terms if term.kind == "equal"}
        kept = [number for number, (column, _) in enumerate(sort) if column not in pinned]
        return Ask(
            caller=caller,
            visibility=query.visibility,
            member_status=query.member_status if caller == "project" else "all",
            shelf=int(query.os_hidden),
            with_gone=query.changed_since is not None,
            sort=tuple(sort[number] for number in kept) or (("id", "asc"),),
            terms=found.terms,
            values={**found.values, PROJECT: project_of(actor)},
            marker=marker
            if marker is None
            else tuple(marker[number] for number in kept) or (query.marker,),
            limit=query.limit,
        )

    # --- the choice --------------------------------------------------------------------------------

    def _page(self, connection: Connection, ask: Ask) -> list[Any]:
        way, *lead = self._plan(connection, ask)
        match way:
            case "nothing":
                return []
            case "gather":
                return self._run(connection, ask, ("gather", lead[0]))
            case "walk":
                return self._run(connection, ask, ("walk", lead[0]))
            case "group":
                return self._grouped(connection, ask)
        return self._followed(connection, ask)

    def _plan(self, connection: Connection, ask: Ask) -> tuple[Any, ...]:
        """`walk` led by a term or none, `gather` of a term or of what is visible, `follow`,
        `group`, `nothing`."""
        if not sets_of(ask.caller, ask.visibility, ask.member_status):
            return ("nothing",)
        by_creation = ask.sort[0][0] == "created_at"
        candidates = self._candidates(ask)
        if by_creation and not candidates:
            return ("walk", None)
        count = self._all(connection)
        if count <= HANDFUL:
            return ("walk", None) if by_creation else self._along(ask)
        counts = self._counts(connection, ask, candidates, SMALL, visible=not by_creation)
        smallest, lead = min((counted, name) for name, counted in counts.items())
        if smallest < SMALL:
            # What the walk would cost if the sets were independent of each other.
            left = float(count)
            for counted in counts.values():
                left *= (counted if counted < SMALL else max(SMALL, count / 10)) / count
            if ask.limit * count > left * smallest / 2:
                return ("gather", lead if lead >= 0 else None)
        if not by_creation:
            return self._along(ask)
        ordered = best_ordered(ask.terms)
        if len(ordered) > 1:
            counts = self._counts(connection, ask, ordered, LARGE, visible=False)
            ordered.sort(key=counts.__getitem__)
        return ("walk", ordered[0] if ordered else None)

    def _along(self, ask: Ask) -> tuple[Any, ...]:
        if ask.with_gone:
            return ("gather", None)
        return ("group",) if ask.sort[0][0] in FEW_VALUES else ("follow",)

    def _candidates(self, ask: Ask) -> list[int]:
        """Terms through whose index the images could be found. Creation time is not among them in
        a list by creation: there it only says where the walk begins and ends."""
        by_creation = ask.sort[0][0] == "created_at"
        return [
            number
            for number, term in enumerate(ask.terms)
            if not (by_creation and term.column == "created_at")
            and meeting(term, number, self._dialect, ask.shelf) is not None
        ]

    def _counts(
        self, connection: Connection, ask: Ask, terms: Sequence[int], bound: int, *, visible: bool
    ) -> dict[int, int]:
        """How many images each of the terms finds, and under -1 how many the caller sees; nothing
        is counted beyond the bound."""
        shape = ("counts", ask.shape, tuple(terms), bound, visible)
        statement = self._statements.get(shape)
        if statement is None:
            sets = [
                [
                    way
                    for shelf in ask.shelves
                    if (way := meeting(ask.terms[number], number, self._dialect, shelf))
                ]
                for number in terms
            ]
            if visible:
                sets.append([way for way, _ in self._visible(ask, None)])
            statement = self._keep(shape, sa.select(*(_bounded(ways, bound) for ways in sets)))
        row = statement.rows(connection, ask.bound())[0]
        return dict(zip([*terms, -1] if visible else terms, row, strict=True))

    def _all(self, connection: Connection) -> int:
        """About how many images there are, tombstones included; at least so many on SQLite."""
        now = time.monotonic()
        if now - self._counted_at > COUNT_SECONDS:
            statement = self._statements.get("all")
            if statement is None:
                text = (
                    "SELECT reltuples FROM pg_class WHERE oid = 'images'::regclass"
                    if self._dialect == "postgresql"
                    else "SELECT max(rowid) FROM images"
                )
                statement = self._keep("all", sa.text(text))
            self._count = int(statement.rows(connection, {})[0][0] or 0)
            if self._count < 0:
                # PostgreSQL has not looked at the table yet.
                self._count = HANDFUL + 1
            self._counted_at = now
        return self._count

    # --- walk and gather ---------------------------------------------------------------------------

    def _run(self, connection: Connection, ask: Ask, plan: tuple[str, int | None]) -> list[Any]:
        step = _rounded(ask.limit) if self._dialect == "postgresql" else None
        shape = (plan, ask.shape, step)
        statement = self._statements.get(shape)
        if statement is None:
            kind, lead = plan
            if kind == "walk":
                parts = self._visible(ask, lead)
            elif lead is None:
                parts, step = self._visible(ask, None), None
            else:
                parts, step = self._met(ask, lead), None
            statement = self._keep(shape, self._merged(ask, parts, step))
        return statement.rows(connection, ask.bound())

    def _visible(self, ask: Ask, lead: int | None) -> list[tuple[Way, list[ColumnElement[bool]]]]:
        """The sets that make up what the caller sees, which have no image in common, each with the
        conditions that its way leaves open. The sets of other projects' images go through the
        index of the leading term, if there is one."""
        owner = next(
            (n for n, term in enumerate(ask.terms) if term == Term("equal", "owner")), None
        )
        found = []
        for shelf in ask.shelves:
            for kind, value in sets_of(ask.caller, ask.visibility, ask.member_status):
                done = None
                if kind == "member":
                    way = shared_with_caller(value, shelf)
                elif kind == "own":
                    way = owned_by(PROJECT, value, shelf)
                elif owner is not None:
                    way, done = owned_by(f"f{owner}", value, shelf), owner
                else:
                    way = open_to(value, shelf)
                    if lead is not None:
                        led = meeting(ask.terms[lead], lead, self._dialect, shelf, value)
                        way, done = (way, None) if led is None else (led, lead)
                found.append((way, self._rest(ask, way, shelf, done)))
        return found

    def _met(self, ask: Ask, lead: int) -> list[tuple[Way, list[ColumnElement[bool]]]]:
        """The images that meet a term, of those that the caller sees."""
        found = []
        for shelf in ask.shelves:
            way = meeting(ask.terms[lead], lead, self._dialect, shelf)
            if way is not None:
                rest = self._rest(ask, way, shelf, lead)
                rest.append(may_list(ask.caller, ask.visibility, ask.member_status))
                found.append((way, rest))
        return found

    def _rest(
        self, ask: Ask, way: Way, shelf: Shelf, done: int | None
    ) -> list[ColumnElement[bool]]:
        rest = [
            term_condition(term, f"f{number}", self._dialect, way.column)
            for number, term in enumerate(ask.terms)
            if number != done
        ]
        if shelf is None:
            rest.append(gone(bool(ask.shelf)))
        return rest

    def _merged(
        self,
        ask: Ask,
        parts: Sequence[tuple[Way, list[ColumnElement[bool]]]],
        step: int | None,
    ) -> sa.Select[Any]:
        """One page out of sets without an image in common. Ids and sort keys first, the rows of
        the page afterwards. `step` ends each set in PostgreSQL; SQLite merges them row by row."""
        selects = []
        for way, rest in parts:
            keys = [way.column(column).label(f"k{n}") for n, (column, _) in enumerate(ask.sort)]
            select = way.select(*keys, way.column("id").label("image_id")).where(*rest)
            if ask.nulls is not None:
                select = select.where(after(ask.sort, ask.nulls, way.column))
            if step is not None:
                select = select.order_by(*order(ask.sort, way.column)).limit(
                    sa.literal_column(str(step), sa.Integer)
                )
            selects.append(select)
        union: Any = selects[0] if len(selects) == 1 else sa.union_all(*selects)
        given = union.selected_columns
        page = (
            union.order_by(*order(ask.sort, _keys(ask.sort, given)))
            .limit(sa.bindparam("limit", required=True))
            .subquery("page")
        )
        return (
            sa.select(*COLUMNS, self._member(ask.caller))
            .select_from(page.join(images, images.c.id == page.c.image_id))
            .with_hint(images, "sqlite_autoindex_images_1", "sqlite")
            .order_by(*order(ask.sort, _keys(ask.sort, page.c)))
        )

    def _member(self, caller: str) -> ColumnElement[Any]:
        return member_id() if caller in ("admin", "project") else sa.null()

    # --- follow and group --------------------------------------------------------------------------

    def _followed(self, connection: Connection, ask: Ask) -> list[Any]:
        found: list[Any] = []
        for stretch in _stretches(ask):
            shape = ("follow", ask.shape, stretch)
            statement = self._statements.get(shape)
            if statement is None:
                statement = self._keep(shape, self._follow(ask, stretch))
            values = ask.bound() | {"limit": ask.limit - len(found)}
            found += statement.rows(connection, values)
            if len(found) == ask.limit:
                break
        return found

    def _follow(self, ask: Ask, stretch: str) -> sa.Select[Any]:
        column, direction = ask.sort[0]
        nulls = ask.nulls
        where = [
            on_shelf(images, ask.shelf),
            *(
                term_condition(term, f"f{number}", self._dialect)
                for number, term in enumerate(ask.terms)
            ),
            may_list(ask.caller, ask.visibility, ask.member_status),
        ]
        key = images.c[column]
        match stretch:
            case "same":
                assert nulls is not None
                where.append(_same(key, "m0", nulls[0]))
                where.append(after(ask.sort[1:], nulls[1:], images.c.__getitem__, first=1))
            case "further":
                value: ColumnElement[Any] = sa.bindparam("m0", required=True)
                where.append(key > value if direction == "asc" else key < value)
            case "null":
                where.append(key.is_(None))
            case "not null":
                where.append(key.is_not(None))
        return (
            sa.select(*COLUMNS, self._member(ask.caller))
            .select_from(images)
            .with_hint(images, _FOLLOWED[column], "sqlite")
            .where(*where)
            .order_by(*order(ask.sort, images.c.__getitem__))
            .limit(sa.bindparam("limit", required=True))
        )

    def _grouped(self, connection: Connection, ask: Ask) -> list[Any]:
        (column, _), *rest = ask.sort
        number = len(ask.terms)
        found: list[Any] = []
        for value, is_markers in self._groups(connection, ask):
            equal = Term("null" if value is None else "equal", column)
            group = ask._replace(
                sort=tuple(rest),
                terms=(*ask.terms, equal),
                values={**ask.values, f"f{number}": value},
                marker=ask.marker[1:] if ask.marker is not None and is_markers else None,
                limit=ask.limit - len(found),
            )
            found += self._page(connection, group)
            if len(found) >= ask.limit:
                break
        return found

    def _groups(self, connection: Connection, ask: Ask) -> Iterator[tuple[str | None, bool]]:
        """The values of the first sort key in their order, from the marker's on."""
        column, direction = ask.sort[0]
        nullable = column in NULLABLE
        value: str | None = None
        if ask.marker is not None:
            value = ask.marker[0]
            yield value, True
            if value is None and direction == "desc":
                return
        elif direction == "asc" and nullable:
            yield None, False
        while True:
            value = self._next(connection, ask, value)
            if value is None:
                break
            yield value, False
        if direction == "desc" and nullable:
            yield None, False

    def _next(self, connection: Connection, ask: Ask, value: str | None) -> str | None:
        column, direction = ask.sort[0]
        shape = ("next", column, direction, ask.shelf, value is None)
        statement = self._statements.get(shape)
        if statement is None:
            key = images.c[column]
            statement = self._keep(
                shape,
                sa.select(
                    *(
                        _extreme(key, direction, ask.shelf, visibility, first=value is None)
                        for visibility in Visibility
                    )
                ),
            )
        found = statement.rows(connection, {"value": value})[0]
        values = [each for each in found if each is not None]
        if not values:
            return None
        return str(min(values) if direction == "asc" else max(values))

    # --- the marker --------------------------------------------------------------------------------

    def _marker(
        self, connection: Connection, query: ImageQuery, sort: Sort, actor: Actor
    ) -> tuple[Any, ...]:
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
        return tuple(values)

    def _keep(self, shape: Any, statement: sa.sql.expression.ClauseElement) -> Prepared:
        if len(self._statements) >= STATEMENTS_MAX:
            self._statements.clear()
        prepared = self._statements[shape] = Prepared(statement, self._dialect)
        return prepared


def _significant(sort: Sort) -> Sort:
    """The keys that decide: each column once, none after the id, which is unique."""
    keys: dict[str, Direction] = {}
    for column, direction in sort:
        keys.setdefault(column, direction)
        if column == "id":
            break
    return tuple(keys.items())


def _rounded(limit: int) -> int:
    """A length of pages that many limits share, so that they share a statement."""
    for length in (1, 10, 25, 50, 100, 250, 500, 1000):
        if limit <= length:
            return length
    return limit


def _bounded(ways: Sequence[Way], bound: int) -> ColumnElement[Any]:
    """The size of a set, or the bound if it is smaller."""
    parts = [way.some() for way in ways]
    some: Any = parts[0] if len(parts) == 1 else sa.union_all(*parts)
    limited = some.limit(sa.literal_column(str(bound), sa.Integer)).subquery()
    return sa.select(sa.func.count()).select_from(limited).scalar_subquery()


def _extreme(
    key: ColumnElement[Any], direction: str, shelf: int, visibility: str, *, first: bool
) -> ColumnElement[Any]:
    """The next value of a key under one visibility; null when there is none."""
    ascending = direction == "asc"
    select = (
        sa.select(sa.func.min(key) if ascending else sa.func.max(key))
        .select_from(images)
        .with_hint(images, _GROUPED[key.name], "sqlite")
        .where(on_shelf(images, shelf), images.c.visibility == word(visibility))
    )
    if first:
        return select.where(key.is_not(None)).scalar_subquery()
    value: ColumnElement[Any] = sa.bindparam("value", required=True)
    return select.where(key > value if ascending else key < value).scalar_subquery()


def _keys(sort: Sort, given: Any) -> Columns:
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
    if sort and len({direction for _, direction in sort}) == 1 and not _any_nullable(sort):
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
        same.append(_same(column, parameter, nulls[number]))
    return sa.or_(*ways) if ways else sa.false()


def _any_nullable(sort: Sort) -> bool:
    return any(name in NULLABLE for name, _ in sort)


def _same(column: ColumnElement[Any], parameter: str, null: bool) -> ColumnElement[bool]:
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


def _stretches(ask: Ask) -> Iterator[str]:
    """The parts of an index that a page runs through, in their order, from the marker on."""
    column, direction = ask.sort[0]
    if ask.nulls is None:
        yield "all"
        return
    null = ask.nulls[0]
    if len(ask.sort) > 1:
        yield "same"
    if null:
        if direction == "asc":
            yield "not null"
        return
    yield "further"
    if direction == "desc" and column in NULLABLE:
        yield "null"
