"""List images: GET /v2/images, its envelope, paging and sorting (API §5, §5.1)."""

from __future__ import annotations

import time
import urllib.parse
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.api.configs import SMALL_LIMITS
from tests.conftest import Actors, MakeImage, ServerWith
from tests.support.server import Client, ServerProcess, told

SORT_KEYS = [
    "name", "status", "container_format", "disk_format", "size", "id", "created_at", "updated_at",
]  # fmt: skip


def listed(client: Client, **query: Any) -> dict[str, Any]:
    """One page."""
    answer = client.get("/v2/images", params=query)
    assert answer.status_code == 200, told(answer)
    page: dict[str, Any] = answer.json()
    return page


def refusal(client: Client, query: str) -> httpx.Response:
    """The answer to a list with exactly this query text."""
    return client.get(f"/v2/images?{query}")


def walked(client: Client, path: str) -> list[dict[str, Any]]:
    """All images of all pages, following `next`; fails on an endless walk."""
    images: list[dict[str, Any]] = []
    for _ in range(100):
        answer = client.get(path)
        assert answer.status_code == 200, told(answer)
        page = answer.json()
        images.extend(page["images"])
        if "next" not in page:
            return images
        path = page["next"]
    raise AssertionError("the pages never end")


def query_of(link: str) -> list[tuple[str, str]]:
    """The parameters of a link, sorted."""
    return sorted(urllib.parse.parse_qsl(urllib.parse.urlsplit(link).query, strict_parsing=True))


@pytest.fixture(scope="module")
def collection(actors: Actors) -> Any:
    """Twelve images that differ in every sortable attribute, found by property `set`."""
    owner = actors.owner
    mark = uuid.uuid4().hex
    rows: list[tuple[str | None, str | None, str | None, bytes | None]] = [
        (None, None, None, None),
        ("a", "raw", "bare", b""),
        ("a", "raw", "bare", b"xxxx"),
        ("a", "qcow2", "ovf", None),
        ("b", "qcow2", None, None),
        ("b", "iso", "ami", b"xx"),
        ("b", None, "bare", None),
        ("c", "raw", "bare", b"xxxx"),
        ("c", "raw", "bare", b"x"),
        ("B", "vhd", "ova", b"xxx"),
        ("é", "ami", "ami", b"xxxxx"),
        ("", "aki", "aki", b"xxxxxx"),
    ]
    made = []
    for name, disk_format, container_format, data in rows:
        created = owner.create(
            name=name, disk_format=disk_format, container_format=container_format, set=mark
        )
        made.append(created["id"])
        if data is not None:
            if container_format == "bare" or disk_format == "raw":
                owner.upload(created["id"], data)
            else:
                owner.upload(created["id"], data)
    # Another second, and another order of updates than of creation.
    time.sleep(1.1)
    for image_id in (made[2], made[9]):
        owner.patch(f"/v2/images/{image_id}", [{"op": "add", "path": "/touched", "value": "yes"}])
    owner.post(f"/v2/images/{made[1]}/actions/deactivate")
    yield mark
    for image_id in made:
        owner.delete(f"/v2/images/{image_id}")


class TestEnvelope:
    """What a page is made of."""

    def test_page_has_images_first_and_schema(self, owner: Client, mark: str) -> None:
        answer = owner.get("/v2/images", params={"set": mark})
        assert answer.headers["content-type"].split(";")[0] == "application/json"
        assert answer.json() == {
            "images": [],
            "first": f"/v2/images?set={mark}",
            "schema": "/v2/schemas/images",
        }

    def test_first_without_a_query_is_the_bare_path(self, owner: Client) -> None:
        assert listed(owner)["first"] == "/v2/images"

    def test_listed_images_equal_shown_ones(
        self, owner: Client, image: MakeImage, mark: str
    ) -> None:
        plain = image(name="plain", set=mark, tags=["one"])
        active = image(data=b"active", set=mark)
        images = {each["id"]: each for each in listed(owner, set=mark)["images"]}
        assert images == {plain["id"]: owner.show(plain["id"]), active["id"]: active}

    def test_first_is_the_query_without_marker(self, owner: Client, collection: str) -> None:
        some = listed(owner, set=collection, limit=1)["images"][0]["id"]
        page = listed(owner, set=collection, limit=2, marker=some, sort="name:asc")
        assert page["first"].startswith("/v2/images?")
        assert query_of(page["first"]) == [
            ("limit", "2"),
            ("set", collection),
            ("sort", "name:asc"),
        ]

    def test_next_is_the_query_with_the_last_id_as_marker(
        self, owner: Client, collection: str
    ) -> None:
        page = listed(owner, set=collection, limit=3)
        assert page["next"].startswith("/v2/images?")
        assert query_of(page["next"]) == [
            ("limit", "3"),
            ("marker", page["images"][-1]["id"]),
            ("set", collection),
        ]

    def test_links_are_url_encoded(self, owner: Client, image: MakeImage, mark: str) -> None:
        image(name="a,b & c=d", set=mark)
        page = listed(owner, set=mark, name='in:"a,b & c=d",x', limit=1)
        assert len(page["images"]) == 1
        for link in (page["first"], page["next"]):
            query = link.partition("?")[2]
            assert "in%3A" in query, link
            assert "%2C" in query, link
            assert " " not in query, link
            assert ("name", 'in:"a,b & c=d",x') in query_of(link)

    def test_repeated_parameters_survive_in_both_links(
        self, owner: Client, image: MakeImage, mark: str
    ) -> None:
        for number in range(3):
            image(set=mark, tags=["red", "round"], name=f"n{number}")
        query = (
            f"set={mark}&tag=red&tag=round&sort_key=name&sort_key=size"
            "&sort_dir=asc&sort_dir=desc&limit=2"
        )
        page = refusal(owner, query).json()
        wanted = sorted(urllib.parse.parse_qsl(query))
        assert query_of(page["first"]) == wanted
        assert query_of(page["next"]) == sorted([*wanted, ("marker", page["images"][-1]["id"])])
        # Values of one name keep their order: sort directions belong to keys.
        in_order = urllib.parse.parse_qsl(urllib.parse.urlsplit(page["next"]).query)
        assert [value for name, value in in_order if name == "sort_dir"] == ["asc", "desc"]
        assert [value for name, value in in_order if name == "sort_key"] == ["name", "size"]

    def test_body_on_list_is_refused(self, owner: Client) -> None:
        assert owner.request("GET", "/v2/images", content=b"{}").status_code == 400

    def test_list_needs_a_token(self, server: ServerProcess) -> None:
        assert server.client().get("/v2/images").status_code == 401

    @pytest.mark.parametrize("who", ["service", "norole"])
    def test_list_needs_the_reader_role(self, actors: Actors, who: str) -> None:
        assert getattr(actors, who).get("/v2/images").status_code == 403

    def test_readers_may_list(self, actors: Actors, image: MakeImage, mark: str) -> None:
        created = image(actors.owner, set=mark)
        assert actors.owner_reader.list_ids(set=mark) == [created["id"]]


class TestPaging:
    """`limit` and `marker`."""

    def test_default_page_holds_25(self, owner: Client, image: MakeImage, mark: str) -> None:
        for _ in range(26):
            image(set=mark)
        page = listed(owner, set=mark)
        assert len(page["images"]) == 25
        assert "next" in page
        assert len(owner.get(page["next"]).json()["images"]) == 1

    def test_limit_zero_is_an_empty_page_without_next(self, owner: Client, collection: str) -> None:
        page = listed(owner, set=collection, limit=0)
        assert page["images"] == []
        assert "next" not in page

    def test_next_appears_exactly_when_the_page_is_full(
        self, owner: Client, collection: str
    ) -> None:
        assert "next" in listed(owner, set=collection, limit=12)
        assert "next" not in listed(owner, set=collection, limit=13)
        after_full = listed(owner, set=collection, limit=12)["next"]
        page = owner.get(after_full).json()
        assert page["images"] == []
        assert "next" not in page
        assert page["first"] == f"/v2/images?set={collection}&limit=12" or query_of(
            page["first"]
        ) == [("limit", "12"), ("set", collection)]

    @pytest.mark.parametrize("limit", [1, 5, 12])
    def test_walk_meets_every_image_once(self, owner: Client, collection: str, limit: int) -> None:
        images = walked(owner, f"/v2/images?set={collection}&limit={limit}")
        ids = [each["id"] for each in images]
        assert len(ids) == len(set(ids)) == 12
        assert ids == owner.list_ids(set=collection)

    @pytest.mark.parametrize("limit", ["-1", "abc", "", "1.5", "1e3", "0x10", "None", "--1", "1,2"])
    def test_limit_that_is_no_count_is_refused(self, owner: Client, limit: str) -> None:
        answer = refusal(owner, f"limit={limit}")
        assert answer.status_code == 400, told(answer)
        assert "limit" in answer.text

    def test_limits_are_capped_silently(self, server_with: ServerWith, mark: str) -> None:
        running = server_with(SMALL_LIMITS)
        for _ in range(5):
            running.demo.create(set=mark)
        assert len(listed(running.demo, set=mark)["images"]) == 2
        for limit in ("4", "1001", "99999999999999999999999"):
            page = listed(running.demo, set=mark, limit=limit)
            assert len(page["images"]) == 3, limit
            assert "next" in page, "a capped page that is full has a next one"
        assert len(walked(running.demo, f"/v2/images?set={mark}&limit=1000")) == 5

    @pytest.mark.parametrize("marker", [str(uuid.UUID(int=0)), "abc", "a" * 300, "%27", "%00"])
    def test_unknown_marker_is_refused(self, owner: Client, marker: str) -> None:
        answer = refusal(owner, f"marker={marker}")
        assert answer.status_code == 400, told(answer)

    def test_deleted_marker_is_refused(self, owner: Client, image: MakeImage) -> None:
        image_id = image()["id"]
        owner.delete(f"/v2/images/{image_id}")
        assert refusal(owner, f"marker={image_id}").status_code == 400

    def test_invisible_marker_is_forbidden(self, actors: Actors, image: MakeImage) -> None:
        image_id = image(actors.owner, visibility="private")["id"]
        answer = refusal(actors.other, f"marker={image_id}")
        assert answer.status_code == 403, told(answer)

    def test_marker_outside_the_filter_still_positions_the_page(
        self, owner: Client, image: MakeImage, mark: str
    ) -> None:
        first = image(name=f"{mark}-1", set=mark)
        between = image(name=f"{mark}-2")
        last = image(name=f"{mark}-3", set=mark)
        assert owner.list_ids(set=mark, sort="name:asc", marker=between["id"]) == [last["id"]]
        assert owner.list_ids(set=mark, sort="name:desc", marker=between["id"]) == [first["id"]]

    def test_hidden_image_can_be_the_marker(
        self, owner: Client, image: MakeImage, mark: str
    ) -> None:
        hidden = image(name=f"{mark}-1", set=mark, os_hidden=True)
        shown = image(name=f"{mark}-2", set=mark)
        assert owner.list_ids(set=mark, sort="name:asc", marker=hidden["id"]) == [shown["id"]]

    def test_image_deleted_between_pages_is_left_out(
        self, owner: Client, image: MakeImage, mark: str
    ) -> None:
        made = [image(name=f"n{number}", set=mark)["id"] for number in range(5)]
        page = listed(owner, set=mark, sort="name:asc", limit=2)
        owner.delete(f"/v2/images/{made[2]}")
        rest = walked(owner, page["next"])
        assert [each["id"] for each in rest] == made[3:]


def plain_order(value: Any) -> tuple[int, Any]:
    """Null smallest, then bytewise."""
    if value is None:
        return (0, b"")
    return (1, value.encode() if isinstance(value, str) else value)


class TestSorting:
    """`sort_key`, `sort_dir` and `sort`."""

    @pytest.mark.parametrize("key", SORT_KEYS)
    def test_ascending_is_bytewise_with_null_smallest(
        self, owner: Client, collection: str, key: str
    ) -> None:
        page = listed(owner, set=collection, sort_key=key, sort_dir="asc")
        values = [plain_order(each[key]) for each in page["images"]]
        assert len(values) == 12
        assert values == sorted(values)

    @pytest.mark.parametrize("key", SORT_KEYS)
    def test_descending_is_the_exact_reverse(
        self, owner: Client, collection: str, key: str
    ) -> None:
        up = owner.list_ids(set=collection, sort_key=key, sort_dir="asc")
        down = owner.list_ids(set=collection, sort_key=key, sort_dir="desc")
        assert down == up[::-1]

    @pytest.mark.parametrize("direction", ["asc", "desc"])
    @pytest.mark.parametrize("key", SORT_KEYS)
    def test_pages_of_every_order_fit_together(
        self, owner: Client, collection: str, key: str, direction: str
    ) -> None:
        query = f"set={collection}&sort_key={key}&sort_dir={direction}"
        ids = [each["id"] for each in walked(owner, f"/v2/images?{query}&limit=1")]
        assert ids == owner.list_ids(set=collection, sort_key=key, sort_dir=direction)
        assert len(set(ids)) == 12

    @pytest.mark.parametrize("key", SORT_KEYS)
    def test_key_alone_sorts_descending(self, owner: Client, collection: str, key: str) -> None:
        assert owner.list_ids(set=collection, sort_key=key) == owner.list_ids(
            set=collection, sort_key=key, sort_dir="desc"
        )
        assert owner.list_ids(set=collection, sort=key) == owner.list_ids(
            set=collection, sort=f"{key}:desc"
        )

    def test_default_is_newest_first(self, owner: Client, collection: str) -> None:
        default = owner.list_ids(set=collection)
        assert default == owner.list_ids(set=collection, sort_key="created_at", sort_dir="desc")
        assert default == owner.list_ids(set=collection, sort="created_at")
        times = [each["created_at"] for each in listed(owner, set=collection)["images"]]
        assert times == sorted(times, reverse=True)

    def test_direction_alone_turns_the_default_order(self, owner: Client, collection: str) -> None:
        assert (
            owner.list_ids(set=collection, sort_dir="asc") == owner.list_ids(set=collection)[::-1]
        )

    @pytest.mark.parametrize(
        ("query", "keys"),
        [
            ("sort_key=name&sort_dir=asc&sort_key=size&sort_dir=desc", [("name", 1), ("size", -1)]),
            ("sort_key=status&sort_key=name&sort_dir=asc", [("status", 1), ("name", 1)]),
            ("sort_key=disk_format&sort_key=id", [("disk_format", -1), ("id", -1)]),
            ("sort=name:asc,size:desc", [("name", 1), ("size", -1)]),
            ("sort=name,size:asc", [("name", -1), ("size", 1)]),
            ("sort=%20name%20:%20asc%20,%20id%20", [("name", 1), ("id", -1)]),
            (
                "sort=status:desc,container_format:asc,id:asc",
                [("status", -1), ("container_format", 1), ("id", 1)],
            ),
        ],
    )
    def test_several_keys_sort_one_after_the_other(
        self, owner: Client, collection: str, query: str, keys: list[tuple[str, int]]
    ) -> None:
        images = walked(owner, f"/v2/images?set={collection}&{query}&limit=5")
        expected = list(images)
        for key, sign in reversed(keys):
            expected.sort(key=by(key), reverse=sign < 0)
        # Compare the keys, not the ids: rows that are equal in all keys may stand either way.
        shown = [[each[key] for key, _ in keys] for each in images]
        assert shown == [[each[key] for key, _ in keys] for each in expected]
        assert len({each["id"] for each in images}) == 12

    @pytest.mark.parametrize(
        "query",
        [
            "sort_key=owner",
            "sort_key=checksum",
            "sort_key=min_ram",
            "sort_key=tags",
            "sort_key=",
            "sort_key=NAME",
            "sort_key=name%3B%20DROP%20TABLE%20images",
            "sort_key=name&sort_key=bogus",
            "sort_dir=up",
            "sort_dir=",
            "sort_dir=ASC",
            "sort_key=name&sort_dir=sideways",
            "sort_dir=asc&sort_dir=desc",
            "sort_key=name&sort_dir=asc&sort_dir=desc",
            "sort_key=name&sort_key=size&sort_key=id&sort_dir=asc&sort_dir=desc",
            "sort=bogus",
            "sort=bogus:asc",
            "sort=name:up",
            "sort=name:asc,bogus",
            "sort=",
            "sort=,",
            "sort=name,",
            "sort=,name",
            "sort=:asc",
            "sort=name:",
            "sort=name:asc:desc",
            "sort=name&sort_key=size",
            "sort=name&sort_dir=asc",
            "sort=name:asc&sort_key=name&sort_dir=asc",
        ],
    )
    def test_wrong_order_is_refused(self, owner: Client, query: str) -> None:
        answer = refusal(owner, query)
        assert answer.status_code == 400, told(answer)


def by(key: str) -> Callable[[dict[str, Any]], tuple[int, Any]]:
    """A sort key over one attribute."""
    return lambda each: plain_order(each[key])
