"""The examination of a whole deployment: what is wrong, what to do, and what can be mended safely.

A check is one file in `checks/` and one line in `CHECKS`: a module with a function
`look(registry, wishes)` that yields findings. A check changes something only when the wishes say so,
and only what it can prove; what needs a decision is left to the operator, with the facts.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator

from transom.doctor.finding import Finding, Wishes
from transom.errors import TransomError
from transom.registry import Registry

CHECKS: dict[str, str] = {
    "stores": "transom.doctor.checks.stores",
    "leftovers": "transom.doctor.checks.leftovers",
    "rows": "transom.doctor.checks.rows",
    "locations": "transom.doctor.checks.locations",
    "orphans": "transom.doctor.checks.orphans",
    "hashes": "transom.doctor.checks.hashes",
}
"""Every check in the order in which they run, and its module: what mends comes before what would
otherwise find the same again."""


async def examine(registry: Registry, wishes: Wishes) -> AsyncIterator[Finding]:
    """All findings of all checks. A check that fails is a finding too."""
    for name, module in CHECKS.items():
        try:
            async for finding in importlib.import_module(module).look(registry, wishes):
                yield finding
        except TransomError as error:
            yield Finding(check=name, says=f"The check could not be finished: {error}")
