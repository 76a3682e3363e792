"""How images look in the Compute API (compute view §4)."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from transom.api.call import Call
from transom.api.compute.query import shown_status
from transom.api.views import property_view, time_view
from transom.model.image import Image, Status

PROGRESS: Final[dict[Status, int]] = {Status.QUEUED: 25, Status.SAVING: 50, Status.ACTIVE: 100}
"""Per cent done in each state; 0 in every other."""

_JSON_PROPERTIES: Final = ("block_device_mapping", "mappings")
_TRUE_WORDS: Final = frozenset({"1", "t", "true", "on", "y", "yes"})


def basic_view(call: Call, image: Image) -> dict[str, Any]:
    """An image in the short list."""
    return {"id": image.id, "name": image.name, "links": _links(call, image.id)}


def full_view(call: Call, image: Image) -> dict[str, Any]:
    """An image with its details."""
    metadata = metadata_view(call, image)
    view: dict[str, Any] = {
        "id": image.id,
        "name": image.name,
        "minRam": image.min_ram,
        "minDisk": image.min_disk,
        "metadata": metadata,
        "created": time_view(image.created_at),
        "updated": time_view(image.updated_at),
        "status": shown_status(image.status),
        "progress": PROGRESS.get(image.status, 0),
        "OS-EXT-IMG-SIZE:size": image.size or 0,
        "links": _links(call, image.id),
    }
    server = metadata.get("instance_uuid")
    if server:
        view["server"] = {
            "id": server,
            "links": [
                {"rel": "self", "href": f"{versioned_base(call)}/servers/{server}"},
                {"rel": "bookmark", "href": f"{_bookmark_base(call)}/servers/{server}"},
            ],
        }
    if "auto_disk_config" in metadata:
        is_auto = str(metadata["auto_disk_config"]).strip().lower() in _TRUE_WORDS
        view["OS-DCF:diskConfig"] = "AUTO" if is_auto else "MANUAL"
    return view


def metadata_view(call: Call, image: Image) -> dict[str, Any]:
    """The custom properties that the caller may read."""
    metadata = property_view(call.registry, call.actor, image)
    for name in _JSON_PROPERTIES:
        if isinstance(metadata.get(name), str):
            try:
                metadata[name] = msgspec.json.decode(metadata[name])
            except msgspec.DecodeError:
                # Not JSON after all: shown as the text that it is.
                continue
    return metadata


def compute_base(call: Call) -> str:
    """Base of links into this view, without a version."""
    settings = call.registry.settings
    if settings.compute.public_url:
        return settings.compute.public_url.rstrip("/")
    base = call.base_url if call.mount else call.reached_url
    return f"{base}{call.mount}"


def versioned_base(call: Call) -> str:
    """Base of links that clients follow: with the version, and the project if the path had it."""
    project = call.params.get("project_id")
    base = f"{compute_base(call)}/{call.version}"
    return f"{base}/{project}" if project else base


def _bookmark_base(call: Call) -> str:
    project = call.params.get("project_id")
    return f"{compute_base(call)}/{project}" if project else compute_base(call)


def _links(call: Call, image_id: str) -> list[dict[str, str]]:
    # Only the legacy face keeps the project in the link to the image service (§4.2).
    project = call.params.get("project_id") if call.version == "v2" else None
    image_base = f"{call.base_url}/{project}" if project else call.base_url
    return [
        {"rel": "self", "href": f"{versioned_base(call)}/images/{image_id}"},
        {"rel": "bookmark", "href": f"{_bookmark_base(call)}/images/{image_id}"},
        {
            "rel": "alternate",
            "type": "application/vnd.openstack.image",
            "href": f"{image_base}/images/{image_id}",
        },
    ]
