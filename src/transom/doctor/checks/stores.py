"""Can every store be read and written, and is every store configured that the catalog names?"""

from __future__ import annotations

from collections.abc import AsyncIterator

from transom.doctor.finding import Finding, Wishes
from transom.errors import TransomError
from transom.registry import Registry


async def look(registry: Registry, wishes: Wishes) -> AsyncIterator[Finding]:
    """A problem for each store that fails or is missing. Nothing here can be mended."""
    del wishes
    for store in registry.stores.every:
        if not store.features.writable:
            continue
        try:
            await store.check()
        except TransomError as error:
            yield Finding(check="stores", store=store.name, says=str(error))
    configured = {store.name for store in registry.stores.every}
    for name, count in (await registry.catalog.inventory.stores_named()).items():
        if name not in configured:
            yield Finding(
                check="stores",
                store=name,
                says=f"The catalog names {count} objects in store '{name}', which is not "
                "configured: they can be neither read nor removed. Put the store back, or delete "
                "what lies there.",
            )
