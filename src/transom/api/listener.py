"""The HTTP server under an ASGI application, inside this process."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import Any

import structlog
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.server.embed import Server

from transom.errors import ConfigurationError
from transom.settings import Settings, host_and_port

_log = structlog.get_logger(__name__)

BACKLOG = 2048
"""Connections that may wait, and requests that may be under way at once."""

HTTP1 = HTTP1Settings(max_buffer_size=1024 * 1024)
"""The longest piece of a body that comes in at once, and the longest head (bytes). Each piece costs
a dozen changes between threads, whatever its length (decision 0152)."""

LOOK_SECONDS = 2.0
"""How often the files of the certificate are looked at."""


def listener(application: Any, bind: str, settings: Settings) -> Server:
    """A server for the application at `host:port`. `await it.serve()` runs it. Raises
    ConfigurationError for a certificate that cannot be used."""
    host, port = host_and_port(bind)
    return Server(
        application,
        address=host,
        port=port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        http1_settings=HTTP1,
        websockets=False,
        backlog=BACKLOG,
        backpressure=BACKLOG,
        log_enabled=False,
        **tls_of(settings),
    )


def stop(server: Server) -> None:
    """Ask a server to finish what it is doing and end."""
    server.stop()  # type: ignore[no-untyped-call]


def tls_of(settings: Settings) -> dict[str, Any]:
    """What the server is told of TLS; nothing without a certificate. Raises ConfigurationError."""
    server = settings.server
    if not server.tls_certificate:
        return {}
    _require_usable(settings)
    return {
        "ssl_cert": Path(server.tls_certificate),
        "ssl_key": Path(server.tls_key),
        "ssl_protocol_min": (
            SSLProtocols.tls12 if server.tls_version_min == "1.2" else SSLProtocols.tls13
        ),
    }


async def renew(settings: Settings, *servers: Server) -> None:
    """Serve new connections with the new certificate whenever its files change, for ever. Those that
    are open keep the old one. A certificate that cannot be used changes nothing and is logged."""
    seen = stamp(settings)
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        if is_renewed(settings, seen):
            seen = stamp(settings)
            for server in servers:
                server.reload()  # type: ignore[no-untyped-call]


def is_renewed(settings: Settings, seen: tuple[int, ...]) -> bool:
    """True when the files of the certificate are others than when `seen` was taken, and fit."""
    if stamp(settings) == seen:
        return False
    try:
        _require_usable(settings)
    except ConfigurationError as unusable:
        _log.warning("tls.not_renewed", reason=str(unusable))
        return False
    _log.info("tls.renewed", certificate=settings.server.tls_certificate)
    return True


def stamp(settings: Settings) -> tuple[int, ...]:
    """What changes when the files of the certificate do."""
    marks: list[int] = []
    for name in (settings.server.tls_certificate, settings.server.tls_key):
        with contextlib.suppress(OSError):
            status = Path(name).stat()
            marks += [status.st_mtime_ns, status.st_ino, status.st_size]
    return tuple(marks)


def _require_usable(settings: Settings) -> None:
    server = settings.server
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            server.tls_certificate, server.tls_key
        )
    except (OSError, ssl.SSLError) as unusable:
        raise ConfigurationError(
            f"server.tls_certificate = {server.tls_certificate!r} and server.tls_key = "
            f"{server.tls_key!r} cannot be used ({unusable}); give a PEM chain and its key."
        ) from unusable
