"""Bodies come in long pieces, whoever listens: one process or several (decision 152)."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
from functools import partial
from typing import Any

import pytest

from tests.support.ports import free_port
from tests.support.waiting import until
from transom.api.listener import HTTP1, listener, stop
from transom.cli import draining, serve
from transom.settings import Settings

MIB = 1024 * 1024
SIZE_BYTES = 64 * MIB


def answers(port: int) -> bool:
    """Somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def send(port: int) -> int:
    """The status that a large body gets, sent as fast as the connection takes it."""
    until(partial(answers, port))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("PUT", "/", body=bytes(SIZE_BYTES))
    status = connection.getresponse().status
    connection.close()
    return status


async def test_a_body_that_comes_fast_comes_in_pieces_of_a_mebibyte() -> None:
    pieces: list[int] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            pieces.append(len(message.get("body", b"")))
            more = message.get("more_body", False)
            # The body is there before it is asked for, as where digests are slower than clients.
            await asyncio.sleep(0.005)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    port = free_port()
    server = listener(application, f"127.0.0.1:{port}", Settings())
    serving = asyncio.create_task(server.serve())
    try:
        assert await asyncio.to_thread(send, port) == 204
    finally:
        stop(server)
        await serving
    assert sum(pieces) == SIZE_BYTES
    assert max(pieces) == MIB
    assert len(pieces) < 2 * SIZE_BYTES / MIB


def test_workers_listen_in_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}

    class Recorder:
        def __init__(self, _target: str, **options: Any) -> None:
            told.update(options)

        def serve(self) -> None:
            """Nothing is served."""

    monkeypatch.setattr(draining, "DrainingServer", Recorder)
    monkeypatch.setitem(os.environ, "TRANSOM_LAUNCH", "")
    serve._serve_in_workers(Settings(), {})
    assert told["http1_settings"] is HTTP1
