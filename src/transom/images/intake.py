"""The one pipeline that bytes of images come in through, whatever the door (decision 0004).

Chunks are counted and checked against the limits as they come, and go to lanes: one for each digest,
one for recognising the format, one for writing. The source is read only as far ahead of the slowest
lane as the bounds in `lanes` allow, so a slow store slows the socket and memory stays flat.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import msgspec

from transom.errors import (
    FormatMismatch,
    ImageTooLarge,
    IncompleteUpload,
    InvalidValue,
    QuotaExceeded,
    SignatureInvalid,
    SizeMismatch,
    TransomError,
    UnsafeImage,
)
from transom.formats import Inspection
from transom.images.lanes import Lane, Lanes, Sink, process_budget
from transom.metrics.table import INTAKE_BYTES, INTAKE_REJECTED

if TYPE_CHECKING:
    from hashlib import _Hash

CHECKSUM = "md5"
"""The algorithm of `checksum` (lifecycle §6)."""
_REASONS: dict[type[BaseException], str] = {
    ImageTooLarge: "too_large",
    SizeMismatch: "size",
    QuotaExceeded: "quota",
    FormatMismatch: "format",
    UnsafeImage: "unsafe",
    SignatureInvalid: "signature",
    IncompleteUpload: "incomplete",
}
"""The metrics' words for what is wrong with data."""


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of data that came in whole. Digests are lower-case hex."""

    size_bytes: int
    checksum: str
    """MD5."""
    hash_algorithm: str
    hash_value: str
    virtual_size_bytes: int | None
    digests: dict[str, str]
    """The further digests that were asked for, by algorithm."""


class Seal(Protocol):
    """A signature that the data has to be true to."""

    def update(self, chunk: bytes) -> None:
        """The next bytes."""
        ...

    def verify(self) -> None:
        """After all of them. Raises SignatureInvalid."""
        ...


class Room(Protocol):
    """How much a project may still store."""

    granted_bytes: int
    """Bytes of this image that are granted so far."""

    async def extend(self, needed_bytes: int) -> None:
        """Have at least `needed_bytes` granted for this image in all. Raises QuotaExceeded."""
        ...


async def take_in(
    chunks: AsyncIterator[bytes],
    writer: Sink,
    *,
    disk_format: str | None,
    container_format: str | None,
    hash_algorithm: str,
    verify_formats: bool = True,
    gpt_checks_nonfatal: Collection[str] = (),
    size_bytes_max: int | None,
    size_bytes_expected: int | None = None,
    room: Room | None = None,
    also: Collection[str] = (),
    seal: Seal | None = None,
    progress: Callable[[int], None] | None = None,
) -> Taken:
    """Bring all of `chunks` into `writer`, and tell what they are. Does not commit the writer.

    `hash_algorithm` and `also` are algorithms of hashlib with a fixed length. `size_bytes_max` None
    is no limit. `progress` is called with the bytes taken so far. Whatever is wrong stops everything
    at once: ImageTooLarge, SizeMismatch, QuotaExceeded (from `room`), UnsafeImage, FormatMismatch,
    InvalidValue (an algorithm), SignatureInvalid (from `seal`), and what `chunks` and the writer raise. When this returns or raises,
    none of its tasks and threads is at work any more.
    """
    meter = _Meter(size_bytes_max, size_bytes_expected, room)
    hashes = {name: _new_hash(name) for name in dict.fromkeys((CHECKSUM, hash_algorithm, *also))}
    inspection = Inspection(
        disk_format,
        container_format,
        verify=verify_formats,
        gpt_checks_nonfatal=gpt_checks_nonfatal,
    )
    lanes = Lanes(process_budget())
    running = [lanes.digest(each.update) for each in hashes.values()]
    if seal is not None:
        running.append(lanes.digest(seal.update))
    running += [lanes.inspect(inspection), lanes.write(writer)]
    with _rejections():
        await _pour(chunks, meter, lanes, running, progress)
        if seal is not None:
            seal.verify()
        virtual_size_bytes = inspection.verdict()
    INTAKE_BYTES.at().add(meter.size_bytes)
    return Taken(
        size_bytes=meter.size_bytes,
        checksum=hashes[CHECKSUM].hexdigest(),
        hash_algorithm=hash_algorithm,
        hash_value=hashes[hash_algorithm].hexdigest(),
        virtual_size_bytes=virtual_size_bytes,
        digests={name: hashes[name].hexdigest() for name in also},
    )


async def receive(
    chunks: AsyncIterator[bytes],
    writer: Sink,
    *,
    size_bytes_max: int | None,
    size_bytes_expected: int | None = None,
    size_bytes_before: int = 0,
    room: Room | None = None,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Bring all of `chunks` into `writer` as they are, for a later look; gives the size (bytes).

    `size_bytes_before` is what the writer holds already. Does not commit the writer. Raises
    ImageTooLarge, SizeMismatch, QuotaExceeded (from `room`), and what `chunks` and the writer raise.
    """
    meter = _Meter(size_bytes_max, size_bytes_expected, room)
    meter.size_bytes = size_bytes_before
    lanes = Lanes(process_budget())
    with _rejections():
        await _pour(chunks, meter, lanes, [lanes.write(writer)], progress)
    return meter.size_bytes


async def measure(
    chunks: AsyncIterator[bytes],
    algorithms: Collection[str],
    *,
    progress: Callable[[int], None] | None = None,
) -> tuple[int, dict[str, str]]:
    """Size (bytes) and digests (hex, by algorithm) of data that stays where it is. Raises
    InvalidValue (an algorithm), and what `chunks` raise."""
    meter = _Meter(None, None, None)
    hashes = {name: _new_hash(name) for name in dict.fromkeys(algorithms)}
    lanes = Lanes(process_budget())
    running: list[Lane] = [lanes.digest(each.update) for each in hashes.values()]
    await _pour(chunks, meter, lanes, running, progress)
    return meter.size_bytes, {name: each.hexdigest() for name, each in hashes.items()}


@contextmanager
def _rejections() -> Iterator[None]:
    """Count what is refused."""
    try:
        yield
    except TransomError as error:
        reason = next((word for kind, word in _REASONS.items() if isinstance(error, kind)), "")
        if reason:
            INTAKE_REJECTED.at(reason).add()
        raise


async def _pour(
    chunks: AsyncIterator[bytes],
    meter: _Meter,
    lanes: Lanes,
    running: list[Lane],
    progress: Callable[[int], None] | None,
) -> None:
    """All of `chunks` through the lanes; the first thing that goes wrong anywhere ends it all."""
    failure: BaseException | None = None
    with process_budget().serving(lanes):
        try:
            async with asyncio.TaskGroup() as tasks:
                for lane in running:
                    tasks.create_task(lane.run())
                async for chunk in chunks:
                    if not chunk:
                        continue
                    await meter.count(len(chunk))
                    # What can change under our feet is copied.
                    await lanes.put(chunk if isinstance(chunk, bytes) else bytes(chunk))
                    # While the next one is on its way, this one is for the lanes alone to keep.
                    del chunk
                    if progress is not None:
                        progress(meter.size_bytes)
                meter.finish()
                lanes.end()
        except BaseExceptionGroup as several:
            # The first is the cause; others, if any, came of it.
            failure = several.exceptions[0]
    if failure is not None:
        try:
            raise failure
        finally:
            # Else the error, its traceback and this frame would keep each other alive.
            del failure


class _Meter:
    """Counts the bytes and holds them to the limits."""

    def __init__(
        self, size_bytes_max: int | None, size_bytes_expected: int | None, room: Room | None
    ) -> None:
        self.size_bytes = 0
        self._max = size_bytes_max
        self._expected = size_bytes_expected
        self._room = room
        if self._expected is not None and self._max is not None and self._expected > self._max:
            raise ImageTooLarge(self._max)

    async def count(self, size_bytes: int) -> None:
        """Take note of bytes that came, before anything is done with them."""
        self.size_bytes += size_bytes
        if self._max is not None and self.size_bytes > self._max:
            raise ImageTooLarge(self._max)
        if self._expected is not None and self.size_bytes > self._expected:
            raise SizeMismatch(self._expected, self.size_bytes)
        if self._room is not None and self.size_bytes > self._room.granted_bytes:
            await self._room.extend(self.size_bytes)

    def finish(self) -> None:
        """No more bytes come."""
        if self._expected is not None and self.size_bytes != self._expected:
            raise SizeMismatch(self._expected, self.size_bytes)


def known_algorithm(algorithm: str) -> str:
    """The name as given, if hashlib knows it with a fixed length. Raises InvalidValue."""
    _new_hash(algorithm)
    return algorithm


def _new_hash(algorithm: str) -> _Hash:
    try:
        made = hashlib.new(algorithm, usedforsecurity=False)
    except ValueError as unknown:
        raise InvalidValue(
            "os_hash_algo", f"'{algorithm:.64}' is not known here; use sha512, for example"
        ) from unknown
    if made.digest_size == 0:
        raise InvalidValue(
            "os_hash_algo", f"'{algorithm}' has no fixed length; use sha512, for example"
        )
    return made
