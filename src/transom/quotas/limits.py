"""How much an image and a project may have (lifecycle §5)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol, cast

import msgspec

from transom.errors import ConfigurationError, QuotaExceeded
from transom.model.image import Image, Status
from transom.model.limit import BytesLimit, CountLimit
from transom.settings import LimitSettings, Settings

AHEAD_BYTES_MAX = 64 * 1024 * 1024
"""How much room data of unknown size takes beyond what it needs, at most."""
_AHEAD_PART = 4
"""It takes this part of what it needs, so that many together keep little room from each other."""

_INTERNAL = "os_glance"


class Used(Protocol):
    """What a project's images use at this moment."""

    @property
    def bytes_total(self) -> int:
        """Size times the number of locations."""
        ...

    @property
    def bytes_staged(self) -> int:
        """Size of what is staged, being imported, or being copied."""
        ...

    @property
    def bytes_reserved(self) -> int:
        """Room of intakes that are under way."""
        ...

    @property
    def images(self) -> int:
        """Number of images."""
        ...

    @property
    def uploading(self) -> int:
        """Number of images that data is coming in for."""
        ...


class Account(Protocol):
    """Where room is written down: `catalog.images`."""

    async def usage(self, project: str) -> Used:
        """What the project uses."""
        ...

    async def reserve(
        self,
        image_id: str,
        key: str,
        needed_bytes: int,
        wanted_bytes: int,
        *,
        project: str,
        limits: Sequence[BytesLimit],
    ) -> int:
        """Let the intake of an image under a key have as many bytes in all as it wants, or as fit,
        and at least what it needs; gives how many.

        Raises QuotaExceeded when the project's images and all its intakes would pass a limit; the
        intake then has nothing any more.
        """
        ...


class Ledger(Protocol):
    """The part of the catalog that keeps account of room."""

    @property
    def images(self) -> Account:
        """The account."""
        ...


class Allowance(msgspec.Struct, frozen=True, kw_only=True):
    """What a project may have at this moment; None or nothing = unlimited."""

    images: CountLimit | None = None
    """Number of images."""
    uploading: CountLimit | None = None
    """Number of images that data is coming in for."""
    stored: tuple[BytesLimit, ...] = ()
    """Bytes, when data goes into a store."""
    staged: tuple[BytesLimit, ...] = ()
    """Bytes, when data goes into the staging store."""


class Room:
    """Room for the data of one image in one store, taken from its project's limits as it is needed.

    What is granted is recorded in the catalog under the image and the key, where it counts against
    everyone else. The record goes with the intake: when the image becomes active its size counts
    instead, and an intake that is given up gives its room back.
    """

    def __init__(
        self,
        catalog: Ledger,
        image: Image,
        key: str,
        *,
        project: str,
        limits: Sequence[BytesLimit],
        announced_bytes: int | None = None,
    ) -> None:
        """Without limits it keeps account and refuses nothing."""
        self.granted_bytes = 0
        """Bytes that may be written without asking again."""
        self._catalog = catalog
        self._image_id = image.id
        self._key = key
        self._project = project
        self._limits = limits
        self._announced_bytes = announced_bytes or 0

    async def open(self) -> None:
        """Have room for what is announced, all of it. Raises QuotaExceeded, also for data of unknown
        size when nothing is left at all."""
        await self._reserve(self._announced_bytes, self._announced_bytes)

    async def extend(self, needed_bytes: int) -> None:
        """Have room for so many bytes in all. Raises QuotaExceeded; the intake is to be given up."""
        if needed_bytes > self.granted_bytes:
            ahead_bytes = min(needed_bytes // _AHEAD_PART, AHEAD_BYTES_MAX)
            await self._reserve(needed_bytes, needed_bytes + ahead_bytes)

    async def _reserve(self, needed_bytes: int, wanted_bytes: int) -> None:
        self.granted_bytes = await self._catalog.images.reserve(
            self._image_id,
            self._key,
            needed_bytes,
            wanted_bytes,
            project=self._project,
            limits=self._limits,
        )


class Limits:
    """The limits of the configuration, `[limits]`.

    Administrators are not exempt. Counts are checked when they grow and not when they shrink, so
    that an image over a limit can still be changed.
    """

    def __init__(self, settings: LimitSettings) -> None:
        self._settings = settings

    @classmethod
    def open(cls, settings: Settings, identity: object = None) -> Limits:
        """The limits that the configuration asks for.

        Unified limits need an identity backend that knows them (`limits_of`). Raises
        ConfigurationError when they are asked for and it does not.
        """
        if not settings.identity.keystone.use_limits:
            return cls(settings.limits)
        if settings.identity.backend != "keystone" or not hasattr(identity, "limits_of"):
            raise ConfigurationError(
                'identity.keystone.use_limits = true needs identity.backend = "keystone"; '
                "with another backend set [limits] instead."
            )
        from transom.quotas.unified import Source, UnifiedLimits

        return UnifiedLimits(settings.limits, cast("Source", identity))

    @property
    def image_size_bytes_max(self) -> int | None:
        """Largest size of one image, None = unlimited."""
        return self._settings.image_size_bytes_max or None

    def properties(self, names: Collection[str]) -> None:
        """Custom properties that an image is to have; those of the service itself do not count.

        Raises QuotaExceeded.
        """
        count = sum(not name.startswith(_INTERNAL) for name in names)
        _within("custom properties of an image", count, self._settings.image_properties_max)

    def tags(self, tags: Collection[str]) -> None:
        """Tags that an image is to have. Raises QuotaExceeded."""
        _within("tags of an image", len(set(tags)), self._settings.image_tags_max)

    def members(self, count: int) -> None:
        """Number of members that an image is to have. Raises QuotaExceeded."""
        _within("members of an image", count, self._settings.image_members_max)

    def locations(self, count: int) -> None:
        """Number of locations that an image is to have. Raises QuotaExceeded."""
        _within("locations of an image", count, self._settings.image_locations_max)

    async def allowance(self, project: str | None) -> Allowance:
        """What a project may have. Raises IdentityUnavailable where Keystone keeps the limits."""
        limit_bytes = self._settings.project_bytes_max
        if not limit_bytes or project is None:
            return Allowance()
        all_bytes = BytesLimit(
            name="bytes of all images of the project", bytes_max=limit_bytes, counts="all"
        )
        return Allowance(stored=(all_bytes,), staged=(all_bytes,))

    async def usage(self, catalog: Ledger, project: str | None) -> dict[str, dict[str, int]]:
        """Limit and usage of each resource that Keystone limits: none."""
        return {}

    async def room_for(
        self,
        catalog: Ledger,
        image: Image,
        key: str,
        announced_bytes: int | None,
        allowance: Allowance | None = None,
    ) -> Room | None:
        """Room for data of an image whose intake under a key has begun; None = unlimited.

        An announced size (bytes) is reserved at once, so that data which cannot fit is refused
        before it is sent. The limits are those of `allowance`, if it was asked for already, else
        those of now. Raises QuotaExceeded, IdentityUnavailable.
        """
        if allowance is None:
            allowance = await self.allowance(image.owner)
        limits = allowance.staged if image.status is Status.UPLOADING else allowance.stored
        if image.owner is None or not limits:
            return None
        # Data of unknown size says how much it is by coming in.
        is_known = announced_bytes is not None
        room = Room(
            catalog,
            image,
            key,
            project=image.owner,
            limits=[
                msgspec.structs.replace(limit, is_exact=limit.is_exact or is_known)
                for limit in limits
            ],
            announced_bytes=announced_bytes,
        )
        await room.open()
        return room


def _within(what: str, count: int, count_max: int) -> None:
    if 0 <= count_max < count:
        raise QuotaExceeded(what, count_max, count)
