"""What events hold: field by field what Glance's notifications hold, so that its listeners understand.

Locations are in none of them: a URL may carry credentials. Times are whole seconds with a `Z`.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from transom.model.event import Notice, Priority
from transom.model.image import Image, Visibility
from transom.model.member import Member
from transom.model.metadef import (
    Association,
    Definition,
    MetadefObject,
    MetadefProperty,
    MetadefTag,
    Namespace,
)
from transom.model.reserved import FAILED_IMPORT, IMPORTING_TO
from transom.model.task import Task

Payload = dict[str, Any]

DEFINED: Final = (
    *("type", "title", "description", "default", "minimum", "maximum", "enum", "pattern"),
    *("minLength", "maxLength", "confidential", "items", "uniqueItems", "minItems", "maxItems"),
    "additionalItems",
)
"""What of a property's definition is told."""


def _time(moment: dt.datetime | None) -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _gone(moment: dt.datetime | None) -> Payload:
    return {"deleted": moment is not None, "deleted_at": _time(moment)}


# --- images --------------------------------------------------------------------------------------


def image_payload(image: Image) -> Payload:
    """An image, living or deleted."""
    return {
        "id": image.id,
        "name": image.name,
        "status": str(image.status),
        "created_at": _time(image.created_at),
        "updated_at": _time(image.updated_at),
        "min_disk": image.min_disk,
        "min_ram": image.min_ram,
        "protected": image.protected,
        "checksum": image.checksum,
        "owner": image.owner,
        "disk_format": image.disk_format,
        "container_format": image.container_format,
        "size": image.size,
        "virtual_size": image.virtual_size,
        "is_public": image.visibility is Visibility.PUBLIC,
        "visibility": str(image.visibility),
        "properties": dict(image.properties),
        "tags": list(image.tags),
        **_gone(image.deleted_at),
    }


def image_notice(type_: str, image: Image, **more: Any) -> Notice:
    """An event of an image; `more` is added to its payload."""
    return Notice(type=type_, subject=image.id, payload=image_payload(image) | more)


def data_notice(type_: str, image: Image, **more: Any) -> Notice:
    """An event of data that comes in, with the stores that an import fills."""
    properties = image.properties
    stores = {name: _listed(properties.get(name)) for name in (IMPORTING_TO, FAILED_IMPORT)}
    return image_notice(type_, image, **stores, **more)


def _listed(names: str | None) -> list[str]:
    return names.split(",") if names else []


def failed_notice(image_id: str, reason: str) -> Notice:
    """Data that was refused: a sentence, as Glance has it."""
    return Notice(
        type="image.upload",
        subject=image_id,
        payload=f"Failed to upload image data for image {image_id}: {reason}",
        priority=Priority.ERROR,
    )


def sent_notice(
    image: Image, *, sent_bytes: int, expected_bytes: int, project: str | None, user: str | None
) -> Notice:
    """Data that was downloaded, whole or not, by whom."""
    return Notice(
        type="image.send",
        subject=image.id,
        payload={
            "bytes_sent": sent_bytes,
            "image_id": image.id,
            "owner_id": image.owner,
            "receiver_tenant_id": project,
            "receiver_user_id": user,
        },
        priority=Priority.INFO if sent_bytes == expected_bytes else Priority.ERROR,
    )


def member_notice(type_: str, member: Member, gone_at: dt.datetime | None = None) -> Notice:
    """An event of a membership; its order is that of its image's events."""
    payload = {
        "image_id": member.image_id,
        "member_id": member.member_id,
        "status": str(member.status),
        "created_at": _time(member.created_at),
        "updated_at": _time(member.updated_at),
        **_gone(gone_at),
    }
    return Notice(type=type_, subject=member.image_id, payload=payload)


# --- tasks ---------------------------------------------------------------------------------------


def task_notice(type_: str, task: Task) -> Notice:
    """An event of a task. Neither input nor result: they may hold secrets. One that works on an
    image is told of in the order of the image's events."""
    payload = {
        "id": task.id,
        "type": str(task.type),
        "status": str(task.status),
        "result": None,
        "owner": task.owner,
        "message": None,
        "expires_at": _time(task.expires_at),
        "created_at": _time(task.created_at),
        "updated_at": _time(task.updated_at),
        **_gone(None),
    }
    return Notice(type=type_, subject=task.image_id or task.id, payload=payload)


# --- metadata definitions ------------------------------------------------------------------------


def namespace_notice(
    type_: str, namespace: Namespace, *, old: str | None = None, gone_at: dt.datetime | None = None
) -> Notice:
    """An event of a namespace; `old` is the name that it had."""
    payload = {
        "namespace": namespace.namespace,
        "namespace_old": old or namespace.namespace,
        "display_name": namespace.display_name,
        "protected": namespace.protected,
        "visibility": str(namespace.visibility),
        "owner": namespace.owner,
        "description": namespace.description,
        "created_at": _time(namespace.created_at),
        "updated_at": _time(namespace.updated_at),
        **_gone(gone_at),
    }
    return Notice(type=type_, subject=_subject(namespace), payload=payload)


def object_notice(
    type_: str,
    namespace: Namespace,
    one: MetadefObject,
    *,
    old: str | None = None,
    gone_at: dt.datetime | None = None,
) -> Notice:
    """An event of an object."""
    payload = {
        **_named(namespace, one.name, old),
        "properties": [
            {"name": name} | {key: definition.get(key) or None for key in DEFINED}
            for name, definition in one.properties.items()
        ],
        "required": list(one.required),
        "description": one.description,
        **_times(one),
        **_gone(gone_at),
    }
    return Notice(type=type_, subject=_subject(namespace), payload=payload)


def property_notice(
    type_: str,
    namespace: Namespace,
    one: MetadefProperty,
    *,
    old: str | None = None,
    gone_at: dt.datetime | None = None,
) -> Notice:
    """An event of a property."""
    definition: Definition = one.definition
    payload = {
        **_named(namespace, one.name, old),
        **{key: definition.get(key) for key in DEFINED},
        **_gone(gone_at),
    }
    return Notice(type=type_, subject=_subject(namespace), payload=payload)


def tag_notice(
    type_: str,
    namespace: Namespace,
    one: MetadefTag,
    *,
    old: str | None = None,
    gone_at: dt.datetime | None = None,
) -> Notice:
    """An event of a tag of a namespace."""
    payload = {**_named(namespace, one.name, old), **_times(one), **_gone(gone_at)}
    return Notice(type=type_, subject=_subject(namespace), payload=payload)


def association_notice(
    type_: str, namespace: Namespace, one: Association, gone_at: dt.datetime | None = None
) -> Notice:
    """An event of a resource type's association with a namespace."""
    payload = {
        **_named(namespace, one.name, None),
        "prefix": one.prefix,
        "properties_target": one.properties_target,
        **_times(one),
        **_gone(gone_at),
    }
    return Notice(type=type_, subject=_subject(namespace), payload=payload)


def _subject(namespace: Namespace) -> str:
    return f"metadef_namespace/{namespace.namespace}"


def _named(namespace: Namespace, name: str, old: str | None) -> Payload:
    return {"namespace": namespace.namespace, "name": name, "name_old": old or name}


def _times(one: MetadefObject | MetadefTag | Association) -> Payload:
    return {"created_at": _time(one.created_at), "updated_at": _time(one.updated_at)}
