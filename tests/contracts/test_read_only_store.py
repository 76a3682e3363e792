"""The promises of `transom.stores.store`, as far as a store without writers can keep them.

What others can change is on trial here too: a key stands for one object, and never for another that
took its place.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.test_store import BAD_KEYS, MIB, all_of, get, pieces_of
from tests.support.unruly import Asked, Reply, Source
from transom.errors import (
    ConfigurationError,
    FetchFailed,
    LocationRefused,
    PartsRefused,
    StoreFailed,
    StoreReadOnly,
    StoreRefused,
    StoreUnavailable,
    UrlRefused,
)
from transom.settings import Imports, Settings, StoreSettings
from transom.stores import open_store
from transom.stores.store import KeyMissing, Store

DATA = os.urandom(2 * MIB + 12345)
OTHER = os.urandom(len(DATA))
SIZE = len(DATA)
OPEN = Settings(
    imports=Imports(
        allowed_hosts=("127.0.0.1",),
        allowed_ports=(),
        retry_seconds=0.01,
        retries_max=1,
        read_timeout_seconds=2,
        rate_bytes_min=0,
    )
)


@pytest.fixture
async def source() -> AsyncIterator[Source]:
    async with Source(DATA) as running:
        yield running


def opened(tmp_path: Path, whole: Settings = OPEN) -> Store:
    return open_store("web", StoreSettings(driver="http"), tmp_path, whole=whole)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = opened(tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def key(store: Store, source: Source) -> str:
    return (await store.find(source.url)).key


async def without_length(asked: Asked, reply: Reply) -> None:
    """As a server of HTTP/1.0 that does not know how much it will send."""
    await reply.head(200, Connection="close")
    await reply.send(reply.source.data)
    reply.close()


# --- finding --------------------------------------------------------------------------------------


async def test_an_object_is_found_with_its_size_and_without_its_data(
    store: Store, source: Source
) -> None:
    found = await store.find(source.url)
    assert found.size_bytes == SIZE
    assert store.url(found.key) == source.url
    assert (await store.stat(found.key)).size_bytes == SIZE
    assert store.proves(found.key)


async def test_each_find_gives_a_key_of_its_own(store: Store, source: Source) -> None:
    assert (await store.find(source.url)).key != (await store.find(source.url)).key


async def test_a_fragment_is_not_asked_for(store: Store, source: Source) -> None:
    found = await store.find(f"{source.url}#new")
    assert await get(store, found.key) == DATA
    assert {asked.path for asked in source.asked} == {"/disk.raw"}


@pytest.mark.parametrize("status", [404, 410])
async def test_what_is_not_there_is_a_missing_key(
    store: Store, source: Source, status: int
) -> None:
    async def gone(asked: Asked, reply: Reply) -> None:
        await reply.answer(status)

    source.always = gone
    with pytest.raises(KeyMissing):
        await store.find(source.url)


async def test_a_server_that_fails_says_so(store: Store, source: Source) -> None:
    async def broken(asked: Asked, reply: Reply) -> None:
        await reply.answer(500)

    source.always = broken
    with pytest.raises(FetchFailed):
        await store.find(source.url)


async def test_nothing_at_the_url_is_refused(store: Store, source: Source) -> None:
    source.data = b""
    with pytest.raises(LocationRefused, match="no bytes"):
        await store.find(source.url)


@pytest.mark.parametrize(
    "url",
    ["http://[::1]/x", "http://10.0.0.1/x", "http://169.254.169.254/x", "file:///etc/passwd"],
)
async def test_the_guard_stands_before_every_url(store: Store, url: str) -> None:
    with pytest.raises(UrlRefused):
        await store.find(url)


async def test_the_guard_judges_redirects_too(store: Store, source: Source) -> None:
    async def away(asked: Asked, reply: Reply) -> None:
        await reply.answer(302, Location="http://169.254.169.254/latest")

    source.always = away
    with pytest.raises(UrlRefused):
        await store.find(source.url)


async def test_a_url_that_was_allowed_once_is_judged_again_at_each_read(
    key: str, tmp_path: Path
) -> None:
    closed = opened(tmp_path, Settings())
    with pytest.raises(StoreRefused):
        await closed.read(key)


async def test_an_image_larger_than_allowed_is_not_found(tmp_path: Path, source: Source) -> None:
    from transom.errors import ImageTooLarge
    from transom.settings import LimitSettings

    small = opened(
        tmp_path, Settings(imports=OPEN.imports, limits=LimitSettings(image_size_bytes_max=1000))
    )
    with pytest.raises(ImageTooLarge):
        await small.find(source.url)


async def test_a_size_that_comes_with_no_data_is_asked_for_with_head(
    store: Store, source: Source
) -> None:
    source.fields.clear()

    async def by_head(asked: Asked, reply: Reply) -> None:
        if len(source.asked) == 2:
            await reply.head(200, Content_Length=SIZE)
            reply.close()
        else:
            await without_length(asked, reply)

    source.always = by_head
    found = await store.find(source.url)
    assert found.size_bytes == SIZE
    assert await get(store, found.key) == DATA


async def test_a_size_that_nobody_tells_is_refused(store: Store, source: Source) -> None:
    source.always = without_length
    with pytest.raises(LocationRefused, match="size"):
        await store.find(source.url)


# --- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (0, None), (0, SIZE), (0, 0), (5, 0), (0, 1), (SIZE - 1, 1), (SIZE - 1, None), (1000, 5),
        (3, SIZE), (0, SIZE + 1), (SIZE - 5, 100), (SIZE, None), (SIZE, 10), (SIZE + 1, None),
        (10 * SIZE, 1), (2**62, 2**62), (MIB, MIB),
    ],
)  # fmt: skip
async def test_a_range_gives_its_bytes_cut_at_the_end(
    store: Store, key: str, offset: int, length: int | None
) -> None:
    expected = DATA[offset:] if length is None else DATA[offset : offset + length]
    assert await get(store, key, offset=offset, length=length) == expected


async def test_a_range_cannot_be_negative(store: Store, key: str) -> None:
    for span in ({"offset": -1}, {"length": -1}):
        with pytest.raises(ValueError, match="negative"):
            await store.read(key, **span)


async def test_a_source_without_ranges_gives_the_whole_and_beginnings(
    store: Store, source: Source, key: str
) -> None:
    source.takes_ranges = False
    assert await get(store, key) == DATA
    assert await get(store, key, length=100) == DATA[:100]
    with pytest.raises(PartsRefused):
        await store.read(key, offset=1)


async def test_a_source_without_validators_gives_the_whole_alone(
    store: Store, source: Source
) -> None:
    source.fields.clear()
    key = (await store.find(source.url)).key
    assert not store.proves(key)
    assert await get(store, key) == DATA
    for span in ({"offset": 1}, {"length": 1}):
        with pytest.raises(PartsRefused):
            await store.read(key, **span)


async def test_pieces_are_bytes_of_at_most_about_a_mebibyte(store: Store, key: str) -> None:
    pieces = await pieces_of(await store.read(key))
    assert all(type(piece) is bytes for piece in pieces)
    assert 0 < max(map(len, pieces)) <= MIB


async def test_many_readers_of_one_object_each_get_all_of_it(store: Store, key: str) -> None:
    expected = hashlib.sha256(DATA).digest()

    async def read() -> bytes:
        return hashlib.sha256(await get(store, key)).digest()

    assert set(await asyncio.gather(*(read() for _ in range(10)))) == {expected}


async def test_a_connection_that_breaks_is_taken_up_at_the_byte(
    store: Store, source: Source, key: str
) -> None:
    async def cut(asked: Asked, reply: Reply) -> None:
        await reply.serve(asked, at_most=MIB)
        await asyncio.sleep(0.02)
        reply.close()

    source.manners = [cut]
    assert await get(store, key) == DATA


async def test_a_reader_may_be_closed_early_and_twice(store: Store, key: str) -> None:
    reader = await store.read(key)
    await anext(aiter(reader))
    await reader.close()
    await reader.close()
    unused = await store.read(key)
    await unused.close()


async def test_a_reader_whose_task_is_cancelled_can_be_closed(store: Store, key: str) -> None:
    reader = await store.read(key)

    async def read() -> None:
        async for _ in reader:
            await asyncio.sleep(60)

    task = asyncio.create_task(read())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await reader.close()


# --- objects that change --------------------------------------------------------------------------


async def test_another_validator_is_another_object(store: Store, source: Source, key: str) -> None:
    source.data, source.fields = OTHER, {"ETag": '"two"'}
    for span in ({}, {"offset": 5}, {"length": 5}):
        with pytest.raises(KeyMissing):
            await store.read(key, **span)
    with pytest.raises(KeyMissing):
        await store.stat(key)


async def test_a_validator_that_is_gone_is_another_object(
    store: Store, source: Source, key: str
) -> None:
    source.fields.clear()
    with pytest.raises(KeyMissing):
        await store.read(key)


async def test_another_size_is_another_object(store: Store, source: Source, key: str) -> None:
    for data in (DATA[:-1], DATA + b"x"):
        source.data = data
        for span in ({}, {"offset": 5}):
            with pytest.raises(KeyMissing):
                await store.read(key, **span)


async def test_a_digest_proves_what_no_validator_does(store: Store, source: Source) -> None:
    source.fields.clear()
    key = (await store.find(source.url, proves=True)).key
    assert store.proves(key)
    assert await get(store, key) == DATA
    source.data = OTHER
    reader = await store.read(key)
    got = b""

    async def read() -> None:
        nonlocal got
        async for piece in reader:
            got += piece

    with pytest.raises(StoreFailed):
        await read()
    await reader.close()
    assert len(got) < SIZE, "the last piece is never let go"


async def test_more_or_fewer_bytes_than_before_are_never_the_whole(
    store: Store, source: Source
) -> None:
    source.fields.clear()

    async def by_head(asked: Asked, reply: Reply) -> None:
        await reply.head(200, Content_Length=SIZE)
        reply.close()

    source.manners = [without_length, by_head]
    source.always = without_length
    key = (await store.find(source.url)).key
    for data in (DATA[:-1], DATA + b"x"):
        source.data = data
        with pytest.raises((StoreFailed, StoreUnavailable)):
            await get(store, key)


# --- the rest -------------------------------------------------------------------------------------


async def test_nothing_can_be_written(store: Store) -> None:
    assert not store.features.writable
    with pytest.raises(StoreReadOnly):
        store.writer("key")
    for token in ("", "nothing", "../../etc/passwd", "\0", "x" * 5000):
        with pytest.raises(KeyMissing):
            await store.reopen(token)


async def test_reading_what_is_not_there_fails_before_the_first_byte(store: Store) -> None:
    for name in ("nothing", "no.thing", "a.W10", "x" * 128):
        with pytest.raises(KeyMissing):
            await store.read(name)
        with pytest.raises(KeyMissing):
            await store.stat(name)


@pytest.mark.parametrize("bad", [each for each in BAD_KEYS if len(each) < 129])
async def test_a_bad_key_is_refused_everywhere(store: Store, bad: str) -> None:
    calls: list[Any] = [store.writer, store.url, store.local_path]
    for call in calls:
        with pytest.raises(ValueError, match="is no key"):
            call(bad)
    for method in (store.read, store.stat, store.delete):
        with pytest.raises(ValueError, match="is no key"):
            await method(bad)


async def test_delete_removes_nothing_and_may_be_repeated(store: Store, key: str) -> None:
    await store.delete(key)
    await store.delete(key)
    await store.delete("never-there")
    assert await get(store, key) == DATA


async def test_there_is_nothing_to_list(store: Store, key: str) -> None:
    assert not store.features.lists
    assert await all_of(store.list()) == {}
    assert await all_of(store.list_partial()) == {}
    assert store.local_path(key) is None
    assert store.properties() == {}


async def test_it_passes_its_check_and_may_be_closed_twice(tmp_path: Path) -> None:
    made = opened(tmp_path)
    await made.check()
    await made.close()
    await made.close()


def test_an_unknown_option_is_refused_at_the_start(tmp_path: Path) -> None:
    wrong = StoreSettings(driver="http", options={"pazh": 1})
    with pytest.raises(ConfigurationError, match="pazh"):
        open_store("web", wrong, tmp_path)
