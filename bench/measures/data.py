"""Image data up and down: throughput, processor time per GiB, memory."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from bench import bodies
from bench.machine import warm_memory
from bench.processes import PeakMemory, Server
from bench.sides.side import Side
from bench.table import Results

MIB = 1 << 20
GIB = 1 << 30
_GROUP = "image data"


class Target(Protocol):
    """Something that takes uploads or gives downloads."""

    key: str
    server: Server
    headers: Mapping[str, str]

    def fresh(self) -> str:
        """A URL that takes one upload."""
        ...

    def holds(self, url: str, md5: str) -> bool:
        """True when what was uploaded to `url` is there, whole."""
        ...

    def clean(self) -> None:
        """Remove what was uploaded."""
        ...


class Registry:
    """A target that speaks the image API."""

    def __init__(self, side: Side, key: str | None = None) -> None:
        self.key = key or side.key
        self.server = side.server
        self.headers = side.admin or {}
        self._url = side.url
        self._made: list[str] = []

    def fresh(self) -> str:
        """Create an image; the URL of its data."""
        document = {"name": "bench", "disk_format": "raw", "container_format": "bare"}
        image = json.loads(self._ask("POST", "/v2/images", json.dumps(document)))
        self._made.append(image["id"])
        return f"{self._url}/v2/images/{image['id']}/file"

    def holds(self, url: str, md5: str) -> bool:
        """True when the image is active and its checksum is the file's."""
        image = json.loads(self._ask("GET", urlsplit(url).path.removesuffix("/file")))
        return bool(image["status"] == "active" and image["checksum"] == md5)

    def clean(self) -> None:
        """Delete the images that were made."""
        while self._made:
            self._ask("DELETE", f"/v2/images/{self._made.pop()}")

    def _ask(self, method: str, path: str, body: str | None = None) -> bytes:
        parts = urlsplit(self._url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        headers = {**self.headers, "Content-Type": "application/json"} if body else self.headers
        try:
            connection.request(method, path, body=body, headers=dict(headers))
            response = connection.getresponse()
            text = response.read()
        except http.client.HTTPException as error:
            raise OSError(f"{method} {path}: {error!r}") from error
        finally:
            connection.close()
        if response.status not in (200, 201, 204):
            raise OSError(f"{method} {path} got {response.status}: {text[:300]!r}")
        return text


class Plain:
    """A target that is one of the limit programs: any URL will do, nothing is kept."""

    def __init__(self, key: str, url: str, server: Server) -> None:
        self.key = key
        self.server = server
        self.headers: Mapping[str, str] = {}
        self._url = url

    def fresh(self) -> str:
        """The one URL there is."""
        return self._url

    def holds(self, url: str, md5: str) -> bool:
        """The limit programs remember nothing."""
        return True

    def clean(self) -> None:
        """Nothing is left to remove."""


def uploads(
    results: Results,
    targets: Sequence[Target],
    file: Path,
    *,
    title: str,
    clients: int,
    repetitions: int,
) -> None:
    """`clients` uploads of `file` at once, the targets taking turns; medians over the turns."""
    size_bytes = file.stat().st_size
    md5 = _md5(file)
    rates: dict[str, list[float]] = {}
    costs: dict[str, list[float]] = {}
    peaks: dict[str, list[float]] = {}
    failures: dict[str, list[str]] = {}
    for _ in range(repetitions):
        for target in targets:
            try:
                urls = [target.fresh() for _ in range(clients)]
                os.sync()
                warm_memory(size_bytes * clients * 2)
                before = target.server.cpu_seconds()
                with PeakMemory(target.server) as memory:
                    done = bodies.at_once(
                        [partial(bodies.upload, url, file, target.headers) for url in urls]
                    )
                cost = target.server.cpu_seconds() - before
                failed = [*done.failures]
                if not failed:
                    failed += [f"{url} is not whole" for url in urls if not target.holds(url, md5)]
                target.clean()
            except OSError as error:
                results.problem(f"{title}, {target.key}: {error}")
                continue
            failures.setdefault(target.key, []).extend(failed)
            peaks.setdefault(target.key, []).append(memory.bytes)
            if done.bytes:
                rates.setdefault(target.key, []).append(done.mib_per_second)
                costs.setdefault(target.key, []).append(cost / (done.bytes / GIB))
                _say(title, target.key, rates, costs, memory.bytes)
    for target in targets:
        _put(results, _GROUP, title, target.key, rates, costs)
    if clients > 1:
        for target in targets:
            key = target.key
            failed = failures.get(key, [])
            if key in peaks:
                results.put(
                    _GROUP, f"{title}: most memory", "MiB", key,
                    max(peaks[key]) / MIB, is_higher_better=False,
                )  # fmt: skip
                results.put(
                    _GROUP, f"{title}: failures", "uploads", key,
                    len(failed) / repetitions, is_higher_better=False,
                )  # fmt: skip
    for key, failed in failures.items():
        for text in sorted(set(failed))[:3]:
            results.problem(f"{title}, {key}: {text}")


def downloads(
    results: Results,
    targets: Mapping[str, tuple[Target, str]],
    size_bytes: int,
    *,
    title: str,
    clients: int,
    repetitions: int,
    byte_range: tuple[int, int] | None = None,
) -> None:
    """`clients` downloads of the same data at once; `targets` gives a target and a URL by key,
    `byte_range` the first and last byte wanted."""
    rates: dict[str, list[float]] = {}
    costs: dict[str, list[float]] = {}
    expected = size_bytes if byte_range is None else byte_range[1] - byte_range[0] + 1
    for _ in range(repetitions):
        for key, (target, url) in targets.items():
            headers = dict(target.headers)
            if byte_range is not None:
                headers["Range"] = f"bytes={byte_range[0]}-{byte_range[1]}"
            calls: list[Callable[[], int]] = [partial(bodies.download, url, headers)] * clients
            before = target.server.cpu_seconds()
            done = bodies.at_once(calls)
            cost = target.server.cpu_seconds() - before
            if done.failures or done.bytes != expected * clients:
                reason = done.failures[0] if done.failures else f"{done.bytes} bytes came"
                results.problem(f"{title}, {key}: {reason}")
                continue
            rates.setdefault(key, []).append(done.mib_per_second)
            costs.setdefault(key, []).append(cost / (done.bytes / GIB))
            _say(title, key, rates, costs)
    for key in targets:
        _put(results, _GROUP, title, key, rates, costs)


def _put(
    results: Results,
    group: str,
    title: str,
    key: str,
    rates: Mapping[str, list[float]],
    costs: Mapping[str, list[float]],
) -> None:
    if key in rates:
        results.put(group, title, "MiB/s", key, statistics.median(rates[key]))
        results.put(
            group, f"{title}: processor time", "s/GiB", key,
            statistics.median(costs[key]), is_higher_better=False,
        )  # fmt: skip


def _say(
    title: str,
    key: str,
    rates: Mapping[str, list[float]],
    costs: Mapping[str, list[float]],
    memory_bytes: int | None = None,
) -> None:
    memory = "" if memory_bytes is None else f"  {memory_bytes / MIB:6.0f} MiB resident"
    print(
        f"  {title:32} {key:13} {rates[key][-1]:9,.0f} MiB/s  {costs[key][-1]:6.2f} s/GiB{memory}",
        flush=True,
    )


def _md5(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "md5").hexdigest()
