"""Is the object of every location there, with the size that the image has?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from transom.catalog.inventory import Held
from transom.doctor.finding import Finding, Wishes
from transom.errors import StoreUnavailable, TransomError
from transom.images.verify import is_living
from transom.registry import Registry
from transom.stores.store import KeyMissing, Store

_AT_ONCE = 16


async def look(registry: Registry, wishes: Wishes) -> AsyncIterator[Finding]:
    """A problem for each location without its data. Never mended: a disk that is not mounted looks
    just like this, and what is right then is to mount it."""
    del wishes
    skipped: set[str] = set()
    after = 0
    while page := await registry.catalog.inventory.held(after=after):
        after = page[-1].number
        for start in range(0, len(page), _AT_ONCE):
            batch = page[start : start + _AT_ONCE]
            for finding in await asyncio.gather(
                *(_look_at(registry, held, skipped) for held in batch)
            ):
                if finding is not None:
                    yield finding


async def _look_at(registry: Registry, held: Held, skipped: set[str]) -> Finding | None:
    """What is wrong with one location. A store that cannot be asked is told of once."""
    place = held.location
    if place.store in skipped or place.store not in registry.stores.names:
        return None
    store = registry.stores.get(place.store)
    if not store.features.shared:
        skipped.add(store.name)
        return Finding(
            check="locations",
            level="note",
            store=store.name,
            says=f"Only the serving process sees what is in store '{store.name}'.",
        )
    says = await _wrong(store, held)
    if not says or not await is_living(registry, held):
        return None
    if says is _UNKNOWN:
        skipped.add(store.name)
        return Finding(
            check="locations",
            store=store.name,
            says=f"Store '{store.name}' does not answer; its objects were not looked at.",
        )
    return Finding(
        check="locations", image_id=held.image_id, store=store.name, key=place.key, says=says
    )


_UNKNOWN = "unknown"


async def _wrong(store: Store, held: Held) -> str:
    try:
        entry = await store.stat(held.location.key)
    except KeyMissing:
        return (
            "The object is missing. See that the store is the right one and mounted; else restore "
            "the object from a backup, or delete this location."
        )
    except StoreUnavailable:
        return _UNKNOWN
    except TransomError as error:
        return str(error)
    if entry.size_bytes == held.size_bytes:
        return ""
    return (
        f"The object has {entry.size_bytes} bytes, the image {held.size_bytes}. Restore the object "
        "from a backup, or delete this location."
    )
