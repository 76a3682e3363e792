"""Lists of images, on every database: API §5 against a plain reading of it, and what they cost."""

from __future__ import annotations

import atexit
import datetime as dt
import functools
import itertools
import random
import shutil
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from tests.support import listing, postgres, seed
from tests.support.catalogs import DIALECTS, NOON, an_image, clear, fresh_url
from transom.catalog import Catalog, following, pages
from transom.catalog.bulk import load
from transom.catalog.engine import Engine
from transom.catalog.statements import Prepared
from transom.errors import InvalidMarker, MarkerNotVisible
from transom.model.actor import Actor
from transom.model.image import Image, Location, Status, Visibility
from transom.model.member import Member, MemberStatus
from transom.model.query import (
    SORT_KEYS,
    Direction,
    ImageQuery,
    RangeFilter,
    TimeFilter,
    TimeOperator,
)

ME = Actor(project_id="mine")
ADMIN = Actor(project_id="admins", is_admin=True)
LAST = (("created_at", "desc"), ("id", "desc"))


async def names(catalog: Catalog, actor: Actor = ME, **query: Any) -> list[str | None]:
    """The names on the first page of a list by name."""
    query = {"limit": 100, "sort": (("name", "asc"), *LAST)} | query
    return [each.name for each in await catalog.images.list(ImageQuery(**query), seen_by=actor)]


# --- the model -------------------------------------------------------------------------------------

TEXTS = ("a", "b", "B", "ab", "\u00e9", "\U0001f600", "", "z")
SECONDS = range(5)
MICROSECONDS = (0, 0, 1, 500_000, 999_999)
ACTORS = st.sampled_from(
    [
        ME,
        ME,
        Actor(project_id="theirs"),
        Actor(project_id="new here"),
        Actor(),
        Actor(project_id="mine", is_admin=True),
        Actor(is_admin=True),
    ]
)


def a_moment(chance: random.Random) -> dt.datetime:
    """One of a few moments."""
    return NOON + dt.timedelta(
        seconds=chance.choice(SECONDS), microseconds=chance.choice(MICROSECONDS)
    )


def some_image(chance: random.Random) -> Image:
    """An image with values of which there are few, so that filters match and sort keys tie."""
    pick = chance.choice
    return Image(
        id=str(uuid.UUID(int=chance.getrandbits(128))),
        created_at=a_moment(chance),
        updated_at=a_moment(chance),
        name=pick([None, None, *TEXTS]),
        status=pick([*Status, *[Status.ACTIVE] * 8]),
        visibility=pick(list(Visibility)),
        owner=pick(["mine", "mine", "theirs", "others", None]),
        disk_format=pick([None, "raw", "qcow2"]),
        container_format=pick([None, "bare", "ova"]),
        size=pick([None, 0, 1, 5, 2**63 - 1]),
        virtual_size=pick([None, 3]),
        checksum=pick([None, "c1", "c2"]),
        os_hash_algo=pick([None, "sha512"]),
        os_hash_value=pick([None, "h1"]),
        os_hidden=chance.random() < 0.15,
        protected=chance.random() < 0.4,
        min_disk=pick([0, 1]),
        min_ram=pick([0, 7]),
        properties={
            name: pick([None, "x", "x", "y", ""])
            for name in chance.sample(["k", "l", "name", "owner"], pick([0, 1, 2]))
        },
        tags=tuple(chance.sample(["t", "u", "T"], pick([0, 1, 2, 3]))),
        locations=pick([(), (Location(store="main", key="k", url="file:///k"),)]),
    )


@st.composite
def catalogs(draw: st.DrawFn) -> tuple[list[Image], list[Member]]:
    """Some images, and members of some of them. Made by chance alone: left to itself, Hypothesis
    prefers catalogs that are all but empty."""
    chance = random.Random(draw(st.integers(0, 2**32)))
    made = [some_image(chance) for _ in range(draw(st.sampled_from([40, 40, 15, 3, 0])))]
    members = [
        Member(
            image_id=each.id,
            member_id=project,
            status=chance.choice(list(MemberStatus)),
            created_at=NOON,
            updated_at=NOON,
        )
        for each in made
        for project in ("mine", "theirs")
        if chance.random() < 0.6
    ]
    return made, members


@st.composite
def sorts(draw: st.DrawFn) -> tuple[tuple[str, Direction], ...]:
    """Every order, made total as the API makes it."""
    direction: st.SearchStrategy[Direction] = st.sampled_from(["asc", "desc"])
    keys = draw(st.lists(st.sampled_from(SORT_KEYS), max_size=3, unique=True))
    given_keys = [(key, draw(direction)) for key in keys]
    last = draw(direction)
    return (
        *given_keys,
        *((key, last) for key in ("created_at", "id") if key not in keys),
    )


MOMENTS = st.builds(
    lambda seconds, microseconds: NOON + dt.timedelta(seconds=seconds, microseconds=microseconds),
    st.sampled_from(SECONDS),
    st.sampled_from(MICROSECONDS),
)
HUGE = st.sampled_from([0, 1, 3, 5, 7, 10**30, -(10**30), 2**63, -(2**63)])
OPERATORS: st.SearchStrategy[TimeOperator] = st.sampled_from(
    ["eq", "neq", "gt", "gte", "lt", "lte"]
)
EQUALS = st.one_of(
    st.tuples(st.just("name"), st.sampled_from([*TEXTS, "nul\0", "\ud800"])),
    st.tuples(st.just("status"), st.sampled_from([*map(str, Status), "no status"])),
    st.tuples(st.just("disk_format"), st.sampled_from(["raw", "vhd"])),
    st.tuples(st.just("container_format"), st.sampled_from(["bare", "ova"])),
    st.tuples(st.just("owner"), st.sampled_from(["mine", "theirs", "nobody"])),
    st.tuples(st.just("checksum"), st.sampled_from(["c1", "c3"])),
    st.tuples(st.just("os_hash_algo"), st.sampled_from(["sha512", "md5"])),
    st.tuples(st.just("os_hash_value"), st.just("h1")),
)
ONE_OF = st.one_of(
    st.tuples(st.just("name"), st.lists(st.sampled_from([*TEXTS, "nul\0"]), max_size=4).map(tuple)),
    st.tuples(
        st.just("status"), st.lists(st.sampled_from([*map(str, Status)]), max_size=4).map(tuple)
    ),
    st.tuples(
        st.sampled_from(["disk_format", "container_format"]),
        st.lists(st.sampled_from(["raw", "bare", "ova"]), max_size=3).map(tuple),
    ),
)
INTEGER_COLUMNS = st.sampled_from(["size", "virtual_size", "min_ram", "min_disk"])


FILTERS: dict[str, st.SearchStrategy[Any]] = {
    "tags": st.sampled_from(["t", "u", "T", "t", "u", "none", "nul\0"]),
    "equals": EQUALS,
    "integers": st.tuples(INTEGER_COLUMNS, HUGE),
    "one_of": ONE_OF,
    "ranges": st.builds(RangeFilter, INTEGER_COLUMNS, st.sampled_from(["min", "max"]), HUGE),
    "times": st.builds(
        TimeFilter, st.sampled_from(["created_at", "updated_at"]), OPERATORS, MOMENTS
    ),
    "properties": st.tuples(
        st.sampled_from(["k", "l", "name", "limit"]), st.sampled_from(["x", "x", "y", "", "nul\0"])
    ),
}


@st.composite
def queries(draw: st.DrawFn) -> dict[str, Any]:
    """Anything that a list can be asked, except for the page; mostly with few filters, because
    many together find nothing and so show nothing."""
    filters: dict[str, tuple[Any, ...]] = {}
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 1, 2, 3]))):
        kind = draw(st.sampled_from(sorted(FILTERS)))
        filters[kind] = (*filters.get(kind, ()), draw(FILTERS[kind]))
    return {
        "sort": draw(sorts()),
        "visibility": draw(
            st.sampled_from([None] * 4 + ["all"] * 3 + ["public", "community", "shared", "private"])
        ),
        "member_status": draw(st.sampled_from(["accepted", "pending", "rejected", "all"])),
        "os_hidden": draw(st.sampled_from([False] * 6 + [True])),
        "protected": draw(st.sampled_from([None] * 6 + [True, False])),
        "changed_since": draw(st.sampled_from([None, None, None, NOON]) | MOMENTS),
        **filters,
    }


class Knobs(msgspec.Struct, frozen=True):
    """The numbers by which a way is chosen: turned so that small catalogs go every way."""

    handful: int
    small: int
    few: int
    sample: int
    step: int


KNOBS = st.sampled_from(
    [
        Knobs(handful=0, small=1, few=1, sample=1, step=1),
        Knobs(handful=0, small=6, few=2, sample=2, step=2),
        Knobs(handful=0, small=1000, few=100, sample=200, step=100),
        Knobs(handful=2000, small=1000, few=100, sample=200, step=100),
    ]
)


def folder_that_stays() -> Path:
    """A folder that goes with the process."""
    folder = Path(tempfile.mkdtemp(prefix="transom-pages-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def standing(dialect: str) -> Catalog:
    """A catalog for many examples."""
    with postgres.for_many_tests():
        return Catalog(Engine(fresh_url(dialect, folder_that_stays())))


def all_pages(catalog: Catalog, query: dict[str, Any], actor: Actor, limit: int) -> list[Image]:
    """Everything that a query finds, page by page, as a client goes through them."""
    found: list[Image] = []
    marker = None
    while True:
        page = run(catalog, ImageQuery(limit=limit, marker=marker, **query), actor)
        assert len(page) <= limit
        assert not {each.id for each in page} & {each.id for each in found}
        found += page
        if len(page) < limit:
            return found
        marker = page[-1].id


def run(catalog: Catalog, query: ImageQuery, actor: Actor) -> list[Image]:
    """`images.list` without an event loop."""
    coroutine = catalog.images.list(query, seen_by=actor)

    engine = catalog.engine
    catalog.images._engine = _Now(engine)  # type: ignore[assignment]
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: list[Image] = done.value
        return result
    finally:
        catalog.images._engine = engine
    raise AssertionError("a list waits for nothing but its read")


class _Now:
    """Reads at once; of the quick statements it leaves every third to a connection."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def read(self, work: Callable[[Connection], Any]) -> Any:
        return self._engine.read_now(work)

    async def ahead(self, statement: Prepared, values: dict[str, Any]) -> list[Any] | None:
        if next(_NUMBERS) % 3 == 0 or not statement.is_prepared:
            return None
        return self._engine.read_now(lambda connection: statement.rows(connection, values))


_NUMBERS = itertools.count()


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    content=catalogs(),
    asked=st.lists(st.tuples(queries(), ACTORS, st.integers(1, 9)), min_size=5, max_size=20),
    knobs=KNOBS,
)
def test_every_list_is_what_the_api_says(
    dialect: str,
    content: tuple[list[Image], list[Member]],
    asked: list[tuple[dict[str, Any], Actor, int]],
    knobs: Knobs,
) -> None:
    made, members = content
    catalog = standing(dialect)
    clear(catalog)
    load(catalog.engine, made, members)
    catalog.images._pages = pages.Pages(dialect)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "HANDFUL", knobs.handful)
        patch.setattr(pages, "SMALL", knobs.small)
        patch.setattr(pages, "FEW", knobs.few)
        patch.setattr(pages, "SAMPLE", knobs.sample)
        patch.setattr(following, "STEP", knobs.step)
        for query, actor, limit in asked:
            wanted = listing.all_pages(made, members, ImageQuery(limit=limit, **query), actor)
            found = all_pages(catalog, query, actor, limit)
            assert [each.id for each in found] == [each.id for each in wanted]
            shared_with = {each.image_id for each in members if each.member_id == actor.project_id}
            for each, original in zip(found, wanted, strict=True):
                is_shared = each.visibility is Visibility.SHARED and each.id in shared_with
                assert each == msgspec.structs.replace(
                    original, member_id=actor.project_id if is_shared else None
                )


# --- single rules, for people to read ----------------------------------------------------------------


async def test_a_page_of_nothing_is_empty(catalog: Catalog) -> None:
    await catalog.images.create(an_image())
    assert await catalog.images.list(ImageQuery(limit=0), seen_by=ME) == []


async def test_null_sorts_as_the_smallest_value_and_text_byte_by_byte(catalog: Catalog) -> None:
    ordered = [None, "", "B", "a", "b", "\u00e9", "\uffff", "\U0001f600"]
    for name in reversed(ordered):
        await catalog.images.create(an_image(name=name))
    assert await names(catalog) == ordered
    assert await names(catalog, sort=(("name", "desc"), *LAST)) == ordered[::-1]


async def test_times_are_compared_as_they_are_shown(catalog: Catalog) -> None:
    shown = NOON + dt.timedelta(microseconds=999_999)
    await catalog.images.create(an_image(name="x", created_at=shown))

    async def finds(operator: TimeOperator, seconds: float) -> bool:
        moment = NOON + dt.timedelta(seconds=seconds)
        return await names(catalog, times=(TimeFilter("created_at", operator, moment),)) == ["x"]

    assert await finds("eq", 0)
    assert await finds("gte", 0)
    assert await finds("lte", 0)
    assert not await finds("gt", 0)
    assert not await finds("neq", 0)
    assert not await finds("lt", 0)
    assert await finds("lt", 1)
    assert await finds("gt", -1)
    assert not await finds("gte", 0.5)
    assert await finds("lt", 0.5)
    assert not await finds("eq", 0.999999)


@pytest.mark.parametrize("operator", ["eq", "neq", "gt", "gte", "lt", "lte"])
@pytest.mark.parametrize(
    "moment",
    [
        dt.datetime.min.replace(tzinfo=dt.UTC),
        dt.datetime.max.replace(tzinfo=dt.UTC),
        dt.datetime.max.replace(microsecond=0, tzinfo=dt.UTC),
        dt.datetime.min.replace(tzinfo=dt.timezone(dt.timedelta(hours=14))),
        dt.datetime.max.replace(microsecond=0, tzinfo=dt.timezone(dt.timedelta(hours=-12))),
    ],
    ids=str,
)
async def test_the_ends_of_time_are_times(
    catalog: Catalog, operator: TimeOperator, moment: dt.datetime
) -> None:
    await catalog.images.create(an_image(name="x"))
    late = moment.year > 5000
    wanted = operator in (("neq", "lt", "lte") if late else ("neq", "gt", "gte"))
    found = await names(catalog, times=(TimeFilter("created_at", operator, moment),))
    assert found == (["x"] if wanted else [])
    assert await names(catalog, changed_since=moment) == ([] if late else ["x"])


async def test_changes_hold_deleted_images_and_deleted_markers(catalog: Catalog) -> None:
    made = [an_image(name=str(number)) for number in range(4)]
    for each in made:
        await catalog.images.create(each)
    deleted = NOON + dt.timedelta(seconds=10)
    for each in made[:2]:
        await catalog.images.delete(each.id, now=deleted, delayed=False)
    assert await names(catalog) == ["2", "3"]
    assert await names(catalog, changed_since=NOON) == ["0", "1", "2", "3"]
    assert await names(catalog, changed_since=deleted) == ["0", "1"]
    assert await names(catalog, changed_since=NOON, marker=made[0].id) == ["1", "2", "3"]
    with pytest.raises(InvalidMarker):
        await names(catalog, marker=made[0].id)
    found = await names(catalog, changed_since=NOON, equals=(("status", "deleted"),))
    assert found == ["0", "1"]
    assert await names(catalog, equals=(("status", "deleted"),)) == []


async def test_tombstones_keep_what_the_list_of_changes_shows(catalog: Catalog) -> None:
    gone = an_image(properties={"instance_uuid": "i"}, tags=("t",))
    await catalog.images.create(gone)
    await catalog.images.delete(gone.id, now=NOON, delayed=False)
    query = ImageQuery(limit=5, changed_since=NOON, properties=(("instance_uuid", "i"),))
    (found,) = await catalog.images.list(query, seen_by=ME)
    assert (found.status, found.properties, found.tags) == (
        Status.DELETED,
        {"instance_uuid": "i"},
        ("t",),
    )


@pytest.mark.parametrize(
    "marker", ["099b63fb-0f4f-4770-8fa8-a888ec92d5d2", "", "no uuid", "nul\0", "\ud800", "🚀"]
)
async def test_a_marker_that_names_nothing_is_invalid(catalog: Catalog, marker: str) -> None:
    with pytest.raises(InvalidMarker):
        await catalog.images.list(ImageQuery(limit=5, marker=marker), seen_by=ADMIN)


async def test_a_marker_of_somebody_else_is_not_visible(catalog: Catalog) -> None:
    theirs = an_image(owner="theirs")
    await catalog.images.create(theirs)
    query = ImageQuery(limit=5, marker=theirs.id)
    with pytest.raises(MarkerNotVisible):
        await catalog.images.list(query, seen_by=ME)
    assert await catalog.images.list(query, seen_by=ADMIN) == []


async def test_a_marker_need_not_be_in_the_list_to_be_its_mark(catalog: Catalog) -> None:
    hidden = an_image(name="b", os_hidden=True)
    await catalog.images.create(hidden)
    for name in ("a", "c"):
        await catalog.images.create(an_image(name=name))
    assert await names(catalog, marker=hidden.id) == ["c"]


async def test_values_of_properties_are_compared_whole(catalog: Catalog) -> None:
    long = "x" * 100_000
    await catalog.images.create(an_image(name="long", properties={"k": long}))
    await catalog.images.create(an_image(name="other", properties={"k": long + "y", "": ""}))
    assert await names(catalog, properties=(("k", long),)) == ["long"]
    assert await names(catalog, properties=(("", ""),)) == ["other"]
    assert await names(catalog, properties=(("k", ""),)) == []


async def test_filters_follow_changes_of_visibility_hiding_and_tags(catalog: Catalog) -> None:
    before = an_image(name="x", tags=("t",), properties={"k": "v"}, visibility=Visibility.PUBLIC)
    await catalog.images.create(before)
    other = Actor(project_id="other")
    wanted = {"tags": ("t",), "properties": (("k", "v"),)}
    assert await names(catalog, other, **wanted) == ["x"]
    private = await catalog.images.replace(
        before, msgspec.structs.replace(before, visibility=Visibility.PRIVATE)
    )
    assert await names(catalog, other, **wanted) == []
    assert await names(catalog, **wanted) == ["x"]
    hidden = await catalog.images.replace(
        private,
        msgspec.structs.replace(private, os_hidden=True, visibility=Visibility.PUBLIC),
    )
    assert await names(catalog, other, **wanted) == []
    assert await names(catalog, other, os_hidden=True, **wanted) == ["x"]
    await catalog.images.replace(hidden, msgspec.structs.replace(hidden, tags=("u",)))
    assert await names(catalog, os_hidden=True, **wanted) == []
    assert await names(catalog, os_hidden=True, tags=("u",)) == ["x"]


# --- what lists cost ---------------------------------------------------------------------------------

COUNT = 6000
BIG = Actor(project_id=seed.project(0))
SMALL = Actor(project_id=seed.project(90))


@functools.cache
def filled() -> Catalog:
    """A catalog like a cloud's, on SQLite, where work can be counted."""
    catalog = Catalog(Engine(fresh_url("sqlite", folder_that_stays())))
    load(catalog.engine, seed.images(COUNT), seed.members(seed.images(COUNT)))
    return catalog


def steps_of(query: ImageQuery, actor: Actor) -> int:
    """Hundreds of instructions of SQLite's machine that a page takes."""
    catalog = filled()
    taken = 0

    def count() -> int:
        nonlocal taken
        taken += 1
        return 0

    def work(connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        driver.set_progress_handler(count, 100)
        try:
            catalog.images._pages.rows(connection, query, actor)
        finally:
            driver.set_progress_handler(None, 0)

    catalog.engine.read_now(work)
    return taken


@pytest.mark.parametrize("actor", [BIG, SMALL, ADMIN], ids=["big", "small", "admin"])
@pytest.mark.parametrize(
    "query",
    [
        {},
        {"sort": (("created_at", "asc"), ("id", "asc"))},
        {"visibility": "public"},
        {"visibility": "all"},
        {"visibility": "shared"},
        {"visibility": "private"},
        {"os_hidden": True},
        {"equals": (("status", "active"),)},
        {"equals": (("status", "saving"),)},
        {"equals": (("name", "image-7"),)},
        {"equals": (("name", "nobody has this name"),)},
        {"equals": (("owner", seed.project(7)),)},
        {"equals": (("checksum", "0" * 32),)},
        {"equals": (("os_hash_algo", "md5"),)},
        {"equals": (("id", "4a6f80ca-b768-4fb0-bc50-dbe2aa72a62d"),)},
        {"tags": ("nobody has this tag",)},
        {"tags": ("golden",)},
        {"properties": (("build", "77"),)},
        {"properties": (("os_distro", "debian"),)},
        {"integers": (("min_ram", 3),)},
        {"integers": (("virtual_size", 3),)},
        {"protected": True},
        {"changed_since": seed.START},
        {"sort": (("name", "asc"), *LAST)},
        {"sort": (("name", "desc"), *LAST)},
        {"sort": (("size", "asc"), *LAST)},
        {"sort": (("updated_at", "desc"), *LAST)},
        {"sort": (("status", "asc"), *LAST)},
        {"sort": (("id", "asc"), ("created_at", "asc"))},
    ],
    ids=str,
)
def test_a_page_of_a_large_catalog_costs_little(
    actor: Actor, query: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A walk over all 6000 images takes more than 400."""
    monkeypatch.setattr(pages, "HANDFUL", 0)
    monkeypatch.setattr(pages, "SMALL", 200)
    assert steps_of(ImageQuery(limit=25, **query), actor) < 150


def test_a_page_deep_in_the_list_costs_what_the_first_one_costs() -> None:
    everything = run(filled(), ImageQuery(limit=COUNT), ADMIN)
    first = steps_of(ImageQuery(limit=25), ADMIN)
    deep = steps_of(ImageQuery(limit=25, marker=everything[-50].id), ADMIN)
    assert deep <= first + 2


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"equals": (("status", "active"),), "visibility": "public"},
        {"tags": ("golden",)},
        {"properties": (("os_distro", "debian"),)},
        {"properties": (("os_distro", "debian"),), "equals": (("status", "active"),)},
        {"equals": (("owner", "mine"),)},
    ],
    ids=str,
)
@pytest.mark.parametrize("actor", [ME, ADMIN, Actor(is_admin=True)], ids=["me", "admin", "system"])
def test_postgresql_plans_a_walk_once(
    query: dict[str, Any], actor: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "HANDFUL", 0)
    monkeypatch.setattr(pages, "FEW", 0)
    catalog = Catalog(Engine(fresh_url("postgresql", tmp_path), pool_size=1))
    load(catalog.engine, [an_image(name="there")])
    for _ in range(8):
        run(catalog, ImageQuery(limit=25, **query), actor)

    def planned(connection: Connection) -> tuple[Any, ...]:
        return tuple(
            connection.exec_driver_sql(
                "SELECT sum(generic_plans), sum(custom_plans) FROM pg_prepared_statements "
                "WHERE statement LIKE '%%LIMIT 25%%'"
            ).one()
        )

    generic, custom = catalog.engine.read_now(planned)
    catalog.close()
    assert (generic, custom) == (8, 0)


async def test_loading_what_is_there_already_changes_nothing(catalog: Catalog) -> None:
    from transom.errors import Conflict

    there = an_image(name="there")
    await catalog.images.create(there)
    with pytest.raises(Conflict):
        load(catalog.engine, [an_image(name="new"), there])
    with pytest.raises(Conflict):
        load(
            catalog.engine,
            [],
            [Member(image_id="?", member_id="m", created_at=NOON, updated_at=NOON)],
        )
    assert await names(catalog) == ["there"]
    assert load(catalog.engine, [an_image(name="new")]) == 1
    assert await names(catalog) == ["new", "there"]
