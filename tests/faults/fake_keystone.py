"""A Keystone that can be told to misbehave, in the test's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import time
from collections import Counter
from typing import Self
from urllib.parse import parse_qs, urlsplit

from tests.support.ports import free_port

USER, PASSWORD = "transom", "password of the service user"


def moment(seconds: float) -> str:
    """A time as Keystone writes it."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.000000Z")


class FakeKeystone:
    """Answers logins and questions about tokens, well or badly.

    Every token that starts with `good` is valid and belongs to the project named by the rest of
    it; `bare` ones have no role there. `login` and `validate` hold the present manners of the two calls.
    """

    def __init__(self) -> None:
        self.login = "well"
        self.validate = "well"
        self.delay_seconds = 0.0
        self.token_seconds = 3600.0
        self.clock_ahead_seconds = 0.0
        self.revoked: set[str] = set()
        self.logins = 0
        self.asked: Counter[str] = Counter()
        self.at_once = 0
        self.at_once_max = 0
        self.own_tokens: set[str] = set()
        self._server: asyncio.Server | None = None
        self._port = free_port()
        self._connections: set[asyncio.StreamWriter] = set()
        self._released = asyncio.Event()

    @property
    def url(self) -> str:
        """The base of the v3 API."""
        return f"http://127.0.0.1:{self._port}/v3"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, the second time at the same port."""
        self._released = asyncio.Event()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)

    async def stop(self) -> None:
        """Stop listening and drop every connection, as a crash would."""
        self._released.set()
        if self._server is not None:
            self._server.close()
            for connection in list(self._connections):
                connection.transport.abort()
            await self._server.wait_closed()
            self._server = None

    # --- HTTP ---

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._connections.discard(writer)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request, *lines = head.strip().split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        method, target, _ = request.split(" ")
        self.at_once += 1
        self.at_once_max = max(self.at_once_max, self.at_once)
        try:
            return await self._answer(writer, method, target, headers, body)
        finally:
            self.at_once -= 1

    async def _answer(
        self,
        writer: asyncio.StreamWriter,
        method: str,
        target: str,
        headers: dict[str, str],
        body: bytes,
    ) -> bool:
        manners = self.login if method == "POST" else self.validate
        subject = headers.get("x-subject-token", "")
        if method == "POST":
            self.logins += 1
        elif subject not in self.own_tokens:
            self.asked[subject] += 1
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        if manners == "hang":
            await self._released.wait()
            return False
        if manners == "close":
            return False
        if manners in _RAW:
            writer.write(_RAW[manners])
            await writer.drain()
            return manners.startswith("kept")
        if manners == "endless":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
            while not self._released.is_set():
                writer.write(b"x" * 65536)
                await writer.drain()
            return False
        if method == "POST":
            status, answer, token = self._log_in(json.loads(body))
        else:
            expired = "allow_expired" in parse_qs(urlsplit(target).query)
            status, answer, token = self._describe(headers, subject, expired=expired)
        text = json.dumps(answer).encode()
        writer.write(
            f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(text)}\r\nX-Subject-Token: {token}\r\n\r\n".encode()
            + text
        )
        await writer.drain()
        return True

    # --- identity ---

    def _log_in(self, body: dict[str, object]) -> tuple[int, object, str]:
        if PASSWORD not in json.dumps(body):
            return 401, _error(401), ""
        token = f"own{self.logins}"
        self.own_tokens.add(token)
        return 201, self._token("service", ["service"]), token

    def _describe(
        self, headers: dict[str, str], subject: str, *, expired: bool
    ) -> tuple[int, object, str]:
        own = headers.get("x-auth-token", "")
        if own not in self.own_tokens or own in self.revoked:
            return 401, _error(401), ""
        if subject in self.revoked:
            return 404, _error(404), ""
        if subject.startswith("good") or subject in self.own_tokens:
            return 200, self._token(subject.removeprefix("good"), ["member", "reader"]), subject
        if subject.startswith("bare"):
            return 200, self._token(subject.removeprefix("bare"), []), subject
        if subject.startswith("ended") and expired:
            return 200, self._token("late", ["member"], seconds=-100), subject
        if subject.startswith("service"):
            return 200, self._token("service", ["service"]), subject
        return 404, _error(404), ""

    def _token(
        self, project: str, roles: list[str], *, seconds: float | None = None
    ) -> dict[str, object]:
        now = time.time() + self.clock_ahead_seconds
        ends = now + (self.token_seconds if seconds is None else seconds)
        return {
            "token": {
                "user": {"id": "u", "name": "user", "domain": {"id": "default", "name": "Default"}},
                "project": {
                    "id": project,
                    "name": project,
                    "domain": {"id": "default", "name": "Default"},
                },
                "roles": [{"id": role, "name": role} for role in roles],
                "issued_at": moment(now),
                "expires_at": moment(ends),
            }
        }


def _error(code: int) -> dict[str, object]:
    return {"error": {"code": code, "title": "refused", "message": "refused"}}


def _raw(status: str, content_type: str, body: bytes, **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


_HTML = b"<html><body><h1>It works!</h1></body></html>"

_RAW = {
    "kept html 200": _raw("200 OK", "text/html", _HTML),
    "kept html 404": _raw("404 Not Found", "text/html", _HTML),
    "kept html 500": _raw("500 Internal Server Error", "text/html", _HTML),
    "kept json 500": _raw("500 X", "application/json", json.dumps(_error(500)).encode()),
    "kept 503": _raw("503 Service Unavailable", "text/plain", b"later"),
    "kept 502 of a proxy": _raw("502 Bad Gateway", "text/html", _HTML),
    "kept 429": _raw("429 Too Many Requests", "text/plain", b"slow down"),
    "kept redirect": _raw("302 Found", "text/html", b"", Location="http://127.0.0.1:9/"),
    "kept empty 200": _raw("200 OK", "application/json", b""),
    "kept other json": _raw("200 OK", "application/json", b'{"token": {"user": 7}}'),
    "kept json list": _raw("200 OK", "application/json", b"[]"),
    "kept empty json 404": _raw("404 X", "application/json", b"{}"),
    "kept not utf-8": _raw("200 OK", "application/json", b'{"token": "\xff\xfe"}'),
    "kept 204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "garbage": b"\x00\x01\x02 this is no HTTP at all\r\n\r\n",
    "cut short": b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b'{"token": {',
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
}

MISBEHAVIOURS = [*_RAW, "close", "endless"]
"""Every way to answer badly at once; `hang` is tested by itself, because it takes its time."""
