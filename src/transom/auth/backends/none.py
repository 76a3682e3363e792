"""No identity at all: everyone is an administrator. For trying things out on one machine."""

from __future__ import annotations

from typing import Any, Self

import structlog

from transom.auth.local.roles import with_implied
from transom.errors import ConfigurationError
from transom.model.actor import Actor
from transom.settings import Settings, host_and_port, is_loopback

_log = structlog.get_logger(__name__)

ADMIN = Actor(roles=with_implied(["admin"]))
"""Everyone: an administrator without user and project, so images that name no owner have none, as
in a Glance that runs without authentication."""


class NoAuthenticator:
    """Believes everybody everything."""

    @classmethod
    def open(cls, settings: Settings, _catalog: Any) -> Self:
        """The authenticator, only where nobody outside of this machine can reach it. Raises
        ConfigurationError for any other address."""
        for key, bind in (
            ("server.bind", settings.server.bind),
            ("compute.bind", settings.compute.bind),
        ):
            if bind and not is_loopback(host_and_port(bind)[0]):
                raise ConfigurationError(
                    f"{key} = {bind!r}: with identity.backend = 'none' everyone is an "
                    "administrator, so only a loopback address such as 127.0.0.1 is allowed; use "
                    "another backend, or bind to loopback."
                )
        _log.warning(
            "identity.none",
            warning="EVERYONE WHO REACHES THIS ADDRESS IS AN ADMINISTRATOR; no token is checked",
            bind=settings.server.bind,
        )
        return cls()

    async def authenticate(self, token: str | None, service_token: str | None = None) -> Actor:
        """An administrator, whatever the token."""
        return ADMIN

    def authenticate_now(self, token: str | None, service_token: str | None = None) -> Actor | None:
        """An administrator, whatever the token."""
        return ADMIN

    @property
    def www_authenticate(self) -> str:
        """Never sent, since nobody is refused."""
        return 'Keystone uri="{base}/v3"'

    async def close(self) -> None:
        """Nothing to free."""
