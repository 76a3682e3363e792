"""Downloads that come to their end, or say why not.

    async with open_download(guard, [url, mirror]) as download:
        async for chunk in download:
            …

One download reads one thing from the first of its URLs that gives it. The bytes come in order, in
pieces of at most 1 MiB, as fast as the caller takes them. What breaks is tried again from the exact
byte; what a resumed read gives is the same data as before, proved by the source's strong validator
or, without one, by reading the beginning anew and comparing its hash. Decision 61 tells the rest.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import random
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Final

import structlog

from transom.errors import FetchFailed, ImageTooLarge, SourceChanged
from transom.remote.addresses import Address
from transom.remote.guard import Guard
from transom.remote.head import Head
from transom.remote.targets import Target
from transom.remote.wire import Failure, Stale, Wire
from transom.settings import Imports

log = structlog.get_logger(__name__)

WINDOW_BYTES: Final = 4 * 1024 * 1024
"""What one of several connections reads at a time."""
PROGRESS_BYTES: Final = 1024 * 1024
"""Bytes after which earlier failures are forgotten."""
ANSWERS_MAX: Final = 64
"""Answers that may take to bring PROGRESS_BYTES."""
REDIRECTS_MAX: Final = 5
"""Redirects from one URL to its data."""
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_GONE: Final = frozenset({401, 403, 404, 410})


@asynccontextmanager
async def open_download(
    guard: Guard,
    urls: Sequence[str],
    *,
    offset: int = 0,
    validator: str | None = None,
    size_bytes_max: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[Download]:
    """A download of what all of the URLs name, from byte `offset` on.

    `offset` above 0 needs the `validator` of the download that gave the bytes before it; the caller
    looks at `download.offset`, which is 0 when the source cannot go on from there. `size_bytes_max`
    bounds the whole (default `limits.image_size_bytes_max`; 0 = unlimited). `headers` go to the
    hosts that the URLs name, and not where these redirect to.

    Raises here and while it is read: UrlRefused for a URL or a redirect that is not allowed,
    ImageTooLarge before the first byte where the size is announced, SourceChanged when the caller
    must begin anew, FetchFailed when all sources are given up.
    """
    if not urls:
        raise ValueError("no URL")
    limit = guard.settings.limits.image_size_bytes_max if size_bytes_max is None else size_bytes_max
    sources = [_Source(guard.check(url), dict(headers or {})) for url in urls]
    download = Download(guard, sources, limit)
    try:
        await download.begin(offset, validator)
        yield download
    finally:
        await download.close()


async def read_whole(
    guard: Guard, url: str, *, size_bytes_max: int, headers: Mapping[str, str] | None = None
) -> bytes:
    """All of a small document behind a URL. Raises ImageTooLarge beyond `size_bytes_max`, and what
    `open_download` raises."""
    content = bytearray()
    async with open_download(
        guard, [url], size_bytes_max=size_bytes_max, headers=headers
    ) as download:
        async for chunk in download:
            content += chunk
    return bytes(content)


class Download:
    """The data of a URL on its way. `open_download` makes it; it is iterated once."""

    def __init__(self, guard: Guard, sources: Sequence[_Source], size_bytes_max: int) -> None:
        self.size_bytes: int | None = None
        """Length of the whole as the source announced it; None where it did not."""
        self.validator: str | None = None
        """What proves that the source has not changed: for `open_download` with an offset."""
        self.offset = 0
        """Where the first byte of the iteration stands in the whole."""
        self.position = 0
        """Where the next byte stands."""
        self._guard = guard
        self._imports = guard.settings.imports
        self._sources = deque(sources)
        self._has_mirrors = len(sources) > 1
        self._size_bytes_max = size_bytes_max
        self._width = guard.settings.imports.parallel_ranges
        self._addresses: dict[tuple[str, bool], tuple[Address, ...]] = {}
        self._wires: set[Wire] = set()
        self._idle: list[Wire] = []
        self._hash: hashlib._Hash | None = None
        self._first: _Answer | None = None
        self._chunks: AsyncGenerator[bytes, None] | None = None

    @property
    def url(self) -> str:
        """The URL that is read now, as the caller gave it."""
        return self._sources[0].given.url

    @property
    def takes_ranges(self) -> bool:
        """False once the source was asked for a part and gave the whole."""
        return self._sources[0].takes_ranges

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes from `offset` on."""
        if self._chunks is None:
            self._chunks = self._read()
        return self._chunks

    async def begin(self, offset: int, validator: str | None) -> None:
        """Find a source that gives the data from `offset` on; once, before the first byte."""
        self.position = offset if validator is not None else 0
        known = validator if self.position else None
        self._first = await self._find(known, opening=True)
        source = self._sources[0]
        self.offset = self.position
        self.size_bytes, self.validator = source.size_bytes, source.validator
        if self._size_bytes_max and (self.size_bytes or 0) > self._size_bytes_max:
            raise ImageTooLarge(self._size_bytes_max)
        if self.offset == 0 and (self._has_mirrors or self.validator is None):
            self._hash = hashlib.sha256()

    async def close(self) -> None:
        """Drop every connection; what was not read stays where it is."""
        if self._chunks is not None:
            await self._chunks.aclose()
        for wire in self._wires:
            wire.close()
        self._wires.clear()

    # --- which source ---

    async def _find(self, known: str | None, *, opening: bool) -> _Answer | None:
        """The answer of the first source that has the data, at the present position; None when
        nothing is left to be read. `known` is the validator of the bytes before."""
        while True:
            source = self._sources[0]
            tries = _Tries(self._imports, source)
            try:
                while True:
                    try:
                        return await self._enter(source, known, opening=opening)
                    except Failure as failure:
                        await tries.failed(failure)
            except SourceChanged:
                raise
            except FetchFailed as failure:
                self._give_up(failure)
                # A date means something on the server alone that gave it.
                known = _etag(known)

    def _give_up(self, failure: FetchFailed) -> None:
        """Turn to the next source. Raises the failure when there is none."""
        if len(self._sources) == 1:
            raise failure
        left = self._sources.popleft()
        log.warning(
            "source given up",
            host=left.given.authority,
            next_host=self._sources[0].given.authority,
            reason=str(failure),
        )

    async def _enter(self, source: _Source, known: str | None, *, opening: bool) -> _Answer | None:
        """The source's first answer, at the present position. Raises SourceChanged when its data is
        not that of the bytes before."""
        at = self.position
        source.validator = known
        if at == 0 or known is None:
            answer = await self._ask_from_zero(source)
        else:
            answer = await self._ask(source, at, at + WINDOW_BYTES if self._width > 1 else None)
        if answer.head.status == 416:
            self._drop(answer)
            await self._ask_whether_it_ends(source, at)
            return None
        other = answer.head.contradicts(known)
        if opening and other:
            raise SourceChanged
        if other and answer.head.status == 206:
            # It does not know If-Range; only the whole shows whether it is the same data.
            self._drop(answer)
            source.validator = None
            answer = await self._ask(source, 0, None)
        source.size_bytes = answer.size_bytes
        if answer.asked_for_part and answer.head.status == 200 and not other:
            source.takes_ranges = False
        if at == 0 or known is None or other or answer.disproves(known):
            source.validator = answer.head.validator
            answer.is_proved = opening
            if opening:
                self.position = 0
        return answer

    async def _ask_from_zero(self, source: _Source) -> _Answer:
        """The whole, or its first window where the next ones can be asked for."""
        if self._width > 1 and self.position == 0:
            answer = await self._ask(source, 0, WINDOW_BYTES)
            is_all = answer.end is not None and answer.end == answer.size_bytes
            if answer.head.status == 200 or is_all:
                return answer
            if answer.head.status == 206 and answer.size_bytes and answer.head.validator:
                return answer
            # An empty file has no ranges; and without a validator nothing would prove that the
            # next window belongs to the same data.
            self._drop(answer)
        return await self._ask(source, 0, None)

    async def _ask_whether_it_ends(self, source: _Source, at: int) -> None:
        """After a 416: fine if the data ends exactly here. Raises SourceChanged otherwise."""
        if at == 0:
            raise Failure("416 to a question without Range", _NONSENSE, again=False)
        answer = await self._ask(source, at - 1, at)
        self._drop(answer)
        known = source.validator
        if answer.head.status != 206 or answer.size_bytes != at or answer.head.contradicts(known):
            raise SourceChanged
        source.size_bytes = at

    async def _go_on_elsewhere(self, failure: FetchFailed) -> None:
        """Read on from the next source that has the same data.

        Raises the failure when there is no other source, SourceChanged when the caller has to begin
        anew to use it.
        """
        self._give_up(failure)
        self._width = self._guard.settings.imports.parallel_ranges
        known = _etag(self.validator) if self.position else None
        if self.position and known is None and self._hash is None:
            raise SourceChanged
        self._first = await self._find(known, opening=False)
        source = self._sources[0]
        if None not in (self.size_bytes, source.size_bytes):
            if self.size_bytes != source.size_bytes:
                raise SourceChanged
        elif self.size_bytes is not None:
            source.size_bytes = self.size_bytes

    # --- reading ---

    async def _read(self) -> AsyncGenerator[bytes, None]:
        while True:
            source, first = self._sources[0], self._first
            self._first = None
            whole = source.size_bytes
            if first is None and whole is not None and self.position >= whole:
                return
            if whole is not None and self._can_read_side_by_side(source, whole):
                chunks = self._side_by_side(source, whole, first)
            else:
                chunks = self._span(source, self.position, whole, first, alone=True)
            try:
                async with aclosing(chunks):
                    async for chunk in chunks:
                        self._count(chunk)
                        yield chunk
            except _RangesRefused:
                source.takes_ranges = False
            except SourceChanged:
                raise
            except FetchFailed as failure:
                await self._go_on_elsewhere(failure)
            else:
                return

    def _can_read_side_by_side(self, source: _Source, whole: int) -> bool:
        return (
            self._width > 1
            and source.takes_ranges
            and source.validator is not None
            and whole - self.position > WINDOW_BYTES
        )

    def _count(self, chunk: bytes) -> None:
        self.position += len(chunk)
        if self._size_bytes_max and self.position > self._size_bytes_max:
            raise ImageTooLarge(self._size_bytes_max)
        if self._hash is not None:
            self._hash.update(chunk)

    async def _side_by_side(
        self, source: _Source, whole: int, first: _Answer | None
    ) -> AsyncGenerator[bytes, None]:
        """The bytes up to `whole`, window by window, several windows on their way at a time."""
        pending: deque[_Window] = deque()
        start = self.position
        try:
            while start < whole or pending:
                while start < whole and len(pending) < self._width:
                    end = min(start + WINDOW_BYTES, whole)
                    if first is not None and first.end is not None:
                        end = first.end
                    window = _Window(self._span(source, start, end, first, alone=False))
                    pending.append(window)
                    first, start = None, end
                async with aclosing(pending[0].chunks()) as chunks:
                    async for chunk in chunks:
                        yield chunk
                pending.popleft()
        finally:
            for window in pending:
                window.task.cancel()
            await asyncio.gather(*(window.task for window in pending), return_exceptions=True)

    async def _span(
        self,
        source: _Source,
        start: int,
        end: int | None,
        answer: _Answer | None,
        *,
        alone: bool,
    ) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` to `end`, or to the end of all, over as many connections as that
        takes. `alone`: everything before `start` has gone to the caller, and nothing else is read.

        Raises FetchFailed when the source is given up.
        """
        tries = _Tries(self._imports, source)
        at = start
        try:
            while answer is not None or end is None or at < end:
                try:
                    if answer is None:
                        answer = await self._ask_on(source, at, end, alone=alone)
                    tries.asked()
                    if end is None:
                        end = answer.size_bytes
                    await self._skip(answer, at)
                    before = at
                    while chunk := await answer.read():
                        at += len(chunk)
                        tries.gained(len(chunk))
                        yield chunk
                    await self._finish(answer)
                    answer = None
                    if end is None:
                        return
                    _check_gain(before, at, end)
                except Failure as failure:
                    if answer is not None:
                        self._drop(answer)
                        answer = None
                    await tries.failed(failure)
        finally:
            if answer is not None:
                self._drop(answer)

    async def _ask_on(self, source: _Source, at: int, end: int | None, *, alone: bool) -> _Answer:
        """Ask a source whose data is known for more of it. Raises SourceChanged when it is other
        data now, _RangesRefused when it does not give parts any more."""
        answer = await self._ask(source, at, None if alone else end)
        head = answer.head
        changed = head.contradicts(source.validator) or (
            None not in (source.size_bytes, answer.size_bytes)
            and source.size_bytes != answer.size_bytes
        )
        if head.status == 416 or changed:
            self._drop(answer)
            raise SourceChanged
        if head.status == 200 and not alone:
            self._drop(answer)
            raise _RangesRefused
        if head.status == 200 and answer.asked_for_part:
            source.takes_ranges = False
        answer.is_proved = source.validator is not None and not answer.disproves(source.validator)
        return answer

    async def _skip(self, answer: _Answer, at: int) -> None:
        """Read over what the caller has already, and make sure that it is the same."""
        if answer.at == at:
            return
        if not answer.is_proved and self._hash is None:
            raise SourceChanged
        seen = hashlib.sha256()
        while answer.at < at:
            chunk = await answer.read()
            if not chunk:
                raise Failure("ended in what was read before", _ENDED_EARLY)
            if answer.at > at:
                cut = len(chunk) - (answer.at - at)
                answer.put_back(chunk[cut:])
                chunk = chunk[:cut]
            if not answer.is_proved:
                seen.update(chunk)
        if not answer.is_proved and self._hash is not None:
            if seen.digest() != self._hash.digest():
                raise SourceChanged
            answer.is_proved = True

    # --- questions ---

    async def _ask(self, source: _Source, at: int, end: int | None) -> _Answer:
        """The answer to a GET: 206 from `at` on, 200 from the beginning on, or 416.

        A part is asked for when `end` is given or `at` is not 0, if the source takes that and, after
        the beginning, has a validator. Raises Failure, UrlRefused.
        """
        wants_part = source.takes_ranges and (
            end is not None if at == 0 else source.validator is not None
        )
        fields: dict[str, str] = {}
        if wants_part:
            fields["Range"] = f"bytes={at}-{'' if end is None else end - 1}"
            if source.validator is not None:
                fields["If-Range"] = source.validator
        wire, head = await self._follow(source, fields)
        answer = _Answer(wire, head, asked_for_part=wants_part)
        if head.is_packed_on_the_way(source.here.path):
            self._drop(answer)
            raise Failure(
                f"Content-Encoding: {head.foreign_encoding}",
                "The source packs the data on its way, although it was asked not to; use one that "
                "gives the file as it is.",
                again=False,
            )
        if head.status != 206:
            return answer
        part = head.content_range
        length = None if part is None else part.last - part.first + 1
        if (
            part is None
            or not wants_part
            or part.first != at
            or part.size_bytes is None
            or (end is not None and part.last >= end)
            or head.length_bytes not in (None, length)
        ):
            self._drop(answer)
            if not wants_part:
                raise Failure("206 to a question without Range", _NONSENSE, again=False)
            log.warning("source gives other ranges than asked for", host=source.here.authority)
            source.takes_ranges = False
            return await self._ask(source, at, end)
        answer.at, answer.end, answer.size_bytes = part.first, part.last + 1, part.size_bytes
        return answer

    async def _follow(self, source: _Source, fields: Mapping[str, str]) -> tuple[Wire, Head]:
        """The answer that is not a redirect: 200, 206 or 416. Raises Failure, UrlRefused."""
        target = source.here
        may_be_old = target is not source.given
        for _ in range(REDIRECTS_MAX + 1):
            own = source.headers if target.origin == source.given.origin else {}
            try:
                wire, head = await self._exchange(target, {**own, **fields})
            except Failure:
                source.here = source.given
                raise
            if head.status in (200, 206, 416):
                source.here = target
                return wire, head
            self._close_wire(wire)
            # Where a redirect led may be gone by now; the URL itself leads to what is valid.
            source.here = source.given
            if head.status not in _REDIRECTS:
                raise self._failed(head, again=may_be_old and head.status in _GONE)
            target, may_be_old = self._redirected(target, head), False
        raise Failure(
            "too many redirects",
            "The URL redirects without end; use the URL of the file itself.",
            again=False,
        )

    def _redirected(self, target: Target, head: Head) -> Target:
        """Where a redirect leads, judged like any URL. Raises UrlRefused, Failure."""
        location = head.headers.get("location")
        if not location:
            raise Failure("a redirect to nowhere", _NONSENSE, again=False)
        return self._guard.check_redirect(target, location)

    def _failed(self, head: Head, *, again: bool) -> Failure:
        if head.status in (429, 503):
            self._width = max(1, self._width // 2)
        is_passing = head.status in _AGAIN or again
        advice = "try again later" if is_passing else "check the URL"
        return Failure(
            f"status {head.status}",
            f"The source answered {head.phrase}; {advice}, or use another one.",
            again=is_passing,
            status=head.status,
            wait_seconds=head.retry_after_seconds(dt.datetime.now(dt.UTC)),
        )

    async def _exchange(self, target: Target, fields: Mapping[str, str]) -> tuple[Wire, Head]:
        """One question and its answer, over a connection that is open already if there is one."""
        idle = next((wire for wire in self._idle if wire.origin == target.origin), None)
        if idle is not None:
            self._idle.remove(idle)
            try:
                return idle, await idle.ask(target, fields)
            except Stale:
                # Servers close idle connections when they like; that is no failure.
                self._close_wire(idle)
            except BaseException:
                self._close_wire(idle)
                raise
        wire = await self._connect(target)
        self._wires.add(wire)
        try:
            return wire, await wire.ask(target, fields)
        except BaseException:
            self._close_wire(wire)
            raise

    async def _connect(self, target: Target) -> Wire:
        """A connection to an address that was judged once; asked for anew when it failed."""
        place = (target.host, target.vouched)
        addresses = self._addresses.get(place)
        if addresses is None:
            try:
                addresses = await self._guard.addresses_to_dial(target)
            except OSError as error:
                raise Failure(f"no address: {type(error).__name__} {error}") from error
            self._addresses[place] = addresses
        try:
            return await Wire.open(self._guard, target, addresses)
        except Failure:
            self._addresses.pop(place, None)
            raise

    async def _finish(self, answer: _Answer) -> None:
        """Keep the connection for the next question if it is good for one. Raises Failure."""
        if await answer.wire.finish(patient=answer.head.status == 200):
            self._idle.append(answer.wire)
        else:
            self._close_wire(answer.wire)

    def _drop(self, answer: _Answer) -> None:
        self._close_wire(answer.wire)

    def _close_wire(self, wire: Wire) -> None:
        self._wires.discard(wire)
        wire.close()


def _check_gain(before: int, at: int, end: int) -> None:
    if before == at < end:
        raise Failure("an answer without data", _ENDED_EARLY)


_ENDED_EARLY: Final = (
    "The source ended before all the data that it announced; try again later, or use another one."
)
_TOO_LITTLE: Final = (
    "The source gives its data in pieces too small to ever come to an end; use another one."
)
_NONSENSE: Final = "The source does not follow HTTP (RFC 9110); use another one."


class _RangesRefused(Exception):
    """A source that gave parts gives the whole now."""


class _Source:
    """One URL, and what its server has shown so far."""

    def __init__(self, given: Target, headers: dict[str, str]) -> None:
        self.given = given
        self.here = given
        """Where redirects led."""
        self.headers = headers
        self.validator: str | None = None
        self.size_bytes: int | None = None
        self.takes_ranges = True
        """Nothing has shown the opposite."""


class _Answer:
    """One answer whose body is still to be read."""

    def __init__(self, wire: Wire, head: Head, *, asked_for_part: bool) -> None:
        self.wire = wire
        self.head = head
        self.asked_for_part = asked_for_part
        self.at = 0
        """Where the next byte of the body stands in the whole."""
        self.size_bytes = head.length_bytes if head.status == 200 else None
        self.end = self.size_bytes
        """Where the body ends in the whole, None for an unknown place."""
        self._rest = b""
        self.is_proved = True
        """The bytes before are known to be the same as those of the caller."""

    def disproves(self, validator: str) -> bool:
        """True when the answer does not show that it is of the data with the validator."""
        if self.head.status == 206:
            # It was asked for with If-Range, so it is what the validator names unless it says no.
            return self.head.contradicts(validator)
        return not self.head.names(validator)

    async def read(self) -> bytes:
        """The next bytes, empty at the end. Raises Failure, also for an end at another place than
        was announced."""
        chunk, self._rest = self._rest, b""
        if not chunk:
            chunk = await self.wire.read()
        self.at += len(chunk)
        if self.end is not None and self.at > self.end:
            raise Failure("more bytes than announced", _NONSENSE, again=False)
        if not chunk and self.end is not None and self.at < self.end:
            raise Failure("fewer bytes than announced", _ENDED_EARLY)
        return chunk

    def put_back(self, chunk: bytes) -> None:
        """Give the last bytes that were read once more."""
        self._rest = chunk
        self.at -= len(chunk)


class _Window:
    """A part that is read ahead, at most WINDOW_BYTES of it."""

    def __init__(self, span: AsyncGenerator[bytes, None]) -> None:
        self._chunks: deque[bytes] = deque()
        self._news = asyncio.Event()
        self.task = asyncio.create_task(self._fill(span))

    async def _fill(self, span: AsyncGenerator[bytes, None]) -> None:
        try:
            async with aclosing(span):
                async for chunk in span:
                    self._chunks.append(chunk)
                    self._news.set()
        finally:
            self._news.set()

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The bytes of the window. Raises what reading them raised."""
        while True:
            while self._chunks:
                yield self._chunks.popleft()
            if self.task.done():
                await self.task
                if not self._chunks:
                    return
            self._news.clear()
            if not self._chunks and not self.task.done():
                await self._news.wait()


class _Tries:
    """Failures in a row, and the pauses between them."""

    def __init__(self, imports: Imports, source: _Source) -> None:
        self._imports = imports
        self._source = source
        self._failures = 0
        self._answers = 0
        self._gained_bytes = 0

    def asked(self) -> None:
        """An answer came. Raises Failure when answers bring hardly anything."""
        self._answers += 1
        if self._answers > ANSWERS_MAX:
            raise Failure("too little in each answer", _TOO_LITTLE, again=False)

    def gained(self, size_bytes: int) -> None:
        """Bytes came; enough of them make up for earlier failures."""
        self._gained_bytes += size_bytes
        if self._gained_bytes >= PROGRESS_BYTES:
            self._failures = self._answers = self._gained_bytes = 0

    async def failed(self, failure: Failure) -> None:
        """Wait for the next attempt: a random part of a time that doubles, so that many who failed
        at once do not come back at once. Raises FetchFailed when there is none."""
        imports = self._imports
        host = self._source.here.authority
        if not failure.again or self._failures >= imports.retries_max:
            log.warning("fetch failed", host=host, reason=failure.reason, failures=self._failures)
            raise FetchFailed(
                failure.sentence, status=failure.status, retryable=failure.again
            ) from failure
        bound = min(imports.retry_seconds_max, imports.retry_seconds * 2**self._failures)
        pause = random.uniform(0, bound)  # noqa: S311
        if failure.wait_seconds is not None:
            pause = max(pause, min(failure.wait_seconds, imports.retry_seconds_max))
        self._failures += 1
        self._answers = self._gained_bytes = 0
        log.info(
            "fetch is tried again", host=host, reason=failure.reason, pause_seconds=round(pause, 3)
        )
        await asyncio.sleep(pause)


def _etag(validator: str | None) -> str | None:
    """The validator if it is an entity tag."""
    return validator if validator is not None and validator.startswith('"') else None
