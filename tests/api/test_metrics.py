"""`/metrics`: what happens is counted, for every worker process, under labels that stay few."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import MakeServer
from tests.support.importing import new_image, stage, start
from tests.support.ports import free_port
from tests.support.scraping import Metrics, with_metrics
from tests.support.server import Client, ServerProcess, children, merged, told

DATA = os.urandom(300_000)
LISTS = "/v2/images"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that counts, with a cache and a policy file."""
    folder = tmp_path_factory.mktemp("metrics")
    (folder / "policy.yaml").write_text("{}")
    config = with_metrics(
        {"cache": {"enabled": True}, "policy": {"file": str(folder / "policy.yaml")}}
    )
    with ServerProcess(folder, config) as running:
        yield running


@pytest.fixture
def metrics(server: ServerProcess) -> Metrics:
    """What it counts."""
    return Metrics.of(server.config)


@pytest.fixture
def demo(server: ServerProcess) -> Client:
    """A member of a project."""
    return server.log_in_to_cloud("transom-demo")


def active(client: Client) -> str:
    """The id of an active image."""
    made = client.create(disk_format="raw", container_format="bare")
    return str(client.upload(made["id"], DATA)["id"])


def test_requests_are_counted_by_route_and_never_by_path(demo: Client, metrics: Metrics) -> None:
    counted = "transom_http_requests_total"
    before = metrics.value(counted, route="/v2/images/{image_id}", method="GET", status="404")
    for _ in range(5):
        demo.get(f"{LISTS}/{uuid.uuid4()}")
        demo.get(f"/nowhere/{uuid.uuid4()}")
        demo.request("BREW", LISTS)

    after = metrics.wait_for(
        lambda value: value >= before + 5,
        counted,
        route="/v2/images/{image_id}",
        method="GET",
        status="404",
    )
    assert after == before + 5
    assert metrics.value(counted, route="unmatched") >= 5
    assert metrics.value(counted, method="other", route="/v2/images") == 5
    routes = {dict(labels).get("route", "") for _, labels in metrics.samples()}
    assert not [route for route in routes if "nowhere" in route or route.count("-") > 3]


def test_the_time_of_requests_is_told_in_buckets(demo: Client, metrics: Metrics) -> None:
    before = metrics.value("transom_http_request_duration_seconds_count", route="/v2/images")
    demo.get(LISTS)

    name = "transom_http_request_duration_seconds"
    assert metrics.wait_for(lambda value: value > before, f"{name}_count", route="/v2/images")
    assert metrics.value(f"{name}_bucket", route="/v2/images", method="GET", le="+Inf") == (
        metrics.value(f"{name}_count", route="/v2/images", method="GET")
    )
    assert metrics.value(f"{name}_sum", route="/v2/images", method="GET") > 0
    assert metrics.value("transom_http_requests_running") == 0


def test_bytes_are_counted_where_they_pass(demo: Client, metrics: Metrics) -> None:
    names = (
        ("transom_http_received_bytes_total", {"route": "/v2/images/{image_id}/file"}),
        ("transom_http_sent_bytes_total", {"route": "/v2/images/{image_id}/file"}),
        ("transom_store_written_bytes_total", {"store": "main"}),
        ("transom_store_read_bytes_total", {"store": "main"}),
        ("transom_intake_bytes_total", {}),
    )
    before = [metrics.value(name, **labels) for name, labels in names]
    image_id = active(demo)
    # The first byte keeps it from the cache.
    answer = demo.get(f"{LISTS}/{image_id}/file", headers={"Range": "bytes=1-"})
    assert answer.status_code == 206, told(answer)
    received, sent, written, read, taken = (
        metrics.wait_for(lambda value, was=was: value > was, name, **labels) - was
        for (name, labels), was in zip(names, before, strict=True)
    )

    assert received == len(DATA)
    assert sent == len(DATA) - 1
    assert written == len(DATA)
    assert read == len(DATA) - 1
    assert taken == len(DATA)
    assert metrics.value(
        "transom_store_operation_duration_seconds_count", store="main", operation="commit"
    )


def test_data_that_is_refused_is_counted_by_its_reason(demo: Client, metrics: Metrics) -> None:
    name = "transom_intake_rejections_total"
    before = {reason: metrics.value(name, reason=reason) for reason in ("format", "size")}
    made = demo.create(disk_format="qcow2", container_format="bare")
    assert demo.put_data(made["id"], DATA).status_code == 415
    raw = demo.create(disk_format="raw", container_format="bare")
    announced = {"x-openstack-image-size": str(len(DATA) + 1)}
    assert demo.put_data(raw["id"], DATA, announced).status_code == 400

    for reason, was in before.items():
        assert metrics.wait_for(lambda value, was=was: value > was, name, reason=reason) == was + 1


def test_the_work_of_the_database_is_counted(demo: Client, metrics: Metrics) -> None:
    reads = metrics.value("transom_catalog_duration_seconds_count", work="read")
    writes = metrics.value("transom_catalog_duration_seconds_count", work="write")
    demo.create()
    demo.get(LISTS)

    assert metrics.value("transom_catalog_duration_seconds_count", work="read") > reads
    assert metrics.value("transom_catalog_duration_seconds_count", work="write") > writes
    assert metrics.value("transom_catalog_wait_duration_seconds_count", work="write") > writes
    assert metrics.value("transom_catalog_connections_max", work="write") == 1
    assert metrics.value("transom_catalog_errors_total") == 0


def test_imports_are_counted_by_type_and_outcome(demo: Client, metrics: Metrics) -> None:
    done = metrics.value("transom_tasks_total", outcome="success")
    image_id = new_image(demo)
    stage(demo, image_id, DATA)
    start(demo, image_id, "glance-direct")

    assert (
        metrics.wait_for(lambda value: value > done, "transom_tasks_total", outcome="success")
        == done + 1
    )
    assert metrics.value("transom_tasks_total", type="api_image_import", outcome="success")
    assert metrics.value("transom_task_step_duration_seconds_count", step="finish")
    metrics.wait_for(lambda value: value == 0, "transom_tasks_oldest_seconds")
    assert metrics.value("transom_tasks_waiting") == 0


def test_downloads_from_the_cache_are_counted(demo: Client, metrics: Metrics) -> None:
    name = "transom_cache_requests_total"
    hits, misses = metrics.value(name, result="hit"), metrics.value(name, result="miss")
    filled = metrics.value("transom_cache_fillings_total", outcome="success")
    image_id = active(demo)
    assert demo.get(f"{LISTS}/{image_id}/file").content == DATA
    metrics.wait_for(
        lambda value: value == filled + 1, "transom_cache_fillings_total", outcome="success"
    )
    assert demo.get(f"{LISTS}/{image_id}/file").content == DATA

    assert metrics.value(name, result="hit") == hits + 1
    assert metrics.value(name, result="miss") == misses + 1
    assert metrics.value("transom_cache_bytes") >= len(DATA)
    assert metrics.value("transom_cache_bytes_max") == 10737418240


def test_tokens_are_counted_by_what_became_of_them(
    server: ServerProcess, demo: Client, metrics: Metrics
) -> None:
    name = "transom_identity_validation_duration_seconds_count"
    refused = metrics.value(name, outcome="refused")
    remembered = metrics.value("transom_identity_remembered_total")
    assert server.client("nonsense").get(LISTS).status_code == 401
    demo.get(LISTS)
    demo.get(LISTS)

    assert metrics.wait_for(lambda value: value > refused, name, outcome="refused") == refused + 1
    assert metrics.value("transom_identity_remembered_total") > remembered


def test_a_policy_file_that_is_refused_is_counted(
    server: ServerProcess, demo: Client, metrics: Metrics
) -> None:
    path = Path(server.config["policy"]["file"])
    path.write_text("get_images: 'role:'x")

    def looked(_: float) -> bool:
        demo.get(LISTS)
        return metrics.value("transom_policy_reloads_total", outcome="failure") == 1

    metrics.wait_for(looked, "transom_policy_reloads_total", file="policy")
    path.write_text("{}")
    metrics.wait_for(
        lambda value: bool(demo.get(LISTS)) and value == 1,
        "transom_policy_reloads_total",
        file="policy",
        outcome="success",
    )


def test_an_answer_that_breaks_off_is_counted_as_broken(
    server: ServerProcess, demo: Client, metrics: Metrics
) -> None:
    image_id = active(demo)
    name, labels = "transom_http_requests_total", {"status": "broken", "method": "PUT"}
    before = metrics.value(name, **labels)
    made = demo.create(disk_format="raw", container_format="bare")
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(
            f"PUT {LISTS}/{made['id']}/file HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {demo.token}\r\n"
            "Content-Type: application/octet-stream\r\nContent-Length: 100000\r\n\r\nxyz".encode()
        )
        metrics.wait_for(lambda value: value == 1, "transom_http_requests_running")

    metrics.wait_for(lambda value: value == 0, "transom_http_requests_running")
    assert metrics.value(name, **labels) in (before, before + 1)
    assert metrics.value("transom_intake_rejections_total", reason="incomplete") >= 1
    assert demo.get(f"{LISTS}/{image_id}").status_code == 200


def test_the_process_tells_what_it_is(metrics: Metrics) -> None:
    from transom import __version__

    assert metrics.value("transom_build_info", version=__version__) == 1
    assert metrics.value("transom_processes") == 1
    assert 10e6 < metrics.value("process_resident_memory_bytes") < 1e9
    assert metrics.value("process_cpu_seconds_total") > 0.1
    assert 5 < metrics.value("process_open_fds") < metrics.value("process_max_fds")
    assert metrics.wait_for(
        lambda value: value > 0, "transom_sweep_last_success_timestamp_seconds"
    ) >= int(metrics.value("process_start_time_seconds"))


def test_worker_processes_are_counted_together_and_nothing_is_lost_with_them(
    make_server: MakeServer,
) -> None:
    server = make_server(with_metrics({"server": {"workers": 2}}))
    metrics = Metrics.of(server.config)
    metrics.wait_for(lambda value: value == 3, "transom_processes")
    with contextlib.ExitStack() as stack:
        # Each connection is taken by one of the workers.
        clients = [stack.enter_context(httpx.Client(trust_env=False)) for _ in range(8)]
        for _ in range(10):
            for client in clients:
                assert client.get(f"{server.url}/versions").status_code == 200
    name, labels = "transom_http_requests_total", {"route": "/versions"}
    metrics.wait_for(lambda value: value == 80, name, **labels)

    assert server.process is not None
    workers = _workers(server.process.pid)
    os.kill(workers[0], signal.SIGKILL)
    metrics.wait_for(lambda _: set(_workers(server.process.pid)) - set(workers), name)  # type: ignore[union-attr]
    metrics.wait_for(lambda value: value == 3, "transom_processes")

    assert metrics.value(name, **labels) == 80
    httpx.get(f"{server.url}/versions", trust_env=False)
    metrics.wait_for(lambda value: value == 81, name, **labels)
    folder = _metrics_folder(server.process.pid)
    server.stop()
    assert folder.parent.exists()
    assert not folder.exists()


def test_a_worker_without_requests_has_metrics_too(tmp_path: Path) -> None:
    bind = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [sys.executable, "-m", "transom", "worker", "--data", str(tmp_path)],
        env={**os.environ, "TRANSOM_METRICS__BIND": bind},
        stderr=subprocess.DEVNULL,
    )
    try:
        metrics = Metrics(bind)
        _wait_for_port(bind)
        metrics.wait_for(lambda value: value > 0, "transom_sweep_last_success_timestamp_seconds")
        assert metrics.value("transom_tasks_running") == 0
    finally:
        process.terminate()
        assert process.wait(20) == 0


def test_an_address_that_is_taken_is_refused_at_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-m", "transom", "worker", "--data", str(tmp_path)],
            env={**os.environ, "TRANSOM_METRICS__BIND": bind},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert f"metrics.bind = '{bind}': cannot listen there" in done.stderr


def test_without_an_address_nothing_is_measured_nor_loaded(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from transom.app import App\n"
        "from transom.settings import load\n"
        "from pathlib import Path\n"
        "app = App.build(load(None, Path(sys.argv[1])))\n"
        "assert app.face._meter is None\n"
        "assert type(app.registry.stores.get('main')).__name__ == 'FileStore'\n"
        "print([name for name in sys.modules if name.startswith(('prometheus', 'opentel'))])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "[]\n", done.stderr


def test_load_balancers_are_told_before_the_end(make_server: MakeServer) -> None:
    _drains(make_server(with_metrics({"server": {"drain_seconds": 3}})))


def test_load_balancers_are_told_before_the_end_by_worker_processes(
    make_server: MakeServer,
) -> None:
    _drains(make_server(with_metrics({"server": {"workers": 2, "drain_seconds": 3}})))


def _drains(server: ServerProcess) -> None:
    demo = server.log_in_to_cloud("transom-demo")
    image_id = demo.create(disk_format="raw", container_format="bare")["id"]
    ready = f"{server.url}/readyz"
    assert httpx.get(ready, trust_env=False).json() == {"catalog": "ok", "stores": "ok"}
    assert server.process is not None

    def body() -> Iterator[bytes]:
        yield DATA
        server.process.terminate()  # type: ignore[union-attr]
        Metrics.of(server.config).wait_for(lambda value: value == 1, "transom_http_draining")
        answer = httpx.get(ready, trust_env=False)
        assert answer.status_code == 503
        assert "ending" in answer.json()["process"]
        assert httpx.get(f"{server.url}/versions", trust_env=False).status_code == 200
        yield DATA

    assert demo.put_data(image_id, body()).status_code == 204
    assert server.process.wait(20) == 0


def test_readiness_tells_of_a_store_that_cannot_be_written(make_server: MakeServer) -> None:
    server = make_server(merged(with_metrics(), {"stores": {"main": {"path": "<data>/kept"}}}))
    partial = server.data / "kept" / ".partial"
    partial.rename(partial.with_name("moved"))

    answer = httpx.get(f"{server.url}/readyz", trust_env=False)

    assert answer.status_code == 503
    assert answer.json()["catalog"] == "ok"
    assert answer.json()["stores"] != "ok"
    assert Metrics.of(server.config).value(
        "transom_store_errors_total", store="main", operation="check", kind="unavailable"
    )
    assert httpx.get(f"{server.url}/healthcheck", trust_env=False).status_code == 200


def _workers(pid: int) -> list[int]:
    """The processes that serve requests, below a main process."""
    found = []
    for child in children(pid):
        # It may end while it is looked at.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if "resource_tracker" not in Path(f"/proc/{child}/cmdline").read_text():
                found.append(child)
    return found


def _metrics_folder(pid: int) -> Path:
    """Where the main process's socket for its workers is."""
    sockets = Path(f"/proc/{pid}/net/unix").read_text().split()
    inodes = {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()}
    for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if len(fields) == 8 and f"socket:[{fields[6]}]" in inodes:
            return Path(fields[7]).parent
    raise AssertionError(sockets)


def _wait_for_port(bind: str) -> None:
    host, _, port = bind.partition(":")
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
            return
        time.sleep(0.1)
    raise AssertionError(f"nothing listens at {bind}")
