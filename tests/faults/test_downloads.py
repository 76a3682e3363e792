"""Downloads from sources that stall, reset, lie, forget and change: whole, or with a reason."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import socket
import ssl
import subprocess
import time
import tracemalloc
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from tests.support.unruly import Asked, Manner, Reply, Source, well
from transom.errors import FetchFailed, ImageTooLarge, SourceChanged, UrlRefused
from transom.remote.fetch import WINDOW_BYTES, open_download
from transom.remote.guard import Guard, Resolver
from transom.remote.wire import _check_peer
from transom.settings import Imports, Settings

pytestmark = pytest.mark.faults

MIB = 1024 * 1024
SMALL = os.urandom(300_000)
LARGE = os.urandom(5 * WINDOW_BYTES + 12345)


def guard(
    *, resolver: Resolver | None = None, tls: ssl.SSLContext | None = None, **imports: Any
) -> Guard:
    quick: dict[str, Any] = {
        "allowed_hosts": ("127.0.0.1",),
        "allowed_ports": (),
        "connect_timeout_seconds": 2.0,
        "read_timeout_seconds": 30.0,
        "retries_max": 3,
        "retry_seconds": 0.01,
        "retry_seconds_max": 0.05,
    }
    settings = Settings(imports=Imports(**(quick | imports)))
    return Guard.open(settings, resolver=resolver, tls=tls)


def impatient(seconds: float = 0.3, **imports: Any) -> Guard:
    """A guard for sources that hang: it does not wait long for a byte."""
    return guard(read_timeout_seconds=seconds, **imports)


async def fetched(urls: str | Sequence[str], judge: Guard | None = None, **options: Any) -> bytes:
    found = bytearray()
    urls = [urls] if isinstance(urls, str) else urls
    async with open_download(judge or guard(), urls, **options) as download:
        async for chunk in download:
            assert 0 < len(chunk) <= MIB
            found += chunk
        assert download.position == download.offset + len(found)
        if download.size_bytes is not None:
            assert download.position == download.size_bytes
    return bytes(found)


# --- manners ---


def cut_after(size_bytes: int, *, reset: bool = False) -> Manner:
    """Break the connection after so many bytes of the body."""

    async def manner(asked: Asked, reply: Reply) -> None:
        await reply.serve(asked, at_most=size_bytes)
        # What was sent has to arrive before the reset takes it away.
        await asyncio.sleep(0.02)
        reply.reset() if reset else reply.close()

    return manner


def stall_after(size_bytes: int) -> Manner:
    """Say nothing more after so many bytes of the body."""

    async def manner(asked: Asked, reply: Reply) -> None:
        await reply.serve(asked, at_most=size_bytes)
        await reply.hang()

    return manner


def status(number: int, **fields: object) -> Manner:
    """Answer with a status."""

    async def manner(asked: Asked, reply: Reply) -> None:
        await reply.answer(number, b"no", **fields)

    return manner


def redirect(url: str, number: int = 302) -> Manner:
    """Send elsewhere."""
    return status(number, Location=url)


async def hang(asked: Asked, reply: Reply) -> None:
    """Take the request and say nothing."""
    await reply.hang()


async def vanish(asked: Asked, reply: Reply) -> None:
    """Take the request and reset."""
    reply.reset()


async def garbage(asked: Asked, reply: Reply) -> None:
    """Answer with something else than HTTP."""
    await reply.send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    reply.close()


# --- what goes well ---


@pytest.mark.parametrize("data", [b"", b"x", SMALL, LARGE[: 2 * WINDOW_BYTES], LARGE],
                         ids=["empty", "one byte", "small", "two windows", "large"])  # fmt: skip
@pytest.mark.parametrize("takes_ranges", [True, False], ids=["ranges", "no ranges"])
@pytest.mark.parametrize("etag", ['"one"', 'W/"one"', None], ids=["strong", "weak", "none"])
@pytest.mark.parametrize("parallel", [1, 4])
async def test_all_comes_as_it_is(
    data: bytes, takes_ranges: bool, etag: str | None, parallel: int
) -> None:
    async with Source(data) as source:
        source.takes_ranges = takes_ranges
        source.fields = {"ETag": etag} if etag else {}
        assert await fetched(source.url, guard(parallel_ranges=parallel)) == data


async def test_size_and_validator_are_known_before_the_first_byte() -> None:
    async with Source(LARGE) as source, open_download(guard(), [source.url]) as download:
        assert (download.size_bytes, download.validator, download.offset) == (
            len(LARGE),
            '"one"',
            0,
        )


async def test_a_large_source_is_read_side_by_side_over_few_connections() -> None:
    async with Source(LARGE) as source:
        source.latency_seconds = 0.01
        assert await fetched(source.url, guard(parallel_ranges=3)) == LARGE
        assert len(source.asked) == 6
        assert source.connections <= 3


async def test_without_a_strong_validator_one_connection_reads_all() -> None:
    async with Source(LARGE) as source:
        source.fields = {"ETag": 'W/"one"'}
        assert await fetched(source.url) == LARGE
        assert source.ranges[1:] == [None]


async def test_nothing_is_unpacked_on_the_way() -> None:
    async with Source(SMALL) as source:
        assert await fetched(source.url) == SMALL
        assert source.asked[0].headers["accept-encoding"] == "identity"

        source.fields = {"Content-Encoding": "gzip"}
        assert await fetched(f"{source.url}.gz?x") == SMALL
        with pytest.raises(FetchFailed, match="packs the data"):
            await fetched(source.url)


async def test_an_old_date_is_a_validator_and_a_new_one_is_not() -> None:
    old = {
        "Last-Modified": "Tue, 01 Jul 2025 10:00:00 GMT",
        "Date": "Tue, 01 Jul 2025 10:01:00 GMT",
    }
    new = {
        "Last-Modified": "Tue, 01 Jul 2025 10:00:00 GMT",
        "Date": "Tue, 01 Jul 2025 10:00:59 GMT",
    }
    async with Source(SMALL) as source:
        for fields, validator in ((old, old["Last-Modified"]), (new, None)):
            source.fields = dict(fields)
            async with open_download(guard(), [source.url]) as download:
                assert download.validator == validator


async def test_the_callers_headers_do_not_follow_a_redirect_elsewhere() -> None:
    async with Source(SMALL) as other, Source() as source:
        source.always = redirect(other.url)
        assert await fetched(source.url, headers={"X-Auth-Token": "secret"}) == SMALL
        assert source.asked[0].headers["x-auth-token"] == "secret"
        assert "x-auth-token" not in other.asked[0].headers


# --- broken connections ---


@pytest.mark.parametrize("parallel", [1, 4])
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_a_broken_download_goes_on_from_the_exact_byte(parallel: int, reset: bool) -> None:
    async with Source(LARGE) as source:
        source.manners = [cut_after(size, reset=reset) for size in (100_000, 3 * MIB, 1, 0, 777)]
        assert await fetched(source.url, guard(parallel_ranges=parallel, retries_max=5)) == LARGE
        for asked in source.asked[1:]:
            assert asked.headers["if-range"] == '"one"'


async def test_a_break_in_one_stream_is_mended_at_its_byte() -> None:
    async with Source(SMALL) as source:
        source.manners = [cut_after(1234)]
        assert await fetched(source.url, guard(parallel_ranges=1)) == SMALL
        assert source.ranges == [None, "bytes=1234-"]


async def test_a_stall_is_broken_off_and_mended() -> None:
    async with Source(LARGE) as source:
        source.manners = [well, stall_after(1000), stall_after(0), hang]
        assert await fetched(source.url, impatient(retries_max=30)) == LARGE


@pytest.mark.parametrize("manner", [hang, vanish, garbage, status(500), status(503), status(429)],
                         ids=["hang", "vanish", "garbage", "500", "503", "429"])  # fmt: skip
async def test_what_may_pass_is_tried_again(manner: Manner) -> None:
    async with Source(SMALL) as source:
        source.manners = [manner] * 3
        judge = impatient(2.0) if manner is hang else guard()
        assert await fetched(source.url, judge) == SMALL
        assert len(source.asked) == 4


@pytest.mark.parametrize("manner", [hang, vanish, garbage], ids=["hang", "vanish", "garbage"])
async def test_without_an_answer_all_failures_read_the_same(manner: Manner) -> None:
    async with Source() as gone:
        closed = gone.url
    with pytest.raises(FetchFailed) as nobody:
        await fetched(closed)

    async def unknown(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    with pytest.raises(FetchFailed) as nameless:
        await fetched("http://a.example/", guard(resolver=unknown, allowed_hosts=("*",)))
    async with Source() as source:
        source.always = manner
        with pytest.raises(FetchFailed) as mute:
            await fetched(source.url, impatient())
        assert len(source.asked) == 4
    assert str(nobody.value) == str(nameless.value) == str(mute.value)
    assert vars(nobody.value) == vars(nameless.value) == vars(mute.value)
    assert nobody.value.retryable


@pytest.mark.parametrize("number", [400, 401, 403, 404, 410, 204, 304, 501])
async def test_a_status_that_will_not_pass_is_told_at_once(number: int) -> None:
    async with Source() as source:
        source.always = status(number)
        with pytest.raises(FetchFailed, match=str(number)) as failed:
            await fetched(source.url)
        assert failed.value.status == number
        assert not failed.value.retryable
        assert len(source.asked) == 1


async def test_the_source_says_when_to_come_again_and_is_heard_within_bounds() -> None:
    async with Source(SMALL) as source:
        for manner in (
            status(503, Retry_After="30"),
            status(429, Retry_After="Tue, 01 Jul 2036 10:00:00 GMT"),
        ):
            source.manners = [manner]
            began = time.monotonic()
            await fetched(source.url, guard(retry_seconds_max=0.4))
            # Without a word of the source it would be a hundredth, and 30 by its word alone.
            assert 0.4 <= time.monotonic() - began < 10


async def test_a_source_that_bears_one_connection_gets_one() -> None:
    data = os.urandom(10 * WINDOW_BYTES)
    busy: list[Asked] = []
    refused: list[bool] = []

    async def alone(asked: Asked, reply: Reply) -> None:
        refused.append(bool(busy))
        if busy:
            await reply.answer(503)
            return
        busy.append(asked)
        try:
            await reply.serve(asked)
        finally:
            busy.clear()

    async with Source(data) as source:
        source.latency_seconds = 0.02
        source.always = alone
        assert await fetched(source.url, guard(retries_max=30)) == data
        assert any(refused)
        assert not any(refused[-5:])


async def test_a_source_that_gets_nowhere_is_given_up_with_a_reason() -> None:
    async with Source(SMALL) as source:
        source.manners = [cut_after(1000)]
        source.always = vanish
        with pytest.raises(FetchFailed):
            await fetched(source.url)
        assert len(source.asked) == 4


async def test_progress_makes_up_for_failures() -> None:
    async with Source(LARGE) as source:
        source.always = cut_after(MIB + 1)
        assert await fetched(source.url, guard(retries_max=1, parallel_ranges=2)) == LARGE


async def test_drops_that_never_end_are_too_slow() -> None:
    async def drip(asked: Asked, reply: Reply) -> None:
        await reply.head(200, Content_Length=10**6, ETag='"one"')
        while not reply.source.ended.is_set():
            await reply.send(b"x")
            await asyncio.sleep(0.02)

    async with Source() as source:
        source.always = drip
        # No second passes without a byte.
        with pytest.raises(FetchFailed, match="too slowly"):
            await fetched(source.url, impatient(3.0, retries_max=0))


async def test_a_head_in_drops_is_no_answer() -> None:
    async def drip(asked: Asked, reply: Reply) -> None:
        await reply.send(b"HTTP/1.1 200 OK\r\n")
        while not reply.source.ended.is_set():
            await reply.send(b"X-Y: z\r\n")
            await asyncio.sleep(0.02)

    async with Source() as source:
        source.always = drip
        with pytest.raises(FetchFailed, match="did not give an answer"):
            await fetched(source.url, impatient(retries_max=0))


async def test_a_slow_caller_does_not_make_the_source_slow() -> None:
    async with Source(LARGE) as source:
        async with open_download(guard(rate_bytes_min=10 * MIB), [source.url]) as download:
            seen = 0
            async for chunk in download:
                if seen == 0:
                    await asyncio.sleep(0.5)
                seen += len(chunk)
        assert seen == len(LARGE)


# --- lies ---


async def test_less_than_announced_is_an_error() -> None:
    async def lie(asked: Asked, reply: Reply) -> None:
        await reply.answer(200, SMALL, Content_Length=len(SMALL) + 10, ETag='"one"')
        reply.close()

    async with Source() as source:
        source.always = lie
        with pytest.raises(FetchFailed, match="before all that it announced"):
            await fetched(source.url)


@pytest.mark.parametrize("keeps", [True, False], ids=["kept open", "closed"])
async def test_more_than_announced_is_an_error(keeps: bool) -> None:
    async def lie(asked: Asked, reply: Reply) -> None:
        closing = {} if keeps else {"Connection": "close"}
        await reply.answer(200, SMALL, Content_Length=len(SMALL) - 10, **closing)
        reply.keeps = keeps

    async with Source() as source:
        source.always = lie
        with pytest.raises(FetchFailed, match="more data than it announces"):
            await fetched(source.url)


@pytest.mark.parametrize(
    "told",
    ["bytes 1-300000/300001", "bytes 0-299999/300", "bytes 5-2/300000", "bytes 0-99999999/100000000",
     "pages 0-1/2", "bytes */300000", "bytes 0-299999/*", ""],
)  # fmt: skip
async def test_a_part_that_was_not_asked_for_is_not_taken(told: str) -> None:
    async def lie(asked: Asked, reply: Reply) -> None:
        if "range" in asked.headers:
            await reply.answer(206, SMALL, Content_Range=told, ETag='"one"')
        else:
            await reply.serve(asked)

    async with Source(SMALL) as source:
        source.always = lie
        assert await fetched(source.url) == SMALL


async def test_a_part_of_what_was_asked_for_is_completed() -> None:
    async def stingy(asked: Asked, reply: Reply) -> None:
        first = int(asked.headers["range"].removeprefix("bytes=").partition("-")[0])
        piece = LARGE[first : first + MIB]
        told = f"bytes {first}-{first + len(piece) - 1}/{len(LARGE)}"
        await reply.answer(206, piece, Content_Range=told, ETag='"one"')

    async with Source(LARGE) as source:
        source.always = stingy
        assert await fetched(source.url) == LARGE


async def test_crumbs_are_refused() -> None:
    async def crumbs(asked: Asked, reply: Reply) -> None:
        first = int(asked.headers["range"].removeprefix("bytes=").partition("-")[0])
        told = f"bytes {first}-{first}/{len(LARGE)}"
        await reply.answer(206, LARGE[first : first + 1], Content_Range=told, ETag='"one"')

    async with Source(LARGE) as source:
        source.always = crumbs
        with pytest.raises(FetchFailed, match="pieces too small"):
            await fetched(source.url)
        assert len(source.asked) < 1000


async def test_a_mirror_that_ends_before_the_announced_end_is_not_asked_for_ever() -> None:
    async def short(asked: Asked, reply: Reply) -> None:
        await reply.head(200, Transfer_Encoding="chunked")
        await reply.send(b"30d40\r\n", SMALL[:200_000], b"\r\n0\r\n\r\n")

    async with Source(SMALL) as first, Source() as second:
        first.manners = [cut_after(100_000)]
        first.always = vanish
        second.always = short
        with pytest.raises(FetchFailed):
            await fetched([first.url, second.url])
        assert len(second.asked) < 10


async def test_a_length_that_shows_after_a_break_is_kept_to() -> None:
    async def chunked(asked: Asked, reply: Reply) -> None:
        await reply.head(200, Transfer_Encoding="chunked", ETag='"one"')
        await reply.send(b"186a0\r\n", SMALL[:100_000], b"\r\n")
        await asyncio.sleep(0.02)
        reply.close()

    async def stingy(asked: Asked, reply: Reply) -> None:
        first = int(asked.headers["range"].removeprefix("bytes=").partition("-")[0])
        piece = SMALL[first : first + 50_000]
        told = f"bytes {first}-{first + len(piece) - 1}/{len(SMALL)}"
        await reply.answer(206, piece, Content_Range=told, ETag='"one"')

    async with Source(SMALL) as source:
        source.manners = [chunked]
        source.always = stingy
        assert await fetched(source.url, guard(parallel_ranges=1)) == SMALL


async def test_an_endless_body_ends_at_the_limit() -> None:
    async def endless(asked: Asked, reply: Reply) -> None:
        await reply.head(200, Transfer_Encoding="chunked")
        while not reply.source.ended.is_set():
            await reply.send(b"10000\r\n", b"x" * 65536, b"\r\n")

    async with Source() as source:
        source.always = endless
        with pytest.raises(ImageTooLarge):
            await fetched(source.url, size_bytes_max=5 * MIB)


async def test_what_is_announced_too_large_is_not_read() -> None:
    async with Source(LARGE) as source:
        with pytest.raises(ImageTooLarge):
            async with open_download(guard(), [source.url], size_bytes_max=len(LARGE) - 1):
                raise AssertionError("it was opened")
        assert await fetched(source.url, size_bytes_max=len(LARGE)) == LARGE


async def test_a_body_in_chunks_comes_whole_and_a_broken_one_is_read_anew() -> None:
    def chunked(size_bytes: int, end: bytes) -> Manner:
        async def manner(asked: Asked, reply: Reply) -> None:
            await reply.head(200, Transfer_Encoding="chunked")
            for begin in range(0, size_bytes, 10_000):
                await reply.send(b"2710\r\n", SMALL[begin : begin + 10_000], b"\r\n")
            await reply.send(end)
            reply.close()

        return manner

    async with Source(SMALL) as source:
        source.manners = [chunked(200_000, b"")]
        source.always = chunked(300_000, b"0\r\n\r\n")
        assert await fetched(source.url) == SMALL


# --- ranges that are ignored, data that changes ---


@pytest.mark.parametrize("etag", ['"one"', None], ids=["validator", "hash"])
async def test_a_source_without_ranges_is_read_anew_up_to_the_break(etag: str | None) -> None:
    async with Source(SMALL) as source:
        source.takes_ranges = False
        source.fields = {"ETag": etag} if etag else {}
        source.manners = [cut_after(200_000), cut_after(100_000), cut_after(250_000)]
        assert await fetched(source.url) == SMALL


async def test_a_source_that_forgets_its_ranges_is_read_in_one() -> None:
    async with Source(LARGE) as source:

        async def forgetful(asked: Asked, reply: Reply) -> None:
            source.takes_ranges = len(source.asked) < 3
            await reply.serve(asked)

        source.always = forgetful
        assert await fetched(source.url) == LARGE


@pytest.mark.parametrize("parallel", [1, 4])
@pytest.mark.parametrize("takes_ranges", [True, False], ids=["ranges", "no ranges"])
async def test_a_file_that_changes_half_way_is_told(parallel: int, takes_ranges: bool) -> None:
    async with Source(LARGE) as source:
        source.takes_ranges = takes_ranges

        async def change(asked: Asked, reply: Reply) -> None:
            await reply.serve(asked, at_most=100_000)
            source.data, source.fields = LARGE[::-1], {"ETag": '"two"'}
            reply.close()

        source.manners = [change]
        with pytest.raises(SourceChanged):
            await fetched(source.url, guard(parallel_ranges=parallel))


async def test_a_file_that_changes_without_a_validator_is_told() -> None:
    async with Source(SMALL) as source:
        source.fields = {}

        async def change(asked: Asked, reply: Reply) -> None:
            await reply.serve(asked, at_most=100_000)
            source.data = bytes([SMALL[0] ^ 1]) + SMALL[1:]
            reply.close()

        source.manners = [change]
        with pytest.raises(SourceChanged):
            await fetched(source.url)


async def test_a_file_of_another_length_under_the_same_validator_is_told() -> None:
    async with Source(LARGE) as source:

        async def shrink(asked: Asked, reply: Reply) -> None:
            await reply.serve(asked, at_most=100_000)
            source.data = LARGE[:-1]
            reply.close()

        source.manners = [shrink]
        with pytest.raises(SourceChanged):
            await fetched(source.url)


# --- going on in another process ---


@pytest.mark.parametrize("parallel", [1, 4])
@pytest.mark.parametrize("offset", [1, 1000, len(LARGE) - 1, len(LARGE)])
@pytest.mark.parametrize("takes_ranges", [True, False], ids=["ranges", "no ranges"])
async def test_a_download_goes_on_where_another_ended(
    parallel: int, offset: int, takes_ranges: bool
) -> None:
    async with Source(LARGE) as source:
        source.takes_ranges = takes_ranges
        judge = guard(parallel_ranges=parallel)
        found = await fetched(source.url, judge, offset=offset, validator='"one"')
        assert found == LARGE[offset:]


async def test_without_a_validator_a_download_begins_anew() -> None:
    async with Source(SMALL) as source:
        assert await fetched(source.url, offset=1000) == SMALL
        source.fields = {}
        async with open_download(guard(), [source.url], offset=9, validator='"one"') as download:
            assert download.offset == 0
            assert b"".join([chunk async for chunk in download]) == SMALL


@pytest.mark.parametrize("takes_ranges", [True, False], ids=["ranges", "no ranges"])
async def test_going_on_with_other_data_is_refused(takes_ranges: bool) -> None:
    async with Source(SMALL) as source:
        source.takes_ranges = takes_ranges
        for offset in (1000, len(SMALL), len(SMALL) + 1):
            with pytest.raises(SourceChanged):
                await fetched(source.url, offset=offset, validator='"zero"')
        if takes_ranges:
            with pytest.raises(SourceChanged):
                await fetched(source.url, offset=len(SMALL) + 1, validator='"one"')


# --- mirrors ---


async def test_the_next_mirror_is_asked_when_one_has_not_the_file() -> None:
    async with Source() as first, Source(LARGE) as second:
        first.always = status(404)
        assert await fetched([first.url, second.url]) == LARGE


@pytest.mark.parametrize("etag", ['"one"', '"other"', None], ids=["same", "other", "none"])
@pytest.mark.parametrize("parallel", [1, 4])
@pytest.mark.parametrize("takes_ranges", [True, False], ids=["ranges", "no ranges"])
async def test_a_mirror_goes_on_with_what_another_began(
    etag: str | None, parallel: int, takes_ranges: bool
) -> None:
    async with Source(LARGE) as first, Source(LARGE) as second:
        second.fields = {"ETag": etag} if etag else {}
        second.takes_ranges = takes_ranges
        first.manners = [well, cut_after(2_000_000)] if parallel > 1 else [cut_after(6_000_000)]
        first.always = vanish
        judge = guard(parallel_ranges=parallel, retries_max=1)
        assert await fetched([first.url, second.url], judge) == LARGE
        assert second.asked


@pytest.mark.parametrize("data", [LARGE[:-1], LARGE[::-1]], ids=["other length", "other data"])
async def test_a_mirror_with_other_data_is_not_joined(data: bytes) -> None:
    async with Source(LARGE) as first, Source(data) as second:
        second.fields = {"ETag": '"other"'}
        first.manners = [cut_after(6_000_000)]
        first.always = vanish
        with pytest.raises(SourceChanged):
            await fetched([first.url, second.url], guard(parallel_ranges=1, retries_max=1))
        assert await fetched([first.url, second.url], guard(retries_max=0)) == data


async def test_the_last_mirrors_failure_is_told() -> None:
    async with Source() as first, Source() as second:
        first.always, second.always = vanish, status(404)
        with pytest.raises(FetchFailed, match="404"):
            await fetched([first.url, second.url])


# --- redirects ---


async def test_redirects_are_followed_and_remembered() -> None:
    async with Source(LARGE) as last, Source() as source:
        source.manners = [redirect("/a", 301), redirect("b", 307), redirect(last.url, 308)]
        source.always = status(404)
        assert await fetched(source.url) == LARGE
        assert [asked.path for asked in source.asked] == ["/disk.raw", "/a", "/b"]


async def test_where_a_redirect_led_may_end_and_the_url_is_asked_again() -> None:
    async with Source(LARGE) as old, Source(LARGE) as new, Source() as source:
        old.manners = [cut_after(6_000_000)]
        old.always = status(403)
        source.manners = [redirect(old.url)]
        source.always = redirect(new.url)
        assert await fetched(source.url, guard(parallel_ranges=1)) == LARGE


async def test_redirects_in_a_loop_end() -> None:
    async with Source() as source:
        source.always = redirect("/again")
        with pytest.raises(FetchFailed, match="redirects without end"):
            await fetched(source.url)
        assert len(source.asked) == 6


@pytest.mark.parametrize(
    "where",
    ["http://127.0.0.2:{port}/x", "http://localhost:{port}/x", "http://2130706433:{port}/x",
     "http://169.254.169.254/latest", "http://[::1]:{port}/x", "file:///etc/passwd",
     "http://user@127.0.0.1:{port}/x", "http://inside.example:{port}/x"],
)  # fmt: skip
async def test_a_redirect_to_what_is_not_allowed_is_refused(where: str) -> None:
    async def inside(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.2"]

    async with Source(SMALL, host="127.0.0.2") as other, Source() as source:
        source.always = redirect(where.format(port=other.port))
        with pytest.raises(UrlRefused):
            await fetched(source.url, guard(resolver=inside))
        assert len(source.asked) == 1
        assert other.connections == 0


# --- the connected address ---


async def test_a_name_that_changes_its_address_after_it_was_judged_gains_nothing() -> None:
    answers = [["127.0.0.1"]]

    async def rebinding(host: str, port: int) -> Sequence[str]:
        return answers.pop(0) if answers else ["127.0.0.2"]

    async with Source(LARGE) as good, Source(SMALL, host="127.0.0.2") as evil:
        evil.port = good.port
        judge = guard(resolver=rebinding)
        assert await fetched(f"http://rebind.example:{good.port}/disk.raw", judge) == LARGE
        assert len(good.asked) > 1

        with pytest.raises(UrlRefused):
            await fetched(f"http://rebind.example:{good.port}/disk.raw", judge)
        assert evil.connections == 0


async def test_a_new_address_after_a_failure_is_judged_too() -> None:
    async with Source(SMALL) as good:
        port = good.port
    answers = [["127.0.0.1"], ["127.0.0.2"]]

    async def rebinding(host: str, port: int) -> Sequence[str]:
        return answers.pop(0)

    with pytest.raises(UrlRefused):
        await fetched(f"http://rebind.example:{port}/disk.raw", guard(resolver=rebinding))
    assert answers == []


async def test_a_connection_that_reached_another_address_is_not_used() -> None:
    async with Source() as source:
        with socket.create_connection(("127.0.0.1", source.port)) as connection:
            _check_peer(connection, ip_address("127.0.0.1"))
            with pytest.raises(OSError, match="another address"):
                _check_peer(connection, ip_address("127.0.0.2"))


async def test_an_address_that_does_not_answer_gives_way_to_the_next() -> None:
    async def two(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.3", "127.0.0.1"]

    async with Source(SMALL) as source:
        judge = guard(resolver=two, allowed_hosts=("127.0.0.0/8",), retries_max=0)
        assert await fetched(f"http://two.example:{source.port}/", judge) == SMALL
        assert source.asked[0].headers["host"] == f"two.example:{source.port}"


# --- TLS ---


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "2", "-subj", "/CN=good.example", "-addext", "subjectAltName=DNS:good.example",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder


async def here(host: str, port: int) -> Sequence[str]:
    return ["127.0.0.1"]


async def test_tls_is_verified_for_the_name_and_not_for_the_address(certificate: Path) -> None:
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    trusting = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    async with Source(LARGE) as source:
        source.tls = served
        await source.restart()
        judge = guard(resolver=here, tls=trusting, retries_max=0)
        assert await fetched(f"https://good.example:{source.port}/", judge) == LARGE
        before = len(source.asked)
        with pytest.raises(FetchFailed, match="did not give an answer"):
            await fetched(f"https://evil.example:{source.port}/", judge)
        with pytest.raises(FetchFailed, match="did not give an answer"):
            await fetched(
                f"https://good.example:{source.port}/", guard(resolver=here, retries_max=0)
            )
        assert len(source.asked) == before


# --- proxies ---


class Tunnels:
    """A proxy that knows CONNECT and nothing else; every tunnel ends at one port."""

    def __init__(self, port: int) -> None:
        self.to_port = port
        self.asked: list[str] = []
        self.status = 200

    async def __aenter__(self) -> Tunnels:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(f"HTTP/1.1 {self.status} X\r\n\r\n".encode())
        if self.status != 200:
            writer.close()
            return
        reader2, writer2 = await asyncio.open_connection("127.0.0.1", self.to_port)
        await asyncio.gather(
            self._pump(reader, writer2), self._pump(reader2, writer), return_exceptions=True
        )

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(65536):
                writer.write(piece)
                await writer.drain()
        finally:
            writer.close()


async def test_a_proxy_is_told_the_judged_address_and_not_the_name() -> None:
    async def public(host: str, port: int) -> Sequence[str]:
        return ["93.184.215.14", "10.0.0.1"]

    async with Source(LARGE) as source, Tunnels(source.port) as proxy:
        judge = guard(
            resolver=public, allowed_hosts=(), proxy=f"http://me:word@127.0.0.1:{proxy.port}"
        )
        assert await fetched("http://a.example/disk.raw", judge) == LARGE
        assert proxy.asked[0].startswith("CONNECT 93.184.215.14:80 HTTP/1.1\r\n")
        assert "Proxy-Authorization: Basic bWU6d29yZA==\r\n" in proxy.asked[0]
        assert source.asked[0].headers["host"] == "a.example"
        assert "proxy-authorization" not in source.asked[0].headers

        with pytest.raises(UrlRefused):
            await fetched("http://127.0.0.1/", judge)


async def test_a_proxy_resolves_the_names_that_the_operator_vouches_for() -> None:
    async def nobody(host: str, port: int) -> Sequence[str]:
        raise AssertionError("asked")

    async with Source(SMALL) as source, Tunnels(source.port) as proxy:
        judge = guard(
            resolver=nobody, allowed_hosts=("a.example",), proxy=f"http://127.0.0.1:{proxy.port}"
        )
        assert await fetched("http://a.example/disk.raw", judge) == SMALL
        assert proxy.asked[0].startswith("CONNECT a.example:80 ")


async def test_tls_goes_through_a_proxy_and_a_refusing_one_is_a_failure(certificate: Path) -> None:
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    trusting = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    async with Source(LARGE) as source, Tunnels(0) as proxy:
        source.tls = served
        await source.restart()
        proxy.to_port = source.port
        judge = guard(
            resolver=here, tls=trusting, proxy=f"http://127.0.0.1:{proxy.port}", retries_max=0
        )
        assert await fetched("https://good.example/disk.raw", judge) == LARGE
        proxy.status = 407
        with pytest.raises(FetchFailed, match="did not give an answer"):
            await fetched("https://good.example/disk.raw", judge)


# --- cost ---


async def test_memory_does_not_grow_with_the_data() -> None:
    size = 40 * WINDOW_BYTES
    async with Source(bytes(size)) as source:
        judge = guard()
        gc.collect()
        tracemalloc.start()
        try:
            base = tracemalloc.get_traced_memory()[0]
            seen, digest = 0, hashlib.sha256()
            async with open_download(judge, [source.url]) as download:
                async for chunk in download:
                    seen += len(chunk)
                    digest.update(chunk)
                    if seen < 20 * MIB:
                        # All windows fill up behind a caller who takes his time.
                        await asyncio.sleep(0.005)
            peak = tracemalloc.get_traced_memory()[1] - base
        finally:
            tracemalloc.stop()
        assert seen == size
        # Four windows here; as many again may be on their way in the source, in this process too.
        assert peak < 12 * WINDOW_BYTES


@pytest.mark.parametrize("parallel", [1, 4])
async def test_so_many_ranges_are_under_way_side_by_side(parallel: int) -> None:
    running, most = 0, 0

    async def counted(asked: Asked, reply: Reply) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await reply.serve(asked)
        finally:
            running -= 1

    async with Source(LARGE) as source:
        source.latency_seconds = 0.05
        source.always = counted
        assert await fetched(source.url, guard(parallel_ranges=parallel)) == LARGE
        assert most == parallel


def is_ours(task: asyncio.Task[Any]) -> bool:
    return "_fill" in repr(task.get_coro())


async def test_leaving_early_closes_everything() -> None:
    async with Source(LARGE) as source:
        source.rate_bytes = MIB
        before = asyncio.all_tasks()
        async with open_download(guard(read_timeout_seconds=5.0), [source.url]) as download:
            async for _ in download:
                assert [task for task in asyncio.all_tasks() - before if is_ours(task)]
                break
        assert not [task for task in asyncio.all_tasks() - before if is_ours(task)]
        async with asyncio.timeout(5):
            await source.left.wait()


async def test_a_cancelled_download_ends_at_once() -> None:
    async with Source(LARGE) as source:
        source.manners = [well, well]
        source.always = hang
        task = asyncio.create_task(fetched(source.url, guard(read_timeout_seconds=60.0)))
        await asyncio.sleep(0.3)
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < 0.5
