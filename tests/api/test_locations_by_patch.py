"""Locations by PATCH: every row of API §7.5, and what keeps the bytes of an image the same."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import MakeServer, Running, ServerWith
from tests.support.server import PATCH_V20, PATCH_V21, Client, merged, told
from tests.support.web import Web, allowing

DATA = os.urandom(300_000)
OTHER = os.urandom(len(DATA))
ACTIVE_CONFIG = allowing(show_direct_url=True)
STORES = merged(
    ACTIVE_CONFIG,
    {
        "stores": {
            "default": "main",
            "main": {"driver": "file", "path": "<data>/images"},
            "second": {"driver": "file", "path": "<data>/second", "weight": 5},
        }
    },
)
FORMATS = {"disk_format": "raw", "container_format": "bare"}


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with Web() as running:
        yield running


@pytest.fixture
def running(server_with: ServerWith) -> Running:
    return server_with(ACTIVE_CONFIG)


@pytest.fixture
def url(web: Web, mark: str) -> str:
    """A URL of the test's own with DATA behind it."""
    return web.put(mark, DATA)


def location(url: str, validation: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    value: dict[str, Any] = {"url": url, "metadata": metadata}
    return value if validation is None else value | {"validation_data": validation}


def operation(op: str, path: str, value: Any = None) -> dict[str, Any]:
    found = {"op": op, "path": path}
    return found if op == "remove" else found | {"value": value}


def patch(client: Client, image_id: str, *operations: dict[str, Any]) -> httpx.Response:
    return client.patch(f"/v2/images/{image_id}", list(operations))


def add(client: Client, image_id: str, value: Any, position: str = "-") -> httpx.Response:
    return patch(client, image_id, operation("add", f"/locations/{position}", value))


def queued(client: Client, **attributes: Any) -> str:
    return str(client.create(**{**FORMATS, **attributes})["id"])


def active(client: Client, url: str, **metadata: Any) -> str:
    image_id = queued(client)
    answer = add(client, image_id, location(url, **metadata))
    assert answer.status_code == 200, told(answer)
    return image_id


def urls(client: Client, image_id: str) -> list[str]:
    return [each["url"] for each in client.show(image_id)["locations"]]


def data_of(client: Client, image_id: str) -> bytes:
    answer = client.get(f"/v2/images/{image_id}/file")
    assert answer.status_code == 200, told(answer)
    return answer.content


# --- the first location -------------------------------------------------------------------------


def test_the_first_location_makes_a_queued_image_active(running: Running, url: str) -> None:
    image_id = queued(running.demo)
    answer = add(running.demo, image_id, location(url, foo="bar"))
    assert answer.status_code == 200, told(answer)
    image = answer.json()
    assert (image["status"], image["size"]) == ("active", len(DATA))
    assert image["locations"] == [{"url": url, "metadata": {"foo": "bar"}}]
    assert image["direct_url"] == url
    for name in ("checksum", "os_hash_algo", "os_hash_value", "virtual_size"):
        assert image[name] is None
    assert running.demo.show(image_id) == image
    assert data_of(running.demo, image_id) == DATA


def test_the_older_media_type_adds_too(running: Running, url: str) -> None:
    image_id = queued(running.demo)
    answer = running.demo.http.patch(
        f"/v2/images/{image_id}",
        json=[{"add": "/locations/-", "value": location(url)}],
        headers={"Content-Type": PATCH_V20},
    )
    assert answer.status_code == 200, told(answer)
    assert urls(running.demo, image_id) == [url]
    assert PATCH_V21 != PATCH_V20


def test_an_empty_list_can_be_replaced(running: Running, web: Web, url: str, mark: str) -> None:
    again = web.put(f"{mark}-2", DATA)
    image_id = queued(running.demo)
    value = [location(url), location(again)]
    answer = patch(running.demo, image_id, operation("replace", "/locations", value))
    assert answer.status_code == 200, told(answer)
    assert urls(running.demo, image_id) == [url, again]
    assert answer.json()["status"] == "active"


def test_validation_data_of_a_queued_image_become_its_digests(running: Running, url: str) -> None:
    image_id = queued(running.demo)
    values = {
        "checksum": hashlib.md5(DATA).hexdigest(),
        "os_hash_algo": "sha512",
        "os_hash_value": hashlib.sha512(DATA).hexdigest(),
    }
    answer = add(running.demo, image_id, location(url, values))
    assert answer.status_code == 200, told(answer)
    image = answer.json()
    assert {name: image[name] for name in values} == values
    assert "validation_data" not in image["locations"][0]
    assert data_of(running.demo, image_id) == DATA


def test_data_that_is_not_what_was_vouched_for_is_never_given_whole(
    running: Running, url: str
) -> None:
    image_id = queued(running.demo)
    values = {"os_hash_algo": "sha512", "os_hash_value": "deadbeef" * 16}
    assert add(running.demo, image_id, location(url, values)).status_code == 200
    with pytest.raises((httpx.RemoteProtocolError, AssertionError)):
        data_of(running.demo, image_id)


def test_formats_in_the_same_patch_are_in_time_before_and_late_after(
    running: Running, url: str
) -> None:
    formats = [operation("replace", f"/{name}", value) for name, value in FORMATS.items()]
    adds = operation("add", "/locations/-", location(url))
    image_id = str(running.demo.create()["id"])
    assert patch(running.demo, image_id, adds, *formats).status_code == 400
    assert running.demo.show(image_id)["status"] == "queued"
    assert patch(running.demo, image_id, *formats, adds).status_code == 200
    assert running.demo.show(image_id)["status"] == "active"


# --- further locations ----------------------------------------------------------------------------


@pytest.mark.parametrize(("position", "at"), [("-", 2), ("0", 0), ("1", 1), ("2", 2)])
def test_a_location_is_inserted_before_its_position(
    running: Running, web: Web, url: str, mark: str, position: str, at: int
) -> None:
    second, third = web.put(f"{mark}-2", DATA), web.put(f"{mark}-3", DATA)
    image_id = active(running.demo, url)
    assert add(running.demo, image_id, location(second)).status_code == 200
    assert add(running.demo, image_id, location(third), position).status_code == 200
    expected = [url, second]
    expected.insert(at, third)
    assert urls(running.demo, image_id) == expected
    assert running.demo.show(image_id)["status"] == "active"


@pytest.mark.parametrize("position", ["2", "99999999999", "-1", "x", "1.0", "٣", "+1"])
def test_a_position_that_is_not_there_is_refused(running: Running, url: str, position: str) -> None:
    image_id = active(running.demo, url)
    answer = add(running.demo, image_id, location(f"{url}#new"), position)
    assert answer.status_code == 400, told(answer)
    assert urls(running.demo, image_id) == [url]


def test_the_same_url_with_other_metadata_is_another_location(running: Running, url: str) -> None:
    image_id = active(running.demo, url, speed="slow")
    assert add(running.demo, image_id, location(url, speed="fast")).status_code == 200
    assert urls(running.demo, image_id) == [url, url]
    answer = add(running.demo, image_id, location(url, speed="fast"))
    assert answer.status_code == 400, told(answer)
    assert "has it already" in answer.text


def test_data_that_differs_from_the_images_is_refused(
    running: Running, web: Web, url: str, mark: str
) -> None:
    image_id = active(running.demo, url)
    for other in (OTHER, DATA[:-1], DATA + b"x"):
        answer = add(running.demo, image_id, location(web.put(f"{mark}-2", other)))
        assert answer.status_code == 409, told(answer)
    assert urls(running.demo, image_id) == [url]
    assert data_of(running.demo, image_id) == DATA


def test_an_uploaded_image_takes_a_mirror_of_its_data_alone(
    running: Running, web: Web, mark: str
) -> None:
    image_id = queued(running.demo)
    running.demo.upload(image_id, DATA)
    answer = add(running.demo, image_id, location(web.put(f"{mark}-bad", OTHER)))
    assert answer.status_code == 409, told(answer)
    answer = add(running.demo, image_id, location(web.put(f"{mark}-good", DATA)))
    assert answer.status_code == 200, told(answer)
    assert len(urls(running.demo, image_id)) == 2
    assert data_of(running.demo, image_id) == DATA


def test_validation_data_of_an_active_image_have_to_be_its_own(running: Running, url: str) -> None:
    image_id = queued(running.demo)
    values = {"checksum": "1" * 32, "os_hash_algo": "sha512", "os_hash_value": "deadbeef" * 16}
    assert add(running.demo, image_id, location(url, values)).status_code == 200
    wrong = {"checksum": "2" * 32, "os_hash_algo": "sha256", "os_hash_value": "beefdead" * 16}
    for name, value in wrong.items():
        answer = add(running.demo, image_id, location(f"{url}#2", values | {name: value}))
        assert answer.status_code == 409, told(answer)
    assert add(running.demo, image_id, location(f"{url}#2", values)).status_code == 200
    assert urls(running.demo, image_id) == [url, f"{url}#2"]


def test_new_digests_for_an_active_image_are_refused(running: Running, url: str) -> None:
    image_id = active(running.demo, url)
    values = {"os_hash_algo": "sha512", "os_hash_value": hashlib.sha512(DATA).hexdigest()}
    answer = add(running.demo, image_id, location(f"{url}#2", values))
    assert answer.status_code == 409, told(answer)


# --- replace and remove -----------------------------------------------------------------------------


def test_the_same_urls_take_other_metadata_and_another_order(
    running: Running, web: Web, url: str, mark: str
) -> None:
    second = web.put(f"{mark}-2", DATA)
    image_id = active(running.demo, url)
    add(running.demo, image_id, location(second))
    value = [location(second, a="1"), location(url, b="2")]
    answer = patch(running.demo, image_id, operation("replace", "/locations", value))
    assert answer.status_code == 200, told(answer)
    assert answer.json()["locations"] == value
    again = patch(running.demo, image_id, operation("replace", "/locations", value))
    assert again.status_code == 200, told(again)
    assert data_of(running.demo, image_id) == DATA


def test_other_urls_are_not_replaced(running: Running, url: str) -> None:
    image_id = active(running.demo, url)
    add(running.demo, image_id, location(f"{url}#2"))
    for value in (
        [location(url)],
        [location(f"{url}#2")],
        [location(url), location(f"{url}#3")],
        [location(url), location(f"{url}#2"), location(f"{url}#3")],
        [location(url), location(url)],
    ):
        answer = patch(running.demo, image_id, operation("replace", "/locations", value))
        assert answer.status_code == 400, told(answer)
    answer = patch(running.demo, image_id, operation("replace", "/locations", []))
    assert answer.status_code == 403, told(answer)
    assert urls(running.demo, image_id) == [url, f"{url}#2"]


def test_an_empty_list_is_no_first_location(running: Running) -> None:
    image_id = queued(running.demo)
    answer = patch(running.demo, image_id, operation("replace", "/locations", []))
    assert answer.status_code == 403, told(answer)


def test_an_administrator_removes_a_location_but_not_the_last(running: Running, url: str) -> None:
    image_id = active(running.demo, url)
    add(running.demo, image_id, location(f"{url}#2"))
    refused = patch(running.demo, image_id, operation("remove", "/locations/0"))
    assert refused.status_code == 403, told(refused)
    for position in ("2", "-", "x"):
        answer = patch(running.admin, image_id, operation("remove", f"/locations/{position}"))
        assert answer.status_code == 400, told(answer)
    assert patch(running.admin, image_id, operation("remove", "/locations")).status_code == 400
    answer = patch(running.admin, image_id, operation("remove", "/locations/0"))
    assert answer.status_code == 200, told(answer)
    assert urls(running.admin, image_id) == [f"{url}#2"]
    assert running.demo.show(image_id)["direct_url"] == f"{url}#2"
    last = patch(running.admin, image_id, operation("remove", "/locations/0"))
    assert last.status_code == 403, told(last)
    assert data_of(running.demo, image_id) == DATA


def test_removing_a_location_of_our_own_removes_its_data(
    running: Running, web: Web, url: str
) -> None:
    image_id = queued(running.demo)
    running.demo.upload(image_id, DATA)
    files = [path for path in running.server.stored_files() if image_id in path.name]
    assert len(files) == 1
    assert add(running.demo, image_id, location(url)).status_code == 200
    own = [n for n, each in enumerate(urls(running.demo, image_id)) if each.startswith("file:")]
    answer = patch(running.admin, image_id, operation("remove", f"/locations/{own[0]}"))
    assert answer.status_code == 200, told(answer)
    assert not files[0].exists()
    assert data_of(running.demo, image_id) == DATA
    web.files.pop(f"/{url.rpartition('/')[2]}")
    answer = running.demo.get(f"/v2/images/{image_id}/file")
    assert answer.status_code == 404, told(answer)


def test_all_operations_apply_or_none(running: Running, web: Web, url: str, mark: str) -> None:
    image_id = active(running.demo, url)
    before = running.demo.show(image_id)
    bad = web.put(f"{mark}-2", OTHER)
    answer = patch(
        running.demo,
        image_id,
        operation("replace", "/name", "new"),
        operation("add", "/locations/-", location(f"{url}#2")),
        operation("add", "/locations/-", location(bad)),
    )
    assert answer.status_code == 409, told(answer)
    assert running.demo.show(image_id) == before


# --- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["uploading", "deactivated"])
def test_other_statuses_are_a_conflict(running: Running, url: str, status: str) -> None:
    image_id = queued(running.demo)
    if status == "uploading":
        answer = running.demo.put(
            f"/v2/images/{image_id}/stage",
            content=b"x",
            headers={"Content-Type": "application/octet-stream"},
        )
        assert answer.status_code == 204, told(answer)
    else:
        running.demo.upload(image_id, DATA)
        running.demo.post(f"/v2/images/{image_id}/actions/deactivate")
    assert running.demo.show(image_id)["status"] == status
    for change in (
        operation("add", "/locations/-", location(url)),
        operation("replace", "/locations", [location(url)]),
        operation("remove", "/locations/0"),
    ):
        answer = patch(running.admin, image_id, change)
        assert answer.status_code == 409, told(answer)


def test_nothing_is_removed_from_a_queued_image(running: Running) -> None:
    answer = patch(running.admin, queued(running.admin), operation("remove", "/locations/0"))
    assert answer.status_code == 409, told(answer)


WEB = "http://example.org/x"
SHAPES: dict[str, Any] = {
    "null": None,
    "text": WEB,
    "nothing": {},
    "no metadata": {"url": WEB},
    "no url": {"metadata": {}},
    "number": {"url": 1, "metadata": {}},
    "null url": {"url": None, "metadata": {}},
    "long url": {"url": WEB + "x" * 255, "metadata": {}},
    "NUL": {"url": f"{WEB}\0", "metadata": {}},
    "null metadata": {"url": WEB, "metadata": None},
    "list": {"url": WEB, "metadata": []},
    "much metadata": {"url": WEB, "metadata": {"x": "y" * 70_000}},
    "validation null": {"url": WEB, "metadata": {}, "validation_data": None},
    "validation empty": location(WEB, {}),
    "validation unknown": location(WEB, {"os_hash_algo": "a", "os_hash_value": "0", "x": "y"}),
    "algorithm alone": location(WEB, {"os_hash_algo": "sha512"}),
    "value alone": location(WEB, {"os_hash_value": "00"}),
    "checksum alone": location(WEB, {"checksum": "0" * 32}),
    "value a number": location(WEB, {"os_hash_algo": "sha512", "os_hash_value": 1}),
    "long value": location(WEB, {"os_hash_algo": "sha512", "os_hash_value": "0" * 129}),
    "long algorithm": location(WEB, {"os_hash_algo": "a" * 65, "os_hash_value": "0"}),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_location_of_the_wrong_shape_is_refused(running: Running, shape: str) -> None:
    image_id = queued(running.demo)
    answer = add(running.demo, image_id, SHAPES[shape])
    assert answer.status_code == 400, told(answer)
    answer = patch(running.demo, image_id, operation("replace", "/locations", [SHAPES[shape]]))
    assert answer.status_code == 400, told(answer)
    answer = patch(running.demo, image_id, operation("replace", "/locations", SHAPES[shape]))
    assert answer.status_code == 400, told(answer)


@pytest.mark.parametrize(
    "values",
    [
        {"os_hash_algo": "sha256", "os_hash_value": "0" * 64},
        {"os_hash_algo": "sha99", "os_hash_value": "0" * 64},
        {"os_hash_algo": "sha512", "os_hash_value": "0" * 64},
        {"os_hash_algo": "sha512", "os_hash_value": "x" * 128},
        {"os_hash_algo": "sha512", "os_hash_value": "0" * 128, "checksum": "0" * 31},
        {"os_hash_algo": "sha512", "os_hash_value": "0" * 128, "checksum": "x" * 32},
    ],
    ids=["other", "unknown", "short", "no hex", "short checksum", "checksum no hex"],
)
def test_digests_that_cannot_be_the_images_are_a_conflict(
    running: Running, url: str, values: dict[str, str]
) -> None:
    image_id = queued(running.demo)
    answer = add(running.demo, image_id, location(url, values))
    assert answer.status_code == 409, told(answer)
    assert running.demo.show(image_id)["status"] == "queued"


@pytest.mark.parametrize(
    "bad",
    [
        "file:///etc/passwd", "filesystem:///etc/passwd", "swift+config://ref/x/y",
        "swift+https://x/y", "s3://x/y", "rbd://a/b/c/d", "cinder://x", "gopher://info.cern.ch",
        "memory://main/x", "", "x", "//example.org/x", "http:", "http://", "ftp://example.org/x",
        "http://user:secret@example.org/x", "http://169.254.169.254/latest", "http://localhost:1/x",
        "http://10.0.0.1/x", "http://[::1]/x", "http://2130706433/x", "http://127.1/x",
    ],
)  # fmt: skip
def test_urls_that_are_not_for_users_are_refused(running: Running, bad: str) -> None:
    for client in (running.demo, running.admin):
        image_id = queued(client)
        answer = add(client, image_id, location(bad))
        assert answer.status_code == 400, told(answer)
        assert client.show(image_id)["status"] == "queued"


def test_our_own_files_are_not_for_users(running: Running) -> None:
    own = queued(running.demo)
    running.demo.upload(own, DATA)
    image_id = queued(running.demo)
    answer = add(running.demo, image_id, location(urls(running.demo, own)[0]))
    assert answer.status_code == 400, told(answer)


@pytest.mark.parametrize("status", [401, 403, 404, 410, 500])
def test_data_that_cannot_be_had_is_refused(
    running: Running, web: Web, mark: str, status: int
) -> None:
    image_id = queued(running.demo)
    answer = add(running.demo, image_id, location(web.put(mark, DATA, status=status)))
    assert answer.status_code == 400, told(answer)
    assert running.demo.show(image_id)["status"] == "queued"


def test_no_bytes_and_nobody_there_are_refused(running: Running, web: Web, mark: str) -> None:
    image_id = queued(running.demo)
    for bad in (web.put(mark, b""), "http://127.0.0.1:9/nobody"):
        answer = add(running.demo, image_id, location(bad))
        assert answer.status_code == 400, told(answer)


def test_redirects_are_judged_as_urls_are(running: Running, web: Web, url: str, mark: str) -> None:
    inside = web.put(f"{mark}-in", b"", status=302, location="http://169.254.169.254/latest")
    image_id = queued(running.demo)
    assert add(running.demo, image_id, location(inside)).status_code == 400
    good = web.put(f"{mark}-out", b"", status=302, location=url)
    assert add(running.demo, image_id, location(good)).status_code == 200
    assert data_of(running.demo, image_id) == DATA


def test_formats_have_to_be_set(running: Running, url: str) -> None:
    for attributes in ({}, {"disk_format": "raw"}, {"container_format": "bare"}):
        image_id = str(running.demo.create(**attributes)["id"])
        answer = add(running.demo, image_id, location(url))
        assert answer.status_code == 400, told(answer)


def test_who_may_not_see_or_change_the_image_may_not_change_its_places(
    running: Running, url: str
) -> None:
    image_id = active(running.demo, url)
    others = running.server.provision(
        {f"stranger-{image_id[:8]}": (f"p-{image_id[:8]}", ["member"])}
    )
    stranger = next(iter(others.values()))
    assert add(stranger, image_id, location(f"{url}#2")).status_code == 404
    patch(running.admin, image_id, operation("replace", "/visibility", "public"))
    assert add(stranger, image_id, location(f"{url}#2")).status_code == 403


def test_without_the_option_locations_are_closed(default: Running, url: str) -> None:
    image_id = queued(default.demo)
    for change in (
        operation("add", "/locations/-", location(url)),
        operation("replace", "/locations", [location(url)]),
        operation("remove", "/locations/0"),
    ):
        assert patch(default.demo, image_id, change).status_code == 403


def test_without_an_http_store_no_scheme_is_for_users(make_server: MakeServer, url: str) -> None:
    server = make_server({"images": {"show_multiple_locations": True}})
    demo = server.log_in_to_cloud("transom-demo")
    answer = add(demo, queued(demo), location(url))
    assert answer.status_code == 400, told(answer)


# --- limits -----------------------------------------------------------------------------------------


def test_more_locations_than_allowed_are_over_the_limit(server_with: ServerWith, url: str) -> None:
    running = server_with(merged(ACTIVE_CONFIG, {"limits": {"image_locations_max": 2}}))
    image_id = active(running.demo, url)
    assert add(running.demo, image_id, location(f"{url}#2")).status_code == 200
    answer = add(running.demo, image_id, location(f"{url}#3"))
    assert answer.status_code == 413, told(answer)
    value = [location(f"{url}#{n}") for n in range(3)]
    answer = patch(running.demo, queued(running.demo), operation("replace", "/locations", value))
    assert answer.status_code == 413, told(answer)


def test_each_location_counts_with_its_bytes(server_with: ServerWith, url: str) -> None:
    running = server_with(
        merged(ACTIVE_CONFIG, {"limits": {"project_bytes_max": 2 * len(DATA) + 10}})
    )
    image_id = active(running.demo, url)
    assert add(running.demo, image_id, location(f"{url}#2")).status_code == 200
    answer = add(running.demo, image_id, location(f"{url}#3"))
    assert answer.status_code == 413, told(answer)
    assert len(urls(running.demo, image_id)) == 2
    answer = add(running.demo, queued(running.demo), location(url))
    assert answer.status_code == 413, told(answer)
    assert patch(running.admin, image_id, operation("remove", "/locations/0")).status_code == 200
    assert add(running.demo, image_id, location(f"{url}#3")).status_code == 200


def test_data_over_the_largest_size_is_over_the_limit(server_with: ServerWith, url: str) -> None:
    running = server_with(merged(ACTIVE_CONFIG, {"limits": {"image_size_bytes_max": 1000}}))
    image_id = queued(running.demo)
    assert add(running.demo, image_id, location(url)).status_code == 413
    assert running.demo.show(image_id)["status"] == "queued"


# --- several stores ---------------------------------------------------------------------------------


def test_with_several_stores_each_location_names_its_own(server_with: ServerWith, url: str) -> None:
    running = server_with(STORES)
    image_id = active(running.demo, url, store="main", x="y")
    image = running.demo.show(image_id)
    assert image["locations"] == [{"url": url, "metadata": {"x": "y", "store": "web"}}]
    assert image["stores"] == "web"
    answer = patch(running.demo, image_id, operation("replace", "/locations", image["locations"]))
    assert answer.status_code == 200, told(answer)
    assert running.demo.show(image_id)["locations"] == image["locations"]


def test_the_store_is_listed_as_read_only_and_takes_no_data(server_with: ServerWith) -> None:
    running = server_with(STORES)
    stores = running.demo.get("/v2/info/stores").json()["stores"]
    assert {"id": "web", "read-only": "true"} in stores
    detail = running.admin.get("/v2/info/stores/detail").json()["stores"]
    assert {
        "id": "web", "read-only": "true", "type": "http", "weight": 0, "properties": {},
    } in detail  # fmt: skip
    image_id = queued(running.demo)
    answer = running.demo.put_data(image_id, b"x", {"X-Image-Meta-Store": "web"})
    assert answer.status_code == 400, told(answer)
    assert running.demo.show(image_id)["status"] == "queued"
    answer = running.demo.post(
        f"/v2/images/{image_id}/import",
        json={"method": {"name": "web-download", "uri": WEB}, "stores": ["web"]},
    )
    assert answer.status_code == 409, told(answer)


def test_positions_are_those_that_the_image_shows(server_with: ServerWith, url: str) -> None:
    running = server_with(merged(STORES, {"stores": {"web": {"weight": 50}}}))
    image_id = queued(running.demo)
    running.demo.upload(image_id, DATA)
    assert add(running.demo, image_id, location(url)).status_code == 200
    shown = urls(running.demo, image_id)
    assert shown[0] == url, "the heavier store comes first"
    assert patch(running.admin, image_id, operation("remove", "/locations/1")).status_code == 200
    assert urls(running.demo, image_id) == [url]


def test_an_image_is_withdrawn_from_the_store_of_the_web(server_with: ServerWith, url: str) -> None:
    running = server_with(STORES)
    image_id = queued(running.demo)
    running.demo.upload(image_id, DATA)
    assert add(running.demo, image_id, location(url)).status_code == 200
    answer = running.admin.delete(f"/v2/stores/web/{image_id}")
    assert answer.status_code == 204, told(answer)
    assert running.demo.show(image_id)["stores"] == "main"


def test_deleting_the_image_leaves_the_web_alone(running: Running, web: Web, url: str) -> None:
    image_id = active(running.demo, url)
    assert running.demo.delete(f"/v2/images/{image_id}").status_code == 204
    assert running.demo.get(f"/v2/images/{image_id}").status_code == 404
    assert web[url.rpartition("/")[2]].data == DATA


def test_only_a_read_only_store_beside_it_leaves_the_default_in_place(running: Running) -> None:
    answer = running.demo.get("/v2/info/stores")
    assert answer.status_code == 404, "one store takes data, so stores are not announced"
    assert isinstance(running.server.store_path(), Path)
