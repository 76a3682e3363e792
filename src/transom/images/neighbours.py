"""Whether this process can be one of several on different machines (decision 0140).

What replicas have to share is the catalog and the stores. A folder of this machine that stands in for a
store is noticed late: by an import that does not find what another replica staged. So a process that
finds others at work on the same catalog says at its start what they do not share with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import structlog

from transom.images.sweep import living_processes, machine
from transom.registry import Registry
from transom.settings import Settings

_log = structlog.get_logger(__name__)


async def warn_of_neighbours(registry: Registry) -> None:
    """Log what processes on other machines, if there are any now, cannot share with this one. Raises
    CatalogUnavailable."""
    reasons = list(unshared(registry.settings))
    if not reasons:
        return
    living = await living_processes(registry)
    here = machine()
    others = {
        process.host.partition("#")[0]
        for process in await registry.catalog.processes.list()
        if process.id in living and process.host != here
    }
    if others:
        for reason in reasons:
            _log.warning("replicas.not_shared", others=sorted(others), reason=reason)


def unshared(settings: Settings) -> Iterator[str]:
    """What other machines do not see of what this configuration keeps: a sentence for each."""
    if settings.database.url.startswith("sqlite:"):
        yield "database.url names a file of this machine; replicas need one PostgreSQL."
    if not settings.stores.staging:
        yield (
            "stores.staging is empty, so staged data lies in the data folder of this machine, and "
            "imports that another replica begins do not find it; name a store that all share."
        )
    for name, store in settings.stores.named.items():
        if store.driver == "memory":
            yield f"stores.{name} lies in the memory of one process; use another driver."
        elif store.driver == "file" and _is_below(Path(store.path), settings.data_path):
            yield (
                f"stores.{name}.path lies in the data folder of this machine; name a folder that all "
                "replicas mount, or use an object store."
            )
    server = settings.server
    if settings.cache.enabled and server.public_url and not server.self_url:
        yield (
            "server.self_url is empty, so all replicas share one name for their caches; give each its "
            "own URL."
        )


def _is_below(path: Path, folder: Path) -> bool:
    return path.absolute().is_relative_to(folder.absolute())
