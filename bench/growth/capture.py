"""What the database does for an operation: its plans, and how much it had to touch.

PostgreSQL tells by auto_explain, for every statement as it was really run: prepared or not, with the
settings of the connection. SQLite tells the statements, which are explained afterwards, and counts the
instructions of its machine. Neither depends on how busy the computer is.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import event

from transom.catalog import Catalog

STEP = 10
"""SQLite's instructions are counted so many at a time."""

_EXPLAIN = (
    "LOAD 'auto_explain'",
    "SET auto_explain.log_min_duration = 0",
    "SET auto_explain.log_analyze = on",
    "SET auto_explain.log_timing = off",
    "SET auto_explain.log_buffers = on",
    "SET auto_explain.log_format = json",
    "SET auto_explain.log_level = notice",
)
_SKIPPED = ("PRAGMA", "SAVEPOINT", "RELEASE", "BEGIN", "COMMIT", "ROLLBACK", "--", "EXPLAIN")


@dataclass
class Done:
    """What one operation made the database do."""

    plans: list[tuple[str, ...]] = field(default_factory=list)
    """One for each statement: its nodes, indented, without costs and values."""
    rows: int = 0
    """PostgreSQL: rows that scans have read."""
    buffers: int = 0
    """PostgreSQL: pages that were looked at."""
    steps: int = 0
    """SQLite: instructions."""

    @property
    def work(self) -> int:
        """The measure of this database: pages or instructions."""
        return self.buffers or self.steps


class Capture:
    """Listens to the connections of a catalog from before its first question on."""

    def __init__(self, catalog: Catalog) -> None:
        engine = catalog.engine
        self._dialect = engine.dialect
        self._heard: list[dict[str, Any]] = []
        self._statements: list[str] = []
        self._steps = 0
        self._catalog = catalog
        # Every statement goes through a connection that is listened to.
        engine._ahead = None
        for each in (engine._reading, engine._writing):
            event.listen(each, "connect", self._listen)

    def _listen(self, connection: Any, _record: Any) -> None:
        if self._dialect == "sqlite":
            connection.set_trace_callback(self._statements.append)
            connection.set_progress_handler(self._step, STEP)
            return
        mode = connection.autocommit
        connection.autocommit = True
        for statement in _EXPLAIN:
            connection.execute(statement)
        connection.autocommit = mode
        connection.add_notice_handler(self._hear)

    def _step(self) -> int:
        self._steps += STEP
        return 0

    def _hear(self, notice: Any) -> None:
        text = notice.message_primary or ""
        if "plan:\n" in text:
            self._heard.append(json.loads(text.partition("plan:\n")[2]))

    def take(self) -> Done:
        """What was done since the last time."""
        heard, statements, steps = self._heard[:], self._statements[:], self._steps
        if self._dialect == "sqlite":
            done = Done(plans=self._explained(statements), steps=steps)
        else:
            done = Done(plans=[tuple(_nodes(each["Plan"])) for each in heard])
            done.rows = sum(_rows(each["Plan"]) for each in heard)
            done.buffers = sum(
                each["Plan"].get("Shared Hit Blocks", 0) + each["Plan"].get("Shared Read Blocks", 0)
                for each in heard
            )
        self._heard.clear()
        self._statements.clear()
        self._steps = 0
        return done

    def _explained(self, statements: list[str]) -> list[tuple[str, ...]]:
        asked = [each for each in statements if not each.lstrip().upper().startswith(_SKIPPED)]
        path = self._catalog.engine.url.database
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            return [tuple(_sqlite_plan(connection, statement)) for statement in asked]
        finally:
            connection.close()


def _sqlite_plan(connection: sqlite3.Connection, statement: str) -> Iterator[str]:
    depths = {0: 0}
    for number, parent, _, text in connection.execute(f"EXPLAIN QUERY PLAN {statement}"):
        depths[number] = depths.get(parent, 0) + 1
        yield "  " * (depths[number] - 1) + text


def _nodes(plan: dict[str, Any], depth: int = 0) -> Iterator[str]:
    words = [plan["Node Type"]]
    if plan.get("Operation"):
        words = [plan["Operation"]]
    if plan.get("Scan Direction") == "Backward":
        words.append("backward")
    if "Index Name" in plan:
        words.append(f"using {plan['Index Name']}")
    if "Relation Name" in plan:
        words.append(f"on {plan['Relation Name']}")
    if "Sort Key" in plan:
        keys = ", ".join(re.sub(r"\w+\.", "", key) for key in plan["Sort Key"])
        words.append(f"by {keys}")
    yield "  " * depth + " ".join(words)
    for below in plan.get("Plans", ()):
        yield from _nodes(below, depth + 1)


def _rows(plan: dict[str, Any]) -> int:
    found = 0
    if "Scan" in plan["Node Type"] and "Relation Name" in plan:
        read = plan.get("Actual Rows", 0) + plan.get("Rows Removed by Filter", 0)
        found = round(read * plan.get("Actual Loops", 1))
    return found + sum(_rows(below) for below in plan.get("Plans", ()))
