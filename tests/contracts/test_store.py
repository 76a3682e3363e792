"""The promises of `transom.stores.store`, which every driver keeps.

A driver joins with one line in `CASES`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from transom.errors import ConfigurationError, StoreFailed, TransomError
from transom.settings import StoreSettings
from transom.stores import DRIVERS, open_store
from transom.stores.measured import MeasuredStore
from transom.stores.store import Entry, KeyMissing, Reader, Store, Stored, Writer

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class Case:
    """One driver under test. `reaches` says that other processes see the same store; `many` is a
    number of objects that are listed in more than one piece; `is_measured`: its operations are
    counted and timed."""

    driver: str
    configure: Callable[[Path], StoreSettings]
    reaches: bool
    many: int = 600
    is_measured: bool = False

    @property
    def name(self) -> str:
        """What tells it from the others."""
        return f"measured {self.driver}" if self.is_measured else self.driver


def in_bucket(folder: Path) -> StoreSettings:
    """A prefix of its own in one bucket of a real radosgw."""
    # Only here: a machine without Ceph runs everything else.
    from tests.support import s3

    return s3.settings(prefix=s3.prefix_of(folder))


def in_google_bucket(folder: Path) -> StoreSettings:
    """A prefix of its own in a bucket of a real radosgw, behind a gate that asks for tokens."""
    from tests.support import gcs

    return gcs.in_folder(folder)


def in_container(folder: Path) -> StoreSettings:
    """A prefix of its own in a container of Azurite."""
    from tests.support import azurite

    return azurite.in_folder(folder)


def in_pool(folder: Path) -> StoreSettings:
    """A prefix of its own in one pool of a real Ceph, by Glance's driver."""
    from tests.support import rbd

    return rbd.in_folder(folder)


CASES = [
    Case("file", lambda folder: StoreSettings(driver="file", path=str(folder / "store")), True),
    Case(
        "file",
        lambda folder: StoreSettings(driver="file", path=str(folder / "store")),
        True,
        is_measured=True,
    ),
    Case("memory", lambda folder: StoreSettings(driver="memory"), False),
    Case("s3", in_bucket, True),
    Case("gcs", in_google_bucket, True, 80),
    Case("azure", in_container, True, 80),
    Case("glance_store", in_pool, True, 80),
]


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture
async def store(case: Case, tmp_path: Path) -> AsyncIterator[Store]:
    opened = open_store("tested", case.configure(tmp_path), tmp_path)
    if case.is_measured:
        opened = MeasuredStore(opened)
    yield opened
    await opened.close()


async def put(store: Store, key: str, *chunks: bytes) -> Stored:
    async with store.writer(key) as writer:
        for chunk in chunks:
            await writer.write(chunk)
        return await writer.commit()


async def write_and_commit(writer: Writer, data: bytes) -> Stored:
    await writer.write(data)
    return await writer.commit()


async def pieces_of(reader: Reader) -> list[bytes]:
    try:
        return [piece async for piece in reader]
    finally:
        await reader.close()


async def get(store: Store, key: str, **span: Any) -> bytes:
    return b"".join(await pieces_of(await store.read(key, **span)))


async def all_of(entries: AsyncIterator[Entry]) -> dict[str, Entry]:
    return {entry.key: entry async for entry in entries}


async def is_empty(store: Store) -> bool:
    return not await all_of(store.list()) and not await all_of(store.list_partial())


READ_ONLY = {"http"}
"""Drivers that nothing can be put into: `test_read_only_store.py` holds these to the rest."""


def test_every_driver_of_the_table_is_tested() -> None:
    assert {case.driver for case in CASES} | READ_ONLY == set(DRIVERS)


async def test_it_is_a_store_with_writers_of_the_contract(store: Store) -> None:
    assert store.name == "tested"
    async with store.writer("key") as writer:
        assert isinstance(writer, Writer)


async def test_an_unknown_option_is_refused_at_the_start(case: Case, tmp_path: Path) -> None:
    configured = case.configure(tmp_path)
    options = {**configured.options, "pazh": 1}
    wrong = StoreSettings(driver=case.driver, path=configured.path, options=options)
    with pytest.raises(ConfigurationError, match="pazh"):
        open_store("tested", wrong, tmp_path)


# --- writing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [b""],
        [b"x"],
        [b"", b"abc", b"", b"def"],
        [os.urandom(3 * MIB + 17)],
        [os.urandom(400 * KIB)] * 9,
        [b"%d" % number for number in range(3000)],
    ],
    ids=["nothing", "empty", "byte", "gaps", "one-large", "many-large", "many-small"],
)
async def test_what_is_written_is_what_is_read(store: Store, chunks: list[bytes]) -> None:
    data = b"".join(chunks)
    stored = await put(store, "key", *chunks)
    assert stored == Stored(key="key", url=store.url("key"), size_bytes=len(data))
    assert await get(store, "key") == data
    assert (await store.stat("key")).size_bytes == len(data)


async def test_a_chunk_may_be_changed_after_write_returned(store: Store) -> None:
    chunk = bytearray(b"a" * 1000)
    async with store.writer("key") as writer:
        for letter in b"abc":
            chunk[:] = bytes([letter]) * 1000
            await writer.write(chunk)
        chunk[:] = b"d" * 1000
        await writer.write(memoryview(chunk))
        chunk[:] = b"x" * 1000
        await writer.commit()
    assert await get(store, "key") == b"".join(bytes([c]) * 1000 for c in b"abcd")


async def test_nothing_is_readable_before_commit(store: Store) -> None:
    async with store.writer("key") as writer:
        await writer.write(b"x" * (2 * MIB))
        await writer.flush()
        with pytest.raises(KeyMissing):
            await store.read("key")
        with pytest.raises(KeyMissing):
            await store.stat("key")
        assert await all_of(store.list()) == {}
        await writer.commit()
    assert len(await get(store, "key")) == 2 * MIB


async def test_leaving_without_a_commit_leaves_nothing(store: Store) -> None:
    async with store.writer("key") as writer:
        await writer.write(b"x" * (2 * MIB))
    assert await is_empty(store)


async def test_an_error_inside_leaves_nothing_and_comes_out_unchanged(store: Store) -> None:
    async def write() -> None:
        async with store.writer("key") as writer:
            await writer.write(b"x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await write()
    assert await is_empty(store)


async def test_cancel_may_be_called_again_and_again(store: Store) -> None:
    writer = store.writer("key")
    await writer.cancel()
    writer = store.writer("key")
    await writer.write(b"x")
    await writer.cancel()
    await writer.cancel()
    assert await is_empty(store)
    await put(store, "key", b"again")
    assert await get(store, "key") == b"again"


async def test_cancel_after_a_commit_does_nothing(store: Store) -> None:
    writer = store.writer("key")
    await writer.write(b"x")
    await writer.commit()
    await writer.cancel()
    assert await get(store, "key") == b"x"


async def test_a_writer_that_ended_takes_no_more(store: Store) -> None:
    async with store.writer("key") as writer:
        await writer.commit()
        with pytest.raises(RuntimeError):
            await writer.write(b"x")
        with pytest.raises(RuntimeError):
            await writer.commit()
    cancelled = store.writer("other")
    await cancelled.cancel()
    with pytest.raises(RuntimeError):
        await cancelled.write(b"x")


async def test_the_offset_counts_what_was_taken(store: Store) -> None:
    async with store.writer("key") as writer:
        assert writer.offset == 0
        await writer.write(b"x" * 10)
        assert writer.offset == 10
        await writer.write(b"x" * (3 * MIB))
        assert writer.offset == 10 + 3 * MIB
        durable_bytes = 10 + 3 * MIB if store.features.resumable else 0
        assert await writer.flush() == durable_bytes


@pytest.mark.parametrize("hint", [0, 1, 5, 1000, None])
async def test_a_wrong_size_hint_does_no_harm(store: Store, hint: int | None) -> None:
    async with store.writer("key", size_hint=hint) as writer:
        await writer.write(b"12345")
        assert (await writer.commit()).size_bytes == 5
    assert await get(store, "key") == b"12345"


async def test_a_key_is_never_overwritten(store: Store) -> None:
    await put(store, "key", b"first")
    with pytest.raises(StoreFailed, match="in use"):
        await put(store, "key", b"second")
    assert await get(store, "key") == b"first"
    assert await all_of(store.list_partial()) == {}


async def test_two_writers_of_one_key_do_not_mix(store: Store) -> None:
    async with store.writer("key") as first:
        await first.write(b"first")
        second = store.writer("key")
        with pytest.raises(StoreFailed, match="in use"):
            await write_and_commit(second, b"second")
        await second.cancel()
        await first.commit()
    assert await get(store, "key") == b"first"


async def test_a_write_whose_object_was_deleted_fails_and_leaves_nothing(store: Store) -> None:
    async with store.writer("key") as writer:
        await writer.write(b"x" * MIB)
        await writer.flush()
        await store.delete("key")
        with pytest.raises(StoreFailed):
            await writer.commit()
    assert await is_empty(store)


async def test_many_writers_at_once_keep_apart(store: Store) -> None:
    data = {f"key{number}": os.urandom(300 * KIB + number) for number in range(20)}

    async def write(key: str) -> None:
        async with store.writer(key) as writer:
            for at in range(0, len(data[key]), 50_000):
                await writer.write(data[key][at : at + 50_000])
                await asyncio.sleep(0)
            await writer.commit()

    await asyncio.gather(*map(write, data))
    for key, expected in data.items():
        assert await get(store, key) == expected


async def test_a_cancelled_task_leaves_nothing(store: Store) -> None:
    begun = asyncio.Event()

    async def write() -> None:
        async with store.writer("key") as writer:
            while True:
                await writer.write(b"x" * 300_000)
                begun.set()
                await asyncio.sleep(0)

    task = asyncio.create_task(write())
    await begun.wait()
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await is_empty(store)


async def test_a_task_cancelled_while_it_commits_leaves_nothing_or_all(store: Store) -> None:
    for attempt in range(12):
        key = f"key{attempt}"
        writer = store.writer(key)
        await writer.write(b"x" * MIB)
        task = asyncio.create_task(writer.commit())
        await asyncio.sleep(attempt / 2000)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            await writer.cancel()
            with pytest.raises(KeyMissing):
                await store.stat(key)
        else:
            await writer.cancel()
            assert len(await get(store, key)) == MIB
    assert await all_of(store.list_partial()) == {}


# --- going on with a write --------------------------------------------------------------------------


async def test_a_detached_write_goes_on_where_it_was(store: Store) -> None:
    if not store.features.resumable:
        pytest.skip("the store says that its writers cannot be re-opened")
    async with store.writer("key") as writer:
        token = writer.token
        await writer.write(b"one ")
        assert await writer.flush() == 4
        await writer.write(b"two ")
        await writer.detach()
        await writer.detach()
        await writer.cancel()
    for word in (b"three ", b"four"):
        again = await store.reopen(token)
        assert again.offset in (8, 14)
        await again.write(word)
        token = again.token
        await again.detach()
    async with await store.reopen(token) as last:
        stored = await last.commit()
    assert stored.size_bytes == 18
    assert await get(store, "key") == b"one two three four"


async def test_a_reopened_write_can_be_cancelled(store: Store) -> None:
    if not store.features.resumable:
        pytest.skip("the store says that its writers cannot be re-opened")
    async with store.writer("key") as writer:
        await writer.write(b"x")
        await writer.detach()
    async with await store.reopen(writer.token):
        pass
    assert await is_empty(store)


async def test_a_write_that_goes_on_elsewhere_is_not_taken_over(store: Store) -> None:
    if not store.features.resumable:
        pytest.skip("the store says that its writers cannot be re-opened")
    async with store.writer("key") as writer:
        await writer.write(b"mine")
        await writer.flush()
        with pytest.raises(TransomError) as refused:
            await store.reopen(writer.token)
        assert refused.value.retryable
        await writer.commit()
    assert await get(store, "key") == b"mine"


async def test_an_unknown_token_is_a_missing_key(store: Store) -> None:
    for token in ("", "nothing", "../../etc/passwd", "key~", "\0", "ä", "x" * 5000):
        with pytest.raises(KeyMissing):
            await store.reopen(token)


async def test_the_token_of_an_ended_write_is_a_missing_key(store: Store) -> None:
    async with store.writer("committed") as committed:
        await committed.write(b"x")
        await committed.commit()
    async with store.writer("cancelled") as cancelled:
        await cancelled.write(b"x")
    async with store.writer("deleted") as deleted:
        await deleted.write(b"x")
        await deleted.detach()
    await store.delete("deleted")
    for writer in (committed, cancelled, deleted):
        with pytest.raises(KeyMissing):
            await store.reopen(writer.token)
    assert await get(store, "committed") == b"x"


WRITE_AND_DIE = """
import asyncio, os, signal, sys
from pathlib import Path
import msgspec
from transom.settings import StoreSettings
from transom.stores import open_store

async def main():
    settings = msgspec.json.decode(sys.argv[1], type=StoreSettings)
    store = open_store("tested", settings, Path(sys.argv[2]))
    writer = store.writer("key")
    await writer.write(b"a" * 3_000_000)
    print(await writer.flush(), writer.token, flush=True)
    await writer.write(b"b" * 3_000_000)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_another_process_goes_on_with_the_write_of_a_dead_one(
    case: Case, store: Store, tmp_path: Path
) -> None:
    if not (case.reaches and store.features.resumable):
        pytest.skip("other processes do not see this store")
    configured = msgspec.json.encode(case.configure(tmp_path)).decode()
    child = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", WRITE_AND_DIE, configured, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    flushed, token = child.stdout.split()
    assert flushed == "3000000"
    assert [entry.token for entry in (await all_of(store.list_partial())).values()] == [token]
    async with await store.reopen(token) as writer:
        offset = writer.offset
        assert 3_000_000 <= offset <= 6_000_000
        await writer.write(b"c" * 1000)
        stored = await writer.commit()
    assert stored.size_bytes == offset + 1000
    data = await get(store, "key")
    assert data == b"a" * 3_000_000 + b"b" * (offset - 3_000_000) + b"c" * 1000


# --- reading --------------------------------------------------------------------------------------

DATA = os.urandom(2 * MIB + 12345)
SIZE = len(DATA)


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (0, None), (0, SIZE), (0, 0), (5, 0), (0, 1), (SIZE - 1, 1), (SIZE - 1, None),
        (1000, 5), (KIB * 512 - 1, 2), (3, SIZE), (0, SIZE + 1), (SIZE - 5, 100), (SIZE, None),
        (SIZE, 10), (SIZE + 1, None), (10 * SIZE, 1), (2**62, 2**62), (MIB, MIB),
    ],
)  # fmt: skip
async def test_a_range_gives_its_bytes_cut_at_the_end(
    store: Store, offset: int, length: int | None
) -> None:
    await put(store, "key", *(DATA[at : at + 100_000] for at in range(0, SIZE, 100_000)))
    expected = DATA[offset:] if length is None else DATA[offset : offset + length]
    assert await get(store, "key", offset=offset, length=length) == expected


@given(st.data())
@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_range_of_any_chunks_gives_its_bytes(
    case: Case, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    chunks = data.draw(st.lists(st.binary(max_size=2000) | st.sampled_from([b"z" * 300_000])))
    whole = b"".join(chunks)
    offset = data.draw(st.integers(0, len(whole) + 5))
    length = data.draw(st.none() | st.integers(0, len(whole) + 5))
    folder = tmp_path_factory.mktemp("any")

    async def check() -> None:
        store = open_store("tested", case.configure(folder), folder)
        await put(store, "key", *chunks)
        expected = whole[offset:] if length is None else whole[offset : offset + length]
        assert await get(store, "key", offset=offset, length=length) == expected
        await store.close()

    asyncio.run(check())


async def test_a_range_cannot_be_negative(store: Store) -> None:
    await put(store, "key", b"x")
    for span in ({"offset": -1}, {"length": -1}):
        with pytest.raises(ValueError, match="negative"):
            await store.read("key", **span)


async def test_pieces_are_bytes_of_at_most_about_a_mebibyte(store: Store) -> None:
    await put(store, "key", os.urandom(5 * MIB))
    pieces = await pieces_of(await store.read("key"))
    assert all(type(piece) is bytes for piece in pieces)
    assert 0 < max(map(len, pieces)) <= MIB
    assert len(pieces) < 100


async def test_reading_what_is_not_there_fails_before_the_first_byte(store: Store) -> None:
    with pytest.raises(KeyMissing):
        await store.read("nothing")
    with pytest.raises(KeyMissing):
        await store.stat("nothing")


async def test_many_readers_of_one_object_each_get_all_of_it(store: Store) -> None:
    await put(store, "key", DATA)
    expected = hashlib.sha256(DATA).digest()

    async def read() -> bytes:
        digest = hashlib.sha256()
        reader = await store.read("key")
        async for piece in reader:
            digest.update(piece)
            await asyncio.sleep(0)
        await reader.close()
        return digest.digest()

    assert set(await asyncio.gather(*(read() for _ in range(30)))) == {expected}


async def test_an_open_reader_survives_the_deletion(store: Store) -> None:
    await put(store, "key", DATA)
    reader = await store.read("key")
    pieces = [await anext(aiter(reader))]
    await store.delete("key")
    pieces += [piece async for piece in reader]
    await reader.close()
    assert b"".join(pieces) == DATA


async def test_a_reader_may_be_closed_early_and_twice(store: Store) -> None:
    await put(store, "key", DATA)
    reader = await store.read("key")
    await anext(aiter(reader))
    await reader.close()
    await reader.close()
    unused = await store.read("key")
    await unused.close()
    assert await get(store, "key") == DATA


async def test_a_reader_whose_task_is_cancelled_can_be_closed(store: Store) -> None:
    await put(store, "key", DATA)
    reader = await store.read("key")

    async def read() -> None:
        async for _ in reader:
            await asyncio.sleep(60)

    task = asyncio.create_task(read())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await reader.close()


# --- names ----------------------------------------------------------------------------------------

GOOD_KEYS = [
    "a", "7", "_", "-", "ab", "a.", "a..", "A-b_c.D", "x" * 128, "com1", "a" * 2 + ".." + "b",
    "8c7b35e1-0f2e-4f5b-9d11-0d1f3a8e5c11.0f3a", "aB", "Ab",
]  # fmt: skip
BAD_KEYS = [
    "", ".", "..", ".a", "a/b", "/", "../x", "a\\b", "a b", "a\n", "a\0", "ä", "٣", "x" * 129, "a~",
]  # fmt: skip


async def test_every_allowed_key_works_and_keys_differ_by_case(store: Store) -> None:
    for key in GOOD_KEYS:
        await put(store, key, key.encode())
    assert set(await all_of(store.list())) == set(GOOD_KEYS)
    for key in GOOD_KEYS:
        assert await get(store, key) == key.encode()
        await store.delete(key)
    assert await is_empty(store)


@pytest.mark.parametrize("key", BAD_KEYS)
async def test_a_bad_key_is_refused_everywhere(store: Store, key: str) -> None:
    calls: list[Callable[[], Any]] = [lambda: store.writer(key), lambda: store.url(key)]
    calls += [lambda: store.local_path(key)]
    for call in calls:
        with pytest.raises(ValueError, match="is no key"):
            call()
    for method in (store.read, store.stat, store.delete):
        with pytest.raises(ValueError, match="is no key"):
            await method(key)


async def test_urls_are_stable_and_tell_keys_apart(store: Store) -> None:
    stored = await put(store, "key", b"x")
    assert stored.url == store.url("key")
    assert len({store.url(key) for key in GOOD_KEYS}) == len(GOOD_KEYS)
    assert "://" in stored.url


async def test_a_local_path_is_the_object_itself_if_there_are_any(store: Store) -> None:
    await put(store, "key", DATA)
    path = store.local_path("key")
    assert (path is not None) == store.features.local_paths
    if path is not None:
        assert path.read_bytes() == DATA


# --- deleting and listing -------------------------------------------------------------------------


async def test_delete_removes_and_may_be_repeated(store: Store) -> None:
    await put(store, "key", b"x")
    await store.delete("key")
    await store.delete("key")
    await store.delete("never-there")
    with pytest.raises(KeyMissing):
        await store.read("key")
    assert await is_empty(store)


async def test_delete_removes_partial_objects_too(store: Store) -> None:
    async with store.writer("key") as writer:
        await writer.write(b"x" * MIB)
        await writer.flush()
        await writer.detach()
    await store.delete("key")
    assert await is_empty(store)


async def test_lists_tell_all_that_is_there_and_no_more(case: Case, store: Store) -> None:
    for number in range(case.many):
        await put(store, f"key{number}", b"x" * number)
    async with store.writer("partial") as writer:
        await writer.write(b"y" * 1234)
        await writer.flush()
        complete = await all_of(store.list())
        partial = await all_of(store.list_partial())
        assert {key: entry.size_bytes for key, entry in complete.items()} == {
            f"key{number}": number for number in range(case.many)
        }
        assert all(entry.token is None for entry in complete.values())
        # What nobody can go on with may as well be in the memory of the writing process.
        assert not store.features.resumable or {
            (entry.key, entry.size_bytes, entry.token) for entry in partial.values()
        } == {("partial", 1234, writer.token)}
    assert await all_of(store.list_partial()) == {}


async def test_entries_tell_when_they_changed(store: Store) -> None:
    before = time.time() - 1
    await put(store, "key", b"x")
    entry = await store.stat("key")
    assert before < entry.modified_at < time.time() + 1
    assert (await all_of(store.list()))["key"] == entry


async def test_a_list_may_be_left_early(store: Store) -> None:
    for number in range(10):
        await put(store, f"key{number}", b"x")
    entries = store.list()
    async for _ in entries:
        break
    assert len(await all_of(store.list())) == 10


async def test_objects_may_come_and_go_while_they_are_listed(store: Store) -> None:
    for number in range(50):
        await put(store, f"a{number:02}", b"x")
    seen = set()
    async for entry in store.list():
        seen.add(entry.key)
        await store.delete(entry.key)
        await put(store, f"b{entry.key}", b"x") if not entry.key.startswith("b") else None
    assert seen >= {f"a{number:02}" for number in range(50)}


# --- the rest -------------------------------------------------------------------------------------


async def test_a_store_that_works_passes_its_check_and_stays_clean(store: Store) -> None:
    await store.check()
    assert await is_empty(store)


async def test_a_store_may_be_closed_twice(case: Case, tmp_path: Path) -> None:
    opened = open_store("tested", case.configure(tmp_path), tmp_path)
    await put(opened, "key", b"x")
    await opened.close()
    await opened.close()


async def test_a_store_that_can_resume_gives_tokens_fit_for_a_database_row(store: Store) -> None:
    async with store.writer("key") as writer:
        token = writer.token
        assert 0 < len(token) <= 1024
        assert token.isprintable()
        await writer.write(b"x")
        assert writer.token == token


async def test_a_store_tells_whether_others_see_it(case: Case, store: Store) -> None:
    assert store.features.shared == case.reaches


async def test_what_a_store_tells_of_itself_can_be_said_in_json(store: Store) -> None:
    told = store.properties()
    assert msgspec.json.decode(msgspec.json.encode(told)) == told
