"""Endpoints of the cache of this node (API §19)."""

from __future__ import annotations

from starlette.responses import Response

from transom.api.call import Call, empty_response, json_response
from transom.errors import InvalidHeader
from transom.images.caching import (
    clean_cache,
    clear_cache,
    drop_image,
    list_cached,
    nodes_with,
    prune_cache,
    queue_image,
)


async def cache_list(call: Call) -> Response:
    """`GET /v2/cache`."""
    await call.refuse_body()
    cached, queued = await list_cached(call.registry, call.actor)
    return json_response(
        {
            "cached_images": [
                {
                    "image_id": row.image_id,
                    "hits": row.hits,
                    "last_accessed": entry.last_accessed,
                    "last_modified": entry.last_modified,
                    "size": entry.size_bytes,
                }
                for row, entry in cached
            ],
            "queued_images": queued,
        }
    )


async def cache_queue(call: Call) -> Response:
    """`PUT /v2/cache/{image_id}`."""
    await call.refuse_body()
    await queue_image(call.registry, call.actor, call.params["image_id"])
    return empty_response(202)


async def cache_drop(call: Call) -> Response:
    """`DELETE /v2/cache/{image_id}`."""
    await call.refuse_body()
    await drop_image(call.registry, call.actor, call.params["image_id"])
    return empty_response()


async def cache_clear(call: Call) -> Response:
    """`DELETE /v2/cache`."""
    await call.refuse_body()
    target = call.headers.get("x-image-cache-clear-target", "").lower()
    if target not in ("", "cache", "queue"):
        raise InvalidHeader(
            "x-image-cache-clear-target", f"'{target:.40}'; use cache or queue, or leave it out"
        )
    await clear_cache(call.registry, call.actor, cached=target != "queue", queued=target != "cache")
    return empty_response()


async def cache_clean(call: Call) -> Response:
    """`POST /v2/cache/clean`."""
    await call.refuse_body()
    await clean_cache(call.registry, call.actor)
    return empty_response(200)


async def cache_prune(call: Call) -> Response:
    """`POST /v2/cache/prune`."""
    await call.refuse_body()
    files, size_bytes = await prune_cache(call.registry, call.actor)
    return json_response({"total_files_pruned": files, "total_bytes_pruned": size_bytes})


async def cache_nodes(call: Call) -> Response:
    """`GET /v2/cache/nodes/{image_id}`."""
    await call.refuse_body()
    return json_response(await nodes_with(call.registry, call.actor, call.params["image_id"]))
