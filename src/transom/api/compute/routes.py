"""The rows of the Compute view in the route table (compute view §1).

Every endpoint exists with and without the project, under `/v2` and `/v2.1`. The rows name them
below `/compute`; `api/face.py` also serves them at the root, where no path of the Image API matches,
and on `[compute] bind`.
"""

from __future__ import annotations

from transom.api.compute import bodies, handlers, versions
from transom.api.route import Route

_READ = (400, 403, 404, 406)
_WRITE = (400, 403, 404, 406, 409, 413, 415)


def _rows(base: str) -> tuple[Route, ...]:
    images = f"{base}/images"
    image = f"{images}/{{image_id}}"
    metadata = f"{image}/metadata"
    item = f"{metadata}/{{key}}"
    return (
        Route("GET", images, handlers.images_list, "List images", face="compute",
              action="get_images", parameters=bodies.LIST_PARAMETERS, open_query=True,
              answer=bodies.ComputeImagesBasic, errors=_READ),
        Route("GET", f"{images}/detail", handlers.images_detail, "List images with details",
              face="compute", action="get_images", parameters=bodies.LIST_PARAMETERS,
              open_query=True, answer=bodies.ComputeImages, errors=_READ),
        Route("GET", image, handlers.image_show, "Show an image", face="compute",
              action="get_image", answer=bodies.ComputeImageShown, errors=_READ),
        Route("DELETE", image, handlers.image_delete, "Delete an image", 204, face="compute",
              action="delete_image", errors=(*_READ, 409, 500, 503)),
        Route("GET", metadata, handlers.metadata_show, "List the metadata of an image",
              face="compute", action="get_image", answer=bodies.ComputeMetadata, errors=_READ),
        Route("POST", metadata, handlers.metadata_merge, "Add to the metadata of an image",
              face="compute", action="modify_image", body=bodies.ComputeMetadataWrite,
              answer=bodies.ComputeMetadata, errors=_WRITE),
        Route("PUT", metadata, handlers.metadata_replace, "Replace the metadata of an image",
              face="compute", action="modify_image", body=bodies.ComputeMetadataWrite,
              answer=bodies.ComputeMetadata, errors=_WRITE),
        Route("GET", item, handlers.item_show, "Show a metadata item", face="compute",
              action="get_image", answer=bodies.ComputeItem, errors=_READ),
        Route("PUT", item, handlers.item_set, "Set a metadata item", face="compute",
              action="modify_image", body=bodies.ComputeItemWrite, answer=bodies.ComputeItem,
              errors=_WRITE),
        Route("DELETE", item, handlers.item_remove, "Remove a metadata item", 204,
              face="compute", action="modify_image", errors=_WRITE),
    )  # fmt: skip


COMPUTE_ROUTES: tuple[Route, ...] = (
    Route("GET", "/compute", versions.version_list, "List the Compute API versions",
          face="compute", needs_token=False, answer=bodies.ComputeVersions),
    Route("GET", "/compute/", versions.version_list, "List the Compute API versions",
          face="compute", needs_token=False, answer=bodies.ComputeVersions),
    *(
        row
        for version in ("v2", "v2.1")
        for row in (
            Route("GET", f"/compute/{version}", versions.version_redirect,
                  "Redirect to the version document", 302, face="compute", needs_token=False),
            Route("GET", f"/compute/{version}/", versions.version_show,
                  "Show a Compute API version", face="compute", needs_token=False,
                  answer=bodies.ComputeVersion),
            *_rows(f"/compute/{version}"),
            *_rows(f"/compute/{version}/{{project_id}}"),
        )
    ),
)  # fmt: skip
"""Every endpoint of the Compute view."""
