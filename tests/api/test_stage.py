"""Stage the data of an image: every row of the table (API §9.3), and what stays (lifecycle §1.2)."""

from __future__ import annotations

import hashlib
import time
import uuid
from typing import Any

import pytest

from tests.api.checks import check_goes_back_to_queued, check_still_queued
from tests.api.configs import IMPORTS, IMPORTS_TO_STORES, WITHOUT_IMPORTS
from tests.conftest import Actors, MakeServer, Running, ServerWith
from tests.support.importing import OCTETS, imports, new_image, stage, start
from tests.support.raw_http import RawConnection
from tests.support.server import Client, ServerProcess, merged, told

SMALL = merged(IMPORTS, {"limits": {"image_size_bytes_max": 100_000, "project_bytes_max": 150_000}})


@pytest.fixture(params=["one store", "staged in memory"])
def running(request: pytest.FixtureRequest, server_with: ServerWith) -> Running:
    """A server that stages in its own folder, and one that stages in a store in memory."""
    return server_with(IMPORTS if request.param == "one store" else IMPORTS_TO_STORES)


@pytest.fixture
def one(server_with: ServerWith) -> Running:
    """A server with one store."""
    return server_with(IMPORTS)


def staging_files(server: ServerProcess) -> list[str]:
    """Names of what lies in the folder that a server stages in by default."""
    return sorted(path.name for path in (server.data / "staging").rglob("*") if path.is_file())


# --- success -------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["announced", "chunked", "size header"])
def test_staged_data_waits_for_its_import(running: Running, way: str, mark: str) -> None:
    content = mark.encode() * 3000
    image_id = new_image(running.demo)
    header = {"x_openstack_image_size": str(len(content))} if way == "size header" else {}
    answer = stage(
        running.demo, image_id, content if way == "announced" else iter([content]), **header
    )
    assert answer.status_code == 204, told(answer)
    assert answer.content == b""
    shown = running.demo.show(image_id)
    assert (shown["status"], shown["size"]) == ("uploading", len(content))
    for name in ("checksum", "os_hash_algo", "os_hash_value", "virtual_size"):
        assert shown[name] is None, name
    assert not [name for name in shown if name.startswith("os_glance")]
    assert running.demo.get(f"/v2/images/{image_id}/file").status_code == 204
    image = imports(running.demo, image_id, "glance-direct")
    assert image["os_hash_value"] == hashlib.sha512(content).hexdigest()


def test_formats_may_be_unset_until_the_import(one: Running) -> None:
    image_id = new_image(one.demo, disk_format=None, container_format=None)
    assert stage(one.demo, image_id).status_code == 204
    refused = start(one.demo, image_id, "glance-direct")
    assert refused.status_code == 409, told(refused)
    assert one.demo.show(image_id)["status"] == "uploading", "the data waits on"
    # Formats of an image that data is coming in for are fixed (API §23), for admins as well.
    patched = one.demo.patch(
        f"/v2/images/{image_id}", [{"op": "replace", "path": "/disk_format", "value": "raw"}]
    )
    assert patched.status_code == 403, told(patched)


def test_nothing_at_all_can_be_staged(running: Running) -> None:
    image_id = new_image(running.demo)
    assert stage(running.demo, image_id, b"").status_code == 204
    image = imports(running.demo, image_id, "glance-direct")
    assert (image["size"], image["checksum"]) == (0, hashlib.md5(b"").hexdigest())


def test_deleting_the_image_removes_what_is_staged(one: Running) -> None:
    before = staging_files(one.server)
    image_id = new_image(one.demo)
    stage(one.demo, image_id, b"x" * 5000)
    assert len(staging_files(one.server)) == len(before) + 1
    assert one.demo.delete(f"/v2/images/{image_id}").status_code == 204
    deadline = time.monotonic() + 10
    while staging_files(one.server) != before:
        assert time.monotonic() < deadline
        time.sleep(0.05)


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["-1", "1.5", "many", "", "1" * 20])
def test_size_header_must_be_a_number_of_bytes(one: Running, value: str) -> None:
    image_id = new_image(one.demo)
    answer = stage(one.demo, image_id, b"x", x_openstack_image_size=value)
    assert answer.status_code == 400, told(answer)
    check_still_queued(one.demo, image_id)


@pytest.mark.parametrize("announced", [1, 100])
def test_size_header_must_tell_the_truth(one: Running, announced: int) -> None:
    before = staging_files(one.server)
    image_id = new_image(one.demo)
    answer = stage(one.demo, image_id, b"0123456789", x_openstack_image_size=str(announced))
    assert answer.status_code == 400, told(answer)
    assert staging_files(one.server) == before
    check_still_queued(one.demo, image_id)


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/json", "image/png"])
def test_other_content_types_are_415(one: Running, content_type: str | None) -> None:
    image_id = new_image(one.demo)
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = one.demo.put(f"/v2/images/{image_id}/stage", content=b"x", headers=headers)
    assert answer.status_code == 415, told(answer)
    check_still_queued(one.demo, image_id)


def test_unknown_image_is_404(one: Running) -> None:
    assert stage(one.demo, str(uuid.uuid4())).status_code == 404
    assert stage(one.demo, "no-uuid").status_code == 404


def test_deleted_image_is_404(one: Running) -> None:
    image_id = new_image(one.demo)
    one.demo.delete(f"/v2/images/{image_id}")
    assert stage(one.demo, image_id).status_code == 404


@pytest.mark.parametrize(
    "config",
    [WITHOUT_IMPORTS, {"imports": {"methods": ["web-download"]}}],
    ids=["none is on", "another is on"],
)
def test_without_the_method_that_imports_it_nothing_can_be_staged(
    server_with: ServerWith, config: dict[str, Any]
) -> None:
    demo = server_with(config).demo
    image_id = new_image(demo)
    assert stage(demo, image_id).status_code == 404
    check_still_queued(demo, image_id)


def test_without_a_token_401(one: Running) -> None:
    image_id = new_image(one.demo)
    assert stage(one.server.client(), image_id).status_code == 401
    check_still_queued(one.demo, image_id)


@pytest.mark.parametrize(
    ("visibility", "who", "status"),
    [
        ("private", "owner", 204),
        ("private", "admin", 204),
        ("private", "owner_reader", 403),
        ("private", "other", 404),
        ("private", "norole", 404),
        ("community", "other", 403),
        ("community", "other_reader", 403),
        ("community", "service", 404),
    ],
)
def test_staging_is_for_who_may_modify_the_image(
    actors: Actors, visibility: str, who: str, status: int
) -> None:
    image_id = new_image(actors.owner, visibility=visibility)
    answer = stage(getattr(actors, who), image_id)
    assert answer.status_code == status, told(answer)
    expected = "uploading" if status == 204 else "queued"
    assert actors.owner.show(image_id)["status"] == expected
    actors.owner.delete(f"/v2/images/{image_id}")


def in_status(client: Client, status: str) -> str:
    """An image that is not queued any more."""
    image_id = new_image(client)
    if status == "uploading":
        assert stage(client, image_id).status_code == 204
        return image_id
    client.upload(image_id, b"data")
    if status == "deactivated":
        client.post(f"/v2/images/{image_id}/actions/deactivate")
    return image_id


@pytest.mark.parametrize("status", ["uploading", "active", "deactivated"])
def test_only_a_queued_image_takes_staged_data(one: Running, status: str) -> None:
    image_id = in_status(one.demo, status)
    before = one.demo.show(image_id)
    answer = stage(one.demo, image_id, b"other")
    assert answer.status_code == 409, told(answer)
    assert one.demo.show(image_id) == before
    one.demo.delete(f"/v2/images/{image_id}")


@pytest.mark.parametrize("chunked", [False, True])
def test_data_over_the_size_of_an_image_is_413(server_with: ServerWith, chunked: bool) -> None:
    running = server_with(SMALL)
    image_id = new_image(running.demo)
    data = b"x" * 100_001
    answer = stage(running.demo, image_id, iter([data]) if chunked else data)
    assert answer.status_code == 413, told(answer)
    assert staging_files(running.server) == []
    check_still_queued(running.demo, image_id)
    running.demo.delete(f"/v2/images/{image_id}")


@pytest.mark.parametrize("chunked", [False, True])
def test_data_over_the_room_of_the_project_is_413(server_with: ServerWith, chunked: bool) -> None:
    running = server_with(SMALL)
    first, second = new_image(running.demo), new_image(running.demo)
    assert stage(running.demo, first, b"x" * 90_000).status_code == 204
    data = b"y" * 70_000
    answer = stage(running.demo, second, iter([data]) if chunked else data)
    assert answer.status_code == 413, told(answer)
    check_still_queued(running.demo, second)
    for image_id in (first, second):
        running.demo.delete(f"/v2/images/{image_id}")


def test_import_of_what_was_staged_within_the_limit_counts_it_once(
    server_with: ServerWith,
) -> None:
    running = server_with(SMALL)
    image_id = new_image(running.demo)
    assert stage(running.demo, image_id, b"x" * 90_000).status_code == 204
    assert imports(running.demo, image_id, "glance-direct")["status"] == "active"
    running.demo.delete(f"/v2/images/{image_id}")


def staging_by_hand(
    server: ServerProcess, client: Client, image_id: str, length: int
) -> RawConnection:
    """A request to stage that has sent its head and a few bytes."""
    connection = RawConnection(server.port)
    connection.send_head(
        "PUT",
        f"/v2/images/{image_id}/stage",
        {"X-Auth-Token": client.token or "", "Content-Length": str(length), **OCTETS},
    )
    connection.send(b"0123456789")
    deadline = time.monotonic() + 10
    while client.show(image_id)["status"] != "uploading":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return connection


def test_client_that_leaves_half_way_leaves_the_image_queued(one: Running) -> None:
    before = staging_files(one.server)
    image_id = new_image(one.demo)
    connection = staging_by_hand(one.server, one.demo, image_id, 1000)
    connection.close()
    check_goes_back_to_queued(one.demo, image_id)
    assert staging_files(one.server) == before


def test_half_staged_data_can_neither_be_imported_nor_staged_again(one: Running) -> None:
    image_id = new_image(one.demo)
    connection = staging_by_hand(one.server, one.demo, image_id, 1000)
    try:
        for answer in (start(one.demo, image_id, "glance-direct"), stage(one.demo, image_id)):
            assert answer.status_code == 409, told(answer)
    finally:
        connection.close()
    check_goes_back_to_queued(one.demo, image_id)


def test_image_deleted_while_it_is_staged_is_410(one: Running) -> None:
    image_id = new_image(one.demo)
    connection = staging_by_hand(one.server, one.demo, image_id, 20)
    try:
        assert one.demo.delete(f"/v2/images/{image_id}").status_code == 204
        connection.send(b"0123456789")
        answer = connection.read_answer()
        assert answer is not None
        assert answer.status == 410
    finally:
        connection.close()
    assert one.demo.get(f"/v2/images/{image_id}").status_code == 404


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PATCH"])
def test_other_methods_are_405(one: Running, method: str) -> None:
    answer = one.demo.request(method, f"/v2/images/{new_image(one.demo)}/stage")
    assert answer.status_code == 405, told(answer)
    assert answer.headers["allow"] == "PUT"


def test_staged_data_outlives_the_process(make_server: MakeServer) -> None:
    server = make_server(IMPORTS)
    demo = server.log_in_to_cloud("transom-demo")
    image_id = new_image(demo)
    assert stage(demo, image_id, b"kept").status_code == 204
    server.kill()
    server.start()
    demo = server.log_in_to_cloud("transom-demo")
    assert demo.show(image_id)["status"] == "uploading"
    assert imports(demo, image_id, "glance-direct")["size"] == 4
