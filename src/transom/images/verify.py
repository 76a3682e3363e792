"""Look at the data of a location: is it there, and is it what was uploaded?"""

from __future__ import annotations

import asyncio
import hashlib

from transom.catalog.inventory import Held
from transom.errors import ImageNotFound, TransomError
from transom.images.intake import CHECKSUM
from transom.registry import Registry
from transom.stores.store import KeyMissing, Reader


async def verify(registry: Registry, held: Held) -> str:
    """What is wrong with the data of a location, as a sentence; empty when its digests are those of
    the image. An image without any digest has nothing to compare."""
    wanted = {
        algorithm: value
        for algorithm, value in (
            (CHECKSUM, held.checksum),
            (held.os_hash_algo, held.os_hash_value),
        )
        if algorithm and value
    }
    if not wanted:
        return ""
    place = held.location
    try:
        reader = await registry.stores.get(place.store).read(place.key)
        found = await _digests(reader, list(wanted))
    except KeyMissing:
        return "The object is missing."
    except TransomError as error:
        return f"The object cannot be read: {error}"
    for algorithm, value in wanted.items():
        if found[algorithm] != value:
            return (
                f"The data is not what was uploaded: its {algorithm} is {found[algorithm]}, "
                f"the image's {value}. Restore the object from a backup, or delete this location."
            )
    return ""


async def is_living(registry: Registry, held: Held) -> bool:
    """Whether the location still is one: it may have been deleted since it was read."""
    try:
        image = await registry.catalog.images.get(held.image_id, seen_by=None)
    except ImageNotFound:
        return False
    return any(place.key == held.location.key for place in image.locations)


async def _digests(reader: Reader, algorithms: list[str]) -> dict[str, str]:
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    try:
        async for piece in reader:
            # In threads of their own: hashlib lets go of the interpreter.
            await asyncio.gather(
                *(asyncio.to_thread(each.update, piece) for each in hashes.values())
            )
    finally:
        await reader.close()
    return {name: each.hexdigest() for name, each in hashes.items()}
