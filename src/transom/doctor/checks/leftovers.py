"""Is anything left of dead processes, and does anything wait that a sweep should have done?"""

from __future__ import annotations

from collections.abc import AsyncIterator

from transom.doctor.finding import Finding, Wishes
from transom.images.sweep import Untidy, dead_processes, sweep, untidy, watch_the_silent
from transom.registry import Registry

OVERDUE_SECONDS = 120.0
"""A running service sweeps every half minute: what is due for longer waits in vain."""

_SAYS = {
    "intake": "Data came in for the image when its process died; a sweep removes what came and "
    "makes the image queued again.",
    "data": "The data should have been removed; a sweep tries again. Look for the store's errors "
    "in the log of the service.",
    "image": "The image is in a state in which somebody works on it, and nobody does; a sweep "
    "makes it queued again.",
}


async def look(registry: Registry, wishes: Wishes) -> AsyncIterator[Finding]:
    """What a sweep would clean, and leases of processes that are gone; a repair sweeps."""
    await watch_the_silent(registry)
    dead = await dead_processes(registry)
    found = await untidy(registry, overdue_seconds=OVERDUE_SECONDS)
    left: set[Untidy] = set(found)
    still_dead = set(dead)
    if wishes.repair and (found or dead):
        await sweep(registry)
        left = set(await untidy(registry, overdue_seconds=OVERDUE_SECONDS))
        still_dead = set(await dead_processes(registry))
    for process_id in dead:
        yield Finding(
            check="leftovers",
            says=f"Process {process_id} is dead and holds a lease; a sweep takes it away.",
            is_mended=process_id not in still_dead,
        )
    for each in found:
        yield Finding(
            check="leftovers",
            image_id=each.image_id,
            store=each.store,
            key=each.key,
            says=_SAYS[each.kind],
            is_mended=each not in left,
        )
