"""What the catalog promises, on every database: images, members, intakes, leases, the engine."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from tests.support.catalogs import DIALECTS, NOON, a_location, an_image, fresh_url
from tests.support.postgres import Cluster
from transom.catalog import Catalog
from transom.catalog.engine import Engine
from transom.catalog.images import insert
from transom.catalog.processes import clock
from transom.catalog.schema import (
    image_locations,
    image_members,
    image_properties,
    image_tags,
    processes,
)
from transom.catalog.schema import images as images_table
from transom.errors import (
    CatalogUnavailable,
    DuplicateImage,
    DuplicateMember,
    ImageChanged,
    ImageDeletedMeanwhile,
    ImageNotFound,
    ImageProtected,
    InvalidValue,
    MemberNotFound,
    QuotaExceeded,
    StatusConflict,
)
from transom.model.actor import Actor
from transom.model.image import TRANSITIONS, Image, Location, Status, Visibility
from transom.model.limit import BytesLimit, CountLimit
from transom.model.member import Member, MemberStatus
from transom.model.query import ImageQuery

ME = Actor(project_id="mine")
STRANGER = Actor(project_id="theirs")
ADMIN = Actor(project_id="admins", is_admin=True)
SECOND = dt.timedelta(seconds=1)


@pytest.fixture(params=DIALECTS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with the schema and nothing in it."""
    return fresh_url(request.param, tmp_path)


@pytest.fixture
def catalog(url: str) -> Iterator[Catalog]:
    """A catalog without images."""
    opened = Catalog(Engine(url))
    yield opened
    opened.close()


async def uploading(catalog: Catalog, key: str = "key", **attributes: Any) -> Image:
    """An image whose upload is under way."""
    fresh = an_image(**attributes)
    await catalog.images.create(fresh)
    return await catalog.images.begin_intake(
        fresh.id, kind="saving", store="main", key=key, token="token", process_id="process"
    )


async def finished(catalog: Catalog, of: Image, key: str = "key", size: int = 100) -> Image:
    """The image after its upload."""
    return await catalog.images.finish_upload(
        of.id,
        location=a_location(key),
        size=size,
        virtual_size=2 * size,
        checksum="c" * 32,
        os_hash_algo="sha512",
        os_hash_value="h" * 128,
        now=NOON + SECOND,
    )


async def uploaded(catalog: Catalog, key: str = "key", size: int = 100, **attributes: Any) -> Image:
    """An active image."""
    return await finished(catalog, await uploading(catalog, key, **attributes), key, size)


def a_member(of: Image, project: str = "theirs", **attributes: Any) -> Member:
    """A membership that was just offered."""
    defaults: dict[str, Any] = {"created_at": NOON, "updated_at": NOON}
    return Member(image_id=of.id, member_id=project, **defaults | attributes)


def count(catalog: Catalog, table: sa.Table) -> int:
    """Rows of a table."""
    return catalog.engine.read_now(
        lambda connection: connection.execute(
            sa.select(sa.func.count()).select_from(table)
        ).scalar_one()
    )


# --- create and get --------------------------------------------------------------------------------


async def test_an_image_comes_back_as_it_was_created(catalog: Catalog) -> None:
    given = an_image(
        id="ABCDEF00-0000-4000-8000-00000000000a",
        name="Ünïcode 🚀",
        created_at=NOON + dt.timedelta(microseconds=1),
        updated_at=NOON + dt.timedelta(microseconds=999_999),
        status=Status.ACTIVE,
        size=2**63 - 1,
        virtual_size=0,
        checksum="c" * 32,
        os_hash_algo="sha512",
        os_hash_value="h" * 128,
        os_hidden=True,
        protected=True,
        min_disk=2147483647,
        min_ram=2147483647,
        properties={"kernel_id": None, "": "", "quote'\"\\": "a\nb\t\u2028", "long": "x" * 100_000},
        tags=("b", "a", "ß"),
        locations=(
            Location(store="main", key="k", url="file:///k", metadata={"n": [1, {"x": None}]}),
        ),
    )
    await catalog.images.create(given)
    assert await catalog.images.get(given.id, seen_by=None) == given


async def test_tags_are_a_set(catalog: Catalog) -> None:
    given = an_image(tags=("b", "a", "b"))
    await catalog.images.create(given)
    assert (await catalog.images.get(given.id, seen_by=ME)).tags == ("b", "a")


async def test_an_unknown_id_is_not_found(catalog: Catalog) -> None:
    for unknown in (str(uuid.uuid4()), "", "no uuid", "🚀", "nul\0", "\ud800"):
        with pytest.raises(ImageNotFound):
            await catalog.images.get(unknown, seen_by=ADMIN)


async def test_ids_are_compared_with_their_case(catalog: Catalog) -> None:
    lower = an_image(id="abcdef00-0000-4000-8000-000000000000")
    await catalog.images.create(lower)
    with pytest.raises(ImageNotFound):
        await catalog.images.get(lower.id.upper(), seen_by=ME)


async def test_an_id_in_use_is_refused_also_when_the_caller_cannot_see_it(catalog: Catalog) -> None:
    theirs = an_image(owner="theirs")
    await catalog.images.create(theirs)
    with pytest.raises(DuplicateImage):
        await catalog.images.create(an_image(id=theirs.id))


@pytest.mark.parametrize("delayed", [False, True])
async def test_an_id_is_burnt_by_deletion(catalog: Catalog, delayed: bool) -> None:
    gone = await uploaded(catalog)
    await catalog.images.delete(gone.id, now=NOON, delayed=delayed)
    with pytest.raises(DuplicateImage):
        await catalog.images.create(an_image(id=gone.id))


async def test_a_refused_creation_leaves_nothing_behind(catalog: Catalog) -> None:
    first = an_image()
    await catalog.images.create(first)
    with pytest.raises(DuplicateImage):
        await catalog.images.create(an_image(id=first.id, tags=("t",), properties={"a": "b"}))
    assert count(catalog, image_tags) == count(catalog, image_properties) == 0
    assert await catalog.images.get(first.id, seen_by=ME) == first


@pytest.mark.parametrize(
    "bad",
    [
        {"name": "a\0b"},
        {"tags": ("a\0b",)},
        {"properties": {"a\0b": "c"}},
        {"properties": {"a": "b\0c"}},
        {"owner": "\0"},
        {"name": "\ud800"},
    ],
    ids=repr,
)
async def test_text_that_no_database_holds_is_refused(catalog: Catalog, bad: Any) -> None:
    with pytest.raises(InvalidValue):
        await catalog.images.create(an_image(**bad))
    assert count(catalog, images_table) == 0


async def test_of_many_creations_of_one_id_exactly_one_succeeds(catalog: Catalog) -> None:
    one_id = str(uuid.uuid4())
    outcomes = await asyncio.gather(
        *(catalog.images.create(an_image(id=one_id, name=str(n))) for n in range(20)),
        return_exceptions=True,
    )
    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, DuplicateImage) for outcome in outcomes) == 19


@pytest.mark.parametrize("visibility", list(Visibility))
@pytest.mark.parametrize("owner", ["mine", "theirs", None])
@pytest.mark.parametrize(
    "actor", [ME, Actor(), ADMIN, None], ids=["project", "no-project", "admin", "anyone"]
)
async def test_who_may_be_shown_an_image(
    catalog: Catalog, visibility: Visibility, owner: str | None, actor: Actor | None
) -> None:
    shown = an_image(visibility=visibility, owner=owner)
    await catalog.images.create(shown)
    is_open = visibility in (Visibility.PUBLIC, Visibility.COMMUNITY) or (
        owner is None and visibility is not Visibility.PRIVATE
    )
    if actor is None or actor.is_admin or is_open or (actor is ME and owner == "mine"):
        assert await catalog.images.get(shown.id, seen_by=actor) == shown
    else:
        with pytest.raises(ImageNotFound):
            await catalog.images.get(shown.id, seen_by=actor)


@pytest.mark.parametrize("status", list(MemberStatus))
async def test_members_are_shown_a_shared_image_whatever_they_made_of_the_offer(
    catalog: Catalog, status: MemberStatus
) -> None:
    shared = an_image(visibility=Visibility.SHARED)
    await catalog.images.create(shared)
    with pytest.raises(ImageNotFound):
        await catalog.images.get(shared.id, seen_by=STRANGER)
    await catalog.members.add(a_member(shared, status=status), -1)
    seen = await catalog.images.get(shared.id, seen_by=STRANGER)
    assert seen == msgspec.structs.replace(shared, member_id="theirs")
    assert (await catalog.images.get(shared.id, seen_by=ME)).member_id is None


async def test_members_sleep_while_the_image_is_not_shared(catalog: Catalog) -> None:
    shared = an_image(visibility=Visibility.SHARED)
    await catalog.images.create(shared)
    await catalog.members.add(a_member(shared), -1)
    private = await catalog.images.replace(
        shared, msgspec.structs.replace(shared, visibility=Visibility.PRIVATE)
    )
    with pytest.raises(ImageNotFound):
        await catalog.images.get(shared.id, seen_by=STRANGER)
    await catalog.images.replace(
        private, msgspec.structs.replace(private, visibility=Visibility.SHARED)
    )
    assert (await catalog.images.get(shared.id, seen_by=STRANGER)).member_id == "theirs"


@pytest.mark.parametrize("actor", [ME, ADMIN, None], ids=["owner", "admin", "anyone"])
@pytest.mark.parametrize("delayed", [False, True])
async def test_deleted_images_are_shown_to_nobody(
    catalog: Catalog, actor: Actor | None, delayed: bool
) -> None:
    gone = await uploaded(catalog, visibility=Visibility.PUBLIC)
    await catalog.images.delete(gone.id, now=NOON, delayed=delayed)
    with pytest.raises(ImageNotFound):
        await catalog.images.get(gone.id, seen_by=actor)


# --- replace ---------------------------------------------------------------------------------------


async def test_a_replacement_is_what_is_read_afterwards(catalog: Catalog) -> None:
    before = an_image(
        name="old", tags=("a", "b"), properties={"keep": "1", "change": "2", "drop": "3"}
    )
    await catalog.images.create(before)
    after = await catalog.images.replace(
        before,
        msgspec.structs.replace(
            before,
            name=None,
            owner="theirs",
            visibility=Visibility.SHARED,
            os_hidden=True,
            protected=True,
            min_disk=1,
            min_ram=2,
            tags=("b", "c"),
            properties={"keep": "1", "change": "20", "add": "4", "kernel_id": None},
            updated_at=NOON + SECOND,
        ),
    )
    assert after.revision == before.revision + 1
    assert after.updated_at == NOON + SECOND
    assert await catalog.images.get(before.id, seen_by=None) == after


async def test_writing_over_a_change_is_refused_and_changes_nothing(catalog: Catalog) -> None:
    before = an_image(name="first")
    await catalog.images.create(before)
    winner = await catalog.images.replace(before, msgspec.structs.replace(before, name="second"))
    with pytest.raises(ImageChanged):
        await catalog.images.replace(
            before, msgspec.structs.replace(before, name="third", tags=("t",))
        )
    assert await catalog.images.get(before.id, seen_by=ME) == winner
    assert count(catalog, image_tags) == 0


async def test_of_many_replacements_at_once_exactly_one_succeeds(catalog: Catalog) -> None:
    before = an_image()
    await catalog.images.create(before)
    outcomes = await asyncio.gather(
        *(
            catalog.images.replace(before, msgspec.structs.replace(before, tags=(f"t{n}",)))
            for n in range(20)
        ),
        return_exceptions=True,
    )
    won = [outcome for outcome in outcomes if isinstance(outcome, Image)]
    assert len(won) == 1
    assert sum(isinstance(outcome, ImageChanged) for outcome in outcomes) == 19
    assert await catalog.images.get(before.id, seen_by=ME) == won[0]


async def test_a_deleted_or_unknown_image_cannot_be_replaced(catalog: Catalog) -> None:
    before = an_image()
    with pytest.raises(ImageNotFound):
        await catalog.images.replace(before, msgspec.structs.replace(before, name="x"))
    await catalog.images.create(before)
    await catalog.images.delete(before.id, now=NOON, delayed=False)
    with pytest.raises(ImageNotFound):
        await catalog.images.replace(before, msgspec.structs.replace(before, name="x"))


@pytest.mark.parametrize("status", list(Status))
async def test_a_replacement_moves_the_status_only_along_the_transitions(
    catalog: Catalog, status: Status
) -> None:
    for target in Status:
        before = an_image(status=status)
        await catalog.images.create(before)
        allowed = target in TRANSITIONS[status] or target is status
        gone = {Status.DELETED, Status.PENDING_DELETE}
        moved = msgspec.structs.replace(before, status=target)
        if status in gone:
            with pytest.raises((StatusConflict, ImageNotFound)):
                await catalog.images.replace(before, moved)
        elif allowed and target not in gone:
            assert (await catalog.images.replace(before, moved)).status is target
        else:
            with pytest.raises(StatusConflict):
                await catalog.images.replace(before, moved)


async def test_locations_are_replaced_with_their_order_and_metadata(catalog: Catalog) -> None:
    before = await uploaded(catalog)
    second = Location(store="other", key="k2", url="http://x/2", metadata={"a": 1})
    both = await catalog.images.replace(
        before, msgspec.structs.replace(before, locations=(second, *before.locations))
    )
    assert (await catalog.images.get(before.id, seen_by=ME)).locations == both.locations
    assert (await catalog.images.usage("mine")).bytes_total == 200
    one = await catalog.images.replace(both, msgspec.structs.replace(both, locations=(second,)))
    assert (await catalog.images.get(before.id, seen_by=ME)).locations == (second,)
    assert (await catalog.images.usage("mine")).bytes_total == 100
    assert one.revision == both.revision + 1


async def test_a_location_can_be_left_to_the_scrubber(catalog: Catalog) -> None:
    before = await uploaded(catalog)
    second = a_location("second")
    both = await catalog.images.replace(
        before, msgspec.structs.replace(before, locations=(*before.locations, second))
    )
    waits = msgspec.structs.replace(second, status="pending_delete")
    await catalog.images.replace(
        both, msgspec.structs.replace(both, locations=(*before.locations, waits))
    )
    assert (await catalog.images.get(before.id, seen_by=ME)).locations == before.locations
    later = NOON + dt.timedelta(hours=1)
    assert await catalog.images.doomed(10, later) == []
    doomed = await catalog.images.doomed(10, later, scrub_after_seconds=60)
    assert doomed == [(before.id, waits)]
    await catalog.images.data_removed(before.id, "second")
    assert await catalog.images.doomed(10, later, scrub_after_seconds=60) == []
    assert (await catalog.images.get(before.id, seen_by=ME)).locations == before.locations


# --- intakes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "status"), [("saving", "saving"), ("uploading", "uploading")])
async def test_an_intake_takes_the_queued_image(catalog: Catalog, kind: Any, status: str) -> None:
    fresh = an_image()
    await catalog.images.create(fresh)
    taken = await catalog.images.begin_intake(
        fresh.id, kind=kind, store="main", key="k", token="t", process_id="p"
    )
    assert taken.status == status
    assert await catalog.images.get(fresh.id, seen_by=ME) == taken
    intake = await catalog.intakes.get(fresh.id)
    assert intake is not None
    assert (intake.kind, intake.store, intake.key, intake.token) == (kind, "main", "k", "t")
    assert (intake.process_id, intake.reserved_bytes) == ("p", 0)


@pytest.mark.parametrize("status", [each for each in Status if each is not Status.QUEUED])
async def test_an_intake_takes_no_other_image(catalog: Catalog, status: Status) -> None:
    fresh = an_image(status=status)
    await catalog.images.create(fresh)
    wanted = ImageNotFound if status in (Status.DELETED, Status.PENDING_DELETE) else StatusConflict
    with pytest.raises(wanted):
        await catalog.images.begin_intake(
            fresh.id, kind="saving", store="main", key="k", token="t", process_id="p"
        )
    assert await catalog.intakes.get(fresh.id) is None


async def test_of_many_intakes_exactly_one_wins(catalog: Catalog) -> None:
    fresh = an_image()
    await catalog.images.create(fresh)
    outcomes = await asyncio.gather(
        *(
            catalog.images.begin_intake(
                fresh.id, kind="saving", store="main", key=f"k{n}", token="t", process_id="p"
            )
            for n in range(20)
        ),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, Image) for outcome in outcomes) == 1
    conflicts = [outcome for outcome in outcomes if isinstance(outcome, StatusConflict)]
    assert len(conflicts) == 19
    assert str(conflicts[0]) == f"Cannot upload data to image {fresh.id}: its status is saving."


async def test_a_finished_upload_makes_the_image_active(catalog: Catalog) -> None:
    active = await uploaded(catalog, properties={"a": "b"}, tags=("t",))
    assert active.status is Status.ACTIVE
    assert (active.size, active.virtual_size) == (100, 200)
    assert (active.checksum, active.os_hash_algo) == ("c" * 32, "sha512")
    assert active.locations == (a_location(),)
    assert active.updated_at == NOON + SECOND
    assert await catalog.images.get(active.id, seen_by=ME) == active
    assert await catalog.intakes.get(active.id) is None


async def test_an_upload_to_an_image_deleted_meanwhile_does_not_finish(catalog: Catalog) -> None:
    taken = await uploading(catalog)
    await catalog.images.delete(taken.id, now=NOON, delayed=False)
    with pytest.raises(ImageDeletedMeanwhile):
        await finished(catalog, taken)
    assert await catalog.intakes.get(taken.id) is not None
    assert await catalog.images.abandon_intake(taken.id, "key") is False
    assert await catalog.intakes.get(taken.id) is None
    assert count(catalog, image_locations) == 0


async def test_an_upload_that_was_abandoned_meanwhile_does_not_finish(catalog: Catalog) -> None:
    taken = await uploading(catalog)
    assert await catalog.images.abandon_intake(taken.id, "key") is True
    with pytest.raises(StatusConflict):
        await finished(catalog, taken)
    again = await catalog.images.begin_intake(
        taken.id, kind="saving", store="main", key="other", token="t", process_id="p"
    )
    with pytest.raises(StatusConflict):
        await finished(catalog, taken)
    assert (await finished(catalog, again, "other")).status is Status.ACTIVE


async def test_a_staged_image_is_not_finished_as_an_upload(catalog: Catalog) -> None:
    fresh = an_image()
    await catalog.images.create(fresh)
    staged = await catalog.images.begin_intake(
        fresh.id, kind="uploading", store="staging", key="key", token="t", process_id="p"
    )
    with pytest.raises(StatusConflict):
        await finished(catalog, staged)
    assert await catalog.intakes.get(fresh.id) is not None


async def test_an_abandoned_intake_leaves_the_image_queued_and_clean(catalog: Catalog) -> None:
    taken = await uploading(catalog)
    halfway = await catalog.images.replace(
        taken,
        msgspec.structs.replace(
            taken,
            size=1,
            virtual_size=2,
            checksum="c",
            os_hash_algo="a",
            os_hash_value="v",
            locations=(a_location("key"),),
        ),
    )
    assert await catalog.images.abandon_intake(taken.id, "key") is True
    queued = await catalog.images.get(taken.id, seen_by=ME)
    assert queued.status is Status.QUEUED
    assert queued.revision > halfway.revision
    assert (queued.size, queued.virtual_size, queued.checksum) == (None, None, None)
    assert (queued.os_hash_algo, queued.os_hash_value, queued.locations) == (None, None, ())
    assert count(catalog, image_locations) == 0


async def test_abandoning_what_is_over_does_nothing(catalog: Catalog) -> None:
    active = await uploaded(catalog)
    assert await catalog.images.abandon_intake(active.id, "key") is False
    assert await catalog.images.get(active.id, seen_by=ME) == active
    assert await catalog.images.abandon_intake(str(uuid.uuid4()), "key") is False
    taken = await uploading(catalog, "mine")
    assert await catalog.images.abandon_intake(taken.id, "not mine") is False
    assert (await catalog.images.get(taken.id, seen_by=ME)).status is Status.SAVING


async def test_finishing_and_abandoning_at_once_end_in_one_of_the_two(catalog: Catalog) -> None:
    for number in range(10):
        taken = await uploading(catalog, f"k{number}")
        done, back = await asyncio.gather(
            finished(catalog, taken, f"k{number}"),
            catalog.images.abandon_intake(taken.id, f"k{number}"),
            return_exceptions=True,
        )
        left = await catalog.images.get(taken.id, seen_by=ME)
        if isinstance(done, Image):
            assert (left.status, back) == (Status.ACTIVE, False)
        else:
            assert isinstance(done, StatusConflict)
            assert (left.status, back) == (Status.QUEUED, True)
        assert await catalog.intakes.get(taken.id) is None


async def test_an_intake_that_was_disowned_cannot_be_finished(catalog: Catalog) -> None:
    taken = await uploading(catalog)
    assert await catalog.intakes.disown(taken.id, "not mine") is False
    assert await catalog.intakes.disown(taken.id, "key") is True
    with pytest.raises(StatusConflict):
        await finished(catalog, taken)
    assert [intake.key for intake in await catalog.intakes.of_dead([])] == ["key"]
    assert await catalog.images.abandon_intake(taken.id, "key") is True
    assert (await catalog.images.get(taken.id, seen_by=ME)).status is Status.QUEUED
    active = await uploaded(catalog)
    assert await catalog.intakes.disown(active.id, "key") is False


async def test_disowning_and_finishing_at_once_end_in_one_of_the_two(catalog: Catalog) -> None:
    for number in range(10):
        taken = await uploading(catalog, f"k{number}")
        done, is_disowned = await asyncio.gather(
            finished(catalog, taken, f"k{number}"),
            catalog.intakes.disown(taken.id, f"k{number}"),
            return_exceptions=True,
        )
        left = await catalog.images.get(taken.id, seen_by=ME)
        assert (left.status is Status.ACTIVE) == isinstance(done, Image) == (is_disowned is False)


async def test_the_intakes_of_dead_and_unknown_processes_are_found(catalog: Catalog) -> None:
    for name in ("alive", "dead"):
        await catalog.processes.join(name, host="h", pid=1, started="s")
    made = {}
    for name in ("alive", "dead", "never joined"):
        fresh = an_image()
        await catalog.images.create(fresh)
        await catalog.images.begin_intake(
            fresh.id, kind="saving", store="main", key=name, token="t", process_id=name
        )
        made[fresh.id] = name
    found = await catalog.intakes.of_dead(["dead"])
    assert sorted(intake.key for intake in found) == ["dead", "never joined"]
    assert all(made[intake.image_id] == intake.process_id for intake in found)
    await catalog.processes.leave("dead")
    assert len(await catalog.intakes.of_dead([])) == 2


# --- quota -----------------------------------------------------------------------------------------


async def test_usage_counts_as_the_lifecycle_says(catalog: Catalog) -> None:
    importing = {"os_glance_importing_to_stores": "a,b"}
    two = (a_location("a"), a_location("b"))
    for number, attributes in enumerate(
        (
            {"status": Status.ACTIVE, "size": 1, "locations": two},
            {"status": Status.DEACTIVATED, "size": 10, "locations": two[:1]},
            {"status": Status.ACTIVE, "size": 100, "locations": two[:1], "properties": importing},
            {"status": Status.UPLOADING, "size": 1000},
            {"status": Status.IMPORTING, "size": 10000},
            {"status": Status.SAVING},
            {"status": Status.QUEUED},
            {"status": Status.KILLED, "size": 1_000_000, "locations": two[:1]},
            {"status": Status.DELETED, "size": 1_000_000},
            {"status": Status.PENDING_DELETE, "size": 1_000_000},
            {"status": Status.ACTIVE, "size": 1_000_000, "locations": two, "owner": "theirs"},
            {"status": Status.ACTIVE, "size": 7, "locations": two[:1], "os_hidden": True},
        )
    ):
        await catalog.images.create(an_image(name=str(number), **attributes))
    usage = await catalog.images.usage("mine")
    assert usage.bytes_total == 1 * 2 + 10 + 100 + 7
    assert usage.bytes_staged == 100 + 1000 + 10000
    assert usage.images == 8
    assert usage.uploading == 4
    assert (await catalog.images.usage("nobody")).images == 0


async def test_absurd_sizes_do_not_break_the_sums(catalog: Catalog) -> None:
    for number in range(3):
        await catalog.images.create(
            an_image(
                status=Status.ACTIVE,
                size=2**63 - 1,
                locations=(a_location(f"a{number}"), a_location(f"b{number}")),
            )
        )
    assert (await catalog.images.usage("mine")).bytes_total >= 6 * (2**63 - 1)


def at_most(
    bytes_max: int, counts: Literal["all", "stored", "staged"] = "all", *, is_exact: bool = True
) -> list[BytesLimit]:
    """A limit of so many bytes."""
    return [BytesLimit(name="room", bytes_max=bytes_max, counts=counts, is_exact=is_exact)]


async def reserve(
    catalog: Catalog,
    image: Image,
    key: str,
    needed: int,
    limits: list[BytesLimit],
    wanted: int | None = None,
) -> int:
    """Room for an intake of project `mine`."""
    return await catalog.images.reserve(
        image.id, key, needed, wanted or needed, project="mine", limits=limits
    )


async def staging(catalog: Catalog, key: str) -> Image:
    """An image whose data is being staged."""
    fresh = an_image()
    await catalog.images.create(fresh)
    return await catalog.images.begin_intake(
        fresh.id, kind="uploading", store="staging", key=key, token="t", process_id="process"
    )


async def test_a_reservation_counts_until_the_intake_is_over(catalog: Catalog) -> None:
    taken = await uploading(catalog)
    assert await reserve(catalog, taken, "key", 60, at_most(100)) == 60
    assert await reserve(catalog, taken, "key", 40, at_most(100)) == 60
    other = await uploading(catalog, "other")
    with pytest.raises(QuotaExceeded) as refused:
        await reserve(catalog, other, "other", 41, at_most(100))
    assert (refused.value.limit, refused.value.attempted) == (100, 101)
    assert await reserve(catalog, other, "other", 40, at_most(100)) == 40
    usage = await catalog.images.usage("mine")
    assert (usage.bytes_total, usage.bytes_reserved) == (0, 100)
    await finished(catalog, taken, size=60)
    usage = await catalog.images.usage("mine")
    assert (usage.bytes_total, usage.bytes_reserved) == (60, 40)
    await catalog.images.abandon_intake(other.id, "other")
    third = await uploading(catalog, "third")
    await reserve(catalog, third, "third", 40, at_most(100))
    with pytest.raises(QuotaExceeded):
        await reserve(catalog, third, "third", 41, at_most(100))


async def test_what_is_wanted_is_granted_as_far_as_it_fits(catalog: Catalog) -> None:
    taken = await uploading(catalog)
    assert await reserve(catalog, taken, "key", 10, at_most(100), wanted=50) == 50
    assert await reserve(catalog, taken, "key", 60, at_most(100), wanted=200) == 100
    with pytest.raises(QuotaExceeded):
        await reserve(catalog, taken, "key", 101, at_most(100), wanted=200)
    assert (await catalog.images.usage("mine")).bytes_reserved == 0, "what is refused keeps nothing"
    # The narrowest of several limits counts.
    limits = at_most(500) + at_most(120, "stored") + at_most(0, "staged")
    with pytest.raises(QuotaExceeded):
        await reserve(catalog, taken, "key", 110, limits)
    assert await reserve(catalog, taken, "key", 110, limits[:2], wanted=200) == 120


async def test_a_project_without_limit_reserves_what_it_wants(catalog: Catalog) -> None:
    taken = await uploading(catalog)
    assert await reserve(catalog, taken, "key", 2**62, []) == 2**62
    assert (await catalog.images.usage("mine")).bytes_reserved == 2**62


async def test_data_on_its_way_to_staging_counts_there_and_not_in_stores(catalog: Catalog) -> None:
    stored, staged = await uploading(catalog, "stored"), await staging(catalog, "staged")
    await reserve(catalog, stored, "stored", 60, [])
    await reserve(catalog, staged, "staged", 70, [])
    for other, key, counts, fits in (
        (await uploading(catalog, "a"), "a", "stored", 40),
        (await staging(catalog, "b"), "b", "staged", 30),
    ):
        limits = at_most(100, counts)  # type: ignore[arg-type]
        with pytest.raises(QuotaExceeded):
            await reserve(catalog, other, key, fits + 1, limits)
        assert await reserve(catalog, other, key, fits, limits) == fits
    all_of_them = await uploading(catalog, "c")
    with pytest.raises(QuotaExceeded) as refused:
        await reserve(catalog, all_of_them, "c", 1, at_most(200))
    assert refused.value.attempted == 201
    # Sizes count as reservations do.
    await catalog.images.create(an_image(status=Status.UPLOADING, size=5))
    await catalog.images.create(an_image(status=Status.IMPORTING, size=6))
    last = await staging(catalog, "last")
    with pytest.raises(QuotaExceeded) as refused:
        await reserve(catalog, last, "last", 1, at_most(100, "staged"))
    assert refused.value.attempted == 70 + 30 + 5 + 6 + 1


async def test_staged_data_counts_as_one_copy_until_it_has_its_first_location(
    catalog: Catalog,
) -> None:
    for status in (Status.UPLOADING, Status.IMPORTING):
        await catalog.images.create(an_image(status=status, size=20))
    located = (a_location("first"), a_location("second"))
    await catalog.images.create(an_image(status=Status.IMPORTING, size=20, locations=located))
    new = await uploading(catalog, "new")
    with pytest.raises(QuotaExceeded) as refused:
        await reserve(catalog, new, "new", 21, at_most(100))
    assert refused.value.attempted == 20 + 20 + 2 * 20 + 21
    assert await reserve(catalog, new, "new", 20, at_most(100)) == 20
    with pytest.raises(QuotaExceeded) as refused:
        await reserve(catalog, new, "new", 61, at_most(100, "stored"))
    assert refused.value.attempted == 2 * 20 + 61, "limits of stored data count no other"
    await catalog.tasks.refuse_more("mine", 40, at_most(120))
    with pytest.raises(QuotaExceeded):
        await catalog.tasks.refuse_more("mine", 41, at_most(120))


async def test_data_of_unknown_size_may_pass_an_inexact_limit_last_of_all(
    catalog: Catalog,
) -> None:
    limits = at_most(100, is_exact=False)
    first, second = await uploading(catalog, "first"), await uploading(catalog, "second")
    await reserve(catalog, first, "first", 100, limits)
    # The others have what they may, and not more: one may pass.
    assert await reserve(catalog, second, "second", 30, limits, wanted=40) == 40
    third = await uploading(catalog, "third")
    with pytest.raises(QuotaExceeded):
        await reserve(catalog, third, "third", 0, limits)
    # The first may go on only while the others alone do not pass it.
    await reserve(catalog, first, "first", 150, limits)
    with pytest.raises(QuotaExceeded):
        await reserve(catalog, second, "second", 50, limits)
    await catalog.images.abandon_intake(second.id, "second")
    await finished(catalog, first, "first", size=150)
    with pytest.raises(QuotaExceeded):
        await reserve(catalog, third, "third", 0, limits)


async def test_reservations_of_many_at_once_never_pass_the_limit(catalog: Catalog) -> None:
    taken = [await uploading(catalog, f"k{number}") for number in range(12)]

    async def grow(number: int) -> int:
        got = 0
        for total in range(10, 60, 10):
            try:
                await reserve(catalog, taken[number], f"k{number}", total, at_most(300))
            except QuotaExceeded:
                return 0
            got = total
        return got

    granted = await asyncio.gather(*(grow(number) for number in range(12)))
    # Six get all they need: what is refused is left to the others.
    assert sorted(granted) == [0] * 6 + [50] * 6
    assert (await catalog.images.usage("mine")).bytes_reserved == 300


async def test_fifty_of_unknown_size_pass_an_inexact_limit_with_one_at_most(
    catalog: Catalog,
) -> None:
    taken = [await uploading(catalog, f"k{number}") for number in range(50)]
    limits = at_most(300, is_exact=False)

    async def grow(number: int) -> int:
        """Bytes of the image, 0 if it was refused: the intake is over either way."""
        key = f"k{number}"
        for total in (10, 25, 40):
            try:
                await reserve(catalog, taken[number], key, total, limits, wanted=total * 5 // 4)
            except QuotaExceeded:
                await catalog.images.abandon_intake(taken[number].id, key)
                return 0
        await finished(catalog, taken[number], key, size=40)
        return 40

    sizes = await asyncio.gather(*(grow(number) for number in range(50)))
    # As many as fit one after the other, or a few less: what is on its way takes a little ahead.
    assert 300 - 2 * 50 <= sum(sizes) <= 300 + 40
    usage = await catalog.images.usage("mine")
    assert (usage.bytes_total, usage.bytes_reserved) == (sum(sizes), 0)


async def test_nothing_is_reserved_for_an_intake_that_is_over(catalog: Catalog) -> None:
    taken = await uploading(catalog)
    await catalog.images.abandon_intake(taken.id, "key")
    with pytest.raises(StatusConflict):
        await reserve(catalog, taken, "key", 1, at_most(100))
    gone = await uploading(catalog, "gone")
    await catalog.images.delete(gone.id, now=NOON, delayed=False)
    with pytest.raises(ImageDeletedMeanwhile):
        await reserve(catalog, gone, "gone", 1, at_most(100))


# --- limits of counts ------------------------------------------------------------------------------


async def outcomes(*calls: Coroutine[Any, Any, Any]) -> tuple[int, int]:
    """How many of the calls, made at once, succeeded, and how many were refused by a limit."""
    told = await asyncio.gather(*calls, return_exceptions=True)
    refused = sum(isinstance(each, QuotaExceeded) for each in told)
    failed = [each for each in told if isinstance(each, Exception)]
    assert len(failed) == refused, failed
    return len(told) - refused, refused


@pytest.mark.parametrize("present", [0, 7])
async def test_fifty_creations_at_once_fill_the_limit_and_never_pass_it(
    catalog: Catalog, present: int
) -> None:
    for _ in range(present):
        await catalog.images.create(an_image())
    # What is gone, and what others have, does not count.
    gone = an_image()
    await catalog.images.create(gone)
    await catalog.images.delete(gone.id, now=NOON, delayed=False)
    await catalog.images.create(an_image(owner="theirs"))
    limit = CountLimit("image_count_total", 10)

    done = await outcomes(*(catalog.images.create(an_image(), limit=limit) for _ in range(50)))

    assert done == (10 - present, 40 + present)
    assert (await catalog.images.usage("mine")).images == 10
    with pytest.raises(QuotaExceeded) as refused:
        await catalog.images.create(an_image(), limit=limit)
    assert (refused.value.what, refused.value.limit, refused.value.attempted) == (
        "image_count_total",
        10,
        11,
    )
    await catalog.images.create(an_image(owner="theirs"), limit=limit)
    await catalog.images.create(an_image(owner=None), limit=CountLimit("image_count_total", 0))


async def test_catalogs_of_several_processes_fill_a_limit_together(
    catalog: Catalog, url: str
) -> None:
    another = Catalog(Engine(url))
    try:
        limit = CountLimit("image_count_total", 20)
        done = await outcomes(
            *(
                each.images.create(an_image(), limit=limit)
                for each in (catalog, another)
                for _ in range(25)
            )
        )
        assert done == (20, 30)
    finally:
        another.close()


async def test_a_duplicate_is_no_image_more(catalog: Catalog) -> None:
    known = an_image()
    await catalog.images.create(known, limit=CountLimit("image_count_total", 2))
    with pytest.raises(DuplicateImage):
        await catalog.images.create(known, limit=CountLimit("image_count_total", 2))
    await catalog.images.create(an_image(), limit=CountLimit("image_count_total", 2))


@pytest.mark.parametrize("is_gone", [False, True])
async def test_data_that_cannot_be_removed_now_is_remembered_and_the_image_is_queued(
    catalog: Catalog, is_gone: bool
) -> None:
    mine = await uploading(catalog)
    if is_gone:
        await catalog.images.delete(mine.id, now=NOON, delayed=False)
    assert await catalog.images.abandon_intake(mine.id, "key", left_in="main") is not is_gone
    assert await catalog.intakes.of_dead(["process"]) == []
    later = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1)
    [(image_id, left)] = await catalog.images.doomed(9, later, scrub_after_seconds=0)
    assert (image_id, left.store, left.key) == (mine.id, "main", "key")
    if not is_gone:
        queued = await catalog.images.get(mine.id, seen_by=None)
        assert (queued.status, queued.locations) == (Status.QUEUED, ())
        # The next attempt has nothing to do with it, and cannot be undone by it.
        await catalog.images.begin_intake(
            mine.id, kind="saving", store="main", key="next", token="t", process_id="p"
        )
        whole = await finished(catalog, mine, "next")
        assert [each.key for each in whole.locations] == ["next"]
    await catalog.images.data_removed(mine.id, "key")
    assert await catalog.images.doomed(9, later, scrub_after_seconds=0) == []
    if not is_gone:
        assert await catalog.images.get(mine.id, seen_by=None) == whole


@pytest.mark.parametrize("kind", ["saving", "uploading"])
async def test_fifty_intakes_at_once_fill_the_limit_and_give_back_what_is_cancelled(
    catalog: Catalog, kind: Literal["saving", "uploading"]
) -> None:
    images = [an_image() for _ in range(50)]
    for image in images:
        await catalog.images.create(image)
    await uploading(catalog, owner="theirs")
    # Images that are imported and copied are images that data comes in for.
    importing = {"os_glance_importing_to_stores": "a"}
    await catalog.images.create(an_image(status=Status.IMPORTING))
    await catalog.images.create(
        an_image(status=Status.ACTIVE, size=1, locations=(a_location(),), properties=importing)
    )
    limit = CountLimit("image_count_uploading", 8)

    async def begin(image: Image) -> None:
        await catalog.images.begin_intake(
            image.id,
            kind=kind,
            store="main",
            key=image.id,
            token="t",
            process_id="process",
            limit=limit,
        )

    assert await outcomes(*(begin(image) for image in images)) == (6, 44)
    assert (await catalog.images.usage("mine")).uploading == 8
    states = [(await catalog.images.get(image.id, seen_by=ME)).status for image in images]
    assert (states.count(Status(kind)), states.count(Status.QUEUED)) == (6, 44)

    begun = [image for image, state in zip(images, states, strict=True) if state != Status.QUEUED]
    for image in begun[:4]:
        assert await catalog.images.abandon_intake(image.id, image.id)
    others = [image for image in images if image not in begun]
    assert await outcomes(*(begin(image) for image in others)) == (4, 40)


# --- deletion --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "status",
    [
        each
        for each in Status
        if Status.DELETED in TRANSITIONS[each] and each is not Status.PENDING_DELETE
    ],
)
async def test_deletion_gives_the_image_as_it_was(catalog: Catalog, status: Status) -> None:
    before = an_image(status=status, tags=("t",), locations=(a_location(),), size=5)
    await catalog.images.create(before)
    assert await catalog.images.delete(before.id, now=NOON + SECOND, delayed=False) == before
    row = tombstone(catalog, before.id)
    assert (row["status"], row["deleted_at"]) == ("deleted", NOON + SECOND)
    assert row["updated_at"] == NOON + SECOND
    assert (await catalog.images.usage("mine")).images == 0


def tombstone(catalog: Catalog, image_id: str) -> dict[str, Any]:
    """The row of an image in whatever state."""
    return catalog.engine.read_now(
        lambda connection: dict(
            connection.execute(sa.select(images_table).where(images_table.c.id == image_id))
            .mappings()
            .one()
        )
    )


async def test_a_protected_image_is_not_deleted(catalog: Catalog) -> None:
    kept = an_image(protected=True)
    await catalog.images.create(kept)
    with pytest.raises(ImageProtected):
        await catalog.images.delete(kept.id, now=NOON, delayed=False)
    assert await catalog.images.get(kept.id, seen_by=ME) == kept


async def test_an_image_is_deleted_once(catalog: Catalog) -> None:
    gone = await uploaded(catalog)
    outcomes = await asyncio.gather(
        *(catalog.images.delete(gone.id, now=NOON, delayed=False) for _ in range(10)),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, Image) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, ImageNotFound) for outcome in outcomes) == 9
    with pytest.raises(ImageNotFound):
        await catalog.images.delete(str(uuid.uuid4()), now=NOON, delayed=False)


@pytest.mark.parametrize(
    ("status", "has_data", "left"),
    [
        (Status.ACTIVE, True, "pending_delete"),
        (Status.DEACTIVATED, True, "pending_delete"),
        (Status.ACTIVE, False, "deleted"),
        (Status.QUEUED, False, "deleted"),
        (Status.IMPORTING, True, "deleted"),
    ],
)
async def test_delayed_deletion_waits_only_where_there_is_data(
    catalog: Catalog, status: Status, has_data: bool, left: str
) -> None:
    locations = (a_location(),) if has_data else ()
    gone = an_image(status=status, locations=locations)
    await catalog.images.create(gone)
    await catalog.images.delete(gone.id, now=NOON, delayed=True)
    assert tombstone(catalog, gone.id)["status"] == left


async def test_the_data_of_deleted_images_is_doomed_until_it_is_removed(catalog: Catalog) -> None:
    gone = await uploaded(catalog)
    await catalog.images.delete(gone.id, now=NOON, delayed=False)
    assert await catalog.images.doomed(10, NOON + 9 * SECOND) == []
    doomed = await catalog.images.doomed(10, NOON + 10 * SECOND)
    assert [(image_id, place.key) for image_id, place in doomed] == [(gone.id, "key")]
    assert await catalog.images.doomed(10, NOON + 10 * SECOND) == doomed
    await catalog.images.data_removed(gone.id, "key")
    assert await catalog.images.doomed(10, NOON + 10 * SECOND) == []


async def test_doomed_data_comes_oldest_first_and_no_more_than_asked(catalog: Catalog) -> None:
    gone = [await uploaded(catalog, f"k{number}") for number in range(3)]
    for number in (1, 2, 0):
        await catalog.images.delete(gone[number].id, now=NOON + number * SECOND, delayed=False)
    doomed = await catalog.images.doomed(2, NOON + dt.timedelta(hours=1))
    assert [place.key for _, place in doomed] == ["k0", "k1"]


async def test_the_scrubber_ends_a_delayed_deletion(catalog: Catalog) -> None:
    gone = await uploaded(catalog)
    await catalog.images.delete(gone.id, now=NOON, delayed=True)
    later = NOON + dt.timedelta(hours=1)
    assert await catalog.images.doomed(10, later) == []
    assert await catalog.images.doomed(10, later, scrub_after_seconds=3601) == []
    assert len(await catalog.images.doomed(10, later, scrub_after_seconds=3600)) == 1
    assert tombstone(catalog, gone.id)["status"] == "pending_delete"
    await catalog.images.data_removed(gone.id, "key")
    assert tombstone(catalog, gone.id)["status"] == "deleted"


@pytest.mark.parametrize("delayed", [False, True])
async def test_an_image_whose_store_refuses_comes_back_as_it_was(
    catalog: Catalog, delayed: bool
) -> None:
    before = await uploaded(catalog, visibility=Visibility.SHARED, tags=("t",))
    await catalog.members.add(a_member(before), -1)
    taken = await catalog.images.delete(before.id, now=NOON + SECOND, delayed=delayed)
    back = await catalog.images.restore(taken)
    assert back == msgspec.structs.replace(before, revision=before.revision + 2)
    assert await catalog.images.get(before.id, seen_by=ME) == back
    assert (await catalog.images.get(before.id, seen_by=STRANGER)).member_id == "theirs"
    assert await catalog.images.doomed(10, NOON + dt.timedelta(days=1)) == []
    assert (await catalog.images.usage("mine")).bytes_total == 100


async def test_an_image_comes_back_with_the_locations_that_are_left(catalog: Catalog) -> None:
    active = await uploaded(catalog)
    both = await catalog.images.replace(
        active,
        msgspec.structs.replace(active, locations=(*active.locations, a_location("second"))),
    )
    taken = await catalog.images.delete(both.id, now=NOON, delayed=False)
    await catalog.images.data_removed(both.id, "key")
    back = await catalog.images.restore(taken)
    assert [place.key for place in back.locations] == ["second"]
    assert (await catalog.images.get(both.id, seen_by=ME)).locations == back.locations


async def test_an_image_whose_data_the_sweep_has_begun_to_remove_stays_deleted(
    catalog: Catalog,
) -> None:
    taken = await uploaded(catalog)
    taken = await catalog.images.delete(taken.id, now=NOON, delayed=False)
    await catalog.images.doomed(10, NOON + dt.timedelta(hours=1))
    await catalog.images.restore(taken)
    with pytest.raises(ImageNotFound):
        await catalog.images.get(taken.id, seen_by=ME)


async def test_the_intake_of_a_deleted_image_is_left_to_the_sweep(catalog: Catalog) -> None:
    taken = await uploading(catalog)
    before = await catalog.images.delete(taken.id, now=NOON, delayed=False)
    assert [intake.image_id for intake in await catalog.intakes.of_dead([])] == [taken.id]
    back = await catalog.images.restore(before)
    assert back.status is Status.SAVING
    assert (await finished(catalog, back)).status is Status.ACTIVE


# --- members ---------------------------------------------------------------------------------------


async def test_members_are_listed_in_the_order_in_which_they_came(catalog: Catalog) -> None:
    shared = an_image(visibility=Visibility.SHARED)
    await catalog.images.create(shared)
    for number, project in enumerate(("z", "a", "m")):
        await catalog.members.add(a_member(shared, project, created_at=NOON + number * SECOND), -1)
    members = await catalog.members.list(shared.id)
    assert [each.member_id for each in members] == ["z", "a", "m"]
    assert members[0] == a_member(shared, "z")
    assert await catalog.members.get(shared.id, "z") == members[0]


async def test_a_project_is_a_member_once(catalog: Catalog) -> None:
    shared = an_image(visibility=Visibility.SHARED)
    await catalog.images.create(shared)
    await catalog.members.add(a_member(shared), 1)
    with pytest.raises(DuplicateMember):
        await catalog.members.add(a_member(shared), 1)
    await catalog.members.remove(shared.id, "theirs")
    await catalog.members.add(a_member(shared), 1)


@pytest.mark.parametrize(("limit", "fits"), [(-1, 20), (0, 0), (3, 3)])
async def test_the_limit_of_members_holds_for_many_at_once(
    catalog: Catalog, limit: int, fits: int
) -> None:
    shared = an_image(visibility=Visibility.SHARED)
    await catalog.images.create(shared)
    outcomes = await asyncio.gather(
        *(catalog.members.add(a_member(shared, f"p{n}"), limit) for n in range(20)),
        return_exceptions=True,
    )
    assert outcomes.count(None) == fits == len(await catalog.members.list(shared.id))
    refused = [outcome for outcome in outcomes if outcome is not None]
    assert all(isinstance(outcome, QuotaExceeded) for outcome in refused)


async def test_a_member_changes_its_mind(catalog: Catalog) -> None:
    shared = an_image(visibility=Visibility.SHARED)
    await catalog.images.create(shared)
    await catalog.members.add(a_member(shared), -1)
    for number, status in enumerate(MemberStatus):
        now = NOON + number * SECOND
        changed = await catalog.members.set_status(shared.id, "theirs", status, now=now)
        assert (changed.status, changed.updated_at, changed.created_at) == (status, now, NOON)
        assert await catalog.members.get(shared.id, "theirs") == changed


async def test_what_is_no_member_is_not_found(catalog: Catalog) -> None:
    shared = an_image(visibility=Visibility.SHARED)
    await catalog.images.create(shared)
    for project in ("nobody", "nul\0", "\ud800"):
        with pytest.raises(MemberNotFound):
            await catalog.members.get(shared.id, project)
        with pytest.raises(MemberNotFound):
            await catalog.members.remove(shared.id, project)
        with pytest.raises(MemberNotFound):
            await catalog.members.set_status(shared.id, project, MemberStatus.ACCEPTED, now=NOON)
    with pytest.raises(InvalidValue):
        await catalog.members.add(a_member(shared, "nul\0"), -1)


async def test_a_deleted_image_gets_no_members(catalog: Catalog) -> None:
    with pytest.raises(ImageNotFound):
        await catalog.members.add(a_member(an_image()), -1)
    gone = an_image(visibility=Visibility.SHARED)
    await catalog.images.create(gone)
    await catalog.images.delete(gone.id, now=NOON, delayed=False)
    with pytest.raises(ImageNotFound):
        await catalog.members.add(a_member(gone), -1)
    assert count(catalog, image_members) == 0


# --- leases ----------------------------------------------------------------------------------------


def set_leases_back(catalog: Catalog, *, hours: int) -> None:
    """As if all had been renewed so much earlier, or the clock had been set."""
    catalog.engine.write_now(
        lambda connection: connection.execute(
            sa.update(processes).values(beat_at=clock(connection) - dt.timedelta(hours=hours))
        )
    )


async def test_a_process_that_does_not_renew_its_lease_is_dead(catalog: Catalog) -> None:
    await catalog.processes.join("a", host="h", pid=12, started="boot:34")
    await catalog.processes.join("b", host="h", pid=13, started="boot:35")
    assert await catalog.processes.dead(60, watched_seconds=0) == []
    set_leases_back(catalog, hours=1)
    assert await catalog.processes.beat("b") is True
    assert await catalog.processes.dead(60, watched_seconds=0) == ["a"]
    first, second = await catalog.processes.list()
    assert (first.id, first.host, first.pid, first.started) == ("a", "h", 12, "boot:34")
    assert second.beat_at > second.joined_at
    await catalog.processes.leave("a")
    await catalog.processes.leave("a")
    assert [each.id for each in await catalog.processes.list()] == ["b"]


@pytest.mark.parametrize("hours", [1, -1], ids=["forward", "back"])
async def test_when_the_clock_is_set_the_living_are_not_taken_for_dead(
    catalog: Catalog, hours: int
) -> None:
    await catalog.processes.join("living", host="h", pid=12, started="boot:34")
    await catalog.processes.join("dead", host="h", pid=13, started="boot:35")

    async def look() -> list[str]:
        return await catalog.processes.dead(30, watched_seconds=0.2)

    assert await look() == []
    set_leases_back(catalog, hours=hours)
    assert await look() == []
    assert catalog.processes.are_suspected
    await catalog.processes.beat("living")
    await asyncio.sleep(0.3)
    assert await look() == ["dead"]
    await catalog.processes.leave("dead")
    assert await look() == []
    assert not catalog.processes.are_suspected


async def test_whoever_is_dead_is_watched_anew_after_a_sign_of_life(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = itertools.count(0, 20)
    clock = SimpleNamespace(monotonic=lambda: float(next(passed)))
    monkeypatch.setattr("transom.catalog.processes.time", clock)
    await catalog.processes.join("a", host="h", pid=12, started="boot:34")
    set_leases_back(catalog, hours=1)
    assert await catalog.processes.dead(60, watched_seconds=30) == []
    await catalog.processes.beat("a")
    set_leases_back(catalog, hours=2)
    assert await catalog.processes.dead(60, watched_seconds=30) == []
    assert await catalog.processes.dead(60, watched_seconds=30) == []
    assert await catalog.processes.dead(60, watched_seconds=30) == ["a"]


async def test_a_lease_that_was_taken_away_is_written_anew(catalog: Catalog, url: str) -> None:
    await catalog.processes.join("a", host="h", pid=12, started="s")
    other = Catalog(Engine(url))
    await other.processes.leave("a")
    assert await catalog.processes.beat("a") is False
    assert [each.id for each in await other.processes.list()] == ["a"]
    assert await catalog.processes.beat("a") is True
    assert await other.processes.beat("never joined") is False
    other.close()


# --- the engine ------------------------------------------------------------------------------------


async def test_an_error_undoes_its_own_write_and_no_other(catalog: Catalog) -> None:
    """Writes that wait share a transaction on SQLite; each must still stand or fall alone."""
    good = [an_image() for _ in range(30)]
    bad = an_image()

    def write_then_fail(connection: Connection) -> None:
        insert(connection, bad)
        raise RuntimeError("on purpose")

    outcomes = await asyncio.gather(
        *(catalog.images.create(each) for each in good[:15]),
        catalog.engine.write(write_then_fail),
        *(catalog.images.create(each) for each in good[15:]),
        return_exceptions=True,
    )
    assert [type(each) for each in outcomes if each is not None] == [RuntimeError]
    assert count(catalog, images_table) == 30
    with pytest.raises(ImageNotFound):
        await catalog.images.get(bad.id, seen_by=None)


async def test_a_cancelled_write_is_over_when_the_caller_goes_on(catalog: Catalog) -> None:
    for _ in range(10):
        fresh = an_image()
        await catalog.images.create(fresh)
        begun = asyncio.ensure_future(
            catalog.images.begin_intake(
                fresh.id, kind="saving", store="main", key="k", token="t", process_id="p"
            )
        )
        await asyncio.sleep(0)
        begun.cancel()
        with pytest.raises(asyncio.CancelledError):
            await begun
        await catalog.images.abandon_intake(fresh.id, "k")
        assert (await catalog.images.get(fresh.id, seen_by=ME)).status is Status.QUEUED
        assert await catalog.intakes.get(fresh.id) is None


async def test_cancelling_waits_for_a_write_that_has_begun(catalog: Catalog) -> None:
    hold, begun = threading.Event(), threading.Event()
    fresh = an_image()

    def work(connection: Connection) -> None:
        insert(connection, fresh)
        begun.set()
        hold.wait(10)

    writing = asyncio.ensure_future(catalog.engine.write(work))
    await asyncio.to_thread(begun.wait, 10)
    for _ in range(3):
        writing.cancel()
        await asyncio.sleep(0.02)
        assert not writing.done()
    hold.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await catalog.images.get(fresh.id, seen_by=ME) == fresh


async def test_a_write_that_still_waits_is_withdrawn_by_cancelling(catalog: Catalog) -> None:
    hold = threading.Event()
    writers = [
        asyncio.ensure_future(catalog.engine.write(lambda _connection: hold.wait(10)))
        for _ in range(16)
    ]
    await asyncio.sleep(0.2)
    fresh = an_image()
    late = asyncio.ensure_future(catalog.images.create(fresh))
    await asyncio.sleep(0.05)
    late.cancel()
    with pytest.raises(asyncio.CancelledError):
        await late
    hold.set()
    await asyncio.gather(*writers)
    with pytest.raises(ImageNotFound):
        await catalog.images.get(fresh.id, seen_by=None)


async def test_reading_goes_on_while_a_write_is_under_way(catalog: Catalog) -> None:
    there = an_image()
    await catalog.images.create(there)
    hold, begun = threading.Event(), threading.Event()

    def work(connection: Connection) -> None:
        connection.execute(sa.update(images_table).values(name="not yet"))
        begun.set()
        hold.wait(10)

    writing = asyncio.ensure_future(catalog.engine.write(work))
    await asyncio.to_thread(begun.wait, 10)
    assert await catalog.images.get(there.id, seen_by=ME) == there
    hold.set()
    await writing
    assert (await catalog.images.get(there.id, seen_by=ME)).name == "not yet"


async def test_reading_cannot_write_on_sqlite(tmp_path: Path) -> None:
    catalog = Catalog(Engine(fresh_url("sqlite", tmp_path)))
    with pytest.raises(CatalogUnavailable):
        await catalog.engine.read(
            lambda connection: connection.execute(sa.delete(images_table)).rowcount
        )
    catalog.close()


async def test_two_catalogs_see_each_others_writes(catalog: Catalog, url: str) -> None:
    other = Catalog(Engine(url))
    mine, theirs = an_image(), an_image()
    await catalog.images.create(mine)
    assert await other.images.get(mine.id, seen_by=ME) == mine
    await other.images.create(theirs)
    assert await catalog.images.get(theirs.id, seen_by=ME) == theirs
    other.close()


async def test_a_closed_catalog_is_unavailable(url: str) -> None:
    catalog = Catalog(Engine(url))
    await catalog.check()
    catalog.close()
    catalog.close()
    with pytest.raises(CatalogUnavailable):
        await catalog.check()
    with pytest.raises(CatalogUnavailable):
        await catalog.images.create(an_image())


def test_the_blocking_twins_do_the_same(catalog: Catalog) -> None:
    there = an_image()
    catalog.engine.write_now(lambda connection: insert(connection, there))
    assert count(catalog, images_table) == 1
    with pytest.raises(DuplicateImage):
        catalog.engine.write_now(lambda connection: insert(connection, there))


async def test_writes_of_several_processes_wait_for_each_other(tmp_path: Path) -> None:
    """SQLite has one writer at a time; another process's writer is waited for."""
    path = fresh_url("sqlite", tmp_path)
    first, second = Catalog(Engine(path)), Catalog(Engine(path))
    outcomes = await asyncio.gather(
        *(catalog.images.create(an_image()) for catalog in (first, second) for _ in range(50)),
        return_exceptions=True,
    )
    assert outcomes == [None] * 100
    assert count(first, images_table) == 100
    first.close()
    second.close()


async def test_a_database_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    gone = Catalog(Engine(f"postgresql:///none?host={tmp_path}&user=nobody"))
    started = time.monotonic()
    with pytest.raises(CatalogUnavailable):
        await gone.check()
    with pytest.raises(CatalogUnavailable):
        await gone.images.create(an_image())
    assert time.monotonic() - started < 10
    gone.close()
    folder = tmp_path / "a file, not a database"
    folder.write_bytes(b"no database" * 1000)
    broken = Catalog(Engine(f"sqlite:///{folder}"))
    with pytest.raises(CatalogUnavailable):
        await broken.check()
    broken.close()


async def test_work_goes_on_after_the_server_restarted(tmp_path: Path) -> None:
    cluster = Cluster.start()
    template = Catalog(Engine(cluster.database()))
    template.upgrade()
    catalog = Catalog(Engine(str(template.engine.url.render_as_string(hide_password=False))))
    template.close()
    there = an_image()
    await catalog.images.create(there)
    assert await catalog.images.get(there.id, seen_by=ME) == there
    cluster.down()
    with pytest.raises(CatalogUnavailable):
        await catalog.images.get(there.id, seen_by=ME)
    with pytest.raises(CatalogUnavailable):
        await catalog.images.create(an_image())
    cluster.up()
    assert await catalog.images.get(there.id, seen_by=ME) == there
    await catalog.images.create(an_image())
    cluster.down()
    cluster.up()
    # Nobody asked while it was away: the connections look whole and are not.
    await catalog.images.create(an_image())
    assert len(await catalog.images.list(ImageQuery(limit=9), seen_by=ME)) == 3
    catalog.close()
    cluster.remove()


async def test_a_transaction_that_loses_a_deadlock_is_repeated(tmp_path: Path) -> None:
    catalog = Catalog(Engine(fresh_url("postgresql", tmp_path)))
    first, second = an_image(), an_image()
    await catalog.images.create(first)
    await catalog.images.create(second)
    meet = threading.Barrier(2, timeout=10)
    tries: list[str] = []

    def touch(order: list[Image]) -> Callable[[Connection], None]:
        def work(connection: Connection) -> None:
            for number, each in enumerate(order):
                connection.execute(
                    sa.update(images_table)
                    .where(images_table.c.id == each.id)
                    .values(revision=images_table.c.revision + 1)
                )
                if number == 0 and len(tries) < 2:
                    tries.append(each.id)
                    meet.wait()

        return work

    await asyncio.gather(
        catalog.engine.write(touch([first, second])), catalog.engine.write(touch([second, first]))
    )
    assert (await catalog.images.get(first.id, seen_by=ME)).revision == 2
    assert (await catalog.images.get(second.id, seen_by=ME)).revision == 2
    catalog.close()


def test_what_was_acknowledged_survives_a_kill(url: str) -> None:
    program = (
        "import asyncio, sys\n"
        "from tests.support.catalogs import an_image\n"
        "from transom.catalog import Catalog\n"
        "from transom.catalog.engine import Engine\n"
        "catalog = Catalog(Engine(sys.argv[1]))\n"
        "async def one():\n"
        "    while True:\n"
        "        image = an_image(tags=('t',))\n"
        "        await catalog.images.create(image)\n"
        "        print(image.id, flush=True)\n"
        "async def many():\n"
        "    await asyncio.gather(*(one() for _ in range(8)))\n"
        "asyncio.run(many())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, url], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    acknowledged = [process.stdout.readline().strip() for _ in range(40)]
    process.kill()
    acknowledged += process.stdout.read().split()
    process.wait()
    # The last line may have been cut off by the kill.
    whole = {each for each in acknowledged if len(each) == 36}
    catalog = Catalog(Engine(url))
    there = catalog.engine.read_now(
        lambda connection: set(connection.execute(sa.select(images_table.c.id)).scalars())
    )
    assert len(whole) >= 40
    assert whole <= there
    assert count(catalog, image_tags) == len(there)
    catalog.close()
