"""Clean up what crashes left behind (lifecycle §1.2).

Every byte that comes in is remembered in the catalog before it is written (an intake row), and
every byte that has to go is remembered until it is gone (a location pending deletion). So the sweep
never has to guess: it works through those rows.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import structlog

from transom.catalog.processes import Process
from transom.errors import TransomError, UnknownStore
from transom.images.clock import now
from transom.registry import Registry

_log = structlog.get_logger(__name__)

DEAD_AFTER_SECONDS = 30.0
"""A process that has not renewed its lease for so long is taken for dead."""


async def sweep(registry: Registry) -> int:
    """Undo the intakes of dead processes and remove the data of deleted images; gives how many
    things were cleaned. A store that fails now is tried again at the next sweep."""
    return await _sweep_intakes(registry) + await _sweep_doomed(registry)


async def _sweep_intakes(registry: Registry) -> int:
    catalog = registry.catalog
    dead = await dead_processes(registry)
    cleaned = 0
    for intake in await catalog.intakes.of_dead(dead):
        try:
            await registry.stores.get(intake.store).delete(intake.key)
        except UnknownStore as error:
            _log.warning("sweep.data_left", image_id=intake.image_id, reason=str(error))
        except TransomError as error:
            _log.warning("sweep.delayed", image_id=intake.image_id, reason=str(error))
            continue
        await catalog.images.abandon_intake(intake.image_id, intake.key)
        _log.info("sweep.intake_undone", image_id=intake.image_id, store=intake.store)
        cleaned += 1
    for process_id in dead:
        await catalog.processes.leave(process_id)
    return cleaned


async def dead_processes(registry: Registry) -> list[str]:
    """Ids of the processes that are gone: those of this machine whose pid is no longer theirs, and
    those anywhere whose lease has run out."""
    found = []
    host = socket.gethostname()
    silent = set(await registry.catalog.processes.dead(DEAD_AFTER_SECONDS))
    for process in await registry.catalog.processes.list():
        if process.id == registry.process_id:
            continue
        gone_here = process.host == host and not is_running(process)
        if gone_here or process.id in silent:
            found.append(process.id)
    return found


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
        host=socket.gethostname(),
        pid=pid,
        started=started_at(pid) or f"unknown:{time.time_ns()}",
    )


async def _sweep_doomed(registry: Registry) -> int:
    cleaned = 0
    images = registry.catalog.images
    doomed = await images.doomed(
        limit=1000,
        now=now(),
        scrub_after_seconds=registry.settings.delete.scrub_after_seconds,
    )
    for image_id, location in doomed:
        try:
            await registry.stores.get(location.store).delete(location.key)
        except TransomError as error:
            _log.warning("sweep.delayed", image_id=image_id, reason=str(error))
            continue
        await images.data_removed(image_id, location.key)
        _log.info("sweep.data_removed", image_id=image_id, store=location.store)
        cleaned += 1
    return cleaned
