"""The built-in identity as an Authenticator."""

from __future__ import annotations

from typing import Any, Self

import msgspec

from transom.auth.local.identity import GRACE_SECONDS, LocalIdentity
from transom.errors import CatalogUnavailable, IdentityUnavailable, Unauthenticated
from transom.model.actor import Actor
from transom.settings import Settings


class LocalAuthenticator:
    """Believes the tokens that the local identity has written, while they are good."""

    def __init__(self, identity: LocalIdentity) -> None:
        self.identity = identity

    @classmethod
    def open(cls, settings: Settings, catalog: Any) -> Self:
        """The authenticator over the catalog's `identity` part."""
        return cls(LocalIdentity(catalog.identity, settings.identity.token_seconds))

    async def authenticate(self, token: str | None, service_token: str | None = None) -> Actor:
        """The Actor behind the token, as the contract says. A service token that is not good is as
        good as none."""
        if not token:
            raise Unauthenticated
        try:
            service = await self._service(service_token) if service_token else None
            grace = _grace(service)
            actor = (await self.identity.verdict(token, grace)).actor
        except CatalogUnavailable as away:
            raise IdentityUnavailable("its database does not answer") from away
        return actor if service is None else _together(actor, service)

    async def _service(self, service_token: str) -> Actor | None:
        try:
            return (await self.identity.verdict(service_token)).actor
        except Unauthenticated:
            return None

    def authenticate_now(self, token: str | None, service_token: str | None = None) -> Actor | None:
        """The Actor if it is known without any waiting, else None."""
        if not token:
            return None
        if not service_token:
            verdict = self.identity.verdict_now(token)
            return None if verdict is None else verdict.actor
        service = self.identity.verdict_now(service_token)
        if service is None:
            return None
        verdict = self.identity.verdict_now(token, _grace(service.actor))
        return None if verdict is None else _together(verdict.actor, service.actor)

    @property
    def www_authenticate(self) -> str:
        """Where to log in: here."""
        return 'Keystone uri="{base}/v3"'

    async def close(self) -> None:
        """Stop the work in the background."""
        await self.identity.close()


def _grace(service: Actor | None) -> float:
    """For how many seconds after its end a token passes beside this service's."""
    return GRACE_SECONDS if service is not None and "service" in service.roles else 0.0


def _together(actor: Actor, service: Actor) -> Actor:
    return msgspec.structs.replace(actor, service_roles=service.roles)
