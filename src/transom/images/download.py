"""Give out the data of an image, whole or in part (API §9.2)."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Self, cast

import structlog

from transom.errors import (
    DataNotFound,
    ImageDeactivated,
    InvalidQuery,
    PartsRefused,
    StoreUnavailable,
    TransomError,
)
from transom.events.payloads import sent_notice
from transom.model.actor import Actor
from transom.model.image import Image, Location, Status
from transom.registry import Registry
from transom.stores.proven import ProvenReader
from transom.stores.store import KeyMissing, LinkingStore, Reader, Store

_log = structlog.get_logger(__name__)


async def find_data(registry: Registry, actor: Actor, image_id: str) -> Image:
    """The image, if the caller may read its data; it has none when `locations` is empty.

    Raises ImageNotFound, PolicyRefused, ImageDeactivated.
    """
    image = await registry.catalog.images.get(image_id, seen_by=actor)
    if image.status is Status.DEACTIVATED and not actor.is_admin:
        registry.policy.check_image(actor, "get_image", image)
        raise ImageDeactivated(image_id)
    registry.policy.check_image(actor, "download_image", image)
    return image


async def tell_sent(
    registry: Registry, actor: Actor, image: Image, *, sent_bytes: int, expected_bytes: int
) -> None:
    """Tell that the caller was sent so much of the data."""
    await registry.events.tell(
        sent_notice(
            image,
            sent_bytes=sent_bytes,
            expected_bytes=expected_bytes,
            project=actor.project_id,
            user=actor.user_id,
        )
    )


def preferred_stores(
    registry: Registry, actor: Actor, image: Image, names: Sequence[str]
) -> tuple[str, ...]:
    """The stores that the caller wants the data from, if it may choose (API §9.2).

    Raises PolicyRefused, ImageNotFound, and InvalidQuery for a store that is not configured or
    where there is no choice.
    """
    if not names:
        return ()
    if not registry.announces_stores:
        raise InvalidQuery("prefer", "there is one store only; leave the parameter out.")
    registry.policy.check_image(actor, "download_from_store", image)
    for name in names:
        if name not in registry.stores.names:
            known = ", ".join(registry.stores.names)
            raise InvalidQuery("prefer", f"there is no store '{name}'; use some of {known}.")
    return tuple(names)


async def open_data(
    registry: Registry,
    image: Image,
    *,
    offset: int = 0,
    length: int | None = None,
    prefer: Sequence[str] = (),
) -> Reader:
    """A Reader of the image's bytes from the best store that can give them now.

    Stores in `prefer` are tried first, in that order, then the others by weight, highest first; one
    that fails before its first byte gives way to the next. Raises DataNotFound when no store has
    the data, StoreUnavailable when one may have it later, PartsRefused when none can give less than
    all of it.
    """
    failure: TransomError | None = None
    refusal: PartsRefused | None = None
    for location in _in_order(registry, image, prefer):
        try:
            store = registry.stores.get(location.store)
            if store.features.exclusive:
                reader = await store.read(location.key, offset=offset, length=length)
            else:
                reader = await _proven(store, location, image, offset, length)
            return await _begun(reader)
        except KeyMissing:
            _log.error("image.data_missing", image_id=image.id, store=location.store)
        except PartsRefused as refused:
            refusal = refused
        except TransomError as error:
            _log.warning("image.store_failed", image_id=image.id, reason=str(error))
            failure = error
    if failure is None:
        raise refusal or DataNotFound(image.id)
    raise StoreUnavailable("all", "no location of the image can be read") from failure


async def link_to_data(
    registry: Registry, image: Image, *, prefer: Sequence[str] = ()
) -> str | None:
    """A URL at which whoever has it can read the image's bytes for a short time, from the store that
    `open_data` would try first; None when that store gives out none, or cannot now. With a cache
    reads go through it, so there is none either. Decision 112."""
    if registry.cache is not None or not image.size:
        return None
    for location in _in_order(registry, image, prefer)[:1]:
        try:
            store = registry.stores.get(location.store)
            if store.features.links:
                return await cast("LinkingStore", store).link(location.key)
        except KeyMissing:
            _log.error("image.data_missing", image_id=image.id, store=location.store)
        except TransomError as error:
            _log.warning("image.store_failed", image_id=image.id, reason=str(error))
    return None


async def _proven(
    store: Store, location: Location, image: Image, offset: int, length: int | None
) -> Reader:
    """A Reader of data that others can change. Of the whole, the last piece comes only when the
    digest of all is the image's; a part rests on the server's validator (decision 85)."""
    is_whole = offset == 0 and (length is None or length >= (image.size or 0))
    if not is_whole:
        return await store.read(location.key, offset=offset, length=length)
    expected = digest_of(image)
    if expected is None and not store.proves(location.key):
        raise StoreUnavailable(store.name, "nothing is known yet to check the data by")
    reader = await store.read(location.key)
    if expected is None:
        return reader
    algorithm, value = expected
    return ProvenReader(reader, store=store.name, algorithm=algorithm, expected=value)


async def pieces(reader: Reader) -> AsyncIterator[bytes]:
    """All that the reader gives; it is closed at the end."""
    try:
        async for piece in reader:
            yield piece
    finally:
        await reader.close()


def digest_of(image: Image) -> tuple[str, str] | None:
    """The stronger of the image's digests that this Python can compute."""
    algorithm, value = image.os_hash_algo, image.os_hash_value
    if algorithm and value and algorithm in hashlib.algorithms_available:
        return algorithm, value
    return ("md5", image.checksum) if image.checksum else None


def _in_order(registry: Registry, image: Image, prefer: Sequence[str]) -> list[Location]:
    locations = by_weight(registry, image)
    if prefer:
        rank = {name: position for position, name in reversed(list(enumerate(prefer)))}
        locations.sort(key=lambda location: rank.get(location.store, len(prefer)))
    return locations


async def _begun(reader: Reader) -> Reader:
    """The reader, after its first piece was there. Raises what the first piece raised."""
    pieces = aiter(reader)
    try:
        first = await anext(pieces, None)
    except BaseException:
        await reader.close()
        raise
    return _BegunReader(reader, pieces, first)


class _BegunReader:
    """A Reader whose first piece has been read already."""

    __slots__ = ("_first", "_pieces", "_reader")

    def __init__(self, reader: Reader, pieces: AsyncIterator[bytes], first: bytes | None) -> None:
        self._reader = reader
        self._pieces = pieces
        self._first = first

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        first, self._first = self._first, None
        return await anext(self._pieces) if first is None else first

    async def close(self) -> None:
        """Free what the reader holds."""
        await self._reader.close()


def by_weight(registry: Registry, image: Image) -> list[Location]:
    """The image's locations, those in stores of higher weight first."""
    if len(image.locations) < 2:
        return list(image.locations)
    weight = registry.stores.weight
    return sorted(image.locations, key=lambda location: -weight(location.store))
