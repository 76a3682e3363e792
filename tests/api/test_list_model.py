"""Lists against a plain model of API §5, in random questions over one mixed collection.

The collection lives on a server of its own, so that what a list must hold is known to the last
image, with and without filters, whichever way the catalog takes to find it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from tests.conftest import configured
from tests.support.server import Client, told

IMAGES = 140
QUERIES_PER_SEED = 50
PROJECTS = ("alpha", "beta", "gamma")
SORT_KEYS = (
    "name", "status", "container_format", "disk_format", "size", "id", "created_at", "updated_at",
)  # fmt: skip
Image = dict[str, Any]
Test = Callable[[Image], bool]


class Collection(NamedTuple):
    """The callers, every image as an administrator sees it, and who shares what."""

    callers: dict[str, Client]
    images: list[Image]
    members: dict[str, dict[str, str]]
    """image id → project id → status"""


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """A server with a collection that is the same for every run apart from ids and times."""
    dice = random.Random(42)
    with configured(tmp_path_factory.mktemp("model")) as server:
        callers = server.provision({name: (name, ["member"]) for name in PROJECTS})
        callers["admin"] = admin = server.log_in_to_cloud("transom")
        projects = [callers[name].project_id for name in PROJECTS]
        members: dict[str, dict[str, str]] = {}
        for number in range(IMAGES):
            if number in (IMAGES // 3, 2 * IMAGES // 3):
                time.sleep(1.05)  # several values of created_at
            image_id = make_image(dice, admin, projects, number)
            members[image_id] = make_members(dice, admin, callers, projects, image_id)
        everything = admin.list_ids(visibility="all")
        everything += admin.list_ids(visibility="all", os_hidden="true")
        for image_id in everything[::9]:
            admin.delete(f"/v2/images/{image_id}")
            members.pop(image_id)
        images = [admin.show(image_id) for image_id in members]
        yield Collection(callers, images, members)


def make_image(dice: random.Random, admin: Client, projects: list[str], number: int) -> str:
    """One image with random attributes; a third of them have data."""
    with_data = dice.random() < 0.35
    body: Image = {
        "name": dice.choice([None, "", "a", "b", "B", "long name", "ünïcode", f"image {number}"]),
        "owner": dice.choice([*projects, *projects, None]),
        "visibility": dice.choice(["private", "shared", "shared", "public", "community"]),
        "os_hidden": dice.random() < 0.15,
        "protected": False,
        "min_ram": dice.choice([0, 0, 512, 1024]),
        "min_disk": dice.choice([0, 10]),
        "tags": dice.sample(["red", "green", "blue", "Red"], dice.randrange(4)),
        "container_format": "ovf" if with_data else dice.choice([None, "bare", "ovf"]),
        "disk_format": "raw" if with_data else dice.choice([None, "raw", "qcow2", "iso"]),
    }
    for name in ("os_distro", "flavour"):
        if dice.random() < 0.5:
            body[name] = dice.choice(["debian", "fedora", "in:x,y"])
    created = admin.create(**body)
    image_id: str = created["id"]
    if with_data:
        admin.upload(image_id, b"x" * dice.choice([0, 1, 5, 5, 100]))
        if dice.random() < 0.3:
            admin.post(f"/v2/images/{image_id}/actions/deactivate")
    return image_id


def make_members(
    dice: random.Random,
    admin: Client,
    callers: dict[str, Client],
    projects: list[str],
    image_id: str,
) -> dict[str, str]:
    """Share the image with some projects, if it is shared at all."""
    made: dict[str, str] = {}
    path = f"/v2/images/{image_id}/members"
    for project in dice.sample(projects, dice.randrange(3)):
        answer = admin.post(path, json={"member": project})
        if answer.status_code != 200:
            assert answer.status_code == 403, told(answer)
            return {}
        status = dice.choice(["pending", "accepted", "rejected"])
        answer = admin.put(f"{path}/{project}", json={"status": status})
        assert answer.status_code == 200, told(answer)
        made[project] = status
    return made


# --- the model ------------------------------------------------------------------------------------


def seen(
    collection: Collection, caller: Client, visibility: str | None, member_status: str
) -> Test:
    """API §5.4 for one caller."""
    project = caller.project_id
    is_admin = caller is collection.callers["admin"]

    def shared_with_me(image: Image) -> bool:
        status = collection.members[image["id"]].get(project)
        return status is not None and member_status in (status, "all")

    def test(image: Image) -> bool:
        is_mine = image["owner"] == project
        kind = image["visibility"]
        if visibility in ("public", "community"):
            return bool(kind == visibility)
        if is_admin:
            if visibility == "all":
                return True
            if visibility is None:
                return bool(kind != "community" or is_mine)
            return bool(kind == visibility)
        if visibility == "private":
            return bool(kind == "private" and is_mine)
        if visibility == "shared":
            return bool(kind == "shared" and (is_mine or shared_with_me(image)))
        by_default = is_mine or kind == "public" or (kind == "shared" and shared_with_me(image))
        return bool(by_default or (visibility == "all" and kind == "community"))

    return test


def at_least(column: str, bound: int) -> Test:
    """Inclusive; null never matches."""
    return lambda image: image[column] is not None and image[column] >= bound


def at_most(column: str, bound: int) -> Test:
    """Inclusive; null never matches."""
    return lambda image: image[column] is not None and image[column] <= bound


def is_equal(column: str, value: Any) -> Test:
    """Equality; an absent property equals nothing."""
    return lambda image: image.get(column) == value


def is_one_of(column: str, values: list[str]) -> Test:
    """`in:`"""
    return lambda image: image[column] in values


def has_tag(tag: str) -> Test:
    """The image carries the tag."""
    return lambda image: tag in image["tags"]


def compares(column: str, operator: str, moment: str) -> Test:
    """Times are compared as they are shown; their text sorts as they do."""
    by_name: dict[str, Callable[[str], bool]] = {
        "eq": lambda value: value == moment,
        "neq": lambda value: value != moment,
        "gt": lambda value: value > moment,
        "gte": lambda value: value >= moment,
        "lt": lambda value: value < moment,
        "lte": lambda value: value <= moment,
    }
    return lambda image: by_name[operator](image[column])


def random_filter(dice: random.Random, images: list[Image]) -> tuple[list[tuple[str, str]], Test]:
    """One filter: its parameters and what they mean."""
    some = dice.choice(images)
    kind = dice.randrange(12)
    if kind == 0:
        name = dice.choice(["a", "b", "B", "ünïcode", "nobody", "long name"])
        return [("name", name)], is_equal("name", name)
    if kind == 1:
        values = dice.sample(["a", "b", "B", "long name", "nobody"], 2)
        return [("name", "in:" + ",".join(values))], is_one_of("name", values)
    if kind == 2:
        status = dice.choice(["queued", "active", "deactivated", "saving"])
        return [("status", status)], is_equal("status", status)
    if kind == 3:
        values = ["queued", dice.choice(["active", "deactivated"])]
        return [("status", "in:" + ",".join(values))], is_one_of("status", values)
    if kind == 4:
        column = dice.choice(["disk_format", "container_format", "owner", "id", "checksum"])
        value = some[column] or "nothing"
        return [(column, value)], is_equal(column, value)
    if kind == 5:
        column, bound = dice.choice(["size", "min_ram", "min_disk"]), dice.choice([0, 1, 5, 512])
        if dice.random() < 0.5:
            return [(f"{column}_min", str(bound))], at_least(column, bound)
        return [(f"{column}_max", str(bound))], at_most(column, bound)
    if kind == 6:
        column, value = dice.choice([("size", 5), ("size", 0), ("min_ram", 512), ("min_disk", 10)])
        return [(column, str(value))], is_equal(column, value)
    if kind == 7:
        tag = dice.choice(["red", "green", "Red", "none"])
        return [("tag", tag)], has_tag(tag)
    if kind == 8:
        one, two = dice.sample(["red", "green", "blue"], 2)
        return [("tag", one), ("tag", two)], lambda image: {one, two} <= set(image["tags"])
    if kind == 9:
        name = dice.choice(["os_distro", "flavour"])
        value = dice.choice(["debian", "fedora", "in:x,y", "none"])
        return [(name, value)], is_equal(name, value)
    if kind == 10:
        column = dice.choice(["created_at", "updated_at"])
        operator = dice.choice(["eq", "neq", "gt", "gte", "lt", "lte"])
        return [(column, f"{operator}:{some[column]}")], compares(column, operator, some[column])
    value = dice.choice(["true", "false"])
    return [("protected", value)], is_equal("protected", value == "true")


def random_order(dice: random.Random) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Parameters that ask for an order, and the keys with their directions that they mean."""
    kind = dice.randrange(4)
    if kind == 0:
        return [], [("created_at", "desc")]
    keys = dice.sample(SORT_KEYS, dice.choice([1, 1, 2, 3]))
    directions = [dice.choice(["asc", "desc"]) for _ in keys]
    if kind == 1:
        pairs = list(zip(keys, directions, strict=True))
        return [("sort", ",".join(f"{key}:{way}" for key, way in pairs))], pairs
    if kind == 2:
        way = dice.choice(["asc", "desc"])
        pairs = [(key, way) for key in keys]
        return [*(("sort_key", key) for key in keys), ("sort_dir", way)], pairs
    pairs = list(zip(keys, directions, strict=True))
    return [
        *(("sort_key", key) for key in keys),
        *(("sort_dir", way) for way in directions),
    ], pairs


def rank(value: Any) -> tuple[int, Any]:
    """Null smallest, text bytewise."""
    if value is None:
        return (0, b"")
    return (1, value.encode() if isinstance(value, str) else value)


def walked(client: Client, query: list[tuple[str, str]]) -> list[Image]:
    """All pages, following `next`."""
    answer = client.get("/v2/images", params=query)
    images: list[Image] = []
    for _ in range(IMAGES + 2):
        assert answer.status_code == 200, told(answer)
        page = answer.json()
        images += page["images"]
        if "next" not in page:
            return images
        answer = client.get(page["next"])
    raise AssertionError(f"the pages of {query} never end")


@pytest.mark.parametrize("seed", range(16))
def test_random_questions_find_what_the_model_finds(collection: Collection, seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(QUERIES_PER_SEED):
        name = dice.choice([*PROJECTS, "admin"])
        caller = collection.callers[name]
        visibility = dice.choice([None, None, "public", "community", "shared", "private", "all"])
        member_status = dice.choice(["accepted", "accepted", "pending", "rejected", "all"])
        hidden = dice.random() < 0.15
        query: list[tuple[str, str]] = []
        tests = [seen(collection, caller, visibility, member_status), is_equal("os_hidden", hidden)]
        if visibility:
            query.append(("visibility", visibility))
        if member_status != "accepted" or dice.random() < 0.2:
            query.append(("member_status", member_status))
        if hidden:
            query.append(("os_hidden", "true"))
        asked: set[str] = set()
        for _ in range(dice.choice([0, 0, 1, 1, 2, 3])):
            parameters, test = random_filter(dice, collection.images)
            # A name given twice means its last value; here every filter has a name of its own.
            if asked.isdisjoint(each for each, _ in parameters):
                asked |= {each for each, _ in parameters}
                query += parameters
                tests.append(test)
        order, keys = random_order(dice)
        query += order
        query.append(("limit", str(dice.choice([1, 3, 7, 25, 1000]))))
        expected = [each for each in collection.images if all(test(each) for test in tests)]
        found = walked(caller, query)
        told_query = f"{name} asks {query}"
        ids = [each["id"] for each in found]
        assert len(ids) == len(set(ids)), f"{told_query}: an image comes twice"
        wanted = {each["id"] for each in expected}
        assert set(ids) == wanted, (
            f"{told_query}: {len(set(ids) - wanted)} too many, {len(wanted - set(ids))} missing"
        )
        visible = up_to_a_time(keys)
        for key, way in reversed(visible):
            expected.sort(key=lambda each: rank(each[key]), reverse=way == "desc")
        shown = [[each[key] for key, _ in visible] for each in found]
        assert shown == [[each[key] for key, _ in visible] for each in expected], told_query


def up_to_a_time(keys: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The keys whose effect can be seen from outside.

    Times are kept finer than the seconds that are shown, so what follows a time decides nothing
    that the answer would show.
    """
    for place, (key, _) in enumerate(keys, 1):
        if key in ("created_at", "updated_at"):
            return keys[:place]
    return keys


@pytest.mark.parametrize("column", SORT_KEYS)
def test_filter_on_one_column_goes_with_every_order(collection: Collection, column: str) -> None:
    """A column that is pinned to one value decides nothing about the order, and must not hurt."""
    filtered = next(each for each in collection.images if each[column] and not each["os_hidden"])
    value = str(filtered[column])
    expected = {
        each["id"]
        for each in collection.images
        if str(each[column]) == value and not each["os_hidden"]
    }
    operators = ["", "in:"] if column in ("name", "status", "id", "disk_format") else [""]
    admin = collection.callers["admin"]
    for first in SORT_KEYS:
        for second in SORT_KEYS:
            for operator in operators:
                sort = first if first == second else f"{first}:asc,{second}:desc"
                query = {column: f"{operator}{value}", "sort": sort, "visibility": "all"}
                assert set(admin.list_ids(**query)) == expected, query


@pytest.mark.parametrize("visibility", [None, "public", "community", "shared", "private", "all"])
@pytest.mark.parametrize("who", [*PROJECTS, "admin"])
def test_every_member_status_without_other_filters(
    collection: Collection, who: str, visibility: str | None
) -> None:
    caller = collection.callers[who]
    for member_status in ("accepted", "pending", "rejected", "all"):
        test = seen(collection, caller, visibility, member_status)
        expected = {
            each["id"] for each in collection.images if test(each) and not each["os_hidden"]
        }
        query = {
            "member_status": member_status,
            **({"visibility": visibility} if visibility else {}),
        }
        assert set(caller.list_ids(**query)) == expected, query


def test_the_collection_is_worth_asking(collection: Collection) -> None:
    """Guards the tests above: every kind of image has to be there."""
    for column, values in {
        "visibility": {"public", "community", "shared", "private"},
        "status": {"queued", "active", "deactivated"},
        "os_hidden": {True, False},
    }.items():
        assert {each[column] for each in collection.images} == values
    assert {each["owner"] for each in collection.images} > {None}
    statuses = {status for shares in collection.members.values() for status in shares.values()}
    assert statuses == {"pending", "accepted", "rejected"}
    assert len({each["created_at"] for each in collection.images}) >= 3
