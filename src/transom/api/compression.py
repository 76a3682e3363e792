"""Long JSON answers, compressed for who asks (RFC 9110 §8.4.1, RFC 1952)."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Mapping

from starlette.responses import Response

from transom.api.problems import quality

LEVEL = 1
"""The fastest: JSON shrinks to a tenth already."""

THREAD_BYTES = 256 * 1024
"""Longer bodies are compressed in a thread, so that others need not wait."""


def is_long(response: Response, bytes_min: int) -> bool:
    """Is the answer long enough to be compressed? From `bytes_min` bytes on; 0 = never."""
    return 0 < bytes_min <= len(getattr(response, "body", b""))


async def compress(response: Response, asked: Mapping[str, str]) -> None:
    """Compress the body in place, if it is JSON and the client takes gzip."""
    body = response.body
    if not isinstance(body, bytes) or "json" not in response.headers.get("content-type", ""):
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
