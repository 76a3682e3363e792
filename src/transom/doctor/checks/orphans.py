"""Do the stores hold objects that nobody knows?"""

from __future__ import annotations

from collections.abc import AsyncIterator

from transom.doctor.finding import Finding, Wishes
from transom.images.orphans import remove_orphans, survey
from transom.registry import Registry


async def look(registry: Registry, wishes: Wishes) -> AsyncIterator[Finding]:
    """A problem for each orphan beyond the grace time; a repair removes them, unless there are so
    many that the catalog looks like the wrong one."""
    for found in await survey(registry, grace_seconds=wishes.grace_seconds):
        if found.problem:
            yield Finding(
                check="orphans",
                store=found.store,
                says=f"Store '{found.store}' could not be looked through: {found.problem}",
            )
        if found.note:
            yield Finding(
                check="orphans",
                level="note",
                store=found.store,
                says=f"Store '{found.store}' was not looked through: {found.note}.",
            )
        if found.is_suspicious:
            yield Finding(
                check="orphans",
                store=found.store,
                says=f"Of {found.objects} objects in store '{found.store}' the catalog knows "
                "less than half. Is this the right catalog for this store? Nothing was removed; "
                "`transom sweep --orphans --apply --force` removes them.",
            )
            continue
        removed = set()
        if wishes.repair and found.orphans:
            removed = {orphan.key for orphan in await remove_orphans(registry, found)}
        for orphan in found.orphans:
            kind = "An unfinished object" if orphan.is_partial else "An object"
            yield Finding(
                check="orphans",
                store=orphan.store,
                key=orphan.key,
                says=f"{kind} of {orphan.size_bytes} bytes that nobody knows; "
                "`transom sweep --orphans --apply` removes it.",
                is_mended=orphan.key in removed,
            )
