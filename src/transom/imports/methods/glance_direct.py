"""Import data that was staged before (API §10.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transom.model.image import Status

if TYPE_CHECKING:
    from transom.imports.request import ImportRequest
    from transom.imports.run import Run
    from transom.model.image import Image
    from transom.registry import Registry


class GlanceDirect:
    """The data is in the staging store already."""

    name = "glance-direct"
    needs = Status.UPLOADING
    action = "modify_image"
    needs_formats = True
    fetches = False

    def check(self, registry: Registry, request: ImportRequest, image: Image) -> None:
        """Nothing but the image's status matters, which the catalog checks."""

    async def fetch(self, run: Run) -> None:
        """There is nothing to fetch."""
