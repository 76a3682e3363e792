"""Zip archives with exactly one member (APPNOTE.TXT of PKWARE, version 6.3.10).

An archive is taken only if every byte of it is accounted for: the member's header at the beginning,
its data, the directory behind it, the end. The header and the directory have to agree. Readers that
look at only one of the two can therefore not be shown different things, and nothing hides between.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import msgspec

from transom.errors import BadArchive
from transom.imports.plugins.image_decompression.codecs import (
    BZIP2,
    DEFLATE,
    XZ,
    ZSTD,
    Kind,
    stored,
)
from transom.imports.staged import Staged

_END = struct.Struct("<4s4H2IH")
_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQ2H2I4Q")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_HEADER = struct.Struct("<4s5H3I2H")
_FULL_16 = 0xFFFF
_FULL_32 = 0xFFFFFFFF
"""A field with this value is told in full elsewhere."""
_DIRECTORY_BYTES_MAX = _ENTRY.size + 3 * 65535
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_DESCRIBED = 0x0008
"""Sum and lengths come in a descriptor behind the data."""
_DESCRIPTOR_BYTES = (12, 16, 20, 24)
_METHODS: dict[int, Callable[[int], Kind]] = {
    0: stored,
    8: lambda _: DEFLATE,
    12: lambda _: BZIP2,
    93: lambda _: ZSTD,
    95: lambda _: XZ,
}


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """The one member of a zip archive. Its name is not looked at."""

    kind: Kind
    begin: int
    end: int
    size_bytes: int
    crc: int


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    """What the directory says of the member."""

    method: int
    flags: int
    crc: int
    packed_bytes: int
    size_bytes: int
    name: bytes


async def member(staged: Staged) -> Member:
    """The archive's one member. Raises BadArchive, and the errors of the store."""
    begin, end = await _directory(staged)
    if not _ENTRY.size <= end - begin <= _DIRECTORY_BYTES_MAX:
        raise _bad("its directory is damaged")
    told = _told(await staged.read(begin, end - begin))
    if told.flags & _ENCRYPTED:
        raise _bad("it is encrypted; make one without a password")
    if told.method not in _METHODS:
        raise _bad(f"compression method {told.method} is not supported; use deflate")
    if told.name.endswith(b"/") or not told.size_bytes:
        raise _bad("its only member is empty or a folder; it must be the image")
    data = await _data_begin(staged, told)
    data_end = data + told.packed_bytes
    await _check_descriptor(staged, told, data_end, begin)
    if told.method == 0 and told.packed_bytes != told.size_bytes:
        raise _bad("its lengths contradict each other")
    kind = _METHODS[told.method](told.size_bytes)
    return Member(
        kind=msgspec.structs.replace(kind, name="zip", padding=0),
        begin=data,
        end=data_end,
        size_bytes=told.size_bytes,
        crc=told.crc,
    )


async def _directory(staged: Staged) -> tuple[int, int]:
    """Where the directory begins and ends."""
    size_bytes = staged.size_bytes
    tail_at = max(0, size_bytes - _END.size - _FULL_16 - _LOCATOR.size)
    tail = await staged.read(tail_at, size_bytes - tail_at)
    at = _end_position(tail)
    _, disk, first_disk, here, members, length, begin, _ = _END.unpack_from(tail, at)
    end_at = tail_at + at
    if at >= _LOCATOR.size and tail[at - _LOCATOR.size :].startswith(b"PK\x06\x07"):
        locator = tail[at - _LOCATOR.size : at]
        fields = await _end64(staged, locator, end_at - _LOCATOR.size)
        narrow = ((here, _FULL_16), (members, _FULL_16), (length, _FULL_32), (begin, _FULL_32))
        for (value, full), wide in zip(narrow, fields[:4], strict=True):
            if value not in (full, wide):
                raise _bad("its two ends contradict each other")
        here, members, length, begin, end_at = fields
    if disk not in (0, _FULL_16) or first_disk not in (0, _FULL_16) or here != members:
        raise _bad("it is one of several parts; make a single one")
    if members != 1:
        raise _bad(f"it has {members} members; it must have exactly one, the image")
    if begin + length != end_at:
        raise _bad("it holds more than its directory tells")
    return begin, end_at


def _end_position(tail: bytes) -> int:
    """Where in the tail the record stands that ends the archive together with its comment."""
    at = tail.rfind(b"PK\x05\x06")
    while at >= 0:
        if at + _END.size <= len(tail):
            (comment_bytes,) = struct.unpack_from("<H", tail, at + _END.size - 2)
            if at + _END.size + comment_bytes == len(tail):
                return at
        at = tail.rfind(b"PK\x05\x06", 0, at)
    raise _bad("it ends too early, or there is other data behind its end")


async def _end64(staged: Staged, locator: bytes, end: int) -> tuple[int, int, int, int, int]:
    """Members here, members, length and begin of the directory, and where it must end, from the
    Zip64 record, which ends at `end`."""
    _, disk, at, disks = _LOCATOR.unpack(locator)
    record = await staged.read(at, _END64.size)
    if len(record) < _END64.size or not record.startswith(b"PK\x06\x06") or disk or disks > 1:
        raise _bad("its Zip64 end is damaged")
    _, record_bytes, _, _, number, first, here, members, length, begin = _END64.unpack(record)
    if at + 12 + record_bytes != end or number or first:
        raise _bad("its Zip64 end is damaged")
    return here, members, length, begin, at


def _told(directory: bytes) -> _Told:
    fields = _ENTRY.unpack_from(directory)
    signature, _, _, flags, method, _, _, crc, packed, size = fields[:10]
    name_bytes, extra_bytes, comment_bytes, disk, _, _, offset = fields[10:]
    if signature != b"PK\x01\x02":
        raise _bad("its directory is damaged")
    extra_at = _ENTRY.size + name_bytes
    if extra_at + extra_bytes + comment_bytes != len(directory):
        raise _bad("its directory tells of more than one member")
    extra = directory[extra_at : extra_at + extra_bytes]
    size, packed, offset = _wide(extra, size, packed, offset)
    if offset or disk not in (0, _FULL_16):
        raise _bad("there is other data before its member")
    return _Told(
        method=method,
        flags=flags,
        crc=crc,
        packed_bytes=packed,
        size_bytes=size,
        name=directory[_ENTRY.size : extra_at],
    )


async def _data_begin(staged: Staged, told: _Told) -> int:
    """Where the data begins, behind a header that agrees with the directory."""
    header = await staged.read(0, _HEADER.size)
    if len(header) < _HEADER.size:
        raise _bad("it ends too early")
    fields = _HEADER.unpack(header)
    _, _, flags, method, _, _, crc, packed, size, name_bytes, extra_bytes = fields
    rest = await staged.read(_HEADER.size, name_bytes + extra_bytes)
    size, packed, _ = _wide(rest[name_bytes:], size, packed, 0)
    # What was not known when the header was written is 0 there, and in the descriptor.
    agrees = all(
        here == there or (flags & _DESCRIBED and not here)
        for here, there in (
            (crc, told.crc),
            (packed, told.packed_bytes),
            (size, told.size_bytes),
        )
    )
    differ = (flags ^ told.flags) & (_ENCRYPTED | _DESCRIBED)
    if differ or not agrees or (method, rest[:name_bytes]) != (told.method, told.name):
        raise _bad("its header and its directory contradict each other")
    return _HEADER.size + len(rest)


async def _check_descriptor(staged: Staged, told: _Told, begin: int, end: int) -> None:
    """Between data and directory there is a descriptor if the flags say so, and nothing else."""
    if not told.flags & _DESCRIBED:
        if begin != end:
            raise _bad("it holds more than its directory tells")
        return
    if end - begin not in _DESCRIPTOR_BYTES:
        raise _bad("it holds more than its directory tells")
    descriptor = await staged.read(begin, end - begin)
    has_signature = len(descriptor) in (16, 24)
    lengths = "2Q" if len(descriptor) >= 20 else "2I"
    crc, packed, size = struct.unpack("<I" + lengths, descriptor[4 * has_signature :])
    if (has_signature and not descriptor.startswith(b"PK\x07\x08")) or (crc, packed, size) != (
        told.crc,
        told.packed_bytes,
        told.size_bytes,
    ):
        raise _bad("what stands behind its data contradicts its directory")


def _wide(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """The three numbers, those that are full replaced from the Zip64 field (4.5.3)."""
    wide = b""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == 1:
            wide = extra[4 : 4 + length]
            break
        extra = extra[4 + length :]
    found = []
    for value in (size, packed, offset):
        if value != _FULL_32:
            found.append(value)
        elif len(wide) >= 8:
            found.append(int.from_bytes(wide[:8], "little"))
            wide = wide[8:]
        else:
            raise _bad("its lengths are not told")
    return found[0], found[1], found[2]


def _bad(reason: str) -> BadArchive:
    return BadArchive("zip", reason)
