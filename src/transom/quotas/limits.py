"""How much an image and a project may have (lifecycle §5)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol, cast

from transom.errors import ConfigurationError, QuotaExceeded
from transom.model.image import Image
from transom.settings import LimitSettings, Settings

STEP_BYTES = 64 * 1024 * 1024
"""How much room data of unknown size asks for at a time."""

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
        self, image_id: str, key: str, total_bytes: int, *, project: str, limit_bytes: int
    ) -> None:
        """Let the intake of an image under a key have so many bytes in all.

        Raises QuotaExceeded, and changes nothing, when the project's images and all its intakes
        would pass the limit.
        """
        ...


class Ledger(Protocol):
    """The part of the catalog that keeps account of room."""

    @property
    def images(self) -> Account:
        """The account."""
        ...


class Room:
    """Room for the data of one image in one store, taken from its project's limit as it is needed.

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
        limit_bytes: int,
        announced_bytes: int | None = None,
        step_bytes: int = STEP_BYTES,
    ) -> None:
        """`limit_bytes` 0 keeps account and refuses nothing."""
        self.granted_bytes = 0
        """Bytes that may be written without asking again."""
        self._catalog = catalog
        self._image_id = image.id
        self._key = key
        self._project = project
        self._limit_bytes = limit_bytes
        self._announced_bytes = announced_bytes or 0
        self._step_bytes = step_bytes

    async def extend(self, needed_bytes: int) -> None:
        """Have room for so many bytes in all. Raises QuotaExceeded; what was granted stays."""
        if needed_bytes <= self.granted_bytes:
            return
        if needed_bytes <= self._announced_bytes:
            wanted_bytes = self._announced_bytes
        else:
            wanted_bytes = max(needed_bytes, self.granted_bytes + self._step_bytes)
        while True:
            try:
                await self._reserve(wanted_bytes)
            except QuotaExceeded:
                if wanted_bytes == needed_bytes or needed_bytes <= self._announced_bytes:
                    raise
                # A whole step does not fit; perhaps what is needed now does.
                wanted_bytes = needed_bytes
            else:
                self.granted_bytes = wanted_bytes
                return

    async def _reserve(self, total_bytes: int) -> None:
        await self._catalog.images.reserve(
            self._image_id,
            self._key,
            total_bytes,
            project=self._project,
            limit_bytes=self._limit_bytes,
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

    async def images(self, catalog: Ledger, project: str | None) -> None:
        """One more image of a project. The configuration sets no limit to their number."""

    async def staging(self, catalog: Ledger, image: Image) -> None:
        """Data is about to be staged for an image. The configuration sets no limit to that."""

    async def usage(self, catalog: Ledger, project: str | None) -> dict[str, dict[str, int]]:
        """Limit and usage of each resource that Keystone limits: none."""
        return {}

    async def room_for(
        self, catalog: Ledger, image: Image, key: str, announced_bytes: int | None
    ) -> Room | None:
        """Room for data of an image that is to be stored under a key; None = unlimited.

        An announced size (bytes) is reserved at once, so that data which cannot fit is refused
        before it is sent. Raises QuotaExceeded.
        """
        limit_bytes = self._settings.project_bytes_max
        if not limit_bytes or image.owner is None:
            return None
        room = Room(
            catalog,
            image,
            key,
            project=image.owner,
            limit_bytes=limit_bytes,
            announced_bytes=announced_bytes,
        )
        await room.extend(announced_bytes or 0)
        return room


def _within(what: str, count: int, count_max: int) -> None:
    if 0 <= count_max < count:
        raise QuotaExceeded(what, count_max, count)
