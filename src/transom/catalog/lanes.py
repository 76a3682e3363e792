"""Lanes: a few threads that do the blocking work of the catalog, each with a worker of its own.

A hop costs about 40 µs, half of what the executors of asyncio cost, because a job here is one
queue entry and one call back. Threads that run Python take it from each other, so a lane keeps few
of them awake until somebody waits (decision 0047). No SQL in this file.
"""

from __future__ import annotations

import asyncio
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from transom.errors import CatalogBusy, CatalogUnavailable
from transom.metrics.table import (
    CATALOG_BUSY,
    CATALOG_DURATION,
    CATALOG_ERRORS,
    CATALOG_SIZE,
    CATALOG_WAIT,
    CATALOG_WAITING,
)


class Job:
    """One piece of work on its way through a lane. It is either run or withdrawn, never both."""

    __slots__ = ("_future", "_loop", "_ticket", "queued_at", "work")

    def __init__(
        self,
        work: Callable[[Any], Any],
        future: asyncio.Future[Any] | Future[Any],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self.work = work
        self.queued_at = time.monotonic()
        self._future = future
        self._loop = loop
        self._ticket = [True]

    def take(self) -> bool:
        """True for exactly one caller: the one who may decide what becomes of the job."""
        try:
            return self._ticket.pop()
        except IndexError:
            return False

    def done(self, result: Any) -> None:
        """Hand the result to whoever waits."""
        self._settle(_give, result)

    def failed(self, error: BaseException) -> None:
        """Hand the error to whoever waits."""
        self._settle(_raise, error)

    def _settle(self, settle: Callable[[Any, Any], None], value: Any) -> None:
        if self._loop is None:
            settle(self._future, value)
            return
        try:
            self._loop.call_soon_threadsafe(settle, self._future, value)
        except RuntimeError:
            # The loop is closed: nobody waits any more.
            return


def _give(future: asyncio.Future[Any] | Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _raise(future: asyncio.Future[Any] | Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


class Worker(Protocol):
    """What a thread of a lane works with. Made, used and closed in that thread alone."""

    def run(self, jobs: Sequence[Job]) -> None:
        """Do the jobs and settle each of them. Never raises."""
        ...

    def close(self) -> None:
        """Free what the worker holds."""
        ...


HURRY_SECONDS = 0.001
"""How long a job waits for the threads that are awake before another one is woken for it."""


class Lane:
    """Threads that take jobs in the order of their arrival.

    `eager` is how many threads are woken at once; the others, up to `threads`, only when a job has
    waited. `batch_max` is how many waiting jobs one worker takes at once. A job that waited longer
    than `patience_seconds` (0 = no limit) fails with CatalogBusy without being run: what piled up
    while the database was away must not keep it busy when it is back.
    """

    def __init__(
        self,
        name: str,
        worker: Callable[[], Worker],
        *,
        threads: int,
        eager: int | None = None,
        batch_max: int = 1,
        patience_seconds: float = 30.0,
        measured_as: str = "",
    ) -> None:
        self._name = name
        self._measured_as = measured_as
        """The metrics' word for this work; empty where nothing is measured."""
        self._worker = worker
        self._threads_max = threads
        self._eager = threads if eager is None else min(eager, threads)
        self._batch_max = batch_max
        self._patience_seconds = patience_seconds
        self._jobs: deque[Job] = deque()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        """Guards what follows, and the step from "no job is left" to sleeping."""
        self._awake = 0
        self._asleep = 0
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._is_watched = False
        self._closed = False
        if measured_as:
            CATALOG_WAITING.watch(lambda: len(self._jobs), measured_as)
            CATALOG_BUSY.watch(lambda: self._awake, measured_as)
            CATALOG_SIZE.at(measured_as).set(threads)

    async def run(self, work: Callable[[Any], Any]) -> Any:
        """The result of the work. A cancelled wait is over at once; the result is dropped."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        job = Job(work, future, loop)
        self._put(job, loop)
        try:
            return await future
        except asyncio.CancelledError:
            job.take()
            raise

    async def run_to_the_end(self, work: Callable[[Any], Any]) -> Any:
        """The result of the work. A cancelled wait ends when the work was withdrawn before it
        began or is done: what the caller does next never overlaps with it."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        job = Job(work, future, loop)
        self._put(job, loop)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if not job.take():
                await _settled(future)
            raise

    def run_now(self, work: Callable[[Any], Any]) -> Any:
        """The result of the work; blocks the calling thread."""
        future: Future[Any] = Future()
        self._put(Job(work, future, None), None)
        return future.result()

    def close(self) -> None:
        """Finish the waiting jobs and end the threads."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            threads = list(self._threads)
            while self._asleep:
                self._wake()
        for thread in threads:
            thread.join()

    def _put(self, job: Job, loop: asyncio.AbstractEventLoop | None) -> None:
        with self._lock:
            if self._closed:
                raise CatalogUnavailable
            self._jobs.append(job)
            if self._awake < self._eager or (loop is None and self._awake < self._threads_max):
                self._wake()
                return
            if loop is None or self._is_watched or self._awake >= self._threads_max:
                return
            self._is_watched = True
        loop.call_later(HURRY_SECONDS, self._watch, loop)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wake one more thread if the first job has waited; look again while jobs wait."""
        with self._lock:
            self._is_watched = bool(self._jobs) and not self._closed
            if not self._is_watched:
                return
            if time.monotonic() - self._jobs[0].queued_at >= HURRY_SECONDS:
                self._wake()
            self._is_watched = self._awake < self._threads_max
            if not self._is_watched:
                return
        loop.call_later(HURRY_SECONDS, self._watch, loop)

    def _wake(self) -> None:
        """Let one more thread look for jobs. Called with the lock, when not all are awake."""
        self._awake += 1
        if self._asleep:
            self._asleep -= 1
            self._wakes.put(None)
            return
        thread = threading.Thread(
            target=self._serve, name=f"{self._name}-{len(self._threads)}", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        worker = self._worker()
        run = worker.run if not self._measured_as else self._measured(worker)
        try:
            while (job := self._next()) is not None:
                batch = self._batch(job)
                if batch:
                    run(batch)
                del job, batch
        finally:
            worker.close()

    def _measured(self, worker: Worker) -> Callable[[Sequence[Job]], None]:
        wait = CATALOG_WAIT.at(self._measured_as)
        duration = CATALOG_DURATION.at(self._measured_as)

        def run(batch: Sequence[Job]) -> None:
            began = time.monotonic()
            for job in batch:
                wait.observe(began - job.queued_at)
            worker.run(batch)
            duration.observe(time.monotonic() - began)

        return run

    def _next(self) -> Job | None:
        """The first job, as soon as there is one; None when the lane closes."""
        while True:
            with self._lock:
                if self._jobs:
                    return self._jobs.popleft()
                if self._closed:
                    return None
                self._awake -= 1
                self._asleep += 1
            self._wakes.get()

    def _batch(self, first: Job) -> list[Job]:
        jobs = [first]
        while len(jobs) < self._batch_max:
            try:
                jobs.append(self._jobs.popleft())
            except IndexError:
                break
        taken = [job for job in jobs if job.take()]
        too_late = time.monotonic() - (self._patience_seconds or math.inf)
        for job in taken:
            if job.queued_at < too_late:
                CATALOG_ERRORS.at("waited").add()
                job.failed(CatalogBusy())
        return [job for job in taken if job.queued_at >= too_late]


async def _settled(future: asyncio.Future[Any]) -> None:
    """Wait for the future through any number of cancellations."""
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            continue
    if not future.cancelled():
        future.exception()
