"""The catalog's answer is lost at either end of an upload: with its effect, or without.

Nothing is taken away that became an image's, and nothing stays that did not, also when the catalog
answers again only later.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import configured
from tests.support import postgres
from tests.support.catalogs import DIALECTS
from tests.support.copies import settings_of
from transom.app import open_registry
from transom.catalog import Catalog
from transom.errors import CatalogUnavailable, ImageDeletedMeanwhile, StatusConflict
from transom.images import upload as uploading
from transom.images.create import create
from transom.images.stage import stage
from transom.images.sweep import join, sweep
from transom.images.upload import upload
from transom.model.actor import Actor
from transom.model.image import Image, Status
from transom.registry import Registry

pytestmark = pytest.mark.faults
ME = Actor(user_id="u", project_id="p", roles=frozenset({"member"}))
DATA = b"data" * 1000

Verb = Callable[[Registry, Actor, str, AsyncIterator[bytes]], Awaitable[Image]]
VERBS: dict[str, tuple[Verb, Status, str, str]] = {
    "upload": (upload, Status.ACTIVE, "images", "finish_upload"),
    "stage": (stage, Status.UPLOADING, "tasks", "finish_staging"),
}


@pytest.fixture(params=DIALECTS)
async def registry(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Registry]:
    """The parts of a process, on each of the databases."""
    config = {} if request.param == "sqlite" else {"url": postgres.cluster().database()}
    server = configured(tmp_path / "here", {"database": config} if config else None)
    server.data.mkdir(parents=True)
    server._write_config()
    settings = settings_of(server)
    catalog = Catalog.open(settings)
    catalog.upgrade()
    catalog.close()
    opened = open_registry(settings)
    await join(opened)
    yield opened
    await opened.stores.close()
    await opened.identity.close()
    opened.catalog.close()


async def body() -> AsyncIterator[bytes]:
    """What is sent."""
    yield DATA


async def ready(registry: Registry) -> str:
    """A queued image."""
    attributes = {"disk_format": "raw", "container_format": "bare"}
    return (await create(registry, ME, attributes)).id


class Away:
    """One method of the catalog loses its answers, or its effects, and then so do all for a while."""

    def __init__(
        self, registry: Registry, part: str, name: str, patch: pytest.MonkeyPatch, *, counts: bool
    ) -> None:
        self.is_away = False
        catalog = registry.catalog
        whole = getattr(catalog, part)
        real = getattr(whole, name)
        write, read = catalog.engine.write, catalog.engine.read

        async def lost(*arguments: Any, **options: Any) -> Any:
            if counts:
                await real(*arguments, **options)
            self.is_away = True
            raise CatalogUnavailable

        def unless_away(ask: Any) -> Any:
            async def asked(work: Any) -> Any:
                if self.is_away:
                    raise CatalogUnavailable
                return await ask(work)

            return asked

        patch.setattr(whole, name, lost)
        patch.setattr(catalog.engine, "write", unless_away(write))
        patch.setattr(catalog.engine, "read", unless_away(read))


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """What waits for the catalog asks often."""
    monkeypatch.setattr(uploading, "PAUSE_SECONDS_MAX", 0.05)
    monkeypatch.setattr(uploading, "PAUSE_SECONDS", 0.02)
    return monkeypatch


async def settled() -> None:
    """Wait until nothing is undone in the background any more."""
    for _ in range(400):
        if not uploading._undoing:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it goes on")


async def objects(registry: Registry) -> int:
    """How many objects lie in the stores, complete or not."""
    found = 0
    for store in registry.stores.every:
        found += len([entry async for entry in store.list()])
        found += len([entry async for entry in store.list_partial()])
    return found


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("counts", [True, False], ids=["with effect", "without"])
async def test_the_answer_to_the_end_of_an_upload_is_lost(
    registry: Registry, verb: str, counts: bool, hurried: pytest.MonkeyPatch
) -> None:
    send, status, part, name = VERBS[verb]
    image_id = await ready(registry)
    away = Away(registry, part, name, hurried, counts=counts)
    with pytest.raises(CatalogUnavailable):
        await send(registry, ME, image_id, body())
    await asyncio.sleep(0.1)
    away.is_away = False
    await settled()
    image = await registry.catalog.images.get(image_id, seen_by=ME)
    assert image.status is (status if counts else Status.QUEUED)
    assert await objects(registry) == (1 if counts else 0)
    if verb == "upload" and counts:
        (location,) = image.locations
        reader = await registry.stores.get(location.store).read(location.key)
        assert b"".join([piece async for piece in reader]) == DATA
    assert await registry.catalog.intakes.get(image_id) is None


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("counts", [True, False], ids=["with effect", "without"])
async def test_the_answer_to_the_beginning_of_an_upload_is_lost(
    registry: Registry, verb: str, counts: bool, hurried: pytest.MonkeyPatch
) -> None:
    image_id = await ready(registry)
    away = Away(registry, "images", "begin_intake", hurried, counts=counts)
    with pytest.raises(CatalogUnavailable):
        await VERBS[verb][0](registry, ME, image_id, body())
    away.is_away = False
    await settled()
    assert (await registry.catalog.images.get(image_id, seen_by=ME)).status is Status.QUEUED
    assert await registry.catalog.intakes.get(image_id) is None
    assert await objects(registry) == 0
    hurried.undo()
    assert (await upload(registry, ME, image_id, body())).status is Status.ACTIVE


@pytest.mark.parametrize("verb", VERBS)
async def test_a_sweep_takes_an_upload_from_a_process_that_only_seemed_dead(
    registry: Registry, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep of another replica comes between the last byte and the end of the upload."""
    send, _, part, name = VERBS[verb]
    image_id = await ready(registry)
    whole = getattr(registry.catalog, part)
    real = getattr(whole, name)
    # The other replica has the same catalog and the same stores, and another name.
    other = open_registry(registry.settings)

    async def swept_before(*arguments: Any, **options: Any) -> Any:
        await registry.catalog.processes.leave(registry.process_id)
        delete = other.stores.every[0].__class__.delete
        ends: list[Any] = []

        async def slow(store: Any, key: str) -> None:
            # It wakes up when the data is gone and the row is not.
            await delete(store, key)
            ends.append(await asyncio.gather(real(*arguments, **options), return_exceptions=True))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(other.stores.every[0].__class__, "delete", slow)
            await sweep(other)
        assert isinstance(ends[0][0], StatusConflict), ends
        raise ends[0][0]

    monkeypatch.setattr(whole, name, swept_before)
    with pytest.raises((StatusConflict, ImageDeletedMeanwhile)):
        await send(registry, ME, image_id, body())
    image = await registry.catalog.images.get(image_id, seen_by=ME)
    assert (image.status, image.locations) == (Status.QUEUED, ())
    assert await objects(registry) == 0
    await other.stores.close()
    await other.identity.close()
    other.catalog.close()
