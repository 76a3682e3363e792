"""What an image is by its bytes, and what is refused (lifecycle §7), on images that QEMU makes and on
headers made by hand."""

from __future__ import annotations

import itertools
import json
import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transom.errors import FormatMismatch, UnsafeImage
from transom.formats import Inspection

KIB = 1024
MIB = 1024 * KIB
DISK_BYTES = 3 * MIB

ACCEPTED = "accepted"
MISMATCH = "mismatch"
UNSAFE = "unsafe"


def pieces(data: bytes, size_bytes: int) -> Iterable[bytes]:
    return (data[at : at + size_bytes] for at in range(0, len(data), size_bytes))


def judge(
    data: bytes,
    disk_format: str | None,
    container_format: str | None = "bare",
    *,
    chunks: Iterable[bytes] | None = None,
    **options: object,
) -> tuple[str, object]:
    """The outcome, and the virtual size or what was detected or the failed checks."""
    inspection = Inspection(disk_format, container_format, **options)  # type: ignore[arg-type]
    for chunk in pieces(data, 400 * KIB) if chunks is None else chunks:
        inspection.take(chunk)
    try:
        return ACCEPTED, inspection.verdict()
    except FormatMismatch as error:
        return MISMATCH, error.detected
    except UnsafeImage as error:
        return UNSAFE, error.checks


# --- images by hand -------------------------------------------------------------------------------


def patched(data: bytes, *patches: tuple[int, bytes]) -> bytes:
    changed = bytearray(data)
    for offset, piece in patches:
        changed[offset : offset + len(piece)] = piece
    return bytes(changed)


def qcow2(version: int = 3, *, backing: int = 0, size: int = 5 * MIB, features: int = 0) -> bytes:
    header = struct.pack(">4sIQIIQ", b"QFI\xfb", version, backing, 0, 16, size)
    return patched(bytes(KIB), (0, header), (0x48, struct.pack(">Q", features)))


def vhd(size: int = 7 * MIB) -> bytes:
    return patched(bytes(KIB), (0, b"conectix"), (40, struct.pack(">Q", size)))


def vdi(size: int = 6 * MIB) -> bytes:
    return patched(
        bytes(KIB), (0x40, struct.pack("<I", 0xBEDA107F)), (0x170, struct.pack("<Q", size))
    )


def qed() -> bytes:
    return patched(bytes(KIB), (0, b"QED\0"))


def luks(version: int = 1, payload_sectors: int = 4) -> bytes:
    return patched(
        bytes(8 * KIB),
        (0, b"LUKS\xba\xbe" + struct.pack(">H", version)),
        (104, struct.pack(">I", payload_sectors)),
    )


def iso(
    signature: bytes = b"CD001", *, blocks: int = 20, block_bytes: int = 2048, kind: int = 1
) -> bytes:
    at = 32 * KIB
    return patched(
        bytes(40 * KIB),
        (at, bytes([kind]) + signature),
        (at + 80, struct.pack("<I", blocks)),
        (at + 128, struct.pack("<H", block_bytes)),
    )


def partition(
    kind: int = 0x83, *, boot: int = 0, start_chs: bytes = b"\0\2\0", start_lba: int = 1
) -> bytes:
    return struct.pack("<B3sB3sII", boot, start_chs, kind, b"\xff\xff\xff", start_lba, 100)


def mbr(*partitions: bytes) -> bytes:
    table = b"".join(partitions).ljust(64, b"\0")
    return patched(bytes(4 * KIB), (446, table), (510, b"\x55\xaa"))


PROTECTIVE = partition(0xEE)

DESCRIPTOR = """# Disk DescriptorFile
version=1
CID=12345678
parentCID=ffffffff
createType="monolithicSparse"

# Extent description
RW 6144 SPARSE "disk.vmdk"

ddb.virtualHWVersion = "4"
"""


def vmdk(
    descriptor: str | bytes = DESCRIPTOR,
    *,
    version: int = 1,
    sectors: int = 6144,
    at_sector: int = 1,
    descriptor_sectors: int = 4,
    directory: int = 21,
    trailer: bytes = b"",
) -> bytes:
    text = descriptor.encode() if isinstance(descriptor, str) else descriptor
    header = struct.pack(
        "<4sIIQQQQIQQ",
        b"KDMV", version, 3, sectors, 128, at_sector, descriptor_sectors, 512, 0, directory,
    )  # fmt: skip
    body = patched(bytes(64 * KIB), (0, header))
    body = patched(body, (at_sector * 512 or 512, text.ljust(descriptor_sectors * 512, b"\0")))
    return body + trailer


AT_END = 2**64 - 1


def footer(
    *,
    kind: int = 3,
    size: int = 0,
    pad: bytes = b"",
    signature: bytes = b"KDMV",
    version: int = 1,
    descriptor_sectors: int = 4,
    at_sector: int = 1,
    directory: int = 40,
    end: bytes = b"",
) -> bytes:
    marker = struct.pack("<QII", 1, size, kind) + pad
    header = struct.pack(
        "<4sIIQQQQIQQ",
        signature, version, 3, 6144, 128, at_sector, descriptor_sectors, 512, 0, directory,
    )  # fmt: skip
    return marker.ljust(512, b"\0") + header.ljust(512, b"\0") + end.ljust(512, b"\0")


def guid(text: str) -> bytes:
    first, second, third, fourth, fifth = text.split("-")
    return struct.pack("<IHH", int(first, 16), int(second, 16), int(third, 16)) + bytes.fromhex(
        fourth + fifth
    )


REGION = guid("8B7CA206-4790-4B9A-B8FE-575F050F886E")
SIZE_ITEM = guid("2FA54224-CD1B-4876-B211-5DBED83BF4B8")


def vhdx(
    *,
    size: int = 9 * MIB,
    region_signature: int = 0x69676572,
    region_count: int = 1,
    region: bytes = REGION,
    metadata_at: int = 2 * MIB,
    metadata_signature: bytes = b"metadata",
    item_count: int = 1,
    item: bytes = SIZE_ITEM,
    item_at: int = 64 * KIB,
    item_bytes: int = 8,
) -> bytes:
    table = struct.pack("<IIII", region_signature, 0, region_count, 0)
    table += region + struct.pack("<QII", metadata_at, MIB, 1)
    metadata = struct.pack("<8sHH", metadata_signature, 0, item_count).ljust(32, b"\0")
    metadata += item + struct.pack("<IIII", item_at, item_bytes, 0, 0)
    return patched(
        bytes(metadata_at + item_at + 4 * KIB),
        (0, b"vhdxfile"),
        (192 * KIB, table),
        (metadata_at, metadata),
        (metadata_at + item_at, struct.pack("<Q", size)),
    )


# --- images by QEMU -------------------------------------------------------------------------------

MakeDisk = Callable[..., tuple[bytes, int]]


@pytest.fixture(scope="session")
def disk(tmp_path_factory: pytest.TempPathFactory) -> MakeDisk:
    """Makes a disk with qemu-img: its bytes, and its size as qemu-img tells it."""
    folder = tmp_path_factory.mktemp("disks")
    serial = itertools.count()
    raw = folder / "raw"
    raw.write_bytes(bytes(MIB) + b"data" * (256 * KIB) + bytes(MIB))

    def run(*command: object) -> str:
        # On a busy machine qemu-img cannot measure how fast it derives LUKS keys, and gives up.
        for _ in range(20):
            done = subprocess.run(["qemu-img", *map(str, command)], capture_output=True, text=True)
            if "Unable to get accurate CPU usage" not in done.stderr:
                break
        assert done.returncode == 0, done.stderr
        return done.stdout

    def make(kind: str, *options: str, create: bool = False) -> tuple[bytes, int]:
        path = folder / f"disk{next(serial)}"
        if create:
            run("create", "-f", kind, *options, path, DISK_BYTES)
        else:
            run("convert", "-O", kind, *options, raw, path)
        facts = json.loads(run("info", "--output=json", path))
        return path.read_bytes(), facts["virtual-size"]

    return make


QEMU_DISKS = [
    pytest.param("qcow2", "qcow2", [], id="qcow2"),
    pytest.param("qcow2", "qcow2", ["-o", "compat=0.10"], id="qcow2-version-2"),
    pytest.param("qcow2", "qcow2", ["-c"], id="qcow2-compressed"),
    pytest.param("qcow2", "qcow2", ["-o", "lazy_refcounts=on"], id="qcow2-lazy-refcounts"),
    pytest.param("vmdk", "vmdk", [], id="vmdk-sparse"),
    pytest.param("vmdk", "vmdk", ["-o", "subformat=streamOptimized"], id="vmdk-stream"),
    pytest.param("vpc", "vhd", [], id="vhd-dynamic"),
    pytest.param("vhdx", "vhdx", [], id="vhdx"),
    pytest.param("vhdx", "vhdx", ["-o", "subformat=fixed"], id="vhdx-fixed"),
    pytest.param("vdi", "vdi", [], id="vdi"),
    pytest.param("vdi", "vdi", ["-o", "static=on"], id="vdi-static"),
    pytest.param("raw", "raw", [], id="raw"),
]


@pytest.mark.parametrize(("kind", "name", "options"), QEMU_DISKS)
@pytest.mark.parametrize("chunk_bytes", [512, 65536, 400 * KIB, 16 * MIB])
def test_a_disk_of_qemu_is_accepted_with_its_virtual_size(
    disk: MakeDisk, kind: str, name: str, options: list[str], chunk_bytes: int
) -> None:
    data, size = disk(kind, *options)
    assert judge(data, name, chunks=pieces(data, chunk_bytes)) == (ACCEPTED, size)


@pytest.mark.parametrize(("kind", "name", "options"), QEMU_DISKS)
def test_a_disk_of_qemu_declared_raw_counts_its_bytes(
    disk: MakeDisk, kind: str, name: str, options: list[str]
) -> None:
    data, _ = disk(kind, *options)
    assert judge(data, "raw") == (ACCEPTED, len(data))


@pytest.mark.parametrize(("kind", "name", "options"), QEMU_DISKS)
def test_a_disk_of_qemu_declared_as_another_format_is_refused(
    disk: MakeDisk, kind: str, name: str, options: list[str]
) -> None:
    data, _ = disk(kind, *options)
    for other in ("qcow2", "vmdk", "vhd", "vhdx", "vdi", "iso", "ploop", "ami"):
        if other != name and not (name == "raw" and other in ("ploop", "ami")):
            assert judge(data, other) == (MISMATCH, name)


def test_a_qcow2_with_a_backing_file_is_unsafe(disk: MakeDisk, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.write_bytes(bytes(MIB))
    data, _ = disk("qcow2", "-b", str(base), "-F", "raw", create=True)
    for declared in ("qcow2", "raw", "vmdk"):
        assert judge(data, declared) == (UNSAFE, "backing_file")
        assert judge(data, declared, verify=False) == (UNSAFE, "backing_file")


def test_a_qcow2_with_a_data_file_is_unsafe(disk: MakeDisk, tmp_path: Path) -> None:
    data, _ = disk("qcow2", "-o", f"data_file={tmp_path / 'data'}", create=True)
    for declared in ("qcow2", "raw"):
        assert judge(data, declared) == (UNSAFE, "data_file")


def test_a_qcow2_of_features_unknown_to_the_rules_is_unsafe(disk: MakeDisk) -> None:
    data, _ = disk("qcow2", "-o", "extended_l2=on")
    assert judge(data, "qcow2") == (UNSAFE, "unknown_features")


@pytest.mark.parametrize(
    "subformat", ["monolithicFlat", "twoGbMaxExtentFlat", "twoGbMaxExtentSparse"]
)
@pytest.mark.parametrize("chunk_bytes", [1, 3, 100, 400 * KIB])
def test_a_vmdk_descriptor_that_names_other_files_is_unsafe(
    disk: MakeDisk, subformat: str, chunk_bytes: int
) -> None:
    data, _ = disk("vmdk", "-o", f"subformat={subformat}", create=True)
    for declared in ("vmdk", "raw"):
        outcome, checks = judge(data, declared, chunks=pieces(data, chunk_bytes))
        assert (outcome, checks) == (UNSAFE, "descriptor")


IDS = "CID=12345678\nparentCID=ffffffff\n"
FLAT = 'RW 8 FLAT "{}" 0\n'
TRAPS = [
    pytest.param(f'version=1\n{IDS}createType="monolithicFlat"\n{FLAT}', id="plain"),
    pytest.param(f'version=1\n{IDS}createType: monolithicFlat"\n{FLAT}', id="other-separator"),
    pytest.param(f'# é\nversion=1\n{IDS}createType="monolithicFlat"\n{FLAT}', id="not-ascii"),
    pytest.param(
        f'version=1\n{IDS}createtype="monolithicSparse"\ncreateType="monolithicFlat"\n'
        'RW\t8\tFLAT\t"{}"\t0=\n',
        id="two-types-and-tabs",
    ),
    pytest.param(f'é{IDS}createType="monolithicFlat"\n{FLAT}', id="no-version"),
]


@pytest.mark.parametrize("text", TRAPS)
@pytest.mark.parametrize("where", ["alone", "padded", "inside", "inside-elsewhere", "inside-cut"])
def test_what_makes_qemu_read_a_file_of_the_host_is_unsafe(
    tmp_path: Path, text: str, where: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"a secret of the host".ljust(4096, b"."))
    descriptor = text.format(secret).encode()
    data = {
        "alone": descriptor,
        "padded": descriptor.ljust(8192, b"\0"),
        "inside": vmdk(descriptor, sectors=0),
        "inside-elsewhere": patched(
            vmdk(descriptor, sectors=0, at_sector=5, version=9), (512, DESCRIPTOR.encode())
        ),
        "inside-cut": vmdk(descriptor, sectors=0, descriptor_sectors=900)[:4096],
    }[where]
    trap = tmp_path / "trap"
    trap.write_bytes(data)
    out = tmp_path / "out"
    subprocess.run(
        ["qemu-img", "convert", "-f", "vmdk", "-O", "raw", str(trap), str(out)],
        check=True,
        capture_output=True,
    )
    assert out.read_bytes() == secret.read_bytes(), "this is no trap"
    for declared, verify in itertools.product(("raw", "vmdk", "qcow2"), (True, False)):
        assert judge(data, declared, verify=verify) == (UNSAFE, "descriptor")


def test_a_qed_is_unsafe(disk: MakeDisk) -> None:
    data, _ = disk("qed")
    for declared in ("qed", "raw", "qcow2"):
        assert judge(data, declared) == (UNSAFE, "banned")


def test_a_luks_disk_counts_what_it_holds(disk: MakeDisk) -> None:
    data, size = disk(
        "luks",
        "--object",
        "secret,id=s,data=secret",
        "-o",
        "key-secret=s,iter-time=100",
        create=True,
    )
    assert judge(data, "luks") == (ACCEPTED, size)
    assert judge(data, "raw") == (ACCEPTED, len(data))


def test_a_fixed_vhd_has_its_footer_at_the_end_and_looks_raw(disk: MakeDisk) -> None:
    data, _ = disk("vpc", "-o", "subformat=fixed")
    assert judge(data, "raw") == (ACCEPTED, len(data))
    assert judge(data, "vhd") == (MISMATCH, "raw")


# --- the verdict, row by row ----------------------------------------------------------------------


@pytest.mark.parametrize("declared", ["ami", "ari", "aki", "ploop", "docker-layer"])
def test_nothing_recognised_is_accepted_for_formats_that_nothing_recognises(declared: str) -> None:
    assert judge(b"\1" * 5000, declared) == (ACCEPTED, None)


@pytest.mark.parametrize(
    "declared", ["qcow2", "vhd", "vhdx", "vmdk", "vdi", "qed", "iso", "gpt", "luks"]
)
def test_nothing_recognised_is_a_mismatch_for_formats_with_a_signature(declared: str) -> None:
    assert judge(b"\1" * 50000, declared) == (MISMATCH, "raw")
    assert judge(b"\1" * 50000, declared, verify=False) == (ACCEPTED, None)


@pytest.mark.parametrize("declared", ["ami", "aki", "ploop", "vmdk", "vdi"])
def test_something_recognised_is_a_mismatch_for_every_other_format(declared: str) -> None:
    assert judge(qcow2(), declared) == (MISMATCH, "qcow2")
    assert judge(qcow2(), declared, verify=False) == (ACCEPTED, None)


def test_raw_data_declared_raw_counts_its_bytes() -> None:
    assert judge(b"\1" * 5000, "raw") == (ACCEPTED, 5000)


def test_a_disc_with_a_partition_table_is_an_iso() -> None:
    hybrid = patched(iso(), (510, b"\x55\xaa"))
    assert judge(hybrid, "iso") == (ACCEPTED, 20 * 2048)
    assert judge(hybrid, "raw") == (ACCEPTED, len(hybrid))
    assert judge(hybrid, "qcow2") == (MISMATCH, "iso")
    assert judge(hybrid, "gpt") == (MISMATCH, "iso")


@pytest.mark.parametrize("declared", ["raw", "iso", "qcow2", "ploop"])
def test_two_formats_at_once_are_a_mismatch_whatever_is_declared(declared: str) -> None:
    both = patched(iso(), (0, qcow2()[:512]))
    outcome, detected = judge(both, declared)
    assert outcome == MISMATCH
    assert set(str(detected).split("+")) == {"iso", "qcow2"}
    assert judge(both, declared, verify=False) == (ACCEPTED, None)


def test_two_formats_of_which_one_is_unsafe_are_refused_always() -> None:
    both = patched(iso(), (0, qcow2(backing=512)[:512]))
    assert judge(both, "iso", verify=False) == (UNSAFE, "backing_file")


@pytest.mark.parametrize("declared", ["raw", "qcow2", "iso", "ploop"])
def test_no_bytes_at_all_are_accepted(declared: str) -> None:
    assert judge(b"", declared) == (ACCEPTED, None)
    assert judge(b"", declared, chunks=[b"", b""]) == (ACCEPTED, None)


@pytest.mark.parametrize("container", ["ovf", "ova", "docker", "ami", "compressed", None])
def test_what_is_in_another_container_is_not_looked_at(container: str | None) -> None:
    for data in (qcow2(backing=512), b"\1" * 5000):
        assert judge(data, "qcow2", container) == (ACCEPTED, None)


def test_data_whose_format_is_not_declared_yet_is_not_looked_at() -> None:
    assert judge(qcow2(backing=512), None, None) == (ACCEPTED, None)
    assert judge(qcow2(backing=512), None) == (ACCEPTED, None)


@pytest.mark.parametrize("size", [0, 2**63, 2**64 - 1])
def test_a_virtual_size_that_cannot_be_is_left_out(size: int) -> None:
    assert judge(qcow2(size=size), "qcow2") == (ACCEPTED, None)
    assert judge(vdi(size=size), "vdi") == (ACCEPTED, None)


# --- the inspectors, row by row -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "needed"),
    [
        ("qcow2", qcow2(), 512),
        ("qed", qed(), 512),
        ("vhd", vhd(), 512),
        ("vdi", vdi(), 512),
        ("gpt", mbr(partition()), 512),
        ("luks", luks(), 592),
        ("iso", iso(), 34 * KIB),
        ("vhdx", vhdx(), 2 * MIB + 64 * KIB + 8),
    ],
)
def test_a_file_that_ends_too_early_does_not_match(name: str, data: bytes, needed: int) -> None:
    assert judge(data[: needed - 1], name) == (MISMATCH, "raw")
    assert judge(data[: needed - 1], "raw") == (ACCEPTED, needed - 1)
    outcome, detail = judge(data[:needed], name)
    assert outcome == (UNSAFE if name == "qed" else ACCEPTED), detail


@pytest.mark.parametrize("version", [2, 3])
def test_qcow2_of_a_known_version_is_accepted(version: int) -> None:
    assert judge(qcow2(version), "qcow2") == (ACCEPTED, 5 * MIB)


@pytest.mark.parametrize("version", [0, 1, 4, 2**32 - 1])
def test_qcow2_of_an_unknown_version_is_unsafe(version: int) -> None:
    assert judge(qcow2(version), "qcow2") == (UNSAFE, "unknown_features")


@pytest.mark.parametrize("backing", [1, 512, 2**63])
def test_qcow2_with_a_backing_offset_is_unsafe(backing: int) -> None:
    assert judge(qcow2(backing=backing), "qcow2") == (UNSAFE, "backing_file")


@pytest.mark.parametrize("bit", range(64))
@pytest.mark.parametrize("version", [2, 3])
def test_qcow2_feature_bits_are_known_or_unsafe(version: int, bit: int) -> None:
    outcome, checks = judge(qcow2(version, features=1 << bit), "qcow2")
    if bit == 2:
        # Looked at in version 2 too, although that has no such field.
        assert (outcome, checks) == (UNSAFE, "data_file")
    elif bit >= 4 and version == 3:
        assert (outcome, checks) == (UNSAFE, "unknown_features")
    else:
        assert outcome == ACCEPTED


def test_vhd_and_vdi_tell_their_size() -> None:
    assert judge(vhd(), "vhd") == (ACCEPTED, 7 * MIB)
    assert judge(vdi(), "vdi") == (ACCEPTED, 6 * MIB)


@pytest.mark.parametrize("signature", [b"CD001", b"NSR02", b"NSR03"])
def test_discs_of_each_kind_are_isos(signature: bytes) -> None:
    assert judge(iso(signature), "iso") == (ACCEPTED, 20 * 2048)


def test_a_disc_without_a_primary_descriptor_has_no_virtual_size() -> None:
    assert judge(iso(kind=2), "iso") == (ACCEPTED, None)


def test_a_disc_of_other_blocks_counts_those() -> None:
    assert judge(iso(block_bytes=512), "iso") == (ACCEPTED, 20 * 512)


def test_luks_counts_what_lies_behind_its_header() -> None:
    assert judge(luks(), "luks") == (ACCEPTED, 6 * KIB)
    assert judge(luks(payload_sectors=16), "luks") == (ACCEPTED, None)
    assert judge(luks(payload_sectors=2**32 - 1), "luks") == (ACCEPTED, None)


@pytest.mark.parametrize("version", [0, 2, 3])
def test_luks_of_another_version_is_unsafe(version: int) -> None:
    assert judge(luks(version), "raw") == (UNSAFE, "version")


@pytest.mark.parametrize(
    "data",
    [
        mbr(partition()),
        mbr(partition(boot=0x80)),
        mbr(partition(), partition(0x82), partition(7), partition(0xC)),
        mbr(bytes(16), partition()),
        mbr(PROTECTIVE),
    ],
)
def test_a_partitioned_disk_is_a_gpt(data: bytes) -> None:
    assert judge(data, "gpt") == (ACCEPTED, len(data))
    assert judge(data, "raw") == (ACCEPTED, len(data))


BAD_TABLES = [
    pytest.param(mbr(partition(boot=0x01)), id="boot-flag"),
    pytest.param(mbr(), id="no-partition"),
    pytest.param(mbr(PROTECTIVE, partition()), id="protective-and-another"),
    pytest.param(mbr(bytes(16), PROTECTIVE), id="protective-second"),
    pytest.param(mbr(partition(0xEE, start_chs=b"\0\1\0")), id="protective-start-chs"),
    pytest.param(mbr(partition(0xEE, start_lba=2)), id="protective-start-lba"),
]


@pytest.mark.parametrize("data", BAD_TABLES)
def test_a_broken_partition_table_is_unsafe_unless_it_may_be(data: bytes) -> None:
    assert judge(data, "raw") == (UNSAFE, "mbr")
    assert judge(data, "gpt") == (UNSAFE, "mbr")
    assert judge(data, "raw", gpt_checks_nonfatal=["mbr"]) == (ACCEPTED, len(data))
    assert judge(data, "raw", gpt_checks_nonfatal=["other"]) == (UNSAFE, "mbr")


@pytest.mark.parametrize("declared", ["aki", "ari"])
def test_kernels_and_ramdisks_may_carry_a_broken_partition_table(declared: str) -> None:
    assert judge(mbr(), declared) == (MISMATCH, "gpt")
    assert judge(mbr(), declared, verify=False) == (ACCEPTED, None)
    assert judge(mbr(), "ami", verify=False) == (UNSAFE, "mbr")


def test_a_fat_file_system_is_not_a_partition_table() -> None:
    boot_sector = patched(mbr(), (0x10, b"\2"), (0x15, b"\xf8"))
    assert judge(boot_sector, "raw") == (ACCEPTED, len(boot_sector))
    assert judge(boot_sector, "gpt") == (MISMATCH, "raw")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(vhdx(region_signature=1), id="region-signature"),
        pytest.param(vhdx(region_count=2048), id="too-many-regions"),
        pytest.param(vhdx(region_count=0), id="no-region"),
        pytest.param(vhdx(region=bytes(16)), id="no-metadata-region"),
        pytest.param(vhdx(metadata_signature=b"METADATA"), id="metadata-signature"),
        pytest.param(vhdx(item_count=2048), id="too-many-items"),
        pytest.param(vhdx(item_count=0), id="no-item"),
        pytest.param(vhdx(item=bytes(16)), id="no-size-item"),
        pytest.param(vhdx(item_bytes=4), id="short-size-item"),
        pytest.param(vhdx(item_bytes=16), id="long-size-item"),
        pytest.param(patched(vhdx(), (192 * KIB + 32, bytes(8))), id="metadata-behind-us"),
    ],
)
def test_a_broken_vhdx_is_none(data: bytes) -> None:
    assert judge(data, "vhdx") == (MISMATCH, "raw")
    assert judge(data, "raw") == (ACCEPTED, len(data))


@pytest.mark.parametrize("metadata_at", [256 * KIB, 300_000, MIB, 2 * MIB, 5 * MIB + 3])
@pytest.mark.parametrize("item_at", [4 * KIB, 64 * KIB, 200_001])
def test_a_vhdx_tells_its_size_wherever_it_keeps_it(metadata_at: int, item_at: int) -> None:
    data = vhdx(metadata_at=metadata_at, item_at=item_at)
    assert judge(data, "vhdx") == (ACCEPTED, 9 * MIB)


@pytest.mark.parametrize("kind", ["monolithicSparse", "streamOptimized", "MONOLITHICSPARSE"])
@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_vmdk_of_one_file_is_accepted(kind: str, version: int) -> None:
    data = vmdk(DESCRIPTOR.replace("monolithicSparse", kind), version=version)
    assert judge(data, "vmdk") == (ACCEPTED, 3 * MIB)
    assert judge(data, "raw") == (ACCEPTED, len(data))


EXTENT = 'RW 6144 SPARSE "disk.vmdk"'
BAD_VMDKS = [
    pytest.param(vmdk(DESCRIPTOR.replace("monolithicSparse", "monolithicFlat")), id="flat"),
    pytest.param(vmdk(DESCRIPTOR.replace("monolithicSparse", "vmfs")), id="vmfs"),
    pytest.param(vmdk(DESCRIPTOR.replace("monolithicSparse", "x" * 100)), id="long-type"),
    pytest.param(vmdk(DESCRIPTOR.replace("createType", "kind")), id="no-type"),
    pytest.param(vmdk(DESCRIPTOR.replace(EXTENT, "")), id="no-extent"),
    pytest.param(vmdk(DESCRIPTOR.replace("disk.vmdk", "/etc/passwd")), id="host-file"),
    pytest.param(vmdk(DESCRIPTOR.replace("disk.vmdk", "../x")), id="other-folder"),
    pytest.param(vmdk(DESCRIPTOR + 'RDONLY 1 FLAT "/etc/shadow" 0\n'), id="second-extent"),
    pytest.param(vmdk(DESCRIPTOR + 'NOACCESS 1 FLAT "/etc/shadow" 0\n'), id="noaccess-extent"),
    pytest.param(vmdk(DESCRIPTOR + "what is this\n"), id="unknown-line"),
    pytest.param(vmdk(DESCRIPTOR + "two words=1\n"), id="key-of-two-words"),
    pytest.param(vmdk(DESCRIPTOR.replace("12345678", "é")), id="not-ascii"),
    pytest.param(vmdk(at_sector=2), id="descriptor-elsewhere"),
    pytest.param(vmdk(at_sector=0), id="descriptor-nowhere"),
    pytest.param(vmdk(version=0), id="version-0"),
    pytest.param(vmdk(version=4), id="version-4"),
    pytest.param(vmdk(descriptor_sectors=0), id="empty-descriptor"),
    pytest.param(vmdk(b""), id="blank-descriptor"),
    pytest.param(vmdk()[:1000], id="cut-in-the-descriptor"),
    pytest.param(vmdk()[:64], id="header-alone"),
    # QEMU takes tabs for spaces.
    pytest.param(vmdk(DESCRIPTOR + 'RW\t1\tFLAT\t"/etc/passwd"\t0=\n'), id="tabs"),
    # QEMU looks for createType in this spelling alone, wherever it stands.
    pytest.param(
        vmdk('createtype="monolithicSparse"\n' + DESCRIPTOR.replace("monolithicSparse", "vmfs")),
        id="two-types",
    ),
    pytest.param(vmdk('# createType= vmfs"\n' + DESCRIPTOR), id="type-in-a-comment"),
]


@pytest.mark.parametrize("data", BAD_VMDKS)
def test_a_vmdk_that_could_reach_other_files_is_unsafe(data: bytes) -> None:
    for declared, verify in itertools.product(("vmdk", "raw", "qcow2"), (True, False)):
        assert judge(data, declared, verify=verify) == (UNSAFE, "descriptor")


def test_a_vmdk_shorter_than_its_header_is_none() -> None:
    assert judge(vmdk()[:63], "raw") == (ACCEPTED, 63)
    assert judge(vmdk()[:63], "vmdk") == (MISMATCH, "raw")


def test_a_vmdk_with_a_footer_is_accepted() -> None:
    data = vmdk(directory=AT_END, trailer=footer())
    assert judge(data, "vmdk") == (ACCEPTED, 3 * MIB)


@pytest.mark.parametrize(
    "trailer",
    [
        pytest.param(footer(kind=2), id="marker-kind"),
        pytest.param(footer(size=1), id="marker-size"),
        pytest.param(footer(pad=b"\0\0\0\1"), id="marker-pad"),
        pytest.param(footer(signature=b"COWD"), id="signature"),
        pytest.param(footer(version=2), id="version"),
        pytest.param(footer(at_sector=2), id="descriptor-offset"),
        pytest.param(footer(descriptor_sectors=5), id="descriptor-size"),
        pytest.param(footer(directory=AT_END), id="another-footer"),
        pytest.param(footer(end=b"\1"), id="end-value"),
        pytest.param(footer(end=bytes(12) + b"\3"), id="end-kind"),
        pytest.param(footer() + b"\0", id="one-byte-more"),
        pytest.param(b"", id="none"),
    ],
)
@pytest.mark.parametrize("chunk_bytes", [100, 1500, 400 * KIB])
def test_a_vmdk_with_a_bad_footer_is_unsafe(trailer: bytes, chunk_bytes: int) -> None:
    data = vmdk(directory=AT_END, trailer=trailer)
    outcome, checks = judge(data, "vmdk", chunks=pieces(data, chunk_bytes))
    assert (outcome, checks) == (UNSAFE, "footer")


TEXT = 'version=1\ncreateType="vmfs"\nRW 1 FLAT "/etc/passwd" 0\n'


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(TEXT.encode(), id="short"),
        pytest.param(("# x\n" * 300 + TEXT).encode(), id="behind-512-bytes"),
        pytest.param(("# x\n" * 15000 + TEXT).encode(), id="near-64-kib"),
        pytest.param(("# x\n" * 200_000 + TEXT).encode(), id="behind-64-kib"),
        pytest.param(TEXT.encode() + bytes(2000), id="padded-with-zeros"),
        pytest.param(("# é\n" + TEXT).encode(), id="not-ascii-in-front"),
        pytest.param(b"\xff\xfe\1\2" * 2000 + b"\n" + TEXT.encode(), id="anything-in-front"),
        pytest.param(("# x\n" * 300 + "# é\n" + TEXT).encode(), id="not-ascii-later"),
        pytest.param(TEXT.replace('="vmfs"', ': vmfs"').encode(), id="other-separator"),
        pytest.param(TEXT.replace("\n", "\r\n").encode(), id="dos-lines"),
    ],
)
@pytest.mark.parametrize("chunk_bytes", [4, 511, 400 * KIB])
def test_a_descriptor_alone_is_unsafe_if_it_names_other_files(
    text: bytes, chunk_bytes: int
) -> None:
    for declared in ("raw", "vmdk"):
        assert judge(text, declared, chunks=pieces(text, chunk_bytes)) == (UNSAFE, "descriptor")


def test_a_descriptor_alone_that_is_harmless_is_a_vmdk_of_unknown_size() -> None:
    data = DESCRIPTOR.encode()
    assert judge(data, "vmdk") == (ACCEPTED, None)
    assert judge(data, "raw") == (ACCEPTED, len(data))


@pytest.mark.parametrize(
    "text", [b"Hello, world.\n" * 1000, b"#!/bin/sh\nexit 0\n", b"version=1\n"]
)
def test_text_that_is_no_descriptor_is_raw(text: bytes) -> None:
    assert judge(text, "raw") == (ACCEPTED, len(text))
    assert judge(text, "vmdk") == (MISMATCH, "raw")


# --- the stream -----------------------------------------------------------------------------------

SAMPLES = {
    "qcow2": qcow2(),
    "unsafe qcow2": qcow2(backing=9),
    "vmdk": vmdk(),
    "vmdk with a footer": vmdk(directory=AT_END, trailer=footer()),
    "vmdk with a bad footer": vmdk(directory=AT_END, trailer=footer(kind=9)),
    "descriptor": ("# x\n" * 3000 + TEXT).encode(),
    "vhdx": vhdx(metadata_at=300_000, item_at=70_000),
    "vdi": vdi(),
    "iso": iso(),
    "iso and gpt": patched(iso(), (510, b"\x55\xaa")),
    "luks": luks(),
    "gpt": mbr(PROTECTIVE),
    "bad gpt": mbr(),
    "raw": b"\7" * 70_001,
}


@given(
    name=st.sampled_from(sorted(SAMPLES)),
    declared=st.sampled_from(["raw", "vmdk", "vhdx", "qcow2", "iso"]),
    sizes=st.lists(st.integers(1, 200_000) | st.integers(1, 700), min_size=1, max_size=30),
)
@settings(max_examples=150)
def test_the_verdict_does_not_depend_on_how_the_stream_is_cut(
    name: str, declared: str, sizes: list[int]
) -> None:
    data = SAMPLES[name]

    def cut() -> Iterable[bytes]:
        at = 0
        for size in sizes:
            yield data[at : at + size]
            at += size
        yield from pieces(data[at:], sizes[-1] + 20_000)

    assert judge(data, declared, chunks=cut()) == judge(data, declared, chunks=[data])


def test_once_it_is_satisfied_nothing_is_done_with_a_chunk() -> None:
    inspection = Inspection("raw", "bare")
    assert not inspection.is_satisfied
    inspection.take(bytes(33 * KIB))
    assert not inspection.is_satisfied
    inspection.take(bytes(KIB))
    assert inspection.is_satisfied


def test_a_descriptor_behind_the_first_mebibyte_is_seen_by_nobody() -> None:
    text = b"# x\n" * (MIB // 4) + TEXT.encode()
    assert judge(text, "raw") == (ACCEPTED, len(text))


def test_a_descriptor_of_a_million_small_chunks_is_not_copied_again_and_again() -> None:
    data = vmdk(DESCRIPTOR + "# x\n" * 200_000, descriptor_sectors=2047)
    begin = time.process_time()
    assert judge(data, "vmdk", chunks=pieces(data, 16)) == (ACCEPTED, 3 * MIB)
    assert time.process_time() - begin < 2


def test_an_inspection_of_endless_text_holds_little() -> None:
    chunk = b"# just a comment\n" * 25_000
    inspection = Inspection("raw", "bare")
    inspection.take(chunk)
    tracemalloc.start()
    for _ in range(30):
        inspection.take(chunk)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < MIB // 4
    assert inspection.verdict() == 31 * len(chunk)


def test_oslo_utils_is_imported_only_when_there_is_something_to_look_at() -> None:
    code = (
        "import sys; from transom.formats import Inspection; i = Inspection('raw', 'bare');"
        "print('oslo_utils' in sys.modules); i.take(b'x'); print('oslo_utils' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["False", "True"]
