"""What this deployment offers: versions, import methods, health (API §2, §15)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from starlette.responses import PlainTextResponse, Response

from transom.api.call import Call, json_response
from transom.errors import TransomError
from transom.imports import enabled_methods
from transom.registry import Registry
from transom.settings import Settings
from transom.stores import StoreFacts

READY_SECONDS: Final = 5.0
"""How long the database and a store may take to answer `/readyz`."""


def version_ids(settings: Settings) -> list[str]:
    """The versions announced, newest first; the first one is the current."""
    minors = {0, 1, 2, 3, 4, 5, 6, 7, 9, 15, 17}
    if settings.announces_stores():
        minors |= {8, 10, 11, 12, 13}
    if settings.cache.enabled:
        minors |= {14, 16, 18}
    return [f"v2.{minor}" for minor in sorted(minors, reverse=True)]


def version_document(call: Call, status: int) -> Response:
    """The version document, with the status that the path calls for."""
    href = f"{call.base_url}/v2/"
    versions = [
        {
            "id": name,
            "status": "SUPPORTED" if position else "CURRENT",
            "links": [{"rel": "self", "href": href}],
        }
        for position, name in enumerate(version_ids(call.registry.settings))
    ]
    return json_response({"versions": versions}, status)


async def version_choices(call: Call) -> Response:
    """`GET /`: the versions, as a choice."""
    return version_document(call, 300)


async def version_list(call: Call) -> Response:
    """`GET /versions`: the versions."""
    return version_document(call, 200)


async def health(call: Call) -> Response:
    """`GET /healthcheck`: 200 while it serves, 503 while the operator drains it."""
    disable_file = call.registry.settings.server.healthcheck_disable_file
    if disable_file and Path(disable_file).exists():  # noqa: ASYNC240
        return PlainTextResponse("DISABLED BY FILE", 503)
    return PlainTextResponse("OK")


async def readiness(call: Call) -> Response:
    """`GET /readyz`: 200 when the database and the default store answer, else 503 and why; 503 too
    while the process drains."""
    registry = call.registry
    if registry.draining.is_set():
        return json_response({"process": "it is ending; send requests elsewhere"}, 503)
    catalog, stores = await asyncio.gather(
        _state(registry, "catalog", registry.catalog.check),
        _state(registry, "stores", registry.stores.check),
    )
    is_ready = catalog == stores == "ok"
    return json_response({"catalog": catalog, "stores": stores}, 200 if is_ready else 503)


async def _state(
    registry: Registry, part: str, check: Callable[[], Coroutine[Any, Any, None]]
) -> str:
    """`ok`, or what is wrong."""
    # A disk that hangs does not let go of who asks it, not even if he gives up: so all that ask
    # while one look lasts share it, and each waits as long as he likes.
    look = registry.looks.get(part)
    if look is None or look.done():
        look = registry.looks[part] = asyncio.ensure_future(check())
    await asyncio.wait([look], timeout=READY_SECONDS)
    if not look.done():
        return f"no answer within {READY_SECONDS:g} seconds"
    failure = look.exception()
    if failure is None:
        return "ok"
    if isinstance(failure, TransomError):
        return str(failure)
    raise failure


async def usage_info(call: Call) -> Response:
    """`GET /v2/info/usage`: limit and usage of the caller's project (API §15).

    Only Keystone's limits are told: without them the answer is empty.
    """
    await call.refuse_body()
    registry = call.registry
    usage = await registry.limits.usage(registry.catalog, call.actor.project_id)
    return json_response({"usage": usage})


async def import_info(call: Call) -> Response:
    """`GET /v2/info/import`: the import methods that are on (API §15)."""
    await call.refuse_body()
    return json_response(
        {
            "import-methods": {
                "description": "Import methods available.",
                "type": "array",
                "value": list(enabled_methods(call.registry.settings)),
            }
        }
    )


async def stores_info(call: Call) -> Response:
    """`GET /v2/info/stores`: the stores that data can be put into (API §15)."""
    await call.refuse_body()
    stores = call.registry.stores
    return json_response({"stores": [_store_view(stores.facts(name)) for name in stores.names]})


async def stores_info_detail(call: Call) -> Response:
    """`GET /v2/info/stores/detail`: the same with kind, weight and properties (API §15)."""
    await call.refuse_body()
    call.registry.policy.check(call.actor, "stores_info_detail", {})
    stores = call.registry.stores
    return json_response({"stores": [_store_detail(stores.facts(name)) for name in stores.names]})


def _store_view(facts: StoreFacts) -> dict[str, Any]:
    # Keys that say nothing are left out, and truth is a string: so clients of Glance expect it.
    view: dict[str, Any] = {"id": facts.name}
    if facts.description:
        view["description"] = facts.description
    if facts.is_default:
        view["default"] = "true"
    if not facts.is_writable:
        view["read-only"] = "true"
    return view


def _store_detail(facts: StoreFacts) -> dict[str, Any]:
    return _store_view(facts) | {
        "type": facts.driver,
        "weight": facts.weight,
        "properties": facts.properties,
    }
