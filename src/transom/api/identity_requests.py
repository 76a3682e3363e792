"""What every handler of the identity face asks of a call: its body, its caller, its filters."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, TypeVar, cast

import msgspec
from starlette.responses import Response

from transom.api.call import Call, empty_response, json_response
from transom.auth.local.identity import LocalIdentity, Verdict
from transom.errors import (
    BodyTooLarge,
    IdentityRefused,
    InvalidBody,
    InvalidQuery,
    Unauthenticated,
)

T = TypeVar("T")
Handler = Callable[[Call], Awaitable[Response]]

BODY_BYTES_MAX: Final = 114688
"""As Keystone's `max_request_body_size`: logins come from people we do not know yet."""
VARY: Final = {"vary": "X-Auth-Token"}


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer that depends on the caller."""
    return json_response(value, status, VARY | (headers or {}))


def empty(status: int = 204, headers: dict[str, str] | None = None) -> Response:
    """An answer without a body that depends on the caller."""
    return empty_response(status, VARY | (headers or {}))


class _OverLocalIdentity(Protocol):
    """What the backend `local` is beside an Authenticator; this face is on with that one only."""

    identity: LocalIdentity


def identity_of(call: Call) -> LocalIdentity:
    """The rules of the local identity."""
    return cast("_OverLocalIdentity", call.registry.identity).identity


async def read(call: Call, kind: type[T]) -> T:
    """The body, which must be JSON in the shape of `kind`. Raises InvalidBody, BodyTooLarge."""
    length = call.headers.get("content-length", "")
    if length.isdecimal() and int(length) > BODY_BYTES_MAX:
        raise BodyTooLarge(BODY_BYTES_MAX)
    raw = await call.body()
    if len(raw) > BODY_BYTES_MAX:
        raise BodyTooLarge(BODY_BYTES_MAX)
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as broken:
        raise InvalidBody(
            f"Expecting to find valid JSON of the Identity API in the request body: {broken}."
        ) from broken


async def caller(call: Call) -> Verdict:
    """What the caller's token is worth. Raises Unauthenticated when there is none."""
    token = call.actor.token
    if token is None:
        raise Unauthenticated
    identity = identity_of(call)
    return identity.verdict_now(token) or await identity.verdict(token)


def insist_on_admin(call: Call, action: str) -> None:
    """Raise IdentityRefused unless the caller has role `admin`, or Unauthenticated for anonymous
    callers. The role itself decides, as in Keystone; rules of the image service's policy do not
    reach accounts."""
    if call.actor.token is None:
        raise Unauthenticated
    if "admin" not in call.actor.roles:
        raise IdentityRefused(f"identity:{action}")


def insist_on_self_or_admin(call: Call, user_id: str, action: str) -> None:
    """Raise IdentityRefused unless the caller is the user or has role `admin`."""
    if call.actor.token is None:
        raise Unauthenticated
    if call.actor.user_id != user_id:
        insist_on_admin(call, action)


def first(call: Call, name: str) -> str | None:
    """The first value of a query parameter. Raises InvalidQuery when it holds NUL."""
    value = next((value for key, value in call.query if key == name), None)
    if value is not None and "\0" in value:
        raise InvalidQuery(name, "NUL characters are not allowed.")
    return value


def switch(call: Call, name: str) -> bool | None:
    """A query parameter that is on or off; given without a value it is on. None when it is not
    given. Raises InvalidQuery for anything else."""
    value = first(call, name)
    if value is None:
        return None
    if value.lower() in ("", "1", "true", "yes", "on"):
        return True
    if value.lower() in ("0", "false", "no", "off"):
        return False
    raise InvalidQuery(name, "give true or false.")


def changes(handler: Handler) -> Handler:
    """A handler that changes accounts: when it is done, this process forgets at once what it knew
    of tokens, and the others within a second."""

    @functools.wraps(handler)
    async def changing(call: Call) -> Response:
        try:
            return await handler(call)
        finally:
            await identity_of(call).changed()

    return changing
