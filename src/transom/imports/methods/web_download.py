"""Import data that a web server gives (API §10.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transom.errors import InvalidBody
from transom.imports.fetching import fetch_urls
from transom.model.image import Status
from transom.remote.guard import Guard

if TYPE_CHECKING:
    from transom.imports.request import ImportRequest
    from transom.imports.run import Run
    from transom.model.image import Image
    from transom.registry import Registry

MIRRORS_MAX = 8


class WebDownload:
    """Fetch `uri`, or one of `mirrors`, over HTTP.

    Beyond what Glance takes: `mirrors` (a list of URLs of the same data) and `checksums_uri` (a file
    such as SHA256SUMS, which must name the file of `uri`).
    """

    name = "web-download"
    needs = Status.QUEUED
    action = "modify_image"
    needs_formats = True
    fetches = True

    def check(self, registry: Registry, request: ImportRequest, image: Image) -> None:
        """Raises InvalidBody, UrlRefused."""
        guard = Guard.open(registry.settings)
        mirrors = request.texts("mirrors")
        if len(mirrors) > MIRRORS_MAX:
            raise InvalidBody(f"'method.mirrors' may name {MIRRORS_MAX} URLs at most.")
        for url in (request.text("uri"), *mirrors):
            guard.check(url)
        if "checksums_uri" in request.source:
            guard.check(request.text("checksums_uri"))

    async def fetch(self, run: Run) -> None:
        """The data of the first URL that gives it whole."""
        source = run.source
        await fetch_urls(
            run,
            [source["uri"], *source.get("mirrors", [])],
            checksums_url=source.get("checksums_uri"),
        )
