"""Lists, show and create: answers a second, and how long four clients at once wait for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from bench import dataset, load
from bench.sides.side import Side
from bench.table import Results


def lists(
    results: Results,
    sides: Sequence[Side],
    questions: Sequence[dataset.Question],
    count: int,
    repetitions: int,
    check_time: Callable[[], None],
) -> None:
    """Every question to every side that can be asked it, in a catalog of `count` images."""
    for question in questions:
        check_time()
        for side in sides:
            headers = side.member if question.as_project else side.admin
            if headers is None:
                continue
            _measure(
                results,
                side,
                f"list 25 of {count:,} images",
                question.title,
                load.Request(question.paths, headers),
                repetitions,
            )


def show(results: Results, sides: Sequence[Side], count: int, repetitions: int) -> None:
    """One image by its id, another each time."""
    for side in sides:
        if side.admin is None:
            continue
        request = load.Request(dataset.show_paths(count), side.admin)
        _measure(results, side, "one image", f"show, of {count:,}", request, repetitions)


def create(results: Results, sides: Sequence[Side], repetitions: int) -> None:
    """POST the same small document again and again."""
    for side in sides:
        if side.admin is None:
            continue
        request = load.Request(
            ("/v2/images",),
            {"Content-Type": "application/json", **side.admin},
            "POST",
            json.dumps(dataset.NEW_IMAGE).encode(),
        )
        _measure(results, side, "one image", "create", request, repetitions)


def _measure(
    results: Results,
    side: Side,
    group: str,
    title: str,
    request: load.Request,
    repetitions: int,
) -> None:
    try:
        rate = load.measure(side.url, request, repetitions, side.cpu_seconds)
    except OSError as error:
        results.problem(f"{group}, {title}, {side.key}: {error}")
        return
    if rate.failures:
        results.problem(f"{group}, {title}, {side.key}: {rate.failures} answers were failures")
    print(
        f"  {title:32} {side.key:13} {rate.per_second:9,.1f}/s  "
        f"p50 {rate.p50_ms:8.2f} ms  p99 {rate.p99_ms:8.2f} ms  processor {rate.cpu_ms:7.2f} ms",
        flush=True,
    )
    line = results.put(group, title, "requests/s", side.key, rate.per_second)
    line.waits_ms[side.key] = (rate.p50_ms, rate.p99_ms)
    line.costs_ms[side.key] = rate.cpu_ms
