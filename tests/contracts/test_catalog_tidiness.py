"""What the catalog promises to sweeps, restores and examinations, on every database."""

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
from transom.catalog.inventory import KEYS_MAX, NAMING
from transom.catalog.schema import (
    image_locations,
    image_members,
    image_properties,
    image_tags,
    metadata,
)
from transom.catalog.schema import images as images_table
from transom.catalog.task_tables import staged, task_objects, tasks
from transom.errors import (
    ImageChanged,
    ImageNotFound,
    ScrubbingBegan,
    StatusConflict,
)
from transom.model.image import Image, Location, Status
from transom.model.member import Member

SECOND = dt.timedelta(seconds=1)
HOUR = dt.timedelta(hours=1)
LATER = NOON + HOUR


def write(catalog: Catalog, *statements: Any) -> None:
    """Change the tables behind the catalog's back."""

    def work(connection: sa.Connection) -> None:
        for statement in statements:
            connection.execute(statement)

    catalog.engine.write_now(work)


def status_of(catalog: Catalog, image_id: str) -> str:
    """The status in the row, whether anybody can see it or not."""
    statement = sa.select(images_table.c.status).where(images_table.c.id == image_id)
    return str(
        catalog.engine.read_now(lambda connection: connection.execute(statement).scalar_one())
    )


async def in_stores(catalog: Catalog, *stores: str, **attributes: Any) -> Image:
    """An active image of a hundred bytes with an object in each store."""
    image_id = str(uuid.uuid4())
    image = an_image(
        id=image_id,
        status=attributes.pop("status", Status.ACTIVE),
        size=100,
        locations=tuple(a_location(f"{image_id}.{store}", store) for store in stores),
        **attributes,
    )
    await catalog.images.create(image)
    return image


def keys_of(image: Image) -> list[str]:
    return [location.key for location in image.locations]


# --- locations that leave a living image -----------------------------------------------------------


async def test_a_withdrawn_location_is_doomed_and_the_others_stay(catalog: Catalog) -> None:
    image = await in_stores(catalog, "a", "b", "c")
    after = await catalog.images.withdraw(image, [keys_of(image)[1]], now=NOON + SECOND)
    assert keys_of(after) == [keys_of(image)[0], keys_of(image)[2]]
    assert await catalog.images.get(image.id, seen_by=None) == after
    assert after.updated_at == NOON + SECOND
    assert (await catalog.images.usage("mine")).bytes_total == 200
    assert await catalog.images.doomed(10, LATER) == []
    doomed = await catalog.images.doomed(10, LATER, scrub_after_seconds=60)
    assert [(image_id, place.key) for image_id, place in doomed] == [(image.id, keys_of(image)[1])]
    await catalog.images.data_removed(image.id, keys_of(image)[1])
    assert await catalog.images.doomed(10, LATER, scrub_after_seconds=60) == []
    assert await catalog.images.get(image.id, seen_by=None) == after


async def test_a_location_that_a_store_keeps_is_put_back_where_it_was(catalog: Catalog) -> None:
    image = await in_stores(catalog, "a", "b", "c")
    await catalog.images.withdraw(image, [keys_of(image)[1]], now=NOON + SECOND)
    assert await catalog.images.put_back_locations(image.id, [keys_of(image)[1]])
    back = await catalog.images.get(image.id, seen_by=None)
    assert back.locations == image.locations
    assert (await catalog.images.usage("mine")).bytes_total == 300
    assert await catalog.images.doomed(10, LATER, scrub_after_seconds=0) == []


async def test_the_last_location_is_never_withdrawn(catalog: Catalog) -> None:
    image = await in_stores(catalog, "a")
    with pytest.raises(ValueError, match="at least one"):
        await catalog.images.withdraw(image, keys_of(image), now=NOON)
    assert await catalog.images.get(image.id, seen_by=None) == image


async def test_withdrawal_needs_the_locations_and_the_status_that_were_seen(
    catalog: Catalog,
) -> None:
    image = await in_stores(catalog, "a", "b", "c")
    await catalog.images.withdraw(image, [keys_of(image)[0]], now=NOON)
    with pytest.raises(ImageChanged):
        await catalog.images.withdraw(image, [keys_of(image)[1]], now=NOON)
    present = await catalog.images.get(image.id, seen_by=None)
    closed = await catalog.images.replace(
        present, msgspec.structs.replace(present, status=Status.DEACTIVATED)
    )
    with pytest.raises(ImageChanged):
        await catalog.images.withdraw(present, [keys_of(image)[1]], now=NOON)
    renamed = await catalog.images.replace(closed, msgspec.structs.replace(closed, name="other"))
    # What else changed does not matter.
    after = await catalog.images.withdraw(closed, [keys_of(image)[1]], now=NOON)
    assert after.name == renamed.name
    await catalog.images.delete(image.id, now=NOON, delayed=False)
    with pytest.raises(ImageNotFound):
        await catalog.images.withdraw(after, [keys_of(image)[2]], now=NOON)


async def test_of_many_withdrawals_at_once_one_location_is_left(catalog: Catalog) -> None:
    image = await in_stores(catalog, "a", "b")
    outcomes = await asyncio.gather(
        *(catalog.images.withdraw(image, [key], now=NOON) for key in keys_of(image) * 4),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, Image) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, ImageChanged) for outcome in outcomes) == 7
    assert len((await catalog.images.get(image.id, seen_by=None)).locations) == 1


async def test_nothing_is_put_back_on_an_image_that_is_gone(catalog: Catalog) -> None:
    image = await in_stores(catalog, "a", "b")
    await catalog.images.withdraw(image, [keys_of(image)[0]], now=NOON)
    await catalog.images.delete(image.id, now=NOON + SECOND, delayed=False)
    assert not await catalog.images.put_back_locations(image.id, [keys_of(image)[0]])
    assert len(await catalog.images.doomed(10, LATER)) == 2


async def test_what_a_sweep_has_begun_to_remove_is_not_put_back(catalog: Catalog) -> None:
    image = await in_stores(catalog, "a", "b")
    await catalog.images.withdraw(image, [keys_of(image)[0]], now=NOON)
    await catalog.images.doomed(10, LATER, scrub_after_seconds=0)
    assert not await catalog.images.put_back_locations(image.id, [keys_of(image)[0]])
    assert len((await catalog.images.get(image.id, seen_by=None)).locations) == 1


# --- restore ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [Status.ACTIVE, Status.DEACTIVATED])
async def test_a_deleted_image_that_waits_comes_back_as_it_was(
    catalog: Catalog, status: Status
) -> None:
    image = await in_stores(
        catalog, "a", "b", status=status, tags=("t",), properties={"colour": "red"}
    )
    member = Member(image_id=image.id, member_id="theirs", created_at=NOON, updated_at=NOON)
    await catalog.members.add(member, -1)
    await catalog.images.delete(image.id, now=NOON + SECOND, delayed=True)
    [(waiting, places)] = await catalog.images.waiting()
    assert (waiting.id, places) == (image.id, image.locations)
    assert waiting.deleted_at == NOON + SECOND
    back = await catalog.images.undelete(image.id, now=LATER)
    assert back == msgspec.structs.replace(image, updated_at=LATER, revision=image.revision + 2)
    assert await catalog.images.get(image.id, seen_by=None) == back
    assert (await catalog.consistency.flaws())[0] == []
    assert (await catalog.images.usage("mine")).bytes_total == 200
    assert await catalog.images.doomed(10, LATER + HOUR, scrub_after_seconds=0) == []
    assert await catalog.images.waiting() == []


async def test_only_what_waits_for_the_scrubber_is_restored(catalog: Catalog) -> None:
    with pytest.raises(ImageNotFound):
        await catalog.images.undelete(str(uuid.uuid4()), now=NOON)
    living = await in_stores(catalog, "a")
    with pytest.raises(StatusConflict):
        await catalog.images.undelete(living.id, now=NOON)
    await catalog.images.delete(living.id, now=NOON, delayed=False)
    with pytest.raises(StatusConflict):
        await catalog.images.undelete(living.id, now=NOON)
    assert status_of(catalog, living.id) == "deleted"


@pytest.mark.parametrize("removed", [0, 1, 2])
async def test_an_image_that_the_scrubber_has_begun_with_stays_deleted(
    catalog: Catalog, removed: int
) -> None:
    image = await in_stores(catalog, "a", "b", "c")
    await catalog.images.delete(image.id, now=NOON, delayed=True)
    # One at a time: as when the others lie in stores that do not answer.
    for _ in range(max(removed, 1)):
        [(_, place)] = await catalog.images.doomed(1, LATER, scrub_after_seconds=0)
        if removed:
            await catalog.images.data_removed(image.id, place.key)
    with pytest.raises(ScrubbingBegan):
        await catalog.images.undelete(image.id, now=LATER)
    assert status_of(catalog, image.id) == "pending_delete"


async def test_what_was_withdrawn_before_the_deletion_is_not_restored(catalog: Catalog) -> None:
    image = await in_stores(catalog, "a", "b")
    image = await catalog.images.withdraw(image, [keys_of(image)[0]], now=NOON)
    await catalog.images.delete(image.id, now=NOON + SECOND, delayed=True)
    # Nor does its removal make the rest impossible to restore.
    [(_, place)] = await catalog.images.doomed(1, LATER, scrub_after_seconds=3600)
    assert place.store == "a"
    await catalog.images.data_removed(image.id, place.key)
    back = await catalog.images.undelete(image.id, now=LATER)
    assert back.locations == image.locations


async def test_scrubbing_and_restoring_at_once_have_one_winner(catalog: Catalog) -> None:
    for _ in range(5):
        image = await in_stores(catalog, "a", "b", "c")
        await catalog.images.delete(image.id, now=NOON, delayed=True)
        doomed, back = await asyncio.gather(
            catalog.images.doomed(2, LATER, scrub_after_seconds=0),
            catalog.images.undelete(image.id, now=LATER),
            return_exceptions=True,
        )
        if isinstance(back, Image):
            assert doomed == []
            await catalog.images.delete(image.id, now=NOON, delayed=False)
        else:
            assert isinstance(back, ScrubbingBegan)
            assert isinstance(doomed, list)
            assert len(doomed) == 2
        for _, place in await catalog.images.doomed(10, LATER, scrub_after_seconds=0):
            await catalog.images.data_removed(image.id, place.key)
        assert status_of(catalog, image.id) == "deleted"


async def test_doomed_data_in_other_stores_does_not_stand_in_the_way(catalog: Catalog) -> None:
    for _ in range(3):
        lost = await in_stores(catalog, "lost")
        await catalog.images.delete(lost.id, now=NOON, delayed=False)
    there = await in_stores(catalog, "there")
    await catalog.images.delete(there.id, now=NOON + SECOND, delayed=False)
    [(image_id, _)] = await catalog.images.doomed(2, LATER, stores=["there", "also"])
    assert image_id == there.id
    assert await catalog.images.doomed(2, LATER, stores=["also"]) == []


async def test_looking_at_what_is_due_claims_nothing(catalog: Catalog) -> None:
    image = await in_stores(catalog, "a")
    await catalog.images.delete(image.id, now=NOON, delayed=True)
    [(image_id, place)] = await catalog.images.due(10, LATER, scrub_after_seconds=0)
    assert (image_id, place.key) == (image.id, keys_of(image)[0])
    assert (await catalog.images.undelete(image.id, now=LATER)).status == Status.ACTIVE


# --- what is known of the objects in a store ---------------------------------------------------------


def test_every_table_that_names_objects_is_asked() -> None:
    named = {table for table in metadata.sorted_tables if {"store", "key"} <= set(table.c.keys())}
    assert named == set(NAMING)


async def test_objects_are_known_from_before_the_first_byte_until_after_the_last(
    catalog: Catalog,
) -> None:
    known = catalog.inventory.known
    image = an_image()
    await catalog.images.create(image)
    assert await known("main", ["key"]) == frozenset()
    await catalog.images.begin_intake(
        image.id, kind="saving", store="main", key="key", token="t", process_id="p"
    )
    assert await known("main", ["key", "other"]) == {"key"}
    assert await known("second", ["key"]) == frozenset()
    await catalog.images.finish_upload(
        image.id,
        location=Location(store="main", key="key", url="file:///key"),
        size=1,
        virtual_size=None,
        checksum=None,
        os_hash_algo=None,
        os_hash_value=None,
        now=NOON,
    )
    assert await known("main", ["key"]) == {"key"}
    await catalog.images.delete(image.id, now=NOON, delayed=False)
    assert await known("main", ["key"]) == {"key"}
    await catalog.images.doomed(10, LATER)
    assert await known("main", ["key"]) == {"key"}
    await catalog.images.data_removed(image.id, "key")
    assert await known("main", ["key"]) == frozenset()
    assert await known("main", []) == frozenset()


async def test_many_keys_are_asked_about_at_once(catalog: Catalog) -> None:
    image = await in_stores(catalog, "main")
    keys = [f"{number:032x}" for number in range(KEYS_MAX - 1)]
    assert await catalog.inventory.known("main", [*keys, *keys_of(image)]) == set(keys_of(image))


async def test_staged_data_and_objects_of_tasks_are_known(catalog: Catalog) -> None:
    image = an_image(status=Status.UPLOADING)
    await catalog.images.create(image)
    write(
        catalog,
        sa.insert(staged).values(
            image_id=image.id, store="main", key="staged", size_bytes=1, staged_at=NOON
        ),
        sa.insert(task_objects).values(
            store="main", key="written", task_id="t", token="", is_placed=False, created_at=NOON
        ),
    )
    found = await catalog.inventory.known("main", ["staged", "written", "neither"])
    assert found == {"staged", "written"}
    assert await catalog.inventory.stores_named() == {"main": 2}


async def test_stores_are_counted_whatever_names_them(catalog: Catalog) -> None:
    await in_stores(catalog, "a", "b")
    gone = await in_stores(catalog, "a")
    await catalog.images.delete(gone.id, now=NOON, delayed=True)
    assert await catalog.inventory.stores_named() == {"a": 2, "b": 1}


async def test_held_locations_come_in_pages_and_only_of_the_living(catalog: Catalog) -> None:
    living = [await in_stores(catalog, "a", "b") for _ in range(3)]
    gone = await in_stores(catalog, "a")
    await catalog.images.delete(gone.id, now=NOON, delayed=True)
    found, after = [], 0
    while page := await catalog.inventory.held(after=after, limit=4):
        found += [held.location.key for held in page]
        after = page[-1].number
        assert {held.size_bytes for held in page} == {100}
    assert found == [key for image in living for key in keys_of(image)]


# --- images that nobody works on ----------------------------------------------------------------------


@pytest.mark.parametrize("status", [Status.SAVING, Status.UPLOADING, Status.IMPORTING])
async def test_an_image_that_nobody_works_on_is_stuck_and_put_back(
    catalog: Catalog, status: Status
) -> None:
    image = await in_stores(catalog, "a", status=status, checksum="c" * 32)
    assert await catalog.inventory.stuck(now=NOON + 59 * SECOND) == []
    [stuck] = await catalog.inventory.stuck(now=NOON + 60 * SECOND)
    assert (stuck.image_id, stuck.status) == (image.id, str(status))
    assert await catalog.inventory.unstick(image.id, now=LATER)
    assert not await catalog.inventory.unstick(image.id, now=LATER)
    back = await catalog.images.get(image.id, seen_by=None)
    assert (back.status, back.size, back.checksum, back.locations) == (
        Status.QUEUED,
        None,
        None,
        (),
    )
    doomed = await catalog.images.doomed(10, LATER + HOUR, scrub_after_seconds=0)
    assert [place.key for _, place in doomed] == keys_of(image)
    assert (await catalog.consistency.flaws())[0] == []


@pytest.mark.parametrize("worker", ["intake", "staged", "task"])
async def test_an_image_that_is_worked_on_is_not_stuck(catalog: Catalog, worker: str) -> None:
    image = an_image()
    await catalog.images.create(image)
    if worker == "intake":
        await catalog.images.begin_intake(
            image.id, kind="saving", store="main", key="k", token="t", process_id="p"
        )
    else:
        write(
            catalog,
            sa.update(images_table).values(status="uploading"),
            sa.insert(staged).values(
                image_id=image.id, store="main", key="k", size_bytes=1, staged_at=NOON
            )
            if worker == "staged"
            else a_task(image.id, "processing"),
        )
    later = dt.datetime.now(dt.UTC) + HOUR
    assert await catalog.inventory.stuck(now=later) == []
    assert not await catalog.inventory.unstick(image.id, now=later)


async def test_a_task_that_has_ended_works_on_nothing(catalog: Catalog) -> None:
    image = an_image(status=Status.IMPORTING)
    await catalog.images.create(image)
    write(catalog, a_task(image.id, "failure"))
    assert [each.image_id for each in await catalog.inventory.stuck(now=LATER)] == [image.id]


def a_task(image_id: str, status: str) -> sa.Insert:
    """A task of an image."""
    return sa.insert(tasks).values(
        id=str(uuid.uuid4()),
        type="api_image_import",
        status=status,
        image_id=image_id,
        input="{}",
        message="",
        created_at=NOON,
        updated_at=NOON,
        expires_at=LATER if status == "failure" else None,
        attempt=1,
        is_cancelled=False,
        phase="",
        done_bytes=0,
        rate_bytes=0,
        notes="{}",
    )


# --- rows that disagree --------------------------------------------------------------------------------


async def furnished(catalog: Catalog) -> Image:
    """An image with everything around it."""
    image = await in_stores(
        catalog, "a", "b", tags=("one", "two"), properties={"colour": "red", "none": None}
    )
    member = Member(image_id=image.id, member_id="theirs", created_at=NOON, updated_at=NOON)
    await catalog.members.add(member, -1)
    return image


async def test_what_the_catalog_wrote_itself_has_no_flaws(catalog: Catalog) -> None:
    images = [await furnished(catalog) for _ in range(5)]
    changed = await catalog.images.get(images[0].id, seen_by=None)
    await catalog.images.replace(
        changed, msgspec.structs.replace(changed, tags=("three",), os_hidden=True, properties={})
    )
    await catalog.images.delete(images[1].id, now=LATER, delayed=True)
    await catalog.images.delete(images[2].id, now=LATER, delayed=False)
    found, after, pages = [], "", 0
    while True:
        flaws, after = await catalog.consistency.flaws(after=after, limit=2)
        found += flaws
        if not after:
            break
        pages += 1
    assert found == []
    assert pages == 3


DAMAGES: dict[str, tuple[str, Any]] = {
    "a tag is lost": ("tags", sa.delete(image_tags).where(image_tags.c.tag == "one")),
    "a tag is hidden": ("tags", sa.update(image_tags).values(shelf=1)),
    "a property is lost": ("properties", sa.delete(image_properties)),
    "a property differs": ("properties", sa.update(image_properties).values(digest=b"x" * 16)),
    "a member is shelved wrongly": ("members", sa.update(image_members).values(shelf=3)),
    "copies are miscounted": ("copies", sa.update(images_table).values(copies=7)),
    "copying is wrong": ("copies", sa.update(images_table).values(copying=True)),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_rows_that_disagree_are_found_and_made_to_agree(
    catalog: Catalog, damage: str
) -> None:
    part, statement = DAMAGES[damage]
    image = await furnished(catalog)
    write(catalog, statement)
    flaws, _ = await catalog.consistency.flaws()
    assert [(flaw.image_id, flaw.part) for flaw in flaws] == [(image.id, part)]
    assert await catalog.consistency.confirm(image.id) == [part]
    assert await catalog.consistency.mend(image.id) == [part]
    assert (await catalog.consistency.flaws())[0] == []
    assert await catalog.images.get(image.id, seen_by=None) == image


async def test_locations_that_disagree_are_left_to_who_can_see_the_stores(
    catalog: Catalog,
) -> None:
    image = await furnished(catalog)
    write(catalog, sa.delete(image_locations).where(image_locations.c.store == "b"))
    assert await catalog.consistency.confirm(image.id) == ["locations"]
    assert await catalog.consistency.mend(image.id) == []
    shown, rows = await catalog.consistency.locations(image.id)
    assert (shown, rows) == (image.locations, image.locations[:1])
    assert await catalog.consistency.set_locations(image.id, image.locations)
    assert (await catalog.consistency.flaws())[0] == []
    assert (await catalog.images.get(image.id, seen_by=None)).locations == image.locations


async def test_a_living_location_of_a_dead_image_is_found_and_doomed(catalog: Catalog) -> None:
    image = await furnished(catalog)
    await catalog.images.delete(image.id, now=NOON, delayed=False)
    write(catalog, sa.update(image_locations).values(status="active", doomed_at=None))
    flaws, _ = await catalog.consistency.flaws()
    assert [flaw.part for flaw in flaws] == ["locations"]
    assert await catalog.consistency.doom_locations(image.id, now=NOON) == 2
    assert (await catalog.consistency.flaws())[0] == []
    assert len(await catalog.images.doomed(10, LATER)) == 2
    living = await furnished(catalog)
    assert await catalog.consistency.doom_locations(living.id, now=NOON) == 0
