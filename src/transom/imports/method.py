"""The contract of an import method: where the data of an image comes from (API §10.2).

A method is one file in `methods/` and one line in `METHODS`. It says what it needs, checks a
request before anything is changed, and fetches. All that follows is the same for every method.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from transom.imports.request import ImportRequest
    from transom.imports.run import Run
    from transom.model.image import Image, Status
    from transom.registry import Registry


class ImportMethod(Protocol):
    """One way to bring data in. Made without arguments; keeps nothing between calls."""

    name: str
    needs: Status
    """The status that the image must have."""
    action: str
    """The policy rule that decides who may."""
    needs_formats: bool
    """True when disk_format and container_format must be set before."""
    fetches: bool
    """True when `fetch` brings data into the staging store first."""

    def check(self, registry: Registry, request: ImportRequest, image: Image) -> None:
        """Refuse what cannot work. Raises InvalidBody, UrlRefused, Conflict."""
        ...

    async def fetch(self, run: Run) -> None:
        """Bring the data into the staging store, as `run.material`. Goes on where an earlier attempt
        ended. Raises TransomError with a sentence that the user can act on."""
        ...
