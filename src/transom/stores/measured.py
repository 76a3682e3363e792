"""A store whose operations are counted and timed, whatever its driver, and shown in traces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Self

from transom import tracing
from transom.errors import (
    ImageInUse,
    ImageTooLarge,
    Invalid,
    StoreFailed,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
)
from transom.metrics.table import (
    STORE_DURATION,
    STORE_ERRORS,
    STORE_READ,
    STORE_RUNNING,
    STORE_WRITTEN,
)
from transom.stores.store import Entry, KeyMissing, Reader, Store, Stored, Writer

_KINDS: dict[type[BaseException], str] = {
    StoreFull: "full",
    StoreUnavailable: "unavailable",
    StoreRefused: "refused",
    StoreFailed: "failed",
    KeyMissing: "missing",
    ImageInUse: "in_use",
}
_NO_FAULTS = (asyncio.CancelledError, GeneratorExit, StopAsyncIteration, Invalid, ImageTooLarge)
"""What is raised without the store being to blame: a caller that left, or asked for what cannot be."""


class _Meter:
    """Counts the operations of one store."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.read = STORE_READ.at(name)
        self.written = STORE_WRITTEN.at(name)
        self._running = STORE_RUNNING.at(name)
        for operation in ("write", "commit", "open", "read", "delete", "check"):
            for kind in ("full", "unavailable", "refused", "failed"):
                STORE_ERRORS.at(name, operation, kind)

    @contextmanager
    def measure(self, operation: str) -> Iterator[None]:
        """Time an operation, and count its failure."""
        self._running.value += 1
        began = perf_counter()
        try:
            yield
        except _NO_FAULTS:
            raise
        except BaseException as error:
            kind = next((word for base, word in _KINDS.items() if isinstance(error, base)), "other")
            STORE_ERRORS.at(self.name, operation, kind).add()
            raise
        finally:
            self._running.value -= 1
            STORE_DURATION.at(self.name, operation).observe(perf_counter() - began)

    @contextmanager
    def observe(self, operation: str) -> Iterator[None]:
        """Time an operation, and show it in the trace of its request."""
        with tracing.span(f"store {operation}", store=self.name), self.measure(operation):
            yield


class MeasuredStore:
    """A Store that does what another one does."""

    def __init__(self, store: Store) -> None:
        self.name = store.name
        self.features = store.features
        self._store = store
        self._meter = _Meter(store.name)

    def __getattr__(self, name: str) -> Any:
        """What the driver can do besides the contract."""
        return getattr(self._store, name)

    def writer(self, key: str, *, size_hint: int | None = None) -> Writer:
        """See the contract."""
        with self._meter.measure("writer"):
            return _MeasuredWriter(self._store.writer(key, size_hint=size_hint), self._meter)

    async def reopen(self, token: str) -> Writer:
        """See the contract."""
        with self._meter.observe("reopen"):
            return _MeasuredWriter(await self._store.reopen(token), self._meter)

    async def read(self, key: str, *, offset: int = 0, length: int | None = None) -> Reader:
        """See the contract."""
        with self._meter.observe("open"):
            reader = await self._store.read(key, offset=offset, length=length)
        return _MeasuredReader(reader, self._meter)

    def local_path(self, key: str) -> Path | None:
        """See the contract."""
        return self._store.local_path(key)

    async def stat(self, key: str) -> Entry:
        """See the contract."""
        with self._meter.observe("stat"):
            return await self._store.stat(key)

    async def delete(self, key: str) -> None:
        """See the contract."""
        with self._meter.observe("delete"):
            await self._store.delete(key)

    def list(self) -> AsyncIterator[Entry]:
        """See the contract."""
        return self._listed(self._store.list())

    def list_partial(self) -> AsyncIterator[Entry]:
        """See the contract."""
        return self._listed(self._store.list_partial())

    def properties(self) -> dict[str, object]:
        """See the contract."""
        return self._store.properties()

    def url(self, key: str) -> str:
        """See the contract."""
        return self._store.url(key)

    async def find(self, url: str, *, proves: bool = False) -> Entry:
        """See the contract."""
        with self._meter.observe("find"):
            return await self._store.find(url, proves=proves)

    def proves(self, key: str) -> bool:
        """See the contract."""
        return self._store.proves(key)

    async def check(self) -> None:
        """See the contract."""
        with self._meter.observe("check"):
            await self._store.check()

    async def close(self) -> None:
        """See the contract."""
        await self._store.close()

    async def _listed(self, entries: AsyncIterator[Entry]) -> AsyncIterator[Entry]:
        with self._meter.measure("list"):
            async for entry in entries:
                yield entry


class _MeasuredWriter:
    """A Writer that does what another one does."""

    def __init__(self, writer: Writer, meter: _Meter) -> None:
        self._writer = writer
        self._meter = meter

    @property
    def token(self) -> str:
        """See the contract."""
        return self._writer.token

    @property
    def offset(self) -> int:
        """See the contract."""
        return self._writer.offset

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """See the contract."""
        with self._meter.measure("write"):
            await self._writer.write(chunk)
        self._meter.written.value += len(chunk)

    async def flush(self) -> int:
        """See the contract."""
        with self._meter.observe("flush"):
            return await self._writer.flush()

    async def commit(self) -> Stored:
        """See the contract."""
        with self._meter.observe("commit"):
            return await self._writer.commit()

    async def cancel(self) -> None:
        """See the contract."""
        with self._meter.observe("cancel"):
            await self._writer.cancel()

    async def detach(self) -> None:
        """See the contract."""
        with self._meter.measure("detach"):
            await self._writer.detach()

    async def __aenter__(self) -> Self:
        with self._meter.observe("create"):
            await self._writer.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Nothing to do after a commit, and then it takes no time.
        with self._meter.measure("leave"):
            await self._writer.__aexit__(exc_type, exc, traceback)


class _MeasuredReader:
    """A Reader that does what another one does."""

    __slots__ = ("_meter", "_pieces", "_reader")

    def __init__(self, reader: Reader, meter: _Meter) -> None:
        self._reader = reader
        self._meter = meter
        self._pieces = aiter(reader)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        with self._meter.measure("read"):
            piece = await anext(self._pieces)
        self._meter.read.value += len(piece)
        return piece

    async def close(self) -> None:
        """See the contract."""
        await self._reader.close()
