"""The contract of a source of certificates."""

from __future__ import annotations

from typing import Protocol


class CertificateSource(Protocol):
    """Gives X.509 certificates by their id. Made from the settings."""

    needs_token: bool
    """True when a certificate is fetched with the caller's own token."""

    async def certificate(
        self, certificate_id: str, *, token: str | None, project_id: str | None
    ) -> bytes:
        """The certificate, PEM or DER. Raises SignatureInvalid when there is none for this caller."""
        ...
