"""What the catalog promises about locations that are given to images, on every database."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from tests.support.catalogs import NOON, a_location, an_image
from transom.catalog import Catalog
from transom.catalog.schema import image_locations
from transom.errors import (
    ImageChanged,
    ImageDeletedMeanwhile,
    ImageLocked,
    ImageNotFound,
    LocationRefused,
    QuotaExceeded,
    StatusConflict,
    TaskCancelled,
    TaskLost,
)
from transom.model.image import Image, Location, Status
from transom.model.limit import BytesLimit
from transom.model.task import Facts, Task, TaskType

LATER = NOON + dt.timedelta(hours=1)
FACTS = Facts(
    size=100, virtual_size=200, checksum="c" * 32, os_hash_algo="sha512", os_hash_value="h" * 128
)
CLAIMED = Facts(
    size=100, virtual_size=None, checksum=None, os_hash_algo="sha512", os_hash_value=None
)


def room(bytes_max: int) -> tuple[BytesLimit, ...]:
    return (BytesLimit(name="image_size_total", bytes_max=bytes_max, counts="stored"),)


async def held(catalog: Catalog, *keys: str, **attributes: Any) -> Image:
    """An image with data at these keys, or a queued one."""
    image = an_image(**attributes)
    if keys:
        image = msgspec.structs.replace(
            image,
            status=Status.ACTIVE,
            locations=tuple(a_location(key) for key in keys),
            **msgspec.structs.asdict(FACTS),
        )
    await catalog.images.create(image)
    return image


def located(image: Image, *locations: Location) -> Image:
    """What a patch makes of it."""
    return msgspec.structs.replace(image, locations=locations, updated_at=LATER)


async def of(catalog: Catalog, image: Image) -> Image:
    return await catalog.images.get(image.id, seen_by=None)


def rows(catalog: Catalog, image: Image) -> list[tuple[str, str]]:
    """Key and status of the rows of its locations, in the order of their keys."""
    question = (
        sa.select(image_locations.c.key, image_locations.c.status)
        .where(image_locations.c.image_id == image.id)
        .order_by(image_locations.c.key)
    )
    return catalog.engine.read_now(
        lambda connection: [(row.key, row.status) for row in connection.execute(question)]
    )


def a_task(image: Image, **fields: Any) -> Task:
    """A task that waits, and is to give the image its first location."""
    defaults: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "type": TaskType.LOCATION_IMPORT,
        "owner": "mine",
        "image_id": image.id,
        "created_at": NOON,
        "updated_at": NOON,
    }
    return Task(**defaults | fields)


async def begun(catalog: Catalog, image: Image) -> Task:
    """The task, worked on."""
    task = a_task(image)
    await catalog.locations.begin(task)
    mine = await catalog.tasks.claim(task.id, "process", LATER)
    assert mine is not None
    return mine


async def take(
    catalog: Catalog, task: Task, location: Location | None = None, **options: Any
) -> Image:
    given: dict[str, Any] = {"is_exclusive": False, "limits": (), "now": LATER} | options
    facts = given.pop("facts", CLAIMED)
    place = location or a_location()
    return await catalog.locations.take(task, task.image_id or "", place, facts, **given)


# --- patches --------------------------------------------------------------------------------------


async def test_a_location_more_is_kept_in_its_order(catalog: Catalog) -> None:
    image = await held(catalog, "b")
    extra = a_location("a", "web")

    made = await catalog.locations.relocate(
        image, located(image, extra, *image.locations), limits=(), now=LATER
    )

    assert made == await of(catalog, image)
    assert [each.key for each in made.locations] == ["a", "b"]
    assert made.revision == image.revision + 1
    assert rows(catalog, image) == [("a", "active"), ("b", "active")]


async def test_a_location_that_leaves_is_marked_for_removal(catalog: Catalog) -> None:
    image = await held(catalog, "a", "b")

    made = await catalog.locations.relocate(
        image, located(image, image.locations[1]), limits=(), now=LATER
    )

    assert [each.key for each in made.locations] == ["b"]
    assert rows(catalog, image) == [("a", "pending_delete"), ("b", "active")]


async def test_an_image_that_changed_meanwhile_is_left_as_it_is(catalog: Catalog) -> None:
    image = await held(catalog, "a", "b")
    await catalog.locations.relocate(
        image, located(image, *reversed(image.locations)), limits=(), now=LATER
    )

    with pytest.raises(ImageChanged):
        await catalog.locations.relocate(
            image, located(image, image.locations[0]), limits=(), now=LATER
        )

    assert rows(catalog, image) == [("a", "active"), ("b", "active")]


async def test_an_image_that_is_gone_gets_no_location(catalog: Catalog) -> None:
    image = await held(catalog, "a")
    await catalog.images.delete(image.id, now=LATER, delayed=False)

    with pytest.raises(ImageNotFound):
        await catalog.locations.relocate(
            image, located(image, *image.locations, a_location("b")), limits=(), now=LATER
        )
    with pytest.raises(ImageNotFound):
        await catalog.locations.begin(a_task(image))


async def test_every_location_counts_for_the_project(catalog: Catalog) -> None:
    image = await held(catalog, "a")
    both = located(image, *image.locations, a_location("b"))

    with pytest.raises(QuotaExceeded):
        await catalog.locations.relocate(image, both, limits=room(199), now=LATER)
    assert rows(catalog, image) == [("a", "active")]
    made = await catalog.locations.relocate(image, both, limits=room(200), now=LATER)

    # What makes it less is never too much.
    left = msgspec.structs.replace(made, locations=made.locations[:1])
    await catalog.locations.relocate(made, left, limits=room(1), now=LATER)


# --- tasks ----------------------------------------------------------------------------------------


async def test_a_queued_image_becomes_the_tasks_and_then_its_users(catalog: Catalog) -> None:
    image = await held(catalog)
    task = await begun(catalog, image)
    assert (await of(catalog, image)).status is Status.IMPORTING

    taken = await take(catalog, task)

    assert taken == await of(catalog, image)
    assert taken.status is Status.ACTIVE
    assert (taken.size, taken.os_hash_algo, taken.os_hash_value) == (100, "sha512", None)
    assert taken.properties == {}
    assert rows(catalog, image) == [("key", "active")]
    assert await take(catalog, task) == taken


async def test_an_image_has_one_task_at_a_time(catalog: Catalog) -> None:
    image = await held(catalog)
    await begun(catalog, image)
    with pytest.raises(StatusConflict):
        await catalog.locations.begin(a_task(image))

    copied = await held(catalog, "a")
    with pytest.raises(StatusConflict):
        await catalog.locations.begin(a_task(copied))


async def test_of_many_that_begin_at_once_one_does(catalog: Catalog) -> None:
    image = await held(catalog)
    tasks = [a_task(image) for _ in range(6)]

    ends = await asyncio.gather(
        *(catalog.locations.begin(task) for task in tasks), return_exceptions=True
    )

    made = [end for end in ends if isinstance(end, Image)]
    refused = [end for end in ends if isinstance(end, StatusConflict | ImageLocked)]
    assert (len(made), len(refused)) == (1, 5)
    assert len(await catalog.tasks.unfinished()) == 1


async def test_a_task_that_lost_its_image_takes_nothing(catalog: Catalog) -> None:
    image = await held(catalog)
    task = await begun(catalog, image)
    again = await catalog.tasks.claim(task.id, "another process", LATER)
    assert again is not None
    with pytest.raises(TaskLost):
        await take(catalog, task)

    await catalog.tasks.cancel(task.id)
    with pytest.raises(TaskCancelled):
        await take(catalog, again)

    await catalog.images.delete(image.id, now=LATER, delayed=False)
    with pytest.raises(ImageDeletedMeanwhile):
        await take(catalog, again)
    assert rows(catalog, image) == []


async def test_an_object_of_a_store_of_ours_belongs_to_one_image(catalog: Catalog) -> None:
    await held(catalog, "taken")
    task = await begun(catalog, await held(catalog))

    with pytest.raises(LocationRefused):
        await take(catalog, task, a_location("taken"), is_exclusive=True)
    # The key of one store is nothing to another, and what is not ours may be many images'.
    taken = await take(catalog, task, a_location("taken", "web"), is_exclusive=True)
    assert taken.status is Status.ACTIVE
    other = await begun(catalog, await held(catalog))
    assert (await take(catalog, other, a_location("taken"))).status is Status.ACTIVE


async def test_of_two_images_that_take_one_object_at_once_one_gets_it(catalog: Catalog) -> None:
    for number in range(5):
        tasks = [await begun(catalog, await held(catalog)) for _ in range(4)]
        place = a_location(f"object-{number}")

        ends = await asyncio.gather(
            *(take(catalog, task, place, is_exclusive=True) for task in tasks),
            return_exceptions=True,
        )

        assert sum(isinstance(end, Image) for end in ends) == 1
        assert sum(isinstance(end, LocationRefused) for end in ends) == 3


async def test_what_a_task_takes_is_within_the_projects_limit(catalog: Catalog) -> None:
    image = await held(catalog)
    task = await begun(catalog, image)
    with pytest.raises(QuotaExceeded):
        await take(catalog, task, limits=room(99))
    assert (await of(catalog, image)).status is Status.IMPORTING
    assert (await take(catalog, task, limits=room(100))).status is Status.ACTIVE


async def test_digests_are_told_once(catalog: Catalog) -> None:
    image = await held(catalog)
    task = await begun(catalog, image)
    await take(catalog, task)

    told = await catalog.locations.tell_digests(task, image.id, FACTS, now=LATER)
    assert (told.checksum, told.os_hash_value) == (FACTS.checksum, FACTS.os_hash_value)
    other = msgspec.structs.replace(FACTS, os_hash_value="0" * 128)
    assert await catalog.locations.tell_digests(task, image.id, other, now=LATER) == told
    assert await of(catalog, image) == told
