"""A Keystone that answers garbage, HTML, 500 or nothing: 503 for whoever is not known, never 401."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.faults.fake_keystone import MISBEHAVIOURS, PASSWORD, USER, FakeKeystone
from tests.support.waiting import until_so
from transom.auth.backends import keystone as backend
from transom.auth.backends.keystone import KeystoneAuthenticator
from transom.auth.keystone import client, verdicts
from transom.errors import ConfigurationError, IdentityUnavailable, Unauthenticated
from transom.settings import Identity, Keystone, Settings

pytestmark = pytest.mark.faults


def settings(url: str, **values: Any) -> Settings:
    given = {"auth_url": url, "username": USER, "password": PASSWORD} | values
    return Settings(identity=Identity(backend="keystone", keystone=Keystone(**given)))


@pytest.fixture
async def fake() -> AsyncIterator[FakeKeystone]:
    async with FakeKeystone() as server:
        yield server


class Open:
    def __init__(self) -> None:
        self.made: list[KeystoneAuthenticator] = []

    def __call__(self, fake: FakeKeystone, **values: Any) -> KeystoneAuthenticator:
        self.made.append(KeystoneAuthenticator(settings(fake.url, **values)))
        return self.made[-1]


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    make = Open()
    yield make
    for one in make.made:
        await one.close()


async def patiently(authenticator: KeystoneAuthenticator, token: str, seconds: float = 10) -> None:
    """Ask until there is an answer."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            await authenticator.authenticate(token)
        except IdentityUnavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        else:
            return


# --- answers that are none ---


@pytest.mark.parametrize("manners", MISBEHAVIOURS)
async def test_a_bad_answer_about_a_token_is_no_verdict(
    fake: FakeKeystone, opened: Open, manners: str
) -> None:
    authenticator = opened(fake)
    await authenticator.authenticate("good-known")
    fake.validate = manners

    with pytest.raises(IdentityUnavailable):
        await authenticator.authenticate("good-new")
    assert (await authenticator.authenticate("good-known")).project_id == "-known"

    fake.validate = "well"
    await patiently(authenticator, "good-new")


@pytest.mark.parametrize("manners", MISBEHAVIOURS)
async def test_a_bad_answer_to_our_login_is_not_the_callers_fault(
    fake: FakeKeystone, opened: Open, manners: str
) -> None:
    authenticator = opened(fake)
    fake.login = manners

    with pytest.raises(IdentityUnavailable):
        await authenticator.authenticate("good-new")

    fake.login = "well"
    await patiently(authenticator, "good-new")


async def test_nobody_listening_is_no_verdict(fake: FakeKeystone, opened: Open) -> None:
    authenticator = opened(fake)
    await fake.stop()

    with pytest.raises(IdentityUnavailable):
        await authenticator.authenticate("good-new")

    await fake.start()
    await patiently(authenticator, "good-new")


async def test_a_connection_that_broke_in_between_is_replaced_unnoticed(
    fake: FakeKeystone, opened: Open
) -> None:
    authenticator = opened(fake)
    await authenticator.authenticate("good-1")
    await fake.stop()
    await fake.start()

    assert await authenticator.authenticate("good-2")


async def test_a_token_is_refused_only_in_keystones_own_words(
    fake: FakeKeystone, opened: Open
) -> None:
    authenticator = opened(fake)

    with pytest.raises(Unauthenticated):
        await authenticator.authenticate("unknown")
    fake.validate = "kept html 404"
    with pytest.raises(IdentityUnavailable):
        await authenticator.authenticate("unknown too")


# --- hanging and slow ---


async def test_a_hanging_keystone_lets_nobody_pile_up(
    fake: FakeKeystone, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ANSWER_SECONDS", 1.0)
    authenticator = opened(fake)
    authenticator._client._answer_seconds = 1.0
    await authenticator.authenticate("good-known")
    fake.validate = "hang"

    begin = time.monotonic()
    answers = await asyncio.gather(
        *(authenticator.authenticate(f"good-{number}") for number in range(300)),
        return_exceptions=True,
    )
    # The first sixteen find out; the others are told the same moment, without a try of their own,
    # where one after the other would have waited for twenty seconds.
    assert time.monotonic() - begin < 8
    assert all(isinstance(answer, IdentityUnavailable) for answer in answers)
    assert fake.at_once_max <= client.REQUESTS_MAX

    begin = time.monotonic()
    with pytest.raises(IdentityUnavailable):
        await authenticator.authenticate("good-late")
    assert authenticator.authenticate_now("good-known") is not None
    assert time.monotonic() - begin < 0.1


async def test_while_it_is_away_it_is_tried_by_one_caller_at_a_time(
    fake: FakeKeystone, opened: Open
) -> None:
    authenticator = opened(fake)
    fake.validate = "kept html 500"
    with pytest.raises(IdentityUnavailable):
        await authenticator.authenticate("good-0")
    before = sum(fake.asked.values())
    fake.delay_seconds = 0.3
    await asyncio.sleep(0.6)

    answers = await asyncio.gather(
        *(authenticator.authenticate(f"good-{number}") for number in range(1, 50)),
        return_exceptions=True,
    )

    assert all(isinstance(answer, IdentityUnavailable) for answer in answers)
    # One caller, who tries a 500 twice.
    assert sum(fake.asked.values()) - before == 2


async def test_a_slow_keystone_serves_everybody_a_few_at_a_time(
    fake: FakeKeystone, opened: Open
) -> None:
    authenticator = opened(fake)
    fake.delay_seconds = 0.05

    actors = await asyncio.gather(
        *(authenticator.authenticate(f"good-{number}") for number in range(100))
    )

    assert {actor.project_id for actor in actors} == {f"-{number}" for number in range(100)}
    assert fake.at_once_max <= client.REQUESTS_MAX
    assert fake.logins == 1


async def test_beyond_the_queue_callers_are_turned_away_at_once(
    fake: FakeKeystone, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "WAITING_MAX", 20)
    authenticator = opened(fake)
    fake.delay_seconds = 0.2

    answers = await asyncio.gather(
        *(authenticator.authenticate(f"good-{number}") for number in range(50)),
        return_exceptions=True,
    )

    refused = [answer for answer in answers if isinstance(answer, IdentityUnavailable)]
    assert len(refused) == 30
    assert "too many requests are waiting" in str(refused[0])


# --- one question per token ---


async def test_five_hundred_requests_with_one_token_are_one_question(
    fake: FakeKeystone, opened: Open
) -> None:
    authenticator = opened(fake)
    fake.delay_seconds = 0.05

    await asyncio.gather(*(authenticator.authenticate("good-one") for _ in range(500)))

    assert fake.asked == {"good-one": 1}
    assert authenticator.authenticate_now("good-one") is not None


async def test_a_caller_that_leaves_takes_the_answer_from_nobody(
    fake: FakeKeystone, opened: Open
) -> None:
    authenticator = opened(fake)
    fake.delay_seconds = 0.1
    first = asyncio.create_task(authenticator.authenticate("good-one"))
    second = asyncio.create_task(authenticator.authenticate("good-one"))
    await asyncio.sleep(0.02)
    first.cancel()

    assert (await second).project_id == "-one"
    assert fake.asked == {"good-one": 1}


async def test_a_refused_token_is_asked_about_once_in_a_while(
    fake: FakeKeystone, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "REFUSED_SECONDS", 0.3)
    authenticator = opened(fake)

    for _ in range(20):
        with pytest.raises(Unauthenticated):
            await authenticator.authenticate("unknown")
    assert fake.asked == {"unknown": 1}
    await asyncio.sleep(0.35)
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate("unknown")
    assert fake.asked == {"unknown": 2}


@pytest.mark.parametrize("token", ["x" * 20_000, "t\u00f6ken", "new\nline", "nul\0"])
async def test_what_cannot_be_a_token_is_not_even_asked_about(
    fake: FakeKeystone, opened: Open, token: str
) -> None:
    with pytest.raises(Unauthenticated):
        await opened(fake).authenticate(token)

    assert fake.logins == 0


# --- verdicts end and are renewed ---


class Clock:
    """The time of the verdicts: it passes when it is told to."""

    def __init__(self) -> None:
        self._now = time.time()

    def monotonic(self) -> float:
        return self._now

    def time(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (backend, verdicts):
        monkeypatch.setattr(module, "time", made)
    return made


async def renewed(authenticator: KeystoneAuthenticator) -> None:
    """Come back when Keystone has said what it was asked in the background."""
    await until_so(lambda: not authenticator._under_way)


async def test_a_token_in_use_is_renewed_before_its_verdict_ends(
    fake: FakeKeystone, opened: Open, clock: Clock
) -> None:
    authenticator = opened(fake, token_cache_seconds=10)
    await authenticator.authenticate("good-one")
    clock.sleep(8.5)
    assert authenticator.authenticate_now("good-one") is not None
    await renewed(authenticator)
    clock.sleep(4)

    # The first verdict would have ended by now.
    assert authenticator.authenticate_now("good-one") is not None
    assert fake.asked == {"good-one": 2}


async def test_a_renewal_that_finds_keystone_away_disturbs_nobody(
    fake: FakeKeystone, opened: Open, clock: Clock
) -> None:
    authenticator = opened(fake, token_cache_seconds=10)
    await authenticator.authenticate("good-one")
    fake.validate = "close"
    clock.sleep(8.5)

    assert authenticator.authenticate_now("good-one") is not None
    await renewed(authenticator)
    assert fake.asked["good-one"] > 1
    assert authenticator.authenticate_now("good-one") is not None
    clock.sleep(2)
    assert authenticator.authenticate_now("good-one") is None


async def test_a_renewal_that_finds_the_token_revoked_ends_it_early(
    fake: FakeKeystone, opened: Open, clock: Clock
) -> None:
    authenticator = opened(fake, token_cache_seconds=10)
    await authenticator.authenticate("good-one")
    fake.revoked.add("good-one")
    clock.sleep(8.5)
    authenticator.authenticate_now("good-one")
    await renewed(authenticator)

    assert authenticator.authenticate_now("good-one") is None
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate("good-one")


async def test_a_verdict_never_outlives_its_token(fake: FakeKeystone, opened: Open) -> None:
    authenticator = opened(fake)
    await authenticator.authenticate("good-warm")
    fake.token_seconds = 3
    await authenticator.authenticate("good-short")

    await asyncio.sleep(3.2)

    assert authenticator.authenticate_now("good-short") is None
    assert authenticator.authenticate_now("good-warm") is not None


async def test_a_verdict_never_outlives_its_token_though_keystone_tells_whole_seconds(
    fake: FakeKeystone, opened: Open
) -> None:
    authenticator = opened(fake)
    fake.token_seconds = 3
    # Our login comes late in one of its seconds, the token early in the next.
    fake.clock_ahead_seconds = 0.6 - time.time() % 1
    await authenticator.authenticate("good-warm")
    await asyncio.sleep(0.4)
    began = time.monotonic()
    await authenticator.authenticate("good-short")

    await asyncio.sleep(3.01 - (time.monotonic() - began))

    assert authenticator.authenticate_now("good-short") is None


# --- clocks that differ ---


@pytest.mark.parametrize("ahead", [-7200, -30, 30, 7200])
async def test_a_clock_that_differs_from_keystones_changes_nothing(
    fake: FakeKeystone, opened: Open, ahead: float
) -> None:
    fake.clock_ahead_seconds = ahead
    authenticator = opened(fake)
    await authenticator.authenticate("good-long")
    fake.token_seconds = 3
    await authenticator.authenticate("good-short")

    assert authenticator.authenticate_now("good-long") is not None
    await asyncio.sleep(3.2)
    assert authenticator.authenticate_now("good-long") is not None
    assert authenticator.authenticate_now("good-short") is None
    assert fake.logins == 1


async def test_a_token_that_keystone_calls_valid_is_valid_whatever_our_clock_says(
    fake: FakeKeystone, opened: Open
) -> None:
    authenticator = opened(fake)
    await authenticator.authenticate("good-warm")
    fake.clock_ahead_seconds = -7200

    assert await authenticator.authenticate("good-late")


# --- our own token ---


async def test_our_own_token_is_replaced_when_keystone_forgets_it(
    fake: FakeKeystone, opened: Open
) -> None:
    authenticator = opened(fake)
    await authenticator.authenticate("good-1")
    fake.own_tokens.clear()

    actors = await asyncio.gather(
        *(authenticator.authenticate(f"good-{number}") for number in range(2, 30))
    )

    assert len(actors) == 28
    assert fake.logins == 2


async def test_a_refused_service_user_is_not_tried_again_and_again(
    fake: FakeKeystone, opened: Open
) -> None:
    authenticator = opened(fake, password="wrong")

    for number in range(20):
        with pytest.raises(IdentityUnavailable, match="refuses the service user"):
            await authenticator.authenticate(f"good-{number}")

    assert fake.logins == 1


# --- service tokens ---


async def test_an_ended_token_needs_a_service_each_time(fake: FakeKeystone, opened: Open) -> None:
    authenticator = opened(fake)

    with pytest.raises(Unauthenticated):
        await authenticator.authenticate("ended-1")
    actor = await authenticator.authenticate("ended-1", "service-nova")

    assert actor.project_id == "late"
    assert actor.service_roles == {"service"}
    assert authenticator.authenticate_now("ended-1", "service-nova") == actor
    assert authenticator.authenticate_now("ended-1") is None
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate("ended-1")
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate("ended-1", "good-but-no-service")


async def test_a_service_token_that_nobody_can_judge_is_no_reason_to_refuse(
    fake: FakeKeystone, opened: Open
) -> None:
    authenticator = opened(fake)
    await authenticator.authenticate("good-known")
    fake.validate = "close"

    with pytest.raises(IdentityUnavailable):
        await authenticator.authenticate("good-known", "service-new")


# --- settings and the end ---


@pytest.mark.parametrize(
    "values",
    [
        {"auth_url": ""},
        {"username": ""},
        {"password": ""},
        {"project_name": ""},
        {"auth_url": "keystone:5000"},
        {"auth_url": "ftp://keystone"},
    ],
)
def test_settings_that_reach_no_keystone_are_refused_at_start(values: dict[str, str]) -> None:
    [name] = values

    with pytest.raises(ConfigurationError, match=f"identity.keystone.{name}"):
        KeystoneAuthenticator(settings("http://127.0.0.1:5000", **values))


async def test_closing_ends_questions_that_are_under_way(fake: FakeKeystone) -> None:
    authenticator = KeystoneAuthenticator(settings(fake.url))
    fake.validate = "hang"
    waiting = asyncio.create_task(authenticator.authenticate("good-one"))
    await asyncio.sleep(0.1)

    await authenticator.close()

    with pytest.raises(asyncio.CancelledError):
        await waiting
