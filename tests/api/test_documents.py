"""The requests of three published documents of old operators, replayed.

000: the image schema as an operator printed it in January 2015. 001: the images schema of another,
with an executed example and an error example. 003: the parameter file of the upstream reference.
A client that was written from them has to work: every key that they show is there, with a value
that holds what they promise; more keys, more enum members and nulls are allowed.
"""

from __future__ import annotations

import calendar
import hashlib
import json
import re
import time
import uuid
from typing import Any

import httpx
import pytest

from tests.api.configs import LOCATIONS, TWO_STORES, WITHOUT_IMPORTS
from tests.conftest import Actors, MakeImage, Running, ServerWith
from tests.support.raw_http import exchange
from tests.support.server import Client, ServerProcess, told

UUID_PATTERN = (
    "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$"
)
LINKS = [
    {"rel": "self", "href": "{self}"},
    {"rel": "enclosure", "href": "{file}"},
    {"rel": "describedby", "href": "{schema}"},
]
STATUSES = {"queued", "saving", "active", "killed", "deleted", "pending_delete"}
PROPERTIES: dict[str, dict[str, Any]] = {
    "status": {"type": "string", "enum": STATUSES},
    "tags": {"type": "array", "items": {"type": "string", "maxLength": 255}},
    "kernel_id": {"type": "string", "pattern": UUID_PATTERN, "is_base": False},
    "ramdisk_id": {"type": "string", "pattern": UUID_PATTERN, "is_base": False},
    "container_format": {"type": "string", "enum": {"ami", "ari", "aki", "bare", "ovf", "ova"}},
    "disk_format": {
        "type": "string",
        "enum": {"ami", "ari", "aki", "vhd", "vmdk", "raw", "qcow2", "vdi", "iso"},
    },
    "min_ram": {"type": "integer"},
    "min_disk": {"type": "integer"},
    "visibility": {"type": "string", "enum": {"public", "private"}},
    "updated_at": {"type": "string"},
    "created_at": {"type": "string"},
    "owner": {"type": "string", "maxLength": 255},
    "file": {"type": "string"},
    "self": {"type": "string"},
    "schema": {"type": "string"},
    "virtual_size": {"type": "integer"},
    "size": {"type": "integer"},
    "id": {"type": "string", "pattern": UUID_PATTERN},
    "instance_uuid": {"type": "string", "is_base": False},
    "os_distro": {"type": "string", "is_base": False},
    "os_version": {"type": "string", "is_base": False},
    "architecture": {"type": "string", "is_base": False},
    "name": {"type": "string", "maxLength": 255},
    "checksum": {"type": "string", "maxLength": 32},
    "protected": {"type": "boolean"},
    "direct_url": {"type": "string"},
    "locations": {"type": "array"},
}
READ_ONLY = {
    "status", "updated_at", "created_at", "file", "self", "schema", "virtual_size", "size",
    "checksum", "direct_url",
}  # fmt: skip
NULLABLE = {
    "checksum", "container_format", "disk_format", "name", "owner", "size", "virtual_size",
}  # fmt: skip
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def check_property(schema: dict[str, Any], name: str) -> None:
    """One property of the served schema holds everything that the documents say of it."""
    wanted, served = PROPERTIES[name], schema[name]
    types = served["type"] if isinstance(served["type"], list) else [served["type"]]
    assert wanted["type"] in types, name
    assert set(types) <= {wanted["type"], "null"}, name
    for key in ("maxLength", "pattern", "is_base"):
        if key in wanted:
            assert served[key] == wanted[key], (name, key)
    if "enum" in wanted:
        assert set(served["enum"]) >= wanted["enum"], name
    assert served.get("readOnly", False) == (name in READ_ONLY), name
    assert isinstance(served["description"], str)
    assert served["description"], name


class TestImageSchemaDocument:
    """Document 000: GET /v2/schemas/image."""

    @pytest.fixture
    def answer(self, server: ServerProcess, owner: Client) -> httpx.Response:
        """The document's request: curl -i -X GET with Accept and X-Auth-Token."""
        answer = httpx.get(
            f"{server.url}/v2/schemas/image",
            headers={"Accept": "application/json", "X-Auth-Token": owner.token or ""},
            trust_env=False,
        )
        assert answer.status_code == 200, told(answer)
        return answer

    def test_headers(self, answer: httpx.Response) -> None:
        assert answer.headers["content-type"].split(";")[0] == "application/json"
        assert answer.headers["content-length"] == str(len(answer.content))
        assert "date" in answer.headers

    def test_frame(self, answer: httpx.Response) -> None:
        schema = answer.json()
        assert schema["name"] == "image"
        assert schema["additionalProperties"] == {"type": "string"}
        assert sorted(schema["links"], key=str) == sorted(LINKS, key=str)
        assert "required" not in schema
        assert "$schema" not in schema

    @pytest.mark.parametrize("name", PROPERTIES)
    def test_property(self, answer: httpx.Response, name: str) -> None:
        check_property(answer.json()["properties"], name)

    def test_locations(self, answer: httpx.Response) -> None:
        items = answer.json()["properties"]["locations"]["items"]
        assert items["type"] == "object"
        assert set(items["required"]) == {"url", "metadata"}
        assert items["properties"]["url"] == {"type": "string", "maxLength": 255}
        assert items["properties"]["metadata"] == {"type": "object"}

    def test_what_came_later_is_there_as_well(self, answer: httpx.Response) -> None:
        properties = answer.json()["properties"]
        assert set(properties) == set(PROPERTIES) | {
            "os_hidden", "os_hash_algo", "os_hash_value", "stores", "description",
            "cinder_encryption_key_id", "cinder_encryption_key_deletion_policy",
        }  # fmt: skip
        assert set(properties["status"]["enum"]) == STATUSES | {
            "uploading", "importing", "deactivated",
        }  # fmt: skip
        assert set(properties["visibility"]["enum"]) == {
            "public", "private", "community", "shared",
        }  # fmt: skip

    def test_body_is_refused(self, owner: Client) -> None:
        answer = owner.request("GET", "/v2/schemas/image", content=b"{}")
        assert answer.status_code == 400, told(answer)


class TestImagesSchemaDocument:
    """Document 001: GET /v2/schemas/images."""

    @pytest.fixture(
        params=[
            {
                "Accept-Encoding": "gzip, deflate, compress",
                "Accept": "application/json",
                "Content-Type": "application/json",
            },
            {"User-Agent": "curl/7.35.0", "Host": "192.168.56.250:9292", "Accept": "*/*"},
        ],
        ids=["sample", "executed"],
    )
    def answer(
        self, request: pytest.FixtureRequest, server: ServerProcess, owner: Client
    ) -> httpx.Response:
        """The two requests of the document."""
        headers = {**request.param, "X-Auth-Token": owner.token or ""}
        answer = httpx.get(f"{server.url}/v2/schemas/images", headers=headers, trust_env=False)
        assert answer.status_code == 200, told(answer)
        return answer

    def test_headers(self, answer: httpx.Response) -> None:
        assert answer.headers["content-type"].split(";")[0] == "application/json"
        assert re.fullmatch(
            r"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
            answer.headers["X-Openstack-Request-Id"],
        )
        assert int(answer.headers["content-length"]) > 0
        assert "date" in answer.headers

    def test_frame(self, answer: httpx.Response) -> None:
        schema = answer.json()
        assert schema["name"] == "images"
        assert sorted(schema["links"], key=str) == [
            {"rel": "describedby", "href": "{schema}"},
            {"rel": "first", "href": "{first}"},
            {"rel": "next", "href": "{next}"},
        ]
        assert set(schema["properties"]) == {"first", "images", "next", "schema"}
        for name in ("first", "next", "schema"):
            assert schema["properties"][name] == {"type": "string"}
        images = schema["properties"]["images"]
        assert set(images) == {"type", "items"}
        assert images["type"] == "array"
        assert images["items"]["name"] == "image"
        assert images["items"]["additionalProperties"] == {"type": "string"}
        assert sorted(images["items"]["links"], key=str) == sorted(LINKS, key=str)

    @pytest.mark.parametrize("name", PROPERTIES)
    def test_property(self, answer: httpx.Response, name: str) -> None:
        properties = answer.json()["properties"]["images"]["items"]["properties"]
        check_property(properties, name)
        types = properties[name]["type"]
        if name in NULLABLE:
            assert types == ["null", PROPERTIES[name]["type"]]
        if name in ("container_format", "disk_format"):
            assert properties[name]["enum"][0] is None, "null first"

    def test_items_are_the_image_schema(self, answer: httpx.Response, owner: Client) -> None:
        assert answer.json()["properties"]["images"]["items"] == (
            owner.get("/v2/schemas/image").json()
        )

    def test_error_example_byte_for_byte(self, server: ServerProcess, owner: Client) -> None:
        answer = exchange(
            server.port,
            b"GET /v2/schema/images HTTP/1.1\r\n"
            b"User-Agent: curl/7.35.0\r\n"
            b"Host: 192.168.56.250:9292\r\n"
            b"Accept: */*\r\n"
            b"X-Auth-Token: " + (owner.token or "").encode() + b"\r\n\r\n",
        )
        assert answer is not None
        assert answer.status == 404
        assert answer.headers["content-length"] == "154"
        assert answer.headers["content-type"] == "text/html; charset=UTF-8"
        assert answer.headers["x-openstack-request-id"].startswith("req-")
        assert "date" in answer.headers
        assert answer.body == (
            b"<html>\n <head>\n  <title>404 Not Found</title>\n </head>\n <body>\n"
            b"  <h1>404 Not Found</h1>\n  The resource could not be found.<br /><br />\n\n\n\n"
            b" </body>\n</html>"
        )


class TestParameterDocument:
    """Document 003: each header, path, query and body parameter of the upstream reference."""

    # --- headers --------------------------------------------------------------------------

    def test_content_length_of_a_download(self, owner: Client, image: MakeImage) -> None:
        created = image(data=b"12345")
        assert owner.get(created["file"]).headers["Content-Length"] == "5"

    def test_content_length_or_chunks_of_an_upload(self, owner: Client, image: MakeImage) -> None:
        for data in (b"12345", iter([b"123", b"45"])):
            image_id = image(disk_format="raw", container_format="bare")["id"]
            assert owner.put_data(image_id, data).status_code == 204
            assert owner.show(image_id)["size"] == 5

    def test_content_md5(self, owner: Client, image: MakeImage) -> None:
        created = image(data=b"12345")
        digest = owner.get(created["file"]).headers["Content-Md5"]
        assert digest == hashlib.md5(b"12345").hexdigest() == created["checksum"]

    def test_range_and_content_range(self, owner: Client, image: MakeImage) -> None:
        created = image(data=b"12345")
        part = owner.get(created["file"], headers={"Range": "bytes=1-2"})
        assert part.status_code == 206
        assert part.headers["Content-Range"] == "bytes 1-2/5"
        assert part.content == b"23"
        several = owner.get(created["file"], headers={"Range": "bytes=0-0,2-3"})
        assert several.status_code == 400, "multi range requests are not supported"

    def test_content_type_data(self, owner: Client, image: MakeImage) -> None:
        image_id = image(disk_format="raw", container_format="bare")["id"]
        path = f"/v2/images/{image_id}/file"
        wrong = owner.put(path, content=b"x", headers={"Content-Type": "application/json"})
        assert wrong.status_code == 415, told(wrong)
        right = {"Content-Type": "application/octet-stream"}
        assert owner.put(path, content=b"x", headers=right).status_code == 204
        assert owner.get(path).headers["Content-Type"] == "application/octet-stream"

    def test_content_type_json(self, owner: Client) -> None:
        answer = owner.post(
            "/v2/images", content=b"{}", headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 201
        owner.delete(f"/v2/images/{answer.json()['id']}")

    @pytest.mark.parametrize("version", ["2.0", "2.1"])
    def test_content_type_patch(self, owner: Client, image: MakeImage, version: str) -> None:
        change = {"op": "replace", "path": "/name"} if version == "2.1" else {"replace": "/name"}
        answer = owner.patch(
            f"/v2/images/{image()['id']}",
            [{**change, "value": "x"}],
            f"application/openstack-images-v{version}-json-patch",
        )
        assert answer.status_code == 200, told(answer)

    def test_import_header(self, server_with: ServerWith, owner: Client) -> None:
        answer = owner.post("/v2/images", json={})
        assert answer.headers["OpenStack-image-import-methods"] == "glance-direct,web-download"
        owner.delete(f"/v2/images/{answer.json()['id']}")
        without = server_with(WITHOUT_IMPORTS).demo.post("/v2/images", json={})
        assert "OpenStack-image-import-methods" not in without.headers

    def test_location_of_a_new_image(self, server: ServerProcess, owner: Client) -> None:
        answer = owner.post("/v2/images", json={})
        shown = owner.get(answer.headers["Location"].removeprefix(server.url))
        assert shown.json() == answer.json()
        owner.delete(f"/v2/images/{answer.json()['id']}")

    @pytest.fixture
    def two_stores(self, server_with: ServerWith) -> Running:
        return server_with(TWO_STORES)

    def test_store_header(self, two_stores: Running) -> None:
        created = two_stores.demo.create(disk_format="raw", container_format="bare")
        shown = two_stores.demo.upload(created["id"], b"x", {"X-Image-Meta-Store": "second"})
        assert shown["stores"] == "second"

    def test_stores_header(self, two_stores: Running, owner: Client) -> None:
        answer = two_stores.demo.post("/v2/images", json={})
        assert answer.headers["OpenStack-image-store-ids"] == "main,second"
        single = owner.post("/v2/images", json={})
        assert "OpenStack-image-store-ids" not in single.headers
        owner.delete(f"/v2/images/{single.json()['id']}")

    # --- path -----------------------------------------------------------------------------

    def test_image_id_member_id_and_tag_in_path(self, owner: Client, image: MakeImage) -> None:
        path = f"/v2/images/{image()['id']}"
        assert owner.get(path).status_code == 200
        assert owner.post(f"{path}/members", json={"member": "project"}).status_code == 200
        assert owner.get(f"{path}/members/project").json()["member_id"] == "project"
        assert owner.put(f"{path}/tags/{'t' * 255}").status_code == 204
        assert owner.put(f"{path}/tags/{'t' * 256}").status_code == 400

    # --- query ----------------------------------------------------------------------------

    @pytest.fixture
    def pair(self, owner: Client, image: MakeImage, mark: str) -> tuple[str, dict[str, Any], Any]:
        """A mark, an active image and a queued one that carry it."""
        active = image(data=b"12345", name=f"a-{mark}", tags=["x", "y"], set=mark, protected=True)
        waiting = image(name=f"b-{mark}", tags=["x"], set=mark, os_hidden=False)
        return mark, active, waiting

    @pytest.mark.parametrize("column", ["created_at", "updated_at"])
    def test_time_filters(
        self, owner: Client, pair: tuple[str, dict[str, Any], Any], column: str
    ) -> None:
        mark, active, _ = pair
        seconds = calendar.timegm(time.strptime(active[column], "%Y-%m-%dT%H:%M:%SZ"))
        # The document's example: an offset of five hours behind UTC.
        there = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds - 5 * 3600)) + "-05:00"
        plain = active[column].removesuffix("Z")
        for moment in (there, plain):
            for operator, matches in (("gte", True), ("lte", True), ("eq", True), ("gt", False),
                                      ("lt", False), ("neq", False)):  # fmt: skip
                query = {"set": mark, "id": active["id"], column: f"{operator}:{moment}"}
                assert owner.list_ids(**query) == ([active["id"]] if matches else []), query

    def test_limit_and_marker(
        self, owner: Client, pair: tuple[str, dict[str, Any], dict[str, Any]]
    ) -> None:
        mark, active, waiting = pair
        query = {"set": mark, "sort": "name:asc"}
        assert owner.list_ids(limit=1, **query) == [active["id"]]
        assert owner.list_ids(limit=1, marker=active["id"], **query) == [waiting["id"]]

    @pytest.mark.parametrize("status", ["accepted", "pending", "rejected"])
    def test_member_status(self, actors: Actors, image: MakeImage, mark: str, status: str) -> None:
        image_id = image(actors.owner, set=mark)["id"]
        path = f"/v2/images/{image_id}/members"
        actors.owner.post(path, json={"member": actors.member.project_id})
        actors.member.put(f"{path}/{actors.member.project_id}", json={"status": status})
        for asked in ("accepted", "pending", "rejected", "all"):
            expected = [image_id] if asked in (status, "all") else []
            assert actors.member.list_ids(set=mark, member_status=asked) == expected
        assert actors.member.list_ids(set=mark) == ([image_id] if status == "accepted" else [])

    @pytest.mark.parametrize(
        ("query", "first", "second"),
        [
            ({"name": "a-{mark}"}, True, False),
            ({"os_hidden": "true"}, False, False),
            ({"os_hidden": "False"}, True, True),
            ({"owner": "{owner}"}, True, True),
            ({"owner": "nobody"}, False, False),
            ({"protected": "true"}, True, False),
            ({"protected": "false"}, False, True),
            ({"size_min": "5"}, True, False),
            ({"size_min": "6"}, False, False),
            ({"size_max": "5"}, True, False),
            ({"size_max": "4"}, False, False),
            ({"status": "active"}, True, False),
            ({"status": "queued"}, False, True),
            ({"tag": ["x"]}, True, True),
            ({"tag": ["x", "y"]}, True, False),
            ({"visibility": "shared"}, True, True),
            ({"visibility": "private"}, False, False),
            ({"visibility": "public"}, False, False),
            ({"visibility": "community"}, False, False),
        ],
        ids=str,
    )
    def test_filters(
        self,
        owner: Client,
        pair: tuple[str, dict[str, Any], dict[str, Any]],
        query: dict[str, Any],
        first: bool,
        second: bool,
    ) -> None:
        mark, active, waiting = pair
        filled = {
            name: value.format(mark=mark, owner=owner.project_id)
            if isinstance(value, str)
            else value
            for name, value in query.items()
        }
        expected = [active["id"]] * first + [waiting["id"]] * second
        assert owner.list_ids(set=mark, sort="name:asc", **filled) == expected

    @pytest.mark.parametrize("value", ["True", "FALSE", "yes", "1"])
    def test_protected_is_lower_case(self, owner: Client, value: str) -> None:
        assert owner.get("/v2/images", params={"protected": value}).status_code == 400

    def test_sort_as_the_example_writes_it(
        self, owner: Client, pair: tuple[str, dict[str, Any], dict[str, Any]]
    ) -> None:
        mark, active, waiting = pair
        in_order = [active["id"], waiting["id"]]
        assert owner.list_ids(set=mark, sort="name:asc,status:desc") == in_order
        assert owner.list_ids(set=mark, sort="name") == in_order[::-1], "descending by default"
        assert owner.list_ids(set=mark, sort_key="name", sort_dir="asc") == in_order
        assert owner.list_ids(set=mark, sort_key="name") == in_order[::-1]

    # --- bodies ---------------------------------------------------------------------------

    def test_image_body_without_data(self, owner: Client, image: MakeImage) -> None:
        shown = owner.show(image()["id"])
        for name in ("checksum", "size", "virtual_size", "os_hash_algo", "os_hash_value",
                     "name", "disk_format", "container_format"):  # fmt: skip
            assert shown[name] is None, name
        for name in ("min_disk", "min_ram"):
            assert shown[name] == 0, name

    def test_image_body_with_data(self, owner: Client, image: MakeImage) -> None:
        shown = image(data=b"12345", name="n", tags=["t"], min_disk=1, min_ram=2, protected=False)
        digest = hashlib.sha512(b"12345").hexdigest()
        expected = {
            "checksum": hashlib.md5(b"12345").hexdigest(),
            "container_format": "bare",
            "disk_format": "raw",
            "file": f"/v2/images/{shown['id']}/file",
            "min_disk": 1,
            "min_ram": 2,
            "name": "n",
            "os_hash_algo": "sha512",
            "os_hash_value": digest,
            "os_hidden": False,
            "owner": owner.project_id,
            "protected": False,
            "schema": "/v2/schemas/image",
            "self": f"/v2/images/{shown['id']}",
            "size": 5,
            "status": "active",
            "tags": ["t"],
            "virtual_size": 5,
            "visibility": "shared",
        }
        assert {name: shown[name] for name in expected} == expected
        for name in ("created_at", "updated_at"):
            assert TIME.fullmatch(shown[name]), "always a time in UTC, never null"
        assert "direct_url" not in shown
        assert "locations" not in shown

    def test_direct_url_and_locations_with_their_options(self, server_with: ServerWith) -> None:
        demo = server_with(LOCATIONS).demo
        created = demo.create(disk_format="raw", container_format="bare")
        shown = demo.upload(created["id"], b"x")
        assert [set(each) for each in shown["locations"]] == [{"url", "metadata"}]
        assert shown["direct_url"] == shown["locations"][0]["url"]

    def test_id_in_request(self, owner: Client, image: MakeImage) -> None:
        wanted = str(uuid.uuid4())
        assert image(id=wanted)["id"] == wanted
        assert owner.post("/v2/images", json={"id": wanted}).status_code == 409

    @pytest.mark.parametrize("visibility", ["private", "shared", "community"])
    def test_visibility_in_request(self, image: MakeImage, visibility: str) -> None:
        assert image(visibility=visibility)["visibility"] == visibility
        assert image()["visibility"] == "shared", "the default since 2.5"

    def test_minimums_and_name_in_request(self, owner: Client, image: MakeImage) -> None:
        created = image(min_disk=3, min_ram=4, name=None, tags=["a"], protected=False)
        assert (created["min_disk"], created["min_ram"], created["name"]) == (3, 4, None)
        for name in ("min_disk", "min_ram"):
            assert owner.post("/v2/images", json={name: None}).status_code == 400

    def test_list_body(self, owner: Client, image: MakeImage, mark: str) -> None:
        image(set=mark)
        page = owner.get("/v2/images", params={"set": mark, "limit": 1}).json()
        assert set(page) == {"images", "first", "next", "schema"}
        assert page["schema"] == "/v2/schemas/images"
        last = owner.get(page["next"]).json()
        assert set(last) == {"images", "first", "schema"}, "no next on the last page"

    def test_member_bodies(self, owner: Client, image: MakeImage) -> None:
        image_id = image()["id"]
        member = owner.post(f"/v2/images/{image_id}/members", json={"member": "p"}).json()
        assert member["image_id"] == image_id
        assert member["member_id"] == "p"
        assert member["status"] == "pending"
        assert member["schema"] == "/v2/schemas/member"
        document = owner.get(f"/v2/images/{image_id}/members").json()
        assert document == {"members": [member], "schema": "/v2/schemas/members"}

    def test_import_methods_body(self, owner: Client) -> None:
        methods = owner.get("/v2/info/import").json()["import-methods"]
        assert isinstance(methods["value"], list)

    @pytest.mark.parametrize("value", ["text", 5, True, ["a"], None])
    def test_patch_value_is_any_json_that_fits_the_attribute(
        self, owner: Client, image: MakeImage, value: Any
    ) -> None:
        name = {str: "name", int: "min_ram", bool: "protected", list: "tags"}.get(
            type(value), "name"
        )
        answer = owner.patch(
            f"/v2/images/{image()['id']}",
            json.loads(json.dumps([{"op": "replace", "path": f"/{name}", "value": value}])),
        )
        assert answer.status_code == 200, told(answer)
        assert answer.json()[name] == value
