"""What the file store does when disks fill, vanish, refuse and fail, and when processes die."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.disks import Disks, run
from transom.errors import (
    ConfigurationError,
    StoreFailed,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
)
from transom.images.intake import take_in
from transom.settings import StoreSettings
from transom.stores.drivers.file import FileStore
from transom.stores.drivers.file import writer as writing
from transom.stores.store import KeyMissing, Store, Writer

pytestmark = pytest.mark.faults

KIB = 1024
MIB = 1024 * KIB
REAL_FDATASYNC = os.fdatasync


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Disks]:
    """Makes file systems; needs the right to mount."""
    made = Disks(tmp_path)
    yield made
    made.unmount()


def opened(path: Path, **options: Any) -> FileStore:
    return FileStore("tested", StoreSettings(path=str(path), **options), path.parent)


async def put(store: Store, key: str, data: bytes, **options: Any) -> None:
    async with store.writer(key, **options) as writer:
        for at in range(0, len(data), 100_000):
            await writer.write(data[at : at + 100_000])
        await writer.commit()


async def write_and_commit(writer: Writer, data: bytes) -> None:
    await writer.write(data)
    if writing.os.fdatasync is not REAL_FDATASYNC:
        await writer.flush()
    await writer.commit()


async def get(store: Store, key: str) -> bytes:
    reader = await store.read(key)
    try:
        return b"".join([piece async for piece in reader])
    finally:
        await reader.close()


async def keys(store: Store) -> tuple[set[str], set[str]]:
    return (
        {entry.key async for entry in store.list()},
        {entry.key async for entry in store.list_partial()},
    )


def files_below(path: Path) -> set[str]:
    return {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}


# --- no room --------------------------------------------------------------------------------------


async def test_a_full_disk_fails_the_write_and_leaves_nothing(
    mount: Disks,
) -> None:
    disk = mount("8m")
    store = opened(disk.path / "store")
    await put(store, "first", b"x" * MIB)
    with pytest.raises(StoreFull):
        await put(store, "second", b"y" * (20 * MIB))
    assert await keys(store) == ({"first"}, set())
    assert files_below(store.local_path("first").parents[1]) == {"fi/first"}
    await put(store, "third", b"z" * (5 * MIB))
    assert await get(store, "third") == b"z" * (5 * MIB)
    await store.close()


async def test_a_full_disk_is_told_from_the_announced_size(mount: Disks) -> None:
    store = opened(mount("8m").path / "store")
    writer = store.writer("key", size_hint=20 * MIB)
    with pytest.raises(StoreFull):
        await writer.write(b"x")
    await writer.cancel()
    assert await keys(store) == (set(), set())
    await store.close()


async def test_a_full_disk_stops_the_intake_with_its_own_error(
    mount: Disks,
) -> None:
    store = opened(mount("8m").path / "store")
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 400_000
            yield b"x" * 400_000
            await asyncio.sleep(0)

    async with store.writer("key") as writer:
        with pytest.raises(StoreFull):
            await take_in(
                endless(),
                writer,
                disk_format="raw",
                container_format="bare",
                hash_algorithm="sha512",
                size_bytes_max=None,
            )
    assert sent < 40 * MIB
    assert await keys(store) == (set(), set())
    await store.close()


async def test_no_files_left_fails_the_write_as_a_full_disk(mount: Disks) -> None:
    disk = mount("8m,nr_inodes=12")
    store = opened(disk.path / "store")
    stored = set()

    async def put_until_full() -> None:
        for number in range(20):
            await put(store, f"{number:02}-key", b"x")
            stored.add(f"{number:02}-key")

    with pytest.raises(StoreFull):
        await put_until_full()
    assert stored
    assert await keys(store) == (stored, set())
    await store.close()


async def test_a_full_store_is_not_ready_and_can_still_be_read(
    mount: Disks,
) -> None:
    disk = mount("8m")
    store = opened(disk.path / "store")
    await put(store, "key", b"x" * MIB)
    filler = disk.path / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(bytes(20 * MIB))
    with pytest.raises(StoreUnavailable):
        await store.check()
    assert await get(store, "key") == b"x" * MIB
    await store.delete("key")
    filler.unlink()
    await store.check()
    await store.close()


LIMITED = """
import asyncio, resource, sys
from pathlib import Path
from transom.errors import StoreFailed
from transom.settings import StoreSettings
from transom.stores.drivers.file import FileStore

async def main():
    store = FileStore("tested", StoreSettings(path=sys.argv[1]), Path(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
    try:
        async with store.writer("key") as writer:
            for _ in range(50):
                await writer.write(b"x" * 100_000)
            await writer.commit()
    except StoreFailed as error:
        print("failed:", error)
    print([entry.key async for entry in store.list_partial()])
    await store.close()

asyncio.run(main())
"""


def test_a_file_larger_than_the_system_allows_is_told_clearly(tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "store")],
        capture_output=True,
        text=True,
        check=True,
    )
    told, left = child.stdout.splitlines()
    assert "no file this large" in told
    assert left == "[]"


# --- no permission ----------------------------------------------------------------------------------


async def test_a_disk_that_turned_read_only_takes_and_removes_nothing_but_reads(
    mount: Disks,
) -> None:
    disk = mount("16m")
    store = opened(disk.path / "store")
    await put(store, "key", b"x" * MIB)
    disk.make_read_only()
    with pytest.raises(StoreUnavailable, match="Read-only"):
        await put(store, "other", b"y")
    with pytest.raises(StoreRefused, match="Read-only"):
        await store.delete("key")
    with pytest.raises(StoreUnavailable):
        await store.check()
    assert await get(store, "key") == b"x" * MIB
    assert await keys(store) == ({"key"}, set())
    disk.make_writable()
    await store.check()
    await store.delete("key")
    await store.close()


async def test_a_store_opened_on_a_read_only_disk_reads(mount: Disks) -> None:
    disk = mount("16m")
    folder = disk.path / "store"
    (folder / "ke").mkdir(parents=True)
    (folder / "ke" / "key").write_bytes(b"x" * 1000)
    disk.make_read_only()
    store = opened(folder)
    assert await get(store, "key") == b"x" * 1000
    with pytest.raises(StoreUnavailable):
        await put(store, "other", b"y")
    await store.close()


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Callable[[Path], None]]:
    """Takes the right to change a folder away, from root too."""
    done: list[Path] = []

    def lock(path: Path) -> None:
        if os.geteuid() == 0:
            try:
                run("chattr", "+i", path)
            except (subprocess.CalledProcessError, FileNotFoundError):
                pytest.skip("the file system cannot protect a folder from root")
        else:
            path.chmod(0o500)
        done.append(path)

    yield lock
    for path in done:
        if os.geteuid() == 0:
            run("chattr", "-i", path)
        else:
            path.chmod(0o750)


async def test_a_folder_that_may_not_be_changed_refuses_deletes_and_fails_writes(
    tmp_path: Path, locked: Callable[[Path], None]
) -> None:
    folder = tmp_path / "store"
    store = opened(folder)
    await put(store, "key", b"x")
    for path in (folder / "ke", folder / ".partial"):
        locked(path)
    with pytest.raises(StoreRefused, match=r"not permitted|denied"):
        await store.delete("key")
    with pytest.raises(StoreUnavailable, match=r"not permitted|denied"):
        await put(store, "other", b"y")
    assert await get(store, "key") == b"x"
    await store.close()


def test_a_path_that_cannot_be_a_folder_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigurationError, match=r"stores\.tested\.path"):
            opened(path)


# --- the folder goes away -----------------------------------------------------------------------------


async def test_a_vanished_folder_is_unavailable_not_empty(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    store = opened(folder)
    await put(store, "key", b"x" * MIB)
    writer = store.writer("open")
    await writer.write(b"y" * (2 * MIB))
    folder.rename(tmp_path / "elsewhere")
    for call in (store.read, store.stat, store.delete, store.reopen):
        with pytest.raises(StoreUnavailable, match="gone"):
            await call("key")
    with pytest.raises(StoreUnavailable, match="gone"):
        await put(store, "other", b"y")
    with pytest.raises(StoreUnavailable, match="gone"):
        await writer.commit()
    await writer.cancel()
    for entries in (store.list, store.list_partial):
        with pytest.raises(StoreUnavailable, match="gone"):
            [entry async for entry in entries()]
    with pytest.raises(StoreUnavailable):
        await store.check()
    assert not folder.exists()
    (tmp_path / "elsewhere").rename(folder)
    assert await get(store, "key") == b"x" * MIB
    await store.check()
    await store.close()


async def test_an_unmounted_disk_is_unavailable_not_empty(mount: Disks) -> None:
    disk = mount("16m")
    store = opened(disk.path)
    await put(store, "key", b"x")
    disk.take_away()
    assert disk.path.is_dir()
    for call in (store.read, store.stat, store.delete):
        with pytest.raises(StoreUnavailable, match="gone"):
            await call("key")
    with pytest.raises(StoreUnavailable):
        await put(store, "other", b"y")
    with pytest.raises(StoreUnavailable):
        [entry async for entry in store.list()]
    assert list(disk.path.iterdir()) == []
    await store.close()


# --- the disk fails -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "number", "expected"),
    [
        ("fsync", errno.EIO, StoreFailed),
        ("fsync", errno.ENOSPC, StoreFull),
        ("fdatasync", errno.EIO, StoreFailed),
        ("fdatasync", errno.EDQUOT, StoreFull),
        ("pwritev", errno.EIO, StoreFailed),
        ("pwritev", errno.ESTALE, StoreUnavailable),
        ("link", errno.ENOSPC, StoreFull),
    ],
)
async def test_a_failing_system_call_fails_the_write_and_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    number: int,
    expected: type[Exception],
) -> None:
    store = opened(tmp_path / "store")

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    writer = store.writer("key")
    await writer.write(b"x")
    with monkeypatch.context() as patched:
        patched.setattr(writing.os, call, fail)
        with pytest.raises(expected):
            await write_and_commit(writer, b"y" * (40 * MIB))
    # What failed once stays failed, whatever the system says the second time.
    with pytest.raises(expected):
        await writer.commit()
    await writer.cancel()
    assert files_below(tmp_path / "store") == set()
    await store.close()


async def test_a_folder_that_cannot_be_synced_takes_the_object_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path / "store")

    def fail(folder: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(folder))

    monkeypatch.setattr("transom.stores.drivers.file.folder.sync_folder", fail)
    with pytest.raises(StoreFailed):
        await put(store, "key", b"x")
    assert files_below(tmp_path / "store") == set()
    await store.close()


async def test_a_file_system_without_hard_links_works_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path / "store")

    def fail(*_: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(writing.os, "link", fail)
    await put(store, "key", b"x")
    assert await get(store, "key") == b"x"
    with pytest.raises(StoreFailed, match="in use"):
        await put(store, "key", b"y")
    assert await get(store, "key") == b"x"
    assert files_below(tmp_path / "store") == {"ke/key"}
    await store.close()


async def test_an_object_that_was_cut_short_fails_the_reader(tmp_path: Path) -> None:
    store = opened(tmp_path / "store")
    await put(store, "key", os.urandom(4 * MIB))
    reader = await store.read("key")
    await anext(aiter(reader))
    os.truncate(store.local_path("key"), MIB)
    with pytest.raises(StoreFailed, match="shorter"):
        [piece async for piece in reader]
    await reader.close()
    await store.close()


async def test_a_disk_that_fails_to_read_fails_the_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path / "store")
    await put(store, "key", os.urandom(4 * MIB))
    reader = await store.read("key")

    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("transom.stores.drivers.file.reader.os.pread", fail)
    with pytest.raises(StoreFailed, match="errno 5"):
        [piece async for piece in reader]
    await reader.close()
    await store.close()


async def test_files_that_are_not_cached_are_read_in_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path / "store")
    data = os.urandom(9 * MIB + 5)
    await put(store, "key", data)

    def not_cached(*_: Any) -> int:
        raise BlockingIOError

    monkeypatch.setattr("transom.stores.drivers.file.reader.os.preadv", not_cached)
    reads = await asyncio.gather(*(get(store, "key") for _ in range(8)))
    assert set(reads) == {data}
    await store.close()


# --- processes die ------------------------------------------------------------------------------------

WRITE_FOR_EVER = """
import asyncio, sys
from pathlib import Path
from transom.settings import StoreSettings
from transom.stores.drivers.file import FileStore

async def main():
    store = FileStore("tested", StoreSettings(path=sys.argv[1]), Path(sys.argv[1]))
    number = 0
    while True:
        key = f"key{number}"
        async with store.writer(key) as writer:
            print("writing", key, flush=True)
            for piece in range(40):
                await writer.write(bytes([piece]) * 100_000)
            await writer.commit()
        print("committed", key, flush=True)
        number += 1

asyncio.run(main())
"""
WHOLE = b"".join(bytes([piece]) * 100_000 for piece in range(40))


@pytest.mark.parametrize("attempt", range(6))
async def test_a_killed_writer_leaves_whole_objects_and_one_that_can_go_on(
    tmp_path: Path, attempt: int
) -> None:
    folder = tmp_path / "store"
    child = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", WRITE_FOR_EVER, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    child.stdout.readline()
    await asyncio.sleep(random.Random(attempt).uniform(0, 0.4))
    child.send_signal(signal.SIGKILL)
    told, _ = child.communicate()
    committed = {line.split()[1] for line in told.splitlines() if line.startswith("committed")}
    store = opened(folder)
    complete = {entry.key: entry async for entry in store.list()}
    assert committed <= set(complete)
    assert len(complete) <= len(committed) + 1
    for entry in complete.values():
        assert entry.size_bytes == len(WHOLE)
        assert await get(store, entry.key) == WHOLE
    partial = [entry async for entry in store.list_partial()]
    assert len(partial) <= 1
    for entry in partial:
        assert entry.key not in complete
        assert entry.token is not None
        async with await store.reopen(entry.token) as writer:
            assert 0 <= writer.offset <= len(WHOLE)
            await writer.write(WHOLE[writer.offset :])
            await writer.commit()
        assert await get(store, entry.key) == WHOLE
    assert (await keys(store))[1] == set()
    await store.close()


async def test_after_a_power_failure_a_write_goes_on_at_what_was_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path / "store")
    async with store.writer("key") as writer:
        await writer.write(b"a" * (3 * MIB))
        assert await writer.flush() == 3 * MIB
        await writer.write(b"b" * (3 * MIB))
        await writer.detach()
    # As after a restart: another boot, and a file whose end never reached the disk.
    monkeypatch.setattr(writing, "boot_id", lambda: "another-boot")
    with (tmp_path / "store/.partial/key").open("r+b") as file:
        file.seek(3 * MIB)
        file.write(bytes(5 * MIB))
    async with await store.reopen(writer.token) as again:
        assert again.offset == 3 * MIB
        await again.write(b"c" * MIB)
        await again.commit()
    assert await get(store, "key") == b"a" * (3 * MIB) + b"c" * MIB
    await store.close()


@pytest.mark.parametrize("mark", [None, b"", b"garbage", b"9" * 3000, b"-5 x\n", b"\xff\xfe"])
async def test_without_a_readable_mark_a_write_begins_anew(
    tmp_path: Path, mark: bytes | None
) -> None:
    store = opened(tmp_path / "store")
    async with store.writer("key") as writer:
        await writer.write(b"a" * (3 * MIB))
        await writer.flush()
        await writer.detach()
    path = tmp_path / "store/.partial/key~"
    path.unlink() if mark is None else path.write_bytes(mark)
    async with await store.reopen(writer.token) as again:
        assert again.offset == 0
        await again.write(b"new")
        await again.commit()
    assert await get(store, "key") == b"new"
    await store.close()


async def test_without_syncs_nothing_is_taken_for_durable_after_a_power_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path / "store", fsync=False)
    async with store.writer("key") as writer:
        await writer.write(b"a" * (3 * MIB))
        assert await writer.flush() == 3 * MIB
        await writer.detach()
    async with await store.reopen(writer.token) as again:
        assert again.offset == 3 * MIB
        await again.detach()
    monkeypatch.setattr(writing, "boot_id", lambda: "another-boot")
    async with await store.reopen(writer.token) as again:
        assert again.offset == 0
    await store.close()


async def test_long_writes_are_on_disk_long_before_they_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path / "store")
    async with store.writer("key") as writer:
        for _ in range(100):
            await writer.write(b"x" * MIB)
        await writer.detach()
    monkeypatch.setattr(writing, "boot_id", lambda: "another-boot")
    async with await store.reopen(writer.token) as again:
        assert 32 * MIB <= again.offset <= 100 * MIB
    await store.close()


async def test_both_names_after_a_crash_in_the_last_moment_are_one_object(tmp_path: Path) -> None:
    store = opened(tmp_path / "store")
    async with store.writer("key") as writer:
        await writer.write(b"x" * 1000)
        await writer.flush()
        # Between the link and the removal of the partial name.
        (tmp_path / "store/ke").mkdir()
        os.link(tmp_path / "store/.partial/key", tmp_path / "store/ke/key")
        await writer.detach()
    with pytest.raises(KeyMissing):
        await store.reopen(writer.token)
    os.link(tmp_path / "store/ke/key", tmp_path / "store/.partial/key")
    assert await keys(store) == ({"key"}, set())
    assert files_below(tmp_path / "store") == {"ke/key"}
    assert await get(store, "key") == b"x" * 1000
    await store.close()


async def test_what_others_put_into_the_folder_is_not_taken_for_objects(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    store = opened(folder)
    await put(store, "key", b"x")
    (folder / "stray").write_text("x")
    (folder / "ab").mkdir()
    (folder / "ab" / "elsewhere").write_text("x")
    (folder / "ab" / ".hidden").write_text("x")
    (folder / "ab" / "abfolder").mkdir()
    (folder / "lost+found").mkdir()
    (folder / ".partial" / "~probe-1").write_text("x")
    assert await keys(store) == ({"key"}, set())
    with pytest.raises(StoreFailed, match="not a file"):
        await store.read("abfolder")
    await store.close()


async def test_an_empty_folder_that_somebody_removed_is_made_again(tmp_path: Path) -> None:
    store = opened(tmp_path / "store")
    await put(store, "key1", b"x")
    await store.delete("key1")
    (tmp_path / "store/ke").rmdir()
    await put(store, "key2", b"y")
    assert await get(store, "key2") == b"y"
    await store.close()


@pytest.mark.parametrize("fsync", [True, False])
async def test_every_name_on_the_way_to_an_object_is_on_disk_before_the_commit_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: bool
) -> None:
    synced: list[str] = []
    real = os.fsync

    def note(fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        synced.append(str(path.relative_to(tmp_path)))
        real(fd)

    monkeypatch.setattr(os, "fsync", note)
    for key in ("key1", "key2"):
        # The second one may not rely on what the first one, which may have crashed, has done.
        store = opened(tmp_path / "new/store", fsync=fsync)
        await put(store, key, b"x")
        await store.close()
    folders = ["new", ".", "new/store"]
    first = ["new/store/.partial/key1", "new/store", "new/store/ke"]
    second = ["new/store/.partial/key2", "new/store", "new/store/ke"]
    assert synced == ([*folders, *first, *second] if fsync else [])


async def test_permissions_let_the_group_read_and_nobody_else(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        store = opened(tmp_path / "store")
        await put(store, "key", b"x")
    finally:
        os.umask(previous)
    path = store.local_path("key")
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.parent.stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o750
    await store.close()


async def test_a_million_names_are_listed_without_loading_them(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    store = opened(folder)
    for number in range(200):
        shard = folder / f"{number // 10:02}"
        shard.mkdir(exist_ok=True)
        for each in range(100):
            (shard / f"{number // 10:02}-{number}-{each}").touch()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count, late = 0, 0
    async for entry in store.list():
        if count == 0:
            # What comes while it lists is listed only by who has not read everything before.
            for shard in folder.glob("[0-9][0-9]"):
                (shard / f"{shard.name}-late").touch()
        count += 1
        late += entry.key.endswith("-late")
    assert count - late == 20_000
    assert late >= 18, f"{late} of 20 folders were read after the first name was given"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * 1024
    await store.close()


async def test_many_slow_writers_hold_little(tmp_path: Path) -> None:
    store = opened(tmp_path / "store", fsync=False)
    writers = [store.writer(f"key{number}") for number in range(100)]
    for _ in range(9):
        for writer in writers:
            await writer.write(b"x" * 100_000)
    held = store._folder.batched_bytes
    assert held <= 33 * MIB
    for writer in writers:
        await writer.cancel()
    assert store._folder.batched_bytes == 0
    shutil.rmtree(tmp_path / "store")
    await store.close()
