"""List images: filters, operators and quoting (API §5.2, §5.3)."""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Actors, MakeImage
from tests.support.server import Client, told

Set = dict[str, dict[str, Any]]
DATA = {"tiny": b"x", "small": b"x" * 100}


@pytest.fixture(scope="module")
def images(actors: Actors) -> Iterator[Set]:
    """A set of images by short name, found together by property `set`."""
    owner = actors.owner
    mark = uuid.uuid4().hex
    attributes: dict[str, dict[str, Any]] = {
        "queued": {"name": "plain", "min_ram": 512, "min_disk": 10},
        "tiny": {
            "name": "Plain",
            "disk_format": "raw",
            "container_format": "bare",
            "min_ram": 1024,
            "min_disk": 20,
            "tags": ["red", "round"],
        },
        "small": {
            "name": "with,comma",
            "disk_format": "iso",
            "container_format": "ovf",
            "tags": ["red", "Square", "two words"],
        },
        "colon": {"name": "with:colon", "disk_format": "qcow2", "protected": True},
        "quote": {"name": 'say "hi", \\o/', "os_distro": "debian", "LIMIT": "2"},
        "nameless": {"name": None, "container_format": "ami", "group": "in:a,b"},
        "hidden": {"name": "plain", "os_hidden": True, "os_distro": "debian"},
    }
    made: Set = {}
    for short, body in attributes.items():
        created = owner.create(set=mark, **body)
        if short in DATA:
            created = owner.upload(created["id"], DATA[short])
        made[short] = created
    yield made
    owner.patch(
        f"/v2/images/{made['colon']['id']}",
        [{"op": "replace", "path": "/protected", "value": False}],
    )
    for created in made.values():
        owner.delete(f"/v2/images/{created['id']}")


ALL = {"queued", "tiny", "small", "colon", "quote", "nameless"}


def found(client: Client, images: Set, query: list[tuple[str, str]] | dict[str, str]) -> set[str]:
    """Short names of the images of the set that the query finds."""
    pairs = list(query.items()) if isinstance(query, dict) else query
    mark = next(iter(images.values()))["set"]
    answer = client.get("/v2/images", params=[("set", mark), ("limit", "1000"), *pairs])
    assert answer.status_code == 200, told(answer)
    names = {image["id"]: short for short, image in images.items()}
    return {names[image["id"]] for image in answer.json()["images"]}


def refused(client: Client, name: str, value: str) -> None:
    """The list answers 400 and names the parameter."""
    answer = client.get("/v2/images", params=[(name, value)])
    assert answer.status_code == 400, told(answer)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ALL),
        # equality
        ({"name": "plain"}, {"queued"}),
        ({"name": "Plain"}, {"tiny"}),
        ({"name": "eq:plain"}, {"queued"}),
        ({"name": "plai"}, set()),
        ({"name": "pl%"}, set()),
        ({"name": "_lain"}, set()),
        ({"name": " plain"}, set()),
        ({"name": "nobody"}, set()),
        ({"name": "with,comma"}, {"small"}),
        ({"name": 'say "hi", \\o/'}, {"quote"}),
        ({"name": "\U0001f427"}, set()),
        ({"status": "queued"}, {"queued", "colon", "quote", "nameless"}),
        ({"status": "active"}, {"tiny", "small"}),
        ({"status": "eq:active"}, {"tiny", "small"}),
        ({"status": "ACTIVE"}, set()),
        ({"status": "bogus"}, set()),
        ({"status": "killed"}, set()),
        ({"status": "deleted"}, set()),
        ({"status": "pending_delete"}, set()),
        ({"status": "saving"}, set()),
        ({"status": "deactivated"}, set()),
        ({"disk_format": "raw"}, {"tiny"}),
        ({"disk_format": "eq:iso"}, {"small"}),
        ({"disk_format": "bogus"}, set()),
        ({"disk_format": ""}, set()),
        ({"container_format": "ovf"}, {"small"}),
        ({"container_format": "bogus"}, set()),
        ({"id": "bogus"}, set()),
        ({"owner": "bogus"}, set()),
        ({"owner": "eq:bogus"}, set()),
        ({"checksum": hashlib.md5(DATA["tiny"]).hexdigest()}, {"tiny"}),
        ({"checksum": "eq:" + hashlib.md5(DATA["tiny"]).hexdigest()}, set()),
        ({"checksum": "bogus"}, set()),
        ({"os_hash_algo": "sha512"}, {"tiny", "small"}),
        ({"os_hash_algo": "md5"}, set()),
        ({"os_hash_value": hashlib.sha512(DATA["small"]).hexdigest()}, {"small"}),
        # several values
        ({"name": "in:plain"}, {"queued"}),
        ({"name": "in:plain,Plain"}, {"queued", "tiny"}),
        ({"name": "in:plain, Plain"}, {"queued"}),
        ({"name": 'in:"with,comma"'}, {"small"}),
        ({"name": 'in:"with,comma",plain'}, {"small", "queued"}),
        ({"name": 'in:plain,"with,comma"'}, {"small", "queued"}),
        ({"name": 'in:"plain"'}, {"queued"}),
        ({"name": 'in:"say \\"hi\\", \\\\o/"'}, {"quote"}),
        ({"name": "in:"}, set()),
        ({"name": "in:,"}, set()),
        ({"name": "in:nobody,plain"}, {"queued"}),
        ({"status": "in:queued,active"}, ALL),
        ({"status": "in:active,bogus"}, {"tiny", "small"}),
        ({"status": "in:"}, set()),
        ({"disk_format": "in:raw,iso"}, {"tiny", "small"}),
        ({"container_format": "in:ami,bare"}, {"nameless", "tiny"}),
        # names that hold a colon
        ({"name": "eq:with:colon"}, {"colon"}),
        ({"name": "in:with:colon"}, {"colon"}),
        ({"name": "in:with:colon,plain"}, {"colon", "queued"}),
        # integers
        ({"size": "1"}, {"tiny"}),
        ({"size": "100"}, {"small"}),
        ({"size": "0"}, set()),
        ({"size": "abc"}, set()),
        ({"size": ""}, set()),
        ({"min_ram": "512"}, {"queued"}),
        ({"min_ram": "0"}, {"small", "colon", "quote", "nameless"}),
        ({"min_ram": "x"}, set()),
        ({"min_disk": "20"}, {"tiny"}),
        ({"virtual_size": "1"}, {"tiny"}),
        ({"virtual_size": "none"}, set()),
        ({"size_min": "1"}, {"tiny", "small"}),
        ({"size_min": "2"}, {"small"}),
        ({"size_min": "100"}, {"small"}),
        ({"size_min": "101"}, set()),
        ({"size_max": "1"}, {"tiny"}),
        ({"size_max": "99"}, {"tiny"}),
        ({"size_max": "100"}, {"tiny", "small"}),
        ({"size_max": "0"}, set()),
        ({"size_min": "1", "size_max": "99"}, {"tiny"}),
        ({"size_min": "-5"}, {"tiny", "small"}),
        ({"min_ram_min": "512"}, {"queued", "tiny"}),
        ({"min_ram_max": "512"}, ALL - {"tiny"}),
        ({"min_disk_min": "11"}, {"tiny"}),
        ({"min_disk_max": "10"}, ALL - {"tiny"}),
        ({"virtual_size_min": "0"}, {"tiny"}),
        ({"virtual_size_max": "0"}, set()),
        # flags
        ({"os_hidden": "true"}, {"hidden"}),
        ({"os_hidden": "TRUE"}, {"hidden"}),
        ({"os_hidden": "True"}, {"hidden"}),
        ({"os_hidden": "false"}, ALL),
        ({"os_hidden": "False"}, ALL),
        ({"protected": "true"}, {"colon"}),
        ({"protected": "false"}, ALL - {"colon"}),
        # tags
        ({"tag": "red"}, {"tiny", "small"}),
        ([("tag", "red"), ("tag", "round")], {"tiny"}),
        ([("tag", "red"), ("tag", "red")], {"tiny", "small"}),
        ([("tag", "round"), ("tag", "Square")], set()),
        ({"tag": "Red"}, set()),
        ({"tag": "square"}, set()),
        ({"tag": "Square"}, {"small"}),
        ({"tag": "  round "}, {"tiny"}),
        ({"tag": "two words"}, {"small"}),
        ({"tag": "re"}, set()),
        ({"tag": "t" * 300}, set()),
        ({"tag": "\U0001f427"}, set()),
        # custom properties
        ({"os_distro": "debian"}, {"quote"}),
        ({"os_distro": "Debian"}, set()),
        ({"os_distro": "in:debian,ubuntu"}, set()),
        ({"os_distro": "eq:debian"}, set()),
        ({"group": "in:a,b"}, {"nameless"}),
        ({"group": "a"}, set()),
        ({"LIMIT": "2"}, {"quote"}),
        ({"no_such_property": "x"}, set()),
        ({"is_public": "true"}, set()),
        ({"\U0001f427": "x"}, set()),
        # several filters, all of which must hold
        ({"name": "plain", "os_hidden": "true"}, {"hidden"}),
        ({"name": "plain", "status": "active"}, set()),
        ({"os_distro": "debian", "LIMIT": "2"}, {"quote"}),
        # a name given twice: the last value wins
        ([("name", "nobody"), ("name", "plain")], {"queued"}),
        ([("name", "plain"), ("name", "nobody")], set()),
        ([("os_distro", "x"), ("os_distro", "debian")], {"quote"}),
        ([("size_min", "1000"), ("size_min", "100")], {"small"}),
        # filters without effect
        ({"deleted": "true"}, ALL),
        ({"deleted": "false"}, ALL),
        ({"deleted_at": "2026-01-01"}, ALL),
        ({"member_status": "all"}, ALL),
        ({"member_status": "rejected"}, ALL),
    ],
    ids=lambda value: ascii(value)[:60] if isinstance(value, dict | list) else "",
)
def test_filter_finds_exactly_what_it_says(
    owner: Client, images: Set, query: dict[str, str], expected: set[str]
) -> None:
    assert found(owner, images, query) == expected


@pytest.mark.parametrize("column", ["id", "owner"])
def test_ids_are_compared_for_equality(owner: Client, images: Set, column: str) -> None:
    value = images["tiny"][column]
    expected = {"tiny"} if column == "id" else ALL
    assert found(owner, images, {column: value}) == expected


def test_ids_can_be_asked_for_in_a_list(owner: Client, images: Set) -> None:
    wanted = f"in:{images['tiny']['id']},{images['quote']['id']},{uuid.uuid4()}"
    assert found(owner, images, {"id": wanted}) == {"tiny", "quote"}


@pytest.mark.parametrize("column", ["name", "status", "id", "container_format", "disk_format"])
@pytest.mark.parametrize(
    "operator", ["neq", "gt", "gte", "lt", "lte", "like", "foo", "IN", "", " in"]
)
def test_text_columns_know_only_eq_and_in(owner: Client, column: str, operator: str) -> None:
    refused(owner, column, f"{operator}:queued")


@pytest.mark.parametrize(
    "value",
    [
        'in:"plain',
        'in:plain"',
        'in:pl"ain',
        'in:"plain"x',
        'in:"a"b"',
        'in:a,"b',
        'in:"',
        'in:"a\\"',
        'in:"a""b"',
    ],
)
def test_wrong_quoting_is_refused(owner: Client, value: str) -> None:
    refused(owner, "name", value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((f"{column}_{bound}", value)
          for column in ("size", "virtual_size", "min_ram", "min_disk")
          for bound in ("min", "max")
          for value in ("abc", "", "1.5", "1k", "in:1")),
        ("name_min", "1"),
        ("name_max", "1"),
        ("created_at_min", "1"),
        ("status_max", "1"),
        ("bogus_min", "1"),
        ("bogus_max", "1"),
        ("os_distro_min", "1"),
        ("visibility", "secret"),
        ("visibility", ""),
        ("visibility", "Public"),
        ("visibility", "in:public"),
        ("member_status", "bogus"),
        ("member_status", ""),
        ("member_status", "Accepted"),
        ("os_hidden", "yes"),
        ("os_hidden", "1"),
        ("os_hidden", ""),
        ("protected", "True"),
        ("protected", "FALSE"),
        ("protected", "1"),
        ("protected", ""),
        ("changes-since", "2026-01-01T00:00:00Z"),
        ("changes-since", "bogus"),
        ("locations", "x"),
        ("members", "x"),
        ("properties", "x"),
        ("tags", "red"),
        ("direct_url", "x"),
        ("self", "x"),
        ("file", "x"),
        ("schema", "x"),
        ("stores", "main"),
    ],
)  # fmt: skip
def test_wrong_filter_is_refused(owner: Client, name: str, value: str) -> None:
    refused(owner, name, value)


@pytest.mark.parametrize("query", ["name=%00", "custom=%00", "tag=%00", "%00=x", "owner=%00"])
def test_nul_in_a_filter_never_breaks_the_list(owner: Client, query: str) -> None:
    answer = owner.get(f"/v2/images?{query}")
    assert answer.status_code in (200, 400), told(answer)
    if answer.status_code == 200:
        assert answer.json()["images"] == []


@pytest.mark.parametrize("query", ["name=%ff", "custom=%c3%28", "tag=%ff%fe", "%ff=x"])
def test_bytes_that_are_no_utf8_in_a_filter_never_break_the_list(owner: Client, query: str) -> None:
    answer = owner.get(f"/v2/images?{query}")
    assert answer.status_code in (200, 400), told(answer)
    if answer.status_code == 200:
        assert answer.json()["images"] == []


class TestTimes:
    """Comparisons of `created_at` and `updated_at`."""

    @staticmethod
    def moment(image: dict[str, Any], column: str) -> dt.datetime:
        return dt.datetime.strptime(image[column], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=dt.UTC)

    @pytest.mark.parametrize("column", ["created_at", "updated_at"])
    @pytest.mark.parametrize(
        ("operator", "seconds", "matches"),
        [
            ("", 0, True), ("", 1, False), ("", -1, False),
            ("eq:", 0, True), ("eq:", 1, False), ("eq:", -1, False),
            ("neq:", 0, False), ("neq:", 1, True), ("neq:", -1, True),
            ("gt:", 0, False), ("gt:", -1, True), ("gt:", 1, False),
            ("gte:", 0, True), ("gte:", -1, True), ("gte:", 1, False),
            ("lt:", 0, False), ("lt:", -1, False), ("lt:", 1, True),
            ("lte:", 0, True), ("lte:", -1, False), ("lte:", 1, True),
        ],
    )  # fmt: skip
    def test_comparison_with_a_moment(
        self,
        owner: Client,
        images: Set,
        column: str,
        operator: str,
        seconds: int,
        matches: bool,
    ) -> None:
        image = images["queued"]
        moment = self.moment(image, column) + dt.timedelta(seconds=seconds)
        value = f"{operator}{moment:%Y-%m-%dT%H:%M:%SZ}"
        ids = owner.list_ids(id=image["id"], **{column: value})
        assert ids == ([image["id"]] if matches else []), f"{column}={value}"

    @pytest.mark.parametrize(
        "form",
        [
            "%Y-%m-%dT%H:%M:%SZ",
            "%Y-%m-%dT%H:%M:%S",
            "%Y-%m-%d %H:%M:%S",
            "%Y-%m-%dT%H:%M:%S+00:00",
            "%Y-%m-%dT%H:%M:%S.000000Z",
            "%Y%m%dT%H%M%SZ",
        ],
    )
    def test_spellings_of_the_same_moment(self, owner: Client, images: Set, form: str) -> None:
        image = images["queued"]
        text = self.moment(image, "created_at").strftime(form)
        for value in (text, f"eq:{text}", f"gte:{text}"):
            assert owner.list_ids(id=image["id"], created_at=value) == [image["id"]], value
        assert owner.list_ids(id=image["id"], created_at=f"gt:{text}") == []

    @pytest.mark.parametrize("hours", [-5, 5.5, 14])
    def test_offsets_are_honoured(self, owner: Client, images: Set, hours: float) -> None:
        image = images["queued"]
        zone = dt.timezone(dt.timedelta(hours=hours))
        there = self.moment(image, "created_at").astimezone(zone).isoformat()
        assert owner.list_ids(id=image["id"], created_at=f"eq:{there}") == [image["id"]]
        assert owner.list_ids(id=image["id"], created_at=f"lt:{there}") == []

    def test_date_alone_is_midnight_utc(self, owner: Client, images: Set) -> None:
        image = images["queued"]
        day = self.moment(image, "created_at").date()
        after = day + dt.timedelta(days=1)
        assert owner.list_ids(id=image["id"], created_at=f"gte:{day}") == [image["id"]]
        assert owner.list_ids(id=image["id"], created_at=f"lt:{after}") == [image["id"]]
        assert owner.list_ids(id=image["id"], created_at=f"lt:{day}") == []
        assert owner.list_ids(id=image["id"], created_at=f"gte:{after}") == []

    def test_two_comparisons_of_different_columns_both_hold(
        self, owner: Client, images: Set
    ) -> None:
        image = images["queued"]
        query = {
            "created_at": f"lte:{image['created_at']}",
            "updated_at": f"gte:{image['updated_at']}",
        }
        assert owner.list_ids(id=image["id"], **query) == [image["id"]]
        query["updated_at"] = f"gt:{image['updated_at']}"
        assert owner.list_ids(id=image["id"], **query) == []

    @pytest.mark.parametrize("column", ["created_at", "updated_at"])
    @pytest.mark.parametrize(
        "value",
        [
            "bogus",
            "",
            "gt:",
            "gt:bogus",
            "in:2026-01-01T00:00:00Z",
            "like:2026-01-01T00:00:00Z",
            "foo:2026-01-01T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-02-30T00:00:00Z",
            "2026-01-01T25:00:00Z",
            "gt:2026-01-01T00:00:00+99:00",
            "gt:gt:2026-01-01T00:00:00Z",
        ],
    )
    def test_wrong_time_is_refused(self, owner: Client, column: str, value: str) -> None:
        refused(owner, column, value)


def test_deactivated_images_are_found_by_their_status(
    owner: Client, image: MakeImage, mark: str
) -> None:
    created = image(data=b"x", set=mark)
    owner.post(f"/v2/images/{created['id']}/actions/deactivate")
    assert owner.list_ids(set=mark, status="deactivated") == [created["id"]]
    assert owner.list_ids(set=mark, status="active") == []


def test_property_with_a_long_value_is_found(owner: Client, image: MakeImage, mark: str) -> None:
    value = mark * 100
    created = image(long=value)
    assert owner.list_ids(long=value) == [created["id"]]
    assert owner.list_ids(long=value[:-1]) == []


def test_changed_property_is_found_by_its_new_value_only(
    owner: Client, image: MakeImage, mark: str
) -> None:
    created = image(colour=f"{mark}-red")
    path = f"/v2/images/{created['id']}"
    owner.patch(path, [{"op": "replace", "path": "/colour", "value": f"{mark}-blue"}])
    assert owner.list_ids(colour=f"{mark}-red") == []
    assert owner.list_ids(colour=f"{mark}-blue") == [created["id"]]
    owner.patch(path, [{"op": "remove", "path": "/colour"}])
    assert owner.list_ids(colour=f"{mark}-blue") == []


def test_names_are_never_read_as_sql(owner: Client, image: MakeImage, mark: str) -> None:
    name = f"{mark}' OR '1'='1"
    created = image(name=name)
    assert owner.list_ids(name=f"{mark}' OR '1'='1") == [created["id"]]
    assert owner.list_ids(name=f"{mark}' OR '1'='1' --") == []
    assert owner.list_ids(**{f"{mark}' OR '1'='1": "x"}) == []
