"""Reading one object of an S3 store."""

from __future__ import annotations

import asyncio
from typing import Any, Self

import structlog

from transom.errors import StoreFailed
from transom.stores.drivers.s3.bucket import Bucket, pause_seconds
from transom.stores.drivers.s3.faults import GONE, TROUBLE, Answer, passes

_log = structlog.get_logger(__name__)

_PIECE_BYTES = 512 * 1024
_NO_SUCH_RANGE = ("InvalidRange", "416")
_CHANGED = ("PreconditionFailed", "412")


class S3Reader:
    """Reads one object of an S3Store. See the contract of Reader.

    One request for all of it; what breaks on the way is asked for again from where it broke, and only
    if the object is still the same one.
    """

    def __init__(self, bucket: Bucket, key: str, offset: int, length: int | None) -> None:
        self._bucket = bucket
        self._key = key
        self._at = offset
        self._end = offset if length is None else offset + length
        self._wants_all = length is None
        self._etag = ""
        self._body: Any = None
        self._breaks = 0

    async def open(self) -> None:
        """Ask for the object. Raises Answer when it is not there, StoreUnavailable, StoreFailed."""
        parameters: dict[str, Any] = {}
        is_part = self._at > 0 or not self._wants_all
        if is_part:
            last = "" if self._wants_all or self._end > 2**62 else self._end - 1
            parameters["Range"] = f"bytes={self._at}-{last}"
        if self._etag:
            parameters["IfMatch"] = self._etag
        try:
            answer = await self._bucket.call(
                "get_object",
                Key=self._bucket.path(self._key),
                expects=(*GONE, *_NO_SUCH_RANGE, *(_CHANGED if self._etag else ())),
                **parameters,
            )
        except Answer as told:
            if told.code not in _NO_SUCH_RANGE or self._etag:
                raise
            # The object is there, and ends before the range begins.
            self._end = self._at
            return
        body = answer["Body"]
        if is_part and not str(answer.get("ContentRange", "")).startswith(f"bytes {self._at}-"):
            body.close()
            raise StoreFailed(
                self._bucket.name,
                "its server does not give the part of an object that it is asked for",
            )
        self._body = body
        self._etag = answer.get("ETag", "")
        end = self._at + int(answer["ContentLength"])
        if self._breaks and end != self._end:
            await self.close()
            raise StoreFailed(self._bucket.name, "an object is shorter than it was")
        self._end = end

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while self._body is not None:
            try:
                piece = await self._piece()
            except TROUBLE as broken:
                await self._resume(broken)
                continue
            if piece:
                self._at += len(piece)
                self._breaks = 0
                return piece
            if self._at < self._end:
                await self._resume(EOFError())
                continue
            await self.close()
        raise StopAsyncIteration

    async def close(self) -> None:
        """Let go of the connection, which serves others if nothing is left to be read from it."""
        body, self._body = self._body, None
        if body is not None:
            body.close()

    async def _piece(self) -> bytes:
        """The next bytes, put together to what is worth sending; empty at the end."""
        wanted = min(_PIECE_BYTES, self._end - self._at)
        pieces: list[bytes] = []
        while wanted:
            try:
                piece = await self._body.read(wanted)
            except TROUBLE:
                if not pieces:
                    raise
                # Progress is progress; what broke says so again at the next read.
                break
            if not piece:
                break
            pieces.append(piece)
            wanted -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _resume(self, broken: BaseException) -> None:
        """Ask for what is missing. Raises StoreUnavailable, and StoreFailed when it is gone."""
        await self.close()
        self._breaks += 1
        is_end = isinstance(broken, EOFError)
        if self._breaks > self._bucket.options.retries_max or not (is_end or passes(broken)):
            raise self._bucket.explained(broken, "get_object") from broken
        self._bucket.note_repeat()
        _log.info(
            "store.s3_resumed",
            store=self._bucket.name,
            offset=self._at,
            reason=type(broken).__name__,
        )
        await asyncio.sleep(pause_seconds(self._breaks))
        self._wants_all = False
        try:
            await self.open()
        except Answer as told:
            raise StoreFailed(
                self._bucket.name, "an object was removed or replaced while it was read"
            ) from told
