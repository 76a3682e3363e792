"""What several stores are good for when one of them fails: downloads and removals go on or go back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.catalogs import an_image
from transom.app import open_registry
from transom.catalog import Catalog
from transom.errors import (
    DataNotFound,
    ImageInUse,
    ImageNotFound,
    LastLocation,
    StoreFailed,
    StoreRefused,
    StoreUnavailable,
    TransomError,
)
from transom.images.clock import now
from transom.images.download import open_data
from transom.images.withdraw import withdraw
from transom.model.actor import Actor
from transom.model.image import Image, Location, Status
from transom.registry import Registry
from transom.settings import load
from transom.stores.store import KeyMissing

ADMIN = Actor(project_id="mine", roles=frozenset({"admin", "member", "reader"}), is_admin=True)
DATA = b"muntin" * 300_000
CONFIG = """
[stores]
default = "light"
[stores.light]
driver = "memory"
[stores.heavy]
driver = "memory"
weight = 9
"""


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    """Two stores in memory and a catalog."""
    (tmp_path / "transom.toml").write_text(CONFIG)
    settings = load(tmp_path / "transom.toml", tmp_path / "data")
    settings.data_path.mkdir()
    catalog = Catalog.open(settings)
    catalog.upgrade()
    catalog.close()
    opened = open_registry(settings)
    yield opened
    await opened.stores.close()
    await opened.identity.close()
    opened.catalog.close()


async def in_both(registry: Registry) -> Image:
    """An active image with its data in both stores."""
    fresh = an_image()
    places = []
    for name in ("light", "heavy"):
        async with registry.stores.get(name).writer(f"{fresh.id}.{name}") as writer:
            await writer.write(DATA)
            stored = await writer.commit()
        places.append(Location(store=name, key=stored.key, url=stored.url))
    image = an_image(
        id=fresh.id, status=Status.ACTIVE, size=len(DATA), locations=tuple(places), revision=0
    )
    await registry.catalog.images.create(image)
    return image


REFUSALS: list[TransomError] = [
    ImageInUse("it"),
    StoreRefused("heavy", "no permission"),
    StoreUnavailable("heavy", "timed out"),
    StoreFailed("heavy", "broken"),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda error: type(error).__name__)
async def test_a_store_that_keeps_the_data_keeps_the_location(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, refusal: TransomError
) -> None:
    image = await in_both(registry)

    async def refuse(key: str) -> None:
        # Meanwhile the location is out of sight.
        present = await registry.catalog.images.get(image.id, seen_by=None)
        assert [place.store for place in present.locations] == ["light"], key
        raise refusal

    heavy = registry.stores.get("heavy")
    monkeypatch.setattr(heavy, "delete", refuse)
    with pytest.raises(type(refusal)):
        await withdraw(registry, ADMIN, image.id, "heavy")
    after = await registry.catalog.images.get(image.id, seen_by=None)
    assert after.locations == image.locations
    assert await registry.catalog.images.due(10, now(), settled_seconds=0) == []
    monkeypatch.undo()
    await withdraw(registry, ADMIN, image.id, "heavy")
    with pytest.raises(KeyMissing):
        await heavy.stat(image.locations[1].key)


async def test_an_image_that_is_deleted_under_its_withdrawal_leaves_nothing(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = await in_both(registry)
    heavy = registry.stores.get("heavy")

    async def fail(_key: str) -> None:
        await registry.catalog.images.delete(image.id, now=now(), delayed=False)
        raise StoreUnavailable("heavy", "timed out")

    monkeypatch.setattr(heavy, "delete", fail)
    with pytest.raises(StoreUnavailable):
        await withdraw(registry, ADMIN, image.id, "heavy")
    with pytest.raises(ImageNotFound):
        await registry.catalog.images.get(image.id, seen_by=None)
    due = await registry.catalog.images.due(10, now(), settled_seconds=0)
    assert sorted(place.store for _, place in due) == ["heavy", "light"]


async def test_of_two_withdrawals_at_once_the_last_location_stays(registry: Registry) -> None:
    for _ in range(10):
        image = await in_both(registry)
        outcomes = await asyncio.gather(
            *(withdraw(registry, ADMIN, image.id, name) for name in ("light", "heavy")),
            return_exceptions=True,
        )
        assert sorted(type(each) for each in outcomes if each is not None) == [LastLocation]
        [place] = (await registry.catalog.images.get(image.id, seen_by=None)).locations
        await registry.stores.get(place.store).stat(place.key)


class _Breaking:
    """A Reader that fails at one of its pieces."""

    def __init__(self, pieces: list[bytes | Exception]) -> None:
        self.pieces = pieces
        self.is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def close(self) -> None:
        self.is_closed = True


FAILURES: list[Exception] = [
    KeyMissing("gone"),
    StoreUnavailable("heavy", "timed out"),
    StoreFailed("heavy", "broken"),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda error: type(error).__name__)
async def test_a_store_that_fails_at_its_first_piece_gives_way(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    image = await in_both(registry)
    reader = _Breaking([failure])
    monkeypatch.setattr(registry.stores.get("heavy"), "read", _gives(reader))
    found = await open_data(registry, image, offset=6, length=100_000)
    assert b"".join([piece async for piece in found]) == DATA[6:100_006]
    await found.close()
    assert reader.is_closed


def _gives(reader: _Breaking) -> Any:
    async def read(_key: str, **_range: Any) -> _Breaking:
        return reader

    return read


async def test_a_failure_after_the_first_piece_is_the_end(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = await in_both(registry)
    reader = _Breaking([b"first", StoreFailed("heavy", "broken")])
    monkeypatch.setattr(registry.stores.get("heavy"), "read", _gives(reader))
    found = await open_data(registry, image)
    pieces = aiter(found)
    assert await anext(pieces) == b"first"
    with pytest.raises(StoreFailed):
        await anext(pieces)
    await found.close()
    assert reader.is_closed


async def test_when_all_stores_fail_it_is_told_whether_to_try_again(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = await in_both(registry)
    light, heavy = registry.stores.get("light"), registry.stores.get("heavy")
    for store in (light, heavy):
        monkeypatch.setattr(store, "read", _gives(_Breaking([KeyMissing("gone")])))
    with pytest.raises(DataNotFound):
        await open_data(registry, image)
    away = _Breaking([StoreUnavailable("heavy", "timed out")])
    monkeypatch.setattr(heavy, "read", _gives(away))
    with pytest.raises(StoreUnavailable):
        await open_data(registry, image)


async def test_empty_data_has_no_first_piece(registry: Registry) -> None:
    image = await in_both(registry)
    reader = await open_data(registry, image, offset=0, length=0)
    assert [piece async for piece in reader] == []
    await reader.close()
