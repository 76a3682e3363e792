"""How images and members look in JSON (API §3, §11)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from transom.images.attributes import NULLABLE_CUSTOM, SCHEMA_CUSTOM
from transom.images.download import by_weight
from transom.model.actor import Actor
from transom.model.image import Image, Location, Status
from transom.model.member import Member
from transom.model.reserved import LAST_ERROR
from transom.registry import Registry

_ENCODED_MAX: Final = 8192
_encode = msgspec.json.Encoder().encode
_encoded: dict[str, tuple[Image, msgspec.Raw]] = {}


def image_view(registry: Registry, actor: Actor, image: Image) -> dict[str, Any]:
    """An image as the API shows it to this caller."""
    settings = registry.settings
    view = property_view(registry, actor, image)
    view["name"] = image.name
    view["disk_format"] = image.disk_format
    view["container_format"] = image.container_format
    view["visibility"] = image.visibility
    view["size"] = image.size
    view["virtual_size"] = image.virtual_size
    view["status"] = image.status
    view["checksum"] = image.checksum
    view["protected"] = image.protected
    view["min_ram"] = image.min_ram
    view["min_disk"] = image.min_disk
    view["owner"] = image.owner
    view["os_hidden"] = image.os_hidden
    view["os_hash_algo"] = image.os_hash_algo
    view["os_hash_value"] = image.os_hash_value
    view["id"] = image.id
    view["created_at"] = time_view(image.created_at)
    view["updated_at"] = time_view(image.updated_at)
    if settings.images.show_multiple_locations or settings.images.show_direct_url:
        _add_locations(registry, actor, image, view)
    view["tags"] = image.tags
    view["self"] = f"/v2/images/{image.id}"
    view["file"] = f"/v2/images/{image.id}/file"
    view["schema"] = "/v2/schemas/image"
    if image.locations and registry.announces_stores and not _is_closed(actor, image):
        view["stores"] = ",".join(
            dict.fromkeys(location.store for location in by_weight(registry, image))
        )
    return view


def image_json(registry: Registry, actor: Actor, image: Image) -> msgspec.Raw:
    """`image_view` as JSON."""
    return images_json(registry, actor, (image,))[0]


def images_json(registry: Registry, actor: Actor, images: Iterable[Image]) -> list[msgspec.Raw]:
    """`image_view` of each image as JSON. What looks the same to every caller is encoded once, for
    as long as the catalog gives the same object for the image (decision 0046)."""
    alike = _looks_alike(registry)
    found = []
    for image in images:
        known = _encoded.get(image.id) if alike else None
        if known is None or known[0] is not image:
            known = image, msgspec.Raw(_encode(image_view(registry, actor, image)))
            if alike:
                _keep(known)
        found.append(known[1])
    return found


def _keep(known: tuple[Image, msgspec.Raw]) -> None:
    if len(_encoded) >= _ENCODED_MAX:
        del _encoded[next(iter(_encoded))]
    _encoded[known[0].id] = known


def _looks_alike(registry: Registry) -> bool:
    """True when the view of an image depends on the image alone."""
    images = registry.settings.images
    return not (
        registry.protections.active
        or registry.announces_stores
        or images.show_direct_url
        or images.show_multiple_locations
    )


def property_view(registry: Registry, actor: Actor, image: Image) -> dict[str, Any]:
    """The custom properties that the caller may read, as the API shows them."""
    view: dict[str, Any] = dict(image.properties)
    if LAST_ERROR in view:
        reason = view.pop(LAST_ERROR)
        # A property of the client's own by that name is the client's.
        view.setdefault("last_error", reason)
    if None in view.values():
        for name in [name for name, value in view.items() if value is None]:
            if name in SCHEMA_CUSTOM:
                del view[name]
            elif name not in NULLABLE_CUSTOM:
                view[name] = ""
    if registry.protections.active:
        readable = registry.protections.readable
        view = {name: value for name, value in view.items() if readable(actor, name)}
    return view


def _is_closed(actor: Actor, image: Image) -> bool:
    return image.status is Status.DEACTIVATED and not actor.is_admin


def _add_locations(registry: Registry, actor: Actor, image: Image, view: dict[str, Any]) -> None:
    closed = _is_closed(actor, image)
    locations = [] if closed else by_weight(registry, image)
    if registry.settings.images.show_multiple_locations:
        view["locations"] = [location_view(registry, location) for location in locations]
    if registry.settings.images.show_direct_url and locations:
        view["direct_url"] = locations[0].url


def location_view(registry: Registry, location: Location) -> dict[str, Any]:
    """A location as the API shows it; with several stores it names its own."""
    metadata = dict(location.metadata)
    if registry.announces_stores:
        metadata["store"] = location.store
    return {"url": location.url, "metadata": metadata}


def time_view(moment: dt.datetime) -> dt.datetime:
    """A time in whole seconds, which the encoder writes as `YYYY-MM-DDTHH:MM:SSZ`."""
    return moment.replace(microsecond=0) if moment.microsecond else moment


def moment_view(moment: dt.datetime | None) -> str | None:
    """A time to the microsecond without a zone, as the tasks of an image have it (API §1.3)."""
    return None if moment is None else f"{moment:%Y-%m-%dT%H:%M:%S.%f}"


def member_view(member: Member) -> dict[str, Any]:
    """A membership as the API shows it."""
    return {
        "member_id": member.member_id,
        "image_id": member.image_id,
        "status": member.status,
        "created_at": time_view(member.created_at),
        "updated_at": time_view(member.updated_at),
        "schema": "/v2/schemas/member",
    }
