"""A client for image data that costs little: `sendfile` up, one reused buffer down."""

from __future__ import annotations

import http.client
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_BUFFER_BYTES = 1 << 20
TIMEOUT_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Transfers:
    """What some transfers at once took together."""

    bytes: int
    seconds: float
    failures: tuple[str, ...]

    @property
    def mib_per_second(self) -> float:
        """Throughput of all together."""
        return self.bytes / self.seconds / 2**20


def _connection(url: str) -> tuple[http.client.HTTPConnection, str]:
    parts = urlsplit(url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    connection = http.client.HTTPConnection(
        parts.hostname or "", parts.port, timeout=TIMEOUT_SECONDS
    )
    return connection, path


def upload(url: str, file: Path, headers: Mapping[str, str]) -> int:
    """PUT a file; the bytes sent. Raises OSError when it is not taken."""
    connection, path = _connection(url)
    size_bytes = file.stat().st_size
    try:
        connection.putrequest("PUT", path)
        connection.putheader("Content-Type", "application/octet-stream")
        connection.putheader("Content-Length", str(size_bytes))
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        sent = 0
        # `sendfile` wants a blocking socket; the kernel then keeps the time.
        connection.sock.settimeout(None)
        connection.sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", TIMEOUT_SECONDS, 0)
        )
        with file.open("rb") as source:
            while sent < size_bytes:
                sent += os.sendfile(
                    connection.sock.fileno(), source.fileno(), sent, size_bytes - sent
                )
        connection.sock.settimeout(TIMEOUT_SECONDS)
        response = connection.getresponse()
        text = response.read()
        if response.status != 204:
            raise OSError(f"PUT {path} got {response.status}: {text[:200]!r}")
        return sent
    finally:
        connection.close()


def download(url: str, headers: Mapping[str, str]) -> int:
    """GET a body and throw it away; its length. Raises OSError when the answer is no success."""
    connection, path = _connection(url)
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    try:
        connection.request("GET", path, headers=dict(headers))
        response = connection.getresponse()
        if response.status not in (200, 206):
            raise OSError(f"GET {path} got {response.status}: {response.read(200)!r}")
        expected = response.length
        received = 0
        while length := response.readinto(buffer):
            received += length
        if expected is not None and received != expected:
            raise OSError(f"GET {path} gave {received} of {expected} bytes")
        return received
    finally:
        connection.close()


def at_once(transfers: Sequence[Callable[[], int]]) -> Transfers:
    """Run all transfers at the same time; failures are counted, not raised."""
    done: list[int] = []
    failures: list[str] = []

    def run(transfer: Callable[[], int]) -> None:
        try:
            done.append(transfer())
        except (OSError, http.client.HTTPException) as error:
            failures.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=run, args=(transfer,)) for transfer in transfers]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Transfers(sum(done), time.monotonic() - began, tuple(failures))
