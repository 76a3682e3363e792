"""Identity from Keystone: tokens are vouched for by the cloud's own identity service."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

import msgspec

from transom.auth.keystone.client import KeystoneClient
from transom.auth.keystone.rounds import Rounds
from transom.auth.keystone.token import Token
from transom.auth.keystone.verdicts import Verdicts, digest
from transom.errors import ConfigurationError, IdentityUnavailable, Unauthenticated
from transom.model.actor import Actor
from transom.settings import Settings

VERDICTS_MAX = 20_000
"""Tokens remembered at most; the ones used longest ago are forgotten first."""
REFUSED_SECONDS = 10.0
"""How long a token that is not valid stays refused without asking again."""
SERVICE_ROLE = "service"
_TOKEN_LENGTH_MAX = 16_384
_SHORT_SECONDS = 2.0


class KeystoneAuthenticator:
    """An Authenticator that asks Keystone and remembers what it said.

    A verdict is believed for `token_cache_seconds`, at most to the end of the token, and renewed
    in the background while its token is in use, so that an outage of Keystone finds it young.
    However many requests carry a token, Keystone is asked about it once at a time.
    """

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigurationError for settings with which no Keystone can be asked."""
        self._settings = settings.identity.keystone
        _verify(settings)
        self._client = KeystoneClient(self._settings)
        self._limits = Rounds(self._client.limits_of)
        self._verdicts = Verdicts(VERDICTS_MAX)
        self._under_way: dict[bytes, asyncio.Task[Actor | None]] = {}

    @property
    def www_authenticate(self) -> str:
        """Value of the WWW-Authenticate header of a 401."""
        return f'Keystone uri="{self._settings.www_authenticate_uri or self._settings.auth_url}"'

    def authenticate_now(self, token: str | None, service_token: str | None = None) -> Actor | None:
        """The Actor if it is remembered, else None."""
        if not token:
            return None
        service: Actor | None = None
        if service_token:
            service = self._remembered(service_token, digest(service_token))
            if service is None:
                return None
        key = digest(token)
        actor = self._remembered(token, key)
        if actor is None and service is not None and _may_vouch(service):
            actor = self._remembered(token, _past_its_end(key))
        return None if actor is None else _together(actor, service)

    async def authenticate(self, token: str | None, service_token: str | None = None) -> Actor:
        """The Actor behind the token; see the contract in `auth/authenticator.py`."""
        if not token:
            raise Unauthenticated
        service: Actor | None = None
        if service_token:
            # A service token that is not valid is as good as none: the user's decides.
            service = await self._ask(service_token)
        actor = await self._ask(token, allow_expired=service is not None and _may_vouch(service))
        if actor is None:
            raise Unauthenticated
        return _together(actor, service)

    async def limits_of(self, project_id: str) -> dict[str, int]:
        """The unified limits of the image service for a project, as they are now; -1 = unlimited.

        However many ask for a project at once, Keystone is asked once at a time.
        Raises IdentityUnavailable.
        """
        return await self._limits.ask(project_id)

    async def image_endpoint(self, token: str, region: str, interface: str) -> str | None:
        """The URL of the image service of a region for whoever has the token; None when there is
        none. Raises IdentityUnavailable."""
        return await self._client.image_endpoint(token, region, interface)

    async def close(self) -> None:
        """Free connections."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._limits.close()
        await self._client.close()

    # --- inside ---

    def _remembered(self, token: str, key: bytes) -> Actor | None:
        verdict = self._verdicts.find_valid(key)
        if verdict is None:
            return None
        now = time.monotonic()
        if now >= verdict.renew_at:
            # Should this come to nothing, the next attempt has to leave Keystone time to return.
            verdict.renew_at = now + max((verdict.until - now) / 4, 1.0)
            self._renew(token, key)
        return verdict.actor

    def _renew(self, token: str, key: bytes) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        task = self._start(token, key, allow_expired=key != digest(token))
        # Nobody waits for it: if Keystone is away, the verdict simply lives to its end.
        task.add_done_callback(_ignore)

    async def _ask(self, token: str, *, allow_expired: bool = False) -> Actor | None:
        """The Actor, or None when the token is not valid. Raises IdentityUnavailable."""
        if len(token) > _TOKEN_LENGTH_MAX or not token.isascii() or not token.isprintable():
            # Nothing that Keystone ever gave out.
            return None
        key = digest(token)
        verdict = self._verdicts.find_valid(key)
        if verdict is None and allow_expired:
            key = _past_its_end(key)
        if verdict is None:
            verdict = self._verdicts.find(key)
        if verdict is not None:
            return verdict.actor
        # A caller that goes away must not take the answer from the others that wait for it.
        return await asyncio.shield(self._start(token, key, allow_expired=allow_expired))

    def _start(self, token: str, key: bytes, *, allow_expired: bool) -> asyncio.Task[Actor | None]:
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.create_task(self._describe(token, key, allow_expired=allow_expired))
            self._under_way[key] = task
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
            task.add_done_callback(_ignore)
        return task

    async def _describe(self, token: str, key: bytes, *, allow_expired: bool) -> Actor | None:
        described = await self._client.describe(token, allow_expired=allow_expired)
        if described is None:
            self._verdicts.put(key, None, min(REFUSED_SECONDS, self._settings.token_cache_seconds))
            return None
        actor = described.actor(token)
        self._verdicts.put(key, actor, self._lifetime(described, actor, allow_expired))
        return actor

    def _lifetime(self, described: Token, actor: Actor, allow_expired: bool) -> float:
        """How long a verdict is believed, in seconds."""
        seconds = self._settings.token_cache_seconds
        if allow_expired or actor.expires_at is None:
            return seconds
        # Measured with Keystone's clock: ours may be wrong. A token that Keystone calls valid and
        # that should have ended is believed, shortly.
        left = actor.expires_at - (time.time() + self._client.skew_seconds)
        return min(seconds, max(left, _SHORT_SECONDS))


def _may_vouch(service: Actor) -> bool:
    return any(role.lower() == SERVICE_ROLE for role in service.roles)


def _together(actor: Actor, service: Actor | None) -> Actor:
    if service is None:
        return actor
    return msgspec.structs.replace(actor, service_roles=service.roles)


def _past_its_end(key: bytes) -> bytes:
    """Key of the verdict that holds only while a service vouches for the token."""
    return key + b"+"


def _ignore(task: asyncio.Task[Actor | None]) -> None:
    """Take note of a failure that its waiters, if there are any, are told anyway."""
    if not task.cancelled():
        error = task.exception()
        if error is not None and not isinstance(error, IdentityUnavailable):
            task.get_loop().call_exception_handler(
                {"message": "asking Keystone failed", "exception": error, "task": task}
            )


def _verify(settings: Settings) -> None:
    keystone = settings.identity.keystone
    for name in ("auth_url", "username", "password", "project_name"):
        if not getattr(keystone, name):
            raise ConfigurationError(
                f"identity.keystone.{name} is empty; the backend keystone needs it to validate "
                "tokens."
            )
    parts = urlsplit(keystone.auth_url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigurationError(
            f"identity.keystone.auth_url = {keystone.auth_url!r} is not an http or https URL; "
            'write for example "https://keystone.example.com/v3".'
        )
