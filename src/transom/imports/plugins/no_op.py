"""The plugin `no_op` (lifecycle §9)."""

from __future__ import annotations

from transom.imports.plugin import Material, Workbench
from transom.settings import Settings


class NoOp:
    """Does nothing: for configurations that must name a plugin."""

    name = "no_op"

    def __init__(self, settings: Settings, target: str) -> None:
        del settings, target

    async def run(self, bench: Workbench, material: Material) -> Material:
        """The same Material."""
        del bench
        return material
