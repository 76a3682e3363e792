"""Passwords: argon2id, the same time for everybody, and none that can be guessed."""

from __future__ import annotations

import time

import pytest

from transom.auth.local import passwords
from transom.errors import InvalidValue


@pytest.fixture(scope="module")
def hashed() -> str:
    """The hash of `secret`."""
    return passwords.hash_now("secret")


def test_hashes_are_argon2id_with_the_documented_cost(hashed: str) -> None:
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert "secret" not in hashed
    assert not passwords.is_dated(hashed)


def test_the_same_password_is_hashed_differently_each_time(hashed: str) -> None:
    assert passwords.hash_now("secret") != hashed


def test_only_the_right_password_fits(hashed: str) -> None:
    assert passwords.fits_now("secret", hashed)
    for wrong in ("", "Secret", "secret ", "secre", "secret\0"):
        assert not passwords.fits_now(wrong, hashed)


def test_nothing_fits_where_there_is_no_hash_or_none_that_can_be_read() -> None:
    assert not passwords.fits_now("secret", None)
    assert not passwords.fits_now("secret", "secret")
    assert not passwords.fits_now("secret", "$argon2id$broken")


def test_a_user_that_does_not_exist_takes_as_long_as_one_that_does(hashed: str) -> None:
    def seconds(hash_or_none: str | None) -> float:
        begin = time.perf_counter()
        passwords.fits_now("wrong", hash_or_none)
        return time.perf_counter() - begin

    seconds(None)
    # In turn: the machine is not always as fast.
    rounds = [(seconds(None), seconds(hashed)) for _ in range(10)]
    unknown, known = (min(times) for times in zip(*rounds, strict=True))
    assert 0.5 < unknown / known < 2


def test_a_hash_of_another_cost_is_told() -> None:
    import argon2

    assert passwords.is_dated(argon2.PasswordHasher(1, 8, 1).hash("secret"))


@pytest.mark.parametrize("password", ["", "x" * (passwords.LENGTH_MAX + 1)], ids=["none", "long"])
async def test_a_password_that_is_empty_or_too_long_is_refused(password: str) -> None:
    with pytest.raises(InvalidValue, match="1 to 1024 characters"):
        await passwords.hash_password(password)


async def test_an_overlong_guess_is_not_even_hashed(
    hashed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "fits_now", lambda _password, _hashed: pytest.fail("hashed"))
    assert not await passwords.fits("x" * (passwords.LENGTH_MAX + 1), hashed)


async def test_any_characters_make_a_password() -> None:
    for password in ("pass word", "пароль", "🔑" * 4, "\n\t'\"\\"):
        assert await passwords.fits(password, await passwords.hash_password(password))


def test_generated_passwords_are_long_and_never_the_same() -> None:
    made = {passwords.generate() for _ in range(200)}
    assert len(made) == 200
    assert all(len(password) == 22 and password.isalnum() for password in made)
