"""Requests that no well-behaved client sends: bytes straight onto a socket."""

from __future__ import annotations

import contextlib
import socket
from types import TracebackType
from typing import NamedTuple, Self


class RawAnswer(NamedTuple):
    """An answer as it came over the wire. Header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class RawConnection:
    """One TCP connection on which the test decides every byte."""

    def __init__(self, port: int, timeout_seconds: float = 15.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.socket.sendall(data)

    def send_head(self, method: str, path: str, headers: dict[str, str]) -> None:
        """Send a request line and headers, with a Host if there is none."""
        fields = {"Host": "127.0.0.1", **headers}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {text}" for name, text in fields.items())]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def send_chunk(self, data: bytes) -> None:
        """Send one chunk of a chunked body."""
        self.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def end_chunks(self) -> None:
        """Send the chunk that ends a chunked body."""
        self.send(b"0\r\n\r\n")

    def read_answer(self) -> RawAnswer | None:
        """The next answer, or None when the server closed or reset the connection instead."""
        received = b""
        while b"\r\n\r\n" not in received:
            try:
                piece = self.socket.recv(65536)
            except ConnectionError:
                return None
            if not piece:
                return None
            received += piece
        head, _, body = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, text = line.partition(":")
            headers[name.strip().lower()] = text.strip()
        status = int(first.split(" ", 2)[1])
        wanted = int(headers.get("content-length", "0"))
        while len(body) < wanted:
            try:
                piece = self.socket.recv(65536)
            except ConnectionError:
                break
            if not piece:
                break
            body += piece
        return RawAnswer(status, headers, body)

    def reset(self) -> None:
        """Close with a TCP reset, as a killed client does."""
        self.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
        )
        self.socket.close()

    def close(self) -> None:
        """Close in the ordinary way."""
        self.socket.close()


def exchange(port: int, request: bytes) -> RawAnswer | None:
    """Send the bytes, give the first answer, or None when the server just closed."""
    with RawConnection(port) as connection:
        with contextlib.suppress(ConnectionError):
            connection.send(request)
        return connection.read_answer()
