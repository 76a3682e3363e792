"""What the catalog promises about metadata definitions, on every database."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from tests.support.catalogs import NOON
from transom.catalog import Catalog
from transom.catalog.metadef_tables import associations, namespaces, objects, properties, tags
from transom.errors import (
    DuplicateMetadef,
    MetadefNotFound,
    NamespaceNotFound,
    NamespaceProtected,
)
from transom.model.actor import Actor
from transom.model.metadef import (
    Association,
    Contents,
    Loaded,
    LoadMode,
    MetadefObject,
    MetadefProperty,
    MetadefTag,
    Namespace,
    NamespaceQuery,
    NamespaceVisibility,
    TagQuery,
)

ME = Actor(project_id="mine")
STRANGER = Actor(project_id="theirs")
ADMIN = Actor(project_id="admins", is_admin=True)
NOBODY = Actor()
SECOND = dt.timedelta(seconds=1)
TIMES: dict[str, Any] = {"created_at": NOON, "updated_at": NOON}
LATER: dict[str, Any] = {"created_at": NOON + SECOND, "updated_at": NOON + SECOND}
PUBLIC, PRIVATE = NamespaceVisibility.PUBLIC, NamespaceVisibility.PRIVATE


def a_namespace(name: str = "space", **fields: Any) -> Namespace:
    return Namespace(namespace=name, **{"owner": "mine", **TIMES, **fields})


def an_association(name: str, **fields: Any) -> Association:
    return Association(name=name, **{**TIMES, **fields})


def a_property(name: str, **definition: Any) -> MetadefProperty:
    return MetadefProperty(
        name=name, definition={"title": name, "type": "string", **definition}, **TIMES
    )


def an_object(name: str, **fields: Any) -> MetadefObject:
    return MetadefObject(name=name, **{**TIMES, **fields})


def a_tag(name: str, **times: Any) -> MetadefTag:
    return MetadefTag(name=name, **{**TIMES, **times})


FULL = Contents(
    properties=(
        a_property("hw:watchdog", enum=["disabled", 1, None, {"deep": [True]}], default=False),
        a_property("Ünïcode \u6f22", minimum=-(10**30), maximum=0.5, pattern="^\\d+$"),
    ),
    objects=(
        an_object("second"),
        an_object(
            "first",
            description="An object.",
            required=("a", "b"),
            properties={"a": {"title": "A", "type": "array", "items": {"type": "string"}}},
        ),
    ),
    tags=(a_tag("b"), a_tag("B"), a_tag("a")),
)


async def made(catalog: Catalog, name: str = "space", **fields: Any) -> Namespace:
    return await catalog.metadefs.create(a_namespace(name, **fields), FULL)


def count(catalog: Catalog) -> list[int]:
    def work(connection: Connection) -> list[int]:
        return [
            connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for table in (namespaces, associations, properties, objects, tags)
        ]

    return catalog.engine.read_now(work)


# --- namespaces --------------------------------------------------------------------------------


async def test_a_namespace_comes_back_with_all_that_it_holds(catalog: Catalog) -> None:
    before = a_namespace(
        display_name="Shown",
        description="About\nit",
        visibility=PUBLIC,
        protected=True,
        associations=(
            an_association("OS::Nova::Server", prefix="hw_", properties_target="metadata"),
            an_association("OS::Glance::Image"),
        ),
    )
    stored = await catalog.metadefs.create(before, FULL)
    assert stored == msgspec.structs.replace(before, id=stored.id)
    assert stored.id > 0
    assert await catalog.metadefs.get("space", seen_by=ME) == stored
    assert await catalog.metadefs.contents(stored) == FULL


async def test_a_name_is_given_once_byte_by_byte(catalog: Catalog) -> None:
    await made(catalog)
    await made(catalog, "Space")
    with pytest.raises(DuplicateMetadef) as refused:
        await made(catalog, visibility=PUBLIC)
    assert (refused.value.kind, refused.value.name) == ("namespace", "space")
    assert count(catalog)[0] == 2


@pytest.mark.parametrize(
    "twice",
    [
        Contents(tags=(a_tag("x"), a_tag("x"))),
        Contents(objects=(an_object("x"), an_object("x"))),
        Contents(properties=(a_property("x"), a_property("x"))),
    ],
    ids=["tags", "objects", "properties"],
)
async def test_a_name_twice_in_a_namespace_leaves_nothing(
    catalog: Catalog, twice: Contents
) -> None:
    with pytest.raises(DuplicateMetadef):
        await catalog.metadefs.create(
            a_namespace(associations=(an_association("OS::Nova::Server"),)), twice
        )
    assert count(catalog) == [0, 0, 0, 0, 0]
    assert await catalog.metadefs.types() == ()


async def test_one_of_many_creators_wins(catalog: Catalog) -> None:
    outcomes = await asyncio.gather(*(made(catalog) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(outcome, Namespace) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, DuplicateMetadef) for outcome in outcomes) == 7
    assert count(catalog) == [1, 0, 2, 2, 3]


@pytest.mark.parametrize(
    ("visibility", "owner", "seen"),
    [
        (PUBLIC, "mine", {"me", "stranger", "admin", "nobody"}),
        (PRIVATE, "mine", {"me", "admin"}),
        (PRIVATE, None, {"admin"}),
        (PUBLIC, None, {"me", "stranger", "admin", "nobody"}),
    ],
)
async def test_who_sees_a_namespace(
    catalog: Catalog, visibility: NamespaceVisibility, owner: str | None, seen: set[str]
) -> None:
    stored = await made(catalog, visibility=visibility, owner=owner)
    callers = {"me": ME, "stranger": STRANGER, "admin": ADMIN, "nobody": NOBODY}
    for name, actor in callers.items():
        listed = await catalog.metadefs.list(NamespaceQuery(limit=9), seen_by=actor)
        assert listed == ([stored] if name in seen else []), name
        if name in seen:
            assert await catalog.metadefs.get("space", seen_by=actor) == stored
        else:
            with pytest.raises(NamespaceNotFound):
                await catalog.metadefs.get("space", seen_by=actor)


@pytest.mark.parametrize("name", ["none", "SPACE", "nul\0", "\ud800", ""])
async def test_what_is_not_there_is_not_found(catalog: Catalog, name: str) -> None:
    stored = await made(catalog)
    with pytest.raises(NamespaceNotFound):
        await catalog.metadefs.get(name, seen_by=None)
    with pytest.raises(NamespaceNotFound):
        await catalog.metadefs.list(NamespaceQuery(limit=1, marker=name), seen_by=None)
    for kind in (
        catalog.metadefs.objects,
        catalog.metadefs.properties,
        catalog.metadefs.tags,
        catalog.metadefs.associations,
    ):
        with pytest.raises(MetadefNotFound):
            await kind.get(stored, name)
        with pytest.raises(MetadefNotFound):
            await kind.remove(stored, name)
    with pytest.raises(MetadefNotFound):
        await catalog.metadefs.tags.page(stored, TagQuery(marker=name))


@pytest.mark.parametrize("key", ["namespace", "created_at", "updated_at"])
@pytest.mark.parametrize("direction", ["asc", "desc"])
async def test_pages_join_to_the_whole_list_in_order(
    catalog: Catalog, key: Any, direction: Any
) -> None:
    names = ["e", "B", "c", "a", "d", "f", "Z"]
    for number, name in enumerate(names):
        await catalog.metadefs.create(
            a_namespace(
                name,
                # Pairs of the same moment: creation decides between them.
                created_at=NOON + SECOND * (number // 2),
                updated_at=NOON - SECOND * (number // 3),
            ),
            Contents(),
        )
    listed: list[Namespace] = []
    marker = None
    while True:
        page = await catalog.metadefs.list(
            NamespaceQuery(limit=2, marker=marker, sort_key=key, sort_dir=direction), seen_by=ME
        )
        if not page:
            break
        listed += page
        marker = page[-1].namespace
    expected = sorted(
        listed, key=lambda one: (getattr(one, key), one.id), reverse=direction == "desc"
    )
    assert listed == expected
    assert sorted(one.namespace for one in listed) == sorted(names)


async def test_lists_filter_by_visibility_and_by_any_of_the_resource_types(
    catalog: Catalog,
) -> None:
    await made(catalog, "none")
    await made(catalog, "flavor", associations=(an_association("Flavor"),), visibility=PUBLIC)
    await made(catalog, "both", associations=(an_association("Flavor"), an_association("Image")))

    async def names(**filters: Any) -> set[str]:
        found = await catalog.metadefs.list(NamespaceQuery(limit=9, **filters), seen_by=ME)
        return {one.namespace for one in found}

    assert await names() == {"none", "flavor", "both"}
    assert await names(visibility=PUBLIC) == {"flavor"}
    assert await names(visibility=PRIVATE) == {"none", "both"}
    assert await names(resource_types=("Flavor",)) == {"flavor", "both"}
    assert await names(resource_types=("Image", "unknown")) == {"both"}
    assert await names(resource_types=("Image", "Flavor")) == {"flavor", "both"}
    assert await names(resource_types=("Flavor",), visibility=PRIVATE) == {"both"}
    assert await names(resource_types=("nul\0",)) == set()
    assert await names(resource_types=()) == set()


async def test_replacing_a_namespace_leaves_what_it_holds(catalog: Catalog) -> None:
    stored = await made(catalog, associations=(an_association("Flavor"),), protected=True)
    after = a_namespace("renamed", visibility=PUBLIC, owner="theirs", **LATER)
    await catalog.metadefs.replace(stored, after)
    with pytest.raises(NamespaceNotFound):
        await catalog.metadefs.get("space", seen_by=None)
    found = await catalog.metadefs.get("renamed", seen_by=None)
    assert found == msgspec.structs.replace(
        after, id=stored.id, created_at=NOON, associations=stored.associations
    )
    assert await catalog.metadefs.contents(found) == FULL


async def test_a_namespace_does_not_take_a_name_that_another_has(catalog: Catalog) -> None:
    stored = await made(catalog)
    await made(catalog, "other")
    with pytest.raises(DuplicateMetadef):
        await catalog.metadefs.replace(stored, a_namespace("other"))
    assert await catalog.metadefs.get("space", seen_by=None) == stored


async def test_deleting_a_namespace_takes_all_that_it_holds(catalog: Catalog) -> None:
    stored = await made(catalog, associations=(an_association("Flavor"),))
    await made(catalog, "other")
    await catalog.metadefs.delete(stored)
    assert count(catalog) == [1, 0, 2, 2, 3]
    assert [one.name for one in await catalog.metadefs.types()] == ["Flavor"]


async def test_the_database_itself_takes_what_a_namespace_holds(catalog: Catalog) -> None:
    await made(catalog, associations=(an_association("Flavor"),))
    catalog.engine.write_now(lambda connection: connection.execute(sa.delete(namespaces)))
    assert count(catalog) == [0, 0, 0, 0, 0]


@pytest.mark.parametrize("table", [properties, objects, tags, associations], ids=str)
async def test_the_database_itself_keeps_names_unique(catalog: Catalog, table: sa.Table) -> None:
    await made(catalog, associations=(an_association("Flavor"),))

    def again(connection: Connection) -> None:
        row = dict(connection.execute(sa.select(table)).mappings().first() or {})
        row.pop("id")
        connection.execute(sa.insert(table).values(row))

    with pytest.raises(IntegrityError):
        catalog.engine.write_now(again)


async def test_a_protected_namespace_keeps_all_and_takes_more(catalog: Catalog) -> None:
    stored = await made(catalog, protected=True, associations=(an_association("Flavor"),))
    metadefs = catalog.metadefs
    for refused in (
        metadefs.delete(stored),
        metadefs.objects.remove(stored, "first"),
        metadefs.objects.clear(stored),
        metadefs.properties.remove(stored, "hw:watchdog"),
        metadefs.properties.clear(stored),
        metadefs.tags.remove(stored, "a"),
        metadefs.tags.clear(stored),
        metadefs.associations.remove(stored, "Flavor"),
    ):
        with pytest.raises(NamespaceProtected):
            await refused
    assert count(catalog) == [1, 1, 2, 2, 3]
    await metadefs.objects.add(stored, an_object("third"))
    await metadefs.objects.replace(stored, "third", an_object("fourth"))
    await metadefs.associations.add(stored, an_association("Image"))
    assert count(catalog) == [1, 2, 2, 3, 3]


async def test_protection_that_came_meanwhile_counts(catalog: Catalog) -> None:
    looked_up = await made(catalog)
    await catalog.metadefs.replace(looked_up, a_namespace(protected=True))
    with pytest.raises(NamespaceProtected):
        await catalog.metadefs.delete(looked_up)


async def test_nothing_is_written_into_a_namespace_that_has_gone(catalog: Catalog) -> None:
    looked_up = await made(catalog)
    await catalog.metadefs.delete(looked_up)
    # A new one of the same name is another one.
    await made(catalog)
    for refused in (
        catalog.metadefs.tags.add(looked_up, a_tag("new")),
        catalog.metadefs.objects.replace(looked_up, "first", an_object("new")),
        catalog.metadefs.properties.clear(looked_up),
        catalog.metadefs.replace(looked_up, a_namespace("renamed")),
        catalog.metadefs.delete(looked_up),
    ):
        with pytest.raises(NamespaceNotFound):
            await refused
    assert count(catalog) == [1, 0, 2, 2, 3]


# --- what stands in a namespace ----------------------------------------------------------------


async def test_one_is_replaced_and_keeps_its_place_and_its_time(catalog: Catalog) -> None:
    stored = await made(catalog)
    after = msgspec.structs.replace(an_object("changed", required=("x",)), **LATER)
    found = await catalog.metadefs.objects.replace(stored, "second", after)
    assert found == msgspec.structs.replace(after, created_at=NOON)
    assert [one.name for one in await catalog.metadefs.objects.list(stored)] == [
        "changed",
        "first",
    ]
    assert await catalog.metadefs.objects.get(stored, "changed") == found


async def test_one_does_not_take_the_name_of_another(catalog: Catalog) -> None:
    stored = await made(catalog)
    with pytest.raises(DuplicateMetadef):
        await catalog.metadefs.objects.replace(stored, "second", an_object("first"))
    with pytest.raises(DuplicateMetadef):
        await catalog.metadefs.tags.add(stored, a_tag("new"), a_tag("b"))
    with pytest.raises(MetadefNotFound):
        await catalog.metadefs.objects.replace(stored, "none", an_object("first"))
    with pytest.raises(MetadefNotFound):
        await catalog.metadefs.objects.replace(stored, "none", an_object("none"))
    assert await catalog.metadefs.contents(stored) == FULL


async def test_names_are_unique_in_their_namespace_only(catalog: Catalog) -> None:
    one, other = await made(catalog), await made(catalog, "other")
    await catalog.metadefs.objects.remove(one, "first")
    assert await catalog.metadefs.contents(other) == FULL


async def test_tags_are_replaced_all_or_none(catalog: Catalog) -> None:
    stored = await made(catalog)
    with pytest.raises(DuplicateMetadef):
        await catalog.metadefs.tags.add(stored, a_tag("x"), a_tag("x"), replacing=True)
    assert [one.name for one in await catalog.metadefs.tags.list(stored)] == ["b", "B", "a"]
    await catalog.metadefs.tags.add(stored, a_tag("x"), a_tag("b"), replacing=True)
    assert [one.name for one in await catalog.metadefs.tags.list(stored)] == ["x", "b"]
    await catalog.metadefs.tags.add(stored, a_tag("y"))
    assert [one.name for one in await catalog.metadefs.tags.list(stored)] == ["x", "b", "y"]


async def test_writers_of_one_namespace_do_not_lose_each_others_work(catalog: Catalog) -> None:
    stored = await catalog.metadefs.create(a_namespace(), Contents())
    names = [f"tag{number % 6}" for number in range(12)]
    outcomes = await asyncio.gather(
        *(catalog.metadefs.tags.add(stored, a_tag(name)) for name in names),
        return_exceptions=True,
    )
    assert outcomes.count(None) == 6
    assert sum(isinstance(outcome, DuplicateMetadef) for outcome in outcomes) == 6
    found = {one.name for one in await catalog.metadefs.tags.list(stored)}
    assert found == set(names)


async def test_many_meet_at_a_new_resource_type(catalog: Catalog) -> None:
    stored = [await made(catalog, f"space{number}") for number in range(6)]
    await asyncio.gather(
        *(catalog.metadefs.associations.add(one, an_association("Flavor")) for one in stored)
    )
    assert [one.name for one in await catalog.metadefs.types()] == ["Flavor"]
    assert count(catalog)[1] == 6


async def test_a_resource_type_stays_when_its_last_association_goes(catalog: Catalog) -> None:
    stored = await made(catalog)
    await catalog.metadefs.associations.add(stored, an_association("Flavor", prefix="p:"))
    with pytest.raises(DuplicateMetadef):
        await catalog.metadefs.associations.add(stored, an_association("Flavor"))
    await catalog.metadefs.associations.remove(stored, "Flavor")
    assert await catalog.metadefs.associations.list(stored) == []
    [kept] = await catalog.metadefs.types()
    assert (kept.name, kept.created_at, kept.updated_at) == ("Flavor", NOON, NOON)


@pytest.mark.parametrize("key", ["name", "created_at", "updated_at"])
@pytest.mark.parametrize("direction", ["asc", "desc"])
async def test_pages_of_tags_join_to_all_of_them(
    catalog: Catalog, key: Any, direction: Any
) -> None:
    stored = await catalog.metadefs.create(a_namespace(), Contents())
    for number, name in enumerate("dBcaeZ"):
        moment = NOON + SECOND * (number // 2)
        await catalog.metadefs.tags.add(
            stored, a_tag(name, created_at=moment, updated_at=NOON - SECOND * number)
        )
    whole = await catalog.metadefs.tags.page(stored, TagQuery(sort_key=key, sort_dir=direction))
    made_in_order = await catalog.metadefs.tags.list(stored)
    assert whole == sorted(
        made_in_order,
        key=lambda one: (getattr(one, key), made_in_order.index(one)),
        reverse=direction == "desc",
    )
    pages: list[MetadefTag] = []
    while page := await catalog.metadefs.tags.page(
        stored,
        TagQuery(
            sort_key=key,
            sort_dir=direction,
            limit=4,
            marker=pages[-1].name if pages else None,
        ),
    ):
        pages += page
    assert pages == whole


# --- loading -----------------------------------------------------------------------------------


OLD = Contents(
    properties=(a_property("kept"), a_property("same")),
    objects=(an_object("kept"),),
    tags=(a_tag("kept"),),
)
NEW = Contents(
    properties=(a_property("same"), a_property("kept", minLength=1), a_property("new")),
    objects=(an_object("new"), an_object("kept", description="other")),
    tags=(a_tag("kept"), a_tag("new")),
)


def new_namespace(**fields: Any) -> Namespace:
    return a_namespace(
        display_name="new",
        **{"owner": None, **LATER, **fields},
        associations=(
            an_association("Flavor", prefix="new:", **LATER),
            an_association("Image", **LATER),
        ),
    )


async def loaded_over(catalog: Catalog, mode: LoadMode) -> tuple[Loaded, Namespace, Contents]:
    before = await catalog.metadefs.create(
        a_namespace(protected=True, associations=(an_association("Flavor"),)), OLD
    )
    outcome = catalog.metadef_loading.load_now(new_namespace(), NEW, mode)
    after = await catalog.metadefs.get("space", seen_by=None)
    assert after.owner == before.owner
    return outcome, after, await catalog.metadefs.contents(after)


@pytest.mark.parametrize("mode", LoadMode)
async def test_loading_what_is_not_there_makes_it(catalog: Catalog, mode: LoadMode) -> None:
    assert catalog.metadef_loading.load_now(new_namespace(), NEW, mode) == Loaded(is_new=True)
    [(found, contents)] = catalog.metadef_loading.everything_now()
    assert found == new_namespace(id=found.id)
    assert contents == NEW


async def test_loading_leaves_what_is_there_alone(catalog: Catalog) -> None:
    outcome, after, contents = await loaded_over(catalog, LoadMode.SKIP)
    assert outcome == Loaded()
    assert (after.display_name, contents) == (None, OLD)


async def test_merging_adds_and_changes_nothing(catalog: Catalog) -> None:
    outcome, after, contents = await loaded_over(catalog, LoadMode.MERGE)
    assert outcome == Loaded(added=4)
    assert (after.display_name, after.protected) == (None, True)
    assert [(one.name, one.prefix) for one in after.associations] == [
        ("Flavor", None),
        ("Image", None),
    ]
    assert contents == Contents(
        properties=(*OLD.properties, a_property("new")),
        objects=(an_object("kept"), an_object("new")),
        tags=(a_tag("kept"), a_tag("new")),
    )


async def test_preferring_the_new_adds_and_changes_what_differs(catalog: Catalog) -> None:
    outcome, after, contents = await loaded_over(catalog, LoadMode.PREFER_NEW)
    assert outcome == Loaded(added=4, changed=4)
    assert (after.display_name, after.protected) == ("new", False)
    assert (after.created_at, after.updated_at) == (NOON, NOON + SECOND)
    assert [(one.name, one.prefix) for one in after.associations] == [
        ("Flavor", "new:"),
        ("Image", None),
    ]
    assert {one.name: one.definition for one in contents.properties} == {
        one.name: one.definition for one in NEW.properties
    }
    assert {one.name: one.description for one in contents.objects} == {
        "kept": "other",
        "new": None,
    }
    again = catalog.metadef_loading.load_now(new_namespace(), NEW, LoadMode.PREFER_NEW)
    assert again == Loaded()


async def test_replacing_leaves_nothing_of_what_was_there(catalog: Catalog) -> None:
    outcome, after, contents = await loaded_over(catalog, LoadMode.REPLACE)
    assert outcome == Loaded(is_replaced=True)
    assert after == new_namespace(id=after.id, owner="mine")
    assert contents == NEW


async def test_unloading_takes_protected_namespaces_and_types_without_any(
    catalog: Catalog,
) -> None:
    await made(catalog, "one", protected=True, associations=(an_association("Flavor"),))
    await made(catalog, "two", associations=(an_association("Image"), an_association("Flavor")))
    await made(catalog, "three", associations=(an_association("Image"),))
    gone = catalog.metadef_loading.unload_now(["none", "one", "two"])
    assert gone == ["one", "two"]
    assert count(catalog)[0] == 1
    assert [one.name for one in await catalog.metadefs.types()] == ["Image"]
    assert catalog.metadef_loading.unload_now(["one"]) == []


async def test_unloading_and_associating_do_not_get_in_each_others_way(catalog: Catalog) -> None:
    for round_ in range(5):
        stored = [await made(catalog, f"space{round_}{number}") for number in range(3)]
        await made(catalog, "leaving", associations=(an_association("a"), an_association("b")))
        await asyncio.gather(
            asyncio.to_thread(catalog.metadef_loading.unload_now, ["leaving"]),
            *(
                catalog.metadefs.associations.add(one, an_association("b"), an_association("a"))
                for one in stored
            ),
        )
        types = {one.name for one in await catalog.metadefs.types()}
        assert types == {"a", "b"}
        for one in stored:
            await catalog.metadefs.delete(one)
