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
        """The Actor behind the token, as the contract says."""
        if not token:
            raise Unauthenticated
        try:
            if service_token is None:
                return (await self.identity.verdict(token)).actor
            service = (await self.identity.verdict(service_token)).actor
            grace = GRACE_SECONDS if "service" in service.roles else 0.0
            actor = (await self.identity.verdict(token, grace)).actor
        except CatalogUnavailable as away:
            raise IdentityUnavailable("its database does not answer") from away
        return msgspec.structs.replace(actor, service_roles=service.roles)

    def authenticate_now(self, token: str | None, service_token: str | None = None) -> Actor | None:
        """The Actor if it is known without any waiting, else None."""
        if not token:
            return None
        if service_token is None:
            verdict = self.identity.verdict_now(token)
            return None if verdict is None else verdict.actor
        service = self.identity.verdict_now(service_token)
        if service is None:
            return None
        grace = GRACE_SECONDS if "service" in service.actor.roles else 0.0
        verdict = self.identity.verdict_now(token, grace)
        if verdict is None:
            return None
        return msgspec.structs.replace(verdict.actor, service_roles=service.actor.roles)

    @property
    def www_authenticate(self) -> str:
        """Where to log in: here."""
        return 'Keystone uri="{base}/v3"'

    async def close(self) -> None:
        """Stop the work in the background."""
        await self.identity.close()
