"""Objects in stores that the catalog does not name: found, counted, and removed on request.

Mark and sweep, with the catalog as the mark. Removing living data is impossible as long as every
writer keeps the rule of `catalog/inventory.py` (named before the first byte, until after the last),
because an object is listed first and looked up afterwards. The grace time is for what no rule
covers: an object of a catalog that is being restored, a clock that is wrong. Decision 0071.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import msgspec
import structlog

from transom.errors import StoreUnavailable, TransomError
from transom.registry import Registry
from transom.stores.store import Entry, KeyMissing, Store

_log = structlog.get_logger(__name__)

SUSPICIOUS_FROM = 20
"""So many orphans that are more than half of a store look like the wrong catalog."""

_BATCH = 5_000
"""Each batch costs one walk over the rows of locations, which no index leads to by their keys."""


class Orphan(msgspec.Struct, frozen=True, kw_only=True):
    """An object that nobody knows. `modified_at` is seconds since the epoch."""

    store: str
    key: str
    size_bytes: int
    modified_at: float
    is_partial: bool


class Survey(msgspec.Struct, kw_only=True):
    """What was found in one store."""

    store: str
    objects: int = 0
    """Complete and partial ones, known or not."""
    orphans: list[Orphan] = msgspec.field(default_factory=list)
    young: int = 0
    """Unknown objects within the grace time."""
    problem: str = ""
    """Why the store could not be looked through; empty when it was."""
    note: str = ""
    """Why there was nothing to look through."""

    @property
    def is_suspicious(self) -> bool:
        """True when so much is unknown that the catalog is probably another store's."""
        unknown = len(self.orphans) + self.young
        return unknown > SUSPICIOUS_FROM and 2 * unknown > self.objects


async def survey(registry: Registry, *, grace_seconds: float) -> list[Survey]:
    """What is in every store that can be listed, compared with the catalog."""
    return [await survey_store(registry, store, grace_seconds) for store in registry.stores.every]


async def survey_store(registry: Registry, store: Store, grace_seconds: float) -> Survey:
    """What is in one store. A store that fails says so in `problem`."""
    found = Survey(store=store.name)
    if not store.features.lists:
        found.note = "it cannot list its objects"
        return found
    if not store.features.shared:
        found.note = "only the serving process sees its objects"
        return found
    try:
        await _look_through(registry, store, found, before=time.time() - grace_seconds)
    except KeyMissing:
        found.problem = "It has no folder for its objects; an operator has to look after it."
    except TransomError as error:
        found.problem = str(error)
    if found.orphans:
        # Rows of locations can be lost; then the image itself still shows where its data is.
        shown = await registry.catalog.inventory.shown(
            store.name, [orphan.key for orphan in found.orphans]
        )
        found.orphans = [orphan for orphan in found.orphans if orphan.key not in shown]
    return found


async def _look_through(registry: Registry, store: Store, found: Survey, *, before: float) -> None:
    for entries, is_partial in ((store.list_partial(), True), (store.list(), False)):
        async for batch in _batches(entries):
            found.objects += len(batch)
            known = await registry.catalog.inventory.known(
                store.name, [entry.key for entry in batch]
            )
            for entry in batch:
                if entry.key in known:
                    continue
                if entry.modified_at > before:
                    found.young += 1
                    continue
                found.orphans.append(
                    Orphan(
                        store=store.name,
                        key=entry.key,
                        size_bytes=entry.size_bytes,
                        modified_at=entry.modified_at,
                        is_partial=is_partial,
                    )
                )


async def remove_orphans(registry: Registry, found: Survey) -> list[Orphan]:
    """Remove the orphans of a survey; gives those that are gone. One that the catalog knows by now
    stays, and one that its store does not let go is left to the next time."""
    store = registry.stores.find(found.store)
    removed: list[Orphan] = []
    for start in range(0, len(found.orphans), _BATCH):
        batch = found.orphans[start : start + _BATCH]
        known = await registry.catalog.inventory.known(store.name, [orphan.key for orphan in batch])
        for orphan in batch:
            if orphan.key in known:
                continue
            try:
                await store.delete(orphan.key)
            except StoreUnavailable as error:
                _log.warning("orphan.delayed", store=store.name, reason=str(error))
                return removed
            except TransomError as error:
                _log.warning("orphan.left", store=store.name, key=orphan.key, reason=str(error))
                continue
            _log.info("orphan.removed", store=store.name, key=orphan.key)
            removed.append(orphan)
    return removed


async def _batches(entries: AsyncIterator[Entry]) -> AsyncIterator[list[Entry]]:
    batch: list[Entry] = []
    async for entry in entries:
        batch.append(entry)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
