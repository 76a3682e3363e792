"""Endpoints of tags (API §12)."""

from __future__ import annotations

from starlette.responses import Response

from transom.api.call import Call, empty_response
from transom.images.tags import add_tag, remove_tag


async def tag_add(call: Call) -> Response:
    """`PUT /v2/images/{image_id}/tags/{tag}`."""
    await call.refuse_body()
    await add_tag(call.registry, call.actor, call.params["image_id"], call.params["tag"])
    return empty_response()


async def tag_remove(call: Call) -> Response:
    """`DELETE /v2/images/{image_id}/tags/{tag}`."""
    await call.refuse_body()
    await remove_tag(call.registry, call.actor, call.params["image_id"], call.params["tag"])
    return empty_response()
