"""Rows to images and back. The only place that knows how an image is spread over columns."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import msgspec

from transom.catalog.schema import EPOCH, MICROSECOND, images
from transom.errors import InvalidValue
from transom.model.image import GONE, Image, Location, Status, Visibility
from transom.model.reserved import IMPORTING_TO

_fold = msgspec.json.Encoder().encode
_unfold_tags = msgspec.json.Decoder(tuple[str, ...]).decode
_unfold_properties = msgspec.json.Decoder(dict[str, str | None]).decode
_unfold_locations = msgspec.json.Decoder(tuple[Location, ...]).decode
_unfold_metadata = msgspec.json.Decoder(dict[str, object]).decode
_status_of = {str(status): status for status in Status}
_visibility_of = {str(visibility): visibility for visibility in Visibility}

Moments = Callable[[Any], dt.datetime]

COLUMNS = (
    images.c.id,
    images.c.owner,
    images.c.visibility,
    images.c.status,
    images.c.created_at,
    images.c.updated_at,
    images.c.deleted_at,
    images.c.os_hidden,
    images.c.protected,
    images.c.name,
    images.c.disk_format,
    images.c.container_format,
    images.c.size,
    images.c.virtual_size,
    images.c.min_disk,
    images.c.min_ram,
    images.c.checksum,
    images.c.os_hash_algo,
    images.c.os_hash_value,
    images.c.revision,
    images.c.tags,
    images.c.properties,
    images.c.locations,
)
"""What `image_of` reads, in this order; one more value after them is the member."""


def moment_of(dialect: str) -> Moments:
    """The function that makes a driver's moment an aware UTC time."""
    if dialect == "postgresql":
        # The driver gives times in the zone of the connection, which is UTC.
        return _same
    epoch, delta = EPOCH, dt.timedelta
    # Pages are asked for again and again, and many images were never updated.
    return lru_cache(maxsize=8192)(lambda value: epoch + delta(0, 0, value))


def _same(moment: dt.datetime) -> dt.datetime:
    return moment


def moment_value(dialect: str, moment: dt.datetime) -> Any:
    """What a driver is handed for a moment."""
    return moment if dialect == "postgresql" else (moment - EPOCH) // MICROSECOND


def image_of(row: Sequence[Any], moment: Moments) -> Image:
    """The image of a row of COLUMNS and the member."""
    (
        id_, owner, visibility, status, created_at, updated_at, deleted_at, os_hidden, protected,
        name, disk_format, container_format, size, virtual_size, min_disk, min_ram, checksum,
        os_hash_algo, os_hash_value, revision, tags, properties, locations, member_id,
    ) = row  # fmt: skip
    return Image(
        id=id_,
        created_at=moment(created_at),
        updated_at=moment(updated_at),
        name=name,
        status=_status_of[status],
        visibility=_visibility_of[visibility],
        owner=owner,
        disk_format=disk_format,
        container_format=container_format,
        size=size,
        virtual_size=virtual_size,
        checksum=checksum,
        os_hash_algo=os_hash_algo,
        os_hash_value=os_hash_value,
        os_hidden=os_hidden == 1,
        protected=protected == 1,
        min_disk=min_disk,
        min_ram=min_ram,
        deleted_at=None if deleted_at is None else moment(deleted_at),
        properties={} if properties == "{}" else _unfold_properties(properties),
        tags=() if tags == "[]" else _unfold_tags(tags),
        locations=() if locations == "[]" else _unfold_locations(locations),
        revision=revision,
        member_id=member_id,
    )


def values_of(image: Image) -> dict[str, Any]:
    """The columns of an image's row, except `shelf`, which the database makes itself. Raises
    InvalidValue for text that no database holds."""
    check_text(image)
    locations = tuple(location for location in image.locations if location.status == "active")
    return {
        "id": image.id,
        "owner": image.owner,
        "visibility": str(image.visibility),
        "status": str(image.status),
        "created_at": image.created_at,
        "updated_at": image.updated_at,
        "deleted_at": image.deleted_at,
        "os_hidden": image.os_hidden,
        "protected": image.protected,
        "name": image.name,
        "disk_format": image.disk_format,
        "container_format": image.container_format,
        "size": image.size,
        "virtual_size": image.virtual_size,
        "min_disk": image.min_disk,
        "min_ram": image.min_ram,
        "checksum": image.checksum,
        "os_hash_algo": image.os_hash_algo,
        "os_hash_value": image.os_hash_value,
        "copies": len(locations),
        "copying": bool(image.properties.get(IMPORTING_TO)),
        "revision": image.revision,
        "tags": fold(tags_of(image)),
        "properties": fold(image.properties),
        "locations": fold(locations),
    }


def fold(value: object) -> str:
    """Anything of an image as JSON text."""
    return _fold(value).decode()


def unfold_locations(text: str) -> tuple[Location, ...]:
    """The locations folded on an image's row."""
    return _unfold_locations(text)


def unfold_metadata(text: str) -> dict[str, object]:
    """The metadata of a location's row."""
    return _unfold_metadata(text)


def tags_of(image: Image) -> tuple[str, ...]:
    """The tags, each once, in the order given."""
    return tuple(dict.fromkeys(image.tags))


def shelf_of(image: Image) -> int:
    """What the database computes as `shelf`: which lists show the image."""
    if image.status is Status.KILLED:
        return 4
    return image.os_hidden + 2 * (image.status in GONE)


def digest_of(name: str, value: str) -> bytes:
    """128 bits that stand for a property's name and value in an index."""
    return blake2b(f"{len(name)}:{name}{value}".encode(), digest_size=16).digest()


def property_rows(image: Image, names: Iterable[str]) -> list[dict[str, Any]]:
    """Rows of `image_properties`. A null value equals nothing and so has no row."""
    common = _indexed(image)
    return [
        {"name": name, "digest": digest_of(name, value), **common}
        for name in names
        if (value := image.properties[name]) is not None
    ]


def tag_rows(image: Image, tags: Iterable[str]) -> list[dict[str, Any]]:
    """Rows of `image_tags`."""
    common = _indexed(image)
    return [{"tag": tag, **common} for tag in tags]


def _indexed(image: Image) -> dict[str, Any]:
    return {
        "image_id": image.id,
        "shelf": shelf_of(image),
        "visibility": str(image.visibility),
        "created_at": image.created_at,
    }


def location_row(image_id: str, position: int, location: Location, now: dt.datetime) -> Any:
    """A row of `image_locations`; one that is not active is pending deletion from `now` on."""
    active = location.status == "active"
    return {
        "image_id": image_id,
        "position": position,
        "store": location.store,
        "key": location.key,
        "url": location.url,
        "metadata": fold(location.metadata),
        "status": "active" if active else "pending_delete",
        "doomed_at": None if active else now,
    }


def is_storable(text: str) -> bool:
    """True when every database holds the text: PostgreSQL refuses NUL, and none takes surrogates
    that are not UTF-8."""
    if "\0" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_text(image: Image) -> None:
    """Raise InvalidValue for text in the image that a database refuses."""
    for name in ("id", "name", "owner", "disk_format", "container_format"):
        value = getattr(image, name)
        if value is not None and not is_storable(value):
            raise InvalidValue(name, _UNSTORABLE)
    for tag in image.tags:
        if not is_storable(tag):
            raise InvalidValue("tags", _UNSTORABLE)
    for key, value in image.properties.items():
        if not is_storable(key) or (value is not None and not is_storable(value)):
            raise InvalidValue(key.replace("\0", "\\0"), _UNSTORABLE)


_UNSTORABLE = "text must be UTF-8 without NUL characters; remove them."
