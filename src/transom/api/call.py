"""One request on its way through the HTTP face, with what handlers ask of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from transom.errors import BodyNotAllowed, BodyTooLarge, InvalidBody, InvalidQuery
from transom.model.actor import Actor
from transom.settings import host_and_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope

    from transom.api.proxies import TrustedProxies
    from transom.api.route import Face, Route
    from transom.registry import Registry

AT_COMPUTE_BIND = "transom.at_compute_bind"
"""Key in the scope of requests that came in at the Compute view's own address."""

_decoder = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()


class Call:
    """A request: its route, path parameters, caller, and body."""

    __slots__ = (
        "_pairs",
        "_proxies",
        "actor",
        "face",
        "microversion",
        "mount",
        "params",
        "registry",
        "request",
        "request_id",
        "route",
        "version",
    )

    def __init__(
        self, scope: Scope, receive: Receive, registry: Registry, proxies: TrustedProxies
    ) -> None:
        self.request = Request(scope, receive)
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
        if AT_COMPUTE_BIND in self.request.scope:
            # The same machine, at the address that the Image API listens on.
            scheme, _, host = self.reached_url.partition("://")
            name = host.partition("/")[0]
            name = name if name.endswith("]") else name.rpartition(":")[0] or name
            return f"{scheme}://{name}:{host_and_port(server.bind)[1]}"
        return self.reached_url

    @property
    def reached_url(self) -> str:
        """Scheme, host and mount path of this very request, without a trailing slash."""
        return self._proxies.base_url(self.request.scope, self.request.headers)

    @property
    def client_address(self) -> str:
        """The client's address, seen through the proxies that are trusted; empty if unknown."""
        return self._proxies.client_address(self.request.scope, self.request.headers)

    @property
    def query(self) -> list[tuple[str, str]]:
        """The query's pairs in order. Raises InvalidQuery when it is not UTF-8."""
        if self._pairs is None:
            raw = self.request.scope["query_string"]
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
            async for piece in self.request.stream():
                size_bytes += len(piece)
                if size_bytes > limit:
                    raise BodyTooLarge(limit)
                pieces.append(piece)
        except ClientDisconnect as gone:
            raise InvalidBody("The connection ended before the body was complete.") from gone
        return b"".join(pieces)

    def stream(self) -> AsyncIterator[bytes]:
        """The body piece by piece, as it comes from the socket."""
        return self.request.stream()

    async def refuse_body(self) -> None:
        """Raise BodyNotAllowed when the request carries a body that is not empty."""
        headers = self.request.headers
        length = headers.get("content-length")
        if length is not None:
            if length.strip() not in ("", "0"):
                raise BodyNotAllowed
        elif "transfer-encoding" in headers:
            async for piece in self.request.stream():
                if piece:
                    raise BodyNotAllowed


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer, UTF-8, without escapes."""
    return Response(_encoder.encode(value), status, headers, "application/json")


def empty_response(status: int = 204, headers: dict[str, str] | None = None) -> Response:
    """An answer without a body."""
    return Response(None, status, headers)
