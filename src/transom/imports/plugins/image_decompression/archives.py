"""Archives: recognised by their first bytes, and what they tell before they are unpacked."""

from __future__ import annotations

import struct

import msgspec

from transom.errors import BadArchive
from transom.imports.plugins.image_decompression import zipped
from transom.imports.plugins.image_decompression.codecs import BZIP2, GZIP, XZ, ZSTD, Kind
from transom.imports.staged import Staged

HEAD_BYTES = 64
_BZIP2_BLOCKS = (b"\x31\x41\x59\x26\x53\x59", b"\x17\x72\x45\x38\x50\x90")
"""Begin a block, and the end of a stream that has none."""
_ZSTD = b"\x28\xb5\x2f\xfd"
_XZ_FOOTER_BYTES = 12
_XZ_INDEX_BYTES_MAX = 1024 * 1024


class Archive(msgspec.Struct, frozen=True, kw_only=True):
    """How one archive is unpacked."""

    kind: Kind
    begin: int = 0
    """Where its compressed data begins, in bytes."""
    end: int
    is_single: bool = False
    at_least_bytes: int = 0
    """What comes out is at least so much."""
    claimed_bytes: int = 0
    """What comes out is at least so much, or the archive is damaged."""
    size_bytes: int | None = None
    """What comes out, where the archive tells."""
    crc: int | None = None
    """The CRC-32 of all that comes out, where the archive keeps it apart from the data."""


async def recognized(staged: Staged) -> Archive | None:
    """What the object is; None = no archive. Raises BadArchive, and the errors of the store."""
    head = await staged.read(0, HEAD_BYTES)
    end = staged.size_bytes
    if head.startswith(b"\x1f\x8b\x08"):
        return Archive(kind=GZIP, end=end, claimed_bytes=await _gzip_bytes(staged))
    if head.startswith(b"PK\x03\x04"):
        found = await zipped.member(staged)
        return Archive(
            kind=found.kind,
            begin=found.begin,
            end=found.end,
            is_single=True,
            at_least_bytes=found.size_bytes,
            size_bytes=found.size_bytes,
            crc=found.crc,
        )
    if head.startswith(b"\xfd7zXZ\0"):
        return Archive(kind=XZ, end=end, at_least_bytes=await _xz_bytes(staged))
    if _is_zstd(head):
        return Archive(kind=ZSTD, end=end, at_least_bytes=_zstd_bytes(head))
    if head[:3] == b"BZh" and head[3:4] in b"123456789" and head[4:10] in _BZIP2_BLOCKS:
        return Archive(kind=BZIP2, end=end)
    if head[2:5] == b"-lh" and head[6:7] == b"-":
        raise BadArchive("LHA", "this kind is not supported; compress it with zstd or gzip")
    return None


async def _gzip_bytes(staged: Staged) -> int:
    """The length at the end of the last member, modulo 2**32 (RFC 1952 §2.3.1): no less comes out."""
    tail = await staged.read(max(0, staged.size_bytes - 4), 4)
    return int.from_bytes(tail, "little") if len(tail) == 4 else 0


async def _xz_bytes(staged: Staged) -> int:
    """The sum of the index at the end of the last stream (xz file format, sections 2.1.2 and 4), or
    0 when there is none to be read: the codec will find out why."""
    at = staged.size_bytes - _XZ_FOOTER_BYTES
    footer = await staged.read(max(0, at), _XZ_FOOTER_BYTES)
    if len(footer) != _XZ_FOOTER_BYTES or not footer.endswith(b"YZ"):
        return 0
    index_bytes = (struct.unpack("<I", footer[4:8])[0] + 1) * 4
    if index_bytes > min(_XZ_INDEX_BYTES_MAX, at):
        return 0
    index = await staged.read(at - index_bytes, index_bytes)
    try:
        count, offset = _xz_number(index, 1)
        total = 0
        for _ in range(count):
            _, offset = _xz_number(index, offset)
            block_bytes, offset = _xz_number(index, offset)
            total += block_bytes
    except IndexError:
        return 0
    return total


def _xz_number(data: bytes, offset: int) -> tuple[int, int]:
    """A number of seven bits a byte, and the offset behind it. Raises IndexError."""
    number = 0
    for position in range(9):
        byte = data[offset + position]
        number |= (byte & 0x7F) << (7 * position)
        if not byte & 0x80:
            return number, offset + position + 1
    raise IndexError(offset)


def _is_zstd(head: bytes) -> bool:
    """A frame, perhaps behind a short one to be skipped, as parallel compressors write them."""
    if head.startswith(_ZSTD):
        return True
    if len(head) < 8 or head[1:4] != b"\x2a\x4d\x18" or head[0] & 0xF0 != 0x50:
        return False
    skipped = 8 + int.from_bytes(head[4:8], "little")
    return head[skipped : skipped + 4] == _ZSTD


def _zstd_bytes(head: bytes) -> int:
    """The content size of the first frame (RFC 8878 §3.1.1.1), or 0 when its header has none."""
    if not head.startswith(_ZSTD) or len(head) < 18:
        return 0
    flags = head[4]
    is_one_segment = bool(flags & 0x20)
    field_bytes = (1 if is_one_segment else 0, 2, 4, 8)[flags >> 6]
    at = 5 + (not is_one_segment) + (0, 1, 2, 4)[flags & 3]
    number = int.from_bytes(head[at : at + field_bytes], "little")
    return number + 256 if field_bytes == 2 else number
