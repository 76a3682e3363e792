"""What a query asks of an image, as conditions in SQL (API §5.2).

A query becomes a list of terms, its shape, and their values. Statements depend on the shape alone,
so that they are built once; the values are bound.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import ColumnElement

from transom.catalog.rows import digest_of, is_storable
from transom.catalog.schema import (
    EPOCH,
    INTEGER_MAX,
    MICROSECOND,
    image_properties,
    image_tags,
    images,
)
from transom.model.image import GONE, Status
from transom.model.query import ImageQuery, TimeFilter

_SECOND = 1_000_000
_MOMENT_MIN = (dt.datetime.min.replace(tzinfo=dt.UTC) - EPOCH) // MICROSECOND
_MOMENT_MAX = (dt.datetime.max.replace(tzinfo=dt.UTC) - EPOCH) // MICROSECOND
# Names of their own, because a statement may start from these tables too.
_tag = image_tags.alias("carried")
_property = image_properties.alias("had")
_UNLISTED = {str(Status.KILLED), *map(str, GONE)}


class Term(NamedTuple):
    """One condition without its value. `kind` is one of: equal, null, among, at_least, at_most,
    from, until, outside, tag, property."""

    kind: str
    column: str = ""


class Asked(NamedTuple):
    """The conditions of a query: `terms` is their shape, `values` what is bound to the parameters
    `f0`, `f1` … (`f0x` is the second value of a term that has two)."""

    terms: tuple[Term, ...]
    values: dict[str, Any]


class _Nothing(Exception):
    """The query can match no image."""


def asked(query: ImageQuery, dialect: str) -> Asked | None:
    """The conditions of the query, or None when no image can meet them."""
    if query.matches_nothing:
        return None
    try:
        return _Asking(dialect).ask(query)
    except _Nothing:
        return None


class _Asking:
    def __init__(self, dialect: str) -> None:
        self._postgresql = dialect == "postgresql"
        self._terms: list[Term] = []
        self._values: dict[str, Any] = {}

    def ask(self, query: ImageQuery) -> Asked:
        for column, value in query.equals:
            self._equal(query, column, value)
        for column, values in query.one_of:
            self._among(query, column, values)
        for column, number in query.integers:
            if not -INTEGER_MAX <= number <= INTEGER_MAX:
                raise _Nothing
            self._add(Term("equal", column), number)
        for bound in query.ranges:
            self._range(bound.column, bound.bound, bound.value)
        for time in query.times:
            self._time(time)
        if query.changed_since is not None:
            self._from("updated_at", (query.changed_since - EPOCH) // MICROSECOND)
        for tag in dict.fromkeys(query.tags):
            self._add(Term("tag"), _stored(tag))
        for name, value in query.properties:
            digest = digest_of(_stored(name), _stored(value))
            self._add(Term("property"), digest, name)
        if query.protected is not None:
            self._add(Term("equal", "protected"), query.protected)
        return Asked(tuple(self._terms), self._values)

    def _add(self, term: Term, *values: Any) -> None:
        number = len(self._terms)
        self._terms.append(term)
        for suffix, value in zip(("", "x"), values, strict=False):
            self._values[f"f{number}{suffix}"] = value

    def _equal(self, query: ImageQuery, column: str, value: str) -> None:
        if column == "status" and not _listed(query, value):
            raise _Nothing
        self._add(Term("equal", column), _stored(value))

    def _among(self, query: ImageQuery, column: str, values: Iterable[str]) -> None:
        wanted = [value for value in dict.fromkeys(values) if is_storable(value)]
        if column == "status":
            wanted = [value for value in wanted if _listed(query, value)]
        if not wanted:
            raise _Nothing
        self._add(Term("among", column), wanted if self._postgresql else json.dumps(wanted))

    def _range(self, column: str, bound: str, value: int) -> None:
        if bound == "min":
            if value > INTEGER_MAX:
                raise _Nothing
            self._add(Term("at_least", column), max(value, -INTEGER_MAX))
        else:
            if value < -INTEGER_MAX:
                raise _Nothing
            self._add(Term("at_most", column), min(value, INTEGER_MAX))

    def _time(self, time: TimeFilter) -> None:
        """Compare the whole seconds that clients are shown, in a form that an index serves."""
        moment = (time.moment - EPOCH) // MICROSECOND
        second = moment - moment % _SECOND
        whole = second == moment
        column, following = time.column, second + _SECOND
        match time.operator:
            case "gte":
                self._from(column, second if whole else following)
            case "gt":
                self._from(column, following)
            case "lt":
                self._until(column, second if whole else following)
            case "lte":
                self._until(column, following)
            case "eq":
                if not whole:
                    raise _Nothing
                self._from(column, second)
                self._until(column, following)
            case "neq":
                if whole and second >= _MOMENT_MIN and following <= _MOMENT_MAX:
                    self._add(
                        Term("outside", column), self._moment(second), self._moment(following)
                    )
                elif whole and second <= _MOMENT_MAX < following:
                    self._until(column, second)

    def _from(self, column: str, moment: int) -> None:
        if moment > _MOMENT_MAX:
            raise _Nothing
        if moment > _MOMENT_MIN:
            self._add(Term("from", column), self._moment(moment))

    def _until(self, column: str, moment: int) -> None:
        if moment <= _MOMENT_MIN:
            raise _Nothing
        if moment <= _MOMENT_MAX:
            self._add(Term("until", column), self._moment(moment))

    def _moment(self, microseconds: int) -> Any:
        if self._postgresql:
            return EPOCH + dt.timedelta(microseconds=microseconds)
        return microseconds


def _stored(text: str) -> str:
    if not is_storable(text):
        raise _Nothing
    return text


def _listed(query: ImageQuery, status: str) -> bool:
    """True when a list can hold images of this status."""
    if query.changed_since is not None and status in GONE:
        return True
    return status not in _UNLISTED


Columns = Callable[[str], ColumnElement[Any]]
"""Where a condition finds a column of the image: its row, or a table that repeats the column."""


def term_condition(
    term: Term, parameter: str, dialect: str, column_of: Columns = images.c.__getitem__
) -> ColumnElement[bool]:
    """The term as a condition on `images`; the parameters are those of `Asked.values`."""
    first: ColumnElement[Any] = sa.bindparam(parameter, required=True)
    second: ColumnElement[Any] = sa.bindparam(f"{parameter}x", required=True)
    match term.kind:
        case "tag":
            return _is_there(
                dialect, column_of("id"), _tag.c.image_id == column_of("id"), _tag.c.tag == first
            )
        case "property":
            return _is_there(
                dialect,
                column_of("id"),
                _property.c.image_id == column_of("id"),
                _property.c.name == second,
                _property.c.digest == first,
            )
    column = column_of(term.column)
    match term.kind:
        case "equal":
            return column == first
        case "null":
            return column.is_(None)
        case "among":
            return among(column, parameter, dialect)
        case "at_least" | "from":
            return column >= first
        case "at_most":
            return column <= first
        case "until":
            return column < first
        case "outside":
            return sa.or_(column < first, column >= second)
    raise AssertionError(term.kind)


def _is_there(
    dialect: str, id_: ColumnElement[Any], *where: ColumnElement[bool]
) -> ColumnElement[bool]:
    row: sa.Select[Any] = sa.select(sa.literal_column("1")).where(*where).correlate(id_.table)
    if dialect == "postgresql":
        # OFFSET 0 keeps it a question about one image. PostgreSQL would make a join of it, and
        # read every image with the tag to answer for ten.
        row = row.offset(sa.literal_column("0"))
    return row.exists()


def among(column: ColumnElement[Any], parameter: str, dialect: str) -> ColumnElement[bool]:
    """The column holds one of the texts in the parameter: one statement for lists of any length."""
    texts: ColumnElement[Any] = sa.bindparam(parameter, required=True)
    if dialect == "postgresql":
        return column == sa.func.any(sa.cast(texts, sa.ARRAY(sa.Text)))
    each = sa.func.json_each(texts).table_valued("value")
    return column.in_(sa.select(each.c.value))
