"""Endpoints of locations of their own (API §16); the older way is a patch of the image."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from transom.api.call import Call, empty_response, json_response
from transom.api.views import location_view
from transom.images.locations import list_locations
from transom.imports.location import parsed_location, start_location


async def location_add(call: Call) -> Response:
    """`POST /v2/images/{image_id}/locations` (API §16.1)."""
    request = parsed_location(await call.json_object())
    await start_location(
        call.registry, call.actor, call.params["image_id"], request, request_id=call.request_id
    )
    return empty_response(202)


async def location_list(call: Call) -> Response:
    """`GET /v2/images/{image_id}/locations` (API §16.2)."""
    await call.refuse_body()
    found = await list_locations(call.registry, call.actor, call.params["image_id"])
    views: list[dict[str, Any]] = [location_view(call.registry, each) for each in found]
    return json_response(views)
