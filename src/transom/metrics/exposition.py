"""`/metrics` on an address of its own, in the formats that Prometheus asks for.

A thread of its own answers, with the server that the Prometheus client brings: what is asked while
the service is stuck is answered too. Nothing here is loaded where `[metrics] bind` is empty.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from transom.metrics.kinds import METRICS, Series, snapshot

PATH = "/metrics"
_PATIENCE_SECONDS = 10
"""How long a client may take to send its request."""

Snapshot = Callable[[], list[Series]]


class Exposition:
    """Listens from the moment it is made until it is closed."""

    def __init__(self, host: str, port: int, read: Snapshot = snapshot) -> None:
        """`read` gives the series to show. Raises OSError when the address cannot be had."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Series(read))
        family = socket.AF_INET6 if ":" in host else socket.AF_INET

        class Server(ThreadingWSGIServer):
            address_family = family

        self._server = make_server(host, port, _only_metrics(registry), Server, _Quiet)
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="metrics", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_port)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Quiet(WSGIRequestHandler):
    timeout = _PATIENCE_SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is inherited
        """Log nothing: a scrape is no event."""


def _only_metrics(registry: CollectorRegistry) -> Callable[..., Iterable[bytes]]:
    answer = make_wsgi_app(registry)

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == PATH:
            return answer(environ, start_response)  # type: ignore[no-any-return]
        start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"There is /metrics here, and nothing else.\n"]

    return application


class _Series(Collector):
    """Shows series to the Prometheus client, with the words of the table."""

    def __init__(self, read: Snapshot) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Every metric that has a series."""
        found: dict[str, list[Series]] = {}
        for series in self._read():
            found.setdefault(series.name, []).append(series)
        for name in METRICS:
            if name in found:
                yield _family(name, found[name])

    def describe(self) -> Iterator[Metric]:
        """The names of all metrics."""
        for name in METRICS:
            yield _family(name, [])


def _family(name: str, found: list[Series]) -> Metric:
    metric = METRICS[name]
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(name, metric.text, labels=metric.labels)
        for series in found:
            histogram.add_metric(series.labels, _buckets(metric.bounds, series), series.value)
        return histogram
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(name, metric.text, labels=metric.labels)
    for series in found:
        family.add_metric(series.labels, series.value)
    return family


def _buckets(bounds: tuple[float, ...], series: Series) -> list[tuple[str, float]]:
    """The counts as Prometheus wants them: each bucket with all that is below its bound."""
    shown = []
    below = 0
    for bound, count in zip((*bounds, float("inf")), series.counts, strict=True):
        below += count
        shown.append((str(floatToGoString(bound)), float(below)))  # type: ignore[no-untyped-call]
    return shown
