"""How long a server takes to its first answer, and the memory that it holds when nobody asks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

from bench.processes import Server, StartFailed
from bench.table import Results

_REST_SECONDS = 2.0


def starts(
    results: Results, starters: Mapping[str, Callable[[], Server]], repetitions: int
) -> None:
    """Start each side some times; the median time, and the memory of the last one at rest."""
    for key, starter in starters.items():
        times, costs = [], []
        # The first start compiles modules and fills caches; it does not count.
        for turn in range(repetitions + 1):
            try:
                server = starter()
            except StartFailed as error:
                results.problem(f"start, {key}: {error}")
                break
            with server:
                if turn:
                    times.append(server.start_seconds)
                    costs.append(server.cpu_seconds())
                if turn == repetitions:
                    time.sleep(_REST_SECONDS)
                    resident = server.resident_bytes() / 2**20
                    results.put(
                        "the process", "memory at rest", "MiB", key, resident,
                        is_higher_better=False,
                    )  # fmt: skip
                    print(f"  memory at rest                   {key:13} {resident:9.0f} MiB")
        if times:
            seconds, cost = statistics.median(times), statistics.median(costs)
            results.put(
                "the process", "start until the first answer", "s", key, seconds,
                is_higher_better=False,
            )  # fmt: skip
            results.put(
                "the process", "start: processor time", "s", key, cost, is_higher_better=False
            )
            print(
                f"  start until the first answer     {key:13} {seconds:9.2f} s  processor {cost:.2f} s",
                flush=True,
            )
