"""What goes on beside requests goes on, whatever happens to one round of it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog

from transom import app
from transom.errors import CatalogUnavailable
from transom.metrics.table import EVENTS_WAITING, LEASE_FAILURES, SWEEP_FAILURES
from transom.registry import Registry

TROUBLE = (CatalogUnavailable(), RuntimeError("a mistake of ours"), AttributeError("half loaded"))


class Rounds:
    """Fails in every way at first, then works."""

    def __init__(self) -> None:
        self.left = list(TROUBLE)
        self.done = asyncio.Event()

    async def __call__(self, *_: Any) -> int:
        if self.left:
            raise self.left.pop()
        self.done.set()
        return 0


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Rounds:
    for name in ("BEAT_SECONDS", "SWEEP_SECONDS", "WATCHED_SECONDS", "COUNT_SECONDS"):
        monkeypatch.setattr(app, name, 0.001)
    return Rounds()


def background(**catalog: Any) -> app.Background:
    registry = SimpleNamespace(
        catalog=SimpleNamespace(**catalog),
        events=SimpleNamespace(targets=("hook",)),
        process_id="mine",
    )
    return app.Background(cast("Registry", registry), is_worker=False)


async def until(done: asyncio.Event, work: Any) -> list[Any]:
    """Run the loop until the rounds work; gives what it logged."""
    with structlog.testing.capture_logs() as logs:
        task = asyncio.create_task(work)
        async with asyncio.timeout(10):
            await done.wait()
        assert not task.done()
        task.cancel()
    return logs


async def test_the_lease_is_renewed_whatever_happens(rounds: Rounds) -> None:
    before = LEASE_FAILURES.at().value
    logs = await until(rounds.done, background(processes=SimpleNamespace(beat=rounds))._beat())
    assert LEASE_FAILURES.at().value == before + len(TROUBLE)
    assert [each["event"] for each in logs] == ["lease.not_renewed"] * len(TROUBLE)
    assert [each["log_level"] for each in logs] == ["error", "error", "warning"]


@pytest.mark.parametrize("part", ["sweep", "sweep_tasks"])
async def test_the_sweep_goes_on_whatever_happens(
    rounds: Rounds, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(_registry: Registry) -> int:
        return 0

    monkeypatch.setattr(app, "sweep", nothing)
    monkeypatch.setattr(app, "sweep_tasks", nothing)
    monkeypatch.setattr(app, part, rounds)
    before = SWEEP_FAILURES.at().value
    work = background(processes=SimpleNamespace(are_suspected=True))._sweep()
    logs = await until(rounds.done, work)
    assert SWEEP_FAILURES.at().value == before + len(TROUBLE)
    assert [each["event"] for each in logs] == ["sweep.failed"] * len(TROUBLE)


async def test_events_are_counted_whatever_happens(rounds: Rounds) -> None:
    async def count() -> dict[Any, int]:
        await rounds()
        return {}

    logs = await until(rounds.done, background(outbox=SimpleNamespace(count=count))._count_events())
    assert [each["event"] for each in logs] == ["events.not_counted"] * len(TROUBLE)


async def test_a_target_that_nothing_waits_for_is_shown_as_0() -> None:
    EVENTS_WAITING.forget()
    counted = asyncio.Event()

    async def count() -> dict[Any, int]:
        counted.set()
        return {}

    await until(counted, background(outbox=SimpleNamespace(count=count))._count_events())
    assert [(each.labels, each.value) for each in EVENTS_WAITING.read()] == [(("hook",), 0)]
