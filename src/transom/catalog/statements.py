"""Statements that are built once and then run on the driver itself.

SQLAlchemy writes the SQL; running it through SQLAlchemy would cost more than the database does
(150 µs instead of 67 µs for a page of 25 on SQLite). So this is for the hot paths: pages, single
images, creation. Values are ready for the driver: text, numbers, bytes, lists of text, and moments
made by `moment_value`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler, SQLiteDialect
from sqlalchemy.sql.expression import ClauseElement

from transom.catalog.rows import moment_value
from transom.catalog.schema import Moment


class _Hinted(SQLiteCompiler):
    """Writes the hints of a statement as SQLite's INDEXED BY."""

    def get_from_hint_text(self, table: Any, text: str | None) -> str | None:
        return f"INDEXED BY {text}"


class _HintedDialect(SQLiteDialect):
    statement_compiler = _Hinted
    supports_statement_cache = True


@functools.cache
def _dialect(name: str) -> Any:
    """How statements are written for a database."""
    if name == "sqlite":
        return _HintedDialect(paramstyle="qmark")
    # Here, so that SQLite deployments do not load what they have no use for.
    from sqlalchemy.dialects import postgresql

    # `format` for statements whose values are written into their text by the driver.
    style = "format" if name == "literal" else "numeric_dollar"
    return postgresql.dialect(paramstyle=style)  # type: ignore[no-untyped-call]


class Prepared:
    """One statement in one dialect. Its bound parameters are given by name.

    `stable` says that one plan is good for all values: PostgreSQL makes it once for each connection
    (the readers of `Engine` tell it to). Otherwise it gets the values as literals, quoted by the
    driver, and plans with them in hand: that costs half a millisecond, but without them it takes
    every tag for a common one, and every page for a tenth of the table (decision 0045).

    `brief` says that it looks one thing up by its key, so that others need not mind waiting for it.
    """

    __slots__ = ("_constants", "_cursor", "_names", "_prepare", "is_brief", "sql")

    def __init__(
        self, statement: ClauseElement, dialect: str, *, stable: bool = False, brief: bool = False
    ) -> None:
        literal = dialect == "postgresql" and not stable
        compiled: Any = statement.compile(dialect=_dialect("literal" if literal else dialect))
        self.sql = str(compiled)
        self.is_brief = brief
        self._names: tuple[str, ...] = tuple(compiled.positiontup or ())
        self._constants: dict[str, Any] = {
            name: value
            for name, value in compiled.params.items()
            if not compiled.binds[name].required
        }
        self._cursor = _cursor(dialect, literal=literal)
        self._prepare = None if literal else True

    @property
    def is_prepared(self) -> bool:
        """True where the database keeps a plan of it."""
        return self._prepare is True

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """The values that the driver is handed, in the order of the statement."""
        constants = self._constants
        return [constants[name] if name in constants else values[name] for name in self._names]

    def rows(self, connection: Connection, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """All rows of the answer, as the driver gives them."""
        arguments = self.arguments(values)
        driver: Any = connection.connection.driver_connection
        if self._cursor is None:
            cursor = driver.execute(self.sql, arguments)
        else:
            cursor = self._cursor(driver)
            # Times and numbers cost both sides less in binary, which only prepared statements have.
            cursor.execute(self.sql, arguments, prepare=self._prepare, binary=self._prepare)
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found


class Insert:
    """Writes rows of one table, given as the columns' names and values."""

    __slots__ = ("_columns", "_cursor", "_dialect", "_moments", "sql")

    def __init__(self, table: sa.Table, dialect: str) -> None:
        self._columns = [
            column.name
            for column in table.columns
            if column.computed is None and column is not table.autoincrement_column
        ]
        self._moments = {column.name for column in table.columns if isinstance(column.type, Moment)}
        values: dict[str, Any] = {name: sa.bindparam(name, required=True) for name in self._columns}
        compiled: Any = sa.insert(table).values(values).compile(dialect=_dialect(dialect))
        self.sql = str(compiled)
        self._columns = list(compiled.positiontup)
        self._dialect = dialect
        self._cursor = _cursor(dialect, literal=False)

    def run(self, connection: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write the rows; errors are the driver's own."""
        dialect, moments = self._dialect, self._moments
        values = [
            [
                moment_value(dialect, row[name])
                if name in moments and row[name] is not None
                else row[name]
                for name in self._columns
            ]
            for row in rows
        ]
        if not values:
            return
        driver: Any = connection.connection.driver_connection
        cursor = driver.cursor() if self._cursor is None else self._cursor(driver)
        if len(values) == 1:
            cursor.execute(self.sql, values[0])
        else:
            cursor.executemany(self.sql, values)


@functools.cache
def inserting(table: sa.Table, dialect: str) -> Insert:
    """The one Insert of a table."""
    return Insert(table, dialect)


def _cursor(dialect: str, *, literal: bool) -> Any:
    """What runs statements on a connection of psycopg; None for SQLite's own way."""
    if dialect != "postgresql":
        return None
    # Here, so that SQLite deployments do not load a driver that they have no use for.
    from psycopg import ClientCursor, RawCursor

    return ClientCursor if literal else RawCursor
