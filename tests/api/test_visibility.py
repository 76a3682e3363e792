"""Who sees and does what: the truth table (lifecycle §2) and the lists (API §5.4), cell by cell.

The columns `GET tasks` and `GET locations` of the table belong to resources of their own.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.conftest import Actors, MakeImage
from tests.support.server import Client, told

DATA = b"visible data"


class Row(NamedTuple):
    """What one actor may do with one image."""

    visibility: str
    actor: str
    show: int
    download: int
    modify: int
    """200 = allowed; else the status of the refusal."""
    members: int
    listed: bool | int
    listed_all: bool | int


def rows() -> list[Row]:
    """The table of lifecycle §2 in full, one row per visibility and actor."""
    table: list[Row] = []
    owning = [("owner", 200, 200), ("owner_reader", 403, 403)]
    strangers = [("member", 200), ("member_reader", 403), ("other", 200), ("other_reader", 403)]
    for visibility in ("public", "community"):
        public = visibility == "public"
        table.extend(
            Row(visibility, actor, 200, download, modify, 403, True, True)
            for actor, download, modify in owning
        )
        table.extend(
            Row(visibility, actor, 200, download, 403, 403, public, True)
            for actor, download in strangers
        )
        table.append(Row(visibility, "admin", 200, 200, 200, 403, public, True))
        table.extend(
            Row(visibility, actor, 404, 404, 404, 403, 403, 403) for actor in ("service", "norole")
        )
    for actor, download, modify in owning:
        table.append(Row("shared", actor, 200, download, modify, 200, True, True))
        table.append(Row("private", actor, 200, download, modify, 403, True, True))
    # The sharing is pending here; what its status does to lists has tests of its own.
    table.append(Row("shared", "member", 200, 200, 403, 200, False, False))
    table.append(Row("shared", "member_reader", 200, 403, 403, 200, False, False))
    table.extend(
        Row("shared", actor, 404, 404, 404, 404, False, False)
        for actor in ("other", "other_reader")
    )
    table.extend(
        Row("private", actor, 404, 404, 404, 404, False, False)
        for actor in ("member", "member_reader", "other", "other_reader")
    )
    table.append(Row("shared", "admin", 200, 200, 200, 200, True, True))
    table.append(Row("private", "admin", 200, 200, 200, 403, True, True))
    for visibility in ("shared", "private"):
        table.extend(
            Row(visibility, actor, 404, 404, 404, 404, 403, 403) for actor in ("service", "norole")
        )
    return table


TABLE = rows()
every_cell = pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.visibility}-{row.actor}")


def test_the_table_is_complete() -> None:
    cells = {(row.visibility, row.actor) for row in TABLE}
    assert len(TABLE) == len(cells) == 4 * len(Actors._fields)


@pytest.fixture(scope="module")
def images(actors: Actors) -> Iterator[dict[str, str]]:
    """One active image of the owner per visibility; each was shared with the member project."""
    made: dict[str, str] = {}
    for visibility in ("public", "community", "shared", "private"):
        created = actors.owner.create(disk_format="raw", container_format="bare")
        image_id = created["id"]
        actors.owner.upload(image_id, DATA)
        answer = actors.owner.post(
            f"/v2/images/{image_id}/members", json={"member": actors.member.project_id}
        )
        assert answer.status_code == 200, told(answer)
        answer = actors.admin.patch(
            f"/v2/images/{image_id}",
            [{"op": "replace", "path": "/visibility", "value": visibility}],
        )
        assert answer.status_code == 200, told(answer)
        made[visibility] = image_id
    yield made
    for image_id in made.values():
        actors.admin.delete(f"/v2/images/{image_id}")


@every_cell
def test_show(actors: Actors, images: dict[str, str], row: Row) -> None:
    answer = getattr(actors, row.actor).get(f"/v2/images/{images[row.visibility]}")
    assert answer.status_code == row.show, told(answer)


@every_cell
def test_download(actors: Actors, images: dict[str, str], row: Row) -> None:
    client: Client = getattr(actors, row.actor)
    answer = client.get(f"/v2/images/{images[row.visibility]}/file")
    assert answer.status_code == row.download, told(answer)
    assert (answer.content == DATA) == (row.download == 200)
    part = client.get(f"/v2/images/{images[row.visibility]}/file", headers={"Range": "bytes=0-1"})
    assert part.status_code == (206 if row.download == 200 else row.download), told(part)


@every_cell
def test_modify(actors: Actors, images: dict[str, str], row: Row) -> None:
    client: Client = getattr(actors, row.actor)
    path = f"/v2/images/{images[row.visibility]}"
    no_body = 204 if row.modify == 200 else row.modify
    value = uuid.uuid4().hex
    changed = client.patch(path, [{"op": "add", "path": "/touched", "value": value}])
    assert changed.status_code == row.modify, told(changed)
    tagged = client.put(f"{path}/tags/{value}")
    assert tagged.status_code == no_body, told(tagged)
    untagged = client.delete(f"{path}/tags/{value}")
    assert untagged.status_code == no_body, told(untagged)
    reactivated = client.post(f"{path}/actions/reactivate")
    assert reactivated.status_code == no_body, told(reactivated)
    shown = actors.admin.show(images[row.visibility])
    assert (shown.get("touched") == value) == (row.modify == 200)


@every_cell
def test_members(actors: Actors, images: dict[str, str], row: Row) -> None:
    answer = getattr(actors, row.actor).get(f"/v2/images/{images[row.visibility]}/members")
    assert answer.status_code == row.members, told(answer)
    if row.members == 200:
        members = [member["member_id"] for member in answer.json()["members"]]
        assert members == [actors.member.project_id]


def check_listed(client: Client, image_id: str, expected: bool | int, **query: str) -> None:
    """The image is in the list, or is not, or the list is refused with a status."""
    answer = client.get("/v2/images", params={"limit": "1000", **query})
    if isinstance(expected, bool):
        assert answer.status_code == 200, told(answer)
        ids = [image["id"] for image in answer.json()["images"]]
        assert ids.count(image_id) == int(expected), f"{client.who} lists {query}"
    else:
        assert answer.status_code == expected, told(answer)


@every_cell
def test_default_list(actors: Actors, images: dict[str, str], row: Row) -> None:
    check_listed(getattr(actors, row.actor), images[row.visibility], row.listed)


@every_cell
def test_list_of_all_visibilities(actors: Actors, images: dict[str, str], row: Row) -> None:
    client: Client = getattr(actors, row.actor)
    check_listed(client, images[row.visibility], row.listed_all, visibility="all")


def seen_with(visibility: str, filtered: str, actor: str) -> bool:
    """API §5.4: does a list filtered by one visibility hold the image (pending sharing)?"""
    if visibility != filtered:
        return False
    if visibility in ("public", "community") or actor == "admin":
        return True
    return actor in ("owner", "owner_reader")


@pytest.mark.parametrize("filtered", ["public", "community", "shared", "private"])
@pytest.mark.parametrize("visibility", ["public", "community", "shared", "private"])
@pytest.mark.parametrize(
    "actor",
    ["owner", "owner_reader", "member", "member_reader", "other", "other_reader", "admin"],
)
def test_list_of_one_visibility(
    actors: Actors, images: dict[str, str], actor: str, visibility: str, filtered: str
) -> None:
    expected = seen_with(visibility, filtered, actor)
    client: Client = getattr(actors, actor)
    check_listed(client, images[visibility], expected, visibility=filtered)


class TestMemberStatus:
    """`member_status` steers only what was shared with the caller."""

    @pytest.mark.parametrize("visibility", [None, "shared", "all"])
    @pytest.mark.parametrize("asked", [None, "pending", "accepted", "rejected", "all"])
    @pytest.mark.parametrize("status", ["pending", "accepted", "rejected"])
    def test_shared_image_is_listed_when_the_status_matches(
        self,
        actors: Actors,
        image: MakeImage,
        mark: str,
        status: str,
        asked: str | None,
        visibility: str | None,
    ) -> None:
        image_id = image(actors.owner, set=mark)["id"]
        path = f"/v2/images/{image_id}/members"
        actors.owner.post(path, json={"member": actors.member.project_id})
        actors.member.put(f"{path}/{actors.member.project_id}", json={"status": status})
        query = {"set": mark}
        if asked:
            query["member_status"] = asked
        if visibility:
            query["visibility"] = visibility
        expected = (asked or "accepted") in (status, "all")
        for client in (actors.member, actors.member_reader):
            check_listed(client, image_id, expected, **query)
        # The owner and the admin see it whatever its members think of it.
        for client in (actors.owner, actors.owner_reader, actors.admin):
            check_listed(client, image_id, True, **query)
        for client in (actors.other, actors.other_reader):
            check_listed(client, image_id, False, **query)

    @pytest.mark.parametrize("visibility", ["public", "community", "private"])
    def test_it_has_no_say_in_other_visibilities(
        self, actors: Actors, image: MakeImage, mark: str, visibility: str
    ) -> None:
        image_id = image(actors.admin, visibility=visibility, set=mark)["id"]
        expected = visibility != "private"
        for status in ("pending", "accepted", "rejected", "all"):
            query = {"set": mark, "visibility": "all", "member_status": status}
            check_listed(actors.member, image_id, expected, **query)

    def test_images_shared_with_another_project_stay_unseen(
        self, actors: Actors, image: MakeImage, mark: str
    ) -> None:
        image_id = image(actors.owner, set=mark)["id"]
        path = f"/v2/images/{image_id}/members"
        actors.owner.post(path, json={"member": actors.member.project_id})
        for query in ({}, {"member_status": "all"}, {"visibility": "shared"}):
            check_listed(actors.other, image_id, False, set=mark, **query)


class TestOwnerFilter:
    """`owner=X` is one more condition, and opens nothing."""

    def test_foreign_owner_shows_only_what_is_visible_anyway(
        self, actors: Actors, images: dict[str, str]
    ) -> None:
        owner = actors.owner.project_id
        mine = set(images.values())
        expected: dict[tuple[str, str], set[str]] = {
            ("other", ""): {images["public"]},
            ("other", "public"): {images["public"]},
            ("other", "community"): {images["community"]},
            ("other", "all"): {images["public"], images["community"]},
            ("other", "shared"): set(),
            ("other", "private"): set(),
            ("owner", ""): mine,
            ("admin", ""): mine - {images["community"]},
            ("admin", "all"): mine,
        }
        for (actor, visibility), ids in expected.items():
            query = {"owner": owner, **({"visibility": visibility} if visibility else {})}
            listed = set(getattr(actors, actor).list_ids(**query)) & mine
            assert listed == ids, (actor, visibility)

    def test_shared_and_accepted_images_are_found_by_their_owner(
        self, actors: Actors, image: MakeImage
    ) -> None:
        image_id = image(actors.owner)["id"]
        path = f"/v2/images/{image_id}/members"
        actors.owner.post(path, json={"member": actors.member.project_id})
        query = {"owner": actors.owner.project_id}
        check_listed(actors.member, image_id, False, **query)
        actors.member.put(f"{path}/{actors.member.project_id}", json={"status": "accepted"})
        check_listed(actors.member, image_id, True, **query)
        check_listed(actors.member, image_id, False, owner=actors.member.project_id)


class TestOwnerless:
    """An image whose owner is null (lifecycle §2, notes)."""

    @pytest.mark.parametrize(
        ("visibility", "show", "listed", "listed_community"),
        [
            ("public", 200, True, False),
            ("community", 200, False, True),
            ("shared", 200, False, False),
            ("private", 404, False, False),
        ],
    )
    def test_seen_and_listed(
        self,
        actors: Actors,
        image: MakeImage,
        visibility: str,
        show: int,
        listed: bool,
        listed_community: bool,
    ) -> None:
        image_id = image(actors.admin, owner=None, visibility=visibility)["id"]
        for client in (actors.owner, actors.owner_reader, actors.other):
            answer = client.get(f"/v2/images/{image_id}")
            assert answer.status_code == show, told(answer)
            check_listed(client, image_id, listed)
            check_listed(client, image_id, listed_community, visibility="community")
            changed = client.patch(
                f"/v2/images/{image_id}", [{"op": "replace", "path": "/name", "value": "x"}]
            )
            assert changed.status_code == (403 if show == 200 else 404), told(changed)
        assert actors.admin.show(image_id)["owner"] is None
        changed = actors.admin.patch(
            f"/v2/images/{image_id}", [{"op": "replace", "path": "/name", "value": "x"}]
        )
        assert changed.status_code == 200, told(changed)


class TestHidden:
    """`os_hidden` acts on lists only (lifecycle §3)."""

    @pytest.mark.parametrize("visibility", ["public", "community", "shared", "private"])
    def test_hidden_images_come_only_when_asked_for(
        self, actors: Actors, image: MakeImage, mark: str, visibility: str
    ) -> None:
        hidden = image(actors.admin, data=DATA, os_hidden=True, visibility=visibility, set=mark)
        plain = image(actors.admin, visibility=visibility, set=mark)
        query: dict[str, Any] = {"set": mark, "visibility": "all"}
        admin = actors.admin
        assert admin.list_ids(**query) == [plain["id"]]
        assert admin.list_ids(os_hidden="false", **query) == [plain["id"]]
        assert admin.list_ids(os_hidden="true", **query) == [hidden["id"]]
        assert admin.show(hidden["id"])["os_hidden"] is True
        assert admin.get(hidden["file"]).content == DATA
