"""Reads `/metrics` as Prometheus does, and answers questions about it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.ports import free_port
from tests.support.server import Config, merged

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Metrics:
    """The numbers of one process, at the address that its configuration gives `/metrics`."""

    def __init__(self, bind: str) -> None:
        self.url = f"http://{bind}/metrics"

    @classmethod
    def of(cls, config: Config) -> Metrics:
        """Of the server with this configuration; `with_metrics` made it."""
        return cls(config["metrics"]["bind"])

    def text(self, accept: str = "text/plain") -> str:
        """What is served."""
        answer = httpx.get(self.url, headers={"Accept": accept}, trust_env=False, timeout=10)
        assert answer.status_code == 200, answer.text
        return answer.text

    def samples(self) -> Samples:
        """Every sample, by name and labels."""
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.text())
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples of that name that have these labels; 0 when there is none."""
        wanted = set(labels.items())
        return sum(
            value
            for (found, have), value in self.samples().items()
            if found == name and wanted <= have
        )

    def wait_for(
        self, is_so: Callable[[float], Any], name: str, *, seconds: float = 15.0, **labels: str
    ) -> float:
        """The value, as soon as it is as wanted; fails the test after so many seconds."""
        deadline = time.monotonic() + seconds
        while not is_so(value := self.value(name, **labels)):
            assert time.monotonic() < deadline, f"{name}{labels} stays {value}"
            time.sleep(0.1)
        return value


def with_metrics(config: Config | None = None) -> dict[str, Any]:
    """The configuration, with `/metrics` on a free port."""
    return merged(config or {}, {"metrics": {"bind": f"127.0.0.1:{free_port()}"}})
