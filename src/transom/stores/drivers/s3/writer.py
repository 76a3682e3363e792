"""Writing one object of an S3 store."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Coroutine
from typing import Any, Self

import msgspec
import structlog

from transom.errors import StoreFailed, StoreUnavailable, TransomError
from transom.stores.buckets import PART_BYTES_LEAST
from transom.stores.drivers.s3.bucket import Bucket, in_use
from transom.stores.drivers.s3.faults import GONE, NO_UPLOAD, TROUBLE, Answer
from transom.stores.drivers.s3.parts import CROWD_BYTES, PARTS_MAX, Buffer, part_size
from transom.stores.store import KeyMissing, Stored, Writer
from transom.stores.threads import run_to_end, settled

_log = structlog.get_logger(__name__)

_OCTETS = "application/octet-stream"
_OFFSET = "offset"
"""Where in the object a tail begins, among its metadata."""
_PATIENCE_SECONDS = 10.0
"""How long the end of a cancelled request is waited for, and cleaning up may take."""
_TAG = re.compile(r'"?([0-9a-f]{32})"?')
_TAG_OF_PARTS = re.compile(r'"[0-9a-f]{32}-[0-9]+"')
_OTHER_PARTS = ("InvalidPart", "InvalidPartOrder", "EntityTooSmall")


class Part(msgspec.Struct):
    """One part: its length in bytes, and the server's tag, empty until it is acknowledged."""

    number: int
    size_bytes: int
    etag: str = ""


class S3Writer(Writer):
    """Writes one object into an S3Store. See the contract of Writer."""

    def __init__(self, bucket: Bucket, key: str, *, size_hint: int | None = None) -> None:
        self._bucket = bucket
        self._key = key
        self._size_hint = size_hint or 0
        self._upload_id = ""
        self._parts: list[Part] = []
        self._sent_bytes = 0
        """Length of all parts, acknowledged or on their way."""
        self._buffer: Buffer | None = None
        self._buffered_bytes = 0
        self._part_bytes = 0
        """How long the part in the buffer is to become."""
        self._least_bytes = 0
        """How long parts are before they grow; 0 = not decided yet."""
        self._running: set[asyncio.Task[None]] = set()
        self._tail_end = -1
        """The offset that the tail reaches to."""
        self._failure: BaseException | None = None
        self._is_begun = False
        self._is_over = False
        # What may be on the server, acknowledged or not.
        self._has_upload = False
        self._has_twins = False
        self._has_tail = False
        self._has_object = False

    @property
    def token(self) -> str:
        """What `reopen` takes, in any process: the key, by which upload and tail are found."""
        return self._key

    @property
    def offset(self) -> int:
        """Bytes taken so far."""
        return self._sent_bytes + self._buffered_bytes

    async def reopen(self) -> None:
        """Go on with a partial object, at its durable offset. Raises KeyMissing, StoreUnavailable."""
        if self._key in self._bucket.held:
            raise StoreUnavailable(
                self._bucket.name, "this data is being written by another request"
            )
        self._claim()
        try:
            await self._take_up()
        except BaseException:
            self._is_over = True
            self._let_go()
            raise

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes."""
        self._require_open()
        view = memoryview(chunk).cast("B")
        while view.nbytes:
            if self._buffer is not None and self._buffered_bytes >= self._part_bytes:
                await self._send_part(self._buffer)
            buffer = self._buffer or await self._next_buffer()
            room = self._part_bytes - self._buffered_bytes
            # A tail that was being put away has left it elsewhere.
            buffer.seek(self._buffered_bytes)
            self._buffered_bytes += buffer.write(view[:room])
            view = view[room:]

    async def flush(self) -> int:
        """Wait until all parts are acknowledged, and put the rest into the tail; gives that offset."""
        self._require_open()
        await self._settle_parts()
        if self._buffer is not None and self._buffered_bytes and self._tail_end != self.offset:
            await self._guarded(self._put_tail(self._buffer))
        return self.offset

    async def commit(self) -> Stored:
        """Have the server make the object of its parts, or put it whole."""
        self._require_open()
        if self._parts and self._buffer is not None and self._buffered_bytes:
            await self._send_part(self._buffer)
        await self._settle_parts()
        await self._guarded(self._publish())
        self._is_over = True
        stored = Stored(key=self._key, url=self._bucket.url(self._key), size_bytes=self.offset)
        self._let_go()
        return stored

    async def cancel(self) -> None:
        """Remove everything written so far; nothing after a commit or a detach. What cannot be
        removed is logged and stays listed as partial."""
        if self._is_over:
            return
        self._is_over = True
        if self._is_begun:
            await settled(asyncio.ensure_future(self._remove()))
        self._let_go()

    async def detach(self) -> None:
        """Put away what is held, and leave upload and tail for `reopen`; also when that fails or takes
        long, so that what was acknowledged before is not lost."""
        if self._is_over:
            return
        try:
            if self._is_begun:
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    await self.flush()
        except TimeoutError:
            _log.warning("store.detached_early", store=self._bucket.name, key=self._key)
        finally:
            self._is_over = True
            await settled(asyncio.ensure_future(self._stop()))
            self._let_go()

    async def __aenter__(self) -> Self:
        self._require_open()
        return self

    def doom(self) -> None:
        """Take note that the object was deleted while it was written."""
        self._failure = self._failure or self._removed()

    # --- beginning and ending ---

    def _claim(self) -> None:
        if self._key in self._bucket.held:
            raise in_use(self._bucket.name, self._key)
        self._bucket.held[self._key] = self
        self._is_begun = True

    def _let_go(self) -> None:
        if self._bucket.held.get(self._key) is self:
            del self._bucket.held[self._key]
        if self._buffer is not None:
            self._bucket.memory.give_back(self._buffer)
            self._buffer = None

    def _require_open(self) -> None:
        if self._is_over:
            raise RuntimeError("this Writer has ended; ask the store for a new one")
        if not self._is_begun:
            self._claim()
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _removed(self) -> StoreFailed:
        return StoreFailed(
            self._bucket.name,
            f"the data of {self._key} was removed while it was written; repeat it",
        )

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what must not be cut off: a request whose answer nobody waits for may still be carried
        out, after all was removed. Who is cancelled waits for it, but not for ever."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await settled(asyncio.ensure_future(_ended(task)))
            raise

    async def _remove(self) -> None:
        bucket = self._bucket
        await self._stop()
        try:
            # Somebody waits for the answer; what is left is listed as partial.
            async with asyncio.timeout(_PATIENCE_SECONDS):
                if self._has_upload:
                    await bucket.abort_uploads(self._key)
                if self._has_tail:
                    await bucket.remove(bucket.tail(self._key))
                if self._has_object:
                    await bucket.remove(bucket.path(self._key))
        except (TransomError, TimeoutError) as error:
            reason = str(error) or "the server does not answer"
            _log.warning("store.partial_left", store=bucket.name, key=self._key, reason=reason)

    async def _stop(self) -> None:
        """End what is on its way."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    # --- going on ---

    async def _take_up(self) -> None:
        bucket = self._bucket
        if await bucket.head(bucket.path(self._key)) is not None:
            # A crash in the last moment of a commit leaves the tail.
            await bucket.remove(bucket.tail(self._key))
            raise KeyMissing(self._key)
        uploads = await bucket.uploads(self._key)
        for upload in uploads:
            parts = _unbroken(await bucket.parts(self._key, upload["UploadId"]))
            size_bytes = sum(part.size_bytes for part in parts)
            if not self._upload_id or size_bytes > self._sent_bytes:
                self._upload_id, self._parts, self._sent_bytes = (
                    upload["UploadId"], parts, size_bytes,
                )  # fmt: skip
        self._has_upload, self._has_twins = bool(uploads), len(uploads) > 1
        await self._take_up_tail()
        if not (self._has_upload or self._has_tail):
            raise KeyMissing(self._key)

    async def _take_up_tail(self) -> None:
        bucket = self._bucket
        try:
            answer = await bucket.call("get_object", Key=bucket.tail(self._key), expects=GONE)
        except Answer:
            return
        self._has_tail = True
        try:
            async with answer["Body"] as body:
                data: bytes = await body.read()
        except TROUBLE as error:
            raise bucket.explained(error, "get_object") from error
        skipped = self._sent_bytes - int(answer["Metadata"].get(_OFFSET, "0"))
        # One that parts have gone past, or that belongs to parts which are gone, is of no use.
        if 0 <= skipped < len(data):
            buffer = await self._next_buffer()
            self._buffered_bytes = buffer.write(data[skipped:])
            self._part_bytes = max(self._part_bytes, self._buffered_bytes)
            self._tail_end = self.offset

    # --- parts ---

    async def _next_buffer(self) -> Buffer:
        number, options = len(self._parts) + 1, self._bucket.options
        if number > PARTS_MAX:
            raise StoreFailed(
                self._bucket.name,
                "the object has as many parts as a server takes; an operator has to raise "
                f"stores.{self._bucket.name}.part_size_bytes",
            )
        memory = self._bucket.memory
        while self._running and (len(self._running) >= options.parallel_parts or memory.is_short):
            await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
            self._raise_failure()
        if not self._least_bytes:
            # Decided once: some servers want all parts but the last to be of one length.
            is_crowded = len(self._bucket.held) * options.part_size_bytes > CROWD_BYTES
            self._least_bytes = PART_BYTES_LEAST if is_crowded else options.part_size_bytes
        self._part_bytes = part_size(
            number,
            self._sent_bytes,
            part_bytes=self._least_bytes,
            size_bytes_max=self._bucket.size_bytes_max,
            size_hint=self._size_hint,
        )
        self._buffer = memory.take()
        return self._buffer

    async def _send_part(self, buffer: Buffer) -> None:
        if not self._upload_id:
            await self._guarded(self._create())
        part = Part(number=len(self._parts) + 1, size_bytes=self._buffered_bytes)
        self._parts.append(part)
        self._sent_bytes += part.size_bytes
        self._buffer, self._buffered_bytes = None, 0
        memory = self._bucket.memory
        memory.running_bytes += part.size_bytes
        task = asyncio.create_task(self._put_part(part, buffer))
        self._running.add(task)

        def done(ended: asyncio.Task[None]) -> None:
            self._running.discard(ended)
            memory.running_bytes -= part.size_bytes
            memory.give_back(buffer)
            failure = None if ended.cancelled() else ended.exception()
            self._failure = self._failure or failure

        task.add_done_callback(done)

    async def _settle_parts(self) -> None:
        """Wait until all parts are acknowledged. Raises what one of them raised."""
        while self._running:
            await asyncio.wait(self._running)
        self._raise_failure()

    # --- requests ---

    async def _create(self) -> None:
        bucket = self._bucket
        self._has_upload = True
        repeats = bucket.repeats
        answer = await bucket.call(
            "create_multipart_upload", Key=bucket.path(self._key), ContentType=_OCTETS
        )
        # An answer that was lost may have left an upload that nobody will name.
        self._has_twins = bucket.repeats != repeats
        self._upload_id = answer["UploadId"]

    async def _put_part(self, part: Part, buffer: Buffer) -> None:
        bucket = self._bucket
        proof = await self._proof(buffer, part.size_bytes)
        try:
            answer = await bucket.call(
                "upload_part",
                body=buffer,
                expects=(NO_UPLOAD, *GONE),
                Key=bucket.path(self._key),
                UploadId=self._upload_id,
                PartNumber=part.number,
                **proof,
            )
        except Answer as told:
            raise self._removed() from told
        except StoreUnavailable as lost:
            # A server that wants no more of a body may close the connection before it says why.
            if await self._is_gone():
                raise self._removed() from lost
            raise
        part.etag = answer["ETag"]

    async def _is_gone(self) -> bool:
        """True when the server says that there is no such upload any more."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._bucket.call(
                    "list_parts",
                    Key=self._bucket.path(self._key),
                    UploadId=self._upload_id,
                    MaxParts=1,
                    expects=(NO_UPLOAD, *GONE),
                )
        except Answer:
            return True
        except (TransomError, TimeoutError):
            return False
        return False

    async def _put_tail(self, buffer: Buffer) -> None:
        bucket = self._bucket
        self._has_tail = True
        proof = await self._proof(buffer, self._buffered_bytes)
        await bucket.call(
            "put_object",
            body=buffer,
            Key=bucket.tail(self._key),
            ContentType=_OCTETS,
            Metadata={_OFFSET: str(self._sent_bytes)},
            **proof,
        )
        self._tail_end = self.offset

    async def _proof(self, buffer: Buffer, size_bytes: int) -> dict[str, str]:
        """By what the server knows that the body came as it was sent; cuts the buffer to its length.
        Where the signature covers the body, nothing more is needed."""
        buffer.truncate(size_bytes)
        if self._bucket.options.is_payload_signed:
            return {}
        digest = await run_to_end(self._bucket.threads, _md5, buffer)
        return {"ContentMD5": base64.b64encode(digest).decode()}

    async def _publish(self) -> None:
        bucket = self._bucket
        if await bucket.head(bucket.path(self._key)) is not None:
            raise in_use(bucket.name, self._key)
        if self._parts:
            await self._complete()
        else:
            await self._put_whole()
        # Deleted in this process, meanwhile: whoever did that saw nothing to delete.
        self._raise_failure()
        try:
            if self._has_tail:
                await bucket.remove(bucket.tail(self._key))
            if self._has_twins or (self._has_upload and not self._parts):
                await bucket.abort_uploads(self._key)
        except TransomError as error:
            # The next listing finds and removes it.
            _log.warning("store.partial_left", store=bucket.name, key=self._key, reason=str(error))

    async def _put_whole(self) -> None:
        bucket, buffer = self._bucket, self._buffer or Buffer()
        if self._has_tail and await bucket.head(bucket.tail(self._key)) is None:
            raise self._removed()
        proof = await self._proof(buffer, self._buffered_bytes)
        self._raise_failure()
        self._has_object = True
        await bucket.call(
            "put_object",
            body=buffer,
            Key=bucket.path(self._key),
            ContentType=_OCTETS,
            **proof,
        )

    async def _complete(self) -> None:
        bucket = self._bucket
        self._has_object = True
        named = [{"PartNumber": part.number, "ETag": part.etag} for part in self._parts]
        try:
            await bucket.call(
                "complete_multipart_upload",
                Key=bucket.path(self._key),
                UploadId=self._upload_id,
                MultipartUpload={"Parts": named},
                expects=(NO_UPLOAD, *GONE, *_OTHER_PARTS),
            )
        except (Answer, StoreUnavailable) as lost:
            # The answer to an attempt that succeeded may not have come back.
            if await self._is_complete():
                return
            if not isinstance(lost, Answer):
                raise
            if lost.code in _OTHER_PARTS:
                raise StoreFailed(
                    bucket.name,
                    f"another process has written parts of {self._key} meanwhile; repeat it",
                ) from lost
            raise self._removed() from lost

    async def _is_complete(self) -> bool:
        """True when the object is there, with the length and the tag of our parts."""
        found = await self._bucket.head(self._bucket.path(self._key))
        if found is None or found["ContentLength"] != self.offset:
            return False
        expected, told = _tag_of([part.etag for part in self._parts]), found.get("ETag", "")
        return expected is None or _TAG_OF_PARTS.fullmatch(told) is None or told == expected


async def _ended(task: asyncio.Task[None]) -> None:
    await asyncio.wait([task], timeout=_PATIENCE_SECONDS)
    task.cancel()
    await asyncio.wait([task])


def _unbroken(found: list[dict[str, Any]]) -> list[Part]:
    """The parts from the first to the first gap. A short one ends them: it was meant to be the last,
    and nothing could follow it."""
    parts: list[Part] = []
    for each in sorted(found, key=lambda each: int(each["PartNumber"])):
        if each["PartNumber"] != len(parts) + 1 or each["Size"] < PART_BYTES_LEAST:
            break
        parts.append(Part(each["PartNumber"], each["Size"], each["ETag"]))
    return parts


def _tag_of(etags: list[str]) -> str | None:
    """The tag that an object of these parts has; None where tags are no digests."""
    digests = [_TAG.fullmatch(etag) for etag in etags]
    if not all(digests):
        return None
    joined = b"".join(bytes.fromhex(digest[1]) for digest in digests if digest)
    return f'"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(etags)}"'


def _md5(buffer: Buffer) -> bytes:
    with buffer.getbuffer() as view:
        return hashlib.md5(view, usedforsecurity=False).digest()
