"""The contract of an import plugin: what may be done to data between staging and the stores.

A plugin reads one staged object and gives back what goes on from there: the same object, or a new one
that it wrote through the Workbench. It runs in a task that may be cancelled, or killed and begun
again, at any moment.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from transom.model.image import Image
    from transom.registry import Registry
    from transom.stores.store import Writer


class Material(msgspec.Struct, frozen=True, kw_only=True):
    """Staged data on its way to the stores, and what the image will say of it."""

    key: str
    """Its key in the staging store, `registry.stores.staging`."""
    size_bytes: int
    disk_format: str | None
    container_format: str | None
    properties: dict[str, str]
    """Custom properties to be set on the image in addition."""


class Workbench(Protocol):
    """What a plugin is handed by the task that runs it."""

    registry: Registry
    image: Image
    """As it was when the task began."""
    roles: frozenset[str]
    """Of the caller who asked for the import."""

    async def writer(self, *, size_hint: int | None = None) -> Writer:
        """A Writer in the staging store, under a fresh key that the catalog remembers before the
        first byte. What the returned Material does not name is removed afterwards. `size_hint` is
        the expected length in bytes, if known. Raises the errors of the store."""
        ...

    async def scratch(self) -> Path:
        """An empty folder on the local disk, removed at the end, and by start-up after a crash."""
        ...

    def report(self, phase: str, done_bytes: int, total_bytes: int | None) -> None:
        """Tell how far the work is. `phase` is one word or two that a user understands; a
        `total_bytes` of None is not known. Cheap, and never raises."""
        ...


class Plugin(Protocol):
    """One thing that is done to data on its way. Made from the settings; keeps nothing between runs.

    `run` is safe to run again from the beginning, and can be cancelled at any await: within a second
    it has stopped, and nothing of it is at work any more.
    """

    name: str

    async def run(self, bench: Workbench, material: Material) -> Material:
        """What goes on from here. Raises TransomError with a sentence that the user can act on."""
        ...
