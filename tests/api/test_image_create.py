"""Create image: POST /v2/images (API §3, §4)."""

from __future__ import annotations

import calendar
import json
import re
import time
import uuid
from typing import Any

import pytest

from tests.conftest import Actors, MakeImage
from tests.support.server import Client, ServerProcess, told

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
REQUEST_ID = re.compile(r"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
FOUR_BYTES = "\U0001f427"


def refused(client: Client, body: Any, status: int) -> str:
    """The error text of a create that has to fail; nothing may be created."""
    answer = client.post("/v2/images", json=body)
    assert answer.status_code == status, told(answer)
    return answer.text


def test_empty_object_makes_an_image_with_every_default(owner: Client, image: MakeImage) -> None:
    before = time.time()
    created = image()
    assert UUID.fullmatch(created["id"])
    assert TIME.fullmatch(created["created_at"])
    assert created["updated_at"] == created["created_at"]
    made_at = calendar.timegm(time.strptime(created["created_at"], "%Y-%m-%dT%H:%M:%SZ"))
    assert abs(made_at - before) < 120, "times are UTC and now"
    assert created == {
        "name": None,
        "disk_format": None,
        "container_format": None,
        "visibility": "shared",
        "size": None,
        "virtual_size": None,
        "status": "queued",
        "checksum": None,
        "protected": False,
        "min_ram": 0,
        "min_disk": 0,
        "owner": owner.project_id,
        "os_hidden": False,
        "os_hash_algo": None,
        "os_hash_value": None,
        "id": created["id"],
        "created_at": created["created_at"],
        "updated_at": created["updated_at"],
        "tags": [],
        "self": f"/v2/images/{created['id']}",
        "file": f"/v2/images/{created['id']}/file",
        "schema": "/v2/schemas/image",
    }


def test_every_settable_attribute_is_kept(owner: Client, image: MakeImage) -> None:
    wanted = {
        "id": str(uuid.uuid4()),
        "name": "Debian 12 “Bücherwurm”",
        "visibility": "private",
        "container_format": "bare",
        "disk_format": "qcow2",
        "tags": ["a", "b"],
        "protected": True,
        "min_ram": 2147483647,
        "min_disk": 2147483647,
        "owner": owner.project_id,
        "os_hidden": True,
        "kernel_id": str(uuid.uuid4()),
        "ramdisk_id": None,
        "os_distro": "debian",
        "anything": "goes",
        "empty": "",
    }
    created = image(**wanted)
    created["tags"].sort()
    assert {key: created[key] for key in wanted} == wanted
    shown = owner.show(created["id"])
    shown["tags"].sort()
    assert shown == created


def test_created_answer_carries_its_headers(owner: Client, server: ServerProcess) -> None:
    answer = owner.post("/v2/images", json={})
    assert answer.status_code == 201
    assert answer.headers["location"] == f"{server.url}/v2/images/{answer.json()['id']}"
    assert answer.headers["content-type"].split(";")[0] == "application/json"
    assert "openstack-image-store-ids" not in answer.headers, "there is one store only"
    assert REQUEST_ID.fullmatch(answer.headers["x-openstack-request-id"])
    owner.delete(f"/v2/images/{answer.json()['id']}")


def test_created_answer_names_the_import_methods(owner: Client) -> None:
    answer = owner.post("/v2/images", json={})
    assert answer.headers["openstack-image-import-methods"] == "glance-direct,web-download"


@pytest.mark.parametrize("visibility", ["shared", "private", "community"])
def test_a_project_member_chooses_visibility(image: MakeImage, visibility: str) -> None:
    assert image(visibility=visibility)["visibility"] == visibility


def test_only_an_admin_creates_public_images(actors: Actors, image: MakeImage) -> None:
    refused(actors.owner, {"visibility": "public"}, 403)
    assert image(actors.admin, visibility="public")["visibility"] == "public"


@pytest.mark.parametrize(
    "disk_format",
    ["ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop", None],
)
def test_each_disk_format_is_accepted(image: MakeImage, disk_format: str | None) -> None:
    assert image(disk_format=disk_format)["disk_format"] == disk_format


@pytest.mark.parametrize(
    "container_format", ["ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed", None]
)
def test_each_container_format_is_accepted(image: MakeImage, container_format: str | None) -> None:
    assert image(container_format=container_format)["container_format"] == container_format


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("name", 1),
        ("name", True),
        ("name", ["x"]),
        ("name", {}),
        ("name", "x" * 256),
        ("id", "not-a-uuid"),
        ("id", ""),
        ("id", None),
        ("id", 7),
        ("id", "b2173dd3-7ad6-4362-baa6-a68bce3565cbb"),
        ("id", "b2173dd37ad64362baa6a68bce3565cb"),
        ("id", "{b2173dd3-7ad6-4362-baa6-a68bce3565cb}"),
        ("visibility", "secret"),
        ("visibility", None),
        ("visibility", 1),
        ("visibility", ""),
        ("disk_format", "floppy"),
        ("disk_format", ""),
        ("disk_format", "QCOW2"),
        ("disk_format", "gpt"),
        ("disk_format", 1),
        ("container_format", "box"),
        ("container_format", True),
        ("container_format", ""),
        ("tags", "notalist"),
        ("tags", None),
        ("tags", {"a": "b"}),
        ("tags", [1]),
        ("tags", [None]),
        ("tags", ["x" * 256]),
        ("protected", "true"),
        ("protected", 1),
        ("protected", 0),
        ("protected", None),
        ("os_hidden", "true"),
        ("os_hidden", 1),
        ("os_hidden", None),
        ("min_ram", "1"),
        ("min_ram", 1.5),
        ("min_ram", True),
        ("min_ram", None),
        ("min_ram", -1),
        ("min_ram", 2147483648),
        ("min_disk", "1"),
        ("min_disk", 1.5),
        ("min_disk", False),
        ("min_disk", None),
        ("min_disk", -1),
        ("min_disk", 2147483648),
        ("min_disk", 10**30),
        ("kernel_id", "nokernel"),
        ("kernel_id", ""),
        ("kernel_id", 1),
        ("ramdisk_id", "noramdisk"),
        ("ramdisk_id", False),
        ("instance_uuid", None),
        ("architecture", 64),
        ("os_distro", None),
        ("os_version", 12),
        ("description", None),
        ("cinder_encryption_key_id", 1),
        ("cinder_encryption_key_deletion_policy", "maybe"),
        ("custom", 1),
        ("custom", 1.5),
        ("custom", True),
        ("custom", None),
        ("custom", []),
        ("custom", {"a": "b"}),
        ("k" * 256, "value"),
    ],
)
def test_value_that_breaks_the_schema_is_refused(owner: Client, attribute: str, value: Any) -> None:
    text = refused(owner, {attribute: value}, 400)
    assert attribute[:40] in text, f"the error has to name {attribute}: {text}"


def test_owner_that_breaks_the_schema_is_refused(admin: Client) -> None:
    refused(admin, {"owner": "x" * 256}, 400)
    refused(admin, {"owner": 1}, 400)


def test_longest_values_are_kept(owner: Client, image: MakeImage) -> None:
    created = image(name="n" * 255, tags=["t" * 255], **{"k" * 255: "v" * 65535})
    shown = owner.show(created["id"])
    assert shown["name"] == "n" * 255
    assert shown["tags"] == ["t" * 255]
    assert shown["k" * 255] == "v" * 65535


def test_non_ascii_text_is_utf8_and_not_escaped(owner: Client, image: MakeImage) -> None:
    created = image(name="größe 漢字", grüße="ñandú", tags=["ünïcode"])
    raw = owner.get(f"/v2/images/{created['id']}").content
    for text in ("größe 漢字", "grüße", "ñandú", "ünïcode"):
        assert text.encode() in raw


@pytest.mark.parametrize(
    "body",
    [
        {"name": FOUR_BYTES},
        {"custom": f"a{FOUR_BYTES}b"},
        {f"key{FOUR_BYTES}": "x"},
        {"tags": [FOUR_BYTES]},
    ],
)
def test_four_byte_characters_are_refused(owner: Client, body: dict[str, Any]) -> None:
    refused(owner, body, 400)


@pytest.mark.parametrize(
    "content",
    [
        b'{"name": "nul\\u0000byte"}',
        b'{"custom": "nul\\u0000byte"}',
        b'{"key\\u0000": "x"}',
        b'{"tags": ["a\\u0000"]}',
        b'{"name": "\\ud800"}',
        b'{"custom": "\\udc00"}',
        b'{"tags": ["\\ud83d"]}',
    ],
)
def test_text_that_no_database_can_keep_is_refused(owner: Client, content: bytes) -> None:
    answer = owner.post("/v2/images", content=content)
    assert answer.status_code == 400, told(answer)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" ",
        b"{",
        b"}",
        b'{"name": }',
        b'{"name": "x"',
        b"{'name': 'x'}",
        b'{"name": "x"} trailing',
        b'{"name": "\xff\xfe"}',
        b'{"min_ram": NaN}',
        b'{"min_ram": Infinity}',
        b"name=x",
        b"\x00",
        b"null",
        b"1",
        b'"text"',
        b"true",
        b"[]",
        b'[{"name": "x"}]',
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
    ids=lambda content: repr(content[:20]),
)
def test_body_that_is_no_json_object_is_refused(owner: Client, content: bytes) -> None:
    answer = owner.post("/v2/images", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, told(answer)


def test_missing_body_is_refused(owner: Client) -> None:
    answer = owner.post("/v2/images")
    assert answer.status_code == 400, told(answer)


def test_enormous_body_is_refused(owner: Client) -> None:
    answer = owner.post("/v2/images", content=b'{"name": "x"}' + b" " * (17 << 20))
    assert answer.status_code == 413, told(answer)


@pytest.mark.parametrize(
    "content_type",
    [None, "application/json", "application/json; charset=utf-8", "text/plain", "application/xml"],
)
def test_any_content_type_is_parsed_as_json(owner: Client, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = owner.post("/v2/images", content=b'{"name": "typed"}', headers=headers)
    assert answer.status_code == 201, told(answer)
    assert answer.json()["name"] == "typed"
    owner.delete(f"/v2/images/{answer.json()['id']}")


def test_chunked_body_is_read_to_its_end(owner: Client) -> None:
    answer = owner.post("/v2/images", content=iter([b'{"name"', b': "in ', b'pieces"}']))
    assert answer.status_code == 201, told(answer)
    assert answer.json()["name"] == "in pieces"
    owner.delete(f"/v2/images/{answer.json()['id']}")


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("created_at", "2026-01-01T00:00:00Z"),
        ("updated_at", "2026-01-01T00:00:00Z"),
        ("status", "active"),
        ("checksum", "0" * 32),
        ("size", 1),
        ("virtual_size", 1),
        ("direct_url", "file:///etc/passwd"),
        ("self", "/v2/images/x"),
        ("file", "/v2/images/x/file"),
        ("schema", "/v2/schemas/image"),
        ("stores", "main"),
        ("deleted", "true"),
        ("deleted_at", "2026-01-01T00:00:00Z"),
        ("location", "file:///etc/passwd"),
        ("locations", []),
        ("os_glance_import_task", "x"),
        ("os_glance_", "x"),
        ("os_glance", "x"),
        ("os_glancefoo", "x"),
    ],
)
def test_read_only_and_reserved_attributes_are_refused(
    owner: Client, attribute: str, value: Any
) -> None:
    text = refused(owner, {"name": "x", attribute: value}, 403)
    assert attribute in text, f"the error has to name {attribute}: {text}"


def test_hashes_in_the_body_are_silently_dropped(owner: Client, image: MakeImage) -> None:
    created = image(os_hash_algo="md5", os_hash_value="0" * 32)
    assert created["os_hash_algo"] is None
    assert created["os_hash_value"] is None


@pytest.mark.parametrize(
    "name",
    [
        "is_public",
        "is_copying",
        "image_id",
        "member",
        "extra_properties",
        "delete",
        "properties",
        "members",
        "first",
        "next",
        "os_glanc",
        "a/b",
        "a~b",
        "a b",
        "LIMIT",
        "Name",
        "__class__",
    ],
)
def test_other_names_are_ordinary_custom_properties(
    owner: Client, image: MakeImage, name: str
) -> None:
    created = image(name="plain", **{name: "value"})
    assert created[name] == "value"
    assert created["name"] == "plain"
    assert owner.show(created["id"])[name] == "value"


def test_tags_are_a_set(image: MakeImage) -> None:
    assert sorted(image(tags=["b", "a", "b", "A", "a"])["tags"]) == ["A", "a", "b"]


def test_own_project_may_be_named_as_owner(owner: Client, image: MakeImage) -> None:
    assert image(owner=owner.project_id)["owner"] == owner.project_id


@pytest.mark.parametrize("value", ["somebody-else", None, ""])
def test_members_may_not_choose_another_owner(owner: Client, value: str | None) -> None:
    refused(owner, {"owner": value}, 403)


@pytest.mark.parametrize("value", ["somebody-else", None])
def test_admin_chooses_any_owner(admin: Client, image: MakeImage, value: str | None) -> None:
    assert image(admin, owner=value)["owner"] == value


@pytest.mark.parametrize("who", ["owner_reader", "service", "norole"])
def test_callers_without_the_member_role_create_nothing(actors: Actors, who: str) -> None:
    refused(getattr(actors, who), {"name": "x"}, 403)


def test_creating_needs_a_token(server: ServerProcess) -> None:
    refused(server.client(), {"name": "x"}, 401)


class TestIds:
    """Image ids are chosen once and never used again."""

    def test_supplied_id_is_echoed_in_its_case(self, owner: Client, image: MakeImage) -> None:
        wanted = "ABCDEF12-" + str(uuid.uuid4())[9:].upper()
        created = image(id=wanted)
        assert created["id"] == wanted
        assert created["self"] == f"/v2/images/{wanted}"
        assert owner.show(wanted)["id"] == wanted

    def test_ids_are_looked_up_exactly(self, owner: Client, image: MakeImage) -> None:
        wanted = "ABCDEF12-" + str(uuid.uuid4())[9:].upper()
        image(id=wanted)
        assert owner.get(f"/v2/images/{wanted.lower()}").status_code == 404

    def test_own_id_is_not_given_twice(self, owner: Client, image: MakeImage) -> None:
        created = image(name="first")
        text = refused(owner, {"id": created["id"], "name": "second"}, 409)
        assert created["id"] in text
        assert owner.show(created["id"])["name"] == "first"

    def test_id_of_an_invisible_image_is_taken(self, actors: Actors, image: MakeImage) -> None:
        created = image(actors.owner, visibility="private")
        refused(actors.other, {"id": created["id"]}, 409)

    @pytest.mark.parametrize("who", ["owner", "admin", "other"])
    def test_id_of_a_deleted_image_stays_burnt(
        self, actors: Actors, image: MakeImage, who: str
    ) -> None:
        created = image(actors.owner)
        assert actors.owner.delete(f"/v2/images/{created['id']}").status_code == 204
        refused(getattr(actors, who), {"id": created["id"]}, 409)


def test_refused_create_leaves_no_image(owner: Client, mark: str) -> None:
    for body in (
        {"batch": mark, "min_ram": -1},
        {"batch": mark, "status": "active"},
        {"batch": mark, "visibility": "public"},
        {"batch": mark, "owner": "x"},
        {"batch": mark, "tags": ["x" * 256]},
    ):
        assert owner.post("/v2/images", json=body).status_code in (400, 403)
    assert owner.list_ids(batch=mark) == []


def test_unknown_query_of_create_is_ignored(owner: Client) -> None:
    answer = owner.post("/v2/images?limit=abc", content=json.dumps({}))
    assert answer.status_code == 201, told(answer)
    owner.delete(f"/v2/images/{answer.json()['id']}")
