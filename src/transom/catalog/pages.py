"""Pages: one list of images, from the question to its rows (API §5).

There are three ways to make a page, and decision 0045 tells when each is taken:

- *walk*: merge the sets that the caller sees, each in the order of its index, and stop when the
  page is full. The default list, and every list in order of creation that is not selective.
- *gather*: take a small set as a whole (a rare name, a project with few images), and sort it.
- *follow*: go along the index of the sort key, and skip what does not belong.

Which sets are small is found by counting in the indexes up to a bound, because SQLite keeps no
statistics worth the name.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterable
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection

from transom.catalog.asks import Ask
from transom.catalog.engine import Engine
from transom.catalog.filters import Asked, Term, asked
from transom.catalog.following import FOLLOWED, Stretch, followed, stretches
from transom.catalog.merging import count_up_to, in_order, meeting_term, merged, reach, visible
from transom.catalog.orders import Sort, is_creation, significant
from transom.catalog.recent import Recent
from transom.catalog.rows import is_storable
from transom.catalog.schema import images
from transom.catalog.statements import Prepared
from transom.catalog.visibility import PROJECT, caller_of, may_show, project_of, sets_of
from transom.catalog.ways import best_ordered, is_steady, meeting
from transom.errors import InvalidMarker, MarkerNotVisible
from transom.model.actor import Actor
from transom.model.image import GONE
from transom.model.query import ImageQuery

SMALL = 1000
"""Sets of fewer images than this are gathered: a millisecond or two, whatever else is asked."""
FEW = 100
"""The same for terms whose index can lead a walk."""
SAMPLE = 200
"""How many images of large sets are passed to see which of them lie furthest apart."""
HANDFUL = 2000
"""In a catalog of fewer images than this, walking and following are always good enough."""
COUNT_SECONDS = 30.0
"""How long the sizes of sets are believed."""
COUNTS_MAX = 10_000
STATEMENTS_MAX = 2000

_NAMED = Term("equal", "name")

T = TypeVar("T")


class Step(NamedTuple):
    """What a page needs to know next: the rows of a statement."""

    statement: Prepared
    values: dict[str, Any]


class Stay(NamedTuple):
    """What a page needs next is many statements in a row, on one connection."""

    work: Callable[[Connection], list[Any]]


Steps = Generator[Step | Stay, list[Any], T]
"""Asks for what it needs, is sent the rows, and gives a result at its end."""


def taken(steps: Steps[T], connection: Connection) -> T:
    """The result of the steps, all taken on one connection."""
    # What begins a generator is sending it nothing.
    answer: Any = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result
        if isinstance(step, Stay):
            answer = step.work(connection)
        else:
            answer = step.statement.rows(connection, step.values)


async def made(make: Callable[[], Steps[T]], engine: Engine) -> T:
    """The result of the steps that `make` begins: without a thread while all of them are quick,
    else from the beginning in one. Raises CatalogUnavailable and what the steps raise."""
    steps = make()
    answer: Any = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result
        answer = None if isinstance(step, Stay) else await engine.ahead(step.statement, step.values)
        if answer is None:
            steps.close()
            return await engine.read(lambda connection: taken(make(), connection))


class Pages:
    """Chooses how to make a page, builds the statements, and keeps them."""

    def __init__(self, dialect: str) -> None:
        self._dialect = dialect
        self._statements: dict[Any, Prepared] = {}
        self._recent = Recent(COUNT_SECONDS, COUNTS_MAX)

    def rows(self, connection: Connection, query: ImageQuery, actor: Actor) -> list[Any]:
        """The rows of one page: COLUMNS and the member. Raises InvalidMarker, MarkerNotVisible."""
        return taken(self.steps(query, actor), connection)

    def steps(self, query: ImageQuery, actor: Actor) -> Steps[list[Any]]:
        """What it takes to make one page. Raises InvalidMarker, MarkerNotVisible."""
        sort = significant(query.sort)
        marker = None
        if query.marker is not None:
            marker = yield from self._marker(query, sort, actor)
        found = asked(query, self._dialect)
        if query.limit <= 0 or found is None:
            return []
        return (yield from self._page(self._ask(query, actor, sort, marker, found)))

    def plan(self, connection: Connection, query: ImageQuery, actor: Actor) -> str:
        """The way in which the first page would be made, and the number of the term that leads
        it; for tests, and for people who wonder."""
        found = asked(query, self._dialect)
        if found is None:
            return "nothing"
        ask = self._ask(query, actor, significant(query.sort), None, found)
        return " ".join(map(str, taken(self._plan(ask), connection)))

    def _ask(
        self,
        query: ImageQuery,
        actor: Actor,
        sort: Sort,
        marker: tuple[Any, ...] | None,
        found: Asked,
    ) -> Ask:
        caller = caller_of(actor)
        # A key that a filter pins to one value orders nothing. The id stays: every order ends in it.
        pinned = {term.column for term in found.terms if term.kind == "equal"} - {"id"}
        kept = [number for number, (column, _) in enumerate(sort) if column not in pinned]
        return Ask(
            dialect=self._dialect,
            caller=caller,
            visibility=query.visibility,
            member_status=query.member_status if caller == "project" else "all",
            shelf=int(query.os_hidden),
            with_gone=query.changed_since is not None,
            sort=tuple(sort[number] for number in kept),
            terms=found.terms,
            values={**found.values, PROJECT: project_of(actor)},
            marker=marker if marker is None else tuple(marker[number] for number in kept),
            limit=query.limit,
        )

    def _page(self, ask: Ask) -> Steps[list[Any]]:
        way, lead = yield from self._plan(ask)
        if way == "nothing":
            return []
        if way == "follow":
            return (yield Stay(lambda connection: self._follow(connection, ask)))
        # The index of names is in the order of a page too, so that is a walk of one set.
        walks = way == "walk" or (
            ask.by_creation and lead is not None and ask.terms[lead] == _NAMED
        )
        # A length that many limits share, so that they share the statement.
        step = _rounded(ask.limit) if walks and self._dialect == "postgresql" else None

        def build() -> sa.Select[Any]:
            if way == "walk" or lead is None:
                return merged(ask, visible(ask, lead), step)
            return merged(ask, meeting_term(ask, lead), step)

        found = yield self._step(
            (way, lead, step, ask.shape),
            build,
            ask.bound(),
            stable=walks and is_steady(ask.terms, lead),
        )
        return in_order(ask, found)[: ask.limit]

    def _follow(self, connection: Connection, ask: Ask) -> list[Any]:
        column = ask.sort[0][0]
        found: list[Any] = []

        def run(shape: Any, build: Callable[[], sa.Select[Any]], values: dict[str, Any]) -> Any:
            return self._run(connection, shape, build, values, stable=True)

        for stretch in stretches(ask, run):
            found += self._stretch(connection, ask, column, stretch, ask.limit - len(found))
            if len(found) >= ask.limit:
                break
        return found

    def _stretch(
        self, connection: Connection, ask: Ask, column: str, stretch: Stretch, limit: int
    ) -> list[Any]:
        if stretch.is_one_value:
            marker = ask.marker[1:] if ask.marker and stretch.after_marker else None
            if column not in FOLLOWED or not is_creation(ask.sort[1:]):
                page = self._page(ask.with_value(column, stretch.value, marker, limit))
                return taken(page, connection)
            part = ask._replace(sort=ask.sort[1:], marker=marker, limit=limit)
        else:
            part = ask._replace(marker=None, limit=limit)
        return self._run(
            connection,
            ("follow", column, stretch.kind, part.shape),
            lambda: followed(part, stretch, column),
            part.bound() | stretch.values,
        )

    # --- the choice --------------------------------------------------------------------------------

    def _plan(self, ask: Ask) -> Steps[tuple[str, int | None]]:
        """`walk`, led by the index of a term or by none; `gather` what meets a term, or all that
        is visible; `follow`; or `nothing`."""
        if not sets_of(ask.caller, ask.visibility, ask.member_status):
            return "nothing", None
        along: tuple[str, int | None]
        if not ask.by_creation:
            # Only the sets of a walk, and what is gathered, are on two shelves.
            along = ("gather" if ask.with_gone else "follow"), None
        elif _NAMED in ask.terms:
            along = "gather", ask.terms.index(_NAMED)
        else:
            along = "walk", None
        bounds = self._bounds(ask)
        count = (yield from self._all()) if bounds else 0
        if count > HANDFUL:
            counts = yield from self._recent.answer(
                ("counts", tuple(bounds.values()), _sets(ask, bounds)),
                lambda: self._counts(ask, bounds),
            )
            small = [(n, number) for number, n in counts.items() if n < bounds[number]]
            if small:
                smallest, lead = min(small)
                # How many would be left if the sets were independent of each other.
                left = float(count)
                for number, n in counts.items():
                    left *= (n if n < bounds[number] else max(n, count / 10)) / count
                if ask.limit * count > left * smallest / 2:
                    return "gather", lead if lead >= 0 else None
        if along == ("walk", None):
            return "walk", (yield from self._sparsest(ask))
        return along

    def _bounds(self, ask: Ask) -> dict[int, int]:
        """Terms through whose index the images could be found, with the size up to which it may be
        worth while; under -1 all that the caller sees."""
        found = {}
        for number, term in enumerate(ask.terms):
            if ask.by_creation:
                if term.column == "created_at" or term == _NAMED:
                    continue
                # Leading a walk is as good, unless there are very few: then the caller's own
                # images, which no term leads, may be many more.
                if term.kind in ("tag", "property"):
                    found[number] = FEW
                    continue
                if number in best_ordered(ask.terms):
                    continue
            if meeting(term, number, self._dialect, ask.shelf) is not None:
                found[number] = SMALL
        if not ask.by_creation:
            found[-1] = SMALL
        return found

    def _counts(self, ask: Ask, bounds: dict[int, int]) -> Steps[dict[int, int]]:
        """How many images each of the terms finds and, under -1, how many the caller sees; nothing
        is counted beyond its bound."""

        def build() -> sa.Select[Any]:
            sets = []
            for number in bounds:
                if number < 0:
                    sets.append([way for way, _ in visible(ask, None)])
                    continue
                ways = (
                    meeting(ask.terms[number], number, self._dialect, shelf)
                    for shelf in ask.shelves
                )
                sets.append([way for way in ways if way is not None])
            return sa.select(
                *(
                    count_up_to(ways, bound)
                    for ways, bound in zip(sets, bounds.values(), strict=True)
                )
            )

        rows = yield self._step(("counts", ask.shape), build, ask.bound(), stable=True)
        return dict(zip(bounds, rows[0], strict=True))

    def _sparsest(self, ask: Ask) -> Steps[int | None]:
        """Of the terms that can lead a walk, the one whose images lie furthest apart: the same
        number of them reaches furthest from the beginning of the list."""
        ordered = best_ordered(ask.terms)
        opened = [
            visibility
            for kind, visibility in sets_of(ask.caller, ask.visibility, ask.member_status)
            if kind == "open"
        ]
        if len(ordered) < 2 or not opened:
            return ordered[0] if ordered else None

        def build() -> sa.Select[Any]:
            ways = [
                meeting(ask.terms[number], number, self._dialect, ask.shelf, opened[0])
                for number in ordered
            ]
            return sa.select(*(reach(ask, way, SAMPLE) for way in ways if way is not None))

        def find() -> Steps[Any]:
            return (yield self._step(("sparsest", ask.shape), build, ask.bound(), stable=True))[0]

        reached = yield from self._recent.answer(
            ("sparsest", opened[0], ask.sort[0][1], _sets(ask, ordered)), find
        )
        furthest = None
        if None not in reached:
            furthest = min(reached) if ask.sort[0][1] == "desc" else max(reached)
        return next(
            number for number, each in zip(ordered, reached, strict=True) if each == furthest
        )

    def _all(self) -> Steps[int]:
        """About how many images there are, tombstones included."""
        text = (
            "SELECT reltuples FROM pg_class WHERE oid = 'images'::regclass"
            if self._dialect == "postgresql"
            else "SELECT max(rowid) FROM images"
        )

        def find() -> Steps[int]:
            count = (yield self._step("all", lambda: sa.text(text), {}, stable=True))[0][0]
            # PostgreSQL says -1 before it has looked at the table for the first time.
            return HANDFUL + 1 if count == -1 else int(count or 0)

        return (yield from self._recent.answer("all", find))

    # --- the marker, and statements -----------------------------------------------------------------

    def _marker(self, query: ImageQuery, sort: Sort, actor: Actor) -> Steps[tuple[Any, ...]]:
        """The marker's values of the sort keys."""
        marker = query.marker or ""
        if not is_storable(marker):
            raise InvalidMarker(marker)
        caller = caller_of(actor)

        def build() -> sa.Select[Any]:
            return sa.select(
                images.c.status, may_show(caller), *(images.c[key] for key, _ in sort)
            ).where(images.c.id == sa.bindparam("id", required=True))

        values = {"id": marker, PROJECT: project_of(actor)}
        rows = yield self._step(("marker", caller, sort), build, values, stable=True)
        if not rows:
            raise InvalidMarker(marker)
        status, is_visible, *found = rows[0]
        if status in GONE and query.changed_since is None:
            raise InvalidMarker(marker)
        if not is_visible:
            raise MarkerNotVisible(marker)
        return tuple(found)

    def _run(
        self,
        connection: Connection,
        shape: Any,
        build: Callable[[], Any],
        values: dict[str, Any],
        *,
        stable: bool = False,
    ) -> list[Any]:
        step = self._step(shape, build, values, stable=stable)
        return step.statement.rows(connection, step.values)

    def _step(
        self,
        shape: Any,
        build: Callable[[], Any],
        values: dict[str, Any],
        *,
        stable: bool = False,
    ) -> Step:
        statement = self._statements.get(shape)
        if statement is None:
            if len(self._statements) >= STATEMENTS_MAX:
                self._statements.clear()
            statement = self._statements[shape] = Prepared(build(), self._dialect, stable=stable)
        return Step(statement, values)


def _sets(ask: Ask, numbers: Iterable[int]) -> Hashable:
    """What the size of sets depends on: terms with their values and, for -1, the caller."""
    found: list[Hashable] = [ask.shelves]
    for number in numbers:
        if number < 0:
            found += (ask.caller, ask.values[PROJECT], ask.visibility, ask.member_status)
            continue
        values = (ask.values.get(f"f{number}"), ask.values.get(f"f{number}x"))
        found += (number, ask.terms[number])
        found += (tuple(value) if isinstance(value, list) else value for value in values)
    return tuple(found)


def _rounded(limit: int) -> int:
    for length in (1, 10, 25, 50, 100, 250, 500, 1000):
        if limit <= length:
            return length
    return limit
