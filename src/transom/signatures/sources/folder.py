"""Certificates from a folder, for those who have no key manager."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from transom.errors import SignatureInvalid
from transom.settings import Settings

_ID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
SIZE_BYTES_MAX = 65536


class FolderSource:
    """`<id>.pem` in a folder that only the operator writes to: what lies there is trusted."""

    needs_token = False

    def __init__(self, settings: Settings) -> None:
        self._folder = Path(settings.signatures.folder)

    async def certificate(
        self, certificate_id: str, *, token: str | None, project_id: str | None
    ) -> bytes:
        """The file's content. Raises SignatureInvalid."""
        if not _ID.fullmatch(certificate_id):
            raise SignatureInvalid(f"'{certificate_id:.64}' is no id of a certificate")
        return await asyncio.to_thread(self._read, certificate_id.lower())

    def _read(self, name: str) -> bytes:
        try:
            with (self._folder / f"{name}.pem").open("rb") as file:
                content = file.read(SIZE_BYTES_MAX + 1)
        except OSError as missing:
            raise SignatureInvalid(
                f"there is no certificate {name} here; ask the administrator to trust it"
            ) from missing
        if len(content) > SIZE_BYTES_MAX:
            raise SignatureInvalid(f"certificate {name} is too long to be one")
        return content
