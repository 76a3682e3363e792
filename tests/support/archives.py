"""Archives made by hand: zips with any of their fields changed, and bombs that are made in no time."""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Iterator

from backports import zstd

MIB = 1024 * 1024
GIB = 1024 * MIB


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def zipped(
    data: bytes,
    *,
    packed: bytes | None = None,
    method: int = 8,
    name: bytes = b"disk.raw",
    flags: int = 0,
    crc: int | None = None,
    size: int | None = None,
    local_size: int | None = None,
    local_name: bytes | None = None,
    members: int = 1,
    disk: int = 0,
    before: bytes = b"",
    between: bytes = b"",
    comment: bytes = b"",
    copies: int = 1,
) -> bytes:
    """A zip with one member; every field that is given replaces the right one."""
    packed = deflated(data) if packed is None else packed
    crc = zlib.crc32(data) if crc is None else crc
    size = len(data) if size is None else size
    local = name if local_name is None else local_name
    header = struct.pack(
        "<4s5H3I2H", b"PK\3\4", 20, flags, method, 0, 0x21, crc, len(packed),
        size if local_size is None else local_size, len(local), 0,
    )  # fmt: skip
    body = before + header + local + packed + between
    entry = struct.pack(
        "<4s6H3I5H2I", b"PK\1\2", 20, 20, flags, method, 0, 0x21, crc, len(packed), size,
        len(name), 0, 0, 0, 0, 0, len(before),
    )  # fmt: skip
    directory = (entry + name) * copies
    end = struct.pack(
        "<4s4H2IH", b"PK\5\6", disk, disk, members, members, len(directory), len(body), len(comment)
    )
    return body + directory + end + comment


def _zero_blocks(size_bytes: int) -> Iterator[bytes]:
    """Deflate blocks that unpack to so many mebibytes of zeros; one piece each."""
    packer = zlib.compressobj(9, wbits=-15)
    piece = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    for _ in range(size_bytes // MIB):
        yield piece


def deflate_bomb(size_bytes: int) -> bytes:
    return b"".join(_zero_blocks(size_bytes)) + zlib.compressobj(wbits=-15).flush()


def gzip_bomb(size_bytes: int, told_bytes: int) -> bytes:
    """A gzip of zeros that says that `told_bytes` come out."""
    return (
        b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
        + deflate_bomb(size_bytes)
        + struct.pack("<II", 0, told_bytes & 0xFFFFFFFF)
    )


def bzip2_bomb(size_bytes: int) -> bytes:
    return bz2.compress(bytes(64 * MIB)) * (size_bytes // (64 * MIB))


def xz_bomb(size_bytes: int) -> bytes:
    return lzma.compress(bytes(64 * MIB), preset=0) * (size_bytes // (64 * MIB))


def zstd_bomb(size_bytes: int) -> bytes:
    return zstd.compress(bytes(64 * MIB)) * (size_bytes // (64 * MIB))
