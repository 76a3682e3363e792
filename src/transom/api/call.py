"""One request on its way through the HTTP face, with what handlers ask of it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from transom.errors import BodyNotAllowed, BodyTooLarge, InvalidBody, InvalidQuery
from transom.model.actor import Actor
from transom.settings import host_and_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Message, Receive, Scope, Send

    from transom.api.proxies import TrustedProxies
    from transom.api.route import Face, Route
    from transom.registry import Registry

AT_COMPUTE_BIND = "transom.at_compute_bind"
"""Key in the scope of requests that came in at the Compute view's own address."""

_DRAIN_SECONDS: Final = 10.0
"""How long a refused client may go on sending before it is cut off."""

_decoder = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()


class Call:
    """A request: its route, path parameters, caller, and body."""

    __slots__ = (
        "_is_read",
        "_pairs",
        "_proxies",
        "actor",
        "face",
        "headers",
        "method",
        "microversion",
        "mount",
        "params",
        "receive",
        "registry",
        "request_id",
        "route",
        "scope",
        "version",
    )

    def __init__(
        self, scope: Scope, receive: Receive, registry: Registry, proxies: TrustedProxies
    ) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.receive = receive
        """What the server gives: the body's pieces, or that the client is gone."""
        self.headers: dict[str, str] = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in reversed(scope["headers"])
        }
        """By name in lower case, as ASGI gives them; of one that is repeated, the first."""
        self._is_read = self.headers.get("content-length", "0") == "0" and (
            "transfer-encoding" not in self.headers
        )
        self.registry = registry
        self._proxies = proxies
        self.request_id = ""
        self.params: dict[str, str] = {}
        self.route: Route | None = None
        self.face: Face = "image"
        self.actor = Actor()
        self.mount = ""
        """Path prefix below which a face is mounted: `/compute`, or nothing."""
        self.version = ""
        """First path segment of a versioned face: `v2`, `v2.1`."""
        self.microversion = ""
        """Microversion that the answer is given in, where the face has such."""
        self._pairs: list[tuple[str, str]] | None = None

    @property
    def base_url(self) -> str:
        """Scheme, host and mount path under which the client reaches the Image API, without a
        trailing slash: `[server] public_url` if set, else those of the request."""
        server = self.registry.settings.server
        if server.public_url:
            return server.public_url.rstrip("/")
        if AT_COMPUTE_BIND in self.scope:
            # The same machine, at the address that the Image API listens on.
            scheme, _, host = self.reached_url.partition("://")
            name = host.partition("/")[0]
            name = name if name.endswith("]") else name.rpartition(":")[0] or name
            return f"{scheme}://{name}:{host_and_port(server.bind)[1]}"
        return self.reached_url

    @property
    def reached_url(self) -> str:
        """Scheme, host and mount path of this very request, without a trailing slash."""
        return self._proxies.base_url(self.scope, self.headers)

    @property
    def client_address(self) -> str:
        """The client's address, seen through the proxies that are trusted; empty if unknown."""
        return self._proxies.client_address(self.scope)

    @property
    def query(self) -> list[tuple[str, str]]:
        """The query's pairs in order. Raises InvalidQuery when it is not UTF-8."""
        if self._pairs is None:
            raw = self.scope["query_string"]
            try:
                self._pairs = parse_qsl(
                    raw.decode("ascii"), keep_blank_values=True, errors="strict"
                )
            except (UnicodeDecodeError, ValueError) as broken:
                raise InvalidQuery("?", "the query must be percent-encoded UTF-8") from broken
        return self._pairs

    async def json(self) -> Any:
        """The body as JSON: an object or an array, whatever the content type says (API §1.2).

        Raises InvalidBody when there is none or it is not JSON, BodyTooLarge beyond
        `[limits] body_bytes_max`.
        """
        raw = await self.body()
        if not raw:
            raise InvalidBody("The request needs a JSON body; there is none.")
        try:
            value = _decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as broken:
            raise InvalidBody(f"The body is not valid JSON: {broken}") from broken
        if not isinstance(value, dict | list):
            raise InvalidBody("The body must be a JSON object or array.")
        return value

    async def json_object(self) -> dict[str, Any]:
        """The body as a JSON object. Raises as `json`."""
        value = await self.json()
        if not isinstance(value, dict):
            raise InvalidBody("The body must be a JSON object.")
        return value

    async def body(self) -> bytes:
        """The whole body, at most `[limits] body_bytes_max`. Raises BodyTooLarge, InvalidBody."""
        limit = self.registry.settings.limits.body_bytes_max
        pieces: list[bytes] = []
        size_bytes = 0
        try:
            async for piece in self.stream():
                size_bytes += len(piece)
                if size_bytes > limit:
                    raise BodyTooLarge(limit)
                pieces.append(piece)
        except ClientDisconnect as gone:
            raise InvalidBody("The connection ended before the body was complete.") from gone
        return b"".join(pieces)

    async def stream(self) -> AsyncIterator[bytes]:
        """The body piece by piece, as it comes from the socket. Raises ClientDisconnect."""
        while not self._is_read:
            message = await self._next()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            piece = message.get("body", b"")
            if piece:
                yield piece

    async def drain(self) -> None:
        """Read what a refused client still sends, for a while: it reads the answer only afterwards,
        and cutting it off would turn a clear refusal into a broken pipe."""
        # Who expects a 100 waits for the answer and sends nothing.
        if "expect" in self.headers:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while not self._is_read:
                    await self._next()

    async def _next(self) -> Message:
        message = await self.receive()
        if message["type"] != "http.request" or not message.get("more_body"):
            self._is_read = True
        return message

    async def refuse_body(self) -> None:
        """Raise BodyNotAllowed when the request carries a body that is not empty."""
        headers = self.headers
        length = headers.get("content-length")
        if length is not None:
            if length.strip() not in ("", "0"):
                raise BodyNotAllowed
        elif "transfer-encoding" in headers:
            async for _ in self.stream():
                raise BodyNotAllowed


class Answer(Response):
    """An answer that is there as a whole, made and sent with less ado than Starlette's."""

    def __init__(
        self, body: bytes, status: int, headers: dict[str, str] | None, media_type: str
    ) -> None:
        self.body = body
        self.status_code = status
        self.background = None
        self.raw_headers = [
            (b"content-length", b"%d" % len(body)),
            (b"content-type", media_type.encode("latin-1")),
        ]
        if headers:
            self.raw_headers += [
                (name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()
            ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        await send({"type": "http.response.body", "body": self.body})


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer, UTF-8, without escapes."""
    return Answer(_encoder.encode(value), status, headers, "application/json")


def empty_response(status: int = 204, headers: dict[str, str] | None = None) -> Response:
    """An answer without a body."""
    return Response(None, status, headers)
