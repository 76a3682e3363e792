"""An HTTP source in the test's own event loop that behaves well, until it is told not to.

`manners` is a list of behaviours for the next requests, one each; when it is used up, requests are
answered as a good server does: ranges, If-Range, validators, connections that stay open.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Self

from tests.support.ports import free_port


class Asked(NamedTuple):
    """One request as it came."""

    path: str
    headers: dict[str, str]


class Reply:
    """What a behaviour answers with."""

    def __init__(self, source: Source, writer: asyncio.StreamWriter) -> None:
        self.source = source
        self.writer = writer
        self.keeps = True

    async def send(self, *parts: bytes) -> None:
        """Send these bytes and no others."""
        self.writer.write(b"".join(parts))
        await self.writer.drain()

    async def head(self, status: int, **fields: object) -> None:
        """Send a head; underscores in names stand for dashes."""
        lines = [f"HTTP/1.1 {status} X"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        await self.send("\r\n".join([*lines, "", ""]).encode())

    async def answer(self, status: int, body: bytes = b"", **fields: object) -> None:
        """Send a whole answer."""
        await self.head(status, **{"Content_Length": len(body), **fields})
        await self.send(body)

    async def serve(
        self, asked: Asked, *, at_most: int | None = None, hooks: dict[str, object] | None = None
    ) -> None:
        """Answer as a good server does; `at_most` bytes of the body, and then nothing more."""
        source = self.source
        fields: dict[str, object] = {**source.fields}
        wanted = asked.headers.get("range") if source.takes_ranges else None
        condition = asked.headers.get("if-range")
        if condition is not None and condition not in source.fields.values():
            wanted = None
        status, body = 200, source.data
        if wanted:
            found = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
            assert found, wanted
            first = int(found[1])
            if first >= len(body):
                await self.answer(416, Content_Range=f"bytes */{len(body)}")
                return
            last = min(int(found[2] or len(body)), len(body) - 1)
            status = 206
            fields["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
            body = body[first : last + 1]
        await asyncio.sleep(source.latency_seconds)
        await self.head(status, **{"Content-Length": len(body), **fields, **(hooks or {})})
        await self._pour(body if at_most is None else body[:at_most])

    async def _pour(self, body: bytes) -> None:
        rate = self.source.rate_bytes
        step = 65536 if rate else len(body) or 1
        for begin in range(0, len(body), step):
            await self.send(body[begin : begin + step])
            if rate:
                await asyncio.sleep(step / rate)

    def close(self) -> None:
        """End the connection after this answer."""
        self.keeps = False

    def reset(self) -> None:
        """Break the connection, as a crashed host does."""
        self.keeps = False
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.writer.transport.abort()

    async def hang(self) -> None:
        """Say nothing until the test ends."""
        self.keeps = False
        await self.source.ended.wait()


Manner = Callable[[Asked, Reply], Awaitable[None]]


class Source:
    """One server with one file behind every path."""

    def __init__(self, data: bytes = b"", *, host: str = "127.0.0.1") -> None:
        self.data = data
        self.host = host
        self.fields: dict[str, object] = {"ETag": '"one"'}
        self.takes_ranges = True
        self.latency_seconds = 0.0
        self.rate_bytes = 0
        """Bytes a second on each connection; 0 = as fast as it goes."""
        self.manners: list[Manner] = []
        self.always: Manner | None = None
        self.asked: list[Asked] = []
        self.connections = 0
        self.port = free_port()
        self.tls: ssl.SSLContext | None = None
        self.left = asyncio.Event()
        """Nobody is connected any more."""
        self.ended = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """The URL of the file."""
        return f"http://{self.host}:{self.port}/disk.raw"

    @property
    def ranges(self) -> list[str | None]:
        """The Range of every request so far."""
        return [asked.headers.get("range") for asked in self.asked]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, the second time at the same port."""
        self._server = await asyncio.start_server(self._serve, self.host, self.port, ssl=self.tls)

    async def stop(self) -> None:
        """Stop listening and drop every connection."""
        self.ended.set()
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await self._server.wait_closed()

    async def restart(self) -> None:
        """Stop and start again, with what was set meanwhile."""
        await self.stop()
        self.ended.clear()
        await self.start()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        self.left.clear()
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            # The test's loop ends; asyncio would report it for a server's task.
            pass
        finally:
            self._open.discard(writer)
            if not self._open:
                self.left.set()
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request, *lines = head.strip().split("\r\n")
        pairs = (line.partition(":") for line in lines)
        asked = Asked(
            request.split(" ")[1], {name.lower(): text.strip() for name, _, text in pairs}
        )
        self.asked.append(asked)
        reply = Reply(self, writer)
        manner = self.manners.pop(0) if self.manners else self.always or well
        await manner(asked, reply)
        return reply.keeps


async def well(asked: Asked, reply: Reply) -> None:
    """What a good server does."""
    await reply.serve(asked)
