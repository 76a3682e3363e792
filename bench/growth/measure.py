"""Runs every operation on a catalog, and keeps what each made the database do."""

from __future__ import annotations

import statistics
import time
from collections.abc import Collection
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
    """Every plan that was met, each once, in order of the alphabet."""


async def measure(
    url: str, count: int, repetitions: int, operations: Collection[str] | None = None
) -> dict[str, Measured]:
    """Every operation, or those that are named, so many times, on the catalog of `count` images at
    the URL, which is left as it was found."""
    catalog = Catalog(Engine(url, pool_size=1, write_pool_size=1))
    capture = Capture(catalog)
    world = World(catalog, count)
    found: dict[str, list[tuple[float, Done]]] = {}
    try:
        clear(catalog, world.owner)
        await catalog.processes.join("growth", host="here", pid=1, started="1")
        capture.take()
        for kind in (READS, WRITES):
            chosen = {
                name: operation
                for name, operation in kind.items()
                if operations is None or name in operations
            }
            # Plans are made, and counts are taken, at the first time.
            for turn in range(repetitions + 1):
                for name, operation in chosen.items():
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
            plans=sorted({plan for _, done in outcomes for plan in done.plans}),
        )
        for name, outcomes in found.items()
    }


async def _run(world: World, capture: Capture, operation: Operation) -> tuple[float, Done]:
    began = time.perf_counter()
    await operation(world)
    milliseconds = 1000 * (time.perf_counter() - began)
    return milliseconds, capture.take()
