"""Lanes: the queues and threads that bring the chunks of one upload to all who need them.

Every lane gets every chunk, in order, and works at its own speed. Chunks are shared. Two bounds hold
the memory: one upload runs at most `UPLOAD_BYTES_MAX` ahead of its slowest lane, and all uploads of
the process together hold at most `PROCESS_BYTES_MAX`, beyond one chunk for each. That one chunk is
always allowed, so neither slow clients nor a store that hangs can stop the others (decision 0014).
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from transom.formats import Inspection
from transom.stores.threads import run_to_end

MIB = 1024 * 1024
UPLOAD_BYTES_MAX = 16 * MIB
PROCESS_BYTES_MAX = 64 * MIB
_GATHER_BYTES = 512 * 1024
"""A lane waits for so much before it takes a thread, unless the data ends or memory is short."""
_HOP_BYTES = 8 * MIB
"""After so much a lane gives its thread back, so that many uploads share the threads fairly."""
_INLINE_BYTES = 16 * 1024
"""Less than this is worked on faster than a thread is reached."""


class Sink(Protocol):
    """Where data goes in the end: a Writer, or what stands before one."""

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes."""
        ...


class Budget:
    """The bytes that all uploads of a process hold in their lanes. Safe across event loops."""

    def __init__(self, size_bytes_max: int = PROCESS_BYTES_MAX) -> None:
        self._size_bytes_max = size_bytes_max
        self._lock = threading.Lock()
        self._waiting: dict[Lanes, _Waiter] = {}
        """In the order in which they came; one upload waits at most once."""
        self._uploads: set[Lanes] = set()
        self.used_bytes = 0

    @property
    def is_short(self) -> bool:
        """True while an upload waits: then nobody gathers."""
        return bool(self._waiting)

    @contextlib.contextmanager
    def serving(self, lanes: Lanes) -> Iterator[None]:
        """Count `lanes` among the uploads, and give back at the end all that they hold."""
        with self._lock:
            self._uploads.add(lanes)
        try:
            yield
        finally:
            with self._lock:
                self._uploads.discard(lanes)
            self.release(lanes, lanes.held_bytes)

    async def acquire(self, lanes: Lanes, size_bytes: int) -> None:
        """Wait until `size_bytes` more may be held; at once for an upload that holds nothing."""
        with self._lock:
            fits = self.used_bytes + size_bytes <= self._size_bytes_max and not self._waiting
            if fits or not lanes.held_bytes:
                self.used_bytes += size_bytes
                return
            waiter = self._waiting[lanes] = _Waiter(size_bytes)
            uploads = list(self._uploads) if len(self._waiting) == 1 else []
        # Those who gather learn of the shortage once; whoever takes more meanwhile sees it.
        for each in uploads:
            each.hurry()
        try:
            await waiter.turn
        except asyncio.CancelledError:
            with self._lock:
                was_waiting = self._waiting.pop(lanes, None) is not None
            if not was_waiting:
                self.release(lanes, size_bytes)
            raise

    def release(self, lanes: Lanes, size_bytes: int) -> None:
        """Give back bytes that `lanes` held."""
        with self._lock:
            self.used_bytes -= size_bytes
            if not lanes.held_bytes and lanes in self._waiting:
                self._call(lanes)
            while self._waiting:
                first, waiter = next(iter(self._waiting.items()))
                if self.used_bytes + waiter.size_bytes > self._size_bytes_max:
                    break
                self._call(first)

    def _call(self, lanes: Lanes) -> None:
        waiter = self._waiting.pop(lanes)
        self.used_bytes += waiter.size_bytes
        waiter.call()


class _Waiter:
    __slots__ = ("_loop", "size_bytes", "turn")

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._loop = asyncio.get_running_loop()
        self.turn: asyncio.Future[None] = self._loop.create_future()

    def call(self) -> None:
        self._loop.call_soon_threadsafe(self._done)

    def _done(self) -> None:
        if not self.turn.done():
            self.turn.set_result(None)


@functools.cache
def process_budget() -> Budget:
    """The budget of this process."""
    return Budget()


@functools.cache
def threads() -> ThreadPoolExecutor:
    """The threads of all lanes. Digests keep processors busy, so a few more than processors do."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 4
    return ThreadPoolExecutor(min(32, processors + 2), thread_name_prefix="intake")


class Lanes:
    """All lanes of one upload. Put chunks in, then `end`; run every lane meanwhile."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._loop = asyncio.get_running_loop()
        self._lanes: list[Lane] = []
        self._taken_bytes = 0
        self._passed_bytes = 0
        self._moved = asyncio.Event()

    @property
    def held_bytes(self) -> int:
        """Bytes that the slowest lane has not passed yet."""
        return self._taken_bytes - self._passed_bytes

    def digest(self, update: Callable[[bytes], None]) -> Lane:
        """A lane that gives every chunk to `update`, in a thread."""
        return self._add(ThreadLane(self, update))

    def inspect(self, inspection: Inspection) -> Lane:
        """A lane that shows every chunk to the inspection, in a thread while that is work."""
        return self._add(InspectionLane(self, inspection))

    def write(self, writer: Sink) -> Lane:
        """A lane that writes every chunk."""
        return self._add(WriterLane(self, writer))

    async def put(self, chunk: bytes) -> None:
        """Hand a chunk to every lane; waits while they have too much to do."""
        while self.held_bytes and self.held_bytes + len(chunk) > UPLOAD_BYTES_MAX:
            self._wake()
            self._moved.clear()
            await self._moved.wait()
        await self._budget.acquire(self, len(chunk))
        self._taken_bytes += len(chunk)
        for lane in self._lanes:
            lane.put(chunk)
        self.moved()

    def end(self) -> None:
        """No more chunks come: the lanes finish."""
        for lane in self._lanes:
            lane.end()

    def hurry(self) -> None:
        """Let the lanes work on what they have, however little. Safe from any thread."""
        self._loop.call_soon_threadsafe(self._wake)

    def moved(self) -> None:
        """Some lane got on: see whether the slowest did."""
        passed = min(lane.passed_bytes for lane in self._lanes)
        if passed > self._passed_bytes:
            freed, self._passed_bytes = passed - self._passed_bytes, passed
            self._budget.release(self, freed)
            self._moved.set()

    @property
    def is_short(self) -> bool:
        """True while memory is short in the process."""
        return self._budget.is_short

    def _wake(self) -> None:
        for lane in self._lanes:
            lane.hurry()

    def _add(self, lane: Lane) -> Lane:
        self._lanes.append(lane)
        return lane


class Lane:
    """One queue and who works on it. `run` ends when the data does."""

    gather_bytes = 1

    def __init__(self, lanes: Lanes) -> None:
        self.passed_bytes = 0
        self._lanes = lanes
        self._chunks: collections.deque[bytes] = collections.deque()
        self._queued_bytes = 0
        self._is_ended = False
        self._is_hurried = False
        self._wake = asyncio.Event()

    def put(self, chunk: bytes) -> None:
        """Queue a chunk."""
        self._chunks.append(chunk)
        self._queued_bytes += len(chunk)
        if self._queued_bytes >= self.gather_bytes or self._lanes.is_short:
            self._wake.set()

    def end(self) -> None:
        """No more chunks come."""
        self._is_ended = True
        self._wake.set()

    def hurry(self) -> None:
        """Work on what there is, however little."""
        self._is_hurried = bool(self._chunks)
        self._wake.set()

    async def run(self) -> None:
        """Work until the data ends. Raises what the work raises."""
        while True:
            while not self._is_ready():
                if self._is_ended and not self._chunks:
                    return
                self._wake.clear()
                await self._wake.wait()
            self._is_hurried = False
            await self._work()

    async def _work(self) -> None:
        raise NotImplementedError

    def _is_ready(self) -> bool:
        return bool(self._chunks) and (
            self._queued_bytes >= self.gather_bytes
            or self._is_ended
            or self._is_hurried
            or self._lanes.is_short
        )

    def _passed(self, size_bytes: int) -> None:
        self._queued_bytes -= size_bytes
        self.passed_bytes += size_bytes
        self._lanes.moved()


class ThreadLane(Lane):
    """Gives chunks to a function, in a thread that takes all that is queued meanwhile."""

    gather_bytes = _GATHER_BYTES

    def __init__(self, lanes: Lanes, update: Callable[[bytes], None]) -> None:
        super().__init__(lanes)
        self._update = update

    async def _work(self) -> None:
        if self._queued_bytes <= _INLINE_BYTES:
            self._passed(self._drain())
        else:
            self._passed(await run_to_end(threads(), self._drain))

    def _drain(self) -> int:
        done = 0
        while self._chunks and done < _HOP_BYTES:
            chunk = self._chunks.popleft()
            self._update(chunk)
            done += len(chunk)
        return done


class InspectionLane(ThreadLane):
    """Shows chunks to an inspection; once that only counts, without a thread."""

    gather_bytes = 64 * 1024

    def __init__(self, lanes: Lanes, inspection: Inspection) -> None:
        super().__init__(lanes, inspection.take)
        self._inspection = inspection

    def put(self, chunk: bytes) -> None:
        """Show the chunk at once when that costs nothing, else queue it."""
        if self._queued_bytes == 0 and self._inspection.is_satisfied:
            self._inspection.take(chunk)
            self.passed_bytes += len(chunk)
        else:
            super().put(chunk)

    async def _work(self) -> None:
        if self._inspection.is_satisfied:
            self._passed(self._drain())
        else:
            self._passed(await run_to_end(threads(), self._drain))


class WriterLane(Lane):
    """Gives chunks to a Writer, which puts them together as its store likes."""

    def __init__(self, lanes: Lanes, writer: Sink) -> None:
        super().__init__(lanes)
        self._writer = writer

    async def _work(self) -> None:
        while self._chunks:
            chunk = self._chunks.popleft()
            await self._writer.write(chunk)
            self._passed(len(chunk))
