"""Disks that are converted on their way into the stores (lifecycle §9), by the real qemu-img: each
direction, and what strangers may try."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.workbench import Bench
from tests.unit.test_formats import DESCRIPTOR, iso, luks, mbr, partition, qcow2, vmdk
from transom.errors import (
    ConfigurationError,
    ConversionFailed,
    FormatMismatch,
    FormatsMissing,
    ImageTooLarge,
    ScratchFull,
    StoresDisagree,
    TransomError,
    UnsafeImage,
)
from transom.imports.plugin import Material
from transom.imports.plugins import open_plugins, target_format
from transom.imports.plugins.image_conversion import confined, plugin, qemu
from transom.settings import load

MIB = 1024 * 1024
TARGETS = ("raw", "qcow2", "vmdk", "vhdx")
QEMU_NAMES = {"vhd": "vpc"}
SECRET = b"the secret of the host"


def qemu_img(*arguments: object) -> str:
    done = subprocess.run(["qemu-img", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def compared(one: Path, one_format: str, two: Path, two_format: str) -> str:
    formats = [QEMU_NAMES.get(each, each) for each in (one_format, two_format)]
    return qemu_img("compare", "-f", formats[0], "-F", formats[1], one, two).strip()


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk of an odd number of sectors, with data at both ends and nothing between."""
    path = tmp_path_factory.mktemp("raw") / "disk"
    noise = random.Random(7)
    with path.open("wb") as file:
        file.write(bytes(512) + noise.randbytes(MIB))
        file.seek(9 * MIB)
        file.write(noise.randbytes(MIB // 2 + 512))
    return path


@pytest.fixture(scope="session")
def disk(raw: Path) -> Callable[..., Path]:
    """Makes a disk of that content with qemu-img."""
    serial = itertools.count()

    def make(kind: str, *options: str) -> Path:
        path = raw.with_name(f"disk{next(serial)}.{kind}")
        qemu_img("convert", "-f", "raw", "-O", QEMU_NAMES.get(kind, kind), *options, raw, path)
        return path

    return make


MakeBench = Callable[..., Awaitable[Bench]]


@pytest.fixture
async def benches(tmp_path: Path) -> AsyncIterator[MakeBench]:
    made: list[Bench] = []

    async def make(target: str = "raw", driver: str = "file", **keys: str) -> Bench:
        folder = tmp_path / str(len(made))
        os.mkdir(folder)  # noqa: PTH102
        made.append(Bench(folder, driver=driver, IMPORTS__CONVERT_TO=target, **keys))
        return made[-1]

    yield make
    for bench in made:
        await bench.close()


async def converted(bench: Bench, data: Path | bytes, disk_format: str = "raw") -> Material:
    [conversion] = open_plugins(bench.settings)
    return await conversion.run(bench, await bench.stage(data, disk_format))


async def refused(
    bench: Bench, data: Path | bytes, disk_format: str, kind: type[TransomError]
) -> str:
    """The message of the error that a disk meets; nothing but the disk may be left in the store."""
    there = len(await bench.keys())
    with pytest.raises(kind) as caught:
        await converted(bench, data, disk_format)
    assert len(await bench.keys()) == there + 1
    assert await bench.partial() == []
    return str(caught.value)


async def kept(bench: Bench, material: Material) -> Path:
    path = bench.folder / f"result-{material.key}"
    path.write_bytes(await bench.content(material))
    return path


# --- what is converted ----------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["file", "memory"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("declared", [*TARGETS, "vdi", "vhd"])
async def test_a_disk_keeps_its_content_in_every_direction(
    benches: MakeBench, disk: Callable[..., Path], declared: str, target: str, driver: str
) -> None:
    bench = await benches(target, driver)
    source = disk(declared)
    material = await converted(bench, source, declared)
    assert (material.disk_format, material.container_format) == (target, "bare")
    result = await kept(bench, material)
    assert material.size_bytes == result.stat().st_size
    assert compared(source, declared, result, target) == "Images are identical."
    if declared == target:
        assert bench.hints == []
    else:
        assert bench.hints == [material.size_bytes]
        assert {"converting", "saving"} <= {phase for phase, _, _ in bench.reports}
        assert all(total is not None and done <= total for _, done, total in bench.reports)


@pytest.mark.parametrize(
    ("declared", "options"),
    [
        ("qcow2", ["-c"]),
        ("qcow2", ["-o", "compat=0.10"]),
        ("qcow2", ["-o", "extended_l2=on,cluster_size=128k"]),
        ("vmdk", ["-o", "subformat=streamOptimized"]),
        ("vhdx", ["-o", "subformat=fixed"]),
        ("vdi", ["-o", "static=on"]),
    ],
    ids=str,
)
async def test_the_variants_of_formats_are_read(
    benches: MakeBench, disk: Callable[..., Path], declared: str, options: list[str]
) -> None:
    if options[-1].startswith("extended_l2"):
        # oslo.utils knows no such feature, so the image counts as one that could hide something.
        bench = await benches("raw")
        await refused(bench, disk(declared, *options), declared, UnsafeImage)
        return
    target = "qcow2" if declared != "qcow2" else "raw"
    bench = await benches(target)
    source = disk(declared, *options)
    result = await kept(bench, await converted(bench, source, declared))
    assert compared(source, declared, result, target) == "Images are identical."


@pytest.mark.parametrize("size_bytes", [1, 511, 512, 513, MIB - 1, 5_000_001])
@pytest.mark.parametrize("target", TARGETS[1:])
async def test_a_raw_disk_of_any_length_is_filled_up_to_a_sector(
    benches: MakeBench, target: str, size_bytes: int
) -> None:
    bench = await benches(target)
    data = random.Random(size_bytes).randbytes(size_bytes)
    result = await kept(bench, await converted(bench, data))
    facts = json.loads(qemu_img("info", "--output=json", "-f", target, result))
    assert facts["virtual-size"] == -(-size_bytes // 512) * 512


async def test_a_partitioned_disk_counts_as_raw(benches: MakeBench) -> None:
    bench = await benches("qcow2")
    data = mbr(partition()) + bytes(MIB)
    material = await converted(bench, data)
    assert material.disk_format == "qcow2"


async def test_an_iso_that_says_so_stays_as_it_is(benches: MakeBench) -> None:
    bench = await benches("qcow2")
    material = await converted(bench, iso(), "iso")
    assert (material.disk_format, bench.hints, bench.scratches) == ("iso", [], [])


@pytest.mark.parametrize("container_format", ["ova", "docker", "compressed", "aki"])
async def test_what_is_in_another_container_stays_as_it_is(
    benches: MakeBench, container_format: str
) -> None:
    bench = await benches("qcow2")
    [conversion] = open_plugins(bench.settings)
    material = await bench.stage(b"any bytes", "raw", container_format)
    assert await conversion.run(bench, material) == material


async def test_a_run_from_the_beginning_gives_the_same(
    benches: MakeBench, disk: Callable[..., Path]
) -> None:
    bench = await benches("raw")
    [conversion] = open_plugins(bench.settings)
    material = await bench.stage(disk("qcow2"), "qcow2")
    first = await conversion.run(bench, material)
    second = await conversion.run(bench, material)
    assert first.key != second.key
    assert await bench.content(first) == await bench.content(second)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "declared", "detected"),
    [
        (qcow2(), "raw", "qcow2"),
        (bytes(MIB), "qcow2", "raw"),
        (iso(), "raw", "iso"),
        (bytes(MIB), "iso", "raw"),
        (vmdk(), "qcow2", "vmdk"),
        (luks(), "raw", "luks"),
        (mbr(partition()), "qcow2", "gpt"),
    ],
    ids=["qcow2-raw", "raw-qcow2", "iso-raw", "raw-iso", "vmdk-qcow2", "luks-raw", "gpt-qcow2"],
)
async def test_a_disk_that_is_not_what_it_says_is_refused(
    benches: MakeBench, data: bytes, declared: str, detected: str
) -> None:
    bench = await benches("vhdx", IMAGES__VERIFY_FORMATS="false")
    message = await refused(bench, data, declared, FormatMismatch)
    assert f"declared {declared}, detected {detected}" in message


async def test_formats_that_are_no_disk_are_refused(benches: MakeBench) -> None:
    bench = await benches("raw")
    assert "set disk_format" in await refused(bench, bytes(MIB), "aki", ConversionFailed)
    assert "no disk" in await refused(bench, qcow2(size=0), "qcow2", ConversionFailed)
    await refused(await benches("qcow2"), b"", "raw", ConversionFailed)
    [conversion] = open_plugins(bench.settings)
    with pytest.raises(FormatsMissing):
        await conversion.run(bench, await bench.stage(b"x", None))


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(SECRET.ljust(MIB, b"\n"))
    return path


def hostile_qcow2(folder: Path, secret: Path) -> dict[str, Path]:
    made = {name: folder / f"hostile-{name}" for name in ("backing", "data-file", "json")}
    qemu_img("create", "-f", "qcow2", "-b", secret, "-F", "raw", made["backing"])
    qemu_img(
        "create", "-f", "qcow2", "-o", f"data_file={folder}/data,data_file_raw=on",
        made["data-file"], MIB,
    )  # fmt: skip
    name = json.dumps({"driver": "raw", "file": {"driver": "file", "filename": str(secret)}})
    qemu_img("create", "-u", "-f", "qcow2", "-b", f"json:{name}", "-F", "raw", made["json"], MIB)
    return made


@pytest.mark.parametrize("name", ["backing", "data-file", "json"])
async def test_a_qcow2_that_names_other_files_is_refused_unread(
    benches: MakeBench, tmp_path: Path, secret: Path, name: str
) -> None:
    bench = await benches("raw")
    await refused(bench, hostile_qcow2(tmp_path, secret)[name], "qcow2", UnsafeImage)
    assert bench.scratches == []


@pytest.mark.parametrize(
    "data",
    [
        DESCRIPTOR.replace('"monolithicSparse"', '"monolithicFlat"')
        .replace('SPARSE "disk.vmdk"', 'FLAT "%s" 0')
        .encode(),
        vmdk(DESCRIPTOR.replace("monolithicSparse", "monolithicFlat")),
        vmdk(DESCRIPTOR.replace('"disk.vmdk"', '"/etc/passwd"')),
        vmdk(DESCRIPTOR.replace("monolithicSparse", "vmfs"), sectors=0),
        vmdk(DESCRIPTOR.replace("monolithicSparse", "twoGbMaxExtentFlat")),
    ],
    ids=["flat-text", "flat", "path", "no-capacity", "split"],
)
async def test_a_vmdk_that_names_files_of_the_host_is_refused(
    benches: MakeBench, secret: Path, data: bytes
) -> None:
    bench = await benches("raw")
    data = data.replace(b"%s", str(secret).encode())
    await refused(bench, data, "vmdk", UnsafeImage)
    assert bench.scratches == []


async def test_a_format_within_a_format_does_not_come_out_of_a_conversion(
    benches: MakeBench, tmp_path: Path, secret: Path
) -> None:
    """The disk in this qcow2 is harmless; as a raw file it would be a qcow2 with a backing file."""
    inner = hostile_qcow2(tmp_path, secret)["backing"]
    outer = tmp_path / "outer"
    qemu_img("convert", "-f", "raw", "-O", "qcow2", inner, outer)
    await refused(await benches("raw"), outer, "qcow2", UnsafeImage)
    await refused(await benches("raw"), _in_qcow2(tmp_path, iso()), "qcow2", FormatMismatch)


def _in_qcow2(folder: Path, data: bytes) -> Path:
    (folder / "inner").write_bytes(data)
    qemu_img("convert", "-f", "raw", "-O", "qcow2", folder / "inner", folder / "wrapped")
    return folder / "wrapped"


@pytest.mark.parametrize("part", [0.1, 0.6, 0.95])
@pytest.mark.parametrize("declared", ["qcow2", "vmdk", "vhdx", "vdi", "vhd"])
async def test_a_disk_that_is_cut_off_is_refused(
    benches: MakeBench, disk: Callable[..., Path], declared: str, part: float
) -> None:
    data = disk(declared).read_bytes()
    data = data.rstrip(b"\0")
    bench = await benches("raw")
    message = await refused(bench, data[: int(len(data) * part)], declared, TransomError)
    assert "complete" in message or part == 0.1
    assert str(bench.folder) not in message


async def test_room_that_a_disk_does_not_use_harms_nobody(
    benches: MakeBench, disk: Callable[..., Path]
) -> None:
    source = disk("qcow2")
    whole = source.read_bytes()
    # The count of one cluster behind the last, as a crash leaves it.
    clusters = len(whole) // 65536
    table = int.from_bytes(whole[48:56], "big")
    block = int.from_bytes(whole[table : table + 8], "big")
    at = block + clusters * 2
    source.write_bytes(whole[:at] + b"\0\1" + whole[at + 2 :] + bytes(65536))
    leaking = subprocess.run(  # noqa: ASYNC221
        ["qemu-img", "check", "-q", "-f", "qcow2", str(source)], capture_output=True
    )
    assert leaking.returncode == 3
    bench = await benches("raw")
    result = await kept(bench, await converted(bench, source, "qcow2"))
    assert compared(source, "qcow2", result, "raw") == "Images are identical."


async def test_a_disk_larger_than_images_may_be_is_refused_before_it_is_made(
    benches: MakeBench, tmp_path: Path
) -> None:
    bench = await benches("raw")
    qemu_img("create", "-f", "qcow2", tmp_path / "huge", "2T")
    await refused(bench, tmp_path / "huge", "qcow2", ImageTooLarge)
    assert bench.scratches == []


async def test_a_disk_without_room_for_it_is_refused_before_it_is_made(
    benches: MakeBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = await benches("raw")
    qemu_img("create", "-f", "qcow2", tmp_path / "large", "1T")
    monkeypatch.setattr(plugin, "_free_bytes", lambda _: 2**40)
    message = await refused(bench, tmp_path / "large", "qcow2", ScratchFull)
    assert f"{2**41} bytes" in message
    assert sorted(path.name for path in bench.scratches[0].iterdir()) == ["source"]


async def test_an_object_store_without_room_to_spool_is_told(
    benches: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = await benches("qcow2", "memory")
    monkeypatch.setattr(plugin, "_free_bytes", lambda _: MIB - 1)
    await refused(bench, bytes(MIB), "raw", ScratchFull)


async def test_processor_time_is_bounded(
    benches: MakeBench, monkeypatch: pytest.MonkeyPatch, disk: Callable[..., Path]
) -> None:
    bench = await benches("raw")
    limits = qemu._limits
    monkeypatch.setattr(qemu, "_limits", lambda *given: limits(*given) | {"RLIMIT_CPU": 0})
    message = await refused(bench, disk("qcow2"), "qcow2", ConversionFailed)
    assert "longer than is allowed" in message


async def test_the_size_of_what_is_written_is_bounded(
    benches: MakeBench, monkeypatch: pytest.MonkeyPatch, disk: Callable[..., Path]
) -> None:
    bench = await benches("raw")
    monkeypatch.setattr(qemu.QemuImg, "size_bytes_max", lambda *_: MIB)
    message = await refused(bench, disk("qcow2"), "qcow2", ConversionFailed)
    assert "larger than its header" in message


# --- cancellation ---------------------------------------------------------------------------------


def running(folder: Path) -> list[str]:
    """Command lines of the processes that have to do with the folder."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and process.name != str(os.getpid()):
            try:
                line = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in line:
                found.append(line.replace(b"\0", b" ").decode())
    return found


@pytest.mark.parametrize("target", ["qcow2", "vhdx"])
async def test_a_cancelled_conversion_leaves_no_process_and_nothing_in_the_store(
    benches: MakeBench, tmp_path: Path, target: str
) -> None:
    bench = await benches(target, STORES__MAIN__FSYNC="false")
    with (tmp_path / "large").open("wb") as file:
        noise = random.Random(1).randbytes(MIB)
        for _ in range(1024):
            file.write(noise)
    [conversion] = open_plugins(bench.settings)
    material = await bench.stage(tmp_path / "large")
    task = asyncio.create_task(conversion.run(bench, material))
    while not any(done > 0 for phase, done, _ in bench.reports if phase == "converting"):
        assert not task.done()
        await asyncio.sleep(0.005)
    assert running(bench.scratches[0])
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 10
    assert running(bench.scratches[0]) == []
    assert await bench.keys() == [material.key]
    assert await bench.partial() == []


async def test_cancelling_at_any_moment_leaves_nothing(
    benches: MakeBench, disk: Callable[..., Path]
) -> None:
    bench = await benches("raw")
    [conversion] = open_plugins(bench.settings)
    material = await bench.stage(disk("qcow2"), "qcow2")
    for step in range(25):
        task = asyncio.create_task(conversion.run(bench, material))
        await asyncio.wait([task], timeout=step * 0.015)
        if task.done():
            await bench.staging.delete(task.result().key)
            continue
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < 10
        assert running(bench.scratches[-1] if bench.scratches else bench.folder) == []
        assert await bench.keys() == [material.key]
        assert await bench.partial() == []


# --- confinement ----------------------------------------------------------------------------------


def confined_run(folder: Path, *command: str, read: tuple[str, ...] = ()) -> tuple[int, str]:
    wanted = {
        "parent": os.getpid(),
        "limits": {"RLIMIT_CPU": 10, "RLIMIT_FSIZE": MIB},
        "read": read,
        "write": str(folder),
    }
    done = subprocess.run(
        [sys.executable, "-I", "-S", confined.__file__, json.dumps(wanted), *command],
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


needs_landlock = pytest.mark.skipif(
    not confined.landlock_version(), reason="the kernel has no Landlock"
)


@needs_landlock
def test_a_confined_program_opens_its_file_its_folder_and_nothing_else(
    tmp_path: Path, secret: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    other = tmp_path / "other"
    other.write_bytes(b"given")
    (folder / "link").symlink_to(secret)
    assert confined_run(folder, "/bin/cat", str(other), read=(str(other),)) == (0, "given")
    for path in (secret, folder / "link", "/etc/passwd", tmp_path / "data"):
        code, said = confined_run(folder, "/bin/cat", str(path), read=(str(other),))
        assert code == 1
        assert SECRET.decode() not in said
    assert confined_run(folder, "/bin/sh", "-c", f"echo x > {folder}/mine")[0] == 0
    for path in (other, secret, tmp_path / "new"):
        assert confined_run(folder, "/bin/sh", "-c", f"echo x > {path}", read=(str(other),))[0]
    assert other.read_bytes() == b"given"


@needs_landlock
def test_qemu_img_cannot_follow_an_image_out_of_its_confinement(
    tmp_path: Path, secret: Path
) -> None:
    """Even if the inspection had let it pass."""
    image = hostile_qcow2(tmp_path, secret)["backing"]
    folder = tmp_path / "folder"
    folder.mkdir()
    program = qemu._found()
    arguments = ["convert", "-f", "qcow2", "-O", "raw", str(image), str(folder / "target")]
    code, said = confined_run(folder, program, *arguments, read=(str(image),))
    assert code
    assert "Permission denied" in said


def test_a_confined_program_has_no_network(tmp_path: Path) -> None:
    if not json.loads(
        subprocess.run(
            [sys.executable, "-I", "-S", confined.__file__, "--what"], capture_output=True
        ).stdout
    )["network"]:
        pytest.skip("the kernel grants no network namespace")
    code, said = confined_run(tmp_path, "/bin/cat", "/proc/self/net/dev")
    assert code == 0
    assert [line.split(":")[0].strip() for line in said.splitlines()[2:]] == ["lo"]


def test_a_confined_program_gains_no_rights_and_keeps_its_limits(tmp_path: Path) -> None:
    code, said = confined_run(tmp_path, "/bin/cat", "/proc/self/status", "/proc/self/limits")
    assert code == 0
    facts = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
    assert facts["NoNewPrivs"].strip() == "1"
    limits = {line[:26].strip(): line[26:].split()[:2] for line in said.splitlines()}
    assert limits["Max file size"] == [str(MIB), str(MIB)]
    assert limits["Max cpu time"] == ["10", "12"]


def test_a_confined_program_dies_with_the_one_who_asked_for_it(tmp_path: Path) -> None:
    program = f"""
import json, os, subprocess, sys, time
wanted = {{"parent": os.getpid(), "limits": {{}}, "read": [], "write": {str(tmp_path)!r}}}
command = [sys.executable, "-I", "-S", {confined.__file__!r}, json.dumps(wanted)]
print(subprocess.Popen([*command, "/bin/sleep", "1000"], start_new_session=True).pid, flush=True)
time.sleep(1000)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = Path("/proc") / parent.stdout.readline().strip()
    deadline = time.monotonic() + 10
    while b"sleep" not in (child / "cmdline").read_bytes().split(b"\0")[0]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    while _lives(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _lives(process: Path) -> bool:
    """Whether there is such a process below /proc that has not ended."""
    try:
        return "Z" not in (process / "stat").read_text().rpartition(")")[2][:3]
    except (FileNotFoundError, ProcessLookupError):
        return False


# --- which format ---------------------------------------------------------------------------------


def test_stores_say_which_format_they_keep(tmp_path: Path) -> None:
    file = tmp_path / "transom.toml"
    file.write_text(
        '[imports]\nconvert_to = "qcow2"\n[stores.main]\n[stores.also]\n'
        '[stores.ceph]\nconvert_to = "raw"\n'
    )
    settings = load(file, tmp_path)
    assert target_format(settings, ["main"]) == "qcow2"
    assert target_format(settings, ["main", "also"]) == "qcow2"
    assert target_format(settings, ["ceph"]) == "raw"
    with pytest.raises(StoresDisagree) as caught:
        target_format(settings, ["main", "ceph"])
    assert "main qcow2, ceph raw" in str(caught.value)
    assert target_format(load(None, tmp_path), ["main"]) == ""


def names(settings_text: str, tmp_path: Path, stores: tuple[str, ...] | None = None) -> list[str]:
    file = tmp_path / "transom.toml"
    file.write_text(settings_text)
    return [each.name for each in open_plugins(load(file, tmp_path), stores)]


def test_plugins_run_in_configured_order_and_converting_comes_last(tmp_path: Path) -> None:
    assert names("", tmp_path) == []
    assert names('[imports]\nplugins = ["no_op"]\nconvert_to = "raw"', tmp_path) == [
        "no_op",
        "image_conversion",
    ]
    both = ["image_conversion", "image_decompression"]
    assert names(f"[imports]\nplugins = {both}", tmp_path) == both
    one = '[stores.main]\n[stores.ceph]\nconvert_to = "raw"\n'
    assert names(one, tmp_path) == []
    assert names(one, tmp_path, ("ceph",)) == ["image_conversion"]
    assert names(one, tmp_path, ("main",)) == []


@pytest.mark.parametrize("plugins", [["unknown"], ["no_op", "no_op"]])
def test_plugins_that_do_not_exist_or_come_twice_are_refused(
    tmp_path: Path, plugins: list[str]
) -> None:
    with pytest.raises(ConfigurationError, match=r"imports\.plugins"):
        names(f"[imports]\nplugins = {plugins}", tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        '[imports]\nconvert_to = "raw"',
        '[imports]\nplugins = ["image_conversion"]',
        '[stores.main]\nconvert_to = "vhdx"',
    ],
)
def test_a_missing_qemu_img_is_told_when_it_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    qemu._found.cache_clear()
    with pytest.raises(ConfigurationError, match="qemu-img, which is not installed"):
        names(text, tmp_path)
    assert names('[imports]\nplugins = ["image_decompression"]', tmp_path) == [
        "image_decompression"
    ]


def test_a_qemu_img_that_does_not_run_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "qemu-img"
    program.write_text("#!/bin/sh\necho no such library >&2\nexit 127\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    qemu._found.cache_clear()
    try:
        with pytest.raises(ConfigurationError, match="no such library"):
            names('[imports]\nconvert_to = "raw"', tmp_path)
    finally:
        qemu._found.cache_clear()
