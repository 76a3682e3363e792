"""One connection to one checked target, and the answers that come over it.

The protocol is h11's. What is ours is what a library would hide: that the connection goes to an
address which the guard has judged, how long everything may take, and whether a server sent more
than it announced.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Final

import h11
import structlog

from transom import __version__, tracing
from transom.remote.addresses import Address
from transom.remote.guard import Guard
from transom.remote.head import Head
from transom.remote.proxy import Proxy
from transom.remote.targets import Target

log = structlog.get_logger(__name__)

READ_BYTES: Final = 256 * 1024
"""Most that is read at a time."""
_HEAD_BYTES_MAX: Final = 64 * 1024
_EXCESS_SECONDS: Final = 0.05
_UNREACHABLE: Final = (
    "The URL could not be fetched: its host did not give an answer. Check the URL and try again."
)


class Failure(Exception):
    """An attempt failed. `sentence` is for the user, `reason` for the log.

    `again` says whether another attempt may do better, `wait_seconds` when the source wants it.
    """

    def __init__(
        self,
        reason: str,
        sentence: str = _UNREACHABLE,
        *,
        again: bool = True,
        status: int | None = None,
        wait_seconds: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sentence = sentence
        self.again = again
        self.status = status
        self.wait_seconds = wait_seconds


class Stale(Failure):
    """A connection that had been idle was closed meanwhile; a new one may well do."""


class Wire:
    """An open connection. Asks one question after the other; `close` at the end of all."""

    def __init__(
        self,
        target: Target,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        read_seconds: float,
        rate_bytes_min: int,
    ) -> None:
        self.origin = target.origin
        self.fresh = True
        """Nothing has been asked yet."""
        self._reader = reader
        self._writer = writer
        self._read_seconds = read_seconds
        self._rate_bytes_min = rate_bytes_min
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES_MAX)
        self._waited_seconds = 0.0
        self._received_bytes = 0
        self._is_framed = False

    @classmethod
    async def open(cls, guard: Guard, target: Target, addresses: Sequence[Address]) -> Wire:
        """A connection to one of the addresses, which `guard.resolve` gave. Raises Failure."""
        imports = guard.settings.imports
        proxy = guard.proxy_for(target)
        reasons: list[str] = []
        clock = asyncio.get_running_loop().time
        deadline = clock() + imports.connect_timeout_seconds
        # One address that drops packets leaves time for two others.
        seconds = imports.connect_timeout_seconds / max(1, min(len(addresses), 3))
        # Without an address only a proxy knows the way.
        for address in addresses or (None,):
            try:
                async with asyncio.timeout(min(seconds, deadline - clock())):
                    reader, writer = await _connected(guard, target, address, proxy)
            except (
                OSError,
                TimeoutError,
                ValueError,
                EOFError,
                asyncio.LimitOverrunError,
            ) as error:
                reasons.append(f"{address or target.host}: {type(error).__name__} {error}".strip())
                continue
            return cls(
                target,
                reader,
                writer,
                read_seconds=imports.read_timeout_seconds,
                rate_bytes_min=imports.rate_bytes_min,
            )
        raise Failure("no connection: " + "; ".join(reasons))

    async def ask(self, target: Target, headers: Mapping[str, str], *, method: str = "GET") -> Head:
        """Send a GET or HEAD, give the head of its answer. Raises Failure."""
        headers = dict(headers)
        with tracing.call_span(f"fetch {method}", headers, host=target.authority):
            return await self._ask(target, headers, method)

    async def _ask(self, target: Target, headers: Mapping[str, str], method: str) -> Head:
        fields = [
            ("Host", target.authority),
            ("User-Agent", f"transom/{__version__}"),
            ("Accept", "*/*"),
            # Data is stored as it is; what a server would pack on the way could not be resumed.
            ("Accept-Encoding", "identity"),
            *headers.items(),
        ]
        request = h11.Request(method=method, target=target.path, headers=fields)
        try:
            async with asyncio.timeout(self._read_seconds):
                self._send(request)
                self._send(h11.EndOfMessage())
                await self._writer.drain()
                while not isinstance(event := await self._event(), h11.Response):
                    if isinstance(event, h11.ConnectionClosed):
                        raise ConnectionResetError("closed without an answer")
        except TimeoutError:
            raise Failure("no answer in time") from None
        except (OSError, h11.ProtocolError) as error:
            kind = Failure if self.fresh else Stale
            raise kind(f"no answer: {type(error).__name__} {error}") from error
        self.fresh = False
        head = Head(
            event.status_code,
            {name.decode("latin-1"): text.decode("latin-1") for name, text in event.headers},
        )
        self._is_framed = head.length_bytes is not None and not head.is_chunked
        return head

    async def read(self) -> bytes:
        """The next bytes of the body, empty at its end. Raises Failure, also when bytes come more
        slowly than `imports.rate_bytes_min`."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(self._read_seconds):
                event = await self._event()
                while isinstance(event, h11.Data) and not event.data:
                    event = await self._event()
        except TimeoutError:
            raise Failure(
                f"no byte in {self._read_seconds} seconds",
                "The source stopped sending in the middle; try again later, or use another one.",
            ) from None
        except (OSError, h11.ProtocolError) as error:
            raise Failure(
                f"broke off: {type(error).__name__} {error}",
                "The source broke off in the middle of the data, before all that it announced; "
                "try again later, or use another one.",
            ) from error
        if isinstance(event, h11.Data):
            self._received_bytes += len(event.data)
            self._waited_seconds += clock() - began
            self._measure()
            return bytes(event.data)
        return b""

    async def finish(self, *, patient: bool = False) -> bool:
        """After the last byte: True when the connection is good for another question. `patient`
        waits a moment for bytes that must not come.

        Raises Failure when the server sends more than it announced.
        """
        http = self._http
        if patient and self._is_framed and http.trailing_data == (b"", False):
            # What comes too much comes at once; who sends nothing more is not waited for.
            with contextlib.suppress(TimeoutError, OSError):
                async with asyncio.timeout(_EXCESS_SECONDS):
                    http.receive_data(await self._reader.read(READ_BYTES))
        if self._is_framed and http.trailing_data[0]:
            raise Failure(
                "more bytes than Content-Length",
                "The source sends more data than it announces, so nobody can tell what belongs to "
                "the image; use another one.",
                again=False,
            )
        if (http.our_state, http.their_state) != (h11.DONE, h11.DONE):
            return False
        if http.trailing_data != (b"", False) or self._reader.at_eof():
            return False
        http.start_next_cycle()
        return True

    def close(self) -> None:
        """Drop the connection."""
        self._writer.transport.abort()

    def _send(self, event: h11.Request | h11.EndOfMessage) -> None:
        data = self._http.send(event)
        if data:
            self._writer.write(data)

    async def _event(self) -> h11.Event:
        while True:
            event = self._http.next_event()
            if event is h11.PAUSED:
                raise h11.RemoteProtocolError("more than one answer")
            if isinstance(event, h11.Event):
                return event
            self._http.receive_data(await self._reader.read(READ_BYTES))

    def _measure(self) -> None:
        # Only the time in which we wait for bytes counts; nobody is slow because we are.
        if self._waited_seconds < self._read_seconds:
            return
        if self._received_bytes < self._rate_bytes_min * self._waited_seconds:
            raise Failure(
                f"{self._received_bytes} bytes in {self._waited_seconds:.1f} seconds",
                "The source sends too slowly to ever come to an end; use another one.",
            )
        self._waited_seconds, self._received_bytes = 0.0, 0


async def _connected(
    guard: Guard, target: Target, address: Address | None, proxy: Proxy | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    tls = guard.tls() if target.scheme == "https" else None
    if proxy is not None:
        return await _through(proxy, target, address, tls)
    if address is None:
        raise OSError("the name has no address")
    async with _socket_to(address, target.port) as connection:
        if tls is None:
            return await asyncio.open_connection(sock=connection, limit=READ_BYTES)
        return await asyncio.open_connection(
            sock=connection, limit=READ_BYTES, ssl=tls, server_hostname=target.host
        )


def _check_peer(connection: socket.socket, address: Address) -> None:
    if ip_address(connection.getpeername()[0]) != address:
        raise OSError("connected to another address than the one that was judged")


@asynccontextmanager
async def _socket_to(address: Address, port: int) -> AsyncIterator[socket.socket]:
    """A socket that is connected to this very address; closed when what follows fails."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, (str(address), port))
        _check_peer(connection, address)
        yield connection
    except BaseException:
        connection.close()
        raise


async def _through(
    proxy: Proxy, target: Target, address: Address | None, tls: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A tunnel through the proxy to the judged address, or to the name that nobody here knows."""
    host = target.host if address is None else str(address)
    place = f"[{host}]:{target.port}" if ":" in host else f"{host}:{target.port}"
    lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port, limit=READ_BYTES)
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode())
        _check_tunnel(await reader.readuntil(b"\r\n\r\n"))
        if tls is not None:
            await writer.start_tls(tls, server_hostname=target.host)
    except BaseException:
        writer.transport.abort()
        raise
    return reader, writer


def _check_tunnel(answer: bytes) -> None:
    if not re.match(rb"HTTP/1\.[01] 2[0-9][0-9][ \r]", answer):
        status = answer[9:12].decode("latin-1")
        raise OSError(f"the proxy answered CONNECT with {status}; check imports.proxy")
