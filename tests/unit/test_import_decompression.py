"""Archives on their way into the stores (lifecycle §9): real ones, damaged ones, and bombs."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import io
import lzma
import os
import random
import struct
import subprocess
import time
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable
from functools import cache
from pathlib import Path

import pytest
from backports import zstd

from tests.support import archives
from tests.support.archives import GIB, MIB, zipped
from tests.support.workbench import Bench
from transom.errors import ArchiveTooLarge, BadArchive, ImageTooLarge, StoreFull
from transom.imports.plugin import Material
from transom.imports.plugins import open_plugins

SEED = random.Random(5)
DATA = SEED.randbytes(MIB // 4) + bytes(2 * MIB) + b"end of the disk" * 1000
SUMMED = {zstd.CompressionParameter.checksum_flag: True}

PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": cache(gzip.compress),
    "bzip2": cache(bz2.compress),
    "xz": cache(lambda data: lzma.compress(data, preset=1)),
    "zstd": cache(lambda data: zstd.compress(data, options=SUMMED)),
    "zip": cache(zipped),
}
JOINED = [name for name in PACK if name != "zip"]


@pytest.fixture(params=["file", "memory"])
async def bench(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    made = Bench(tmp_path, driver=request.param, IMPORTS__PLUGINS="image_decompression")
    yield made
    await made.close()


def output_of(command: list[str], data: bytes = b"") -> bytes:
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


async def unpacked(bench: Bench, data: bytes, container_format: str = "bare") -> Material:
    [plugin] = open_plugins(bench.settings)
    material = await bench.stage(data, container_format=container_format)
    return await plugin.run(bench, material)


async def refused(bench: Bench, data: bytes) -> str:
    """The reason why an archive is not unpacked; nothing but the archive may be left behind."""
    [plugin] = open_plugins(bench.settings)
    material = await bench.stage(data)
    there = await bench.keys()
    with pytest.raises(BadArchive) as caught:
        await plugin.run(bench, material)
    assert await bench.keys() == there
    assert await bench.partial() == []
    return caught.value.reason


# --- what is unpacked -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PACK)
async def test_an_archive_is_unpacked(bench: Bench, kind: str) -> None:
    material = await unpacked(bench, PACK[kind](DATA))
    assert await bench.content(material) == DATA
    assert material.size_bytes == len(DATA)
    assert material.disk_format == "raw"
    phases = {phase for phase, _, _ in bench.reports}
    assert phases == {"unpacking"}
    assert bench.reports == sorted(bench.reports)
    assert all(total is not None and done <= total for _, done, total in bench.reports)


@pytest.mark.parametrize("kind", PACK)
async def test_a_compressed_container_stays_as_it_is(bench: Bench, kind: str) -> None:
    packed = PACK[kind](DATA)
    material = await unpacked(bench, packed, "compressed")
    assert await bench.content(material) == packed
    assert len(await bench.keys()) == 1


@pytest.mark.parametrize(
    "data",
    [b"", b"\x1f", b"PK", b"BZh9 is no archive", b"QFI\xfb" + bytes(600), bytes(MIB), b"Z" * 70000],
    ids=["empty", "one-byte", "two-bytes", "text", "qcow2", "zeros", "letters"],
)
async def test_what_is_no_archive_stays_as_it_is(bench: Bench, data: bytes) -> None:
    material = await unpacked(bench, data)
    assert await bench.content(material) == data
    assert bench.hints == []


@pytest.mark.parametrize("kind", JOINED)
async def test_members_that_follow_each_other_are_joined(bench: Bench, kind: str) -> None:
    pack = PACK[kind]
    material = await unpacked(bench, pack(DATA) + pack(b"") + pack(b"more"))
    assert await bench.content(material) == DATA + b"more"


async def test_ten_thousand_tiny_members_take_no_more_than_seconds(tmp_path: Path) -> None:
    bench = Bench(tmp_path, IMPORTS__PLUGINS="image_decompression")
    began = time.monotonic()
    material = await unpacked(bench, gzip.compress(b"x") * 100_000)
    assert material.size_bytes == 100_000
    assert time.monotonic() - began < 30
    await bench.close()


async def test_padding_between_xz_streams_is_part_of_the_format(bench: Bench) -> None:
    one = lzma.compress(b"one")
    material = await unpacked(bench, one + bytes(40_000) + one + bytes(8))
    assert await bench.content(material) == b"oneone"


async def test_padding_of_xz_that_is_not_in_groups_of_four_is_refused(bench: Bench) -> None:
    one = lzma.compress(b"one")
    assert "behind its end" in await refused(bench, one + bytes(5))
    assert "behind its end" in await refused(bench, one + bytes(6) + one)


async def test_frames_of_zstd_that_are_to_be_skipped_are(bench: Bench) -> None:
    skipped = b"\x50\x2a\x4d\x18" + struct.pack("<I", 4) + b"note"
    frame = zstd.compress(DATA)
    material = await unpacked(bench, skipped + frame + skipped + frame + skipped)
    assert await bench.content(material) == DATA * 2


@pytest.mark.parametrize("kind", JOINED)
async def test_one_layer_is_taken_off(bench: Bench, kind: str) -> None:
    inner = gzip.compress(DATA)
    material = await unpacked(bench, PACK[kind](inner))
    assert await bench.content(material) == inner


@pytest.mark.parametrize(
    "command",
    [
        ["gzip", "-c"],
        ["bzip2", "-c"],
        ["xz", "-c", "-T2", "--block-size=1MiB"],
        ["xz", "-c", "--check=sha256"],
        ["xz", "-c", "--check=none", "--x86", "--lzma2=dict=1MiB"],
        ["zstd", "-c", "-19", "--long=24"],
        ["zstd", "-c", "--no-check"],
        ["zip", "-q", "-"],
        ["zip", "-q", "-0", "-"],
        ["zip", "-q", "-Z", "bzip2", "-"],
    ],
    ids=" ".join,
)
async def test_what_the_usual_tools_make_is_unpacked(
    bench: Bench, tmp_path: Path, command: list[str]
) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(DATA)
    packed = output_of([*command, str(disk)])
    material = await unpacked(bench, packed)
    assert await bench.content(material) == DATA


async def test_the_tools_streams_are_unpacked(bench: Bench) -> None:
    for command in (["zip", "-q", "-", "-"], ["xz"], ["zstd"]):
        packed = output_of(command, DATA)
        assert await bench.content(await unpacked(bench, packed)) == DATA


# --- what is damaged ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize("part", ["a-byte", "a-sum", "half", "nearly-all"])
async def test_a_truncated_archive_is_refused(bench: Bench, kind: str, part: str) -> None:
    packed = PACK[kind](DATA)
    left = {"a-byte": -1, "a-sum": -9, "half": len(packed) // 2, "nearly-all": 40}[part]
    assert "too early" in await refused(bench, packed[:left])


@pytest.mark.parametrize("kind", PACK)
async def test_a_changed_byte_is_found(bench: Bench, kind: str) -> None:
    packed = bytearray(PACK[kind](DATA))
    packed[len(packed) // 2] ^= 0x10
    assert "damaged" in await refused(bench, bytes(packed))


@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize("garbage", [b"\0", b"hello, world", bytes(5000)], ids=["0", "text", "0s"])
async def test_what_follows_the_end_is_refused(bench: Bench, kind: str, garbage: bytes) -> None:
    if kind == "xz" and not len(garbage) % 4:
        garbage += b"\0"
    reason = await refused(bench, PACK[kind](DATA) + garbage)
    assert "behind its end" in reason or "too early" in reason


@pytest.mark.parametrize("kind", PACK)
async def test_a_member_cut_off_behind_a_whole_one_is_refused(bench: Bench, kind: str) -> None:
    packed = PACK[kind](DATA)
    await refused(bench, packed + packed[: len(packed) // 2])


async def test_a_wrong_length_in_gzip_is_found(bench: Bench) -> None:
    packed = bytearray(gzip.compress(DATA))
    packed[-4:] = struct.pack("<I", len(DATA) - 1)
    assert "damaged" in await refused(bench, bytes(packed))


async def test_lha_is_named_and_refused(bench: Bench) -> None:
    assert "not supported" in await refused(bench, b"\x20\x50-lh5-" + bytes(200))


# --- zip ------------------------------------------------------------------------------------------


class Pipe(io.RawIOBase):
    """A file that cannot go back, as a pipe cannot."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.data += data
        return len(data)


@pytest.mark.parametrize("is_pipe", [False, True], ids=["file", "pipe"])
@pytest.mark.parametrize("is_wide", [False, True], ids=["zip", "zip64"])
@pytest.mark.parametrize(
    "method",
    [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2],
    ids=["stored", "deflated", "bzip2"],
)
async def test_a_zip_with_one_member_is_unpacked(
    bench: Bench, method: int, is_wide: bool, is_pipe: bool
) -> None:
    target = Pipe() if is_pipe else io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:  # type: ignore[call-overload]
        archive.comment = b"a comment"
        with archive.open("disk.raw", "w", force_zip64=is_wide) as member:
            member.write(DATA)
    packed = bytes(target.data) if isinstance(target, Pipe) else target.getvalue()
    material = await unpacked(bench, packed)
    assert await bench.content(material) == DATA
    assert bench.hints == [len(DATA)]


@pytest.mark.parametrize(
    ("method", "packed"),
    [(93, zstd.compress(DATA)), (95, lzma.compress(DATA)), (0, DATA)],
    ids=["zstd", "xz", "stored"],
)
async def test_newer_methods_of_zip_are_unpacked(bench: Bench, method: int, packed: bytes) -> None:
    material = await unpacked(bench, zipped(DATA, method=method, packed=packed))
    assert await bench.content(material) == DATA


def wide_zip(data: bytes, *, members: int = 1, begin: int | None = None, disks: int = 1) -> bytes:
    """A zip whose end is told in the Zip64 record alone."""
    plain = zipped(data)
    directory_at, length = plain.rindex(b"PK\1\2"), len(plain) - 22 - plain.rindex(b"PK\1\2")
    record = struct.pack(
        "<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, members, members, length,
        directory_at if begin is None else begin,
    )  # fmt: skip
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, len(plain) - 22, disks)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, *(0xFFFF,) * 2, *(0xFFFFFFFF,) * 2, 0)
    return plain[:-22] + record + locator + end


async def test_a_zip64_end_is_followed_and_checked(bench: Bench) -> None:
    assert await bench.content(await unpacked(bench, wide_zip(DATA))) == DATA
    assert "2 members" in await refused(bench, wide_zip(DATA, members=2))
    assert "more than its directory" in await refused(bench, wide_zip(DATA, begin=3))
    assert "damaged" in await refused(bench, wide_zip(DATA, disks=2))
    one = wide_zip(DATA)
    assert "contradict" in await refused(bench, one[:-14] + struct.pack("<H", 3) + one[-12:])


async def test_a_zip_with_two_members_is_refused(bench: Bench, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a", b"a")
        archive.writestr("b", b"b")
    assert "2 members" in await refused(bench, (tmp_path / "two.zip").read_bytes())


async def test_an_encrypted_zip_is_refused(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(DATA)
    packed = output_of(["zip", "-q", "-P", "secret", "-", str(tmp_path / "disk.raw")])
    assert "encrypted" in await refused(bench, packed)


@pytest.mark.parametrize(
    ("packed", "reason"),
    [
        (zipped(b"", name=b"folder/"), "empty or a folder"),
        (zipped(b""), "empty or a folder"),
        (zipped(DATA, members=0), "0 members"),
        (zipped(DATA, copies=2), "more than one member"),
        (zipped(DATA, disk=1), "several parts"),
        (zipped(DATA, flags=0x40), "encrypted"),
        (zipped(DATA, flags=0x2000), "encrypted"),
        (zipped(DATA, method=14), "method 14"),
        (zipped(DATA, method=9), "method 9"),
        (zipped(DATA, local_name=b"other.raw"), "contradict"),
        (zipped(DATA, local_size=7), "contradict"),
        (zipped(DATA, between=b"hidden"), "more than its directory"),
        (zipped(DATA, flags=8), "more than its directory"),
        (zipped(DATA, flags=8, between=bytes(16)), "contradicts its directory"),
        (zipped(DATA, before=b"PK\3\4" + bytes(60)), "other data before"),
        (zipped(DATA, crc=1), "damaged"),
        (zipped(DATA, size=len(DATA) + 1), "less than it says"),
        (zipped(DATA, size=len(DATA) - 1), "more than it says"),
        (zipped(DATA, packed=archives.deflated(DATA) + b"more"), "behind its end"),
        (zipped(DATA, packed=archives.deflated(DATA)[:-50]), "too early"),
        (zipped(DATA, packed=DATA[:-1], method=0), "lengths contradict"),
        (zipped(DATA)[:-22] + zipped(DATA)[-20:], "too early"),
        (zipped(DATA, size=0xFFFFFFFF), "not told"),
    ],
    ids=[
        "folder", "empty", "none", "two-in-directory", "disk-1", "strong", "masked", "lzma",
        "deflate64", "name", "length", "between", "no-descriptor", "wrong-descriptor", "before",
        "sum", "longer", "shorter", "trailing", "cut", "stored", "end", "zip64",
    ],
)  # fmt: skip
async def test_a_zip_that_contradicts_itself_is_refused(
    bench: Bench, packed: bytes, reason: str
) -> None:
    assert reason in await refused(bench, packed)


async def test_a_comment_that_looks_like_an_end_hides_nothing(bench: Bench) -> None:
    fake = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, 46, 0, 0)
    await refused(bench, zipped(DATA, comment=b"x" * 30 + fake))
    material = await unpacked(bench, zipped(DATA, comment=fake[:20] + b"no end"))
    assert await bench.content(material) == DATA


@pytest.mark.parametrize("name", [b"../../../../tmp/evil", b"/etc/evil", b"a\0b", b"\xff\xfe", b""])
async def test_a_name_inside_the_archive_means_nothing(
    bench: Bench, tmp_path: Path, name: bytes
) -> None:
    material = await unpacked(bench, zipped(DATA, name=name))
    assert await bench.content(material) == DATA
    assert material.key.startswith(bench.image.id)
    assert not [path for path, _, names in os.walk(tmp_path) if "evil" in f"{path}{names}"]


# --- bombs ----------------------------------------------------------------------------------------


def memory_bytes(field: str) -> int:
    """VmRSS is what the process holds now, and begins to count VmHWM, the most it held, anew."""
    if field == "VmRSS":
        Path("/proc/self/clear_refs").write_text("5")
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


BOMBS: dict[str, Callable[[], bytes]] = {
    "gzip": lambda: archives.gzip_bomb(10 * GIB, 10 * GIB),
    "gzip-that-lies": lambda: archives.gzip_bomb(10 * GIB, 1000),
    "gzip-in-members": lambda: gzip.compress(bytes(64 * MIB)) * 160,
    "zip": lambda: zipped(
        b"", packed=archives.deflate_bomb(10 * GIB), size=3 * GIB, crc=zlib.crc32(b"")
    ),
    "zip-that-lies": lambda: zipped(b"", packed=archives.deflate_bomb(10 * GIB), size=1000),
    "bzip2": lambda: archives.bzip2_bomb(10 * GIB),
    "xz": lambda: archives.xz_bomb(10 * GIB),
    "zstd": lambda: archives.zstd_bomb(10 * GIB),
}


@pytest.mark.parametrize("name", BOMBS)
async def test_a_bomb_of_ten_gibibytes_fails_fast_in_flat_memory(tmp_path: Path, name: str) -> None:
    bench = Bench(
        tmp_path,
        IMPORTS__PLUGINS="image_decompression",
        IMPORTS__DECOMPRESSION_RATIO_MAX="20",
        STORES__MAIN__FSYNC="false",
    )
    [plugin] = open_plugins(bench.settings)
    packed = BOMBS[name]()
    assert len(packed) < 12 * MIB
    material = await bench.stage(packed)
    del packed
    before = memory_bytes("VmRSS")
    began = time.monotonic()
    with pytest.raises(BadArchive if name == "zip-that-lies" else ArchiveTooLarge):
        await plugin.run(bench, material)
    assert time.monotonic() - began < 30
    assert memory_bytes("VmHWM") - before < 48 * MIB
    assert await bench.keys() == [material.key]
    assert await bench.partial() == []
    await bench.close()


async def test_a_ratio_is_told_before_a_byte_is_written_where_the_archive_tells(
    tmp_path: Path,
) -> None:
    bench = Bench(
        tmp_path, IMPORTS__PLUGINS="image_decompression", IMPORTS__DECOMPRESSION_RATIO_MAX="20"
    )
    for bomb in (
        archives.gzip_bomb(80 * MIB, 80 * MIB),
        lzma.compress(bytes(80 * MIB), preset=0),
        zstd.compress(bytes(80 * MIB)),
        BOMBS["zip"](),
    ):
        with pytest.raises(ArchiveTooLarge):
            await unpacked(bench, bomb)
    assert bench.hints == []
    await bench.close()


async def test_small_archives_may_have_any_ratio(bench: Bench) -> None:
    material = await unpacked(bench, bz2.compress(bytes(64 * MIB)))
    assert material.size_bytes == 64 * MIB


async def test_no_ratio_means_any(tmp_path: Path) -> None:
    bench = Bench(
        tmp_path,
        IMPORTS__PLUGINS="image_decompression",
        IMPORTS__DECOMPRESSION_RATIO_MAX="0",
        STORES__MAIN__FSYNC="false",
    )
    material = await unpacked(bench, bz2.compress(bytes(65 * MIB)))
    assert material.size_bytes == 65 * MIB
    await bench.close()


@pytest.mark.parametrize("kind", PACK)
async def test_no_more_comes_out_than_an_image_may_have(tmp_path: Path, kind: str) -> None:
    for size_bytes_max, fits in ((len(DATA), True), (len(DATA) - 1, False)):
        folder = tmp_path / str(size_bytes_max)
        folder.mkdir()
        bench = Bench(
            folder,
            IMPORTS__PLUGINS="image_decompression",
            LIMITS__IMAGE_SIZE_BYTES_MAX=str(size_bytes_max),
        )
        if fits:
            assert (await unpacked(bench, PACK[kind](DATA))).size_bytes == len(DATA)
        else:
            with pytest.raises(ImageTooLarge):
                await unpacked(bench, PACK[kind](DATA))
        await bench.close()


async def test_a_staging_store_without_room_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    bench = Bench(
        tmp_path,
        driver="memory",
        IMPORTS__PLUGINS="image_decompression",
        STORES__WAITING__SIZE_BYTES_MAX=str(len(DATA)),
    )
    [plugin] = open_plugins(bench.settings)
    material = await bench.stage(gzip.compress(DATA))
    with pytest.raises(StoreFull):
        await plugin.run(bench, material)
    assert await bench.keys() == [material.key]
    assert await bench.partial() == []
    await bench.close()


async def test_a_window_beyond_128_mib_is_refused(bench: Bench) -> None:
    frame = b"\x28\xb5\x2f\xfd\x00" + bytes([(28 - 10) << 3]) + b"\x09\x00\x00x"
    assert "128 MiB" in await refused(bench, frame)
    fits = b"\x28\xb5\x2f\xfd\x00" + bytes([(27 - 10) << 3]) + b"\x09\x00\x00x"
    assert await bench.content(await unpacked(bench, fits)) == b"x"
    # The first block header of an xz stream: its length, flags, filter, properties, its own sum.
    stream = bytearray(lzma.compress(b"x", check=lzma.CHECK_CRC32))
    header = 12
    end = header + (stream[header] + 1) * 4
    stream[header + 4] = 30  # A dictionary of 128 MiB is 30, one of 192 MiB is 31.
    stream[end - 4 : end] = struct.pack("<I", zlib.crc32(bytes(stream[header : end - 4])))
    assert await bench.content(await unpacked(bench, bytes(stream))) == b"x"
    stream[header + 4] = 31
    stream[end - 4 : end] = struct.pack("<I", zlib.crc32(bytes(stream[header : end - 4])))
    assert "128 MiB" in await refused(bench, bytes(stream))


# --- cancellation ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zstd"])
async def test_a_cancelled_task_stops_soon_and_leaves_nothing(tmp_path: Path, kind: str) -> None:
    bench = Bench(
        tmp_path,
        IMPORTS__PLUGINS="image_decompression",
        IMPORTS__DECOMPRESSION_RATIO_MAX="0",
        STORES__MAIN__FSYNC="false",
    )
    [plugin] = open_plugins(bench.settings)
    bomb = {
        "gzip": lambda: archives.gzip_bomb(10 * GIB, 0),
        "bzip2": lambda: archives.bzip2_bomb(10 * GIB),
        "xz": lambda: archives.xz_bomb(10 * GIB),
        "zstd": lambda: archives.zstd_bomb(10 * GIB),
    }[kind]()
    material = await bench.stage(bomb)
    task = asyncio.create_task(plugin.run(bench, material))
    await asyncio.sleep(0.3)
    assert not task.done()
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 10
    assert await bench.keys() == [material.key]
    assert await bench.partial() == []
    await bench.close()
