"""What the outbox promises to those who tell of events and those who deliver them, on every database."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

import msgspec
import pytest

from tests.support.catalogs import an_image
from transom.catalog import Catalog
from transom.catalog.outbox import Letter, Look
from transom.errors import DuplicateImage, ImageChanged
from transom.model.event import EventState, Notice, Outgoing, Priority

FAR = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)


def letter(subject: str = "one", type_: str = "image.update", *targets: str, **more: Any) -> Letter:
    payload = more.pop("payload", {"id": subject})
    notice = Notice(type=type_, subject=subject, payload=payload, **more)
    return Letter(notice=notice, targets=targets or ("hook",), request_id="req-1")


async def heads(catalog: Catalog, target: str = "hook", limit: int = 10) -> list[Outgoing]:
    return await catalog.outbox.heads(target, dt.datetime.now(dt.UTC), limit)


async def test_an_event_comes_with_its_write(catalog: Catalog) -> None:
    image = an_image(name="ü\n", properties={"a": None})
    with catalog.outbox.with_next_write(
        lambda _, look: [letter(image.id, payload={"seen": look.image(image.id).name})]
    ):
        await catalog.images.create(image)
    [event] = await heads(catalog)
    assert (event.type, event.subject, event.request_id) == ("image.update", image.id, "req-1")
    assert event.payload == {"seen": "ü\n"}
    assert (event.state, event.attempts, event.priority) == (EventState.WAITING, 0, Priority.INFO)
    assert abs(event.created_at - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=5)


async def test_a_write_that_fails_tells_nothing(catalog: Catalog) -> None:
    image = an_image()
    await catalog.images.create(image)
    with catalog.outbox.with_next_write(lambda _, __: [letter()]):
        with pytest.raises(DuplicateImage):
            await catalog.images.create(image)
        stale = msgspec.structs.replace(image, revision=77)
        with pytest.raises(ImageChanged):
            await catalog.images.replace(stale, msgspec.structs.replace(stale, name="x"))
    assert await heads(catalog) == []


async def test_a_write_is_undone_when_its_event_cannot_be_written(catalog: Catalog) -> None:
    def broken(_: Any, __: Look) -> list[Letter]:
        raise LookupError("no words")

    image = an_image()
    with catalog.outbox.with_next_write(broken), pytest.raises(LookupError):
        await catalog.images.create(image)
    await catalog.images.create(image)


async def test_many_writes_at_once_tell_each_of_itself(catalog: Catalog) -> None:
    async def create(number: int) -> None:
        image = an_image(name=str(number))
        with catalog.outbox.with_next_write(
            lambda _, __: [letter(image.id, payload={"name": image.name})]
        ):
            await catalog.images.create(image)

    async def silent() -> None:
        await catalog.images.create(an_image())

    await asyncio.gather(*(create(number) for number in range(40)), *(silent() for _ in range(40)))
    found = await heads(catalog, limit=1000)
    assert sorted(int(event.payload["name"]) for event in found) == list(range(40))


async def test_each_target_has_the_same_event_for_itself(catalog: Catalog) -> None:
    await catalog.outbox.add([letter("one", "image.create", "hook", "amqp")])
    [first], [second] = await heads(catalog, "hook"), await heads(catalog, "amqp")
    assert first.event_id == second.event_id
    await catalog.outbox.settle([first.number])
    assert await heads(catalog, "hook") == []
    assert [event.number for event in await heads(catalog, "amqp")] == [second.number]


async def test_the_first_event_of_each_subject_goes_first(catalog: Catalog) -> None:
    for subject in ("a", "b", "a", "a", "c"):
        await catalog.outbox.add([letter(subject, payload="a sentence")])
    first = await heads(catalog)
    assert [event.subject for event in first] == ["a", "b", "c"]
    assert [event.subject for event in await heads(catalog, limit=2)] == ["a", "b"]
    await catalog.outbox.settle([event.number for event in first])
    [second] = await heads(catalog)
    assert (second.subject, second.payload) == ("a", "a sentence")


async def test_an_event_that_failed_waits_and_holds_up_its_subject_alone(catalog: Catalog) -> None:
    await catalog.outbox.add([letter("a"), letter("a"), letter("b")])
    a, b = await heads(catalog)
    await catalog.outbox.settle([b.number], {a.number: ("x" * 9000, FAR, EventState.WAITING)})
    assert await heads(catalog) == []
    [again, _] = await catalog.outbox.heads("hook", FAR, 10), 0
    assert [(event.number, event.attempts) for event in again] == [(a.number, 1)]
    assert 0 < len(again[0].reason) < 1000


async def test_a_dead_event_lets_the_next_pass_and_can_be_brought_back(catalog: Catalog) -> None:
    await catalog.outbox.add([letter("a"), letter("a")])
    [first] = await heads(catalog)
    await catalog.outbox.settle([], {first.number: ("refused", FAR, EventState.DEAD)})
    [second] = await heads(catalog)
    assert second.number > first.number
    assert await catalog.outbox.count() == {
        ("hook", EventState.DEAD): 1,
        ("hook", EventState.WAITING): 1,
    }
    [listed] = await catalog.outbox.list(state=EventState.DEAD)
    assert (listed.number, listed.reason, listed.attempts) == (first.number, "refused", 1)
    now = dt.datetime.now(dt.UTC)
    assert await catalog.outbox.retry([second.number], now=now) == 0
    assert await catalog.outbox.retry(None, target="other", now=now) == 0
    assert await catalog.outbox.retry(None, target="hook", now=now) == 1
    [again] = await heads(catalog)
    assert (again.number, again.attempts) == (first.number, 0)


async def test_events_are_dropped_by_number_target_and_state(catalog: Catalog) -> None:
    await catalog.outbox.add([letter("a", "t", "one", "two"), letter("b", "t", "one")])
    everything = await catalog.outbox.list()
    assert [event.subject for event in everything] == ["a", "a", "b"]
    assert await catalog.outbox.list(after=everything[1].number, limit=5) == everything[2:]
    assert await catalog.outbox.drop([everything[2].number], target="two") == 0
    assert await catalog.outbox.drop([everything[2].number]) == 1
    assert await catalog.outbox.drop(None, target="two") == 1
    assert await catalog.outbox.drop(None, state=EventState.DEAD) == 0
    assert await catalog.outbox.drop(None) == 1


async def test_a_number_is_not_used_twice(catalog: Catalog) -> None:
    await catalog.outbox.add([letter()])
    [first] = await heads(catalog)
    await catalog.outbox.settle([first.number])
    await catalog.outbox.add([letter()])
    [second] = await heads(catalog)
    assert second.number > first.number


async def test_one_process_at_a_time_holds_a_target(catalog: Catalog) -> None:
    outbox, living = catalog.outbox, ("a", "b")
    taken = await asyncio.gather(*(outbox.hold("hook", each, 60, living) for each in living))
    assert sorted(taken) == [False, True]
    owner, other = ("a", "b") if taken[0] else ("b", "a")
    assert await outbox.hold("hook", owner, 60, living)
    assert await outbox.hold("elsewhere", other, 60, living)
    assert await outbox.hold("hook", other, 0, (other,)), "the owner is dead"
    assert await outbox.hold("hook", owner, 60, living), "the time is over"
    await outbox.let_go(owner)
    assert await outbox.hold("hook", other, 60, living)
