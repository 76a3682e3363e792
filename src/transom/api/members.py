"""Endpoints of members (API §11)."""

from __future__ import annotations

from starlette.responses import Response

from transom.api.call import Call, empty_response, json_response
from transom.api.views import member_view
from transom.errors import InvalidBody
from transom.images.share import (
    add_member,
    answer_offer,
    list_members,
    remove_member,
    show_member,
)


async def member_add(call: Call) -> Response:
    """`POST /v2/images/{image_id}/members`."""
    body = await call.json_object()
    member_id = body.get("member")
    if not member_id:
        raise InvalidBody("'member' must be the id of the project to share the image with.")
    member = await add_member(call.registry, call.actor, call.params["image_id"], member_id)
    return json_response(member_view(member))


async def member_list(call: Call) -> Response:
    """`GET /v2/images/{image_id}/members`."""
    await call.refuse_body()
    members = await list_members(call.registry, call.actor, call.params["image_id"])
    return json_response(
        {
            "members": [member_view(member) for member in members],
            "schema": "/v2/schemas/members",
        }
    )


async def member_show(call: Call) -> Response:
    """`GET /v2/images/{image_id}/members/{member_id}`."""
    await call.refuse_body()
    params = call.params
    member = await show_member(call.registry, call.actor, params["image_id"], params["member_id"])
    return json_response(member_view(member))


async def member_update(call: Call) -> Response:
    """`PUT /v2/images/{image_id}/members/{member_id}`."""
    body = await call.json_object()
    if "status" not in body:
        raise InvalidBody("'status' must be given: pending, accepted or rejected.")
    params = call.params
    member = await answer_offer(
        call.registry, call.actor, params["image_id"], params["member_id"], body["status"]
    )
    return json_response(member_view(member))


async def member_remove(call: Call) -> Response:
    """`DELETE /v2/images/{image_id}/members/{member_id}`."""
    await call.refuse_body()
    params = call.params
    await remove_member(call.registry, call.actor, params["image_id"], params["member_id"])
    return empty_response()
