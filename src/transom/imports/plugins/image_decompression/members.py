"""Unpacks a stream of members, one after the other, in bounded pieces and bounded time."""

from __future__ import annotations

import time

from transom.errors import BadArchive
from transom.imports.plugins.image_decompression.codecs import FAILURES, Codec, Kind

PIECE_BYTES = 1024 * 1024
"""The largest piece that comes out."""
_SLICE_BYTES = 16 * 1024
"""A codec is given so much at a time: behind the end of each of ten thousand tiny members, what is
left of the slice is copied."""
_STEP_SECONDS = 0.1
"""A step ends after so long, done or not: somebody may want to cancel."""


class Members:
    """Unpacks what `feed` brings: call `step` until it `is_hungry`, then feed more. Members that
    follow each other give one stream, as the tools of every kind do it. Not for two threads at once.
    """

    def __init__(self, kind: Kind, *, is_single: bool = False) -> None:
        """`is_single` = the end of the first member is the end of everything."""
        self._kind = kind
        self._is_single = is_single
        self._chunk = b""
        self._at = 0
        """Where in the chunk what no codec has been given begins."""
        self._codec: Codec | None = None
        self._members = 0
        self._member_bytes = 0
        self._padding = 0

    @property
    def is_hungry(self) -> bool:
        """True when nothing more comes out without more data."""
        return self._at == len(self._chunk) and (self._codec is None or self._codec.needs_input)

    def feed(self, chunk: bytes) -> None:
        """Hand over the next bytes. Only for the hungry."""
        if not self.is_hungry:
            raise RuntimeError("what was fed before is not unpacked yet")
        self._chunk, self._at = chunk, 0

    def step(self) -> bytes:
        """The next piece of what is in the archive, perhaps an empty one. Raises BadArchive."""
        pieces: list[bytes] = []
        room = PIECE_BYTES
        deadline = time.monotonic() + _STEP_SECONDS
        while room and not self.is_hungry and time.monotonic() < deadline:
            piece = self._next(room)
            room -= len(piece)
            if piece:
                pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def finish(self) -> None:
        """No more data comes. Raises BadArchive unless the archive is at its end."""
        if self._codec is not None or not self._members:
            raise BadArchive(self._kind.name, "it ends too early; is the file complete?")
        self._check_padding()

    def _next(self, room: int) -> bytes:
        if self._codec is None and not self._begin():
            return b""
        codec = self._codec
        if codec is None:
            return b""
        data = b""
        if codec.needs_input:
            data = self._chunk[self._at : self._at + _SLICE_BYTES]
            self._at += len(data)
        try:
            piece = codec.decompress(data, room)
        except FAILURES as broken:
            raise BadArchive(self._kind.name, self._explained(broken)) from broken
        self._member_bytes += len(piece)
        if codec.eof:
            # All of it comes from the last slice: a codec is given the next when it has none left.
            self._at -= len(codec.unused_data)
            self._codec = None
            self._members += 1
        return piece

    def _begin(self) -> bool:
        """Begin the next member; False when all of the input was padding."""
        if self._members and self._is_single:
            raise BadArchive(self._kind.name, "there is more data behind its end")
        if self._members and self._kind.padding:
            while zeros := self._chunk[self._at : self._at + _SLICE_BYTES]:
                count = len(zeros) - len(zeros.lstrip(b"\0"))
                self._padding += count
                self._at += count
                if count < len(zeros):
                    break
            else:
                return False
            self._check_padding()
            self._padding = 0
        self._codec = self._kind.make()
        self._member_bytes = 0
        return True

    def _check_padding(self) -> None:
        if self._kind.padding and self._padding % self._kind.padding:
            raise BadArchive(self._kind.name, "there is other data behind its end")

    def _explained(self, broken: Exception) -> str:
        if "emory" in str(broken):
            return "it needs a window of more than 128 MiB; compress it with a smaller one"
        if self._members and not self._member_bytes:
            return "there is other data behind its end, or the next part is damaged"
        return "its data is damaged; compare its hash with that of the original"
