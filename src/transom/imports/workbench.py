"""What a plugin is handed: places to write that are cleaned up whatever happens."""

from __future__ import annotations

from pathlib import Path

from transom.images.upload import new_key
from transom.imports.run import Run
from transom.model.image import Image
from transom.stores.store import Writer


class Bench:
    """The Workbench of one plugin in one run of a task."""

    def __init__(self, run: Run, image: Image) -> None:
        self.registry = run.registry
        self.image = image
        self.roles = run.roles
        self._run = run

    async def writer(self, *, size_hint: int | None = None) -> Writer:
        """A Writer in the staging store, under a fresh key that the catalog remembers first."""
        staging, key = self._run.staging, new_key(self.image.id)
        writer = staging.writer(key, size_hint=size_hint)
        await self._run.remember(staging, key, writer.token)
        return writer

    async def scratch(self) -> Path:
        """An empty folder on the local disk, removed when this attempt at the task ends."""
        return await self._run.scratch()

    def report(self, phase: str, done_bytes: int, total_bytes: int | None) -> None:
        """Tell how far the work is."""
        self._run.report(phase, done_bytes, total_bytes)

    async def clear(self, *, keep: str) -> None:
        """Remove what the task has in the staging store, except the object that goes on."""
        staging, tasks = self._run.staging, self.registry.catalog.tasks
        slots = self._run.notes.get("slots", {}).values()
        in_use = {keep, *(each["key"] for each in slots if each["store"] != staging.name)}
        for each in await tasks.objects(self._run.task.id):
            if each.store == staging.name and each.key not in in_use:
                await self._run.remove(staging, each.key)
