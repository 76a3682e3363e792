"""The brake on guessing, and the roles that bring others along."""

from __future__ import annotations

import pytest

from tests.support.identity import Clock
from transom.auth.local import guesses
from transom.auth.local.guesses import Guesses
from transom.auth.local.roles import with_implied
from transom.errors import TooManyGuesses


def fail(brake: Guesses, name: str, times: int) -> None:
    for _ in range(times):
        brake.failed(name)


def test_the_first_failures_cost_no_wait() -> None:
    brake = Guesses(free=5, clock=Clock())
    fail(brake, "a", 5)
    brake.check("a")


def test_each_further_failure_doubles_the_wait_up_to_the_longest() -> None:
    clock = Clock()
    brake = Guesses(free=2, wait_seconds_max=8, clock=clock)
    fail(brake, "a", 2)
    for wait in (1, 2, 4, 8, 8):
        brake.failed("a")
        clock.go(wait - 0.1)
        with pytest.raises(TooManyGuesses) as refused:
            brake.check("a")
        assert refused.value.wait_seconds == 1
        clock.go(0.2)
        brake.check("a")


def test_the_answer_says_how_long_to_wait() -> None:
    brake = Guesses(free=0, wait_seconds_max=30, clock=Clock())
    fail(brake, "a", 6)
    with pytest.raises(TooManyGuesses, match="wait 30 seconds"):
        brake.check("a")


def test_one_name_does_not_slow_another() -> None:
    brake = Guesses(free=0, clock=Clock())
    fail(brake, "a", 3)
    brake.check("b")


def test_a_success_forgives() -> None:
    brake = Guesses(free=1, clock=Clock())
    fail(brake, "a", 5)
    brake.succeeded("a")
    fail(brake, "a", 1)
    brake.check("a")


def test_ten_quiet_minutes_forgive() -> None:
    clock = Clock()
    brake = Guesses(free=1, clock=clock)
    fail(brake, "a", 5)
    clock.go(601)
    fail(brake, "a", 1)
    brake.check("a")


def test_memory_is_bounded_and_the_latest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guesses, "_NAMES_MAX", 10)
    brake = Guesses(free=0, clock=Clock())
    for number in range(100):
        brake.failed(f"name {number}")
    brake.check("name 0")
    with pytest.raises(TooManyGuesses):
        brake.check("name 99")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ([], []),
        (["reader"], ["reader"]),
        (["member"], ["member", "reader"]),
        (["manager"], ["manager", "member", "reader"]),
        (["admin"], ["admin", "manager", "member", "reader"]),
        (["service"], ["service"]),
        (["onlooker", "reader"], ["onlooker", "reader"]),
    ],
)
def test_roles_imply_what_keystone_lets_them_imply(given: list[str], found: list[str]) -> None:
    assert sorted(with_implied(given)) == sorted(found)
