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

PIECE_BYTES = 512 * 1024
_PIECES_AHEAD = 2
_AHEAD_BYTES_MAX = 64 * 1024 * 1024
"""What all readers of a store together may read ahead; beyond it a reader goes piece by piece."""
_PIECES_IN_A_ROW = 4
"""After so many pieces without waiting for anything, others get their turn."""
_NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None)


class FileReader:
    """Reads one object of a FileStore. See the contract of Reader.

    Pieces that the system has in memory are copied at once: that costs less than reaching a thread
    does, and keeps a download as cheap as sendfile nearly is. All others are read in threads, two
    ahead of the one that is being sent, so that the disk works while the socket does.
    """

    def __init__(self, folder: Folder, file: io.FileIO, begin: int, end: int) -> None:
        self._folder = folder
        self._file = file
        self._fd = file.fileno()
        self._at = begin
        self._end = end
        self._ahead: deque[tuple[asyncio.Future[bytes], int]] = deque()
        self._in_a_row = 0
        self._can_ask = _NOWAIT is not None
        self._is_closed = False
        if end - begin > PIECE_BYTES and hasattr(os, "posix_fadvise"):
            # Doubles the kernel's own read-ahead.
            os.posix_fadvise(self._fd, begin, end - begin, os.POSIX_FADV_SEQUENTIAL)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._is_closed:
            raise StopAsyncIteration
        if not self._ahead:
            if self._at >= self._end:
                await self.close()
                raise StopAsyncIteration
            if self._is_in_memory(self._at):
                return await self._copy_piece()
            self._read_piece()
        self._in_a_row = 0
        self._read_ahead()
        future, size_bytes = self._ahead[0]
        try:
            piece = await asyncio.shield(future)
        except OSError as error:
            raise self._folder.explained(error) from error
        self._ahead.popleft()
        self._folder.ahead_bytes -= size_bytes
        return self._whole(piece, size_bytes)

    async def close(self) -> None:
        """Let go of the file, once nothing reads from it any more."""
        if self._is_closed:
            return
        self._is_closed = True
        for future, size_bytes in self._ahead:
            await settled(future)
            self._folder.ahead_bytes -= size_bytes
        self._ahead.clear()
        # In a thread, because freeing the blocks of a deleted file can take long.
        await run_to_end(self._folder.io, self._file.close)

    def _is_in_memory(self, offset: int) -> bool:
        """Whether the first and the last byte of the piece at `offset` can be had without waiting
        for the disk; nearly always, all that is between them can then, too."""
        last = min(offset + PIECE_BYTES, self._end) - 1
        return self._has(offset) and self._has(last)

    def _has(self, offset: int) -> bool:
        if not self._can_ask or _NOWAIT is None:
            return False
        try:
            return os.preadv(self._fd, [bytearray(1)], offset, _NOWAIT) == 1
        except BlockingIOError:
            return False
        except OSError:
            # The file system cannot tell, or has a fault that the read itself will report.
            self._can_ask = False
            return False

    async def _copy_piece(self) -> bytes:
        self._in_a_row += 1
        if self._in_a_row % _PIECES_IN_A_ROW == 0:
            await asyncio.sleep(0)
        size_bytes = min(PIECE_BYTES, self._end - self._at)
        try:
            piece = _read_all(self._fd, self._at, size_bytes)
        except OSError as error:
            raise self._folder.explained(error) from error
        self._at += size_bytes
        return self._whole(piece, size_bytes)

    def _read_ahead(self) -> None:
        while (
            self._at < self._end
            and len(self._ahead) <= _PIECES_AHEAD
            and self._folder.ahead_bytes < _AHEAD_BYTES_MAX
            and not self._is_in_memory(self._at)
        ):
            self._read_piece()

    def _read_piece(self) -> None:
        size_bytes = min(PIECE_BYTES, self._end - self._at)
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._folder.io, _read_all, self._fd, self._at, size_bytes)
        self._ahead.append((future, size_bytes))
        self._folder.ahead_bytes += size_bytes
        self._at += size_bytes

    def _whole(self, piece: bytes, size_bytes: int) -> bytes:
        if len(piece) < size_bytes:
            raise StoreFailed(
                self._folder.name, "an object is shorter than it was; look who changes its folder"
            )
        return piece


def _read_all(fd: int, offset: int, size_bytes: int) -> bytes:
    """So many bytes, fewer only at the end of the file."""
    piece = os.pread(fd, size_bytes, offset)
    if len(piece) == size_bytes or not piece:
        return piece
    pieces = [piece]
    done = len(piece)
    while done < size_bytes and (piece := os.pread(fd, size_bytes - done, offset + done)):
        pieces.append(piece)
        done += len(piece)
    return b"".join(pieces)
