"""Do the rows around the images say what the images' own rows say?"""

from __future__ import annotations

from collections.abc import AsyncIterator

from transom.catalog.consistency import Part
from transom.doctor.finding import Finding, Wishes
from transom.errors import ImageNotFound, TransomError
from transom.images.clock import now
from transom.model.image import Location
from transom.registry import Registry
from transom.stores.store import KeyMissing

_SAYS: dict[Part, str] = {
    "tags": "Filters find the image by other tags than it shows.",
    "properties": "Filters find the image by other properties than it shows.",
    "members": "The members' rows do not fit the image: lists may hide or show it wrongly.",
    "copies": "The number of copies is wrong, and with it what the project uses.",
    "locations": "The image's row and the rows of its locations name different objects.",
}
_MENDED = "The rows are made anew from the image."


async def look(registry: Registry, wishes: Wishes) -> AsyncIterator[Finding]:
    """A problem for each part of an image that disagrees. Tags, properties, members and numbers
    follow the image's row; locations are mended only where every object is there and whole."""
    consistency = registry.catalog.consistency
    after = ""
    while True:
        flaws, after = await consistency.flaws(after=after)
        for image_id in dict.fromkeys(flaw.image_id for flaw in flaws):
            # Changed while it was read, it may have looked wrong.
            wrong = await consistency.confirm(image_id)
            mended = await _mend(registry, image_id, wrong) if wishes.repair else set()
            for part in wrong:
                advice = _MENDED if part in mended else _advice(part)
                yield Finding(
                    check="rows",
                    image_id=image_id,
                    says=f"{_SAYS[part]} {advice}",
                    is_mended=part in mended,
                )
        if not after:
            return


def _advice(part: Part) -> str:
    if part == "locations":
        return "`--repair` makes them agree if every object is there and whole."
    return "`--repair` makes them agree."


async def _mend(registry: Registry, image_id: str, wrong: list[Part]) -> set[Part]:
    mended: set[Part] = set()
    if "locations" in wrong and await _mend_locations(registry, image_id):
        mended.add("locations")
    if set(wrong) - {"locations"}:
        mended |= set(await registry.catalog.consistency.mend(image_id))
    return mended


async def _mend_locations(registry: Registry, image_id: str) -> bool:
    consistency = registry.catalog.consistency
    try:
        image = await registry.catalog.images.get(image_id, seen_by=None)
    except ImageNotFound:
        return await consistency.doom_locations(image_id, now=now()) > 0
    shown, rows = await consistency.locations(image_id)
    every = list({(place.store, place.key): place for place in (*shown, *rows)}.values())
    if image.size is None or not every:
        return False
    for place in every:
        if not await _is_whole(registry, place, image.size):
            return False
    return await consistency.set_locations(image_id, every)


async def _is_whole(registry: Registry, place: Location, size_bytes: int) -> bool:
    try:
        entry = await registry.stores.get(place.store).stat(place.key)
    except (KeyMissing, TransomError):
        return False
    return entry.size_bytes == size_bytes
