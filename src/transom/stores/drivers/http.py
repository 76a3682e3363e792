"""Data that lies on web servers: read-only, and never trusted to stay as it is (decision 85).

A key is a handle of ours on one URL as it was when it was found: URL, size, the server's validator,
and where there is none perhaps a digest. A server that shows another size or validator has no object
under the key any more. Every request passes the guard, redirects too.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NoReturn, Self

import msgspec
import structlog

from transom.errors import (
    FetchFailed,
    LocationRefused,
    PartsRefused,
    SourceChanged,
    StoreFailed,
    StoreReadOnly,
    StoreRefused,
    StoreUnavailable,
    TransomError,
    UrlRefused,
)
from transom.remote.fetch import Download, open_download
from transom.remote.guard import Guard
from transom.remote.size import announced_size
from transom.settings import StoreSettings
from transom.stores.keys import FOREIGN_LENGTH_MAX, checked_key
from transom.stores.options import refuse_unknown_options
from transom.stores.proven import ProvenReader
from transom.stores.store import Entry, Features, KeyMissing, Reader, Writer

_log = structlog.get_logger(__name__)

DIGEST = "sha256"
RETRIES_MAX = 2
"""Tries of a read beyond the first: somebody waits for it."""
_VALIDATOR_MAX = 512
_GONE = frozenset({404, 410})


class _Object(msgspec.Struct, frozen=True, array_like=True):
    """What a key stands for."""

    url: str
    size_bytes: int
    validator: str | None
    digest: str | None
    """SHA-256 in hexadecimal, for data whose server has no validator."""


class HttpStore:
    """Objects on web servers. Made from (name, settings, data folder) and the guard."""

    features = Features(
        writable=False,
        resumable=False,
        lists=False,
        exclusive=False,
        schemes=("http", "https"),
    )
    reads_urls = True

    def __init__(self, name: str, settings: StoreSettings, data: Path, *, guard: Guard) -> None:
        """Touches no network. Raises ConfigurationError for options, of which there are none."""
        refuse_unknown_options(name, settings)
        self.name = name
        retries = min(guard.settings.imports.retries_max, RETRIES_MAX)
        # One connection for each reader: many read at a time, and each would hold its windows.
        self._guard = guard.tuned(parallel_ranges=1, retries_max=retries)

    # --- the contract ---

    def writer(self, key: str, *, size_hint: int | None = None) -> Writer:
        """Raises StoreReadOnly."""
        checked_key(key)
        raise StoreReadOnly(self.name)

    async def reopen(self, token: str) -> Writer:
        """Nothing is ever half written. Raises KeyMissing."""
        raise KeyMissing(token)

    async def find(self, url: str, *, proves: bool = False) -> Entry:
        """The object that the URL shows now."""
        target = self._guard.check(url)
        digest = None
        try:
            async with open_download(self._guard, [target.url]) as download:
                validator = _short(download.validator)
                size_bytes = download.size_bytes
                if proves and validator is None:
                    size_bytes, digest = await _measured(download)
        except FetchFailed as failure:
            if failure.status in _GONE:
                raise KeyMissing(url) from failure
            raise
        if size_bytes is None:
            size_bytes = await announced_size(self._guard, target.url)
        if size_bytes is None:
            raise LocationRefused("its server does not tell the size of the data")
        if size_bytes == 0:
            raise LocationRefused("there are no bytes at its URL")
        found = _Object(target.url, size_bytes, validator, digest)
        return Entry(key=_key_of(found), size_bytes=size_bytes, modified_at=0.0)

    def proves(self, key: str) -> bool:
        """True with a validator or a digest in the key."""
        thing = _object_of(key)
        return thing.validator is not None or thing.digest is not None

    async def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Reader:
        """A Reader over one connection. Ranges need a validator, and a server that gives them: to
        read over what comes before would let anybody make us fetch everything for one byte."""
        thing = _object_of(key)
        if offset < 0 or (length is not None and length < 0):
            raise ValueError("offset and length must not be negative")
        size_bytes = thing.size_bytes
        end = size_bytes if length is None else min(size_bytes, offset + length)
        reader = HttpReader(self, key, thing, min(offset, size_bytes), max(end, 0))
        if offset >= end:
            return reader
        is_whole = offset == 0 and end == size_bytes
        if not is_whole and thing.validator is None:
            raise PartsRefused(self.name)
        await reader.open(self._guard)
        if is_whole and thing.digest is not None:
            return ProvenReader(reader, store=self.name, algorithm=DIGEST, expected=thing.digest)
        return reader

    def local_path(self, key: str) -> None:
        """None."""
        checked_key(key, FOREIGN_LENGTH_MAX)

    async def stat(self, key: str) -> Entry:
        """Asks the server. Raises KeyMissing when it has other data, or none."""
        thing = _object_of(key)
        reader = HttpReader(self, key, thing, 0, thing.size_bytes)
        await reader.open(self._guard)
        await reader.close()
        return Entry(key=key, size_bytes=thing.size_bytes, modified_at=0.0)

    async def delete(self, key: str) -> None:
        """Nothing: what is there is not ours."""
        checked_key(key, FOREIGN_LENGTH_MAX)

    async def list(self) -> AsyncIterator[Entry]:
        """Nothing: nobody can list the web."""
        return
        yield

    async def list_partial(self) -> AsyncIterator[Entry]:
        """Nothing."""
        return
        yield

    def properties(self) -> dict[str, object]:
        """None."""
        return {}

    def url(self, key: str) -> str:
        """The URL that the key stands for, as it is asked for. Raises KeyMissing."""
        return _object_of(key).url

    async def check(self) -> None:
        """Nothing to check: each URL has a server of its own."""

    async def close(self) -> None:
        """Nothing is held."""


class HttpReader:
    """Reads one object, or a part of it, and holds it to what its key says."""

    __slots__ = ("_at", "_context", "_end", "_key", "_pieces", "_store", "_thing")

    def __init__(self, store: HttpStore, key: str, thing: _Object, offset: int, end: int) -> None:
        self._store = store
        self._key = key
        self._thing = thing
        self._at = offset
        self._end = end
        self._context: AbstractAsyncContextManager[Download] | None = None
        self._pieces: AsyncIterator[bytes] | None = None

    async def open(self, guard: Guard) -> None:
        """Ask for the data. Raises KeyMissing, PartsRefused, StoreUnavailable, StoreFailed,
        StoreRefused."""
        thing = self._thing
        self._context = open_download(
            guard,
            [thing.url],
            offset=self._at,
            validator=thing.validator if self._at else None,
            size_bytes_max=0,
        )
        try:
            download = await self._context.__aenter__()
        except TransomError as error:
            self._context = None
            self._explain(error, is_open=False)
        try:
            self._hold(download)
        except BaseException:
            await self.close()
            raise
        self._pieces = aiter(download)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._pieces is None or self._at >= self._end:
            if self._pieces is not None and self._end == self._thing.size_bytes:
                await self._expect_end()
            raise StopAsyncIteration
        try:
            piece = await anext(self._pieces, None)
        except TransomError as error:
            self._explain(error, is_open=True)
        if piece is None:
            self._is_other("it is shorter than it was")
        self._at += len(piece)
        if self._at <= self._end:
            return piece
        if self._end == self._thing.size_bytes:
            self._is_other("it is longer than it was")
        return piece[: self._end - self._at]

    async def close(self) -> None:
        """Drop the connection."""
        context, self._context, self._pieces = self._context, None, None
        if context is not None:
            await context.__aexit__(None, None, None)

    async def _expect_end(self) -> None:
        pieces, self._pieces = self._pieces, None
        if pieces is None:
            return
        try:
            more = await anext(pieces, b"")
        except TransomError as error:
            self._explain(error, is_open=True)
        if more:
            self._is_other("it is longer than it was")

    def _hold(self, download: Download) -> None:
        """Raise unless the server shows the object that the key stands for."""
        thing = self._thing
        if download.offset != self._at:
            self._is_gone("other data")
        if download.size_bytes not in (None, thing.size_bytes):
            self._is_gone(f"{download.size_bytes} bytes instead of {thing.size_bytes}")
        if thing.validator is not None and _short(download.validator) != thing.validator:
            self._is_gone("another validator")
        if self._at and not download.takes_ranges:
            raise PartsRefused(self._store.name)

    def _is_gone(self, reason: str) -> NoReturn:
        _log.warning("store.object_changed", store=self._store.name, reason=reason)
        raise KeyMissing(self._key)

    def _is_other(self, reason: str) -> NoReturn:
        raise StoreFailed(self._store.name, f"the data behind the URL has changed: {reason}")

    def _explain(self, error: TransomError, *, is_open: bool) -> NoReturn:
        """Raise the store's error for one of the download's."""
        store = self._store.name
        match error:
            case UrlRefused():
                raise StoreRefused(store, "its URL is not allowed here (any more)") from error
            case SourceChanged() if not is_open:
                raise KeyMissing(self._key) from error
            case FetchFailed(status=status) if not is_open and status in _GONE:
                raise KeyMissing(self._key) from error
            case FetchFailed(retryable=True):
                raise StoreUnavailable(store, "the server of the data does not give it") from error
            case _:
                raise StoreFailed(store, str(error).rstrip(".")) from error


async def _measured(download: Download) -> tuple[int, str]:
    digest = hashlib.new(DIGEST)
    size_bytes = 0
    async for piece in download:
        size_bytes += len(piece)
        digest.update(piece)
    return size_bytes, digest.hexdigest()


def _short(validator: str | None) -> str | None:
    """The validator, unless it is too long to be kept."""
    return validator if validator is None or len(validator) <= _VALIDATOR_MAX else None


def _key_of(thing: _Object) -> str:
    """A new key for an object. Two locations of one URL are two keys."""
    text = base64.urlsafe_b64encode(msgspec.json.encode(thing)).decode().rstrip("=")
    key = f"{secrets.token_hex(6)}.{text}"
    if len(key) > FOREIGN_LENGTH_MAX:
        raise LocationRefused("its URL is too long")
    return key


def _object_of(key: str) -> _Object:
    """What a key stands for. Raises KeyMissing for a key that was not made here."""
    _, _, text = checked_key(key, FOREIGN_LENGTH_MAX).partition(".")
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(text + "=="), type=_Object)
    except (msgspec.DecodeError, binascii.Error, ValueError) as unknown:
        raise KeyMissing(key) from unknown
