"""The numbers of one run, and the table that is printed of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

COLUMNS = ("transom", "glance", "limit", "sqlite", "limit-sqlite")
"""Sides as they stand in the table; the ratios are worked out from the first three."""


@dataclass(slots=True)
class Line:
    """One kind of work: what each side did, in one unit."""

    group: str
    title: str
    unit: str
    is_higher_better: bool
    values: dict[str, float] = field(default_factory=dict)
    waits_ms: dict[str, tuple[float, float]] = field(default_factory=dict)
    """How long answers took with four clients at once: median and 99th percentile."""
    costs_ms: dict[str, float] = field(default_factory=dict)
    """Processor time of one answer, the database's included."""

    def ratio(self, side: str, other: str) -> float | None:
        """How many times better `side` is than `other`; None without both."""
        ours, theirs = self.values.get(side), self.values.get(other)
        if not ours or not theirs:
            return None
        return ours / theirs if self.is_higher_better else theirs / ours


class Results:
    """All lines, in the order in which they were first named."""

    def __init__(self) -> None:
        self.lines: dict[tuple[str, str, str], Line] = {}
        self.facts: dict[str, str] = {}
        self.problems: list[str] = []

    def put(
        self,
        group: str,
        title: str,
        unit: str,
        side: str,
        value: float,
        *,
        is_higher_better: bool = True,
    ) -> Line:
        """Note what `side` did; the line of the table."""
        line = self.lines.setdefault(
            (group, title, unit), Line(group, title, unit, is_higher_better)
        )
        line.values[side] = value
        return line

    def problem(self, text: str) -> None:
        """Note something that failed; the run goes on."""
        self.problems.append(text)
        print(f"  ! {text}", flush=True)

    def text(self) -> str:
        """The tables as Markdown, which reads well in a terminal too."""
        head = (
            "work", "unit", "Transom", "Glance", "limit", "÷ Glance", "÷ limit",
            "Transom on SQLite", "limit on SQLite",
        )  # fmt: skip
        rows: list[Sequence[str]] = []
        group = None
        for line in self.lines.values():
            if line.group != group:
                group = line.group
                rows.append((f"**{group}**", *("",) * (len(head) - 1)))
            rows.append(
                (
                    line.title,
                    line.unit,
                    *(_number(line.values.get(side)) for side in COLUMNS[:3]),
                    _times(line.ratio("transom", "glance")),
                    _times(line.ratio("transom", "limit")),
                    *(_number(line.values.get(side)) for side in COLUMNS[3:]),
                )
            )
        waits = [line for line in self.lines.values() if line.waits_ms]
        if not waits:
            return _table(head, rows)
        return f"{_table(head, rows)}\n\n{_waits(waits)}\n\n{_costs(waits)}"

    def write_json(self, path: Path) -> None:
        """Everything, for programs."""
        path.write_text(
            json.dumps(
                {
                    "facts": self.facts,
                    "problems": self.problems,
                    "lines": [
                        {
                            "group": line.group,
                            "title": line.title,
                            "unit": line.unit,
                            "is_higher_better": line.is_higher_better,
                            "values": line.values,
                            "waits_ms": line.waits_ms,
                            "costs_ms": line.costs_ms,
                            "transom_over_glance": line.ratio("transom", "glance"),
                            "transom_over_limit": line.ratio("transom", "limit"),
                        }
                        for line in self.lines.values()
                    ],
                },
                indent=2,
                ensure_ascii=False,
            )
            + "\n"
        )


def _waits(lines: Sequence[Line]) -> str:
    def cell(line: Line, side: str) -> str:
        waits = line.waits_ms.get(side)
        return "" if waits is None else f"{_number(waits[0])} / {_number(waits[1])}"

    return _by_side("p50 / p99 in ms, four clients at once", lines, cell)


def _costs(lines: Sequence[Line]) -> str:
    def cell(line: Line, side: str) -> str:
        cost = line.costs_ms.get(side)
        ours = line.costs_ms.get("transom")
        if side in ("glance", "limit") and cost and ours:
            return f"{_number(cost)} ({_times(cost / ours)})"
        return _number(cost)

    return _by_side(
        "processor ms of an answer, database included (how often Transom's)", lines, cell
    )


def _by_side(title: str, lines: Sequence[Line], cell: Callable[[Line, str], str]) -> str:
    head = (title, "Transom", "Glance", "limit", "Transom on SQLite", "limit on SQLite")
    rows: list[Sequence[str]] = []
    group = None
    for line in lines:
        if line.group != group:
            group = line.group
            rows.append((f"**{group}**", *("",) * len(COLUMNS)))
        rows.append((line.title, *(cell(line, side) for side in COLUMNS)))
    return _table(head, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    parts = [_row(head, widths), _row(["-" * width for width in widths], widths, "-")]
    return "\n".join([*parts, *(_row(row, widths) for row in rows)])


def _row(cells: Sequence[str], widths: Sequence[int], fill: str = " ") -> str:
    padded = [
        cell.ljust(width, fill) if number == 0 else cell.rjust(width, fill)
        for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return f"|{fill}" + f"{fill}|{fill}".join(padded) + f"{fill}|"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _times(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return f"{ratio:.0f} x" if ratio >= 10 else f"{ratio:.2f} x"
