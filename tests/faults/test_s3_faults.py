"""What the S3 store does when its server refuses, stalls, breaks off, forgets and goes away: behind a
real radosgw, through a proxy that misbehaves as it is told."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.contracts.test_store import all_of, get, is_empty, put
from tests.support import ceph, s3
from tests.support.faulty import (
    FaultyServer,
    break_answer,
    delay,
    lose_answer,
    refuse,
    reset_answer,
    reset_at_once,
    reset_body,
    slow,
    stall_answer,
    stall_body,
    stall_in_answer,
)
from transom.errors import StoreFailed, StoreRefused, StoreUnavailable, TransomError
from transom.settings import StoreSettings
from transom.stores.drivers.s3 import S3Store
from transom.stores.drivers.s3 import bucket as bucket_module
from transom.stores.drivers.s3.bucket import TAIL
from transom.stores.store import KeyMissing, Reader

pytestmark = pytest.mark.faults

MIB = 1024 * 1024
DATA = os.urandom(12 * MIB + 12345)
"""Three parts of five MiB, the last of them short."""
LOST_ANSWERS = [reset_at_once(), lose_answer(), stall_answer()]


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer(ceph.gateway().url) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_module, "_PAUSE_SECONDS", 0.02)


def settings(server: FaultyServer, folder: Path, **more: Any) -> StoreSettings:
    quick: dict[str, Any] = {
        "endpoint_url": server.url,
        "prefix": s3.prefix_of(folder),
        "part_size_bytes": 5 * MIB,
        "timeout_seconds": 1.0,
        "retries_max": 3,
    }
    return s3.settings(**quick | more)


@pytest.fixture
async def store(server: FaultyServer, tmp_path: Path) -> AsyncIterator[S3Store]:
    opened = S3Store("tested", settings(server, tmp_path), tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
async def behind(tmp_path: Path) -> AsyncIterator[S3Store]:
    """The same store by the straight way: what is really there."""
    opened = S3Store("tested", s3.settings(prefix=s3.prefix_of(tmp_path)), tmp_path)
    yield opened
    await opened.close()


async def write(store: S3Store, data: bytes = DATA, key: str = "key") -> None:
    await put(store, key, *(data[at : at + 700_000] for at in range(0, len(data), 700_000)))


# --- writing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        refuse(500, "InternalError"),
        refuse(503, "SlowDown"),
        refuse(503, "ServiceUnavailable"),
        refuse(400, "RequestTimeout"),
        refuse(400, "BadDigest"),
        refuse(429, "TooManyRequests"),
        reset_at_once(),
        reset_body(1 * MIB),
        stall_body(1 * MIB),
        stall_answer(),
        lose_answer(),
    ],
    ids=["500", "503", "away", "timeout", "digest", "429", "reset", "reset-body", "stall-body",
         "stall-answer", "lost-answer"],
)  # fmt: skip
async def test_a_part_that_fails_is_sent_again(
    server: FaultyServer, store: S3Store, fault: Any
) -> None:
    failing = server.add(fault, method="PUT", path="partNumber=2", times=2)
    await write(store)
    assert failing.done == 2
    server.clear()
    assert await get(store, "key") == DATA
    assert await all_of(store.list_partial()) == {}


@pytest.mark.parametrize("data", [b"small", DATA], ids=["one", "parts"])
@pytest.mark.parametrize("fault", LOST_ANSWERS, ids=["reset", "lost", "stalled"])
@pytest.mark.parametrize("request_of", ["begin", "end"])
async def test_a_lost_answer_costs_nothing_but_time(
    server: FaultyServer, store: S3Store, behind: S3Store, data: bytes, fault: Any, request_of: str
) -> None:
    if len(data) < MIB:
        server.add(fault, method="PUT", times=2)
    elif request_of == "begin":
        server.add(fault, method="POST", path="?uploads", times=2)
    else:
        server.add(fault, method="POST", path="uploadId=", times=2)
    await write(store, data)
    server.clear()
    assert await get(behind, "key") == data
    assert await all_of(behind.list_partial()) == {}, "uploads that nobody named were left"
    assert not await behind._bucket.uploads("key")


@pytest.mark.parametrize("data", [b"small", DATA], ids=["one", "parts"])
@pytest.mark.parametrize(
    "fault",
    [refuse(503), reset_at_once(), stall_answer(), lose_answer()],
    ids=["refused", "reset", "stalled", "lost"],
)
async def test_a_write_into_a_server_that_stays_broken_is_unavailable_and_leaves_nothing(
    server: FaultyServer, store: S3Store, behind: S3Store, data: bytes, fault: Any
) -> None:
    server.add(fault, method="PUT")
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await write(store, data)
    assert time.monotonic() - begun < 15, "the bounds did not hold"
    assert await is_empty(behind)
    assert not await behind._bucket.uploads("key")


async def test_a_completion_that_never_comes_through_leaves_nothing(
    server: FaultyServer, store: S3Store, behind: S3Store
) -> None:
    server.add(refuse(500, "InternalError"), method="POST", path="uploadId=")
    with pytest.raises(StoreUnavailable):
        await write(store)
    assert await is_empty(behind)
    assert not await behind._bucket.uploads("key")


async def test_a_completion_that_was_done_counts_although_no_attempt_says_so(
    server: FaultyServer, store: S3Store, behind: S3Store
) -> None:
    server.add(lose_answer(), method="POST", path="uploadId=")
    await write(store)
    assert await get(behind, "key") == DATA


async def test_a_write_that_cannot_be_undone_now_stays_listed(
    server: FaultyServer, store: S3Store, behind: S3Store
) -> None:
    writer = store.writer("key")
    await writer.write(DATA)
    await writer.flush()
    server.go_away()
    await writer.cancel()
    server.clear()
    left = await all_of(behind.list_partial())
    assert set(left) == {"key"}
    assert left["key"].token == "key"
    await behind.delete("key")
    assert await is_empty(behind)
    assert not await behind._bucket.uploads("key")


async def test_a_server_that_comes_back_is_written_to_without_a_restart(
    server: FaultyServer, store: S3Store
) -> None:
    server.go_away()
    with pytest.raises(StoreUnavailable, match=r"cannot be reached|broke"):
        await write(store, b"x")
    with pytest.raises(StoreUnavailable):
        await store.check()
    server.clear()
    await store.check()
    await write(store, b"y", "other")
    assert await get(store, "other") == b"y"


async def test_a_slow_server_is_no_fault(server: FaultyServer, tmp_path: Path) -> None:
    server.add(slow(2 * MIB), path="key")
    slow_settings = settings(server, tmp_path, part_size_bytes=12 * MIB, timeout_seconds=4.0)
    store = S3Store("tested", slow_settings, tmp_path)
    begun = time.monotonic()
    await write(store)
    assert time.monotonic() - begun > 4
    assert not store._bucket.repeats
    begun = time.monotonic()
    assert await get(store, "key") == DATA
    assert time.monotonic() - begun > 4
    await store.close()


async def test_parts_that_another_process_wrote_over_make_no_object(
    store: S3Store, behind: S3Store
) -> None:
    async with store.writer("key") as writer:
        await writer.write(DATA)
        await writer.flush()
        frozen = await behind.reopen("key")
        upload = (await behind._bucket.uploads("key"))[0]["UploadId"]
        await frozen.detach()
        await behind._bucket.call(
            "upload_part", Key=behind._bucket.path("key"), UploadId=upload, PartNumber=1,
            body=_buffer(b"z" * (5 * MIB)),
        )  # fmt: skip
        with pytest.raises(StoreFailed, match="repeat"):
            await writer.commit()
    assert await is_empty(behind)


async def test_a_commit_after_the_object_was_deleted_elsewhere_makes_none(
    store: S3Store, behind: S3Store
) -> None:
    for data in (b"x" * 1000, DATA):
        async with store.writer("key") as writer:
            await writer.write(data)
            await writer.flush()
            await behind.delete("key")
            with pytest.raises(StoreFailed, match="removed"):
                await writer.commit()
        assert await is_empty(behind)


async def _exhaust(reader: Reader) -> None:
    async for _ in reader:
        pass


def _buffer(data: bytes) -> Any:
    from transom.stores.drivers.s3.parts import Buffer

    buffer = Buffer()
    buffer.write(data)
    return buffer


# --- going on -------------------------------------------------------------------------------------


async def test_a_write_goes_on_after_a_gap_in_its_parts(
    server: FaultyServer, store: S3Store, behind: S3Store
) -> None:
    server.add(refuse(503), method="PUT", path="partNumber=2")
    writer = store.writer("key")
    await writer.write(DATA)
    with pytest.raises(StoreUnavailable):
        await writer.flush()
    with pytest.raises(StoreUnavailable):
        await writer.detach()
    server.clear()
    async with await store.reopen("key") as again:
        assert again.offset == 5 * MIB
        await again.write(DATA[again.offset :])
        await again.commit()
    assert await get(behind, "key") == DATA


async def test_a_tail_outlives_its_process_and_is_gone_after_the_commit(
    store: S3Store, behind: S3Store
) -> None:
    async with store.writer("key") as writer:
        await writer.write(DATA[: 6 * MIB])
        assert await writer.flush() == 6 * MIB
        await writer.write(DATA[6 * MIB : 7 * MIB])
        assert await writer.flush() == 7 * MIB
        await writer.detach()
    async with await behind.reopen("key") as again:
        assert again.offset == 7 * MIB
        await again.write(DATA[7 * MIB :])
        await again.commit()
    assert await get(behind, "key") == DATA
    assert not await store._bucket.head(store._bucket.tail("key"))


async def test_a_write_goes_on_after_a_flush_that_failed_or_was_cancelled(
    server: FaultyServer, store: S3Store, behind: S3Store
) -> None:
    async with store.writer("key") as writer:
        await writer.write(DATA[: 3 * MIB])
        server.add(reset_body(1 * MIB), method="PUT")
        with pytest.raises(StoreUnavailable):
            await writer.flush()
        server.clear()
        await writer.write(DATA[3 * MIB : 4 * MIB])
        server.add(delay(0.4), method="PUT")
        flushing = asyncio.create_task(writer.flush())
        await asyncio.sleep(0.1)
        flushing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flushing
        server.clear()
        await writer.write(DATA[4 * MIB :])
        await writer.commit()
    assert await get(behind, "key") == DATA
    assert await all_of(behind.list_partial()) == {}


async def test_a_tail_that_parts_have_passed_is_not_taken_up(
    store: S3Store, behind: S3Store
) -> None:
    async with store.writer("key") as writer:
        await writer.write(DATA[:100])
        await writer.flush()
        await writer.write(DATA[100 : 11 * MIB])
        await writer._settle_parts()
        await writer._stop()
        # As if the process had died: the tail of long ago, and two parts.
        writer._is_over = True
        writer._let_go()
    async with await behind.reopen("key") as again:
        assert again.offset == 10 * MIB
        await again.write(DATA[again.offset :])
        await again.commit()
    assert await get(behind, "key") == DATA


async def test_a_short_last_part_without_completion_is_written_again(
    store: S3Store, behind: S3Store, server: FaultyServer
) -> None:
    server.add(refuse(503), method="POST", path="uploadId=")
    writer = store.writer("key")
    await writer.write(DATA)
    with pytest.raises(StoreUnavailable):
        await writer.commit()
    await writer.detach()
    async with await behind.reopen("key") as again:
        assert again.offset == 10 * MIB
        await again.write(DATA[again.offset :] + b"and more")
        await again.commit()
    assert await get(behind, "key") == DATA + b"and more"


async def test_what_a_crash_after_the_completion_left_is_no_partial_object(
    store: S3Store, behind: S3Store
) -> None:
    await write(store)
    bucket = store._bucket
    await bucket.call("put_object", Key=bucket.tail("key"), body=_buffer(b"left"))
    await bucket.call("create_multipart_upload", Key=bucket.path("key"))
    with pytest.raises(KeyMissing):
        await behind.reopen("key")
    await bucket.call("put_object", Key=bucket.tail("key"), body=_buffer(b"left"))
    assert await all_of(behind.list_partial()) == {}
    assert not await bucket.head(bucket.tail("key"))
    assert not await bucket.uploads("key")
    assert await get(behind, "key") == DATA


WRITE_AND_DIE = """
import asyncio, os, random, signal, sys, threading, time
from pathlib import Path
import msgspec
from transom.settings import StoreSettings
from transom.stores import open_store

async def main():
    settings = msgspec.json.decode(sys.argv[1], type=StoreSettings)
    store = open_store("tested", settings, Path("."))
    await store.check()
    print("ready", flush=True)
    data = sys.stdin.buffer.read()
    async with store.writer("key") as writer:
        for at in range(0, len(data), 400_000):
            await writer.write(data[at : at + 400_000])
            if at % 4_000_000 == 0:
                await writer.flush()
        await writer.commit()
    print("committed", flush=True)
    await store.close()

asyncio.run(main())
"""


async def test_a_write_killed_at_any_moment_is_whole_or_goes_on(
    behind: S3Store, tmp_path: Path
) -> None:
    configured = s3.settings(prefix=s3.prefix_of(tmp_path), part_size_bytes=5 * MIB)
    argument = msgspec.json.encode(configured).decode()
    rounds = int(os.environ.get("TRANSOM_TEST_S3_KILLS", "3"))
    for _ in range(rounds):
        child = subprocess.Popen(  # noqa: ASYNC220 - it is to be killed
            [sys.executable, "-c", WRITE_AND_DIE, argument],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        await asyncio.to_thread(child.stdout.readline)
        child.stdin.write(DATA)
        child.stdin.close()
        await asyncio.sleep(random.uniform(0, 0.8))
        child.send_signal(signal.SIGKILL)
        said = await asyncio.to_thread(child.stdout.read)
        child.stdout.close()
        await asyncio.to_thread(child.wait)
        # The gateway may still be at the last request of the dead.
        await asyncio.sleep(1)
        try:
            writer = await behind.reopen("key")
        except KeyMissing:
            complete = await all_of(behind.list())
            assert complete or b"committed" not in said
        else:
            async with writer:
                await writer.write(DATA[writer.offset :])
                await writer.commit()
            complete = await all_of(behind.list())
        if complete:
            assert hashlib.md5(await get(behind, "key")).digest() == hashlib.md5(DATA).digest()
        await behind.delete("key")
        assert await is_empty(behind)


# --- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [break_answer(1_000_000), reset_answer(1_000_000), stall_in_answer(2_000_000),
     break_answer(0), reset_at_once(), refuse(503), refuse(500, "InternalError"), stall_answer()],
    ids=["broken", "reset", "stalled", "broken-at-once", "reset-at-once", "503", "500", "silent"],
)  # fmt: skip
async def test_a_read_that_breaks_goes_on_where_it_was(
    server: FaultyServer, store: S3Store, behind: S3Store, fault: Any
) -> None:
    await write(behind)
    breaking = server.add(fault, method="GET", path="/key", times=2)
    assert await get(store, "key") == DATA
    assert breaking.done == 2
    server.clear()
    server.add(fault, method="GET", path="/key", times=2)
    assert await get(store, "key", offset=7, length=5 * MIB) == DATA[7 : 7 + 5 * MIB]


async def test_a_read_that_moves_on_may_break_as_often_as_it_likes(
    server: FaultyServer, store: S3Store, behind: S3Store
) -> None:
    await write(behind)
    breaking = server.add(break_answer(900_000), method="GET", path="/key")
    assert await get(store, "key") == DATA
    assert breaking.done > 2 * store._options.retries_max


async def test_a_read_that_stays_broken_is_unavailable_and_never_short(
    server: FaultyServer, store: S3Store, behind: S3Store
) -> None:
    await write(behind)
    server.add(break_answer(900_000), method="GET", path="/key", times=1)
    server.add(refuse(503), method="GET", path="/key")
    reader = await store.read("key")
    got: list[bytes] = []

    async def take() -> None:
        async for piece in reader:
            got.append(piece)  # noqa: PERF401 - what came before the failure counts

    with pytest.raises(StoreUnavailable):
        await take()
    await reader.close()
    assert 0 < sum(map(len, got)) < len(DATA)


async def test_a_broken_read_never_joins_two_objects(
    server: FaultyServer, store: S3Store, behind: S3Store
) -> None:
    await write(behind)
    server.add(break_answer(900_000), method="GET", path="/key")
    reader = await store.read("key")
    await anext(aiter(reader))
    path = behind._bucket.path("key")
    await behind._bucket.call("put_object", Key=path, body=_buffer(DATA[::-1]))
    with pytest.raises(StoreFailed, match="replaced"):
        await asyncio.wait_for(_exhaust(reader), 30)
    await reader.close()


async def test_a_reader_that_waits_for_its_client_is_not_taken_for_a_stall(
    store: S3Store, behind: S3Store
) -> None:
    await write(behind)
    reader = await store.read("key")
    pieces = [await anext(aiter(reader))]
    await asyncio.sleep(2 * store._options.timeout_seconds)
    pieces += [piece async for piece in reader]
    assert b"".join(pieces) == DATA


# --- what servers say -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (403, "AccessDenied", "StoreUnavailable.*allowed"),
        (403, "InvalidAccessKeyId", "StoreUnavailable.*credentials"),
        (403, "SignatureDoesNotMatch", "StoreUnavailable.*credentials"),
        (403, "RequestTimeTooSkewed", "StoreUnavailable.*clocks"),
        (403, "QuotaExceeded", "StoreFull.*full"),
        (507, "InsufficientStorage", "StoreFull.*full"),
        (404, "NoSuchBucket", "StoreUnavailable.*bucket does not exist"),
        (400, "EntityTooLarge", "StoreFailed.*EntityTooLarge"),
        (501, "NotImplemented", "StoreUnavailable.*NotImplemented"),
    ],
)
async def test_refusals_tell_what_to_do(
    server: FaultyServer, store: S3Store, status: int, code: str, expected: str
) -> None:
    server.add(refuse(status, code), method="PUT")
    with pytest.raises(TransomError) as refused:
        await write(store, b"x")
    told = f"{type(refused.value).__name__} {refused.value}"
    assert re.search(expected, told), told
    secret = ceph.gateway().secret_key
    assert secret not in told
    assert ceph.gateway().access_key not in told


async def test_a_deletion_that_is_not_allowed_is_refused(
    server: FaultyServer, store: S3Store, behind: S3Store
) -> None:
    await write(behind, b"x")
    server.add(refuse(403, "AccessDenied"), method="DELETE")
    with pytest.raises(StoreRefused, match="allowed"):
        await store.delete("key")
    assert await get(behind, "key") == b"x"


async def test_a_deletion_that_fails_changes_nothing_that_is_complete(
    server: FaultyServer, store: S3Store, behind: S3Store
) -> None:
    await write(behind, b"x")
    server.add(refuse(503), method="DELETE")
    with pytest.raises(StoreUnavailable):
        await store.delete("key")
    server.clear()
    assert await get(store, "key") == b"x"
    server.add(lose_answer(), method="DELETE", times=1)
    await store.delete("key")
    assert await is_empty(behind)


async def test_a_deletion_that_fails_does_nothing_any_more_when_that_is_told(
    server: FaultyServer, store: S3Store, behind: S3Store
) -> None:
    await write(behind, b"x")
    server.add(refuse(403, "AccessDenied"), method="DELETE", path=TAIL)
    server.add(delay(0.5), method="DELETE")
    with pytest.raises(StoreRefused, match="allowed"):
        await store.delete("key")
    assert await is_empty(behind)


async def test_a_bucket_that_is_gone_is_not_an_empty_store(
    server: FaultyServer, tmp_path: Path
) -> None:
    lost = S3Store("tested", settings(server, tmp_path, bucket="no-such-bucket"), tmp_path)
    for call in (
        lost.check(), lost.stat("key"), lost.read("key"), lost.delete("key"), all_of(lost.list()),
        all_of(lost.list_partial()), write(lost, b"x"), lost.reopen("key"),
    ):  # fmt: skip
        with pytest.raises(StoreUnavailable, match="bucket does not exist"):
            await call
    await lost.close()


async def test_a_check_writes_only_now_and_then(server: FaultyServer, store: S3Store) -> None:
    for _ in range(5):
        await store.check()
    assert len(server.requests("PUT")) == 1
    assert len(server.requests("GET", "list-type=2")) == 5
    server.add(refuse(403, "AccessDenied"), method="PUT")
    await store.check()
    server.add(refuse(403, "AccessDenied"), method="GET", times=1)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="allowed"):
            await store.check()


async def test_what_is_cancelled_in_the_middle_of_anything_leaves_nothing(
    server: FaultyServer, store: S3Store, behind: S3Store
) -> None:
    server.add(delay(0.03))
    for moment in range(8):
        task = asyncio.create_task(write(store, DATA[: 6 * MIB]))
        await asyncio.sleep(moment * 0.05)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            assert await is_empty(behind)
        else:
            await store.delete("key")
        assert not await behind._bucket.uploads("key")
