"""Clients that break the rules of HTTP: each gets a clear refusal, and nobody else notices."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.checks import check_goes_back_to_queued, queued
from tests.conftest import configured
from tests.support.raw_http import RawConnection, exchange
from tests.support.server import Client, ServerProcess

pytestmark = pytest.mark.faults
MIB = 1 << 20


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that only bad clients use."""
    with configured(tmp_path_factory.mktemp("victim")) as running:
        yield running


@pytest.fixture
def demo(victim: ServerProcess) -> Iterator[Client]:
    """A well-behaved caller beside the bad ones; the server still serves it afterwards."""
    client = victim.log_in_to_cloud("transom-demo")
    yield client
    assert victim.is_alive(), f"the server is gone:\n{victim.log()[-3000:]}"
    assert client.get("/v2/images").status_code == 200
    assert "Traceback" not in victim.log(), "a bad client made the server trip"


def head(client: Client, line: str, *fields: str) -> bytes:
    """The bytes of a request's head, with the client's token."""
    lines = [line, "Host: 127.0.0.1", f"X-Auth-Token: {client.token}", *fields]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def refused(victim: ServerProcess, request: bytes, *statuses: int) -> None:
    """The server answers with one of the statuses, or closes the connection without a word."""
    answer = exchange(victim.port, request)
    if answer is not None:
        assert answer.status in statuses, (answer.status, answer.body[:200])


def check_files(victim: ServerProcess, before: list[Path], seconds: float = 5) -> None:
    """The store comes to hold what it held before, and nothing else."""
    deadline = time.monotonic() + seconds
    while victim.stored_files() != before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert victim.stored_files() == before, "a file that belongs to no image stays"


class TestHeads:
    """Request lines and headers."""

    @pytest.mark.parametrize(
        "request_bytes",
        [
            b"GARBAGE\r\n\r\n",
            b"\x00\x01\x02\x03\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET /v2/images\r\n\r\n",
            b"GET /v2/images HTTP/9.9\r\n\r\n",
            b"GET /v2/images HTTP/1.1\r\nno colon here\r\n\r\n",
            b"GET /v2/images HTTP/1.1\r\nHost: x\r\nBad\x00Name: y\r\n\r\n",
            b"GET /v2/images HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n",
            b"GET /v2/\x00images HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ],
        ids=lambda value: repr(value[:25]),
    )
    def test_bytes_that_are_no_request(
        self, victim: ServerProcess, demo: Client, request_bytes: bytes
    ) -> None:
        with RawConnection(victim.port, timeout_seconds=5) as connection:
            connection.send(request_bytes)
            connection.socket.shutdown(socket.SHUT_WR)
            answer = connection.read_answer()
        assert answer is None or 300 <= answer.status < 500, answer

    def test_flood_of_headers(self, victim: ServerProcess, demo: Client) -> None:
        fields = [f"X-Flood-{number}: {number}" for number in range(10_000)]
        refused(victim, head(demo, "GET /v2/images HTTP/1.1", *fields), 400, 413, 431)

    def test_header_of_a_megabyte(self, victim: ServerProcess, demo: Client) -> None:
        request = head(demo, "GET /v2/images HTTP/1.1", "X-Long: " + "x" * (2 * MIB))
        refused(victim, request, 400, 413, 431)

    def test_path_of_a_megabyte(self, victim: ServerProcess, demo: Client) -> None:
        request = head(demo, f"GET /v2/images/{'x' * (2 * MIB)} HTTP/1.1")
        refused(victim, request, 400, 404, 413, 414, 431)

    def test_headers_that_never_end(self, victim: ServerProcess, demo: Client) -> None:
        """A hundred clients that send a head drop by drop do not keep others waiting."""
        slow = [RawConnection(victim.port) for _ in range(100)]
        try:
            for connection in slow:
                connection.send(b"GET /v2/images HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            before = time.monotonic()
            assert demo.get("/v2/images").status_code == 200
            assert time.monotonic() - before < 5
        finally:
            for connection in slow:
                connection.close()

    @pytest.mark.parametrize(
        "path",
        [
            "/v2/images/%",
            "/v2/images/%zz",
            "/v2/images/%00",
            "/v2/images/%ff%fe",
            "/v2/images/%c3%28",
            "/v2/images/%ed%a0%80",
            "/v2/images/%f0%9f%90%a7",
            "/v2/images/\xff\xfe",
            "/v2/images/..%2f..%2fetc%2fpasswd",
            "/v2/../../etc/passwd",
            "/v2/images/../../../etc/passwd",
            "//v2//images",
            "/v2/images/%2e%2e/%2e%2e",
            "/v2/images/a\\b",
        ],
    )
    @pytest.mark.parametrize("method", ["GET", "DELETE"])
    def test_path_of_strange_bytes(
        self, victim: ServerProcess, demo: Client, method: str, path: str
    ) -> None:
        answer = exchange(victim.port, head(demo, f"{method} {path} HTTP/1.1"))
        # An unknown first segment gives the version document.
        assert answer is None or answer.status in (300, 400, 404), answer
        assert answer is None or b"root:" not in answer.body

    @pytest.mark.parametrize("segment", ["%ff%fe", "%c3%28", "%ed%a0%80"])
    @pytest.mark.parametrize("method", ["PUT", "DELETE"])
    def test_tag_of_strange_bytes_is_refused(
        self, victim: ServerProcess, demo: Client, method: str, segment: str
    ) -> None:
        image_id = demo.create(tags=["kept"])["id"]
        answer = exchange(
            victim.port, head(demo, f"{method} /v2/images/{image_id}/tags/{segment} HTTP/1.1")
        )
        assert answer is not None
        assert answer.status in (400, 404), answer
        assert demo.show(image_id)["tags"] == ["kept"]


class TestBodies:
    """Bodies that differ from what their heads say."""

    @pytest.mark.parametrize(
        "fields",
        [
            ["Content-Length: -1"],
            ["Content-Length: abc"],
            ["Content-Length: 99999999999999999999999999"],
            ["Content-Length: 5", "Content-Length: 6"],
            ["Content-Length: 5, 6"],
            ["Content-Length: +5"],
            ["Content-Length: 0x5"],
            ["Transfer-Encoding: gzip"],
            ["Transfer-Encoding: chunked, gzip"],
            ["Transfer-Encoding: xchunked"],
        ],
        ids=str,
    )
    def test_lengths_that_are_none(
        self, victim: ServerProcess, demo: Client, fields: list[str]
    ) -> None:
        image_id = queued(demo)
        request = head(
            demo,
            f"PUT /v2/images/{image_id}/file HTTP/1.1",
            "Content-Type: application/octet-stream",
            *fields,
        )
        with RawConnection(victim.port, timeout_seconds=5) as connection:
            connection.send(request + b"12345")
            connection.socket.shutdown(socket.SHUT_WR)
            answer = connection.read_answer()
        assert answer is None or answer.status in (400, 411, 413, 501), answer
        check_goes_back_to_queued(demo, image_id)

    def test_length_and_chunks_together_hide_no_second_request(
        self, victim: ServerProcess, demo: Client
    ) -> None:
        """The smuggling trick: what one reader takes for a body is a request for another."""
        image_id = queued(demo)
        target = demo.create(name="victim")["id"]
        hidden = head(demo, f"DELETE /v2/images/{target} HTTP/1.1")
        body = b"0\r\n\r\n" + hidden
        request = head(
            demo,
            f"PUT /v2/images/{image_id}/file HTTP/1.1",
            "Content-Type: application/octet-stream",
            f"Content-Length: {len(body)}",
            "Transfer-Encoding: chunked",
        )
        with RawConnection(victim.port, timeout_seconds=5) as connection:
            connection.send(request + body)
            connection.socket.shutdown(socket.SHUT_WR)
            first = connection.read_answer()
        assert first is None or first.status in (204, 400), first
        time.sleep(0.3)
        assert demo.show(target)["name"] == "victim", "a hidden request was carried out"

    @pytest.mark.parametrize(
        "chunk",
        [
            b"zz\r\nhello\r\n",
            b"-5\r\nhello\r\n",
            b"5\r\nhelloXX",
            b"ffffffffffffffffff\r\nhello",
            b"5;" + b"x" * 100_000 + b"\r\nhello\r\n",
        ],
        ids=lambda value: repr(value[:20]),
    )
    def test_broken_chunks_leave_the_image_queued(
        self, victim: ServerProcess, demo: Client, chunk: bytes
    ) -> None:
        image_id = queued(demo)
        before = victim.stored_files()
        request = head(
            demo,
            f"PUT /v2/images/{image_id}/file HTTP/1.1",
            "Content-Type: application/octet-stream",
            "Transfer-Encoding: chunked",
        )
        with RawConnection(victim.port, timeout_seconds=5) as connection:
            connection.send(request + b"5\r\nfirst\r\n" + chunk)
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_WR)
            answer = connection.read_answer()
        assert answer is None or answer.status in (400, 413), answer
        check_goes_back_to_queued(demo, image_id)
        demo.delete(f"/v2/images/{image_id}")
        check_files(victim, before)

    def test_json_body_that_never_comes(self, victim: ServerProcess, demo: Client) -> None:
        with RawConnection(victim.port) as connection:
            connection.send(head(demo, "POST /v2/images HTTP/1.1", "Content-Length: 100"))
            connection.send(b'{"name": "half')
            before = time.monotonic()
            assert demo.get("/v2/images").status_code == 200
            assert time.monotonic() - before < 5
        assert demo.list_ids(name="half") == []

    def test_body_that_arrives_byte_by_byte(self, victim: ServerProcess, demo: Client) -> None:
        body = b'{"name": "byte by byte"}'
        with RawConnection(victim.port) as connection:
            connection.send(head(demo, "POST /v2/images HTTP/1.1", f"Content-Length: {len(body)}"))
            for byte in body:
                connection.send(bytes([byte]))
            answer = connection.read_answer()
        assert answer is not None
        assert answer.status == 201

    def test_refused_upload_tells_why_before_the_end(
        self, victim: ServerProcess, demo: Client
    ) -> None:
        image_id = demo.create()["id"]
        answer = demo.put_data(image_id, b"x" * (4 * MIB))
        assert answer.status_code == 400, "a client that is still sending has to read the answer"
        assert "disk_format" in answer.text


class TestLeaving:
    """Clients that go away."""

    @pytest.mark.parametrize("sent", [0, 1, 5_000, 300_000, 3 * MIB])
    @pytest.mark.parametrize("chunked", [False, True])
    def test_upload_that_ends_half_way(
        self, victim: ServerProcess, demo: Client, sent: int, chunked: bool
    ) -> None:
        image_id = queued(demo)
        before = victim.stored_files()
        how = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {4 * MIB}"
        with RawConnection(victim.port) as connection:
            connection.send(
                head(
                    demo,
                    f"PUT /v2/images/{image_id}/file HTTP/1.1",
                    "Content-Type: application/octet-stream",
                    how,
                )
            )
            if sent and chunked:
                connection.send_chunk(b"x" * sent)
            elif sent:
                connection.send(b"x" * sent)
            connection.reset()
        check_goes_back_to_queued(demo, image_id)
        demo.delete(f"/v2/images/{image_id}")
        check_files(victim, before)

    def test_many_that_leave_at_once(self, victim: ServerProcess, demo: Client) -> None:
        before = victim.stored_files()
        ids = [queued(demo) for _ in range(30)]
        connections = []
        for image_id in ids:
            connection = RawConnection(victim.port)
            connection.send(
                head(
                    demo,
                    f"PUT /v2/images/{image_id}/file HTTP/1.1",
                    "Content-Type: application/octet-stream",
                    "Content-Length: 1000000",
                )
            )
            connection.send(b"x" * 50_000)
            connections.append(connection)
        for connection in connections:
            connection.reset()
        for image_id in ids:
            check_goes_back_to_queued(demo, image_id)
            demo.delete(f"/v2/images/{image_id}")
        check_files(victim, before)

    def test_download_that_nobody_reads(self, victim: ServerProcess, demo: Client) -> None:
        """Readers that stop reading hold little memory, and none after they left."""
        data = bytes(range(256)) * (32 * MIB // 256)
        image_id = queued(demo)
        demo.upload(image_id, data)
        demo.get(f"/v2/images/{image_id}/file")
        before = victim.rss_bytes()
        idle = []
        for _ in range(20):
            connection = RawConnection(victim.port)
            connection.send(head(demo, f"GET /v2/images/{image_id}/file HTTP/1.1"))
            idle.append(connection)
        time.sleep(1)
        grown = victim.rss_bytes() - before
        answer = demo.get(f"/v2/images/{image_id}/file")
        assert hashlib.md5(answer.content).digest() == hashlib.md5(data).digest()
        for connection in idle:
            connection.reset()
        # 20 readers of 32 MiB would need 640 MiB if the data waited in memory.
        assert grown < 200 * MIB, f"{grown / MIB:.0f} MiB for 20 readers that do not read"

    def test_slow_upload_does_not_keep_others_waiting(
        self, victim: ServerProcess, demo: Client
    ) -> None:
        slow_id, quick_id = queued(demo), queued(demo)
        with RawConnection(victim.port) as connection:
            connection.send(
                head(
                    demo,
                    f"PUT /v2/images/{slow_id}/file HTTP/1.1",
                    "Content-Type: application/octet-stream",
                    "Content-Length: 20",
                )
            )
            for _ in range(10):
                connection.send(b"x")
                time.sleep(0.02)
            before = time.monotonic()
            demo.upload(quick_id, b"y" * MIB)
            assert time.monotonic() - before < 5
            connection.send(b"z" * 10)
            answer = connection.read_answer()
        assert answer is not None
        assert answer.status == 204
        assert demo.get(f"/v2/images/{slow_id}/file").content == b"x" * 10 + b"z" * 10


def test_two_hundred_connections_at_once(victim: ServerProcess, demo: Client) -> None:
    statuses: list[int] = []
    lock = threading.Lock()

    def ask() -> None:
        answer = exchange(
            victim.port, head(demo, "GET /v2/images?limit=1 HTTP/1.1", "Connection: close")
        )
        with lock:
            statuses.append(answer.status if answer else 0)

    threads = [threading.Thread(target=ask) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert statuses == [200] * 200
