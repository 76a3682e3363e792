"""Endpoints of the Compute API's image view (compute view §1)."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import urlencode

from starlette.responses import Response

from transom.api.call import Call, empty_response, json_response
from transom.api.compute.query import image_query
from transom.api.compute.versions import METADATA_NEWEST, NEWEST, check_version
from transom.api.compute.views import basic_view, full_view, metadata_view, versioned_base
from transom.errors import (
    Forbidden,
    InvalidBody,
    InvalidMarker,
    MarkerNotVisible,
    MetadataNotFound,
    ReservedAttribute,
    WrongContentType,
)
from transom.images.attributes import BASE
from transom.images.delete import delete
from transom.images.listing import list_images
from transom.images.show import show
from transom.images.update import Operation, update
from transom.model.image import Image

ITEMS_MAX: Final = 128
"""Metadata items of one image at most, as Nova's `metadata_items` quota."""

_KEY: Final = re.compile(r"[a-zA-Z0-9\-_:. ]{1,255}", re.ASCII)
_VALUE_LENGTH_MAX: Final = 255


async def images_list(call: Call) -> Response:
    """`GET …/images`."""
    return await _list(call, basic_view)


async def images_detail(call: Call) -> Response:
    """`GET …/images/detail`: the call of the seeds."""
    return await _list(call, full_view)


async def _list(call: Call, view: Any) -> Response:
    check_version(call, NEWEST)
    query = image_query(call.query)
    try:
        images, is_full = await list_images(call.registry, call.actor, query)
    except MarkerNotVisible as hidden:
        raise InvalidMarker(hidden.marker) from hidden
    body: dict[str, Any] = {"images": [view(call, image) for image in images]}
    if is_full and images:
        kept = {name: value for name, value in call.query if name != "marker"}
        following = urlencode(sorted((kept | {"marker": images[-1].id}).items()))
        path = "images/detail" if view is full_view else "images"
        body["images_links"] = [
            {"rel": "next", "href": f"{versioned_base(call)}/{path}?{following}"}
        ]
    return json_response(body)


async def image_show(call: Call) -> Response:
    """`GET …/images/{image_id}`."""
    check_version(call, NEWEST)
    image = await show(call.registry, call.actor, call.params["image_id"])
    return json_response({"image": full_view(call, image)})


async def image_delete(call: Call) -> Response:
    """`DELETE …/images/{image_id}`."""
    check_version(call, NEWEST)
    await delete(call.registry, call.actor, call.params["image_id"])
    return empty_response()


async def metadata_show(call: Call) -> Response:
    """`GET …/images/{image_id}/metadata`."""
    check_version(call, METADATA_NEWEST)
    image = await show(call.registry, call.actor, call.params["image_id"])
    return json_response({"metadata": metadata_view(call, image)})


async def metadata_merge(call: Call) -> Response:
    """`POST …/images/{image_id}/metadata`: adds to what is there."""
    check_version(call, METADATA_NEWEST)
    items = await _items(call, "metadata")
    image = await _write(call, items, purge=False)
    return json_response({"metadata": metadata_view(call, image)})


async def metadata_replace(call: Call) -> Response:
    """`PUT …/images/{image_id}/metadata`: nothing else stays."""
    check_version(call, METADATA_NEWEST)
    items = await _items(call, "metadata")
    await _write(call, items, purge=True)
    return json_response({"metadata": items})


async def item_show(call: Call) -> Response:
    """`GET …/images/{image_id}/metadata/{key}`."""
    check_version(call, METADATA_NEWEST)
    image = await show(call.registry, call.actor, call.params["image_id"])
    key = call.params["key"]
    metadata = metadata_view(call, image)
    if key not in metadata:
        raise MetadataNotFound(image.id, key)
    return json_response({"meta": {key: metadata[key]}})


async def item_set(call: Call) -> Response:
    """`PUT …/images/{image_id}/metadata/{key}`."""
    check_version(call, METADATA_NEWEST)
    items = await _items(call, "meta")
    key = call.params["key"]
    if list(items) != [key]:
        raise InvalidBody("Request body and URI mismatch: the body must hold just the path's key.")
    await _write(call, items, purge=False)
    return json_response({"meta": items})


async def item_remove(call: Call) -> Response:
    """`DELETE …/images/{image_id}/metadata/{key}`."""
    check_version(call, METADATA_NEWEST)
    image_id, key = call.params["image_id"], call.params["key"]

    def operations(image: Image) -> list[Operation]:
        if key not in metadata_view(call, image):
            raise MetadataNotFound(image_id, key)
        return [Operation(op="remove", path=(key,))]

    await update(call.registry, call.actor, image_id, operations)
    return empty_response()


async def _items(call: Call, name: str) -> dict[str, str]:
    content_type = call.headers.get("content-type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in ("", "application/json"):
        raise WrongContentType(content_type)
    body = await call.json_object()
    items = body.get(name)
    if set(body) != {name} or not isinstance(items, dict):
        raise InvalidBody(f"The body must be an object with the one key '{name}', an object.")
    for key, value in items.items():
        if not _KEY.fullmatch(key):
            raise InvalidBody(
                f"Key '{key:.60}' must have 1 to 255 letters, digits, blanks or any of - _ : ."
            )
        if not isinstance(value, str) or len(value) > _VALUE_LENGTH_MAX:
            raise InvalidBody(f"The value of '{key:.60}' must be a string of up to 255 characters.")
    return items


async def _write(call: Call, items: dict[str, str], *, purge: bool) -> Image:
    for key in items:
        if key in BASE:
            raise ReservedAttribute(key)

    def operations(image: Image) -> list[Operation]:
        shown = metadata_view(call, image)
        gone = [
            key for key in shown if purge and key not in items and not key.startswith("os_glance")
        ]
        if len(shown.keys() | items.keys()) - len(gone) > ITEMS_MAX:
            raise Forbidden(f"An image holds at most {ITEMS_MAX} metadata items.")
        return [
            *(Operation(op="remove", path=(key,)) for key in gone),
            *(Operation(op="add", path=(key,), value=value) for key, value in items.items()),
        ]

    return await update(call.registry, call.actor, call.params["image_id"], operations)
