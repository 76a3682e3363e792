"""The contract of an identity backend: who does a token speak for?"""

from __future__ import annotations

from typing import Protocol

from transom.model.actor import Actor


class Authenticator(Protocol):
    """Tells whom a token speaks for. Every backend keeps the promises on this page."""

    async def authenticate(self, token: str | None, service_token: str | None = None) -> Actor:
        """The Actor behind the token.

        Fast when the answer is known: cached verdicts are given without any I/O.
        `service_token` is the X-Service-Token header; its roles go to `Actor.service_roles`, and a
        valid one with role `service` lets an expired user token pass.
        Raises Unauthenticated for a missing, unknown, expired, revoked or forged token, and
        IdentityUnavailable when nobody can tell now. `is_admin` is left False: policy decides.
        """
        ...

    def authenticate_now(self, token: str | None, service_token: str | None = None) -> Actor | None:
        """The Actor if it is known without any waiting (a cache hit), else None. Never raises."""
        ...

    @property
    def www_authenticate(self) -> str:
        """Value of the WWW-Authenticate header of a 401, e.g. `Keystone uri="http://…/v3"`; may hold
        `{base}`, which the HTTP face replaces by the request's own scheme and host."""
        ...

    async def close(self) -> None:
        """Free connections."""
        ...
