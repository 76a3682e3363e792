"""The memory of verdicts about tokens, and the circuit that spares a Keystone that is away."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest

from transom.auth.keystone import circuit as circuits
from transom.auth.keystone import verdicts as memory
from transom.auth.keystone.circuit import Circuit
from transom.auth.keystone.client import versioned
from transom.auth.keystone.token import decode, seconds
from transom.auth.keystone.verdicts import Verdicts, digest
from transom.errors import IdentityUnavailable
from transom.model.actor import Actor


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(memory, "time", clock)
    monkeypatch.setattr(circuits, "time", clock)
    return clock


ACTOR = Actor(user_id="u")


def test_a_verdict_is_remembered_for_its_time(clock: Clock) -> None:
    verdicts = Verdicts(10)
    verdicts.put(b"k", ACTOR, 100)

    clock.now += 99
    found = verdicts.find_valid(b"k")
    assert found is not None
    assert found.actor is ACTOR
    assert found.renew_at == 1080
    clock.now += 1
    assert verdicts.find_valid(b"k") is None
    assert len(verdicts) == 0


def test_no_time_is_no_memory(clock: Clock) -> None:
    verdicts = Verdicts(10)
    verdicts.put(b"k", ACTOR, 100)
    verdicts.put(b"k", ACTOR, 0)

    assert verdicts.find(b"k") is None


def test_what_was_used_longest_ago_is_forgotten_first(clock: Clock) -> None:
    verdicts = Verdicts(2)
    verdicts.put(b"a", ACTOR, 100)
    verdicts.put(b"b", ACTOR, 100)
    verdicts.find(b"a")
    verdicts.put(b"c", ACTOR, 100)

    assert verdicts.find(b"a")
    assert verdicts.find(b"b") is None
    assert verdicts.find(b"c")


def test_a_flood_of_made_up_tokens_pushes_out_no_good_one(clock: Clock) -> None:
    verdicts = Verdicts(100)
    verdicts.put(b"good", ACTOR, 100)
    for number in range(1000):
        verdicts.put(str(number).encode(), None, 100)

    assert verdicts.find_valid(b"good")
    assert len(verdicts) <= 126


def test_a_token_that_was_refused_can_become_valid_and_the_reverse(clock: Clock) -> None:
    verdicts = Verdicts(10)
    verdicts.put(b"k", None, 100)
    assert verdicts.find_valid(b"k") is None
    verdicts.put(b"k", ACTOR, 100)
    assert verdicts.find_valid(b"k")
    verdicts.put(b"k", None, 100)
    found = verdicts.find(b"k")
    assert found is not None
    assert found.actor is None


def test_a_digest_does_not_give_the_token_away() -> None:
    assert len(digest("a token")) == 16
    assert digest("a token") == digest("a token") != digest("another")
    assert b"token" not in digest("a token")


def test_the_circuit_opens_longer_with_every_failure_and_closes_with_an_answer(
    clock: Clock,
) -> None:
    circuit = Circuit()
    pauses = []
    for _ in range(7):
        circuit.failed(circuit.enter(), "away")
        begin = clock.now
        while True:
            try:
                circuit.enter()
            except IdentityUnavailable:
                clock.now += 0.25
            else:
                circuit.given_up()
                break
        pauses.append(clock.now - begin)

    assert pauses == [0.5, 1, 2, 4, 8, 8, 8]
    circuit.enter()
    circuit.succeeded()
    circuit.enter()
    circuit.enter()


def test_while_one_caller_tries_the_others_are_turned_away(clock: Clock) -> None:
    circuit = Circuit()
    circuit.failed(circuit.enter(), "it is being restarted")
    clock.now += 10
    circuit.enter()

    with pytest.raises(IdentityUnavailable, match="it is being restarted"):
        circuit.enter()


def test_many_failures_at_once_are_one(clock: Clock) -> None:
    circuit = Circuit()
    tickets = [circuit.enter() for _ in range(16)]

    assert [circuit.failed(ticket, "away") for ticket in tickets] == [True, *[False] * 15]
    with pytest.raises(IdentityUnavailable):
        circuit.still(tickets[0])
    clock.now += 0.5
    circuit.enter()


@pytest.mark.parametrize("url", ["http://k", "http://k/", "http://k/v3", "http://k/v3/"])
def test_the_version_is_added_where_it_lacks(url: str) -> None:
    assert versioned(url) == "http://k/v3"


def test_a_path_before_the_version_stays() -> None:
    assert versioned("https://cloud/identity") == "https://cloud/identity/v3"


def test_a_moment_without_a_zone_is_utc() -> None:
    assert seconds(dt.datetime.fromisoformat("1970-01-01T01:00:00")) == 3600
    assert seconds(None) is None


def test_fields_that_are_not_known_do_not_matter() -> None:
    token = decode(
        b'{"token": {"user": {"id": "u", "name": "n", "domain": {"id": "d", "name": "D"},'
        b' "password_expires_at": null}, "roles": [{"id": "1", "name": "member"}],'
        b' "system": {"all": true}, "methods": ["password"], "is_domain": false,'
        b' "expires_at": "2026-01-01T00:00:00.000000Z"}}'
    ).token

    actor = token.actor("text")
    assert (actor.user_id, actor.user_domain_id, actor.system_scope) == ("u", "d", "all")
    assert actor.expires_at == dt.datetime(2026, 1, 1, tzinfo=dt.UTC).timestamp()
    assert "text" not in repr(actor)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"token": {}}', b'{"token": {"user": {}}}'])
def test_an_answer_that_names_nobody_is_none(body: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode(body)
