"""Traces reach a receiver of OTLP, with everything that a request did, and nothing secret."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.importing import ended, new_image, start
from tests.support.server import ServerProcess, merged
from tests.support.waiting import until
from tests.support.web import allowing

pytestmark = pytest.mark.interop

DATA = os.urandom(300_000)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


class Heard(http.server.ThreadingHTTPServer):
    """Takes everything; remembers the headers, and the spans of what was OTLP."""

    daemon_threads = True

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        self.headers: list[tuple[str, dict[str, str]]] = []
        """Path and headers of all other requests."""
        heard = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                """A batch of spans, or a login at what passes for Keystone."""
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/v1/traces":
                    request = ExportTraceServiceRequest.FromString(body)
                    for each in request.resource_spans:
                        heard.resources.append(_plain(each.resource.attributes))
                        heard.spans += [span for part in each.scope_spans for span in part.spans]
                    self._answer(200, b"")
                else:
                    self.do_GET()

            def do_GET(self) -> None:
                """Data for an import."""
                heard.headers.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
                self._answer(200, DATA)

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def of_trace(self, trace_id: str) -> list[Any]:
        """The spans of one trace."""
        return [span for span in self.spans if span.trace_id.hex() == trace_id]


def _plain(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@pytest.fixture
def heard() -> Iterator[Heard]:
    """A receiver of traces, which serves data as well."""
    with Heard() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _sent_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")


def test_a_request_is_a_trace_with_its_statements_and_store_operations(
    tmp_path: Path, heard: Heard
) -> None:
    config = merged(allowing(), {"tracing": {"endpoint": heard.url}})
    with ServerProcess(tmp_path, config) as server:
        demo = server.log_in_to_cloud("transom-demo")
        image_id = demo.create(disk_format="raw", container_format="bare")["id"]
        answer = demo.put_data(image_id, DATA, {"traceparent": f"00-{TRACE}-{PARENT}-01"})
        assert answer.status_code == 204
        until(lambda: any(_is_request(span) for span in heard.of_trace(TRACE)), 20)
        spans = heard.of_trace(TRACE)
        log = server.log()

    [request] = [span for span in spans if _is_request(span)]
    facts = _plain(request.attributes)
    assert request.name == "PUT /v2/images/{image_id}/file"
    assert request.parent_span_id.hex() == PARENT
    assert facts["http.route"] == "/v2/images/{image_id}/file"
    assert facts["http.response.status_code"] == 204
    assert facts["transom.image_id"] == image_id
    assert facts["transom.request_id"] == answer.headers["x-openstack-request-id"]
    below = {span.span_id: span for span in spans}
    names = {span.name for span in spans}
    assert {"catalog read", "catalog write", "SELECT", "UPDATE", "store commit"} <= names
    for span in spans:
        top = span
        while top is not request:
            top = below[top.parent_span_id]
    statements = [span for span in spans if span.name == "SELECT"]
    assert all(below[each.parent_span_id].name.startswith("catalog ") for each in statements)
    assert not [each for each in statements if image_id in str(each.attributes)]
    assert heard.resources[0]["service.name"] == "transom"
    assert f'"trace_id": "{TRACE}"' in log, "the lines of the log name their trace"
    assert str(demo.token) not in str(heard.spans)


def _is_request(span: Any) -> bool:
    return bool(span.parent_span_id.hex() == PARENT)


def test_an_import_is_traced_by_its_steps_and_tells_the_source(
    tmp_path: Path, heard: Heard
) -> None:
    config = merged(allowing(), {"tracing": {"endpoint": heard.url}})
    with ServerProcess(tmp_path, config) as server:
        demo = server.log_in_to_cloud("transom-demo")
        image_id = new_image(demo)
        start(demo, image_id, {"name": "web-download", "uri": f"{heard.url}/disk.raw"})
        assert ended(demo, image_id)["status"] == "success"

        def steps() -> set[str]:
            return {span.name for span in heard.spans if span.name.startswith("step ")}

        until(lambda: {"step fetch", "step place:main", "step finish"} <= steps(), 20)
        spans = list(heard.spans)

    [fetch] = [span for span in spans if span.name == "step fetch"]
    facts = _plain(fetch.attributes)
    assert facts["image_id"] == image_id
    assert facts["request_id"].startswith("req-")
    [(path, headers)] = heard.headers
    assert path == "/disk.raw"
    version, trace, parent, _ = headers["traceparent"].split("-")
    asked = [span for span in spans if span.span_id.hex() == parent]
    assert version == "00"
    assert trace == fetch.trace_id.hex()
    assert [span.name for span in asked] == ["fetch GET"]


def test_keystone_is_told_the_trace(tmp_path: Path, heard: Heard) -> None:
    identity = {
        "backend": "keystone",
        "keystone": {"auth_url": heard.url, "username": "transom", "password": "hidden words"},
    }
    config = {"identity": identity, "tracing": {"endpoint": heard.url}}
    with ServerProcess(tmp_path, config) as server:
        httpx.get(
            f"{server.url}/v2/images",
            headers={"X-Auth-Token": "t", "traceparent": f"00-{TRACE}-{PARENT}-01"},
            trust_env=False,
        )
        until(lambda: any(_is_request(span) for span in heard.of_trace(TRACE)), 20)

    told = {headers["traceparent"].split("-")[1] for path, headers in heard.headers}
    assert told == {TRACE}
    [request] = [span for span in heard.of_trace(TRACE) if _is_request(span)]
    assert request.status.code == 2, "a 503 is marked as an error"
    assert "hidden words" not in str(heard.spans)


def test_s3_is_told_the_trace(tmp_path: Path, heard: Heard) -> None:
    store = {"driver": "s3", "endpoint_url": heard.url, "region": "default", "bucket": "images"}
    keys = {"access_key": "known", "secret_key": "hidden words"}
    config = {"stores": {"main": {**store, **keys}}, "tracing": {"endpoint": heard.url}}
    with ServerProcess(tmp_path, config) as server:
        answer = httpx.get(
            f"{server.url}/readyz",
            headers={"traceparent": f"00-{TRACE}-{PARENT}-01"},
            trust_env=False,
            timeout=30,
        )
        assert answer.status_code == 503, "what it hears there is no S3"
        until(lambda: any(_is_request(span) for span in heard.of_trace(TRACE)), 20)

    told = {
        headers["traceparent"].split("-")[1]
        for path, headers in heard.headers
        if path.startswith("/images") and "traceparent" in headers
    }
    assert TRACE in told
    assert "store check" in {span.name for span in heard.of_trace(TRACE)}
    assert "hidden words" not in str(heard.spans)


def test_worker_processes_trace_and_the_environment_names_the_receiver(
    tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", heard.url)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "images")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    with ServerProcess(tmp_path, {"server": {"workers": 2}}) as server:
        httpx.get(f"{server.url}/versions", trust_env=False)
    # What was not sent yet is sent at the end.
    assert "GET /versions" in {span.name for span in heard.spans}
    assert heard.resources[0]["service.name"] == "images"


def test_a_share_of_the_requests_is_traced(tmp_path: Path, heard: Heard) -> None:
    config = {"tracing": {"endpoint": heard.url, "sample_ratio": 0}}
    with ServerProcess(tmp_path, config) as server:
        for flags in ("00", "01"):
            header = {"traceparent": f"00-{TRACE}-{PARENT}-{flags}"}
            httpx.get(f"{server.url}/versions", headers=header, trust_env=False)
        httpx.get(f"{server.url}/versions", trust_env=False)

    assert [span.name for span in heard.spans if span.name == "GET /versions"] == ["GET /versions"]


def test_a_receiver_that_is_away_harms_nobody(tmp_path: Path, heard: Heard) -> None:
    config = {"tracing": {"endpoint": "http://127.0.0.1:9"}}
    with ServerProcess(tmp_path, config) as server:
        client = server.client()
        began = time.monotonic()
        for _ in range(20):
            assert client.get("/versions").status_code == 200
        assert time.monotonic() - began < 5


def test_without_the_package_the_setting_is_refused(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "sys.modules['opentelemetry.sdk'] = None\n"
        "from transom.cli.main import main\n"
        "sys.exit(main(['worker', '--data', sys.argv[1]]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env={**os.environ, "TRANSOM_TRACING__ENDPOINT": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "install transom[tracing]" in done.stderr
