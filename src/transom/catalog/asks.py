"""A page that is asked for, in the words that statements are made of."""

from __future__ import annotations

from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import ColumnElement

from transom.catalog.filters import Term
from transom.catalog.orders import Nulls, Sort
from transom.catalog.visibility import member_id


class Ask(NamedTuple):
    """All but the values decides which statement answers it."""

    dialect: str
    caller: str
    visibility: str | None
    member_status: str
    shelf: int
    with_gone: bool
    sort: Sort
    terms: tuple[Term, ...]
    values: dict[str, Any]
    marker: tuple[Any, ...] | None
    """The marker's values of the sort keys."""
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
    def shelves(self) -> tuple[int, ...]:
        """Where the images stand that can be in the list."""
        return (self.shelf, self.shelf + 2) if self.with_gone else (self.shelf,)

    @property
    def by_creation(self) -> bool:
        """True for the lists whose order the indexes under every visibility and owner have."""
        return self.sort[0][0] == "created_at"

    def bound(self) -> dict[str, Any]:
        """Every parameter of the statements: values of terms, `limit`, the marker's `m0` …"""
        values = dict(self.values)
        values["limit"] = self.limit
        for number, value in enumerate(self.marker or ()):
            values[f"m{number}"] = value
        return values

    def with_value(
        self, column: str, value: Any, marker: tuple[Any, ...] | None, limit: int
    ) -> Ask:
        """The list of those images that have one value of the first sort key."""
        term = Term("null" if value is None else "equal", column)
        return self._replace(
            sort=self.sort[1:],
            terms=(*self.terms, term),
            values={**self.values, f"f{len(self.terms)}": value},
            marker=marker,
            limit=limit,
        )

    def member(self) -> ColumnElement[Any]:
        """The column behind the image's own: the caller's project where it is a member."""
        return member_id() if self.caller in ("admin", "project") else sa.null()
