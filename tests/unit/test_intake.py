"""The one pipeline of incoming bytes: what it tells, what it stops, and what it never leaves behind."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.waiting import until_so
from transom.errors import (
    FormatMismatch,
    ImageTooLarge,
    IncompleteUpload,
    InvalidValue,
    QuotaExceeded,
    SizeMismatch,
    StoreFailed,
    StoreFull,
    UnsafeImage,
)
from transom.images import lanes
from transom.images.intake import Taken, take_in
from transom.settings import StoreSettings
from transom.stores import open_store
from transom.stores.store import Store, Stored

KIB = 1024
MIB = 1024 * KIB
FIXED = sorted(
    name
    for name in hashlib.algorithms_guaranteed
    if hashlib.new(name, usedforsecurity=False).digest_size
)


class Sink:
    """A Writer that only remembers; it can be slow, hang or fail."""

    def __init__(
        self,
        *,
        pause_seconds: float = 0.0,
        fails_at: int | None = None,
        hangs_at: int | None = None,
        keeps: bool = True,
    ) -> None:
        self.chunks: list[bytes] = []
        self.offset = 0
        self.calls = 0
        self.is_writing = False
        self._pause_seconds = pause_seconds
        self._fails_at = fails_at
        self._hangs_at = hangs_at
        self._keeps = keeps

    token = "sink"

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        assert not self.is_writing, "calls of one writer never overlap"
        self.is_writing = True
        try:
            self.calls += 1
            if self._fails_at is not None and self.offset >= self._fails_at:
                raise StoreFull("sink")
            if self._hangs_at is not None and self.offset >= self._hangs_at:
                await asyncio.Event().wait()
            await asyncio.sleep(self._pause_seconds)
            self.offset += len(chunk)
            if self._keeps:
                self.chunks.append(bytes(chunk))
        finally:
            self.is_writing = False

    @property
    def data(self) -> bytes:
        return b"".join(self.chunks)

    async def flush(self) -> int:
        return self.offset

    async def commit(self) -> Stored:
        raise AssertionError("the intake does not commit")

    async def cancel(self) -> None:
        raise AssertionError("the intake does not cancel")

    async def detach(self) -> None:
        raise AssertionError("the intake does not detach")

    async def __aenter__(self) -> Self:
        raise AssertionError("the intake does not enter")

    async def __aexit__(self, *_: object) -> None:
        raise AssertionError("the intake does not leave")


class Source:
    """Chunks as they come from a client; counts what was asked of it."""

    def __init__(
        self,
        chunks: Iterable[bytes],
        *,
        pause_seconds: float = 0.0,
        error: Exception | None = None,
        hangs: bool = False,
    ) -> None:
        self._chunks = chunks
        self._pause_seconds = pause_seconds
        self._error = error
        self._hangs = hangs
        self.sent_bytes = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            await asyncio.sleep(self._pause_seconds)
            self.sent_bytes += len(chunk)
            yield chunk
            del chunk
        if self._hangs:
            await asyncio.Event().wait()
        if self._error is not None:
            raise self._error


class Allowance:
    """A Room that grants in steps up to a limit, and remembers what was asked."""

    def __init__(self, granted_bytes: int, limit_bytes: int, step_bytes: int = 0) -> None:
        self.granted_bytes = granted_bytes
        self._limit_bytes = limit_bytes
        self._step_bytes = step_bytes
        self.asked: list[int] = []

    async def extend(self, needed_bytes: int) -> None:
        self.asked.append(needed_bytes)
        await asyncio.sleep(0)
        if needed_bytes > self._limit_bytes:
            raise QuotaExceeded("bytes", self._limit_bytes, needed_bytes)
        self.granted_bytes = needed_bytes + self._step_bytes


async def take(chunks: Iterable[bytes] | Source, writer: Any = None, **options: Any) -> Taken:
    source = chunks if isinstance(chunks, Source) else Source(chunks)
    arguments: dict[str, Any] = {
        "disk_format": "raw",
        "container_format": "bare",
        "hash_algorithm": "sha512",
        "size_bytes_max": None,
    }
    return await take_in(
        aiter(source), Sink() if writer is None else writer, **(arguments | options)
    )


@pytest.fixture(autouse=True)
async def _nothing_stays_behind() -> AsyncIterator[None]:
    tasks = asyncio.all_tasks()
    yield
    assert asyncio.all_tasks() - tasks - {asyncio.current_task()} == set()
    assert lanes.process_budget().used_bytes == 0
    assert lanes.threads()._work_queue.qsize() == 0


# --- what it tells --------------------------------------------------------------------------------


@given(
    chunks=st.lists(
        st.binary(max_size=300)
        | st.sampled_from([b"", b"\0" * 70_000, os.urandom(600_000), b"x" * 20_000]),
        max_size=12,
    ),
    kind=st.sampled_from([bytes, bytearray, memoryview]),
    algorithm=st.sampled_from(FIXED),
    also=st.lists(st.sampled_from(FIXED), max_size=3),
)
@settings(max_examples=120)
def test_any_bytes_in_any_chunks_give_their_digests_and_are_stored_as_they_came(
    chunks: list[bytes], kind: Callable[[bytes], bytes], algorithm: str, also: list[str]
) -> None:
    data = b"".join(chunks)
    sink = Sink()
    taken = asyncio.run(
        take(
            [kind(chunk) for chunk in chunks],
            sink,
            hash_algorithm=algorithm,
            also=also,
            # Any bytes: some would be taken for an unsafe image.
            container_format="ova",
        )
    )
    assert sink.data == data
    assert taken == Taken(
        size_bytes=len(data),
        checksum=hashlib.md5(data).hexdigest(),
        hash_algorithm=algorithm,
        hash_value=hashlib.new(algorithm, data).hexdigest(),
        virtual_size_bytes=None,
        digests={name: hashlib.new(name, data).hexdigest() for name in also},
    )


@pytest.mark.parametrize("driver", ["file", "memory"])
async def test_what_a_store_keeps_is_what_was_hashed(driver: str, tmp_path: Path) -> None:
    store = open_store("main", StoreSettings(driver=driver, path=str(tmp_path)), tmp_path)
    chunks = [os.urandom(size) for size in (1, 400_000, 17, 0, 2_000_000, 65_536) * 4]
    async with store.writer("key") as writer:
        taken = await take(chunks, writer)
        await writer.commit()
    digest = hashlib.sha512()
    reader = await store.read("key")
    async for piece in reader:
        digest.update(piece)
    await reader.close()
    assert taken.hash_value == digest.hexdigest()
    assert taken.size_bytes == sum(map(len, chunks)) == (await store.stat("key")).size_bytes
    await store.close()


async def test_nothing_at_all_has_the_digests_of_nothing() -> None:
    taken = await take([])
    assert taken.size_bytes == 0
    assert taken.checksum == "d41d8cd98f00b204e9800998ecf8427e"
    assert taken.hash_value == hashlib.sha512().hexdigest()
    assert taken.virtual_size_bytes is None


async def test_a_chunk_may_be_used_again_by_who_gave_it() -> None:
    buffer = bytearray(300_000)

    async def reused() -> AsyncIterator[Any]:
        for number in range(10):
            buffer[:] = bytes([number]) * len(buffer)
            yield memoryview(buffer)

    sink = Sink()
    taken = await take_in(
        reused(),
        sink,
        disk_format="raw",
        container_format="bare",
        hash_algorithm="sha256",
        size_bytes_max=None,
    )
    expected = b"".join(bytes([number]) * 300_000 for number in range(10))
    assert sink.data == expected
    assert taken.hash_value == hashlib.sha256(expected).hexdigest()


async def test_progress_is_told_in_bytes_taken() -> None:
    told: list[int] = []
    await take([b"a" * 10, b"", b"b" * 20], progress=told.append)
    assert told == [10, 30]


async def test_one_algorithm_asked_for_twice_is_computed_once() -> None:
    taken = await take([b"abc"], hash_algorithm="md5", also=["md5", "sha1"])
    assert taken.checksum == taken.hash_value == taken.digests["md5"]
    assert taken.digests["sha1"] == hashlib.sha1(b"abc").hexdigest()


@pytest.mark.parametrize("algorithm", ["shake_128", "shake_256", "nonsense", ""])
@pytest.mark.parametrize("place", ["hash_algorithm", "also"])
async def test_an_algorithm_without_a_length_or_unknown_is_refused_before_any_byte(
    algorithm: str, place: str
) -> None:
    source = Source([b"abc"])
    with pytest.raises(InvalidValue, match="os_hash_algo"):
        await take(source, **{place: algorithm if place == "hash_algorithm" else [algorithm]})
    assert source.sent_bytes == 0


# --- limits ---------------------------------------------------------------------------------------


async def test_exactly_the_largest_size_is_taken() -> None:
    taken = await take([b"x" * 60, b"x" * 40], size_bytes_max=100, size_bytes_expected=100)
    assert taken.size_bytes == 100


async def test_one_byte_more_than_the_largest_size_is_refused_and_not_written() -> None:
    sink = Sink()
    with pytest.raises(ImageTooLarge):
        await take([b"x" * 60, b"x" * 41], sink, size_bytes_max=100)
    assert sink.offset <= 60


async def test_endless_data_is_read_no_further_than_the_limit() -> None:
    source = Source(b"x" * 100_000 for _ in range(10**9))
    with pytest.raises(ImageTooLarge):
        await take(source, size_bytes_max=5 * MIB)
    assert source.sent_bytes <= 5 * MIB + 100_000


async def test_an_announced_size_over_the_limit_is_refused_before_any_byte() -> None:
    source = Source([b"x" * 10])
    with pytest.raises(ImageTooLarge):
        await take(source, size_bytes_max=100, size_bytes_expected=101)
    assert source.sent_bytes == 0


@pytest.mark.parametrize(("announced", "sent"), [(10, 9), (10, 0), (0, 1), (10, 11)])
async def test_another_length_than_announced_is_refused(announced: int, sent: int) -> None:
    with pytest.raises(SizeMismatch) as error:
        await take([b"x"] * sent, size_bytes_expected=announced)
    assert error.value.announced == announced
    assert error.value.received == sent


async def test_more_than_announced_is_refused_as_soon_as_it_is_certain() -> None:
    source = Source([b"x" * 100] * 1000)
    with pytest.raises(SizeMismatch):
        await take(source, size_bytes_expected=250)
    assert source.sent_bytes == 300


async def test_room_is_asked_for_before_bytes_beyond_the_grant_are_taken() -> None:
    room = Allowance(100, 1000, step_bytes=50)
    sink = Sink()
    taken = await take([b"x" * 60] * 5, sink, room=room)
    assert taken.size_bytes == 300
    assert room.asked == [120, 180, 240, 300]


async def test_room_that_was_granted_is_not_asked_for() -> None:
    room = Allowance(1000, 1000)
    await take([b"x" * 100] * 10, room=room)
    assert room.asked == []


async def test_data_beyond_the_quota_is_refused_and_not_written() -> None:
    sink = Sink()
    with pytest.raises(QuotaExceeded):
        await take([b"x" * 60] * 5, sink, room=Allowance(100, 200))
    assert sink.offset <= 180


# --- formats --------------------------------------------------------------------------------------

QCOW2 = b"QFI\xfb" + (3).to_bytes(4, "big") + bytes(16) + (7 * MIB).to_bytes(8, "big") + bytes(2000)
UNSAFE_QCOW2 = QCOW2[:8] + (512).to_bytes(8, "big") + QCOW2[16:]


async def test_the_virtual_size_is_told() -> None:
    assert (await take([QCOW2], disk_format="qcow2")).virtual_size_bytes == 7 * MIB
    assert (await take([QCOW2])).virtual_size_bytes == len(QCOW2)


async def test_another_format_than_declared_is_refused_when_formats_are_verified() -> None:
    with pytest.raises(FormatMismatch):
        await take([QCOW2], disk_format="vmdk")
    taken = await take([QCOW2], disk_format="vmdk", verify_formats=False)
    assert taken.virtual_size_bytes is None


async def test_unsafe_data_is_refused_always() -> None:
    for verify in (True, False):
        with pytest.raises(UnsafeImage):
            await take([UNSAFE_QCOW2], verify_formats=verify)
    assert (await take([UNSAFE_QCOW2], container_format="ova")).virtual_size_bytes is None
    assert (await take([UNSAFE_QCOW2], disk_format=None)).virtual_size_bytes is None


async def test_a_check_that_may_fail_may() -> None:
    disk = bytes(510) + b"\x55\xaa" + bytes(512)
    with pytest.raises(UnsafeImage):
        await take([disk])
    assert (await take([disk], gpt_checks_nonfatal=["mbr"])).virtual_size_bytes == 1024


# --- what goes wrong --------------------------------------------------------------------------------


async def test_an_error_of_the_source_comes_out_unchanged() -> None:
    gone = IncompleteUpload(5)
    with pytest.raises(IncompleteUpload) as error:
        await take(Source([b"x" * 400_000] * 5, error=gone))
    assert error.value is gone


async def test_an_error_of_the_writer_stops_a_source_that_waits() -> None:
    source = Source([b"x" * 400_000] * 3, hangs=True)
    async with asyncio.timeout(5):
        with pytest.raises(StoreFull):
            await take(source, Sink(fails_at=400_000))


async def test_an_error_of_the_writer_stops_an_endless_source() -> None:
    source = Source(b"x" * 400_000 for _ in range(10**9))
    with pytest.raises(StoreFull):
        await take(source, Sink(fails_at=MIB, keeps=False))
    assert source.sent_bytes < MIB + 2 * lanes.UPLOAD_BYTES_MAX


async def test_an_error_keeps_its_cause() -> None:
    class Broken(Sink):
        async def write(self, chunk: bytes | bytearray | memoryview) -> None:
            raise StoreFailed("sink", "broken") from OSError(5, "Input/output error")

    with pytest.raises(StoreFailed) as raised:
        await take([b"x" * 100], Broken())
    assert isinstance(raised.value.__cause__, OSError)


async def test_a_digest_that_fails_stops_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        digest_size = 16

        def update(self, chunk: bytes) -> None:
            raise MemoryError("no room for the digest")

    real = hashlib.new

    def new(name: str, *data: Any, **options: Any) -> Any:
        return Broken() if name == "sha1" else real(name, *data, **options)

    monkeypatch.setattr("transom.images.intake.hashlib.new", new)
    source = Source([b"x" * 400_000] * 3, hangs=True)
    async with asyncio.timeout(5):
        with pytest.raises(MemoryError):
            await take(source, also=["sha1"])


@pytest.mark.parametrize("where", ["source", "writer", "source-midway", "begin"])
async def test_a_cancelled_intake_leaves_no_thread_and_no_task_at_work(where: str) -> None:
    sink = Sink(hangs_at=MIB if where == "writer" else None)
    chunks = [b"x" * 400_000] * 20
    source = Source(
        chunks, hangs=where == "source", pause_seconds=0.01 if where == "source-midway" else 0
    )
    task = asyncio.create_task(take(source, sink))
    await asyncio.sleep(0 if where == "begin" else 0.1)
    task.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not sink.is_writing
    written = sink.offset
    await asyncio.sleep(0.05)
    assert sink.offset == written


# --- memory and fairness ----------------------------------------------------------------------------


async def test_a_slow_writer_slows_the_source() -> None:
    source = Source([b"x" * 400_000] * 200)
    sink = Sink(pause_seconds=0.02, keeps=False)
    task = asyncio.create_task(take(source, sink))
    most = 0
    for _ in range(30):
        await asyncio.sleep(0.02)
        most = max(most, source.sent_bytes - sink.offset)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert 0 < most <= lanes.UPLOAD_BYTES_MAX + 400_000


async def test_one_upload_holds_little_however_long_it_is() -> None:
    gc.collect()
    tracemalloc.start()
    source = Source(bytes([number % 256]) * 400_000 for number in range(400))
    await take(source, Sink(keeps=False))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < lanes.UPLOAD_BYTES_MAX + 8 * MIB


async def test_many_uploads_together_hold_little(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = lanes.Budget(16 * MIB)
    monkeypatch.setattr("transom.images.intake.process_budget", lambda: budget)
    gc.collect()
    tracemalloc.start()
    sources = [Source(bytes([number]) * 400_000 for _ in range(40)) for number in range(40)]
    await asyncio.gather(
        *(take(source, Sink(keeps=False, pause_seconds=0.001)) for source in sources)
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert budget.used_bytes == 0
    # The budget, one chunk on its way and one in hand for each, and what the tasks themselves need.
    assert peak < 16 * MIB + 40 * 2 * 400_000 + 8 * MIB


async def test_stores_that_hang_do_not_stop_uploads_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    budget = lanes.Budget(4 * MIB)
    monkeypatch.setattr("transom.images.intake.process_budget", lambda: budget)
    stuck = [
        asyncio.create_task(take(Source([b"x" * 400_000] * 50), Sink(hangs_at=0)))
        for _ in range(20)
    ]
    await until_so(lambda: budget.used_bytes >= 4 * MIB - 400_000)
    async with asyncio.timeout(20):
        taken = await take([b"y" * 400_000] * 50)
    assert taken.size_bytes == 20_000_000
    for task in stuck:
        task.cancel()
    await asyncio.gather(*stuck, return_exceptions=True)
    assert budget.used_bytes == 0


async def test_slow_clients_hold_little_and_stop_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = lanes.Budget(2 * MIB)
    monkeypatch.setattr("transom.images.intake.process_budget", lambda: budget)
    slow = [
        asyncio.create_task(take(Source([b"x" * 30_000] * 50, pause_seconds=0.02)))
        for _ in range(60)
    ]
    await asyncio.sleep(0.3)
    async with asyncio.timeout(20):
        taken = await take([b"y" * 400_000] * 25)
    assert taken.size_bytes == 10_000_000
    for each in await asyncio.gather(*slow):
        assert each.size_bytes == 1_500_000
    assert budget.used_bytes == 0


async def test_a_chunk_larger_than_all_bounds_gets_through(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = lanes.Budget(MIB)
    monkeypatch.setattr("transom.images.intake.process_budget", lambda: budget)
    data = os.urandom(20 * MIB)
    taken = await take([data[:10], data[10:], b"z"])
    assert taken.checksum == hashlib.md5(data + b"z").hexdigest()


async def test_small_chunks_are_gathered_for_the_threads() -> None:
    hops = 0
    submit = lanes.threads().submit

    def count(*arguments: Any, **options: Any) -> Any:
        nonlocal hops
        hops += 1
        return submit(*arguments, **options)

    lanes.threads().submit = count  # type: ignore[method-assign]
    try:
        await take([b"x" * 1000] * 5000)
    finally:
        del lanes.threads().submit
    assert hops < 80


async def test_threads_are_bounded_however_many_uploads_there_are() -> None:
    before = threading.active_count()
    await asyncio.gather(*(take([b"x" * 400_000] * 5, also=["sha1", "sha256"]) for _ in range(40)))
    assert threading.active_count() - before <= 32
    assert {thread.name.partition("_")[0] for thread in threading.enumerate()} >= {"intake"}


async def test_nothing_large_is_hashed_in_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    real = hashlib.new
    here = threading.get_ident()
    hashed_here: list[int] = []

    class Watched:
        def __init__(self, made: Any) -> None:
            self._made = made
            self.digest_size = made.digest_size
            self.hexdigest = made.hexdigest

        def update(self, chunk: bytes) -> None:
            if threading.get_ident() == here:
                hashed_here.append(len(chunk))
            self._made.update(chunk)

    monkeypatch.setattr(
        "transom.images.intake.hashlib.new",
        lambda *name, **options: Watched(real(*name, **options)),
    )
    sizes = [8 * MIB, 1, 100_000, 16 * KIB, 20_000] * 3
    taken = await take([b"x" * size for size in sizes])
    assert taken.checksum == hashlib.md5(b"x" * sum(sizes)).hexdigest()
    assert sum(hashed_here) <= 2 * lanes._INLINE_BYTES


async def test_uploads_at_once_finish_with_their_own_digests(tmp_path: Path) -> None:
    store: Store = open_store("main", StoreSettings(path=str(tmp_path), fsync=False), tmp_path)

    async def upload(number: int) -> None:
        data = os.urandom(700_000 + number)
        async with store.writer(f"key{number}") as writer:
            taken = await take(
                (data[at : at + 90_000] for at in range(0, len(data), 90_000)), writer
            )
            await writer.commit()
        assert taken.checksum == hashlib.md5(data).hexdigest()

    await asyncio.gather(*(upload(number) for number in range(50)))
    assert len([entry async for entry in store.list()]) == 50
    await store.close()
