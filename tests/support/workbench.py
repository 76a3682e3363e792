"""A Workbench for plugins: the real stores in a folder, and nothing else of the engine."""

from __future__ import annotations

import datetime as dt
import secrets
from pathlib import Path
from typing import NamedTuple, cast

from transom.imports.plugin import Material
from transom.model.image import Image
from transom.registry import Registry
from transom.settings import Settings, load
from transom.stores import Stores
from transom.stores.store import Writer

WHEN = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


class Parts(NamedTuple):
    """As much of a Registry as plugins use."""

    settings: Settings
    stores: Stores


class Bench:
    """Keeps the promises of Workbench, and remembers what plugins did with it."""

    def __init__(
        self,
        folder: Path,
        *,
        driver: str = "file",
        roles: frozenset[str] = frozenset(),
        **keys: str,
    ) -> None:
        """`keys` are environment variables of the configuration, without `TRANSOM_`; `driver` is
        that of the staging store."""
        environment = {f"TRANSOM_{name}": value for name, value in keys.items()}
        if driver != "file":
            environment |= {
                "TRANSOM_STORES__STAGING": "waiting",
                "TRANSOM_STORES__MAIN__DRIVER": "file",
                "TRANSOM_STORES__WAITING__DRIVER": driver,
            }
        self.settings = load(None, folder / "data", environment)
        (folder / "data").mkdir(exist_ok=True)
        self.registry = cast("Registry", Parts(self.settings, Stores.open(self.settings)))
        self.staging = self.registry.stores.staging
        self.image = Image(
            id="4a7f6c3e-52d1-4d0e-9d4c-6b6a5e0c5c11", created_at=WHEN, updated_at=WHEN
        )
        self.roles = roles
        self.folder = folder
        self.reports: list[tuple[str, int, int | None]] = []
        self.hints: list[int | None] = []
        self.scratches: list[Path] = []

    async def writer(self, *, size_hint: int | None = None) -> Writer:
        """A Writer under a fresh key."""
        self.hints.append(size_hint)
        return self.staging.writer(self.new_key(), size_hint=size_hint)

    async def scratch(self) -> Path:
        """A fresh folder."""
        path = self.folder / f"scratch-{len(self.scratches)}"
        path.mkdir()
        self.scratches.append(path)
        return path

    def report(self, phase: str, done_bytes: int, total_bytes: int | None) -> None:
        """Remember it."""
        self.reports.append((phase, done_bytes, total_bytes))

    def new_key(self) -> str:
        """A key that no object has."""
        return f"{self.image.id}.{secrets.token_hex(4)}"

    async def stage(
        self,
        data: bytes | Path,
        disk_format: str | None = "raw",
        container_format: str | None = "bare",
    ) -> Material:
        """Put data into the staging store."""
        async with self.staging.writer(self.new_key()) as writer:
            if isinstance(data, Path):
                with data.open("rb") as file:
                    while piece := file.read(1024 * 1024):
                        await writer.write(piece)
            else:
                await writer.write(data)
            stored = await writer.commit()
        return Material(
            key=stored.key,
            size_bytes=stored.size_bytes,
            disk_format=disk_format,
            container_format=container_format,
            properties={},
        )

    async def content(self, material: Material) -> bytes:
        """What is staged under the Material's key."""
        reader = await self.staging.read(material.key)
        return b"".join([piece async for piece in reader])

    async def keys(self) -> list[str]:
        """All complete objects of the staging store."""
        return sorted([entry.key async for entry in self.staging.list()])

    async def partial(self) -> list[str]:
        """All partial objects of the staging store."""
        return sorted([entry.key async for entry in self.staging.list_partial()])

    async def close(self) -> None:
        """Close what was opened."""
        await self.registry.stores.close()
