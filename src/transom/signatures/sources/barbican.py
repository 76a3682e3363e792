"""Certificates from Barbican, OpenStack's key manager, fetched with the caller's token."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from castellan import key_manager
from castellan.common.credentials.keystone_token import KeystoneToken
from castellan.common.exception import ManagedObjectNotFoundError
from oslo_config import cfg

from transom.errors import ConfigurationError, SignatureInvalid
from transom.settings import Settings

_log = structlog.get_logger(__name__)


class BarbicanSource:
    """Asks Barbican through castellan, which speaks for OpenStack's services to key managers."""

    needs_token = True

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigurationError without a Keystone."""
        keystone = settings.identity.keystone
        if settings.identity.backend != "keystone":
            raise ConfigurationError(
                'signatures.certificates = "barbican" needs identity.backend = "keystone"; use '
                '"folder" with another identity.'
            )
        config = cfg.ConfigOpts()
        config([], project="transom", default_config_files=[])
        key_manager.API(config)
        config.set_override("auth_endpoint", keystone.auth_url, "barbican")
        if settings.signatures.barbican_url:
            config.set_override("barbican_endpoint", settings.signatures.barbican_url, "barbican")
        self._api: Any = key_manager.API(config)
        self._auth_url = keystone.auth_url

    async def certificate(
        self, certificate_id: str, *, token: str | None, project_id: str | None
    ) -> bytes:
        """The certificate as Barbican has it. Raises SignatureInvalid."""
        return await asyncio.to_thread(self._fetch, certificate_id, token, project_id)

    def _fetch(self, certificate_id: str, token: str | None, project_id: str | None) -> bytes:
        caller = KeystoneToken(
            auth_url=self._auth_url, token=token or "", project_id=project_id, reauthenticate=False
        )
        try:
            found = self._api.get(caller, certificate_id)
        except ManagedObjectNotFoundError as missing:
            raise SignatureInvalid(
                f"Barbican has no certificate {certificate_id:.64} for you"
            ) from missing
        except Exception as failed:
            # Whatever library of the chain below it was: the signature could not be verified.
            _log.warning("signatures.barbican_failed", reason=repr(failed))
            raise SignatureInvalid(
                f"certificate {certificate_id:.64} could not be fetched from Barbican; try again"
            ) from failed
        encoded = found.get_encoded()
        if not isinstance(encoded, bytes):
            raise SignatureInvalid(f"{certificate_id:.64} is no certificate")
        return encoded
