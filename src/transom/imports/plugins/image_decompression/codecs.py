"""The compressions that are known, each behind the same three words.

A codec unpacks one member: one gzip member, one zstd frame, one xz or bzip2 stream. It checks the sums
that the member carries. All of them are libraries that unpack a bounded piece at a time and hold
bounded memory: at most the window, 128 MiB, whatever an archive asks for.
"""

from __future__ import annotations

import bz2
import lzma
import sys
import zlib
from collections.abc import Callable
from typing import Protocol

import msgspec

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_WINDOW_LOG_MAX = 27
_XZ_MEMORY_BYTES_MAX = 136 * 1024 * 1024
"""The window of 128 MiB, and what liblzma needs beside it."""

FAILURES = (zlib.error, OSError, lzma.LZMAError, zstd.ZstdError, EOFError)
"""What codecs raise when the data is not theirs or is damaged; bz2 raises OSError."""


class Codec(Protocol):
    """Unpacks one member, a piece at a time. The classes of bz2, lzma and zstd are codecs."""

    @property
    def eof(self) -> bool:
        """True when the member has ended."""
        ...

    @property
    def needs_input(self) -> bool:
        """True when nothing more comes without more data."""
        ...

    @property
    def unused_data(self) -> bytes:
        """What came behind the end of the member."""
        ...

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """The next piece, of at most `max_length` bytes, which is at least 1. `data` must be empty
        unless input is needed. Raises one of FAILURES."""
        ...


class _Zlib:
    """zlib, made to look like its younger siblings."""

    def __init__(self, wbits: int) -> None:
        self._inner = zlib.decompressobj(wbits)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        piece = self._inner.decompress(data or self._inner.unconsumed_tail, max_length)
        # What fills the room exactly may have left more behind inside of zlib.
        self.needs_input = not self._inner.unconsumed_tail and len(piece) < max_length
        return piece


class _Stored:
    """Data that a zip archive holds as it is; its length is known from outside."""

    needs_input = True
    unused_data = b""

    def __init__(self, size_bytes: int) -> None:
        self._left_bytes = size_bytes
        self._data = b""

    @property
    def eof(self) -> bool:
        return not self._left_bytes

    def decompress(self, data: bytes, max_length: int) -> bytes:
        self._data = self._data or data
        piece, self._data = self._data[:max_length], self._data[max_length:]
        self._left_bytes -= len(piece)
        self.needs_input = not self._data
        return piece


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One compression: its name, and how a codec for one member is made."""

    name: str
    make: Callable[[], Codec]
    padding: int = 0
    """Zero bytes may stand between and behind members, in groups of so many; 0 = none may."""


GZIP = Kind(name="gzip", make=lambda: _Zlib(31))
DEFLATE = Kind(name="zip", make=lambda: _Zlib(-15))
BZIP2 = Kind(name="bzip2", make=bz2.BZ2Decompressor)
XZ = Kind(
    name="xz",
    make=lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES_MAX),
    padding=4,
)
"""The padding is that of the xz file format, section 2.2."""
ZSTD = Kind(
    name="zstd",
    make=lambda: zstd.ZstdDecompressor(
        options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG_MAX}
    ),
)


def stored(size_bytes: int) -> Kind:
    """The kind of data that is not compressed, of a known length above 0."""
    return Kind(name="zip", make=lambda: _Stored(size_bytes))
