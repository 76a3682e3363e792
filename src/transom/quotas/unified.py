"""Limits that Keystone keeps for each project: unified limits (lifecycle §5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from transom.model.limit import BytesLimit, CountLimit
from transom.quotas.limits import Allowance, Ledger, Limits, Used
from transom.settings import LimitSettings

MIB = 1024 * 1024

SIZE_TOTAL = "image_size_total"
STAGE_TOTAL = "image_stage_total"
COUNT_TOTAL = "image_count_total"
COUNT_UPLOADING = "image_count_uploading"
RESOURCES = (SIZE_TOTAL, STAGE_TOTAL, COUNT_TOTAL, COUNT_UPLOADING)


class Source(Protocol):
    """Who knows the limits: the identity backend."""

    async def limits_of(self, project_id: str) -> Mapping[str, int]:
        """Limits of a project by resource name; -1 = unlimited. Raises IdentityUnavailable."""
        ...


class UnifiedLimits(Limits):
    """The limits of the configuration, and those of Keystone besides.

    Keystone is asked each time, so that a limit counts from the moment it is changed. A resource
    without a registered limit may not be used at all, as in every service that keeps them.
    """

    def __init__(self, settings: LimitSettings, source: Source) -> None:
        super().__init__(settings)
        self._source = source

    async def allowance(self, project: str | None) -> Allowance:
        """What a project may have. Raises IdentityUnavailable."""
        own = await super().allowance(project)
        if project is None:
            return own
        limits = await self._source.limits_of(project)
        return Allowance(
            images=_count(limits, COUNT_TOTAL),
            uploading=_count(limits, COUNT_UPLOADING),
            stored=(*own.stored, *_bytes(limits, SIZE_TOTAL, "stored")),
            staged=(*own.staged, *_bytes(limits, STAGE_TOTAL, "staged")),
        )

    async def usage(self, catalog: Ledger, project: str | None) -> dict[str, dict[str, int]]:
        """Limit and usage of each resource, as `GET /v2/info/usage` shows them (API §15)."""
        if project is None:
            return {}
        limits = await self._source.limits_of(project)
        used = await catalog.images.usage(project)
        present = _numbers(used)
        return {name: {"limit": limits.get(name, 0), "usage": present[name]} for name in RESOURCES}


def _numbers(used: Used) -> dict[str, int]:
    return {
        SIZE_TOTAL: used.bytes_total // MIB,
        STAGE_TOTAL: used.bytes_staged // MIB,
        COUNT_TOTAL: used.images,
        COUNT_UPLOADING: used.uploading,
    }


def _count(limits: Mapping[str, int], name: str) -> CountLimit | None:
    limit = limits.get(name, 0)
    return None if limit < 0 else CountLimit(name, limit)


def _bytes(
    limits: Mapping[str, int], name: str, counts: Literal["stored", "staged"]
) -> tuple[BytesLimit, ...]:
    limit_mib = limits.get(name, 0)
    if limit_mib < 0:
        return ()
    # Sizes count in whole MiB, rounded down.
    bytes_max = (limit_mib + 1) * MIB - 1
    return (
        BytesLimit(name=name, bytes_max=bytes_max, counts=counts, is_exact=False, unit_bytes=MIB),
    )
