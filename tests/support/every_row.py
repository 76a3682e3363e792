"""Rows of every table, as a catalog has them that grew up: what migrations and copies must not lose.

They are written out, because they say what older schemas held, whatever the program writes today.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from transom.catalog.schema import metadata

Row = dict[str, Any]

NOON = dt.datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=dt.UTC)
LATER = NOON + dt.timedelta(days=1, microseconds=1)
TEXT = "Ünïcode 🚀 \"quoted\" 'single' \\ back\nline\ttab"
PROJECT = "1f0c9d2e5b7a4c3f8e6d0a1b2c3d4e5f"


def _image(number: int, **values: Any) -> Row:
    return {
        "id": f"00000000-0000-4000-8000-{number:012d}",
        "owner": PROJECT,
        "visibility": "private",
        "status": "queued",
        "created_at": NOON + dt.timedelta(seconds=number),
        "updated_at": LATER,
        "deleted_at": None,
        "os_hidden": False,
        "protected": False,
        "name": f"image {number}",
        "disk_format": "raw",
        "container_format": "bare",
        "size": None,
        "virtual_size": None,
        "min_disk": 0,
        "min_ram": 0,
        "checksum": None,
        "os_hash_algo": None,
        "os_hash_value": None,
        "copies": 0,
        "copying": False,
        "revision": 0,
        "tags": "[]",
        "properties": "{}",
        "locations": "[]",
        **values,
    }


def _location(number: int, image: int, **values: Any) -> Row:
    return {
        "number": number,
        "image_id": f"00000000-0000-4000-8000-{image:012d}",
        "position": 0,
        "store": "main",
        "key": f"key-{number}",
        "url": f"file:///images/key-{number}",
        "metadata": "{}",
        "status": "active",
        "doomed_at": None,
        **values,
    }


_ACTIVE = _image(
    1,
    status="active",
    visibility="shared",
    name=TEXT,
    size=2**63 - 1,
    virtual_size=0,
    checksum="c" * 32,
    os_hash_algo="sha512",
    os_hash_value="h" * 128,
    protected=True,
    min_disk=2147483647,
    copies=1,
    revision=7,
    tags='["a","ß"]',
    properties='{"os_distro":"debian","empty":"","nothing":null}',
    locations='[{"store":"main","key":"key-1","url":"file:///images/key-1","metadata":{},'
    '"status":"active"}]',
)
_COMMON = {"shelf": 0, "visibility": "shared", "created_at": _ACTIVE["created_at"]}

ROWS: dict[str, dict[str, list[Row]]] = {
    "0001": {
        "images": [
            _ACTIVE,
            _image(2, owner=None, visibility="public", os_hidden=True, disk_format=None),
            _image(3, status="saving"),
            _image(4, status="importing", properties='{"os_glance_import_task":"task-1"}'),
            _image(5, status="deactivated", visibility="community", name=None),
            _image(6, status="killed"),
            _image(7, status="pending_delete", deleted_at=LATER),
            _image(8, status="deleted", deleted_at=LATER, os_hidden=True),
            _image(9, status="uploading", name=""),
            *(_image(number) for number in range(10, 40)),
        ],
        "image_properties": [
            {"image_id": _ACTIVE["id"], "name": name, "digest": bytes([byte]) * 16, **_COMMON}
            for byte, name in enumerate(("os_distro", "empty", "nothing"))
        ],
        "image_tags": [{"image_id": _ACTIVE["id"], "tag": tag, **_COMMON} for tag in ("a", "ß")],
        "image_members": [
            {
                "image_id": _ACTIVE["id"],
                "member_id": f"project-{status}",
                "status": status,
                "created_at": NOON,
                "updated_at": LATER,
                "shelf": 0,
                "image_created_at": _ACTIVE["created_at"],
            }
            for status in ("pending", "accepted", "rejected")
        ],
        "image_locations": [
            _location(1, 1),
            _location(2, 7, status="pending_delete", doomed_at=LATER, metadata='{"n":[1,null]}'),
            _location(41, 8, status="removing", doomed_at=NOON, position=3),
        ],
        "processes": [
            {
                "process_id": "dead",
                "host": "node-1",
                "pid": 2**40,
                "started": "17",
                "joined_at": NOON,
                "beat_at": NOON,
            }
        ],
        "intakes": [
            {
                "image_id": f"00000000-0000-4000-8000-{image:012d}",
                "kind": kind,
                "store": "main",
                "key": f"key-{kind}",
                "token": TEXT,
                "process_id": "dead",
                "reserved_bytes": 2**50,
                "started_at": NOON,
            }
            for image, kind in ((3, "saving"), (9, "uploading"))
        ],
    },
    "0002": {
        "identity_state": [{"id": 1, "revision": 99, "founded_at": NOON}],
        "identity_keys": [
            {"id": number, "secret": bytes(range(32)), "created_at": NOON} for number in (3, 9)
        ],
        "identity_users": [
            {
                "id": "user-1",
                "name": TEXT,
                "is_enabled": True,
                "password_hash": "$argon2id$v=19$…",
                "epoch": 4,
                "default_project_id": "project-1",
                "description": "",
                "email": "a@example.org",
                "created_at": NOON,
            },
            {
                "id": "user-2",
                "name": "off",
                "is_enabled": False,
                "password_hash": None,
                "epoch": 0,
                "default_project_id": None,
                "description": TEXT,
                "email": "",
                "created_at": LATER,
            },
        ],
        "identity_projects": [
            {
                "id": "project-1",
                "name": "lab",
                "is_enabled": True,
                "epoch": 0,
                "description": "",
                "created_at": NOON,
            }
        ],
        "identity_roles": [{"id": "role-1", "name": "member"}, {"id": "role-2", "name": "reader"}],
        "identity_grants": [
            {"id": 5, "user_id": "user-1", "project_id": "project-1", "role_id": "role-1"}
        ],
        "identity_credentials": [
            {
                "id": "credential-1",
                "user_id": "user-1",
                "project_id": "project-1",
                "name": "ci",
                "description": None,
                "secret_hash": "$argon2id$…",
                "expires_at": LATER,
                "is_unrestricted": False,
                "created_at": NOON,
            }
        ],
        "identity_credential_roles": [{"credential_id": "credential-1", "role_id": "role-1"}],
        "identity_revocations": [
            {"audit_id": bytes([0, 255, 10, 13]) * 4, "expires_at": LATER},
        ],
    },
    "0003": {
        "metadef_namespaces": [
            {
                "id": number,
                "namespace": f"OS::Number::{number}",
                "display_name": None if number == 2 else TEXT,
                "description": TEXT,
                "visibility": visibility,
                "protected": number == 2,
                "owner": PROJECT,
                "created_at": NOON,
                "updated_at": LATER,
            }
            for number, visibility in ((2, "public"), (7, "private"))
        ],
        "metadef_objects": [
            {
                "id": 1,
                "namespace_id": 2,
                "name": "object",
                "description": None,
                "required": '["a"]',
                "properties": "{}",
                "created_at": NOON,
                "updated_at": LATER,
            }
        ],
        "metadef_properties": [
            {
                "id": 11,
                "namespace_id": 2,
                "name": "property",
                "definition": '{"type":"string","title":"ü"}',
                "created_at": NOON,
                "updated_at": LATER,
            }
        ],
        "metadef_tags": [
            {"id": 4, "namespace_id": 7, "name": TEXT, "created_at": NOON, "updated_at": LATER}
        ],
        "metadef_resource_types": [
            {"name": "OS::Nova::Flavor", "created_at": NOON, "updated_at": LATER}
        ],
        "metadef_associations": [
            {
                "id": 8,
                "namespace_id": 2,
                "name": "OS::Nova::Flavor",
                "prefix": "hw_",
                "properties_target": None,
                "created_at": NOON,
                "updated_at": LATER,
            }
        ],
    },
    "0004": {
        "tasks": [
            {
                "id": f"task-{number}",
                "type": "api_image_import",
                "status": status,
                "owner": PROJECT,
                "user_id": None,
                "request_id": "req-1",
                "image_id": f"00000000-0000-4000-8000-{4:012d}",
                "input": '{"import_req":{"method":{"name":"web-download"}}}',
                "result": None,
                "message": TEXT,
                "created_at": NOON,
                "updated_at": LATER,
                "started_at": None,
                "expires_at": LATER if status in ("success", "failure") else None,
                "process_id": "dead",
                "attempt": number,
                "is_cancelled": number == 3,
                "phase": "fetch",
                "done_bytes": 2**40,
                "total_bytes": None,
                "rate_bytes": 0,
                "notes": "{}",
            }
            for number, status in enumerate(("pending", "processing", "success", "failure"), 1)
        ],
        "task_objects": [
            {
                "store": "main",
                "key": f"object-{placed}",
                "task_id": "task-2",
                "token": "",
                "is_placed": placed,
                "created_at": NOON,
            }
            for placed in (False, True)
        ],
        "staged": [
            {
                "image_id": f"00000000-0000-4000-8000-{9:012d}",
                "store": "staging",
                "key": "staged",
                "size_bytes": 2**40,
                "staged_at": NOON,
            }
        ],
    },
    "0005": {
        "cached_images": [
            {
                "node": "node-1",
                "image_id": _ACTIVE["id"],
                "state": state,
                "size_bytes": 5,
                "hits": 0,
                "since": NOON,
            }
            for state in ("cached",)
        ],
    },
    "0006": {
        "events": [
            {
                "number": number,
                "target": "hook",
                "event_id": f"event-{number}",
                "type": "image.create",
                "subject": _ACTIVE["id"],
                "priority": "INFO",
                "payload": '{"ü":null}',
                "request_id": "",
                "created_at": NOON,
                "state": state,
                "attempts": 3,
                "due_at": LATER,
                "reason": TEXT,
            }
            for number, state in ((12, "waiting"), (13, "dead"))
        ],
        "event_targets": [{"target": "hook", "held_by": "dead", "held_until": NOON}],
    },
    "0007": {},
}
"""Rows by the revision that brought their tables; a revision without tables of its own has none."""


def fill(connection: Connection, up_to: str) -> dict[str, list[Row]]:
    """Write the rows that a database of this revision can hold; gives them by table."""
    written: dict[str, list[Row]] = {}
    for revision, found in ROWS.items():
        if revision > up_to:
            continue
        for name, rows in found.items():
            connection.execute(sa.insert(metadata.tables[name]), rows)
            written[name] = rows
    return written


def read(connection: Connection, table: str) -> list[Row]:
    """All rows of a table, in some order that is always the same."""
    found = connection.execute(sa.select(metadata.tables[table])).mappings()
    return sorted((dict(row) for row in found), key=repr)
