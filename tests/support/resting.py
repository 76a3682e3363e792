"""What is there when all clients have gone and everything has come to rest."""

from __future__ import annotations

import asyncio
import time

from tests.support.copies import settings_of
from tests.support.crowd import Crowd
from tests.support.history import End, History, violations
from tests.support.replicas import Deployment
from tests.support.server import Client, told
from transom.app import open_registry
from transom.registry import Registry

REST_SECONDS = 100.0
"""How soon after the last kill everything has to be at rest: leases and sweeps are seconds here, and
an image that nobody works on is put back after a minute."""


def at_rest(cloud: Deployment, client: Client, crowd: Crowd) -> End:
    """What there is when everything has come to rest; or when the time for that is over. Every
    image is looked at and read once more, as the last calls of the history."""
    registry = open_registry(settings_of(cloud.serving[0]))
    loop = asyncio.new_event_loop()
    try:
        deadline = time.monotonic() + REST_SECONDS
        while True:
            end = loop.run_until_complete(look(registry, client))
            is_settled = not violations(History([], end)) and not any(
                status in ("saving", "importing") for status in end.statuses.values()
            )
            if is_settled or time.monotonic() > deadline:
                break
            time.sleep(1)
        with crowd.client("auditor") as auditor:
            auditor.list()
            for image_id in list(end.statuses):
                image = crowd.images.get(image_id)
                if image is not None:
                    auditor.show(image)
                    auditor.members(image)
                    if end.statuses[image_id] == "active":
                        auditor.download(image)
        return end
    finally:
        loop.run_until_complete(registry.stores.close())
        loop.run_until_complete(registry.identity.close())
        registry.catalog.close()
        loop.close()


async def look(registry: Registry, client: Client) -> End:
    """What the catalog, the stores and the service say now."""
    catalog = registry.catalog
    statuses: dict[str, str] = {}
    path = "/v2/images?limit=500"
    while path:
        answer = client.get(path)
        assert answer.status_code == 200, told(answer)
        statuses |= {each["id"]: each["status"] for each in answer.json()["images"]}
        path = answer.json().get("next", "")
    tasks: dict[str, tuple[tuple[str, str], ...]] = {}
    for image_id in statuses:
        answer = client.get(f"/v2/images/{image_id}/tasks")
        assert answer.status_code == 200, told(answer)
        tasks[image_id] = tuple((each["id"], each["status"]) for each in answer.json()["tasks"])
    locations = {
        (held.location.store, held.location.key): held.size_bytes or 0
        for held in await catalog.inventory.held(limit=100_000)
    }
    for image_id, status in statuses.items():
        staged = await catalog.tasks.staged(image_id) if status == "uploading" else None
        if staged is not None:
            locations[staged.store, staged.key] = staged.size_bytes
    objects: dict[tuple[str, str], int] = {}
    for store in registry.stores.every:
        async for entry in store.list():
            objects[store.name, entry.key] = entry.size_bytes
        async for entry in store.list_partial():
            objects[store.name, f"{entry.key} (partial)"] = entry.size_bytes
    usage = await catalog.images.usage(client.project_id)
    return End(
        statuses=statuses,
        tasks=tasks,
        unfinished=tuple(task.id for task in await catalog.tasks.unfinished()),
        locations=locations,
        objects=objects,
        used_bytes=usage.bytes_total + usage.bytes_staged,
        reserved_bytes=usage.bytes_reserved,
        counted_images=usage.images,
        held_bytes=sum(objects.values()),
    )


def check_store(cloud: Deployment, client: Client) -> None:
    """Soon nothing is in the stores that no image owns, and nothing is missing."""
    registry = open_registry(settings_of(cloud.serving[0]))

    async def settled() -> list[str]:
        try:
            for _ in range(60):
                wrong = violations(History([], await look(registry, client)))
                if not wrong:
                    return []
                await asyncio.sleep(0.5)
            return wrong
        finally:
            await registry.stores.close()
            await registry.identity.close()
            registry.catalog.close()

    assert asyncio.run(settled()) == []
