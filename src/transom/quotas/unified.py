"""Limits that Keystone keeps for each project: unified limits (lifecycle §5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from transom.errors import QuotaExceeded
from transom.model.image import Image
from transom.quotas.limits import Ledger, Limits, Room, Used
from transom.settings import LimitSettings

MIB = 1024 * 1024

SIZE_TOTAL = "image_size_total"
STAGE_TOTAL = "image_stage_total"
COUNT_TOTAL = "image_count_total"
COUNT_UPLOADING = "image_count_uploading"
_STEP_BYTES = 8 * MIB
"""Room taken ahead keeps others out, so steps are short."""

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

    async def images(self, catalog: Ledger, project: str | None) -> None:
        """One more image of a project. Raises QuotaExceeded, IdentityUnavailable."""
        if project is None:
            return
        limits = await self._source.limits_of(project)
        used = await catalog.images.usage(project)
        _within(COUNT_TOTAL, limits, used.images + 1)

    async def staging(self, catalog: Ledger, image: Image) -> None:
        """Data is about to be staged for an image, which counts as uploading already.

        How much is not known: it is refused when the limit is passed before it begins.
        Raises QuotaExceeded, IdentityUnavailable.
        """
        if image.owner is None:
            return
        limits = await self._source.limits_of(image.owner)
        used = await catalog.images.usage(image.owner)
        _within(COUNT_UPLOADING, limits, used.uploading)
        _within(STAGE_TOTAL, limits, used.bytes_staged // MIB)

    async def room_for(
        self, catalog: Ledger, image: Image, key: str, announced_bytes: int | None
    ) -> Room | None:
        """Room for data of an image, which counts as uploading already.

        An announced size has to fit. Data of unknown size is refused when the limit is passed
        before it begins; what comes in counts against everybody else from then on.
        Raises QuotaExceeded, IdentityUnavailable.
        """
        if image.owner is None:
            return None
        limits = await self._source.limits_of(image.owner)
        used = await catalog.images.usage(image.owner)
        _within(COUNT_UPLOADING, limits, used.uploading)
        present_bytes = used.bytes_total + used.bytes_reserved
        _within(SIZE_TOTAL, limits, present_bytes // MIB)
        caps = [self._settings.project_bytes_max] if self._settings.project_bytes_max else []
        limit_mib = limits.get(SIZE_TOTAL, 0)
        if announced_bytes is not None and limit_mib >= 0:
            # Sizes count in whole MiB, rounded down.
            caps.append((limit_mib + 1) * MIB - 1)
        room = Room(
            catalog,
            image,
            key,
            project=image.owner,
            limit_bytes=min(caps, default=0),
            announced_bytes=announced_bytes,
            step_bytes=_STEP_BYTES,
        )
        await room.extend(announced_bytes or 0)
        return room

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


def _within(name: str, limits: Mapping[str, int], wanted: int) -> None:
    limit = limits.get(name, 0)
    if 0 <= limit < wanted:
        raise QuotaExceeded(name, limit, wanted)
