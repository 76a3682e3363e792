"""Puts objects into stores and gets them out again, as callers do: piece by piece."""

from __future__ import annotations

from typing import Any

from transom.stores.store import Store

_PIECE_BYTES = 1024 * 1024


async def put(store: Store, key: str, data: bytes, *, size_hint: int | None = None) -> str:
    """Write an object; its location."""
    async with store.writer(key, size_hint=size_hint) as writer:
        for at in range(0, len(data), _PIECE_BYTES):
            await writer.write(data[at : at + _PIECE_BYTES])
        return (await writer.commit()).url


async def get(store: Store, key: str, **span: Any) -> bytes:
    """Read an object, or a part of it."""
    reader = await store.read(key, **span)
    try:
        return b"".join([piece async for piece in reader])
    finally:
        await reader.close()
