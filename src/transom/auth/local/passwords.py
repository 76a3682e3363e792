"""Passwords and other secrets: argon2id, off the event loop, a few at a time.

The cost is the least that OWASP's password storage cheat sheet recommends for argon2id (19 MiB, two
passes, one lane): about 30 ms of one processor (decision 0042). A hash made with another cost still
verifies and is renewed at the next login.
"""

from __future__ import annotations

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING

from transom.errors import InvalidValue

if TYPE_CHECKING:
    from argon2 import PasswordHasher

LENGTH_MAX = 1024
"""Longest password in characters; longer ones would only buy an attacker our processor time."""

_THREADS = 2
_TIME_COST = 2
_MEMORY_KIB = 19 * 1024
_LANES = 1


@cache
def _hasher() -> PasswordHasher:
    # Imported late: it costs 25 ms, and a server that is already set up rarely needs it at start.
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=_TIME_COST, memory_cost=_MEMORY_KIB, parallelism=_LANES)


@cache
def _decoy() -> str:
    return _hasher().hash(secrets.token_urlsafe(16))


@cache
def _threads() -> ThreadPoolExecutor:
    # Bounded, so that a rush of logins takes neither all memory nor the threads of the data path.
    return ThreadPoolExecutor(_THREADS, "transom-password")


def hash_now(password: str) -> str:
    """The hash of a password, salted. Slow on purpose; blocks."""
    return _hasher().hash(password)


def fits_now(password: str, hashed: str | None) -> bool:
    """True when the password belongs to the hash. Takes as long when there is no hash, so the time
    tells nobody whether a user exists. Blocks."""
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        fits = _hasher().verify(hashed or _decoy(), password)
    except (VerificationError, InvalidHashError):
        return False
    return fits and hashed is not None


def is_dated(hashed: str) -> bool:
    """True when the hash was made with another cost than today's."""
    return _hasher().check_needs_rehash(hashed)


async def hash_password(password: str) -> str:
    """`hash_now` in a thread. Raises InvalidValue for an empty or overlong password."""
    if not 1 <= len(password) <= LENGTH_MAX:
        raise InvalidValue("password", f"it must have 1 to {LENGTH_MAX} characters.")
    return await asyncio.get_running_loop().run_in_executor(_threads(), hash_now, password)


async def fits(password: str, hashed: str | None) -> bool:
    """`fits_now` in a thread; an overlong password never fits."""
    if len(password) > LENGTH_MAX:
        return False
    return await asyncio.get_running_loop().run_in_executor(_threads(), fits_now, password, hashed)


def generate() -> str:
    """A password nobody guesses: 128 random bits in letters and digits that every shell and file
    format takes as they are."""
    letters = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
    return "".join(secrets.choice(letters) for _ in range(22))
