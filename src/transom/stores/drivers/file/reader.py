"""Reading one object of a file store."""

from __future__ import annotations

import asyncio
import io
import os
from collections import deque
from typing import Self

from transom.errors import StoreFailed
from transom.stores.drivers.file.folder import Folder
from transom.stores.threads import run_to_end, settled

_PIECE_BYTES = 512 * 1024
_FIRST_PIECE_BYTES = 256 * 1024
_PIECES_AHEAD = 2
_AHEAD_BYTES_MAX = 64 * 1024 * 1024
"""What all readers of a store together may read ahead; beyond it a reader goes piece by piece."""


class FileReader:
    """Reads one object of a FileStore. See the contract of Reader.

    Up to two pieces are read ahead, so that the disk works while the socket does.
    """

    def __init__(self, folder: Folder, file: io.FileIO, at: int, end: int) -> None:
        self._folder = folder
        self._file = file
        self._at = at
        self._end = end
        self._pieces: deque[tuple[asyncio.Future[bytes], int]] = deque()
        self._is_closed = False
        if end - at > _FIRST_PIECE_BYTES and hasattr(os, "posix_fadvise"):
            # Doubles the kernel's own read-ahead.
            os.posix_fadvise(file.fileno(), at, end - at, os.POSIX_FADV_SEQUENTIAL)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._is_closed:
            raise StopAsyncIteration
        if not self._pieces:
            if self._at >= self._end:
                await self.close()
                raise StopAsyncIteration
            self._read_piece(_FIRST_PIECE_BYTES)
        self._read_ahead()
        future, size_bytes = self._pieces[0]
        try:
            piece = await asyncio.shield(future)
        except OSError as error:
            raise self._folder.explained(error) from error
        self._pieces.popleft()
        self._folder.ahead_bytes -= size_bytes
        if len(piece) < size_bytes:
            raise StoreFailed(
                self._folder.name, "an object is shorter than it was; check its folder for changes"
            )
        return piece

    async def close(self) -> None:
        """Let go of the file, after what is being read from it."""
        if self._is_closed:
            return
        self._is_closed = True
        for future, size_bytes in self._pieces:
            await settled(future)
            self._folder.ahead_bytes -= size_bytes
        self._pieces.clear()
        # Freeing the blocks of a deleted file can take long.
        await run_to_end(self._folder.io, self._file.close)

    def _read_ahead(self) -> None:
        while (
            self._at < self._end
            and len(self._pieces) <= _PIECES_AHEAD
            and self._folder.ahead_bytes < _AHEAD_BYTES_MAX
        ):
            self._read_piece(_PIECE_BYTES)

    def _read_piece(self, size_bytes_max: int) -> None:
        size_bytes = min(size_bytes_max, self._end - self._at)
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(
            self._folder.io, _read_all, self._file.fileno(), self._at, size_bytes
        )
        self._pieces.append((future, size_bytes))
        self._folder.ahead_bytes += size_bytes
        self._at += size_bytes


def _read_all(fd: int, offset: int, size_bytes: int) -> bytes:
    piece = os.pread(fd, size_bytes, offset)
    if len(piece) == size_bytes or not piece:
        return piece
    pieces = [piece]
    while piece and sum(map(len, pieces)) < size_bytes:
        done = sum(map(len, pieces))
        piece = os.pread(fd, size_bytes - done, offset + done)
        pieces.append(piece)
    return b"".join(pieces)
