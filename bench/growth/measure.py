"""Runs every operation on a catalog, and keeps what each made the database do."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field

from bench.growth.capture import Capture, Done
from bench.growth.operations import READS, WRITES, Operation, World, clear
from transom.catalog import Catalog
from transom.catalog.engine import Engine


@dataclass
class Measured:
    """One operation on one catalog."""

    work: float
    """The median of pages (PostgreSQL) or instructions (SQLite)."""
    milliseconds: float
    """The median time, with the way through the program; busy computers make it longer."""
    rows: int
    """The most rows that PostgreSQL's scans have read for it."""
    plans: list[tuple[str, ...]] = field(default_factory=list)
    """The plans of the last run."""


async def measure(url: str, count: int, repetitions: int) -> dict[str, Measured]:
    """Every operation, so many times, on the catalog of `count` images at the URL, which is left as
    it was found."""
    catalog = Catalog(Engine(url, pool_size=1, write_pool_size=1))
    capture = Capture(catalog)
    world = World(catalog, count)
    found: dict[str, list[tuple[float, Done]]] = {}
    try:
        clear(catalog, world.owner)
        await catalog.processes.join("growth", host="here", pid=1, started="1")
        capture.take()
        for operations, times in ((READS, repetitions), (WRITES, repetitions)):
            # Plans are made, and counts are taken, at the first time.
            for turn in range(times + 1):
                for name, operation in operations.items():
                    outcome = await _run(world, capture, operation)
                    if turn:
                        found.setdefault(name, []).append(outcome)
    finally:
        clear(catalog, world.owner)
        catalog.close()
    return {
        name: Measured(
            work=statistics.median(done.work for _, done in outcomes),
            milliseconds=statistics.median(ms for ms, _ in outcomes),
            rows=max(done.rows for _, done in outcomes),
            plans=outcomes[-1][1].plans,
        )
        for name, outcomes in found.items()
    }


async def _run(world: World, capture: Capture, operation: Operation) -> tuple[float, Done]:
    began = time.perf_counter()
    await operation(world)
    milliseconds = 1000 * (time.perf_counter() - began)
    return milliseconds, capture.take()
