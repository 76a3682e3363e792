"""Changes of an image's locations by a patch (API §7.5).

A patch is drafted first, so that everything that can be refused without reading a URL is refused
before one is read. Then what is behind new URLs is looked at, and the data of further locations is
held to the data that the image has: whatever a patch adds, the bytes of an image stay what they were
(decision 86).
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from transom.errors import (
    CopyDiffers,
    DataNotFound,
    InvalidBody,
    InvalidValue,
    LastLocation,
    LocationRefused,
    LocationsRefused,
    StatusConflict,
    StoreUnavailable,
    TransomError,
    ValidationMismatch,
)
from transom.images.attributes import checked_text
from transom.images.download import by_weight, pieces
from transom.images.intake import measure
from transom.model.actor import Actor
from transom.model.image import Image, Location, Status
from transom.model.reserved import LAST_ERROR
from transom.registry import Registry
from transom.stores.store import KeyMissing

URL_LENGTH_MAX = 255
METADATA_BYTES_MAX = 65536
_ALGORITHM_LENGTH_MAX = 64
_VALUE_LENGTH_MAX = 128
_COMPARED_BY = "sha256"


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """A location as a client gives it."""

    url: str
    metadata: dict[str, object]
    validation: dict[str, str] | None


class Relocation:
    """The location operations of one patch of one image as it is now."""

    def __init__(self, registry: Registry, actor: Actor, image: Image) -> None:
        self._registry = registry
        self._actor = actor
        self._before = image

    # --- drafting -----------------------------------------------------------------------------

    def add(self, image: Image, position: str, value: Any) -> Image:
        """The image with one location more, whose key is still to be found. Raises LocationsRefused,
        PolicyRefused, ImageNotFound, StatusConflict, InvalidBody, InvalidValue, LocationRefused,
        ValidationMismatch, QuotaExceeded."""
        self._permit("set_image_location", image, (Status.QUEUED, Status.ACTIVE), "add to")
        shown = by_weight(self._registry, image)
        at = len(shown) if position == "-" else _place(position, len(shown))
        return self._with(image, shown, at, self._given(value))

    def replace(self, image: Image, value: Any) -> Image:
        """The image with other metadata at its locations, or, if it has none, with these. Raises as
        `add`, and LastLocation."""
        self._permit("set_image_location", image, (Status.QUEUED, Status.ACTIVE), "replace")
        if not isinstance(value, list):
            raise InvalidBody("The value of /locations must be a list of locations.")
        given = [self._given(each) for each in value]
        if not given:
            raise LastLocation(image.id)
        if not image.locations:
            for position, each in enumerate(given):
                image = self._with(image, list(image.locations), position, each)
            return image
        left = by_weight(self._registry, image)
        located: list[Location] = []
        for each in given:
            same = next((known for known in left if known.url == each.url), None)
            if same is None:
                raise LocationRefused(
                    "locations are replaced by the same URLs with other metadata; add and remove "
                    "those that change"
                )
            left.remove(same)
            self._refuse_twice(located, each)
            _validate(self._registry, image, each)
            located.append(msgspec.structs.replace(same, metadata=each.metadata))
        if left:
            raise LocationRefused("locations are removed one by one, by their position")
        return msgspec.structs.replace(image, locations=tuple(located))

    def remove(self, image: Image, position: str) -> Image:
        """The image without one of its locations. Raises LocationsRefused, PolicyRefused,
        ImageNotFound, StatusConflict, LocationRefused, LastLocation."""
        self._permit("delete_image_location", image, (Status.ACTIVE,), "remove from")
        shown = by_weight(self._registry, image)
        at = _place(position, len(shown) - 1)
        if len(shown) == 1:
            raise LastLocation(image.id)
        return msgspec.structs.replace(image, locations=(*shown[:at], *shown[at + 1 :]))

    def _permit(self, rule: str, image: Image, statuses: tuple[Status, ...], action: str) -> None:
        if not self._registry.settings.images.show_multiple_locations:
            raise LocationsRefused
        self._registry.policy.check_image(self._actor, rule, self._before)
        if image.status not in statuses:
            raise StatusConflict(image.id, f"{action} the locations of", image.status)

    def _given(self, value: Any) -> Given:
        """The location that a client gives. Raises InvalidBody, InvalidValue."""
        if not isinstance(value, dict) or "url" not in value or "metadata" not in value:
            raise InvalidBody("A location is an object with 'url' and 'metadata'.")
        url = checked_text("url", value["url"], URL_LENGTH_MAX)
        metadata = value["metadata"]
        if not isinstance(metadata, dict):
            raise InvalidValue("metadata", "it must be an object")
        if len(msgspec.json.encode(metadata)) > METADATA_BYTES_MAX:
            raise InvalidValue("metadata", f"more than {METADATA_BYTES_MAX} bytes")
        if self._registry.announces_stores:
            # The service tells it, whatever clients send back.
            metadata = {name: each for name, each in metadata.items() if name != "store"}
        validation = value.get("validation_data")
        if "validation_data" in value:
            validation = checked_validation(validation)
        return Given(url=url, metadata=metadata, validation=validation)

    def _with(self, image: Image, shown: list[Location], at: int, given: Given) -> Image:
        if image.status is Status.QUEUED and None in (image.disk_format, image.container_format):
            raise LocationRefused(
                "disk_format and container_format of the image must be set before its data is"
            )
        self._refuse_twice(shown, given)
        if not self._registry.stores.for_url(given.url, foreign_only=True):
            raise LocationRefused("no store here takes locations of its scheme from users")
        image = _validate(self._registry, image, given)
        self._registry.limits.locations(len(shown) + 1)
        new = Location(store="", key="", url=given.url, metadata=given.metadata)
        if image.status is Status.QUEUED:
            properties = {n: v for n, v in image.properties.items() if n != LAST_ERROR}
            image = msgspec.structs.replace(
                image, status=Status.ACTIVE, virtual_size=None, properties=properties
            )
        return msgspec.structs.replace(image, locations=(*shown[:at], new, *shown[at:]))

    @staticmethod
    def _refuse_twice(located: list[Location], given: Given) -> None:
        if any((each.url, each.metadata) == (given.url, given.metadata) for each in located):
            raise LocationRefused("the image has it already")

    # --- reading ------------------------------------------------------------------------------

    async def settle(self, draft: Image) -> Image:
        """The drafted image with what is behind its new URLs. Raises LocationRefused, UrlRefused,
        FetchFailed, ImageTooLarge, CopyDiffers, StoreUnavailable, StoreFailed."""
        located: list[Location] = []
        size, base = draft.size, by_weight(self._registry, self._before)
        for each in draft.locations:
            if each.key:
                located.append(each)
                continue
            # With a digest on the image, each reading of all of it is held to that.
            store, entry = await self._registry.stores.find_location(
                each.url, foreign_only=True, proves=draft.os_hash_value is None
            )
            new = msgspec.structs.replace(each, store=store.name, key=entry.key)
            if base:
                await self._refuse_other_data(base, new, entry.size_bytes, size)
            else:
                size, base = entry.size_bytes, [new]
            located.append(new)
        return msgspec.structs.replace(draft, size=size, locations=tuple(located))

    async def _refuse_other_data(
        self, base: list[Location], new: Location, size_bytes: int, size: int | None
    ) -> None:
        """Raise CopyDiffers unless the bytes behind the new location are those of the image."""
        if size_bytes != size:
            raise CopyDiffers(new.store, "size", size, size_bytes)
        algorithm, expected = await self._digest_of_image(base)
        found = await self._digest(new, algorithm)
        if found != expected:
            raise CopyDiffers(new.store, algorithm, expected, found)

    async def _digest_of_image(self, base: list[Location]) -> tuple[str, str]:
        image, stores = self._before, self._registry.stores
        if image.checksum and image.os_hash_algo and image.os_hash_value:
            places = {each.store for each in image.locations} & set(stores.names)
            if any(stores.get(name).features.exclusive for name in places):
                # The service has computed both of data in a store of its own; clients may have
                # claimed those of other data.
                return image.os_hash_algo, image.os_hash_value
        failure: TransomError | None = None
        for location in base:
            try:
                return _COMPARED_BY, await self._digest(location, _COMPARED_BY)
            except (TransomError, KeyMissing) as error:
                failure = error if isinstance(error, TransomError) else failure
        if failure is None:
            raise DataNotFound(image.id)
        raise StoreUnavailable("all", "no location of the image can be read") from failure

    async def _digest(self, location: Location, algorithm: str) -> str:
        reader = await self._registry.stores.get(location.store).read(location.key)
        _, digests = await measure(pieces(reader), (algorithm,))
        return digests[algorithm]


def checked_validation(value: Any) -> dict[str, str]:
    """The validation_data of a patch, checked for shape. Raises InvalidBody, InvalidValue."""
    if not isinstance(value, dict):
        raise InvalidBody("'validation_data' must be an object.")
    lengths = {
        "checksum": 32,
        "os_hash_algo": _ALGORITHM_LENGTH_MAX,
        "os_hash_value": _VALUE_LENGTH_MAX,
    }
    for name in value:
        if name not in lengths:
            raise InvalidBody(f"'validation_data' does not have '{name:.64}'.")
    for name in ("os_hash_algo", "os_hash_value"):
        if name not in value:
            raise InvalidBody(f"'validation_data' needs '{name}'.")
    return {name: checked_text(name, text, lengths[name]) for name, text in value.items()}


def _validate(registry: Registry, image: Image, given: Given) -> Image:
    """The image with the digests that the client vouches for. Raises ValidationMismatch."""
    values = given.validation
    if values is None:
        return image
    algorithm = values["os_hash_algo"]
    if image.status is Status.QUEUED and algorithm != registry.settings.images.hash_algorithm:
        raise ValidationMismatch(
            "os_hash_algo", f"must be {registry.settings.images.hash_algorithm}"
        )
    if image.status is not Status.QUEUED:
        for name, text in values.items():
            if getattr(image, name) != text:
                raise ValidationMismatch(name, "is not the image's")
        return image
    for name, kind in (("os_hash_value", algorithm), ("checksum", "md5")):
        if name in values and not is_digest(kind, values[name]):
            raise ValidationMismatch(name, f"is no {kind} in hexadecimal")
    return msgspec.structs.replace(
        image,
        checksum=values.get("checksum"),
        os_hash_algo=algorithm,
        os_hash_value=values["os_hash_value"],
    )


def is_digest(algorithm: str, value: str) -> bool:
    """True for hexadecimal of the length that a known algorithm has."""
    length = hashlib.new(algorithm, usedforsecurity=False).digest_size * 2
    return len(value) == length and all(each in "0123456789abcdefABCDEF" for each in value)


def _place(position: str, last: int) -> int:
    """A position from 0 to `last`. Raises LocationRefused."""
    if not position.isascii() or not position.isdecimal() or len(position) > 9:
        raise LocationRefused(f"'{position:.40}' is no position")
    if int(position) > last:
        raise LocationRefused(f"there is no position {int(position)}")
    return int(position)
