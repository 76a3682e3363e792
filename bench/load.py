"""Small requests, many at once: `wrk` for the fast, a few patient threads for the slow.

`wrk` needs many answers within a second to say anything; a server that takes a large part of a
second for one answer is asked by as many threads as `wrk` would have connections, for as long as it
takes to get some answers.
"""

from __future__ import annotations

import http.client
import re
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench.machine import need

CONNECTIONS = 4
"""Clients that ask at the same time: twice the processors of a small machine."""
CROWD = 16
"""Clients that leave no processor idle between one answer and the next question."""
_SLOW_SECONDS = 0.1
"""An answer that takes longer makes a server one for the patient threads."""
_RUN_SECONDS = 1
_SLOW_RUN_SECONDS = 3.0
_TIMEOUT_SECONDS = 60
_SCRIPT = Path(__file__).with_name("requests.lua")
_LINE = re.compile(
    r"measured (\d+) requests (\d+) microseconds (\d+) p50 (\d+) p99 (\d+) status (\d+) socket"
)


@dataclass(frozen=True, slots=True)
class Rate:
    """What a server did with one kind of request."""

    per_second: float
    """With as many clients, of CONNECTIONS and CROWD, as it is faster with."""
    p50_ms: float
    """With CONNECTIONS clients, as the next one."""
    p99_ms: float
    failures: int
    cpu_ms: float = 0.0
    """Processor time of one answer, the database's included, at the rate above."""


@dataclass(frozen=True, slots=True)
class Request:
    """One kind of request: the paths to rotate, with what headers and body."""

    paths: Sequence[str]
    headers: Mapping[str, str]
    method: str = "GET"
    body: bytes = b""


def measure(url: str, request: Request, repetitions: int, cpu_seconds: Callable[[], float]) -> Rate:
    """The median of some runs of one second each, after a warm-up. `cpu_seconds` tells what the
    servers have used until now. Raises OSError when the very first answers are failures."""
    first = _probe(url, request)
    if first > _SLOW_SECONDS:
        return _patiently(url, request, cpu_seconds)
    few = _runs(url, request, CONNECTIONS, repetitions, cpu_seconds)
    many = _runs(url, request, CROWD, repetitions, cpu_seconds)
    best = max(few, many, key=lambda rate: rate.per_second)
    return Rate(
        per_second=best.per_second,
        p50_ms=few.p50_ms,
        p99_ms=few.p99_ms,
        failures=few.failures + many.failures,
        cpu_ms=best.cpu_ms,
    )


def _runs(
    url: str,
    request: Request,
    clients: int,
    repetitions: int,
    cpu_seconds: Callable[[], float],
) -> Rate:
    before = cpu_seconds()
    runs = [_wrk(url, request, clients) for _ in range(repetitions)]
    cost = cpu_seconds() - before
    return Rate(
        per_second=statistics.median(run.per_second for run in runs),
        p50_ms=statistics.median(run.p50_ms for run in runs),
        p99_ms=statistics.median(run.p99_ms for run in runs),
        failures=sum(run.failures for run in runs),
        cpu_ms=cost / sum(run.per_second * _RUN_SECONDS for run in runs) * 1000,
    )


def _probe(url: str, request: Request) -> float:
    """Warm up; the median time of an answer, in seconds."""
    times: list[float] = []
    began = time.monotonic()
    while len(times) < 3 or (len(times) < 30 and time.monotonic() - began < 0.3):
        times.append(_ask(url, request, len(times)))
        if time.monotonic() - began > 10:
            break
    return statistics.median(times)


def _ask(url: str, request: Request, number: int) -> float:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(
        parts.hostname or "", parts.port, timeout=_TIMEOUT_SECONDS
    )
    path = request.paths[number % len(request.paths)]
    began = time.monotonic()
    try:
        connection.request(
            request.method, path, body=request.body or None, headers=dict(request.headers)
        )
        response = connection.getresponse()
        body = response.read()
    except http.client.HTTPException as error:
        raise OSError(f"{request.method} {path}: {error!r}") from error
    finally:
        connection.close()
    if response.status not in (200, 201):
        raise OSError(f"{request.method} {path} got {response.status}: {body[:300]!r}")
    return time.monotonic() - began


def _patiently(url: str, request: Request, cpu_seconds: Callable[[], float]) -> Rate:
    before = cpu_seconds()
    times: list[float] = []
    failures: list[str] = []
    began = time.monotonic()

    def client(number: int) -> None:
        while time.monotonic() - began < _SLOW_RUN_SECONDS:
            try:
                times.append(_ask(url, request, number))
            except OSError as error:
                failures.append(str(error))
            number += CONNECTIONS

    threads = [
        threading.Thread(target=client, args=(number,), daemon=True)
        for number in range(CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - began
    if not times:
        raise OSError(f"no answer in {seconds:.0f} s: {failures[0]}")
    ordered = sorted(times)
    return Rate(
        per_second=len(times) / seconds,
        p50_ms=statistics.median(ordered) * 1000,
        p99_ms=ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000,
        failures=len(failures),
        cpu_ms=(cpu_seconds() - before) / len(times) * 1000,
    )


def _wrk(url: str, request: Request, clients: int) -> Rate:
    with tempfile.TemporaryDirectory() as name:
        paths = Path(name, "paths")
        paths.write_text("".join(f"{path}\n" for path in request.paths))
        body = Path(name, "body")
        body.write_bytes(request.body)
        done = subprocess.run(
            [
                need("wrk", "wrk"), "-t1", f"-c{clients}", f"-d{_RUN_SECONDS}s", "--timeout", "30s",
                "-s", _SCRIPT, url, "--",
                paths, request.method, body if request.body else "-",
                *(f"{name}: {value}" for name, value in request.headers.items()),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )  # fmt: skip
    found = _LINE.search(done.stdout)
    if found is None:
        raise OSError(f"wrk failed: {done.stdout[-500:]}{done.stderr[-500:]}")
    count, microseconds, p50, p99, bad_status, bad_socket = map(int, found.groups())
    return Rate(
        per_second=(count - bad_status) / (microseconds / 1e6),
        p50_ms=p50 / 1000,
        p99_ms=p99 / 1000,
        failures=bad_status + bad_socket,
    )
