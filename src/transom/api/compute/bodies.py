"""The shapes of the Compute view's bodies, for the document. They take no part in serving."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from transom.api.bodies import Closed, Time
from transom.api.route import Parameter


class ComputeLink(Closed):
    """A link of the Compute API."""

    rel: str
    href: str
    type: str | UnsetType = UNSET


class ComputeImageBasic(Closed):
    """An image in the short list."""

    id: str
    name: str | None
    links: list[ComputeLink]


class ComputeServer(Closed):
    """The server that a snapshot was taken from."""

    id: str
    links: list[ComputeLink]


class ComputeImage(Closed):
    """An image with its details."""

    id: str
    name: str | None
    min_ram: Annotated[int, Meta(description="MiB.")] = msgspec.field(name="minRam")
    min_disk: Annotated[int, Meta(description="GiB.")] = msgspec.field(name="minDisk")
    metadata: dict[str, Any]
    created: Time
    updated: Time
    status: str
    progress: Annotated[int, Meta(ge=0, le=100)]
    size_bytes: Annotated[int, Meta(description="Bytes.")] = msgspec.field(
        name="OS-EXT-IMG-SIZE:size"
    )
    links: list[ComputeLink]
    server: ComputeServer | UnsetType = UNSET
    disk_config: str | UnsetType = msgspec.field(name="OS-DCF:diskConfig", default=UNSET)


class ComputeImagesBasic(Closed):
    """A page of the short list."""

    images: list[ComputeImageBasic]
    images_links: list[ComputeLink] | UnsetType = UNSET


class ComputeImages(Closed):
    """A page of the list with details."""

    images: list[ComputeImage]
    images_links: list[ComputeLink] | UnsetType = UNSET


class ComputeImageShown(Closed):
    """One image."""

    image: ComputeImage


class ComputeMetadata(Closed):
    """The metadata of an image."""

    metadata: dict[str, Any]


class ComputeItem(Closed):
    """One metadata item."""

    meta: dict[str, Any]


Value = Annotated[str, Meta(max_length=255)]


class ComputeMetadataWrite(Closed):
    """Metadata to write."""

    metadata: dict[str, Value]


class ComputeItemWrite(Closed):
    """One metadata item to write."""

    meta: dict[str, Value]


class ComputeVersionEntry(msgspec.Struct, kw_only=True):
    """A version of the Compute API."""

    id: str
    status: str
    version: str
    min_version: str
    updated: str
    links: list[ComputeLink]


class ComputeVersions(Closed):
    """The versions of the Compute API."""

    versions: list[ComputeVersionEntry]


class ComputeVersion(Closed):
    """One version of the Compute API."""

    version: ComputeVersionEntry


class ComputeFault(msgspec.Struct, kw_only=True):
    """An error of the Compute API, below the one key that names its kind."""

    code: int
    message: str


LIST_PARAMETERS = (
    Parameter("limit", "Length of the page, at most 1000.", {"type": "integer", "minimum": 0}),
    Parameter("marker", "Id of the last image of the page before."),
    Parameter("changes-since", "Only images changed since this time, deleted ones included."),
    Parameter("name", "Name of the image."),
    Parameter("status", "Status as shown, in any case."),
    Parameter("server", "URL or id of the server that the image was taken from."),
    Parameter("type", "Property image_type: snapshot, backup."),
    Parameter("minRam", "Memory needed, MiB."),
    Parameter("minDisk", "Disk needed, GiB."),
)
