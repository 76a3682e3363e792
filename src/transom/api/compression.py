"""Long JSON answers, compressed for who asks (RFC 9110 §8.4.1, RFC 1952)."""

from __future__ import annotations

import asyncio
import gzip

from starlette.datastructures import Headers
from starlette.responses import Response

from transom.api.problems import quality

LEVEL = 1
"""The fastest: JSON shrinks to a tenth already."""

THREAD_BYTES = 256 * 1024
"""Longer bodies are compressed in a thread, so that others need not wait."""


async def compress(response: Response, asked: Headers, bytes_min: int) -> None:
    """Compress the body in place, if it is JSON of `bytes_min` bytes or more (0 = never) and the
    client takes gzip."""
    body = getattr(response, "body", b"")
    if not bytes_min or len(body) < bytes_min or not isinstance(body, bytes):
        return
    if "json" not in response.headers.get("content-type", ""):
        return
    response.headers.add_vary_header("Accept-Encoding")
    if not quality(asked.get("accept-encoding"), "gzip"):
        return
    if len(body) < THREAD_BYTES:
        response.body = gzip.compress(body, LEVEL, mtime=0)
    else:
        response.body = await asyncio.to_thread(gzip.compress, body, LEVEL, mtime=0)
    response.headers["content-encoding"] = "gzip"
    response.headers["content-length"] = str(len(response.body))
