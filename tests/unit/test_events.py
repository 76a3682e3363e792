"""Events: who is told of which, what webhooks look like, and how delivery goes on when it fails."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.catalogs import an_image, fresh_url
from tests.support.receiver import KEY, SECRET, Receiver
from tests.support.waiting import until_so
from transom.catalog import Catalog
from transom.catalog.engine import Engine
from transom.errors import ConfigurationError
from transom.events import Events, among
from transom.events.delivery import Delivery
from transom.events.payloads import image_notice
from transom.events.target import Undelivered
from transom.events.webhooks import Webhook, cloud_event, key_of, signed
from transom.model.event import EventState, Notice, Outgoing, Priority
from transom.settings import Settings, load, shown

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
EVENT = Outgoing(
    number=7,
    target="hook",
    event_id="e0f9",
    type="image.create",
    subject="an-image",
    priority=Priority.INFO,
    payload={"id": "an-image"},
    request_id="req-1",
    created_at=NOON,
    due_at=NOON,
)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    opened = Catalog(Engine(fresh_url("sqlite", tmp_path)))
    yield opened
    opened.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


def settings_for(receiver: Receiver, tmp_path: Path, **more: Any) -> Settings:
    tree = receiver.config(**more)["notifications"]
    hook = tree.pop("webhooks")["hook"]
    lines = ["[notifications]", *(f"{key} = {value}" for key, value in tree.items())]
    lines += ["[notifications.webhooks.hook]", f'url = "{hook["url"]}"']
    lines += [f'secret = "{hook["secret"]}"']
    path = tmp_path / "transom.toml"
    path.write_text("\n".join(lines))
    return load(path, tmp_path)


async def living() -> set[str]:
    return {"one", "two"}


class Running:
    """A delivery, started, and what tells it of things."""

    def __init__(self, settings: Settings, catalog: Catalog, process_id: str = "one") -> None:
        self.events = Events.open(settings, catalog)
        self.delivery = Delivery(settings, catalog, self.events, process_id, living)

    async def __aenter__(self) -> Events:
        await self.delivery.start()
        return self.events

    async def __aexit__(self, *_: object) -> None:
        await self.delivery.stop()


def about(subject: str, number: int = 0) -> Notice:
    return Notice(type="image.update", subject=subject, payload={"number": number})


# --- who is told ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "names", "expected"),
    [
        ("image.create", ["image.create"], True),
        ("image.create", ["image"], True),
        ("image.member.create", ["image"], True),
        ("image.member.create", ["image.member"], True),
        ("image.create", ["image.member"], False),
        ("image.create", ["imag", "task", "image.creat"], False),
        ("metadef_tag.delete", ["metadef_tag"], True),
        ("task.run", [], False),
    ],
)
def test_events_are_named_alone_or_by_their_groups(
    name: str, names: list[str], expected: bool
) -> None:
    assert among(name, names) is expected


async def test_each_target_gets_what_it_asked_for_and_nothing_that_is_disabled(
    catalog: Catalog,
) -> None:
    events = Events(catalog, {"all": (), "members": ("image.member",)}, ("image.send",))
    for type_ in ("image.create", "image.send", "image.member.create"):
        await events.tell(Notice(type=type_, subject="x", payload={}))
    told = [(event.type, event.target) for event in await catalog.outbox.list()]
    assert told == [
        ("image.create", "all"),
        ("image.member.create", "all"),
        ("image.member.create", "members"),
    ]
    assert events.wants("image.create")
    assert not events.wants("image.send")


async def test_without_a_target_nothing_is_asked_or_written(catalog: Catalog) -> None:
    def never(*_: object) -> list[Notice]:
        raise AssertionError("nobody wants to know")

    events = Events.open(load(data=Path("x")), catalog)
    with events.telling(never):
        await catalog.images.create(an_image())
    await events.tell(about("x"))
    assert not events.is_on
    assert not events.wants("image.create")
    assert await catalog.outbox.list() == []


# --- how targets are configured ------------------------------------------------------------------

HOOK = 'url = "https://example.org/hook"\nsecret = "s3cret"\n'


def loaded(tmp_path: Path, text: str, **environment: str) -> Settings:
    path = tmp_path / "transom.toml"
    path.write_text(text)
    return load(path, tmp_path, environment)


def test_webhooks_are_tables_and_secrets_are_not_shown(tmp_path: Path) -> None:
    text = f"[notifications.webhooks.builds]\n{HOOK}"
    amqp = "rabbit://user:hidden@host:5672/"
    settings = loaded(
        tmp_path,
        text,
        TRANSOM_NOTIFICATIONS__WEBHOOKS__BUILDS__EVENTS="image.create, task",
        TRANSOM_NOTIFICATIONS__AMQP__URL=amqp,
    )
    hook = settings.notifications.webhooks["builds"]
    assert (hook.url, hook.events) == ("https://example.org/hook", ("image.create", "task"))
    printed = shown(settings)
    assert "[notifications.webhooks.builds]" in printed
    assert "s3cret" not in printed
    assert "hidden" not in printed
    assert "https://example.org/hook" in printed


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[notifications.webhooks.a]\n" + HOOK + "colour = 1", "notifications.webhooks.<name>"),
        ('[notifications.webhooks.a]\nurl = "https://x"', "notifications.webhooks.a.secret"),
        ('[notifications.webhooks.a]\nurl = "ftp://x"\nsecret = "s"', "webhooks.a.url"),
        ('[notifications.webhooks.a]\nurl = "http://u:p@x"\nsecret = "s"', "webhooks.a.url"),
        ("[notifications.webhooks.amqp]\n" + HOOK, "notifications.webhooks.amqp"),
        (
            '[notifications.webhooks.a]\nurl = "http://x"\nsecret = "whsec_?"',
            "notifications.webhooks.a.secret",
        ),
        ('[notifications.amqp]\nurl = "rabbit"', "notifications.amqp.url"),
        ('[notifications.amqp]\nurl = "rabbit://x"\ntopics = []', "notifications.amqp.topics"),
    ],
    ids=["unknown-key", "no-secret", "scheme", "password", "name", "base64", "bus", "topics"],
)
def test_targets_that_cannot_work_are_refused_by_name(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        loaded(tmp_path, text)
    assert key in str(refused.value)
    assert "u:p@" not in str(refused.value)


# --- what a webhook is ---------------------------------------------------------------------------


def test_a_webhook_is_a_cloud_event() -> None:
    assert cloud_event(EVENT, "https://images.example.org") == {
        "specversion": "1.0",
        "id": "e0f9",
        "source": "https://images.example.org",
        "type": "image.create",
        "subject": "an-image",
        "time": "2026-01-01T12:00:00.000000Z",
        "datacontenttype": "application/json",
        "priority": "info",
        "sequence": "00000000000000000007",
        "requestid": "req-1",
        "data": {"id": "an-image"},
    }


def test_signature_is_that_of_standard_webhooks() -> None:
    # The example of the specification's own libraries.
    key = key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    moment = dt.datetime.fromtimestamp(1614265330, dt.UTC)
    fields = signed(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", moment, b'{"test": 2432232314}')
    assert fields == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    assert key_of("any text") == b"any text"
    assert key_of(SECRET) == KEY


async def deliver(url: str, *, timeout_seconds: float = 20.0) -> Undelivered | None:
    hook = Webhook("hook", url, SECRET, source="urn:x", timeout_seconds=timeout_seconds)
    try:
        await hook.deliver(EVENT)
    except Undelivered as failure:
        return failure
    finally:
        await hook.close()
    return None


@pytest.mark.parametrize(
    ("status", "is_away"),
    [(301, True), (307, True), (400, False), (410, False), (429, True), (500, True), (503, True)],
)
async def test_whatever_is_no_success_is_a_failure_and_redirects_are_not_followed(
    receiver: Receiver, status: int, is_away: bool
) -> None:
    receiver.answer = lambda _: status
    receiver.headers = {"location": receiver.url, "retry-after": "7"}
    failure = await deliver(receiver.url)
    assert failure is not None
    assert (failure.is_away, failure.wait_seconds) == (is_away, 7.0)
    assert str(status) in failure.reason
    assert len(receiver.tries) == 1


async def test_a_receiver_that_hangs_is_left_in_time() -> None:
    with Receiver() as receiver:
        receiver.hangs = threading.Event()
        began = time.monotonic()
        failure = await deliver(receiver.url, timeout_seconds=0.5)
        assert failure is not None
        assert failure.is_away
        assert time.monotonic() - began < 5


async def test_nobody_there_is_a_failure() -> None:
    with Receiver() as receiver:
        url = receiver.url
    failure = await deliver(url)
    assert failure is not None
    assert failure.is_away


# --- delivering ----------------------------------------------------------------------------------


async def test_everything_arrives_once_and_in_order_for_each_subject(
    catalog: Catalog, receiver: Receiver, tmp_path: Path
) -> None:
    async with Running(settings_for(receiver, tmp_path), catalog) as events:
        for number in range(40):
            await events.tell(about(f"subject {number % 5}", number))
        await until_so(lambda: len(receiver.events) >= 40)
    assert not receiver.wrong
    for subject in {event["subject"] for event in receiver.events}:
        mine = [event["data"]["number"] for event in receiver.events if event["subject"] == subject]
        assert mine == sorted(mine)
    assert len({event["id"] for event in receiver.events}) == len(receiver.events) == 40
    assert await catalog.outbox.list() == []


async def test_a_receiver_that_fails_for_a_while_gets_all_of_it_in_order(
    catalog: Catalog, receiver: Receiver, tmp_path: Path
) -> None:
    left = iter([503, 500, 429, 302, 204, 503])
    receiver.answer = lambda _: next(left, 204)
    async with Running(settings_for(receiver, tmp_path), catalog) as events:
        for number in range(6):
            await events.tell(about("one", number))
        await until_so(lambda: len(receiver.events) >= 6)
    assert [event["data"]["number"] for event in receiver.events] == list(range(6))


async def test_a_receiver_that_is_away_is_asked_more_and_more_rarely_and_by_one(
    catalog: Catalog, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.answer = lambda _: 503
    settings = settings_for(receiver, tmp_path, tries_max=1000)
    async with Running(settings, catalog) as events:
        for number in range(100):
            await events.tell(about(f"subject {number}", number))
        before = len(receiver.tries)
        await asyncio.sleep(3)
        tries = len(receiver.tries) - before
        receiver.answer = lambda _: 204
        await until_so(lambda: len(receiver.events) >= 100)
    # One each 0.2 to 0.4 s, or when the outbox is looked into, each second.
    assert 1 <= tries <= 30
    assert Counter(event["id"] for event in receiver.events).most_common(1)[0][1] == 1


async def test_an_event_that_is_refused_is_laid_aside_and_the_next_follows(
    catalog: Catalog, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.answer = lambda event: 422 if event["data"]["number"] == 1 else 204
    async with Running(settings_for(receiver, tmp_path, tries_max=3), catalog) as events:
        for number in range(3):
            await events.tell(about("one", number))
        await until_so(lambda: len(receiver.events) >= 2)
    assert [event["data"]["number"] for event in receiver.events] == [0, 2]
    [dead] = await catalog.outbox.list()
    assert (dead.state, dead.attempts, dead.reason) == (EventState.DEAD, 3, "it answered 422")


async def test_an_event_that_breaks_its_receiver_is_laid_aside_while_others_pass(
    catalog: Catalog, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.answer = lambda event: 500 if event["subject"] == "bad" else 204
    settings = settings_for(receiver, tmp_path, tries_max=3, retry_seconds_max=2.0)
    async with Running(settings, catalog) as events:
        await events.tell(about("bad"))
        for number in range(200):
            await events.tell(about("good", number))
            if EventState.DEAD in {event.state for event in await catalog.outbox.list()}:
                break
            await asyncio.sleep(0.1)
        await until_so(lambda: len(receiver.events) > number)
    assert [event.subject for event in await catalog.outbox.list()] == ["bad"]


async def test_no_event_is_laid_aside_because_its_receiver_is_away(
    catalog: Catalog, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.answer = lambda _: 503
    settings = settings_for(receiver, tmp_path, tries_max=2)
    async with Running(settings, catalog) as events:
        await events.tell(about("one"))
        await until_so(lambda: len(receiver.tries) >= 5)
        [waiting] = await catalog.outbox.list()
        assert waiting.state is EventState.WAITING
        receiver.answer = lambda _: 204
        await until_so(lambda: len(receiver.events) >= 1)


async def test_an_event_waits_for_a_receiver_that_is_away_for_its_hours(
    catalog: Catalog, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.answer = lambda _: 503
    settings = settings_for(receiver, tmp_path, tries_max=2, keep_hours=0.0001)
    async with Running(settings, catalog) as events:
        await events.tell(about("one"))
        deadline = time.monotonic() + 20
        while (await catalog.outbox.list())[0].state is EventState.WAITING:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def test_two_processes_deliver_each_event_once(
    catalog: Catalog, receiver: Receiver, tmp_path: Path
) -> None:
    settings = settings_for(receiver, tmp_path)
    async with (
        Running(settings, catalog, "one") as one,
        Running(settings, catalog, "two") as two,
    ):
        for number in range(20):
            await one.tell(about("a", number))
            await two.tell(about("b", number))
        await until_so(lambda: len(receiver.events) >= 40)
        await asyncio.sleep(0.3)
    assert len(receiver.tries) == 40


async def test_another_process_goes_on_when_one_stops(
    catalog: Catalog, receiver: Receiver, tmp_path: Path
) -> None:
    settings = settings_for(receiver, tmp_path)
    async with Running(settings, catalog, "one") as events:
        await events.tell(about("a", 0))
        await until_so(lambda: len(receiver.events) >= 1)
    async with Running(settings, catalog, "two") as events:
        await events.tell(about("a", 1))
        await until_so(lambda: len(receiver.events) >= 2)


async def test_a_delivery_stops_at_once_also_while_it_is_woken(
    catalog: Catalog, receiver: Receiver, tmp_path: Path
) -> None:
    settings = settings_for(receiver, tmp_path)
    for number in range(40):
        running = Running(settings, catalog)
        async with asyncio.timeout(10), running:
            await asyncio.sleep(0.03)
            for wake in running.delivery._wakes:
                wake.set()
            # So that the end comes at every point of the waking.
            for _ in range(number % 4):
                await asyncio.sleep(0)


# --- what is told --------------------------------------------------------------------------------


def test_an_image_is_told_field_by_field_as_glance_tells_it() -> None:
    image = an_image(id="i", name="n", properties={"a": "b"}, tags=("t",), deleted_at=NOON)
    notice = image_notice("image.delete", image, backend="main")
    assert notice.subject == "i"
    assert notice.payload == {
        "id": "i",
        "name": "n",
        "status": "queued",
        "created_at": "2026-01-01T12:00:00Z",
        "updated_at": "2026-01-01T12:00:00Z",
        "min_disk": 0,
        "min_ram": 0,
        "protected": False,
        "checksum": None,
        "owner": "mine",
        "disk_format": "raw",
        "container_format": "bare",
        "size": None,
        "virtual_size": None,
        "is_public": False,
        "visibility": "private",
        "properties": {"a": "b"},
        "tags": ["t"],
        "deleted": True,
        "deleted_at": "2026-01-01T12:00:00Z",
        "backend": "main",
    }
