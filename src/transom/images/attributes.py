"""Which attributes an image has, who sets them, and what values they may hold (API §3, §4, §7)."""

from __future__ import annotations

import re
from typing import Any, Final

from transom.errors import InvalidValue
from transom.model.image import Visibility
from transom.settings import Settings

BASE: Final = frozenset(
    {
        "name", "visibility", "owner", "protected", "min_ram", "min_disk", "os_hidden",
        "disk_format", "container_format", "tags",
    }
)  # fmt: skip
"""Attributes that clients set, on every image."""

READ_ONLY: Final = frozenset(
    {
        "created_at", "updated_at", "status", "checksum", "size", "virtual_size", "direct_url",
        "self", "file", "schema", "stores",
    }
)  # fmt: skip
"""Attributes that the service sets; a client that sends one is refused."""

HASHES: Final = frozenset({"os_hash_algo", "os_hash_value"})
"""Read-only too, but silently dropped at creation, as Glance does (API §4)."""

RESERVED: Final = frozenset({"location", "locations", "deleted", "deleted_at"})
"""Names that no client may use for a custom property."""

UUID: Final = re.compile(
    "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$"
)
"""What an image id looks like (API §1.3)."""

NULLABLE_CUSTOM: Final = frozenset({"kernel_id", "ramdisk_id"})
"""Custom properties of the schema that may be null, and else hold a UUID."""

SCHEMA_CUSTOM: Final = frozenset(
    {
        "instance_uuid", "architecture", "os_distro", "os_version", "description",
        "cinder_encryption_key_id", "cinder_encryption_key_deletion_policy",
    }
)  # fmt: skip
"""Custom properties of the schema that are never null."""

_KEY_POLICIES = ("on_image_deletion", "do_not_delete")
_LENGTH_MAX = 255
_INTEGER_MAX = 2**31 - 1


def is_reserved(name: str) -> bool:
    """True for names that belong to the service, `os_glance…` included."""
    return name in RESERVED or name.startswith("os_glance")


def checked(name: str, value: Any, settings: Settings) -> Any:
    """The value of an attribute or custom property, ready to be kept.

    Raises InvalidValue when the schema refuses it.
    """
    match name:
        case "id":
            checked_text(name, value)
            if not UUID.match(value) or value.endswith("\n"):
                raise InvalidValue(
                    name, "an id is a UUID like 3fa85f64-5717-4562-b3fc-2c963f66afa6"
                )
            return value
        case "name" | "owner":
            return None if value is None else checked_text(name, value, _LENGTH_MAX)
        case "visibility":
            return Visibility(_one_of(name, value, tuple(Visibility)))
        case "disk_format":
            return value if value is None else _one_of(name, value, settings.images.disk_formats)
        case "container_format":
            formats = settings.images.container_formats
            return value if value is None else _one_of(name, value, formats)
        case "protected" | "os_hidden":
            if not isinstance(value, bool):
                raise InvalidValue(name, "it must be true or false")
            return value
        case "min_disk" | "min_ram":
            if isinstance(value, float) and value.is_integer():
                # JSON Schema takes 4.0 for an integer, and so does Glance.
                value = int(value)
            if isinstance(value, bool) or not isinstance(value, int):
                raise InvalidValue(name, "it must be an integer")
            if not 0 <= value <= _INTEGER_MAX:
                raise InvalidValue(name, f"it must be from 0 to {_INTEGER_MAX}")
            return value
        case "tags":
            return checked_tags(value)
        case _:
            return _custom(name, value)


def checked_tags(value: Any) -> tuple[str, ...]:
    """A list of tags as a set in the order given. Raises InvalidValue."""
    if not isinstance(value, list):
        raise InvalidValue("tags", "it must be a list of strings")
    return tuple(dict.fromkeys(checked_tag(tag) for tag in value))


def checked_tag(value: Any) -> str:
    """One tag: a string of at most 255 characters. Raises InvalidValue."""
    return checked_text("tags", value, _LENGTH_MAX)


def checked_name(name: str) -> str:
    """The name of a custom property: 1 to 255 characters. Raises InvalidValue."""
    if not name:
        raise InvalidValue(name, "a property needs a name")
    return checked_text(name[:64] if len(name) > _LENGTH_MAX else name, name, _LENGTH_MAX)


def _custom(name: str, value: Any) -> str | None:
    checked_name(name)
    if name in NULLABLE_CUSTOM:
        if value is None:
            return None
        if not UUID.match(checked_text(name, value)):
            raise InvalidValue(name, "it must be null or a UUID")
    elif name == "cinder_encryption_key_deletion_policy":
        return _one_of(name, value, _KEY_POLICIES)
    return checked_text(name, value)


def checked_text(name: str, value: Any, length_max: int | None = None) -> str:
    """A text that every database holds, of at most so many characters. Raises InvalidValue."""
    if not isinstance(value, str):
        raise InvalidValue(name, f"{value!r:.80} is not a string")
    if length_max is not None and len(value) > length_max:
        raise InvalidValue(
            name, f"it has {len(value)} characters, at most {length_max} are allowed"
        )
    if not value.isascii():
        # Databases that operators migrate from and to may not hold these (API §1.2).
        if any(character > "\uffff" for character in value):
            raise InvalidValue(name, "characters outside the Basic Multilingual Plane are refused")
        try:
            value.encode()
        except UnicodeEncodeError as broken:
            raise InvalidValue(name, "it is not valid Unicode") from broken
    if "\0" in value:
        raise InvalidValue(name, "NUL characters are refused")
    return value


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise InvalidValue(name, f"{value!r:.80} is not one of: {', '.join(allowed)}")
    return value
