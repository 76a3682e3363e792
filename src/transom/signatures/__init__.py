"""Signatures of images: data is held to what its properties say that somebody signed (lifecycle §8).

An image with all four `img_signature…` properties is verified where its data comes in. The digest and
the key types are those of cursive, OpenStack's own library for this. Certificates come from a source:
one file in `sources/` and one line here.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self, cast

from transom.errors import ConfigurationError, SignatureInvalid
from transom.signatures.source import CertificateSource

if TYPE_CHECKING:
    from transom.settings import Settings
    from transom.signatures.verifier import Verifier

SOURCES: dict[str, str] = {
    "folder": "transom.signatures.sources.folder:FolderSource",
    "barbican": "transom.signatures.sources.barbican:BarbicanSource",
}
"""Source name → class, by dotted name, so that a library is needed only where it is used."""

SIGNATURE = "img_signature"
HASH_METHOD = "img_signature_hash_method"
KEY_TYPE = "img_signature_key_type"
CERTIFICATE = "img_signature_certificate_uuid"
PROPERTIES = (SIGNATURE, HASH_METHOD, KEY_TYPE, CERTIFICATE)
"""All four ask for verification; fewer ask for nothing."""


def is_signed(properties: Mapping[str, str | None]) -> bool:
    """True when the data of an image with these properties has to be verified."""
    return all(properties.get(name) is not None for name in PROPERTIES)


class Signatures:
    """Verifies data by certificates of one source."""

    def __init__(self, source: CertificateSource) -> None:
        self._source = source

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """With the source of `[signatures]`. Raises ConfigurationError."""
        name = settings.signatures.certificates
        module, _, kind = SOURCES[name].partition(":")
        try:
            source = getattr(importlib.import_module(module), kind)(settings)
        except ModuleNotFoundError as missing:
            raise ConfigurationError(
                f"signatures.certificates = {name!r}: the Python package {missing.name} is not "
                "installed; install transom[signatures]."
            ) from missing
        return cls(cast("CertificateSource", source))

    @property
    def needs_token(self) -> bool:
        """True when certificates are fetched in the caller's name."""
        return self._source.needs_token

    async def verifier_for(
        self, properties: Mapping[str, str | None], *, token: str | None, project_id: str | None
    ) -> Verifier | None:
        """What the data of an image with these properties has to pass through; None when it is not
        signed. `token` and its `project_id` are the caller's. Raises SignatureInvalid for properties that no signature can have, a certificate that
        is not there or not valid now, and where the library is not installed."""
        if not is_signed(properties):
            return None
        try:
            from transom.signatures.verifier import open_verifier
        except ModuleNotFoundError as missing:
            raise SignatureInvalid(
                f"signatures cannot be verified here, because {missing.name} is not installed; ask "
                "the administrator for transom[signatures]"
            ) from missing
        values = {name: properties[name] or "" for name in PROPERTIES}
        certificate = await self._source.certificate(
            values[CERTIFICATE], token=token, project_id=project_id
        )
        return open_verifier(
            certificate,
            signature=values[SIGNATURE],
            hash_method=values[HASH_METHOD],
            key_type=values[KEY_TYPE],
        )
