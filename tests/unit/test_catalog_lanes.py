"""Lanes of the catalog: who is woken, what is withdrawn, how they end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from transom.catalog.lanes import Job, Lane
from transom.errors import CatalogUnavailable


class Plain:
    """Does each job by itself."""

    def run(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            try:
                result = job.work(None)
            except BaseException as error:  # noqa: BLE001 - handed to the caller as it is
                job.failed(error)
            else:
                job.done(result)

    def close(self) -> None:
        """Nothing to free."""


@pytest.fixture
def lanes() -> Iterator[Callable[..., Lane]]:
    """Makes lanes of plain workers, closed at the end."""
    made: list[Lane] = []

    def make(**options: Any) -> Lane:
        made.append(Lane("test", Plain, **options))
        return made[-1]

    yield make
    for lane in made:
        lane.close()


def _names(_: object) -> str:
    return threading.current_thread().name


async def test_quick_jobs_leave_the_other_threads_asleep(
    lanes: Callable[..., Lane], monkeypatch: pytest.MonkeyPatch
) -> None:
    # However busy the machine is, these are quick.
    monkeypatch.setattr("transom.catalog.lanes.HURRY_SECONDS", 5.0)
    lane = lanes(threads=8, eager=1)
    names = set()
    for _ in range(20):
        names.add(await lane.run(_names))
    assert names == {"test-0"}


async def test_a_job_that_waits_gets_another_thread(lanes: Callable[..., Lane]) -> None:
    lane = lanes(threads=4, eager=1)
    free = threading.Event()
    slow = [asyncio.ensure_future(lane.run(lambda _: free.wait(20))) for _ in range(3)]
    async with asyncio.timeout(10):
        assert await lane.run(lambda _: "quick") == "quick"
    free.set()
    assert await asyncio.gather(*slow) == [True] * 3


async def test_no_more_threads_than_allowed_work_at_once(lanes: Callable[..., Lane]) -> None:
    lane = lanes(threads=3, eager=1)
    lock, now, most = threading.Lock(), 0, 0

    def work(_: object) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.01)
        with lock:
            now -= 1

    await asyncio.gather(*(lane.run(work) for _ in range(30)))
    assert most == 3


async def test_jobs_are_taken_in_the_order_of_their_arrival(lanes: Callable[..., Lane]) -> None:
    lane = lanes(threads=1)
    taken: list[int] = []
    await asyncio.gather(*(lane.run(lambda _, n=n: taken.append(n)) for n in range(50)))
    assert taken == list(range(50))


async def test_a_withdrawn_job_is_not_run(lanes: Callable[..., Lane]) -> None:
    lane = lanes(threads=1)
    free, ran = threading.Event(), []
    first = asyncio.ensure_future(lane.run(lambda _: free.wait(20)))
    second = asyncio.ensure_future(lane.run_to_the_end(lambda _: ran.append(1)))
    await asyncio.sleep(0.01)
    second.cancel()
    await asyncio.wait([second], timeout=10)
    free.set()
    await first
    assert await lane.run(lambda _: "next") == "next"
    assert second.cancelled()
    assert ran == []


async def test_what_piled_up_too_long_is_refused(lanes: Callable[..., Lane]) -> None:
    lane = lanes(threads=1, patience_seconds=0.5)
    begun, free = threading.Event(), threading.Event()
    first = asyncio.ensure_future(lane.run(lambda _: begun.set() or free.wait(20)))
    assert await asyncio.to_thread(begun.wait, 20)
    second = asyncio.ensure_future(lane.run(lambda _: "too late"))
    await asyncio.sleep(1)
    free.set()
    await first
    with pytest.raises(CatalogUnavailable):
        await second


async def test_closing_finishes_what_waits_and_takes_nothing_new(
    lanes: Callable[..., Lane],
) -> None:
    lane = lanes(threads=2, eager=1)
    waiting = [asyncio.ensure_future(lane.run(lambda _: time.sleep(0.005))) for _ in range(20)]
    await asyncio.sleep(0)
    await asyncio.to_thread(lane.close)
    await asyncio.gather(*waiting)
    with pytest.raises(CatalogUnavailable):
        await lane.run(_names)


def test_a_thread_may_ask_without_a_loop(lanes: Callable[..., Lane]) -> None:
    lane = lanes(threads=2, eager=1)
    assert lane.run_now(lambda _: 7) == 7
