"""What the catalog promises about tasks, staged data, and what tasks write, on every database."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import uuid
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from tests.support.catalogs import NOON, a_location, an_image
from transom.catalog import Catalog
from transom.catalog.schema import image_locations, intakes
from transom.catalog.task_tables import staged, task_objects
from transom.catalog.tasks import SORT_KEYS, TaskQuery
from transom.errors import (
    CopyDiffers,
    FormatsUnset,
    ImageDeletedMeanwhile,
    ImageLocked,
    ImageNotFound,
    InvalidTaskMarker,
    NothingStaged,
    QuotaExceeded,
    StatusConflict,
    TaskCancelled,
    TaskLost,
    TaskNotFound,
    TransomError,
)
from transom.model.image import Image, Status
from transom.model.limit import BytesLimit, CountLimit
from transom.model.task import Facts, Progress, Staged, Task, TaskObject, TaskStatus, TaskType

SECOND = dt.timedelta(seconds=1)
HOUR = dt.timedelta(hours=1)
LATER = NOON + HOUR
NEVER = dt.datetime(2999, 1, 1, tzinfo=dt.UTC)
FACTS = Facts(
    size=100, virtual_size=200, checksum="c" * 32, os_hash_algo="sha512", os_hash_value="h" * 128
)


def a_task(**fields: Any) -> Task:
    """A task of project `mine` that waits."""
    defaults: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "type": TaskType.API_IMAGE_IMPORT,
        "owner": "mine",
        "input": {"backend": ["main"]},
        "created_at": NOON,
        "updated_at": NOON,
    }
    return Task(**defaults | fields)


async def stored_image(catalog: Catalog, **attributes: Any) -> Image:
    """An image that is there; active ones have data in `main`."""
    image = an_image(**attributes)
    if image.status is Status.ACTIVE:
        image = msgspec.structs.replace(
            image, locations=(a_location("first"),), **msgspec.structs.asdict(FACTS)
        )
    await catalog.images.create(image)
    return image


async def staged_image(catalog: Catalog, key: str = "staged", size: int = 100) -> Image:
    """An image whose data waits for its import."""
    image = await stored_image(catalog)
    await catalog.images.begin_intake(
        image.id, kind="uploading", store="staging", key=key, token="t", process_id="process"
    )
    return await catalog.tasks.finish_staging(
        Staged(image_id=image.id, store="staging", key=key, size_bytes=size, staged_at=NOON)
    )


async def begun(
    catalog: Catalog,
    image: Image | None = None,
    *,
    stores: tuple[str, ...] = ("main",),
    from_status: Status = Status.QUEUED,
    **fields: Any,
) -> Task:
    """An import that waits."""
    if image is None:
        image = await stored_image(catalog, status=from_status)
    task = a_task(image_id=image.id, input={"backend": list(stores)}, **fields)
    await catalog.tasks.begin_import(task, stores=stores, from_status=from_status)
    return task


async def claimed(catalog: Catalog, task: Task, process: str = "process") -> Task:
    """The task, taken up."""
    mine = await catalog.tasks.claim(task.id, process, LATER)
    assert mine is not None
    return mine


async def running(catalog: Catalog, image: Image | None = None, **options: Any) -> Task:
    """An import that is worked on."""
    return await claimed(catalog, await begun(catalog, image, **options))


async def place(
    catalog: Catalog, task: Task, key: str = "key", store: str = "main", **options: Any
) -> Image:
    """Write and place one copy."""
    given: dict[str, Any] = {"changes": {}, "activates": False, "limits": ()}
    given |= options
    facts = given.pop("facts", FACTS)
    if given.pop("remembers", True):
        await catalog.tasks.remember_object(task, store, key, token="t", now=LATER)
    return await catalog.tasks.place(
        task, task.image_id or "", a_location(key, store), facts, now=LATER, **given
    )


async def succeed(catalog: Catalog, task: Task) -> None:
    await catalog.tasks.succeed(
        task,
        task.image_id or "",
        result={"image_id": task.image_id},
        message="done",
        now=LATER,
        expires_at=NEVER,
    )


async def fail(catalog: Catalog, task: Task, message: str = "it failed") -> None:
    await catalog.tasks.fail(
        task, stores=task.input["backend"], message=message, now=LATER, expires_at=NEVER
    )


async def image_of(catalog: Catalog, task: Task) -> Image:
    return await catalog.images.get(task.image_id or "", seen_by=None)


def count(catalog: Catalog, table: sa.Table) -> int:
    return catalog.engine.read_now(
        lambda connection: connection.execute(
            sa.select(sa.func.count()).select_from(table)
        ).scalar_one()
    )


def imports_of(image: Image) -> dict[str, str | None]:
    """What the image tells of its imports."""
    return {
        name.removeprefix("os_glance_"): value
        for name, value in image.properties.items()
        if name.startswith("os_glance_") or name == "last_error"
    }


# --- tasks ------------------------------------------------------------------------------------------


async def test_a_task_comes_back_as_it_was_remembered(catalog: Catalog) -> None:
    given = a_task(
        type=TaskType.IMPORT,
        status=TaskStatus.FAILURE,
        user_id="u",
        request_id="req-1",
        image_id="i",
        input={"ünï": [1, None, {"a": "🚀"}]},
        result={"image_id": "i"},
        message="Ünï 🚀\nsecond line",
        started_at=NOON + SECOND,
        expires_at=NEVER,
        progress=Progress(phase="p", done_bytes=2**62, total_bytes=2**62 + 1, rate_bytes=2**40),
        process_id="p",
        attempt=7,
        is_cancelled=True,
        notes={"slots": {"a": {"key": "k"}}},
    )
    await catalog.tasks.create(given)
    assert await catalog.tasks.get(given.id) == given
    plain = a_task()
    await catalog.tasks.create(plain)
    assert await catalog.tasks.get(plain.id) == plain


@pytest.mark.parametrize("task_id", ["", "nobody", "with\0nul", "\ud800"])
async def test_an_unknown_task_is_not_found(catalog: Catalog, task_id: str) -> None:
    with pytest.raises(TaskNotFound):
        await catalog.tasks.get(task_id)


async def test_unfinished_tasks_are_listed_oldest_first(catalog: Catalog) -> None:
    tasks = [
        a_task(created_at=NOON + number * SECOND, status=status, expires_at=expires)
        for number, (status, expires) in enumerate(
            [
                (TaskStatus.PROCESSING, None),
                (TaskStatus.SUCCESS, NEVER),
                (TaskStatus.PENDING, None),
                (TaskStatus.FAILURE, NEVER),
            ]
        )
    ]
    for task in reversed(tasks):
        await catalog.tasks.create(task)
    assert await catalog.tasks.unfinished() == [tasks[0], tasks[2]]


async def test_a_task_is_taken_up_again_and_again_until_it_ends(catalog: Catalog) -> None:
    task = await begun(catalog)
    first = await claimed(catalog, task, "one")
    assert (first.status, first.attempt, first.process_id) == ("processing", 1, "one")
    assert first.started_at == LATER
    second = await catalog.tasks.claim(task.id, "two", LATER + HOUR)
    assert second is not None
    assert (second.attempt, second.process_id, second.started_at) == (2, "two", LATER)
    await fail(catalog, second)
    assert await catalog.tasks.claim(task.id, "three", LATER) is None
    assert await catalog.tasks.claim("nobody", "three", LATER) is None


async def test_of_many_who_take_a_task_up_at_once_one_has_it(catalog: Catalog) -> None:
    task = await begun(catalog)
    found = await asyncio.gather(
        *(catalog.tasks.claim(task.id, f"p{number}", LATER) for number in range(8))
    )
    attempts = [each.attempt for each in found if each is not None]
    assert sorted(attempts) == list(range(1, 9))
    results = await asyncio.gather(
        *(catalog.tasks.note(each, {"by": each.attempt}) for each in found if each is not None),
        return_exceptions=True,
    )
    assert sum(result is None for result in results) == 1
    assert all(result is None or isinstance(result, TaskLost) for result in results)
    assert (await catalog.tasks.get(task.id)).notes == {"by": 8}


async def test_who_lost_the_task_changes_nothing(catalog: Catalog) -> None:
    task = await begun(catalog)
    stale = await claimed(catalog, task, "frozen")
    await catalog.tasks.remember_object(stale, "main", "early", token="t", now=LATER)
    fresh = await claimed(catalog, task, "living")
    before = (await image_of(catalog, task), await catalog.tasks.get(task.id))
    tasks = catalog.tasks
    late = {
        "report": tasks.report(stale, Progress(phase="late"), "late", LATER),
        "note": tasks.note(stale, {"late": True}),
        "take_image": tasks.take_image(stale, task.image_id or "", stores=["main"]),
        "remember": tasks.remember_object(stale, "main", "late", token="t", now=LATER),
        "place": place(catalog, stale, "early", remembers=False),
        "store_failed": tasks.store_failed(stale, task.image_id or "", "main", "late", LATER),
        "succeed": succeed(catalog, stale),
        "fail": fail(catalog, stale),
    }
    for call in late.values():
        with pytest.raises(TaskLost):
            await call
    assert (await image_of(catalog, task), await catalog.tasks.get(task.id)) == before
    assert [each.key for each in await tasks.objects(task.id)] == ["early"]
    await place(catalog, fresh, "early", remembers=False)
    await succeed(catalog, fresh)
    assert (await image_of(catalog, task)).status is Status.ACTIVE


async def test_who_works_on_a_task_that_has_ended_is_refused(catalog: Catalog) -> None:
    task = await running(catalog)
    await fail(catalog, task)
    ended = await catalog.tasks.get(task.id)
    for call in (
        catalog.tasks.note(task, {"late": True}),
        catalog.tasks.report(task, Progress(), "late", LATER),
        succeed(catalog, task),
        fail(catalog, task, "again"),
    ):
        with pytest.raises(TaskLost):
            await call
    assert await catalog.tasks.get(task.id) == ended


async def test_progress_is_written_and_tells_who_was_cancelled(catalog: Catalog) -> None:
    task = await running(catalog)
    progress = Progress(phase="downloading", done_bytes=5, total_bytes=9, rate_bytes=3)
    assert await catalog.tasks.report(task, progress, "Copied 5", LATER + HOUR) is True
    known = await catalog.tasks.get(task.id)
    assert (known.progress, known.message, known.updated_at) == (progress, "Copied 5", LATER + HOUR)
    assert await catalog.tasks.cancel(task.id) is True
    assert (await catalog.tasks.get(task.id)).is_cancelled
    assert await catalog.tasks.report(task, progress, "", LATER + HOUR) is False


async def test_cancelling_what_has_ended_changes_nothing(catalog: Catalog) -> None:
    task = await running(catalog)
    await fail(catalog, task)
    ended = await catalog.tasks.get(task.id)
    assert await catalog.tasks.cancel(task.id) is False
    assert await catalog.tasks.get(task.id) == ended
    with pytest.raises(TaskNotFound):
        await catalog.tasks.cancel("nobody")


async def test_what_was_cancelled_neither_places_nor_succeeds(catalog: Catalog) -> None:
    task = await running(catalog)
    await place(catalog, task, "one")
    await catalog.tasks.cancel(task.id)
    with pytest.raises(TaskCancelled):
        await place(catalog, task, "two", "second")
    with pytest.raises(TaskCancelled):
        await succeed(catalog, task)
    await fail(catalog, task, "The task was cancelled.")
    image = await image_of(catalog, task)
    assert (image.status, image.locations, image.size) == (Status.QUEUED, (), None)
    assert {each.key for each in await catalog.tasks.objects(task.id)} == {"one", "two"}


async def test_notes_are_gone_when_the_task_has_ended(catalog: Catalog) -> None:
    for ending in (succeed, fail):
        task = await running(catalog, notes={"token": "secret"})
        await place(catalog, task, uuid.uuid4().hex)
        await catalog.tasks.note(task, {"token": "secret"})
        await ending(catalog, task)
        assert (await catalog.tasks.get(task.id)).notes == {}


async def test_expired_tasks_are_forgotten_and_no_others(catalog: Catalog) -> None:
    kept = [a_task(), a_task(status=TaskStatus.SUCCESS, expires_at=NOON + 2 * SECOND)]
    gone = [
        a_task(status=TaskStatus.SUCCESS, expires_at=NOON + SECOND),
        a_task(status=TaskStatus.FAILURE, expires_at=NOON),
    ]
    for task in [*kept, *gone]:
        await catalog.tasks.create(task)
    assert await catalog.tasks.expire(NOON + SECOND) == 2
    for task in kept:
        assert await catalog.tasks.get(task.id) == task
    for task in gone:
        with pytest.raises(TaskNotFound):
            await catalog.tasks.get(task.id)


# --- pages ------------------------------------------------------------------------------------------


async def mixed_tasks(catalog: Catalog) -> list[Task]:
    """Tasks with many equal values and absent ones."""
    made = []
    states = [TaskStatus.PENDING, TaskStatus.PROCESSING, TaskStatus.SUCCESS, TaskStatus.FAILURE]
    for number, (status, owner) in enumerate(itertools.product(states, ["mine", "theirs", None])):
        ended = status in (TaskStatus.SUCCESS, TaskStatus.FAILURE)
        made.append(
            a_task(
                status=status,
                owner=owner,
                type=TaskType.IMPORT if number % 3 else TaskType.API_IMAGE_IMPORT,
                image_id="image" if number % 2 else None,
                created_at=NOON + (number // 4) * SECOND,
                updated_at=NOON + (number % 2) * SECOND,
                expires_at=NEVER + (number % 2) * SECOND if ended else None,
            )
        )
    for task in made:
        await catalog.tasks.create(task)
    return made


def order_of(task: Task, key: str) -> Any:
    value = getattr(task, key)
    if key == "owner":
        value = value or ""
    if key == "expires_at":
        value = value or dt.datetime(9999, 1, 1, tzinfo=dt.UTC)
    return (value, task.id)


@pytest.mark.parametrize("is_descending", [True, False])
@pytest.mark.parametrize("sort_key", SORT_KEYS)
async def test_pages_hold_every_task_once_in_order(
    catalog: Catalog, sort_key: str, is_descending: bool
) -> None:
    made = await mixed_tasks(catalog)
    wanted = sorted(made, key=lambda task: order_of(task, sort_key), reverse=is_descending)
    for limit in (1, 5, 100):
        found: list[Task] = []
        marker: str | None = None
        for _ in range(len(made) + 1):
            page = await catalog.tasks.page(
                TaskQuery(
                    sort_key=sort_key, is_descending=is_descending, limit=limit, marker=marker
                )
            )
            if not page:
                break
            found += page
            marker = page[-1].id
        assert [task.id for task in found] == [task.id for task in wanted]


@pytest.mark.parametrize(
    "filters",
    [
        {"owner": "mine"},
        {"status": "processing"},
        {"type": "import"},
        {"image_id": "image"},
        {"owner": "theirs", "status": "success", "type": "import", "image_id": "image"},
        {"owner": "nobody"},
        {"image_id": "with\0nul"},
    ],
    ids=["owner", "status", "type", "image", "all", "none", "nul"],
)
async def test_pages_are_filtered(catalog: Catalog, filters: dict[str, Any]) -> None:
    made = await mixed_tasks(catalog)
    found = await catalog.tasks.page(TaskQuery(limit=100, **filters))
    assert {task.id for task in found} == {
        task.id
        for task in made
        if all(getattr(task, name) == value for name, value in filters.items())
    }


async def test_expired_tasks_are_on_no_page(catalog: Catalog) -> None:
    old = a_task(status=TaskStatus.SUCCESS, expires_at=NOON)
    await catalog.tasks.create(old)
    assert await catalog.tasks.page(TaskQuery()) == []


@pytest.mark.parametrize("marker", ["nobody", "", "with\0nul"])
async def test_an_unknown_marker_is_refused(catalog: Catalog, marker: str) -> None:
    with pytest.raises(InvalidTaskMarker):
        await catalog.tasks.page(TaskQuery(marker=marker))


# --- staging ----------------------------------------------------------------------------------------


async def test_staged_data_takes_the_place_of_its_intake(catalog: Catalog) -> None:
    image = await staged_image(catalog, size=70)
    assert (image.status, image.size, image.checksum) == (Status.UPLOADING, 70, None)
    assert await catalog.images.get(image.id, seen_by=None) == image
    found = await catalog.tasks.staged(image.id)
    assert found == Staged(
        image_id=image.id, store="staging", key="staged", size_bytes=70, staged_at=NOON
    )
    assert count(catalog, intakes) == 0
    assert await catalog.intakes.get(image.id) is None


async def test_staging_ends_only_what_it_began(catalog: Catalog) -> None:
    image = await stored_image(catalog)
    data = Staged(image_id=image.id, store="staging", key="k", size_bytes=1, staged_at=NOON)
    with pytest.raises(StatusConflict):
        await catalog.tasks.finish_staging(data)
    await catalog.images.begin_intake(
        image.id, kind="uploading", store="staging", key="other", token="t", process_id="p"
    )
    with pytest.raises(StatusConflict):
        await catalog.tasks.finish_staging(data)
    assert count(catalog, intakes) == 1
    await catalog.images.delete(image.id, now=LATER, delayed=False)
    with pytest.raises(ImageDeletedMeanwhile):
        await catalog.tasks.finish_staging(msgspec.structs.replace(data, key="other"))
    with pytest.raises(ImageDeletedMeanwhile):
        await catalog.tasks.finish_staging(msgspec.structs.replace(data, image_id="nobody"))
    assert count(catalog, staged) == 0


async def test_staged_data_of_a_deleted_image_is_nobodys(catalog: Catalog) -> None:
    image = await staged_image(catalog, "gone")
    await catalog.images.delete(image.id, now=LATER, delayed=False)
    assert await catalog.tasks.staged(image.id) is None
    assert count(catalog, staged) == 0
    useless = await catalog.tasks.useless_objects(10)
    assert [(each.store, each.key) for each in useless] == [("staging", "gone")]
    await catalog.tasks.forget_object("staging", "gone")
    assert await catalog.tasks.useless_objects(10) == []


# --- begin ------------------------------------------------------------------------------------------


async def test_an_import_locks_the_image_and_names_the_stores(catalog: Catalog) -> None:
    task = await begun(catalog, stores=("main", "b", "a"))
    image = await image_of(catalog, task)
    assert image.status is Status.IMPORTING
    assert imports_of(image) == {
        "import_task": task.id,
        "importing_to_stores": "a,b,main",
        "failed_import": "",
    }
    assert await catalog.tasks.get(task.id) == task


async def test_a_copy_leaves_the_image_active(catalog: Catalog) -> None:
    task = await begun(catalog, from_status=Status.ACTIVE, stores=("second",))
    image = await image_of(catalog, task)
    assert image.status is Status.ACTIVE
    assert imports_of(image)["importing_to_stores"] == "second"


async def test_staged_data_is_the_tasks_from_its_begin_on(catalog: Catalog) -> None:
    image = await staged_image(catalog, "mine")
    task = await begun(catalog, image, from_status=Status.UPLOADING)
    assert await catalog.tasks.staged(image.id) is None
    assert await catalog.tasks.objects(task.id) == [
        TaskObject(task_id=task.id, store="staging", key="mine", token="")
    ]


async def refused(
    catalog: Catalog, image_id: str, from_status: Status, **options: Any
) -> TransomError:
    """The error of an import that cannot begin; it leaves no task."""
    task = a_task(image_id=image_id)
    with pytest.raises(TransomError) as caught:
        await catalog.tasks.begin_import(task, stores=("main",), from_status=from_status, **options)
    with pytest.raises(TaskNotFound):
        await catalog.tasks.get(task.id)
    return caught.value


async def test_an_import_begins_from_its_own_status_alone(catalog: Catalog) -> None:
    for status in (
        Status.QUEUED,
        Status.SAVING,
        Status.UPLOADING,
        Status.ACTIVE,
        Status.DEACTIVATED,
    ):
        image = await stored_image(catalog, status=status)
        for wanted in (Status.QUEUED, Status.UPLOADING, Status.ACTIVE):
            if wanted is not status:
                assert isinstance(await refused(catalog, image.id, wanted), StatusConflict)
        assert await catalog.images.get(image.id, seen_by=None) == image
    nothing = await stored_image(catalog, status=Status.UPLOADING)
    assert isinstance(await refused(catalog, nothing.id, Status.UPLOADING), NothingStaged)
    assert isinstance(await refused(catalog, "nobody", Status.QUEUED), ImageNotFound)
    await catalog.images.delete(nothing.id, now=LATER, delayed=False)
    assert isinstance(await refused(catalog, nothing.id, Status.QUEUED), ImageNotFound)


@pytest.mark.parametrize("name", ["disk_format", "container_format"])
async def test_an_import_needs_the_formats_where_it_says_so(catalog: Catalog, name: str) -> None:
    image = await stored_image(catalog, **{name: None})
    assert isinstance(await refused(catalog, image.id, Status.QUEUED), FormatsUnset)
    task = a_task(image_id=image.id)
    await catalog.tasks.begin_import(
        task, stores=("main",), from_status=Status.QUEUED, needs_formats=False
    )
    assert (await image_of(catalog, task)).status is Status.IMPORTING


async def test_of_many_imports_at_once_one_begins(catalog: Catalog) -> None:
    for from_status in (Status.QUEUED, Status.ACTIVE, Status.UPLOADING):
        image = (
            await staged_image(catalog, uuid.uuid4().hex)
            if from_status is Status.UPLOADING
            else await stored_image(catalog, status=from_status)
        )
        tasks = [a_task(image_id=image.id) for _ in range(8)]
        results = await asyncio.gather(
            *(
                catalog.tasks.begin_import(task, stores=("second",), from_status=from_status)
                for task in tasks
            ),
            return_exceptions=True,
        )
        winners = [
            task
            for task, result in zip(tasks, results, strict=True)
            if not isinstance(result, BaseException)
        ]
        assert len(winners) == 1, results
        assert all(isinstance(result, Image | ImageLocked | StatusConflict) for result in results)
        image = await catalog.images.get(image.id, seen_by=None)
        assert image.properties["os_glance_import_task"] == winners[0].id
        known = await catalog.tasks.page(TaskQuery(image_id=image.id))
        assert [task.id for task in known] == [winners[0].id]


async def test_the_lock_of_a_task_that_is_over_is_broken(catalog: Catalog) -> None:
    image = await stored_image(catalog, status=Status.ACTIVE)
    first = await running(catalog, image, from_status=Status.ACTIVE, stores=("second",))
    assert isinstance(await refused(catalog, image.id, Status.ACTIVE), ImageLocked)
    await fail(catalog, first)
    failed = await image_of(catalog, first)
    assert imports_of(failed) == {
        "importing_to_stores": "",
        "failed_import": "second",
        "last_error": "it failed",
    }
    # As a crash of an older release, or a task that was removed by hand, may leave it.
    locked = msgspec.structs.replace(
        failed, properties={**failed.properties, "os_glance_import_task": "long-gone"}
    )
    await catalog.images.replace(failed, locked)
    again = await begun(catalog, failed, from_status=Status.ACTIVE, stores=("second",))
    assert imports_of(await image_of(catalog, again)) == {
        "import_task": again.id,
        "importing_to_stores": "second",
        "failed_import": "",
        "last_error": "it failed",
    }


async def test_so_many_images_import_at_once_and_no_more(catalog: Catalog) -> None:
    limit = CountLimit("image_count_uploading", 2)
    images = [await stored_image(catalog) for _ in range(6)]
    results = await asyncio.gather(
        *(
            catalog.tasks.begin_import(
                a_task(image_id=image.id),
                stores=("main",),
                from_status=Status.QUEUED,
                uploading=limit,
            )
            for image in images
        ),
        return_exceptions=True,
    )
    assert sum(isinstance(result, Image) for result in results) == 2
    assert sum(isinstance(result, QuotaExceeded) for result in results) == 4


async def test_copies_count_before_they_begin(catalog: Catalog) -> None:
    image = await stored_image(catalog, status=Status.ACTIVE)
    for bytes_max, fits in ((299, False), (300, True)):
        limit = BytesLimit(name="image_size_total", bytes_max=bytes_max, counts="stored")
        task = a_task(image_id=image.id)
        try:
            await catalog.tasks.begin_import(
                task, stores=("a", "b"), from_status=Status.ACTIVE, adds=[limit]
            )
        except QuotaExceeded:
            assert not fits
        else:
            assert fits


# --- what a task writes -------------------------------------------------------------------------------


async def test_objects_of_a_task_are_listed_until_they_are_placed(catalog: Catalog) -> None:
    task = await running(catalog)
    for key in ("b", "a"):
        await catalog.tasks.remember_object(task, "main", key, token=f"t{key}", now=LATER)
    assert [(each.key, each.token) for each in await catalog.tasks.objects(task.id)] == [
        ("a", "ta"),
        ("b", "tb"),
    ]
    await place(catalog, task, "a", remembers=False)
    assert [each.key for each in await catalog.tasks.objects(task.id)] == ["b"]
    assert await catalog.tasks.useless_objects(10) == []
    await succeed(catalog, task)
    assert [each.key for each in await catalog.tasks.useless_objects(10)] == ["b"]
    await catalog.tasks.forget_object("main", "b")
    await catalog.tasks.forget_object("main", "b")
    assert count(catalog, task_objects) == 0


async def test_what_an_expired_task_left_is_still_useless(catalog: Catalog) -> None:
    task = await running(catalog)
    await catalog.tasks.remember_object(task, "main", "left", token="t", now=LATER)
    await fail(catalog, task)
    await catalog.tasks.expire(NEVER)
    assert [each.key for each in await catalog.tasks.useless_objects(10)] == ["left"]
    assert await catalog.tasks.useless_objects(0) == []


async def test_the_first_copy_says_what_the_data_is(catalog: Catalog) -> None:
    task = await running(catalog, stores=("main", "second"))
    image = await place(
        catalog,
        task,
        changes={
            "disk_format": "qcow2",
            "container_format": "ovf",
            "properties": {"brought": "yes"},
        },
    )
    assert image == await image_of(catalog, task)
    assert image.status is Status.IMPORTING
    assert {name: getattr(image, name) for name in msgspec.structs.asdict(FACTS)} == (
        msgspec.structs.asdict(FACTS)
    )
    assert (image.disk_format, image.container_format) == ("qcow2", "ovf")
    assert image.properties["brought"] == "yes"
    assert imports_of(image)["importing_to_stores"] == "second"
    both = await place(
        catalog, task, "key2", "second", changes={"disk_format": "vmdk", "properties": {"x": "y"}}
    )
    assert [each.store for each in both.locations] == ["main", "second"]
    assert both.disk_format == "qcow2"
    assert "x" not in both.properties
    assert imports_of(both)["importing_to_stores"] == ""
    await succeed(catalog, task)
    done = await image_of(catalog, task)
    assert done.status is Status.ACTIVE
    assert imports_of(done) == {"importing_to_stores": "", "failed_import": ""}
    assert count(catalog, task_objects) == 0


async def test_a_copy_that_is_placed_twice_is_there_once(catalog: Catalog) -> None:
    task = await running(catalog)
    first = await place(catalog, task)
    again = await place(catalog, task, remembers=False)
    assert again == first
    assert count(catalog, image_locations) == 1
    later = await claimed(catalog, task)
    assert await place(catalog, later, remembers=False) == first


async def test_an_object_that_nobody_remembers_is_not_placed(catalog: Catalog) -> None:
    task = await running(catalog)
    before = await image_of(catalog, task)
    with pytest.raises(TaskLost):
        await place(catalog, task, remembers=False)
    assert await image_of(catalog, task) == before


async def test_the_first_copy_makes_the_image_active_where_one_is_enough(catalog: Catalog) -> None:
    task = await running(catalog, stores=("main", "second"))
    image = await place(catalog, task, activates=True)
    assert image.status is Status.ACTIVE
    assert imports_of(image)["import_task"] == task.id


@pytest.mark.parametrize(
    ("name", "other"), [("size", 101), ("checksum", "d" * 32), ("os_hash_value", "i" * 128)]
)
async def test_a_copy_of_other_data_is_refused(catalog: Catalog, name: str, other: Any) -> None:
    task = await running(catalog, stores=("main", "second"))
    first = await place(catalog, task)
    with pytest.raises(CopyDiffers):
        await place(
            catalog, task, "key2", "second", facts=msgspec.structs.replace(FACTS, **{name: other})
        )
    assert await image_of(catalog, task) == first


async def test_a_copy_over_the_quota_is_refused(catalog: Catalog) -> None:
    task = await running(catalog, stores=("main", "second"))
    limit = BytesLimit(name="image_size_total", bytes_max=199, counts="stored")
    first = await place(catalog, task, limits=[limit])
    with pytest.raises(QuotaExceeded):
        await place(catalog, task, "key2", "second", limits=[limit])
    assert await image_of(catalog, task) == first
    # What is in already is not counted again.
    assert await place(catalog, task, remembers=False, limits=[limit]) == first


async def test_a_copy_cannot_be_placed_in_an_image_of_another_status(catalog: Catalog) -> None:
    image = await stored_image(catalog, status=Status.ACTIVE)
    task = await running(catalog, image, from_status=Status.ACTIVE, stores=("second",))
    now = await image_of(catalog, task)
    await catalog.images.replace(now, msgspec.structs.replace(now, status=Status.DEACTIVATED))
    with pytest.raises(StatusConflict):
        await place(catalog, task, "key2", "second")


# --- the end ------------------------------------------------------------------------------------------


async def test_a_failure_puts_the_image_back(catalog: Catalog) -> None:
    task = await running(catalog, stores=("main", "second"), notes={})
    before = {
        "disk_format": "raw",
        "container_format": "bare",
        "brought": ["brought", "own"],
        "properties": {"own": "mine"},
    }
    task.notes["before"] = before
    await place(
        catalog,
        task,
        changes={"disk_format": "qcow2", "properties": {"brought": "yes", "own": "theirs"}},
    )
    await catalog.tasks.remember_object(task, "second", "half", token="t", now=LATER)
    await fail(catalog, task, "no room")
    image = await image_of(catalog, task)
    assert image.status is Status.QUEUED
    assert image.locations == ()
    assert [
        image.size, image.virtual_size, image.checksum, image.os_hash_algo, image.os_hash_value
    ] == [None] * 5  # fmt: skip
    assert (image.disk_format, image.properties["own"]) == ("raw", "mine")
    assert "brought" not in image.properties
    assert imports_of(image) == {
        "importing_to_stores": "",
        "failed_import": "main,second",
        "last_error": "no room",
    }
    ended = await catalog.tasks.get(task.id)
    assert (ended.status, ended.message, ended.result) == (TaskStatus.FAILURE, "no room", None)
    assert ended.expires_at == NEVER
    assert {each.key for each in await catalog.tasks.useless_objects(10)} == {"key", "half"}
    assert count(catalog, image_locations) == 0


async def test_a_failed_copy_leaves_what_was_there(catalog: Catalog) -> None:
    image = await stored_image(catalog, status=Status.ACTIVE)
    task = await running(catalog, image, from_status=Status.ACTIVE, stores=("second", "third"))
    await place(catalog, task, "key2", "second")
    await fail(catalog, task)
    after = await image_of(catalog, task)
    assert (after.status, after.locations, after.size) == (Status.ACTIVE, image.locations, 100)
    assert imports_of(after)["failed_import"] == "second,third"
    assert [each.key for each in await catalog.tasks.useless_objects(10)] == ["key2"]


@pytest.mark.parametrize("from_status", [Status.QUEUED, Status.ACTIVE])
async def test_what_is_filled_stays_where_one_store_is_enough(
    catalog: Catalog, from_status: Status
) -> None:
    task = await running(
        catalog,
        from_status=from_status,
        stores=("second", "third"),
        notes={"must_succeed": False},
    )
    await place(catalog, task, "key2", "second", activates=True)
    await catalog.tasks.remember_object(task, "third", "half", token="t", now=LATER)
    await fail(catalog, task, "The task was cancelled.")
    image = await image_of(catalog, task)
    assert image.status is Status.ACTIVE
    assert "second" in [each.store for each in image.locations]
    assert imports_of(image) == {
        "importing_to_stores": "",
        "failed_import": "third",
        "last_error": "The task was cancelled.",
    }
    assert [each.key for each in await catalog.tasks.useless_objects(10)] == ["half"]
    await catalog.tasks.forget_object("third", "half")
    assert count(catalog, task_objects) == 0


async def test_nothing_filled_is_a_queued_image_also_where_one_store_is_enough(
    catalog: Catalog,
) -> None:
    task = await running(catalog, stores=("second", "third"), notes={"must_succeed": False})
    await catalog.tasks.store_failed(task, task.image_id or "", "second", "it is full", LATER)
    image = await image_of(catalog, task)
    assert imports_of(image) == {
        "import_task": task.id,
        "importing_to_stores": "third",
        "failed_import": "second",
        "last_error": "it is full",
    }
    await fail(catalog, task, "every one failed")
    image = await image_of(catalog, task)
    assert image.status is Status.QUEUED
    assert imports_of(image)["failed_import"] == "second,third"


async def test_a_success_tells_which_stores_failed(catalog: Catalog) -> None:
    task = await running(catalog, stores=("second", "third"))
    await catalog.tasks.store_failed(task, task.image_id or "", "second", "it is full", LATER)
    await place(catalog, task, "key3", "third", activates=True)
    await succeed(catalog, task)
    image = await image_of(catalog, task)
    assert image.status is Status.ACTIVE
    assert imports_of(image) == {
        "importing_to_stores": "",
        "failed_import": "second",
        "last_error": "it is full",
    }
    ended = await catalog.tasks.get(task.id)
    assert (ended.status, ended.result) == (TaskStatus.SUCCESS, {"image_id": task.image_id})


async def test_a_failure_does_not_touch_an_image_that_another_task_has(catalog: Catalog) -> None:
    image = await stored_image(catalog, status=Status.ACTIVE)
    task = await running(catalog, image, from_status=Status.ACTIVE, stores=("second",))
    now = await image_of(catalog, task)
    stolen = msgspec.structs.replace(
        now, properties={**now.properties, "os_glance_import_task": "another"}
    )
    await catalog.images.replace(now, stolen)
    before = await image_of(catalog, task)
    await fail(catalog, task)
    assert await image_of(catalog, task) == before


# --- deletion -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("delayed", [False, True])
@pytest.mark.parametrize("state", ["pending", "processing", "placed", "active"])
async def test_deleting_the_image_ends_its_task(
    catalog: Catalog, state: str, delayed: bool
) -> None:
    stores = ("main", "second")
    image = await staged_image(catalog)
    task = await begun(catalog, image, from_status=Status.UPLOADING, stores=stores)
    if state != "pending":
        task = await claimed(catalog, task)
    if state in ("placed", "active"):
        await place(catalog, task, activates=state == "active")
    await catalog.images.delete(image.id, now=LATER, delayed=delayed)
    assert (await catalog.tasks.get(task.id)).is_cancelled
    if state == "pending":
        task = await claimed(catalog, task)
    for call in (
        place(catalog, task, "key2", "second"),
        succeed(catalog, task),
        catalog.tasks.take_image(task, image.id, stores=stores),
    ):
        with pytest.raises(ImageDeletedMeanwhile):
            await call
    await catalog.tasks.store_failed(task, image.id, "second", "late", LATER)
    await fail(catalog, task, "gone")
    with pytest.raises(ImageNotFound):
        await catalog.images.get(image.id, seen_by=None)
    # What was placed goes with the image, or waits with it for the scrubber.
    waiting = {"key"} if state in ("placed", "active") else set()
    useless = {each.key for each in await catalog.tasks.useless_objects(10)}
    assert useless == {"staged", "key2"}
    doomed = await catalog.images.doomed(
        10, LATER + HOUR, scrub_after_seconds=0 if delayed else None
    )
    assert {location.key for _, location in doomed} == waiting


async def test_an_image_that_is_restored_still_has_its_copies(catalog: Catalog) -> None:
    image = await stored_image(catalog, status=Status.ACTIVE)
    task = await running(catalog, image, from_status=Status.ACTIVE, stores=("second", "third"))
    await place(catalog, task, "key2", "second")
    await catalog.images.delete(image.id, now=LATER, delayed=True)
    await fail(catalog, task, "gone")
    assert await catalog.tasks.useless_objects(10) == []
    back = await catalog.images.undelete(image.id, now=LATER + HOUR)
    assert [each.key for each in back.locations] == ["first", "key2"]


async def test_deletion_and_place_at_once_leave_a_trace_of_every_object(catalog: Catalog) -> None:
    for _ in range(8):
        key = uuid.uuid4().hex
        task = await running(catalog)
        await catalog.tasks.remember_object(task, "main", key, token="t", now=LATER)
        image_id = task.image_id or ""
        placed, deleted = await asyncio.gather(
            place(catalog, task, key, remembers=False),
            catalog.images.delete(image_id, now=LATER, delayed=False),
            return_exceptions=True,
        )
        assert isinstance(deleted, Image)
        await fail(catalog, task)
        useless = {each.key for each in await catalog.tasks.useless_objects(1000)}
        doomed = {
            place_.key
            for _, place_ in await catalog.images.doomed(1000, LATER + HOUR, settled_seconds=0)
        }
        assert isinstance(placed, Image | ImageDeletedMeanwhile), placed
        assert (key in useless) is isinstance(placed, ImageDeletedMeanwhile)
        assert (key in doomed) is isinstance(placed, Image)


async def test_a_task_takes_the_image_that_it_made(catalog: Catalog) -> None:
    image = await stored_image(catalog)
    task = a_task(type=TaskType.IMPORT)
    await catalog.tasks.create(task)
    task = await claimed(catalog, task)
    taken = await catalog.tasks.take_image(task, image.id, stores=["main"])
    assert (taken.status, taken.properties["os_glance_import_task"]) == ("importing", task.id)
    assert await catalog.tasks.take_image(task, image.id, stores=["main"]) == taken
    assert (await catalog.tasks.get(task.id)).image_id == image.id
    with pytest.raises(ImageDeletedMeanwhile):
        await catalog.tasks.take_image(task, "nobody", stores=["main"])
