"""Counting: cells, distributions, and what several processes make together."""

from __future__ import annotations

import ast
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

import transom.metrics.table as table
from transom.metrics.exposition import Exposition
from transom.metrics.kinds import (
    METRICS,
    Counter,
    Gauge,
    Histogram,
    Series,
    growing,
    merged,
    snapshot,
)
from transom.metrics.sharing import Report, Workers


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """A table of metrics for one test."""
    metrics: dict[str, object] = {}
    monkeypatch.setattr("transom.metrics.kinds.METRICS", metrics)
    monkeypatch.setattr("transom.metrics.exposition.METRICS", metrics)
    return metrics


def test_a_distribution_counts_a_value_in_the_first_bucket_that_holds_it(own: object) -> None:
    histogram = Histogram("h", "", bounds=(1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 9.0):
        histogram.at().observe(value)

    assert list(histogram.read()) == [Series("h", (), 14.0, (2, 2, 1))]


def test_threads_that_count_at_once_lose_nothing(own: object) -> None:
    counter, histogram = Counter("c_total", "", "who"), Histogram("h", "", bounds=(1.0,))
    cell, distribution = counter.at("all"), histogram.at()
    times = 50_000
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:

        def count() -> None:
            for _ in range(times):
                cell.add()
                counter.at("all").value += 1
                distribution.observe(0.5)

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)

    assert cell.value == 8 * times
    assert distribution.counts == [4 * times, 0]
    assert distribution.sum == 2 * times


def test_a_cell_of_other_labels_than_declared_is_refused(own: object) -> None:
    with pytest.raises(ValueError, match="labels"):
        Counter("c_total", "", "store").at()


def test_what_is_rare_is_shown_before_it_happens(own: object) -> None:
    Counter("plain_total", "")
    Counter("c_total", "", "a", "b", known=("x y",))

    assert snapshot() == [Series("plain_total", (), 0), Series("c_total", ("x", "y"), 0)]


def test_processes_make_sums_largest_and_smallest(own: object) -> None:
    Counter("c_total", "")
    Gauge("most", "", merge="max")
    Gauge("least", "", merge="min")
    Histogram("h", "", bounds=(1.0,))
    one = [Series("c_total", (), 2), Series("most", (), 3), Series("h", (), 0.5, (1, 0))]
    other = [Series("c_total", (), 5), Series("most", (), 1), Series("h", (), 4.0, (1, 2))]

    together = merged([[*one, Series("least", (), 0)], [*other, Series("least", (), 1)]])

    assert set(together) == {
        Series("c_total", (), 7),
        Series("most", (), 3),
        Series("least", (), 0),
        Series("h", (), 4.5, (2, 2)),
    }
    assert {series.name for series in growing(together)} == {"c_total", "h"}


def test_what_grew_in_a_process_that_ended_goes_on_counting(own: object) -> None:
    cell, gauge = Counter("c_total", "").at(), Gauge("g", "").at()
    workers = Workers()
    try:
        # Both ends are in this process here, so everything is counted twice.
        report = Report(workers.path)
        cell.add(3)
        gauge.set(2)
        _wait_until(lambda: set(workers.read()) == {Series("c_total", (), 6), Series("g", (), 4)})

        cell.add(1)
        report.close()

        _wait_until(lambda: set(workers.read()) == {Series("c_total", (), 8), Series("g", (), 2)})
    finally:
        workers.close()
    assert not workers.path.parent.exists()


def test_of_a_process_that_was_killed_the_last_numbers_seen_are_kept(own: object) -> None:
    cell = Counter("c_total", "").at()
    workers = Workers()
    try:
        report = Report(workers.path)
        cell.add(3)
        _wait_until(lambda: workers.read() == [Series("c_total", (), 6)])

        # A kill closes the socket without a word.
        report._connection.shutdown(2)

        _wait_until(lambda: workers.read() == [Series("c_total", (), 6)])
        cell.add(1)
        assert workers.read() == [Series("c_total", (), 7)]
    finally:
        workers.close()


def test_metrics_are_served_as_text_and_as_openmetrics(own: object) -> None:
    Counter("c_total", "How many.", "who").at('a "b"\n').add(2)
    Histogram("h_seconds", "How long.", bounds=(0.1, 1.0)).at().observe(0.5)
    exposition = Exposition("127.0.0.1", 0)
    try:
        url = f"http://127.0.0.1:{exposition.port}"
        plain = httpx.get(f"{url}/metrics", trust_env=False)
        open_ = httpx.get(
            f"{url}/metrics",
            headers={"Accept": "application/openmetrics-text; version=1.0.0"},
            trust_env=False,
        )
        elsewhere = httpx.get(f"{url}/", trust_env=False)
    finally:
        exposition.close()

    assert "# HELP c_total How many." in plain.text
    assert 'c_total{who="a \\"b\\"\\n"} 2.0' in plain.text
    assert 'h_seconds_bucket{le="0.1"} 0.0' in plain.text
    assert 'h_seconds_bucket{le="1.0"} 1.0' in plain.text
    assert 'h_seconds_bucket{le="+Inf"} 1.0' in plain.text
    assert "h_seconds_sum 0.5" in plain.text
    assert open_.headers["content-type"].startswith("application/openmetrics-text")
    assert open_.text.endswith("# EOF\n")
    assert elsewhere.status_code == 404


def test_every_metric_is_named_as_prometheus_wants_it_and_explained() -> None:
    for metric in METRICS.values():
        assert metric.name.startswith(("transom_", "process_")), metric.name
        assert metric.text.endswith("."), metric.name
        assert (metric.kind == "counter") == metric.name.endswith("_total"), metric.name
        assert metric.kind != "histogram" or metric.name.endswith("_seconds"), metric.name
        assert not {"id", "path", "image_id", "project"} & set(metric.labels), metric.name


def test_every_metric_of_the_table_is_counted_somewhere() -> None:
    source = Path(table.__file__).parent.parent
    names = {
        target.id
        for node in ast.parse(Path(table.__file__).read_text()).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id.isupper() and target.id[0] != "_"
    }
    used = "\n".join(
        path.read_text() for path in source.rglob("*.py") if path != Path(table.__file__)
    )

    assert len(names) == len(METRICS)
    assert {name for name in names if f"{name}." not in used} == set()


def _wait_until(is_so: object, seconds: float = 5.0) -> None:
    assert callable(is_so)
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it never was"
        time.sleep(0.01)
