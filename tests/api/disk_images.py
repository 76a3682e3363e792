"""Disk images made by hand, byte by byte: just enough header for each format (lifecycle §7.2)."""

from __future__ import annotations

import struct
import uuid

KIB = 1024
MIB = 1 << 20
SECTOR = 512
DISK_SIZE = 8 * MIB
"""The virtual size that all of them declare, in bytes."""


def raw(size: int = 4096) -> bytes:
    """Bytes that no inspector recognises."""
    return b"\x5a" * size


def qcow2(
    *,
    version: int = 3,
    backing_offset: int = 0,
    incompatible: int = 0,
    size: int = DISK_SIZE,
    length: int = 1024,
) -> bytes:
    """A qcow2 header. `incompatible` is the feature field of version 3."""
    header = struct.pack(
        ">4sIQIIQIIQQIIQ",
        b"QFI\xfb", version, backing_offset, 0, 16, size, 0, 1, 0x30000, 0x10000, 1, 0, 0,
    )  # fmt: skip
    if version >= 3 or incompatible:
        header += struct.pack(">QQQII", incompatible, 0, 0, 4, 104)
    return header.ljust(length, b"\0")


def qed() -> bytes:
    """A QED header."""
    return b"QED\0".ljust(1024, b"\0")


def vhd(size: int = DISK_SIZE) -> bytes:
    """A dynamic VHD: the copy of the footer that stands at its beginning."""
    footer = bytearray(SECTOR)
    footer[0:8] = b"conectix"
    footer[40:48] = struct.pack(">Q", size)
    footer[48:56] = struct.pack(">Q", size)
    return bytes(footer) + b"\0" * 2048


def vhdx(size: int = DISK_SIZE) -> bytes:
    """A VHDX with a region table, a metadata region and a virtual size."""
    metadata_offset = 512 * KIB
    image = bytearray(metadata_offset + 128 * KIB)
    image[0:8] = b"vhdxfile"
    regions = struct.pack("<4sIII", b"regi", 0, 1, 0)
    regions += _guid("8B7CA206-4790-4B9A-B8FE-575F050F886E")
    regions += struct.pack("<QII", metadata_offset, MIB, 1)
    image[192 * KIB : 192 * KIB + len(regions)] = regions
    items = struct.pack("<8sHH", b"metadata", 0, 1).ljust(32, b"\0")
    items += _guid("2FA54224-CD1B-4876-B211-5DBED83BF4B8")
    items += struct.pack("<III", 64 * KIB, 8, 0).ljust(16, b"\0")
    image[metadata_offset : metadata_offset + len(items)] = items
    at = metadata_offset + 64 * KIB
    image[at : at + 8] = struct.pack("<Q", size)
    return bytes(image)


def descriptor(
    kind: str = "monolithicSparse", extent: str = 'RW 16384 SPARSE "disk.vmdk"', extra: str = ""
) -> str:
    """The text of a VMDK descriptor."""
    return (
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n"
        f'createType="{kind}"\n{extra}\n# Extent description\n{extent}\n\n'
        '#DDB\n\nddb.adapterType = "ide"\nddb.virtualHWVersion = "4"\n'
    )


def vmdk(text: str | None = None, *, size: int = DISK_SIZE, version: int = 1) -> bytes:
    """A sparse VMDK: header and embedded descriptor."""
    body = (descriptor() if text is None else text).encode("latin-1")
    sectors = 20
    header = struct.pack(
        "<4sIIQQQQIQQQ",
        b"KDMV", version, 3, size // SECTOR, 128, 1, sectors, 512, 21, 26, 128,
    )  # fmt: skip
    return header.ljust(SECTOR, b"\0") + body.ljust(sectors * SECTOR, b"\0") + b"\0" * 4096


def vmdk_streamed(size: int = DISK_SIZE) -> bytes:
    """A stream-optimised VMDK, whose grain directory is told by the footer at its end."""
    body = descriptor("streamOptimized", 'RW 16384 SPARSE "disk.vmdk"').encode()
    sectors = 20

    def header(directory: int) -> bytes:
        return struct.pack(
            "<4sIIQQQQIQQQ",
            b"KDMV", 3, 0x30001, size // SECTOR, 128, 1, sectors, 512, 0, directory, 128,
        ).ljust(SECTOR, b"\0")  # fmt: skip

    marker = struct.pack("<QII", 1, 0, 3).ljust(SECTOR, b"\0")
    end = b"\0" * SECTOR
    start = header(0xFFFFFFFFFFFFFFFF) + body.ljust(sectors * SECTOR, b"\0")
    return start + b"\0" * 4096 + marker + header(26) + end


def vmdk_descriptor_only(text: str | None = None) -> bytes:
    """A VMDK that is nothing but its descriptor: the data lies in files that it names."""
    return (text or descriptor("monolithicFlat", 'RW 16384 FLAT "/etc/passwd" 0')).encode()


def vdi(size: int = DISK_SIZE) -> bytes:
    """A VDI header."""
    image = bytearray(1024)
    image[0:40] = b"<<< Oracle VM VirtualBox Disk Image >>>\n"
    image[0x40:0x44] = struct.pack("<I", 0xBEDA107F)
    image[0x170:0x178] = struct.pack("<Q", size)
    return bytes(image)


def iso(blocks: int = DISK_SIZE // 2048) -> bytes:
    """An ISO 9660 primary volume descriptor."""
    image = bytearray(40 * KIB)
    at = 32 * KIB
    image[at] = 1
    image[at + 1 : at + 6] = b"CD001"
    image[at + 80 : at + 84] = struct.pack("<I", blocks)
    image[at + 128 : at + 130] = struct.pack("<H", 2048)
    return bytes(image)


def mbr(*, boot_flag: int = 0x80, kind: int = 0x83, length: int = 4096) -> bytes:
    """A disk with a plain MBR partition table of one partition."""
    image = bytearray(length)
    image[446:462] = struct.pack("<BBBBBBBBII", boot_flag, 0, 2, 0, kind, 0xFE, 0xFF, 0xFF, 1, 2048)
    image[510:512] = b"\x55\xaa"
    return bytes(image)


def gpt(length: int = 4096) -> bytes:
    """A GPT disk: the protective MBR and the signature of the table."""
    image = bytearray(mbr(boot_flag=0, kind=0xEE, length=length))
    image[447:450] = b"\x00\x02\x00"
    image[512:520] = b"EFI PART"
    return bytes(image)


def luks(*, version: int = 1, payload_sectors: int = 4, length: int = 8192) -> bytes:
    """A LUKS header; the payload starts after `payload_sectors` sectors of 512 bytes."""
    image = bytearray(length)
    image[0:6] = b"LUKS\xba\xbe"
    image[6:8] = struct.pack(">H", version)
    image[104:108] = struct.pack(">I", payload_sectors)
    return bytes(image)


def hybrid_iso() -> bytes:
    """An ISO with a partition table, as distributions ship it for memory sticks."""
    image = bytearray(iso())
    image[446:512] = mbr()[446:512]
    return bytes(image)


def qcow2_and_vdi() -> bytes:
    """Two formats at once: the trick of a polyglot."""
    image = bytearray(qcow2())
    image[0x40:0x44] = struct.pack("<I", 0xBEDA107F)
    # The backing file and the features stay clean: only the double signature is wrong.
    return bytes(image)


def _guid(text: str) -> bytes:
    return uuid.UUID(text).bytes_le
