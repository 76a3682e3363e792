"""Counters, gauges and distributions that cost an addition.

A cell is one series: a metric with a value for each of its labels. Whoever counts often keeps the
cell. There are no locks: CPython switches threads between calls and at the ends of loops, and so
never inside the single statements that change a cell (decision 0130).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Literal, TypeVar

import msgspec

Merge = Literal["sum", "max", "min"]


class Series(msgspec.Struct, frozen=True, array_like=True):
    """What one cell held at a moment. `counts` are those of a distribution, by bucket, the last one
    for what is beyond all bounds; `value` is then its sum."""

    name: str
    labels: tuple[str, ...]
    value: float
    counts: tuple[int, ...] = ()


class Cell:
    """One number."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def add(self, number: float = 1) -> None:
        """Count so many more."""
        self.value += number

    def set(self, number: float) -> None:
        """Say how many there are now."""
        self.value = number


class Distribution:
    """How often a value fell into which bucket, and the sum of all."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value


C = TypeVar("C", Cell, Distribution)


class Metric(Generic[C]):
    """A metric: its name, what it tells, its labels, and a cell for each of their values.

    Labels take values from small sets alone (routes, stores, kinds), never ids or paths. `merge`
    says what several worker processes make together: the sum; for what each of them knows of the
    whole deployment the largest; the smallest where one that has trouble is enough.
    """

    kind: Literal["counter", "gauge", "histogram"]

    def __init__(self, name: str, text: str, *labels: str, merge: Merge = "sum") -> None:
        self.name = name
        self.text = text
        self.labels = labels
        self.merge = merge
        self.bounds: tuple[float, ...] = ()
        self._cells: dict[tuple[str, ...], C] = {}
        METRICS[name] = self

    def at(self, *labels: str) -> C:
        """The cell of these values of the labels."""
        cell = self._cells.get(labels)
        if cell is None:
            if len(labels) != len(self.labels):
                raise ValueError(f"{self.name} has the labels {self.labels}, not {labels}")
            cell = self._cells.setdefault(labels, self._new())
        return cell

    def read(self) -> Iterator[Series]:
        """What every cell holds now."""
        for labels, cell in list(self._cells.items()):
            yield self._series(labels, cell)

    def forget(self) -> None:
        """Begin anew, as a process does that has counted nothing yet."""
        self._cells.clear()

    def _new(self) -> C:
        raise NotImplementedError

    def _series(self, labels: tuple[str, ...], cell: C) -> Series:
        raise NotImplementedError


METRICS: dict[str, Metric[Cell] | Metric[Distribution]] = {}
"""Every metric by its name, in the order of the table."""


class _Number(Metric[Cell]):
    """One number a series: counted or set, or asked for at the moment it is read."""

    def __init__(self, name: str, text: str, *labels: str, merge: Merge = "sum") -> None:
        super().__init__(name, text, *labels, merge=merge)
        self._asked: dict[tuple[str, ...], Callable[[], float]] = {}

    def watch(self, ask: Callable[[], float], *labels: str) -> None:
        """Have `ask` called, from any thread, whenever the metric is read."""
        self._asked[labels] = ask

    def read(self) -> Iterator[Series]:
        """What every cell holds now, and what those say that are asked."""
        yield from super().read()
        for labels, ask in list(self._asked.items()):
            yield Series(self.name, labels, ask())

    def forget(self) -> None:
        """Begin anew; ask nobody."""
        super().forget()
        self._asked.clear()

    def _new(self) -> Cell:
        return Cell()

    def _series(self, labels: tuple[str, ...], cell: Cell) -> Series:
        return Series(self.name, labels, cell.value)


class Counter(_Number):
    """Only grows. `known` are values of its labels that are shown from the start, as 0: of what
    appears for the first time Prometheus does not see that it has grown."""

    kind = "counter"

    def __init__(self, name: str, text: str, *labels: str, known: Sequence[str] = ()) -> None:
        super().__init__(name, text, *labels)
        self._known = known if labels else ("",)
        self._begin()

    def forget(self) -> None:
        """Begin anew; ask nobody."""
        super().forget()
        self._begin()

    def watch(self, ask: Callable[[], float], *labels: str) -> None:
        """Have `ask` called, from any thread, whenever the metric is read."""
        self._cells.pop(labels, None)
        super().watch(ask, *labels)

    def _begin(self) -> None:
        for each in self._known:
            self.at(*each.split())


class Gauge(_Number):
    """Goes up and down."""

    kind = "gauge"


class Histogram(Metric[Distribution]):
    """How values are distributed, over buckets with these upper bounds."""

    kind = "histogram"

    def __init__(self, name: str, text: str, *labels: str, bounds: tuple[float, ...]) -> None:
        super().__init__(name, text, *labels)
        self.bounds = bounds

    def _new(self) -> Distribution:
        return Distribution(self.bounds)

    def _series(self, labels: tuple[str, ...], cell: Distribution) -> Series:
        return Series(self.name, labels, cell.sum, tuple(cell.counts))


def snapshot() -> list[Series]:
    """Every series of this process, as it is now."""
    return [series for metric in METRICS.values() for series in metric.read()]


def forget_all() -> None:
    """Begin anew with every metric, as a process does that has counted nothing yet."""
    for metric in METRICS.values():
        metric.forget()


def merged(snapshots: list[list[Series]]) -> list[Series]:
    """What several processes of one release make together."""
    found: dict[tuple[str, tuple[str, ...]], Series] = {}
    for series in (each for snapshot in snapshots for each in snapshot):
        key = series.name, series.labels
        before = found.get(key)
        found[key] = series if before is None else _together(before, series)
    return list(found.values())


def _together(one: Series, other: Series) -> Series:
    merge = METRICS[one.name].merge
    if merge != "sum":
        smaller, larger = sorted((one, other), key=lambda series: series.value)
        return larger if merge == "max" else smaller
    counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
    return Series(one.name, one.labels, one.value + other.value, counts)


def growing(series: list[Series]) -> list[Series]:
    """The part of a snapshot that stays true when its process has ended: what only grows."""
    return [each for each in series if METRICS[each.name].kind != "gauge"]
