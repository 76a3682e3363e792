"""Copy an image to further stores (API §10.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transom.errors import InvalidBody
from transom.imports.request import missing_stores
from transom.model.image import Status

if TYPE_CHECKING:
    from transom.imports.request import ImportRequest
    from transom.imports.run import Run
    from transom.model.image import Image
    from transom.registry import Registry


class CopyImage:
    """The data comes from a store that has it; the image stays active all the time."""

    name = "copy-image"
    needs = Status.ACTIVE
    action = "copy_image"
    needs_formats = True
    fetches = False

    def check(self, registry: Registry, request: ImportRequest, image: Image) -> None:
        """Raises InvalidBody where there is no other store, or a named one holds the image."""
        if not registry.announces_stores:
            raise InvalidBody("There is one store only, so an image cannot be copied.")
        missing_stores(registry, request, image)

    async def fetch(self, run: Run) -> None:
        """There is nothing to fetch: each copy reads what is stored."""
