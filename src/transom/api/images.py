"""Endpoints of images: create, list, show, update, delete, and the two actions."""

from __future__ import annotations

from starlette.responses import Response

from transom.api import json_patch, paging
from transom.api.call import Call, empty_response, json_response
from transom.api.views import image_json, image_view, images_json
from transom.images.create import create
from transom.images.deactivate import deactivate, reactivate
from transom.images.delete import delete
from transom.images.listing import list_images
from transom.images.show import show
from transom.images.update import update
from transom.images.withdraw import withdraw
from transom.imports import enabled_methods


async def image_create(call: Call) -> Response:
    """`POST /v2/images` (API §4)."""
    image = await create(call.registry, call.actor, await call.json_object())
    headers = {"location": f"{call.base_url}/v2/images/{image.id}"}
    methods = enabled_methods(call.registry.settings)
    if methods:
        headers["openstack-image-import-methods"] = ",".join(methods)
    if call.registry.announces_stores:
        headers["openstack-image-store-ids"] = ",".join(call.registry.stores.names)
    return json_response(image_view(call.registry, call.actor, image), 201, headers)


async def image_list(call: Call) -> Response:
    """`GET /v2/images` (API §5)."""
    await call.refuse_body()
    query = paging.image_query(call.query, call.registry.settings.limits)
    found, is_full = await list_images(call.registry, call.actor, query)
    marker = found[-1].id if found and is_full else None
    return json_response(
        {"images": images_json(call.registry, call.actor, found)}
        | paging.links("/v2/images", call.query, marker)
        | {"schema": "/v2/schemas/images"}
    )


async def image_show(call: Call) -> Response:
    """`GET /v2/images/{image_id}` (API §6)."""
    await call.refuse_body()
    image = await show(call.registry, call.actor, call.params["image_id"])
    return json_response(image_json(call.registry, call.actor, image))


async def image_update(call: Call) -> Response:
    """`PATCH /v2/images/{image_id}` (API §7)."""
    content_type = call.headers.get("content-type")
    json_patch.version_of(content_type)
    operations = json_patch.operations(content_type, await call.json())
    image = await update(call.registry, call.actor, call.params["image_id"], operations)
    return json_response(image_view(call.registry, call.actor, image))


async def image_delete(call: Call) -> Response:
    """`DELETE /v2/images/{image_id}` (API §8)."""
    await call.refuse_body()
    await delete(call.registry, call.actor, call.params["image_id"])
    return empty_response()


async def image_deactivate(call: Call) -> Response:
    """`POST /v2/images/{image_id}/actions/deactivate` (API §13)."""
    await call.refuse_body()
    await deactivate(call.registry, call.actor, call.params["image_id"])
    return empty_response()


async def image_reactivate(call: Call) -> Response:
    """`POST /v2/images/{image_id}/actions/reactivate` (API §13)."""
    await call.refuse_body()
    await reactivate(call.registry, call.actor, call.params["image_id"])
    return empty_response()


async def image_withdraw(call: Call) -> Response:
    """`DELETE /v2/stores/{store_id}/{image_id}` (API §14)."""
    await call.refuse_body()
    await withdraw(call.registry, call.actor, call.params["image_id"], call.params["store_id"])
    return empty_response()
