"""A proxy before a real server that can be told to misbehave: `FaultyServer(url)`.

It speaks HTTP/1.1 on a loopback port and hands every request on to the server behind it, untouched, so
that signatures stay valid. Each request is first shown to the *faults*, in the order in which they were
added; the first that applies has its way with it.

    with FaultyServer(gateway.url) as server:
        server.add(refuse(503, "SlowDown"), method="PUT", times=3)
        server.add(stall_answer(), path="uploadId")
        server.add(break_answer(after_bytes=100_000), method="GET", chance=0.1)
        server.clear()

A fault applies where `method`, `path` (a piece of the path with its query) and `chance` fit, after
`skip` requests that it would have applied to, and `times` times at most. `server.seen` lists what came:
(method, path with query, what became of it).

`server.away = True` closes every connection at once, as a server does that is down.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_READ_BYTES = 64 * 1024
_STALL_SECONDS = 3600.0
Act = Callable[["Exchange"], None]
"""What a fault does with a request. When it returns, the connection is over."""


class Over(Exception):
    """The exchange ends here, and its connection with it."""


@dataclass
class Exchange:
    """One request on its way. `head` is its request line and headers, up to the empty line."""

    server: FaultyServer
    client: socket.socket
    method: str
    path: str
    head: bytes
    body_bytes: int
    """How long its body is; -1 = chunked."""
    spare: bytes
    """What has been read of the body already."""
    upstream: socket.socket | None = None
    early: tuple[bytes, bytes] | None = None
    """An answer that came before the body was asked for, and what was read behind it."""

    def wants_leave(self) -> bool:
        """True when the client waits for `100 Continue` before it sends the body."""
        return b"100-continue" in self.head.lower()

    def let_send(self) -> None:
        """Have a client that waits send the body, before anybody behind is asked."""
        if self.wants_leave():
            self.client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.head = _without_expect(self.head)

    def take_body(self, most: int | None = None) -> int:
        """Read the body, or so many bytes of it, and throw it away; gives how many came."""
        self.let_send()
        wanted = self.body_bytes if most is None else min(most, self.body_bytes)
        taken = len(self.spare)
        while taken < wanted:
            piece = self.client.recv(min(_READ_BYTES, wanted - taken))
            if not piece:
                break
            taken += len(piece)
        return taken

    def forward(self, *, body_most: int | None = None, pace: float = 0.0) -> socket.socket:
        """Send the request on, with all of its body or so many bytes; `pace` is the bytes per second
        that pass. Gives the connection that the answer comes from."""
        upstream = socket.create_connection(self.server.behind, timeout=120)
        self.upstream = upstream
        if body_most is not None or pace:
            self.let_send()
        upstream.sendall(self.head)
        left = self.body_bytes if body_most is None else min(body_most, self.body_bytes)
        if self.wants_leave() and left:
            answer, spare = _read_head(upstream)
            if b" 100 " not in answer.split(b"\r\n", 1)[0]:
                self.early = answer, spare
                return upstream
            self.client.sendall(answer)
        if self.spare:
            upstream.sendall(self.spare[:left] if self.body_bytes >= 0 else self.spare)
            left -= len(self.spare)
        while left > 0:
            piece = self.client.recv(min(_READ_BYTES, left))
            if not piece:
                raise Over
            upstream.sendall(piece)
            left -= len(piece)
            if pace:
                time.sleep(len(piece) / pace)
        return upstream

    def answer(self, *, after_bytes: int | None = None, pace: float = 0.0) -> bool:
        """Hand the server's answer back, or its head and so many bytes of its body; True when all of
        it went out and the connection may go on."""
        upstream = self.upstream or self.forward()
        head, spare = self.early or _read_head(upstream)
        self.client.sendall(head)
        status = int(head.split(b" ", 2)[1])
        length = _content_length(head)
        if self.method == "HEAD" or status in (204, 304):
            length = 0
        sent = 0
        piece = spare
        while True:
            if after_bytes is not None and sent + len(piece) > after_bytes:
                self.client.sendall(piece[: after_bytes - sent])
                return False
            if piece:
                self.client.sendall(piece)
                sent += len(piece)
                if pace:
                    time.sleep(len(piece) / pace)
            if 0 <= length <= sent or (length < 0 and piece.endswith(b"0\r\n\r\n")):
                return True
            piece = upstream.recv(_READ_BYTES)
            if not piece:
                return False

    def reset(self) -> None:
        """End the connection with a reset, as a machine does that lost its memory of it."""
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.client.close()

    def stall(self, seconds: float = _STALL_SECONDS) -> None:
        """Do nothing, until the client goes, the proxy ends, or the time is over."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.server.is_ending:
            with contextlib.suppress(OSError):
                readable = select.select([self.client], [], [], 0.05)[0]
                if readable and not self.client.recv(_READ_BYTES):
                    return


# --- faults ---------------------------------------------------------------------------------------


def refuse(status: int = 503, code: str = "SlowDown", message: str = "reduce your rate") -> Act:
    """Take the request and answer with an error of S3; the server behind never hears of it."""
    body = (
        f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code>"
        f"<Message>{message}</Message></Error>"
    ).encode()
    head = (
        f"HTTP/1.1 {status} Refused\r\nContent-Type: application/xml\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode()

    def act(exchange: Exchange) -> None:
        exchange.take_body()
        exchange.client.sendall(head + (b"" if exchange.method == "HEAD" else body))

    return act


def reset_at_once() -> Act:
    """Reset the connection when the request has come."""
    return Exchange.reset


def reset_body(after_bytes: int) -> Act:
    """Let so many bytes of the body through, then reset."""

    def act(exchange: Exchange) -> None:
        exchange.forward(body_most=after_bytes)
        exchange.reset()

    return act


def stall_body(after_bytes: int = 0, seconds: float = _STALL_SECONDS) -> Act:
    """Take so many bytes of the body, and then no more."""

    def act(exchange: Exchange) -> None:
        exchange.take_body(after_bytes)
        end = time.monotonic() + seconds
        while time.monotonic() < end and not exchange.server.is_ending:
            time.sleep(0.05)

    return act


def lose_answer() -> Act:
    """Have the server do it, and close the connection instead of handing back what it says."""

    def act(exchange: Exchange) -> None:
        _read_head(exchange.forward())
        exchange.reset()

    return act


def stall_answer(seconds: float = _STALL_SECONDS) -> Act:
    """Have the server do it, and keep silent."""

    def act(exchange: Exchange) -> None:
        _read_head(exchange.forward())
        exchange.stall(seconds)

    return act


def break_answer(after_bytes: int) -> Act:
    """Hand back so many bytes of the answer's body, then close the connection."""

    def act(exchange: Exchange) -> None:
        exchange.answer(after_bytes=after_bytes)

    return act


def reset_answer(after_bytes: int) -> Act:
    """Hand back so many bytes of the answer's body, then reset: what is on its way is lost too."""

    def act(exchange: Exchange) -> None:
        if not exchange.answer(after_bytes=after_bytes):
            exchange.reset()

    return act


def stall_in_answer(after_bytes: int, seconds: float = _STALL_SECONDS) -> Act:
    """Hand back so many bytes of the answer's body, then keep silent."""

    def act(exchange: Exchange) -> None:
        if not exchange.answer(after_bytes=after_bytes):
            exchange.stall(seconds)

    return act


def slow(bytes_per_second: float) -> Act:
    """Let everything through, at this pace in either direction."""

    def act(exchange: Exchange) -> None:
        exchange.forward(pace=bytes_per_second)
        exchange.answer(pace=bytes_per_second)

    return act


def delay(seconds: float) -> Act:
    """Hand the request on after a while."""

    def act(exchange: Exchange) -> None:
        time.sleep(seconds)
        exchange.answer()

    return act


@dataclass
class Fault:
    """When a fault applies."""

    act: Act
    method: str = ""
    path: str = ""
    times: int = 1_000_000
    skip: int = 0
    chance: float = 1.0
    done: int = field(default=0, init=False)

    def applies(self, method: str, path: str) -> bool:
        """True when it has its way with this request."""
        if self.method not in ("", method) or self.path not in path or self.done >= self.times:
            return False
        if random.random() >= self.chance:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.done += 1
        return True


class FaultyServer:
    """The proxy. `url` is where clients go instead of to the server behind it (plain HTTP)."""

    def __init__(self, behind: str) -> None:
        """`behind` is the server's URL."""
        parts = urlsplit(behind)
        self.behind = (parts.hostname or "127.0.0.1", parts.port or 80)
        self.seen: list[tuple[str, str, str]] = []
        self.away = False
        self.is_ending = False
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        # What lies in buffers of the kernel would hide how fast things go.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.is_ending = True
        self._listener.close()
        self._close_all()

    def add(
        self,
        act: Act,
        *,
        method: str = "",
        path: str = "",
        times: int = 1_000_000,
        skip: int = 0,
        chance: float = 1.0,
    ) -> Fault:
        """Have a fault apply from now on; `done` of what is given counts how often it did."""
        fault = Fault(act, method, path, times, skip, chance)
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Behave again."""
        with self._lock:
            self._faults.clear()
        self.away = False

    def go_away(self) -> None:
        """Be down until `clear`: connections end at once, those that are open too."""
        self.away = True
        self._close_all()

    def requests(self, method: str = "", path: str = "") -> list[tuple[str, str, str]]:
        """What came, of this method and with this in its path."""
        return [each for each in self.seen if method in ("", each[0]) and path in each[1]]

    def _close_all(self) -> None:
        for each in list(self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        while not self.is_ending:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.away:
                client.close()
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._open.add(client)
        try:
            with client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while self._exchange(client):
                    pass
        except (OSError, Over):
            pass
        finally:
            self._open.discard(client)

    def _exchange(self, client: socket.socket) -> bool:
        """One request and its answer; False when the connection is over."""
        head, spare = _read_head(client)
        if not head:
            return False
        method, path, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        chunked = b"transfer-encoding: chunked" in head.lower()
        length = -1 if chunked else max(0, _content_length(head))
        exchange = Exchange(self, client, method, path, _closing(head), length, spare)
        with self._lock:
            fault = next((each for each in self._faults if each.applies(method, path)), None)
        self.seen.append((method, path, "passed" if fault is None else "fault"))
        try:
            if fault is None:
                return exchange.answer()
            fault.act(exchange)
            return False
        finally:
            if exchange.upstream is not None:
                exchange.upstream.close()


def _read_head(source: socket.socket) -> tuple[bytes, bytes]:
    """A head with its empty line, and what came after it; nothing when the connection ended."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = source.recv(_READ_BYTES)
        if not piece:
            return b"", b""
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", rest


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return -1


def _without_expect(head: bytes) -> bytes:
    lines = head.split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.lower().startswith(b"expect:"))


def _closing(head: bytes) -> bytes:
    # A connection of its own for each request: what breaks one breaks no other.
    lines = head.split(b"\r\n")
    kept = [line for line in lines if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([kept[0], b"Connection: close", *kept[1:]])
