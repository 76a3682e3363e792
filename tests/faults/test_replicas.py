"""Replicas: any request to any of them, and any of them may be killed at any moment.

Real processes on one PostgreSQL and one store, behind a real nginx. Clients write down what they are
told, and a checker decides whether that can be true (tests/support/history.py).

`TRANSOM_TEST_KILLS_SECONDS` says for how long processes are killed (40 unless given; 600 for the long
run), `TRANSOM_TEST_KILLS_SEED` which random sequence everything follows.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import postgres
from tests.support.copies import settings_of
from tests.support.crowd import Crowd, Source, by_verb
from tests.support.history import DONE, UNKNOWN, End, History, violations
from tests.support.replicas import Deployment, shared_folders
from tests.support.server import Client, told
from transom.app import open_registry
from transom.registry import Registry

pytestmark = pytest.mark.faults

KILLS_SECONDS = float(os.environ.get("TRANSOM_TEST_KILLS_SECONDS", "40"))
SEED = int(os.environ.get("TRANSOM_TEST_KILLS_SEED", "20260211"))
REST_SECONDS = 100.0
"""How soon after the last kill everything has to be at rest: leases and sweeps are seconds here, and
an image that nobody works on is put back after a minute."""
IMPORTS = {
    "imports": {
        "methods": ["glance-direct", "web-download", "copy-image"],
        "allowed_hosts": ["127.0.0.1"],
        "allowed_ports": [],
        "retry_seconds": 0.05,
        "retries_max": 4,
        "connect_timeout_seconds": 5,
    }
}


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Deployment]:
    """Three replicas that serve and two that work."""
    shared = shared_folders(
        tmp_path / "stores", database={"url": postgres.cluster().database()}, **IMPORTS
    )
    with Deployment(tmp_path, shared) as running:
        yield running


def test_no_acknowledged_image_is_lost_or_torn_whoever_is_killed(
    cloud: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    choose = random.Random(SEED)
    # Copies to further stores are the administrator's, by the default policy.
    client = cloud.log_in("transom")
    kills = 0
    with Source() as source:
        crowd = Crowd(
            cloud.url, str(client.token), source, seed=SEED, clients=6, second_store="second"
        )
        crowd.start()
        began = time.monotonic()
        try:
            while time.monotonic() - began < KILLS_SECONDS:
                time.sleep(choose.uniform(0.1, 1.2))
                victim = choose.choice(cloud.every)
                victim.kill()
                kills += 1
                time.sleep(choose.uniform(0.0, 1.0))
                victim.launch()
                if choose.random() < 0.2:
                    victim.wait()
            for replica in cloud.every:
                replica.wait()
        finally:
            crowd.stop()
        end = at_rest(cloud, client, crowd)
    history = History(crowd.calls, end)
    found = violations(history)
    with capsys.disabled():
        print(
            f"\nseed {SEED}: {len(history.calls)} calls in {time.monotonic() - began:.0f} s, "
            f"{kills} kills, {history.count(UNKNOWN)} unknown outcomes, "
            f"{len(end.statuses)} images left, {len(found)} violations\n{by_verb(history.calls)}"
        )
    assert not found, "\n".join([*(each[:600] for each in found[:12]), cloud.log_ends(1500)])
    assert kills >= KILLS_SECONDS / 6
    assert history.count(DONE) > 5 * KILLS_SECONDS, "too little was done to tell anything"


# --- the end -----------------------------------------------------------------------------------------


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
