"""Endpoints of image data: upload and download (API §9)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect
from starlette.responses import Response

from transom.api.call import Call, empty_response
from transom.api.ranges import Span, is_unchanged, requested_span
from transom.errors import IncompleteUpload, InvalidHeader, WrongContentType
from transom.images.caching import open_through_cache
from transom.images.download import find_data, link_to_data, preferred_stores, tell_sent
from transom.images.upload import upload
from transom.model.image import Image

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from transom.stores.store import Reader

OCTETS = "application/octet-stream"
_OUR_CONDITIONS = ("if-match", "if-none-match", "if-range", "content-range")
"""Headers that speak of our ETag, or a language that other servers do not."""
Teller = Callable[[int], Awaitable[None]]
"""Is told how many bytes of a download went out."""


async def data_upload(call: Call) -> Response:
    """`PUT /v2/images/{image_id}/file` (API §9.1)."""
    require_octets(call)
    await upload(
        call.registry,
        call.actor,
        call.params["image_id"],
        body_of(call),
        store_name=_store(call),
        size_bytes=announced_bytes(call),
    )
    return empty_response()


def require_octets(call: Call) -> None:
    """Raise WrongContentType unless the body is announced as plain bytes."""
    content_type = call.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != OCTETS:
        raise WrongContentType(content_type or "(none)")


def _store(call: Call) -> str | None:
    # With one store the header says nothing (API §9.1).
    return (
        call.headers.get("x-image-meta-store") if call.registry.announces_stores else None
    ) or None


def announced_bytes(call: Call) -> int | None:
    """The length of the data, if the client tells it. Raises InvalidHeader."""
    length = call.headers.get("content-length")
    size = call.headers.get("x-openstack-image-size")
    if size is None:
        return int(length) if length is not None and length.isdecimal() else None
    if not re.fullmatch(r"[0-9]{1,19}", size, re.ASCII):
        raise InvalidHeader("x-openstack-image-size", f"'{size:.40}' is not a number of bytes")
    return int(size)


async def body_of(call: Call) -> AsyncIterator[bytes]:
    """The data as it comes in. Raises IncompleteUpload when the client leaves before its end."""
    received = 0
    try:
        async for chunk in call.stream():
            received += len(chunk)
            yield chunk
    except ClientDisconnect as gone:
        raise IncompleteUpload(received) from gone
    length = call.headers.get("content-length")
    if length is not None and length.isdecimal() and received < int(length):
        raise IncompleteUpload(received)


async def data_download(call: Call) -> Response:
    """`GET` and `HEAD /v2/images/{image_id}/file` (API §9.2)."""
    await call.refuse_body()
    image = await find_data(call.registry, call.actor, call.params["image_id"])
    prefer = preferred_stores(call.registry, call.actor, image, _preferred(call))
    if not image.locations or image.size is None:
        return empty_response()
    etag = f'"{image.os_hash_value}"' if image.os_hash_value else None
    headers = _data_headers(image, etag)
    if is_unchanged(call.headers, etag):
        return Response(None, 304, headers)
    is_head = call.method == "HEAD"
    # A range is a matter of GET alone (RFC 9110 §14.2).
    span = None if is_head else requested_span(call.headers, image.size, etag)
    if span is not None:
        headers["content-range"] = f"bytes {span.first}-{span.last}/{image.size}"
    status = 200 if span is None else 206
    span = span or Span(0, image.size - 1)
    headers["content-length"] = str(span.length)
    if is_head:
        return Response(None, status, headers, OCTETS)
    if not any(name in call.headers for name in _OUR_CONDITIONS):
        link = await link_to_data(call.registry, image, prefer=prefer)
        if link is not None:
            # Who is sent there gets the range from there: the client repeats its headers.
            return Response(None, 307, {"location": link, "cache-control": "no-store"})
    reader = await open_through_cache(
        call.registry, image, offset=span.first, length=span.length, prefer=prefer
    )
    return DataResponse(reader, status, headers, span.length, _teller(call, image, span.length))


def _teller(call: Call, image: Image, size_bytes: int) -> Teller | None:
    """Who is told how many bytes went out; None when nobody is."""
    if not call.registry.events.wants("image.send"):
        return None
    return lambda sent_bytes: tell_sent(
        call.registry, call.actor, image, sent_bytes=sent_bytes, expected_bytes=size_bytes
    )


def _preferred(call: Call) -> list[str]:
    names = ",".join(value for name, value in call.query if name == "prefer").split(",")
    return [name.strip() for name in names if name.strip()]


def _data_headers(image: Image, etag: str | None) -> dict[str, str]:
    headers = {"accept-ranges": "bytes"}
    if image.checksum:
        # Hex, not the base64 of RFC 1864: what every client of Glance reads (API §9.2).
        headers["content-md5"] = image.checksum
    if etag:
        headers["etag"] = etag
    return headers


class DataResponse(Response):
    """Image data on its way to the client, piece by piece, never more in memory than a few."""

    media_type = OCTETS

    def __init__(
        self,
        reader: Reader,
        status: int,
        headers: dict[str, str],
        size_bytes: int,
        tell: Teller | None = None,
    ) -> None:
        super().__init__(None, status, headers)
        self._reader = reader
        self._size_bytes = size_bytes
        self._tell = tell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all of it. A failure after the first byte can only end the connection."""
        left = self._size_bytes
        try:
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            async for piece in self._reader:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                left -= len(piece)
            if left:
                raise EOFError(f"the store gave {left} bytes too few")
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await self._reader.close()
            if self._tell is not None:
                await asyncio.shield(asyncio.ensure_future(self._tell(self._size_bytes - left)))
