"""A server that is told to stop tells those who keep connections to it, before it ends them."""

from __future__ import annotations

import http.client
import signal
import socket
import time

import pytest

from tests.conftest import MakeServer


@pytest.mark.parametrize("workers", [1, 2])
def test_a_kept_connection_is_given_up_with_an_answer_not_without_one(
    make_server: MakeServer, workers: int
) -> None:
    server = make_server({"server": {"workers": workers, "drain_seconds": 20}})
    token = server.log_in_to_cloud("transom-demo").token or ""
    kept = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    wire: socket.socket | None = None

    def ask() -> str | None:
        """What an answer says of the connection."""
        nonlocal wire
        kept.request("GET", "/v2/images", headers={"X-Auth-Token": token})
        wire = wire or kept.sock
        assert kept.sock is wire, "the connection was ended without a word"
        answer = kept.getresponse()
        assert answer.status == 200
        # Read to its end, so that the connection may be used again.
        assert answer.read()
        return answer.getheader("connection")

    assert [ask() for _ in range(3)] == [None] * 3
    assert server.process is not None
    server.process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 10
    while ask() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)

    assert kept.sock is None, "the client took it for the last answer"
    others = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    others.request("GET", "/readyz")
    assert others.getresponse().status == 503, "it still serves who comes anew"
    others.close()
