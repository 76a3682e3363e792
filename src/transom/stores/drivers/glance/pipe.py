"""Bytes from the event loop to a thread that reads them like a file."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque

ROOM_BYTES = 4 * 1024 * 1024
"""What waits in a pipe at most, beside the chunk that goes in last."""


class Abandoned(Exception):
    """The data does not come to its end: what was made of it has to go."""


class Pipe:
    """Made in the event loop, which writes; one thread reads."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._chunks: deque[bytes] = deque()
        self._held_bytes = 0
        self._is_ended = False
        self._is_abandoned = False
        self._is_read_out = False
        self._room: asyncio.Future[None] | None = None

    # --- in the event loop ---

    async def put(self, chunk: bytes) -> None:
        """Hand on a chunk; returns when there is room for the next one, or nobody reads any more."""
        with self._changed:
            self._chunks.append(chunk)
            self._held_bytes += len(chunk)
            self._changed.notify()
            room = None
            if self._held_bytes > ROOM_BYTES and not self._is_read_out:
                room = self._room = self._loop.create_future()
        if room is not None:
            await room

    def end(self) -> None:
        """No more bytes come."""
        with self._changed:
            self._is_ended = True
            self._changed.notify()

    def abandon(self) -> None:
        """No more bytes come, and those that came are not wanted."""
        with self._changed:
            self._is_abandoned = True
            self._chunks.clear()
            self._changed.notify()

    # --- in the thread ---

    def read(self, size: int = -1) -> bytes:
        """So many bytes, or all for -1; fewer only at the end. Raises Abandoned."""
        wanted = size if size is not None and size >= 0 else None
        pieces: list[bytes] = []
        got = 0
        while wanted is None or got < wanted:
            piece = self._next(None if wanted is None else wanted - got)
            if not piece:
                break
            pieces.append(piece)
            got += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Nobody reads any more: who waits for room has it."""
        with self._changed:
            self._is_read_out = True
            self._chunks.clear()
            self._give_room()

    def _next(self, most: int | None) -> bytes:
        with self._changed:
            while not self._chunks and not self._is_ended and not self._is_abandoned:
                self._changed.wait()
            if self._is_abandoned:
                raise Abandoned
            if not self._chunks:
                return b""
            piece = self._chunks.popleft()
            if most is not None and len(piece) > most:
                self._chunks.appendleft(piece[most:])
                piece = piece[:most]
            self._held_bytes -= len(piece)
            if self._held_bytes <= ROOM_BYTES // 2:
                self._give_room()
            return piece

    def _give_room(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            # A loop that has ended has nobody who waits.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_settle, room)


def _settle(room: asyncio.Future[None]) -> None:
    if not room.done():
        room.set_result(None)
