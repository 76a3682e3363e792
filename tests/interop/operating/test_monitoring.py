"""A real Prometheus scrapes a real Transom: every panel shows something, every alert can fire."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.faults.fake_keystone import PASSWORD, USER, FakeKeystone
from tests.house.tree import ROOT
from tests.support.importing import new_image, stage, start
from tests.support.ports import free_port
from tests.support.receiver import SECRET, Receiver
from tests.support.scraping import with_metrics
from tests.support.server import ServerProcess
from tests.support.waiting import until
from transom.metrics.table import METRICS

pytestmark = pytest.mark.interop

MONITORING = ROOT / "deploy/monitoring"
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
RULES = yaml.safe_load((MONITORING / "transom.rules.yml").read_text())["groups"][0]["rules"]
QUERIES = [
    (panel["title"], target["expr"])
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", ())
]
DATA = os.urandom(200_000)

# What makes each alert fire: series as promtool reads them (value, step a minute, how often).
GROWS, STANDS = "0+10x60", "1x60"
ALERTS: dict[str, list[tuple[str, str]]] = {
    "TransomDown": [('up{job="transom",instance="a"}', "0x60")],
    "TransomFailsRequests": [
        ('transom_http_requests_total{status="200"}', "0+100x60"),
        ('transom_http_requests_total{status="503"}', "0+5x60"),
    ],
    "TransomListsSlowly": [
        (
            f'transom_http_request_duration_seconds_bucket{{route="/v2/images",method="GET",le="{le}"}}',
            to,
        )
        for le, to in (("1", "0x60"), ("5", GROWS), ("+Inf", GROWS))
    ],
    "TransomDatabaseFails": [('transom_catalog_errors_total{kind="connection"}', GROWS)],
    "TransomDiskFull": [('transom_store_errors_total{kind="full",store="main"}', GROWS)],
    "TransomDiskReadOnly": [('transom_catalog_errors_total{kind="read_only"}', GROWS)],
    "TransomStoreFails": [('transom_store_errors_total{kind="unavailable",store="main"}', GROWS)],
    "TransomDataMissing": [
        ('transom_store_errors_total{kind="missing",operation="open",store="main"}', GROWS)
    ],
    "TransomStoreSlow": [
        (f'transom_store_operation_duration_seconds_bucket{{operation="commit",le="{le}"}}', to)
        for le, to in (("5", "0x60"), ("10", GROWS), ("+Inf", GROWS))
    ],
    "TransomStoreStalls": [
        ('transom_store_operations_running{store="main"}', STANDS),
        ('transom_store_operation_duration_seconds_count{store="main",operation="read"}', "7x60"),
    ],
    "TransomConnectionsShort": [
        (f'transom_catalog_wait_duration_seconds_bucket{{work="read",le="{le}"}}', to)
        for le, to in (("1", "0x60"), ("2.5", GROWS), ("+Inf", GROWS))
    ],
    "TransomKeystoneAway": [("transom_keystone_up", "0x60")],
    "TransomPolicyRefused": [('transom_policy_reloads_total{outcome="failure"}', GROWS)],
    "TransomTasksWait": [("transom_tasks_waiting", STANDS), ("transom_tasks_running", "0x60")],
    "TransomTaskOld": [("transom_tasks_oldest_seconds", "30000x60")],
    "TransomSweepStands": [("transom_sweep_last_success_timestamp_seconds", "0x60")],
    "TransomLeaseFails": [("transom_lease_failures_total", GROWS)],
    "TransomEventsWait": [('transom_events_waiting{target="hook"}', "2000x60")],
    "TransomEventsLaidAside": [('transom_events_laid_aside{target="hook"}', STANDS)],
    "TransomClockSet": [('transom_clock_jumps_total{direction="forward"}', GROWS)],
    "TransomFilesShort": [
        ('process_open_fds{job="transom"}', "90x60"),
        ('process_max_fds{job="transom"}', "100x60"),
    ],
}


def test_every_alert_has_a_case() -> None:
    assert set(ALERTS) == {rule["alert"] for rule in RULES}
    for rule in RULES:
        assert set(rule["annotations"]) == {"summary", "description"}, rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]


def test_every_alert_fires_when_it_should_and_not_before(tmp_path: Path) -> None:
    (tmp_path / "transom.rules.yml").write_text((MONITORING / "transom.rules.yml").read_text())
    cases = []
    for name, series in ALERTS.items():
        written = [{"series": metric, "values": values} for metric, values in series]
        firing = "count(ALERTS{alertname='%s',alertstate='firing'}) > 0"
        healthy = [{**each, "values": _healthy(each["series"])} for each in written]
        for values, samples in ((written, [{"value": 1}]), (healthy, [])):
            cases.append(
                {
                    "interval": "1m",
                    "input_series": values,
                    "promql_expr_test": [
                        {
                            "expr": f"sgn({firing % name})",
                            "eval_time": "40m",
                            "exp_samples": [{"labels": "{}", **each} for each in samples],
                        }
                    ],
                }
            )
    tests = {"rule_files": ["transom.rules.yml"], "evaluation_interval": "1m", "tests": cases}
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(tests))

    done = subprocess.run(
        ["promtool", "test", "rules", str(tmp_path / "tests.yml")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def _healthy(series: str) -> str:
    """Values of the same series while all is well."""
    name = series.partition("{")[0]
    if name in ("up", "transom_keystone_up"):
        return "1x60"
    if name == "transom_sweep_last_success_timestamp_seconds":
        return "0+60x60"
    if name == "process_max_fds":
        return "100x60"
    if name.endswith("_count") or 'status="200"' in series:
        return "0+100x60"
    if name.endswith("_bucket"):
        return "0+100x60"
    return "0x60"


def test_the_configuration_and_the_rules_are_what_prometheus_takes() -> None:
    done = subprocess.run(
        ["promtool", "check", "config", str(MONITORING / "prometheus.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_and_panels_ask_for_metrics_that_exist() -> None:
    known = set(METRICS)
    for metric in METRICS.values():
        if metric.kind == "histogram":
            known |= {f"{metric.name}_{part}" for part in ("bucket", "count", "sum")}
    for name, query in [*QUERIES, *((rule["alert"], rule["expr"]) for rule in RULES)]:
        asked = set(re.findall(r"\b(?:transom|process)_[a-z_]+", query)) - {"transom_"}
        assert asked <= known, name


def test_the_dashboard_is_what_its_table_says() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/dashboard.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


class Prometheus:
    """A real one, in a folder of its own, that looks every second."""

    def __init__(self, folder: Path, targets: list[str]) -> None:
        config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["scrape_configs"][0]["static_configs"][0]["targets"] = targets
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        (folder / "transom.rules.yml").write_text((MONITORING / "transom.rules.yml").read_text())
        self.url = f"http://127.0.0.1:{free_port()}"
        self._log = (folder / "log").open("w")
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={self.url.removeprefix('http://')}",
            ],
            stdout=self._log,
            stderr=self._log,
        )
        until(self._is_ready, 30)

    def _is_ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/-/ready", trust_env=False).status_code == 200
        return False

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait(10)
        self._log.close()

    def get(self, path: str, **query: str) -> Any:
        """`data` of an answer of its API."""
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=query, trust_env=False)
        assert answer.status_code == 200, f"{query}: {answer.text}"
        return answer.json()["data"]

    def numbers(self, query: str) -> list[float]:
        """What a query gives now, without what is no number."""
        values = (float(each["value"][1]) for each in self.get("query", query=query)["result"])
        return [value for value in values if not math.isnan(value)]


@pytest.fixture
def keystone() -> Iterator[FakeKeystone]:
    """A Keystone, in a loop and a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    fake = FakeKeystone()
    asyncio.run_coroutine_threadsafe(fake.start(), loop).result(10)
    yield fake
    asyncio.run_coroutine_threadsafe(fake.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_every_panel_shows_what_a_real_prometheus_scraped(
    tmp_path: Path, keystone: FakeKeystone
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("{}")
    with contextlib.ExitStack() as stack:
        receiver = stack.enter_context(Receiver())
        hook = {"url": receiver.url, "secret": SECRET}
        one = stack.enter_context(
            ServerProcess(
                tmp_path / "one",
                with_metrics(
                    {
                        "cache": {"enabled": True},
                        "policy": {"file": str(policy)},
                        "notifications": {"webhooks": {"hook": hook}},
                    }
                ),
            )
        )
        login = {"auth_url": keystone.url, "username": USER, "password": PASSWORD}
        identity = {"backend": "keystone", "keystone": {**login, "token_cache_seconds": 0}}
        other = stack.enter_context(
            ServerProcess(tmp_path / "other", with_metrics({"identity": identity}))
        )
        targets = [each.config["metrics"]["bind"] for each in (one, other)]
        prometheus = Prometheus(tmp_path, targets)
        stack.callback(prometheus.close)
        demo = one.log_in_to_cloud("transom-demo")

        def work() -> None:
            image_id = new_image(demo)
            demo.upload(image_id, DATA)
            for _ in range(2):
                demo.get(f"/v2/images/{image_id}/file")
            demo.get("/v2/images")
            one.client("nonsense").get("/v2/images")
            staged = new_image(demo)
            stage(demo, staged, DATA)
            start(demo, staged, "glance-direct")
            demo.put_data(new_image(demo, disk_format="qcow2"), DATA)
            policy.write_text(f"# {time.monotonic()}\n{{}}")
            other.client(f"good-{time.monotonic()}").get("/v2/images")

        missing = list(QUERIES)
        deadline = time.monotonic() + 90
        while missing:
            assert time.monotonic() < deadline, missing
            work()
            time.sleep(0.5)
            missing = [
                (title, query) for title, query in missing if not prometheus.numbers(_chosen(query))
            ]

        rules = prometheus.get("rules")["groups"][0]["rules"]
        assert [rule["name"] for rule in rules if rule["health"] != "ok"] == []
        assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []
        until(lambda: _health(prometheus) == {"up"}, 30)

        keystone.validate = "close"
        other.client("good-more").get("/v2/images")
        until(lambda: _is_pending(prometheus, "TransomKeystoneAway"), 30)
        other.stop()
        until(lambda: _is_pending(prometheus, "TransomDown"), 30)


def _chosen(query: str) -> str:
    """A query of the dashboard, with what Grafana puts into it."""
    return (
        query.replace("$job", "transom")
        .replace("$instance", ".*")
        .replace("$__rate_interval", "30s")
        .replace("$__range", "5m")
    )


def _health(prometheus: Prometheus) -> set[str]:
    return {each["health"] for each in prometheus.get("targets")["activeTargets"]}


def _is_pending(prometheus: Prometheus, alert: str) -> bool:
    found = prometheus.get("alerts")["alerts"]
    return alert in {each["labels"]["alertname"] for each in found}
