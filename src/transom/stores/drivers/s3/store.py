"""The S3 store."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import structlog

from transom.errors import StoreUnavailable, TransomError
from transom.settings import StoreSettings
from transom.stores.drivers.s3.bucket import PROBE, TAIL, Bucket
from transom.stores.drivers.s3.faults import Answer
from transom.stores.drivers.s3.options import read_options
from transom.stores.drivers.s3.parts import OBJECT_BYTES_MAX, Buffer
from transom.stores.drivers.s3.reader import S3Reader
from transom.stores.drivers.s3.writer import S3Writer
from transom.stores.keys import checked_key, is_key
from transom.stores.store import Entry, Features, KeyMissing

_log = structlog.get_logger(__name__)

_PROBE_SECONDS = 300.0
"""How long a probe that was written and read back stands for the store; in between, looking has to
do, since servers ask to be paid for each write."""


class S3Store:
    """Objects in a bucket. Made from (name, settings, data folder) and the largest image."""

    limits_size = True

    def __init__(
        self, name: str, settings: StoreSettings, data: Path, *, size_bytes_max: int = 0
    ) -> None:
        """`size_bytes_max` is the largest object (bytes), 0 = as large as servers take. Raises
        ConfigurationError for options that cannot work; the server is not asked yet."""
        del data
        options = read_options(name, settings)
        self.name = name
        self.features = Features(
            writable=True,
            resumable=True,
            lists=True,
            links=options.redirect,
            schemes=("s3", "s3+http", "s3+https"),
        )
        self._options = options
        self._bucket = Bucket(
            name, options, min(size_bytes_max or OBJECT_BYTES_MAX, OBJECT_BYTES_MAX)
        )
        self._probed_at = -_PROBE_SECONDS

    # --- the contract ---

    def writer(self, key: str, *, size_hint: int | None = None) -> S3Writer:
        """A Writer for a new object. With `size_hint`, parts are as long as so many bytes need."""
        return S3Writer(self._bucket, checked_key(key), size_hint=size_hint)

    async def reopen(self, token: str) -> S3Writer:
        """The Writer behind a token, at the durable offset. Raises KeyMissing, and StoreUnavailable
        while another Writer of this process has it."""
        if not is_key(token):
            raise KeyMissing(token)
        writer = S3Writer(self._bucket, token)
        await writer.reopen()
        return writer

    async def read(self, key: str, *, offset: int = 0, length: int | None = None) -> S3Reader:
        """A Reader. Raises KeyMissing."""
        if offset < 0 or (length is not None and length < 0):
            raise ValueError("offset and length must not be negative")
        reader = S3Reader(self._bucket, checked_key(key), offset, length)
        if length == 0:
            await self.stat(key)
            return reader
        try:
            await reader.open()
        except Answer:
            raise KeyMissing(key) from None
        return reader

    def local_path(self, key: str) -> Path | None:
        """None: nothing is on a disk of ours."""
        checked_key(key)
        return None

    async def stat(self, key: str) -> Entry:
        """Facts of a complete object. Raises KeyMissing."""
        entry = await self._bucket.entry(checked_key(key))
        if entry is None:
            await self._bucket.require()
            raise KeyMissing(key)
        return entry

    async def delete(self, key: str) -> None:
        """Remove the object, complete or partial."""
        bucket, writer = self._bucket, self._bucket.held.get(checked_key(key))
        if writer is not None:
            writer.doom()
        # In this order: a commit that runs meanwhile either finds no upload to complete, or has
        # completed it before the last step.
        await bucket.abort_uploads(key)
        outcomes = await asyncio.gather(
            bucket.remove(bucket.tail(key)), bucket.remove(bucket.path(key)), return_exceptions=True
        )
        # Only now: a removal that went on after the other's failure was told would be repeated in
        # the back of a caller who believes that the object stays.
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def list(self) -> AsyncIterator[Entry]:
        """All complete objects, as many at a time as the server gives."""
        bucket = self._bucket
        async for page in bucket.pages(
            "list_objects_v2", Prefix=self._options.prefix, Delimiter="/"
        ):
            for found in page.get("Contents", ()):
                key = bucket.key_of(found["Key"])
                if key is not None:
                    yield Entry(key=key, size_bytes=found["Size"], modified_at=_seconds(found))

    async def list_partial(self) -> AsyncIterator[Entry]:
        """All partial objects, with their tokens, also those that are being written now."""
        for key, entry in (await self._partial()).items():
            if await self._bucket.entry(key) is None:
                yield entry
            else:
                # A crash in the last moment of a commit leaves these. To list them as partial would
                # invite the caller to delete the complete object.
                await self._clear(key)

    def properties(self) -> dict[str, object]:
        """How objects are taken apart (bytes), and how many parts are on their way at a time."""
        return {
            "s3_store_large_object_size": self._options.part_size_bytes,
            "s3_store_large_object_chunk_size": self._options.part_size_bytes,
            "s3_store_thread_pools": self._options.parallel_parts,
        }

    def url(self, key: str) -> str:
        """`s3://<host>/<bucket>/<prefix><key>`, or `s3+https://…`, without credentials."""
        return self._bucket.url(checked_key(key))

    async def find(self, url: str, *, proves: bool = False) -> Entry:
        """The object whose URL this is. Raises KeyMissing for every other URL."""
        key = url.rpartition("/")[2]
        # Compared as text, so that no second spelling leads anywhere.
        if not is_key(key) or url != self.url(key):
            raise KeyMissing(url)
        return await self.stat(key)

    def proves(self, key: str) -> bool:
        """True: nobody else writes here."""
        return True

    async def link(self, key: str) -> str:
        """A URL that lets whoever has it read the object for `redirect_seconds`. Raises KeyMissing."""
        await self.stat(key)
        return await self._bucket.presigned(key)

    async def check(self) -> None:
        """List, and every few minutes write, read and remove a probe. Raises StoreUnavailable."""
        try:
            await self._bucket.require()
            if time.monotonic() - self._probed_at >= _PROBE_SECONDS:
                await self._probe()
                self._probed_at = time.monotonic()
        except StoreUnavailable:
            self._probed_at = -_PROBE_SECONDS
            raise
        except TransomError as error:
            self._probed_at = -_PROBE_SECONDS
            raise StoreUnavailable(self.name, str(error)) from error

    async def close(self) -> None:
        """End connections and threads."""
        await self._bucket.close()

    # --- what they are made of ---

    async def _partial(self) -> dict[str, Entry]:
        """Uploads and tails, put together by their keys."""
        bucket, prefix = self._bucket, self._options.prefix
        uploads: dict[str, tuple[int, float]] = {}
        async for page in bucket.pages("list_multipart_uploads", Prefix=prefix, Delimiter="/"):
            for upload in page.get("Uploads", ()):
                key = bucket.key_of(upload["Key"])
                if key is None:
                    continue
                parts = await bucket.parts(key, upload["UploadId"])
                size_bytes = sum(part["Size"] for part in parts)
                moments = [upload["Initiated"], *(part["LastModified"] for part in parts)]
                moment = max(moments).timestamp()
                before = uploads.get(key, (0, 0.0))
                uploads[key] = (max(size_bytes, before[0]), max(moment, before[1]))
        async for page in bucket.pages("list_objects_v2", Prefix=prefix + TAIL):
            for found in page.get("Contents", ()):
                key = bucket.key_of(found["Key"], below=TAIL)
                if key is not None:
                    size_bytes, moment = uploads.get(key, (0, 0.0))
                    uploads[key] = (
                        size_bytes + found["Size"],
                        max(moment, found["LastModified"].timestamp()),
                    )
        return {
            key: Entry(key=key, size_bytes=size_bytes, modified_at=moment, token=key)
            for key, (size_bytes, moment) in uploads.items()
        }

    async def _clear(self, key: str) -> None:
        if key not in self._bucket.held:
            await self._bucket.abort_uploads(key)
            await self._bucket.remove(self._bucket.tail(key))

    async def _probe(self) -> None:
        path = f"{self._options.prefix}{PROBE}{uuid.uuid4()}"
        content = b"probe"
        body = Buffer()
        body.write(content)
        try:
            await self._bucket.call("put_object", Key=path, body=body)
            answer = await self._bucket.call("get_object", Key=path)
            async with answer["Body"] as stream:
                if await stream.read() != content:
                    raise StoreUnavailable(self.name, "what was written cannot be read back")
        finally:
            await self._bucket.remove(path)


def _seconds(found: dict[str, Any]) -> float:
    # Whole ones, as the answer to a HEAD has them.
    return float(int(found["LastModified"].timestamp()))
