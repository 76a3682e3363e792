"""Writes deploy/monitoring/dashboard.json, the dashboard for Grafana, from the table below.

python scripts/dashboard.py            write it
python scripts/dashboard.py --check    only tell whether it differs; exit 1 if it does
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parent.parent / "deploy/monitoring/dashboard.json"
HERE = 'job="$job",instance=~"$instance"'
WIDTH, HEIGHT = 8, 7
COLUMNS = 24 // WIDTH

Query = tuple[str, str]
"""An expression, and what its lines are called."""


def rate(metric: str, by: str = "", **labels: str) -> str:
    """How fast a counter grows, added up."""
    return f"sum{_by(by)} (rate({metric}{_at(labels)}[$__rate_interval]))"


def quantile(share: float, metric: str, by: str = "", **labels: str) -> str:
    """The value that this share of all stays below."""
    both = f"le, {by}" if by else "le"
    counts = f"sum by ({both}) (rate({metric}_bucket{_at(labels)}[$__rate_interval]))"
    return f"histogram_quantile({share}, {counts})"


def now(metric: str, by: str = "", how: str = "sum", **labels: str) -> str:
    """What a gauge says, added up or the largest."""
    return f"{how}{_by(by)} ({metric}{_at(labels)})"


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""


def _at(labels: dict[str, str]) -> str:
    chosen = "".join(f',{name}=~"{value}"' for name, value in labels.items())
    return "{" + HERE + chosen + "}"


ROWS: dict[str, list[tuple[str, str, list[Query]]]] = {
    "Requests": [
        ("Requests", "reqps", [(rate("transom_http_requests_total", "status"), "{{status}}")]),
        (
            "Time of quick requests",
            "s",
            [
                (
                    quantile(
                        share,
                        "transom_http_request_duration_seconds",
                        route="/v2/images|/v2/images/{image_id}",
                    ),
                    name,
                )
                for share, name in ((0.5, "half"), (0.99, "99 of 100"))
            ],
        ),
        (
            "Requests by route",
            "reqps",
            [
                (
                    f"topk(10, {rate('transom_http_requests_total', 'method, route')})",
                    "{{method}} {{route}}",
                )
            ],
        ),
        (
            "Image data",
            "Bps",
            [
                (rate("transom_http_received_bytes_total"), "in"),
                (rate("transom_http_sent_bytes_total"), "out"),
            ],
        ),
        (
            "Under way",
            "short",
            [
                (now("transom_http_requests_running", "instance"), "{{instance}}"),
                (now("transom_http_draining", "instance"), "{{instance}} drains"),
            ],
        ),
        (
            "Data that was refused",
            "ops",
            [(rate("transom_intake_rejections_total", "reason"), "{{reason}}")],
        ),
    ],
    "Database": [
        (
            "Time of reads and writes",
            "s",
            [
                (quantile(0.5, "transom_catalog_duration_seconds", "work"), "{{work}}, half"),
                (quantile(0.99, "transom_catalog_duration_seconds", "work"), "{{work}}, 99 of 100"),
            ],
        ),
        (
            "Wait for a connection",
            "s",
            [
                (
                    quantile(0.99, "transom_catalog_wait_duration_seconds", "work"),
                    "{{work}}, 99 of 100",
                )
            ],
        ),
        (
            "Connections",
            "short",
            [
                (now("transom_catalog_connections_busy", "work"), "{{work}}, busy"),
                (now("transom_catalog_connections_max", "work"), "{{work}}, at most"),
                (now("transom_catalog_waiting", "work"), "{{work}}, waiting"),
            ],
        ),
        (
            "Failures",
            "ops",
            [
                (rate("transom_catalog_errors_total", "kind"), "{{kind}}"),
                (rate("transom_catalog_retries_total"), "repeated"),
                (rate("transom_catalog_reconnections_total"), "connected anew"),
            ],
        ),
    ],
    "Stores": [
        (
            "Bytes",
            "Bps",
            [
                (rate("transom_store_written_bytes_total", "store"), "{{store}} in"),
                (rate("transom_store_read_bytes_total", "store"), "{{store}} out"),
            ],
        ),
        (
            "Time of operations, 95 of 100",
            "s",
            [
                (
                    quantile(0.95, "transom_store_operation_duration_seconds", "store, operation"),
                    "{{store}} {{operation}}",
                )
            ],
        ),
        (
            "Operations under way",
            "short",
            [(now("transom_store_operations_running", "store"), "{{store}}")],
        ),
        (
            "Failures",
            "ops",
            [(rate("transom_store_errors_total", "store, kind"), "{{store}} {{kind}}")],
        ),
        (
            "Cache",
            "ops",
            [(rate("transom_cache_requests_total", "result"), "{{result}}")],
        ),
        (
            "Size of the cache",
            "bytes",
            [
                (now("transom_cache_bytes", "instance"), "{{instance}}"),
                (now("transom_cache_bytes_max", "instance"), "{{instance}}, at most"),
            ],
        ),
    ],
    "Imports": [
        ("Ended", "ops", [(rate("transom_tasks_total", "type, outcome"), "{{type}} {{outcome}}")]),
        (
            "Under way",
            "short",
            [
                (now("transom_tasks_running"), "running"),
                (now("transom_tasks_waiting", how="max"), "waiting"),
            ],
        ),
        ("Oldest", "s", [(now("transom_tasks_oldest_seconds", how="max"), "age")]),
        (
            "Time of steps, half",
            "s",
            [(quantile(0.5, "transom_task_step_duration_seconds", "step"), "{{step}}")],
        ),
        (
            "Mended",
            "ops",
            [
                (rate("transom_sweep_mended_total", "kind"), "{{kind}}"),
                (rate("transom_tasks_adopted_total"), "adopted tasks"),
                (rate("transom_sweep_failures_total"), "sweeps that broke off"),
            ],
        ),
        (
            "Events",
            "short",
            [
                (now("transom_events_waiting", "target", "max"), "{{target}} waiting"),
                (now("transom_events_laid_aside", "target", "max"), "{{target}} laid aside"),
                (rate("transom_events_delivered_total", "target"), "{{target}} a second"),
            ],
        ),
    ],
    "Identity and policy": [
        (
            "Tokens",
            "ops",
            [
                (rate("transom_identity_remembered_total"), "remembered"),
                (
                    rate("transom_identity_validation_duration_seconds_count", "outcome"),
                    "{{outcome}}",
                ),
            ],
        ),
        (
            "Time to validate a token, 95 of 100",
            "s",
            [
                (quantile(0.95, "transom_identity_validation_duration_seconds"), "in all"),
                (quantile(0.95, "transom_keystone_request_duration_seconds"), "Keystone"),
            ],
        ),
        (
            "Keystone answers",
            "short",
            [(now("transom_keystone_up", "instance", "min"), "{{instance}}")],
        ),
        (
            "Files read again",
            "short",
            [
                (
                    f"sum by (file, outcome) (increase(transom_policy_reloads_total{_at({})}[$__range]))",
                    "{{file}} {{outcome}}",
                )
            ],
        ),
    ],
    "Processes": [
        ("Processor", "short", [(rate("process_cpu_seconds_total", "instance"), "{{instance}}")]),
        ("Memory", "bytes", [(now("process_resident_memory_bytes", "instance"), "{{instance}}")]),
        ("Files", "short", [(now("process_open_fds", "instance"), "{{instance}}")]),
        (
            "What runs",
            "short",
            [(now("transom_build_info", "version, python", "count"), "{{version}} on {{python}}")],
        ),
        (
            "Clock was set",
            "short",
            [
                (
                    f"sum by (instance) (increase(transom_clock_jumps_total{_at({})}[$__range]))",
                    "{{instance}}",
                )
            ],
        ),
        (
            "Last sweep",
            "s",
            [
                (
                    "time() - " + now("transom_sweep_last_success_timestamp_seconds", how="max"),
                    "ago",
                )
            ],
        ),
    ],
}
"""Rows of panels: title, unit, queries."""


def dashboard() -> dict[str, Any]:
    """The dashboard, as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for row, contents in ROWS.items():
        place = {"x": 0, "y": top, "w": 24, "h": 1}
        panels.append(
            {"id": len(panels) + 1, "type": "row", "title": row, "gridPos": place, "panels": []}
        )
        top += 1
        for position, (title, unit, queries) in enumerate(contents):
            place = {
                "x": position % COLUMNS * WIDTH,
                "y": top + position // COLUMNS * HEIGHT,
                "w": WIDTH,
                "h": HEIGHT,
            }
            panels.append(_panel(len(panels) + 1, title, unit, queries, place))
        top += -(-len(contents) // COLUMNS) * HEIGHT
    return {
        "uid": "transom",
        "title": "Transom",
        "tags": ["transom"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [
                {
                    "name": "source",
                    "label": "Prometheus",
                    "type": "datasource",
                    "query": "prometheus",
                },
                _variable("job", "label_values(transom_build_info, job)", several=False),
                _variable(
                    "instance",
                    'label_values(transom_build_info{job="$job"}, instance)',
                    several=True,
                ),
            ]
        },
        "panels": panels,
    }


def _panel(
    number: int, title: str, unit: str, queries: list[Query], place: dict[str, int]
) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${source}"}
    return {
        "id": number,
        "type": "timeseries",
        "title": title,
        "datasource": source,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 10}},
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {
                "refId": chr(ord("A") + position),
                "datasource": source,
                "expr": expression,
                "legendFormat": legend,
                "range": True,
            }
            for position, (expression, legend) in enumerate(queries)
        ],
    }


def _variable(name: str, query: str, *, several: bool) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${source}"},
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "includeAll": several,
        "multi": several,
        "current": {"text": "All", "value": "$__all"} if several else {},
    }


def text() -> str:
    """The file."""
    return json.dumps(dashboard(), indent=2) + "\n"


def main() -> int:
    """Write the file, or with `--check` compare it."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--check", action="store_true", help="compare, write nothing")
    if arguments.parse_args().check:
        if not PAGE.exists() or PAGE.read_text() != text():
            print(f"{PAGE.name} is out of date; run python scripts/dashboard.py")
            return 1
        return 0
    PAGE.write_text(text())
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
