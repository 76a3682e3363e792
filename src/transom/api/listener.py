"""The HTTP server under an ASGI application, inside this process."""

from __future__ import annotations

from typing import Any

from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from transom.settings import host_and_port

BACKLOG = 2048
"""Connections that may wait, and requests that may be under way at once."""


def stop(server: Server) -> None:
    """Ask a server to finish what it is doing and end."""
    server.stop()  # type: ignore[no-untyped-call]


def listener(application: Any, bind: str, *, with_lifespan: bool) -> Server:
    """A server for the application at `host:port`. `await it.serve()` runs it, `it.stop()` ends it.

    With `with_lifespan` the application is told of the server's start and stop.
    """
    host, port = host_and_port(bind)
    return Server(
        application,
        address=host,
        port=port,
        interface=Interfaces.ASGI if with_lifespan else Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=False,
        backlog=BACKLOG,
        backpressure=BACKLOG,
        log_enabled=False,
    )
