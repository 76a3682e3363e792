"""Is the data in the stores what was uploaded? Reads all of it, so only when asked to."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from transom.doctor.finding import Finding, Wishes
from transom.images.verify import is_living, verify
from transom.registry import Registry


async def look(registry: Registry, wishes: Wishes) -> AsyncIterator[Finding]:
    """A problem for each location whose data differs, and a note of how far it came. Never
    mended: bad data is not removed while it may be the last there is."""
    if not wishes.hashes:
        return
    ends_at = time.monotonic() + wishes.hash_seconds
    after, objects, size_bytes = wishes.hash_after, 0, 0
    while page := await registry.catalog.inventory.held(after=after, limit=100):
        for held in page:
            # However short the time, each reading comes forward.
            if wishes.hash_seconds and objects and time.monotonic() > ends_at:
                yield Finding(
                    check="hashes",
                    level="note",
                    number=after,
                    says=f"{_told(objects, size_bytes)} The time is over; go on with "
                    f"`--hashes --after {after}`.",
                )
                return
            after = held.number
            name = held.location.store
            if name not in registry.stores.names or not registry.stores.get(name).features.shared:
                continue
            says = await verify(registry, held)
            objects += 1
            size_bytes += held.size_bytes or 0
            if says and await is_living(registry, held):
                yield Finding(
                    check="hashes",
                    image_id=held.image_id,
                    store=name,
                    key=held.location.key,
                    says=says,
                )
    yield Finding(
        check="hashes",
        level="note",
        says=f"{_told(objects, size_bytes)} That was all.",
    )


def _told(objects: int, size_bytes: int) -> str:
    return f"Digests of {objects} objects with {size_bytes} bytes were compared."
