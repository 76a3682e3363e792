"""The bucket of an S3 store: the way to it, its names, and how requests are repeated."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import weakref
from collections.abc import AsyncIterator, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import structlog
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

from transom import tracing
from transom.errors import StoreFailed, TransomError
from transom.metrics.table import STORE_RETRIES
from transom.stores.drivers.s3.faults import (
    GONE,
    NO_UPLOAD,
    TROUBLE,
    Answer,
    code_of,
    explained,
    passes,
)
from transom.stores.drivers.s3.options import S3Options
from transom.stores.drivers.s3.parts import Buffer, Memory
from transom.stores.keys import is_key
from transom.stores.store import Entry

if TYPE_CHECKING:
    from botocore.loaders import Loader

    from transom.stores.drivers.s3.writer import S3Writer

_log = structlog.get_logger(__name__)

TAIL = ".tail/"
PROBE = ".probe/"
"""Begin with a dot, so they are never the beginning of a key."""
_CONNECTIONS_MAX = 1000
"""Each download holds one for as long as its client takes, so few would starve the others."""
_IDLE_SECONDS = 12.0
_PAUSE_SECONDS = 0.2
_PAUSE_SECONDS_MAX = 10.0
_PATIENCE = 3
"""After so many times the longest silence nothing is begun again."""
_THREADS = 4


class Bucket:
    """What an S3Store, its writers and its readers share."""

    def __init__(self, name: str, options: S3Options, size_bytes_max: int) -> None:
        self.name = name
        self.options = options
        self.size_bytes_max = size_bytes_max
        self.memory = Memory()
        self.repeats = 0
        """How many requests were repeated so far."""
        self.held: weakref.WeakValueDictionary[str, S3Writer] = weakref.WeakValueDictionary()
        """The Writers of this process that are at work, by key."""
        self.threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"store-{name}")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening: asyncio.Task[Any] | None = None
        self._signing: asyncio.Task[Any] | None = None
        self._open = contextlib.AsyncExitStack()

    # --- names ---

    def path(self, key: str) -> str:
        """The name of a complete object in the bucket."""
        return self.options.prefix + key

    def tail(self, key: str) -> str:
        """The name of the end of an object that is being written."""
        return self.options.prefix + TAIL + key

    def key_of(self, path: str, *, below: str = "") -> str | None:
        """The key whose object, or tail, has this name; None for what is none of ours."""
        key = path.removeprefix(self.options.prefix + below)
        return key if path == self.options.prefix + below + key and is_key(key) else None

    def url(self, key: str) -> str:
        """`s3://<host>/<bucket>/<prefix><key>`, with TLS `s3+https://`, as Glance writes them, but
        never with credentials."""
        options = self.options
        if options.endpoint_url:
            parts = urlsplit(options.endpoint_url)
            host = parts.netloc.lower() + parts.path.rstrip("/")
        else:
            suffix = ".cn" if options.region.startswith("cn-") else ""
            host = f"s3.{options.region or 'us-east-1'}.amazonaws.com{suffix}"
        scheme = "s3+https" if options.has_tls else "s3"
        return f"{scheme}://{host}/{options.bucket}/{quote(self.path(key))}"

    # --- requests ---

    async def call(
        self,
        operation: str,
        *,
        expects: Collection[str] = (),
        body: Buffer | None = None,
        **parameters: Any,
    ) -> dict[str, Any]:
        """One request to the server, repeated as often as makes sense; gives the answer.

        Raises Answer for an error whose code is among `expects`, and StoreFull, StoreUnavailable,
        StoreRefused, StoreFailed for every other.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + _PATIENCE * self.options.timeout_seconds
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._once(operation, body, parameters)
            except TROUBLE as error:
                code = code_of(error)
                if code in expects:
                    raise Answer(code) from error
                is_last = attempt > self.options.retries_max or loop.time() > end
                if is_last or not passes(error):
                    raise self.explained(error, operation) from error
                self.note_repeat()
                _log.info(
                    "store.s3_repeated",
                    store=self.name,
                    operation=operation,
                    attempt=attempt,
                    reason=code or type(error).__name__,
                )
            await asyncio.sleep(pause_seconds(attempt))

    async def _once(
        self, operation: str, body: Buffer | None, parameters: dict[str, Any]
    ) -> dict[str, Any]:
        client = await self._client()
        method = getattr(client, operation)
        named = {"Bucket": self.options.bucket, **parameters}
        if body is None:
            answer: dict[str, Any] = await method(**named)
            return answer
        # The library notices silence while it reads, not while it writes.
        loop, silent = asyncio.get_running_loop(), self.options.timeout_seconds
        async with asyncio.timeout(silent) as limit:
            body.moved = lambda: limit.reschedule(loop.time() + silent)
            body.seek(0)
            try:
                answer = await method(Body=body, **named)
            finally:
                body.moved = None
        return answer

    def note_repeat(self) -> None:
        """Count a request that is asked for again."""
        self.repeats += 1
        STORE_RETRIES.at(self.name).add()

    def explained(self, error: BaseException, operation: str) -> TransomError:
        """The domain's error for one of the server's, or of the way to it."""
        where = f"{self.options.bucket} at {self.options.endpoint_url or self.options.region}"
        return explained(self.name, error, operation, where=where)

    async def presigned(self, key: str) -> str:
        """A URL that lets whoever has it read an object for a while."""
        if self._signing is None or self._loop is not asyncio.get_running_loop():
            await self._client()
            url = self.options.redirect_endpoint_url or self.options.endpoint_url
            self._signing = asyncio.create_task(self._connected(url))
        try:
            client = await asyncio.shield(self._signing)
            url = await client.generate_presigned_url(
                "get_object",
                Params={"Bucket": self.options.bucket, "Key": self.path(key)},
                ExpiresIn=self.options.redirect_seconds,
            )
        except TROUBLE as error:
            self._signing = None
            raise self.explained(error, "presign") from error
        return str(url)

    # --- what is there ---

    async def head(self, path: str) -> dict[str, Any] | None:
        """What the server tells of an object; None when there is none, or no bucket."""
        try:
            return await self.call("head_object", Key=path, expects=GONE)
        except Answer:
            return None

    async def entry(self, key: str) -> Entry | None:
        """Facts of a complete object; None when there is none, or no bucket."""
        found = await self.head(self.path(key))
        if found is None:
            return None
        return Entry(
            key=key,
            size_bytes=found["ContentLength"],
            modified_at=float(int(found["LastModified"].timestamp())),
        )

    async def require(self) -> None:
        """Raise StoreUnavailable unless the bucket is there: one that is gone is not empty."""
        await self.call("list_objects_v2", Prefix=self.options.prefix, MaxKeys=1)

    async def pages(self, operation: str, **parameters: Any) -> AsyncIterator[dict[str, Any]]:
        """All pages of a listing."""
        marks = {
            "list_objects_v2": {"ContinuationToken": "NextContinuationToken"},
            "list_multipart_uploads": {
                "KeyMarker": "NextKeyMarker",
                "UploadIdMarker": "NextUploadIdMarker",
            },
            "list_parts": {"PartNumberMarker": "NextPartNumberMarker"},
        }[operation]
        expects = parameters.pop("expects", ())
        while True:
            page = await self.call(operation, expects=expects, **parameters)
            yield page
            after = {ours: page[theirs] for ours, theirs in marks.items() if page.get(theirs)}
            if not page.get("IsTruncated") or not after:
                return
            parameters |= after

    async def uploads(self, key: str) -> list[dict[str, Any]]:
        """The multipart uploads of a key: one, or none, or more after answers that were lost."""
        path = self.path(key)
        return [
            upload
            async for page in self.pages("list_multipart_uploads", Prefix=path)
            for upload in page.get("Uploads", ())
            if upload["Key"] == path
        ]

    async def parts(self, key: str, upload_id: str) -> list[dict[str, Any]]:
        """The parts of an upload, in order; none of one that is gone."""
        try:
            return [
                part
                async for page in self.pages(
                    "list_parts", Key=self.path(key), UploadId=upload_id, expects=(NO_UPLOAD,)
                )
                for part in page.get("Parts", ())
            ]
        except Answer:
            return []

    # --- removing ---

    async def abort_uploads(self, key: str) -> None:
        """Remove everything of a key that is not complete, but for its tail."""
        for upload in await self.uploads(key):
            await self.abort(key, upload["UploadId"])

    async def abort(self, key: str, upload_id: str) -> None:
        """Remove one upload; one that is gone is no error."""
        with contextlib.suppress(Answer):
            await self.call(
                "abort_multipart_upload",
                Key=self.path(key),
                UploadId=upload_id,
                expects=(NO_UPLOAD, *GONE),
            )

    async def remove(self, path: str) -> None:
        """Remove one object; one that is not there is no error."""
        with contextlib.suppress(Answer):
            await self.call("delete_object", Key=path, expects=GONE)

    # --- the connection ---

    async def close(self) -> None:
        """End connections and threads; harmless when called twice."""
        opening, self._opening, self._signing = self._opening, None, None
        if opening is not None and self._loop is asyncio.get_running_loop():
            await asyncio.wait([opening])
            await self._open.aclose()
        self.threads.shutdown(wait=False)

    async def _client(self) -> Any:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            # Connections belong to the loop that they were made in.
            self._loop, self._opening, self._signing = loop, None, None
            self._open = contextlib.AsyncExitStack()
        if self._opening is None:
            self._opening = loop.create_task(self._connected(self.options.endpoint_url))
        opening = self._opening
        try:
            return await asyncio.shield(opening)
        except TROUBLE:
            if self._opening is opening:
                self._opening = None
            raise

    async def _connected(self, endpoint_url: str) -> Any:
        options = self.options
        session = AioSession(profile=options.profile or None)
        session.register_component("data_loader", _loader())
        client = session.create_client(
            "s3",
            region_name=options.region or ("us-east-1" if options.endpoint_url else None),
            endpoint_url=endpoint_url or None,
            verify=options.ca_file or None if options.verify else False,
            aws_access_key_id=options.access_key or None,
            aws_secret_access_key=options.secret_key or None,
            aws_session_token=options.session_token or None,
            config=AioConfig(
                signature_version="s3v4",
                connect_timeout=options.connect_timeout_seconds,
                read_timeout=options.timeout_seconds,
                max_pool_connections=_CONNECTIONS_MAX,
                # Repetition is ours: it has to know what a lost answer may have done.
                retries={"total_max_attempts": 1, "mode": "standard"},
                s3={
                    "addressing_style": options.addressing,
                    "payload_signing_enabled": options.is_payload_signed,
                },
                # Older servers refuse the checksums that newer libraries add.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                user_agent_extra="transom",
                connector_args={"keepalive_timeout": _IDLE_SECONDS},
            ),
        )
        connected = await self._open.enter_async_context(client)
        if tracing.is_on():
            connected.meta.events.register("before-send.s3", _pass_on)
        return connected


def _pass_on(request: Any, **_: Any) -> None:
    """Tell the server which trace its request belongs to. Not signed: proxies may go on with it."""
    tracing.pass_on(request.headers)


@functools.cache
def _loader() -> Loader:
    """What reads the library's descriptions of services; once for all stores."""
    loader: Loader = AioSession().get_component("data_loader")
    return loader


def pause_seconds(attempt: int) -> float:
    """How long to wait after the given attempt: longer each time, and never all at the same time."""
    longest: float = min(_PAUSE_SECONDS * 2.0 ** (attempt - 1), _PAUSE_SECONDS_MAX)
    return random.uniform(0.5, 1.0) * longest  # noqa: S311


def in_use(store: str, key: str) -> StoreFailed:
    """The error for a key that is taken."""
    return StoreFailed(store, f"the key {key} is in use")
