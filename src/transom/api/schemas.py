"""The JSON schemas that clients fetch and validate against (API §21)."""

from __future__ import annotations

import importlib.resources
from functools import cache
from typing import Any

import msgspec
from starlette.responses import Response

from transom.api.call import Call, json_response
from transom.errors import SchemaNotFound
from transom.settings import Settings

METADEF_NAMES = (
    "namespace", "namespaces", "object", "objects", "property", "properties", "tag", "tags",
    "resource_type", "resource_types",
)  # fmt: skip
NAMES = (
    "image", "images", "member", "members", "task", "tasks",
    *(f"metadefs-{name}" for name in METADEF_NAMES),
)  # fmt: skip
"""Every schema, by the name of its file beside this module in `schema_files`."""


async def schema_show(call: Call) -> Response:
    """`GET /v2/schemas/{name}`."""
    await call.refuse_body()
    return _answer(call, call.params["name"])


async def metadef_schema_show(call: Call) -> Response:
    """`GET /v2/schemas/metadefs/{name}`."""
    await call.refuse_body()
    return _answer(call, f"metadefs-{call.params['name']}")


def _answer(call: Call, name: str) -> Response:
    if name not in NAMES:
        raise SchemaNotFound(name)
    return json_response(schema(name, call.registry.settings))


def schema(name: str, settings: Settings) -> dict[str, Any]:
    """A schema with the formats of this deployment filled in."""
    found = _read(name)
    if name == "image":
        _fill_formats(found, settings)
    elif name == "images":
        _fill_formats(found["properties"]["images"]["items"], settings)
    return found


def _fill_formats(image: dict[str, Any], settings: Settings) -> None:
    properties = image["properties"]
    properties["disk_format"]["enum"] = [None, *settings.images.disk_formats]
    properties["container_format"]["enum"] = [None, *settings.images.container_formats]


def _read(name: str) -> dict[str, Any]:
    return msgspec.json.decode(_text(name), type=dict[str, Any])


@cache
def _text(name: str) -> bytes:
    folder = importlib.resources.files("transom.api").joinpath("schema_files")
    return folder.joinpath(f"{name}.json").read_bytes()
