"""The two patch languages of the Image API (API §7.1, §7.2)."""

from __future__ import annotations

import re
from typing import Any, Literal, cast

from transom.errors import InvalidBody, WrongPatchType
from transom.images.update import Operation

_OPS = ("add", "replace", "remove")
_BAD_ESCAPE = re.compile(r"~(?![01])")


def operations(content_type: str | None, body: Any) -> list[Operation]:
    """The operations of a patch. Raises InvalidBody."""
    fresh_only = version_of(content_type) == "2.0"
    if not isinstance(body, list):
        raise InvalidBody("The body of a patch must be an array of operations.")
    read = _read_draft_4 if fresh_only else _read_draft_10
    return [_operation(*read(item), fresh_only=fresh_only) for item in body]


def version_of(content_type: str | None) -> Literal["2.0", "2.1"]:
    """Which of the two patch media types a Content-Type names. Raises WrongPatchType."""
    media_type = (content_type or "").partition(";")[0].strip().lower()
    match media_type:
        case "application/openstack-images-v2.1-json-patch":
            return "2.1"
        case "application/openstack-images-v2.0-json-patch":
            return "2.0"
        case _:
            raise WrongPatchType(content_type or "(none)")


def _read_draft_10(item: Any) -> tuple[str, Any, dict[str, Any]]:
    if not isinstance(item, dict):
        raise InvalidBody("Each operation of a patch must be an object.")
    if item.get("op") not in _OPS:
        raise InvalidBody(f"Operation {item.get('op')!r:.80} is not one of: {', '.join(_OPS)}.")
    if "path" not in item:
        raise InvalidBody("Each operation of a patch needs a 'path'.")
    return item["op"], item["path"], item


def _read_draft_4(item: Any) -> tuple[str, Any, dict[str, Any]]:
    if not isinstance(item, dict):
        raise InvalidBody("Each operation of a patch must be an object.")
    named = [op for op in _OPS if op in item]
    if len(named) != 1:
        raise InvalidBody(f"Each operation must hold exactly one of: {', '.join(_OPS)}.")
    return named[0], item[named[0]], item


def _operation(op: str, pointer: Any, item: dict[str, Any], *, fresh_only: bool) -> Operation:
    if op != "remove" and "value" not in item:
        raise InvalidBody(f"Operation '{op}' needs a 'value'.")
    path = _path(op, pointer)
    return Operation(
        op=cast("Literal['add', 'replace', 'remove']", op),
        path=path,
        value=item.get("value"),
        fresh_only=fresh_only,
    )


def _path(op: str, pointer: Any) -> tuple[str, ...]:
    if not isinstance(pointer, str):
        raise InvalidBody("The path of an operation must be a string.")
    if not pointer.startswith("/"):
        raise InvalidBody(f"Path '{pointer:.80}' does not start with '/'.")
    if len(pointer) > 1 and pointer.endswith("/"):
        raise InvalidBody(f"Path '{pointer:.80}' ends with '/'.")
    if "//" in pointer:
        raise InvalidBody(f"Path '{pointer:.80}' holds two adjacent '/'.")
    if _BAD_ESCAPE.search(pointer):
        raise InvalidBody(f"Path '{pointer:.80}' holds '~' that is not followed by 0 or 1.")
    path = tuple(
        segment.replace("~1", "/").replace("~0", "~") for segment in pointer[1:].split("/")
    )
    if path[0] == "locations":
        if len(path) > 2 or (len(path) == 2 and op == "replace"):
            raise InvalidBody(
                f"Path '{pointer:.80}' is not one of /locations, /locations/<position>."
            )
        if len(path) == 1 and op == "add":
            raise InvalidBody("Adding a location needs a position: /locations/<n> or /locations/-.")
    elif len(path) > 1:
        raise InvalidBody(f"Path '{pointer:.80}' has more than one segment.")
    return path
