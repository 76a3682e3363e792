"""Clean up what crashes left behind, and remove what waits for the scrubber (lifecycle §1.2).

Every byte that comes in is remembered in the catalog before it is written (an intake row), and
every byte that has to go is remembered until it is gone (a location pending deletion). So the sweep
never has to guess: it works through those rows. What no row remembers is a matter of `orphans`.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import functools
import hashlib
import os
import socket
import time
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
import structlog

from transom.catalog.processes import Process
from transom.errors import StoreUnavailable, TransomError, UnknownStore
from transom.images.clock import now
from transom.images.upload import queued_again, removed_or_left
from transom.metrics.table import SWEEP_MENDED
from transom.registry import Registry

_log = structlog.get_logger(__name__)

DEAD_AFTER_SECONDS = 30.0
"""A process that has not renewed its lease for so long is taken for dead."""

WATCHED_SECONDS = 12.0
"""So long a lease must be seen not to be renewed: twice as long as the living take, and more."""

_BATCH = 1000


class Untidy(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a sweep would clean."""

    kind: Literal["intake", "data", "image"]
    """Data that came in for a process that is dead; data to be removed; a stuck image."""
    image_id: str
    store: str = ""
    key: str = ""


async def sweep(registry: Registry) -> int:
    """Undo the intakes of dead processes, remove the data of deleted images, and put back images
    that nobody works on; gives how many things were cleaned. A store that fails now is tried again
    at the next sweep."""
    return (
        await _sweep_intakes(registry)
        + await _sweep_doomed(registry)
        + await _sweep_stuck(registry)
    )


async def untidy(registry: Registry, *, overdue_seconds: float = 0.0) -> list[Untidy]:
    """What a sweep would clean now; of data that waits for its removal, what has been due for so
    long."""
    catalog = registry.catalog
    found = [
        Untidy(kind="intake", image_id=intake.image_id, store=intake.store, key=intake.key)
        for intake in await catalog.intakes.of_dead(await dead_processes(registry))
    ]
    due = await catalog.images.due(
        _BATCH,
        now() - dt.timedelta(seconds=overdue_seconds),
        scrub_after_seconds=registry.settings.delete.scrub_after_seconds,
    )
    found += (
        Untidy(kind="data", image_id=image_id, store=location.store, key=location.key)
        for image_id, location in due
    )
    stuck = await catalog.inventory.stuck(now=now())
    found += (Untidy(kind="image", image_id=each.image_id) for each in stuck)
    return found


async def _sweep_intakes(registry: Registry) -> int:
    catalog = registry.catalog
    dead = await dead_processes(registry)
    cleaned = 0
    for intake in await catalog.intakes.of_dead(dead):
        # A process that is held for dead may live, and finish at this moment: one of the two is
        # first, and if it is the sweep, the process finds that it cannot finish any more.
        if not await catalog.intakes.disown(intake.image_id, intake.key):
            continue
        image_id, left_in = intake.image_id, ""
        try:
            store = registry.stores.find(intake.store)
        except UnknownStore as error:
            _log.warning("sweep.data_left", image_id=image_id, reason=str(error))
        else:
            left_in = await removed_or_left(store, image_id, intake.key)
        with registry.events.telling(partial(queued_again, image_id)):
            await catalog.images.abandon_intake(image_id, intake.key, left_in=left_in)
        SWEEP_MENDED.at("intake").add()
        _log.info("sweep.intake_undone", image_id=intake.image_id, store=intake.store)
        cleaned += 1
    for process_id in dead:
        await catalog.processes.leave(process_id)
    return cleaned


async def dead_processes(registry: Registry) -> list[str]:
    """Ids of the processes that are gone: those of this machine whose pid is no longer theirs, and
    those anywhere whose lease has run out."""
    return [id_ for id_, is_dead in (await _leases(registry)).items() if is_dead]


async def living_processes(registry: Registry) -> set[str]:
    """Ids of the processes that serve this catalog."""
    return {id_ for id_, is_dead in (await _leases(registry)).items() if not is_dead}


async def _leases(registry: Registry) -> dict[str, bool]:
    """Of every process that holds a lease, whether it is dead. This one is not."""
    processes = registry.catalog.processes
    host = machine()
    silent = set(await processes.dead(DEAD_AFTER_SECONDS, watched_seconds=WATCHED_SECONDS))
    return {
        process.id: process.id != registry.process_id
        and (process.id in silent or (process.host == host and not is_running(process)))
        for process in await processes.list()
    }


async def watch_the_silent(registry: Registry) -> None:
    """Before a single look: take the time to see whether those who look dead are."""
    await dead_processes(registry)
    if registry.catalog.processes.are_suspected:
        await asyncio.sleep(WATCHED_SECONDS)


@functools.cache
def machine() -> str:
    """Where this process runs, as a text that only those share who can see each other's pids: the
    machine's name, and marks of its boot and of the space of pids. Two machines may have one name, and
    two containers on one machine do not see each other."""
    marks = [Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")]
    with contextlib.suppress(OSError):
        text = marks[0].read_text(encoding="ascii") + str(marks[1].stat().st_ino)
        return f"{socket.gethostname()}#{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return socket.gethostname()


def is_running(process: Process) -> bool:
    """True while the process that wrote the lease lives on this machine."""
    return started_at(process.pid) == process.started


def started_at(pid: int) -> str | None:
    """When a process of this machine began, as a text that no later process with the same pid
    shares; None when there is none. After proc(5): field 22 of stat, and the id of the boot."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:
        return None
    return f"{boot.strip()}:{stat.rpartition(')')[2].split()[19]}"


async def join(registry: Registry) -> None:
    """Write the first lease of this process, before it changes anything."""
    pid = os.getpid()
    await registry.catalog.processes.join(
        registry.process_id,
        host=machine(),
        pid=pid,
        started=started_at(pid) or f"unknown:{time.time_ns()}",
    )


async def _sweep_doomed(registry: Registry) -> int:
    images = registry.catalog.images
    # Only these: what cannot be reached now must not stand before what can.
    stores = {store.name for store in registry.stores.every}
    cleaned = 0
    while stores:
        doomed = await images.doomed(
            limit=_BATCH,
            now=now(),
            scrub_after_seconds=registry.settings.delete.scrub_after_seconds,
            stores=stores,
        )
        before = cleaned
        for image_id, location in doomed:
            if location.store not in stores:
                continue
            try:
                await registry.stores.find(location.store).delete(location.key)
            except TransomError as error:
                _log.warning("sweep.delayed", image_id=image_id, reason=str(error))
                if isinstance(error, StoreUnavailable):
                    stores.discard(location.store)
                continue
            await images.data_removed(image_id, location.key)
            SWEEP_MENDED.at("data").add()
            _log.info("sweep.data_removed", image_id=image_id, store=location.store)
            cleaned += 1
        if len(doomed) < _BATCH or cleaned == before:
            break
    return cleaned


async def _sweep_stuck(registry: Registry) -> int:
    inventory = registry.catalog.inventory
    cleaned = 0
    for each in await inventory.stuck(now=now()):
        with registry.events.telling(partial(queued_again, each.image_id)):
            is_unstuck = await inventory.unstick(each.image_id, now=now())
        if is_unstuck:
            SWEEP_MENDED.at("image").add()
            _log.warning("sweep.image_unstuck", image_id=each.image_id, status=each.status)
            cleaned += 1
    return cleaned
