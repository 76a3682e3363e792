"""Events over HTTP: each verb tells exactly what Glance tells, and no receiver is in anybody's way."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.checks import queued, wait_for_status
from tests.conftest import MakeServer
from tests.support.receiver import Receiver
from tests.support.server import Client, ServerProcess, merged, told
from tests.support.web import Web, allowing


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture(scope="module")
def server(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that tells the receiver of everything."""
    from tests.conftest import configured

    config = merged(allowing(), receiver.config())
    with configured(tmp_path_factory.mktemp("telling"), config) as running:
        yield running


@pytest.fixture(scope="module")
def owner(server: ServerProcess) -> Client:
    return server.log_in_to_cloud("transom-demo")


@pytest.fixture(scope="module")
def admin(server: ServerProcess) -> Client:
    return server.log_in_to_cloud("transom")


def told_of(receiver: Receiver, subject: str, last: str, number: int = 1) -> list[dict[str, Any]]:
    """What was told of a subject, once the last event has come so many times, and all before."""
    deadline = time.monotonic() + 60
    while True:
        mine = [event for event in receiver.events if event["subject"] == subject]
        if [event["type"] for event in mine].count(last) >= number:
            assert not receiver.wrong
            return mine
        assert time.monotonic() < deadline, [event["type"] for event in mine]
        time.sleep(0.05)


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def test_the_life_of_an_image_is_told_as_glance_tells_it(receiver: Receiver, owner: Client) -> None:
    made = owner.post(
        "/v2/images",
        json={"disk_format": "raw", "container_format": "bare", "name": "n", "os_version": "12"},
    )
    image_id = made.json()["id"]
    owner.upload(image_id, b"some data")
    assert owner.get(f"/v2/images/{image_id}/file").content == b"some data"
    assert owner.get(f"/v2/images/{image_id}/file", headers={"range": "bytes=1-3"}).is_success
    owner.patch(f"/v2/images/{image_id}", [{"op": "add", "path": "/a", "value": "b"}])
    owner.put(f"/v2/images/{image_id}/tags/new")
    owner.delete(f"/v2/images/{image_id}/tags/new")
    owner.post(f"/v2/images/{image_id}/actions/deactivate")
    owner.post(f"/v2/images/{image_id}/actions/deactivate")
    owner.post(f"/v2/images/{image_id}/actions/reactivate")
    shown = owner.show(image_id)
    assert owner.delete(f"/v2/images/{image_id}").status_code == 204
    events = told_of(receiver, image_id, "image.delete")
    assert types(events) == [
        "image.create",
        *("image.update", "image.prepare"),
        *("image.upload", "image.activate", "image.update"),
        *("image.send", "image.send"),
        *("image.update", "image.update", "image.update"),
        *("image.update", "image.update"),
        "image.delete",
    ]
    created, saving, prepared, uploaded, activated = (event["data"] for event in events[:5])
    assert created["properties"] == {"os_version": "12"}
    assert (created["status"], created["size"], created["is_public"]) == ("queued", None, False)
    assert [each["status"] for each in (saving, prepared)] == ["saving", "saving"]
    assert set(prepared) - set(saving) == {
        "os_glance_importing_to_stores",
        "os_glance_failed_import",
    }
    assert (uploaded["status"], uploaded["size"]) == ("active", 9)
    assert uploaded["checksum"] == shown["checksum"]
    assert "os_glance_importing_to_stores" not in activated
    assert [event["data"]["bytes_sent"] for event in events[6:8]] == [9, 3]
    assert events[6]["data"] == {
        "bytes_sent": 9,
        "image_id": image_id,
        "owner_id": owner.project_id,
        "receiver_tenant_id": owner.project_id,
        "receiver_user_id": owner.user_id,
    }
    assert [event["data"]["status"] for event in events[11:13]] == ["deactivated", "active"]
    gone = events[-1]["data"]
    assert (gone["deleted"], gone["status"]) == (True, "deleted")
    assert gone["deleted_at"].endswith("Z")
    assert (gone["properties"]["a"], gone["checksum"]) == ("b", shown["checksum"])
    assert events[0]["requestid"] == made.headers["x-openstack-request-id"]
    assert not [event for event in events if "locations" in str(event) or "file://" in str(event)]


def test_what_is_refused_is_not_told(receiver: Receiver, owner: Client) -> None:
    image_id = queued(owner)
    refused = owner.patch(f"/v2/images/{image_id}", [{"op": "add", "path": "/id", "value": "x"}])
    assert refused.status_code == 403
    assert owner.post("/v2/images", json={"id": image_id}).status_code == 409
    assert owner.delete(f"/v2/images/{image_id}/tags/none").status_code == 404
    owner.delete(f"/v2/images/{image_id}")
    assert types(told_of(receiver, image_id, "image.delete")) == ["image.create", "image.delete"]


def test_an_upload_that_fails_is_told_with_its_reason(receiver: Receiver, owner: Client) -> None:
    image_id = queued(owner, disk_format="qcow2")
    assert owner.put_data(image_id, b"no qcow2" * 100).status_code == 415
    events = told_of(receiver, image_id, "image.update", 2)
    assert types(events) == [
        *("image.create", "image.update", "image.prepare"),
        *("image.upload", "image.update"),
    ]
    assert events[3]["priority"] == "error"
    assert isinstance(events[3]["data"], str)
    assert image_id in events[3]["data"]
    assert events[4]["data"]["status"] == "queued"


def test_members_are_told(receiver: Receiver, owner: Client, admin: Client) -> None:
    image_id = queued(owner, visibility="shared")
    member_id = admin.project_id
    assert owner.post(f"/v2/images/{image_id}/members", json={"member": member_id}).is_success
    path = f"/v2/images/{image_id}/members/{member_id}"
    assert admin.put(path, json={"status": "accepted"}).is_success
    assert owner.delete(path).status_code == 204
    events = told_of(receiver, image_id, "image.member.delete")[1:]
    assert types(events) == [f"image.member.{verb}" for verb in ("create", "update", "delete")]
    assert [event["data"]["status"] for event in events] == ["pending", "accepted", "accepted"]
    assert [event["data"]["deleted"] for event in events] == [False, False, True]
    assert {event["data"]["member_id"] for event in events} == {member_id}


def test_staging_and_import_are_told(receiver: Receiver, owner: Client) -> None:
    image_id = queued(owner)
    staged = owner.put(
        f"/v2/images/{image_id}/stage",
        content=b"staged",
        headers={"content-type": "application/octet-stream"},
    )
    assert staged.status_code == 204
    asked = owner.post(f"/v2/images/{image_id}/import", json={"method": {"name": "glance-direct"}})
    assert asked.status_code == 202, told(asked)
    wait_for_status(owner, image_id, "active", 60)
    events = told_of(receiver, image_id, "task.success")
    assert types(events) == [
        "image.create",
        *("image.update", "image.update"),
        *("task.create", "image.update", "task.run", "task.processing"),
        *("image.prepare", "image.upload", "image.update"),
        *("image.activate", "image.update", "task.success"),
    ]
    by_type = {event["type"]: event["data"] for event in events}
    assert by_type["task.success"]["status"] == "success"
    assert by_type["task.success"]["owner"] == owner.project_id
    assert (by_type["task.success"]["result"], by_type["task.success"]["message"]) == (None, None)
    assert by_type["image.prepare"]["backend"] == "main"
    assert by_type["image.activate"]["status"] == "active"
    requests = {event.get("requestid") for event in events[3:] if "processing" not in event["type"]}
    assert requests == {asked.headers["x-openstack-request-id"]}


def test_an_import_that_fails_is_told(receiver: Receiver, owner: Client) -> None:
    with Web() as web:
        image_id = queued(owner)
        body = {"method": {"name": "web-download", "uri": f"{web.url}/nothing-here"}}
        assert owner.post(f"/v2/images/{image_id}/import", json=body).status_code == 202
        events = told_of(receiver, image_id, "task.failure")
    assert types(events)[-2:] == ["image.update", "task.failure"]
    assert events[-2]["data"]["status"] == "queued"
    assert events[-1]["data"]["status"] == "failure"
    assert web.url not in str([event["data"] for event in events if "task" in event["type"]])


def test_definitions_are_told(receiver: Receiver, admin: Client) -> None:
    name = f"ns-{uuid.uuid4().hex}"
    base = f"/v2/metadefs/namespaces/{name}"
    tag = {"name": "loose"}
    full = {
        "namespace": name,
        "visibility": "public",
        "objects": [{"name": "o", "properties": {"p": {"title": "P", "type": "string"}}}],
        "properties": {"q": {"title": "Q", "type": "integer", "minimum": 3}},
        "tags": [{"name": "t"}],
        "resource_type_associations": [{"name": "OS::Test::Thing", "prefix": "x_"}],
    }
    calls = (
        ("POST", "/v2/metadefs/namespaces", full),
        ("PUT", base, {"namespace": name, "description": "d"}),
        ("PUT", f"{base}/objects/o", {"name": "o2"}),
        ("DELETE", f"{base}/objects/o2", None),
        ("PUT", f"{base}/properties/q", {"name": "q", "title": "Q", "type": "string"}),
        ("DELETE", f"{base}/properties/q", None),
        ("POST", f"{base}/tags", {"tags": [tag, {"name": "second"}]}),
        ("POST", f"{base}/tags/single", None),
        ("PUT", f"{base}/tags/single", {"name": "renamed"}),
        ("DELETE", f"{base}/tags/renamed", None),
        ("DELETE", f"{base}/resource_types/OS::Test::Thing", None),
        ("DELETE", f"{base}/objects", None),
        ("DELETE", f"{base}/properties", None),
        ("DELETE", f"{base}/tags", None),
        ("DELETE", base, None),
    )
    for method, path, body in calls:
        answer = admin.request(method, path, **({} if body is None else {"json": body}))
        assert answer.is_success, told(answer)
    events = told_of(receiver, f"metadef_namespace/{name}", "metadef_namespace.delete")
    assert types(events) == [
        *("metadef_namespace.create", "metadef_resource_type.create", "metadef_object.create"),
        *("metadef_property.create", "metadef_tag.create"),
        *("metadef_namespace.update", "metadef_object.update", "metadef_object.delete"),
        *("metadef_property.update", "metadef_property.delete"),
        *("metadef_tag.create", "metadef_tag.create", "metadef_tag.create"),
        *("metadef_tag.update", "metadef_tag.delete", "metadef_resource_type.delete"),
        *("metadef_namespace.delete_objects", "metadef_namespace.delete_properties"),
        *("metadef_namespace.delete_tags", "metadef_namespace.delete"),
    ]
    data = [event["data"] for event in events]
    assert (data[0]["namespace"], data[0]["namespace_old"]) == (name, name)
    assert data[1]["prefix"] == "x_"
    [told_property] = data[2]["properties"]
    assert (told_property["name"], told_property["title"]) == ("p", "P")
    assert len(told_property) == 17
    assert (data[3]["minimum"], data[3]["namespace"]) == (3, name)
    assert (data[6]["name"], data[6]["name_old"]) == ("o2", "o")
    assert (data[7]["deleted"], data[7]["name"]) == (True, "o2")
    assert (data[13]["name"], data[13]["name_old"]) == ("renamed", "single")
    assert data[-1]["deleted"] is True


def test_a_receiver_that_hangs_slows_no_request_and_misses_nothing(
    make_server: MakeServer,
) -> None:
    with Receiver() as receiver:
        server = make_server(receiver.config(timeout_seconds=1.0))
        owner = server.log_in_to_cloud("transom-demo")
        receiver.hangs = threading.Event()
        began = time.monotonic()
        image_id = queued(owner)
        owner.upload(image_id, b"data")
        owner.patch(f"/v2/images/{image_id}", [{"op": "add", "path": "/a", "value": "b"}])
        assert owner.delete(f"/v2/images/{image_id}").status_code == 204
        # A receiver may take a second here; waiting for one would cost as much at each of four calls.
        assert time.monotonic() - began < 4
        receiver.hangs.set()
        receiver.hangs = None
        events = told_of(receiver, image_id, "image.delete")
    # What had hung was answered after all, when nobody listened any more; so it comes again.
    seen = list({event["id"]: event["type"] for event in events}.values())
    assert seen[0] == "image.create"
    assert seen[-1] == "image.delete"
    assert len(seen) == 8


def test_events_are_told_in_spite_of_kill_9_and_after_it(make_server: MakeServer) -> None:
    with Receiver() as receiver:
        receiver.answer = lambda _: 503
        server = make_server(receiver.config("image.create"))
        demo = server.log_in_to_cloud("transom-demo")
        ids = [demo.create()["id"] for _ in range(5)]
        server.kill()
        receiver.answer = lambda _: 204
        server.start()
        receiver.wait_for(5, 60)
        # One that the killed server had sent may have been taken, and comes again.
        told_once = {event["id"]: event for event in receiver.events}.values()
        assert sorted(event["subject"] for event in told_once) == sorted(ids)
        assert {event["type"] for event in told_once} == {"image.create"}


def test_events_that_are_laid_aside_are_the_operators(make_server: MakeServer) -> None:
    with Receiver() as receiver:
        receiver.answer = lambda _: 422
        server = make_server(receiver.config("image.create", tries_max=2))
        demo = server.log_in_to_cloud("transom-demo")
        image_id = demo.create()["id"]
        deadline = time.monotonic() + 30
        while "dead" not in (listed := server.run(["events", "list"])):
            assert time.monotonic() < deadline, listed
        assert image_id in listed
        assert "it answered 422" in listed
        receiver.answer = lambda _: 204
        assert "1" in server.run(["events", "retry", "--all"])
        receiver.wait_for(1)
        assert "nothing" in server.run(["events", "list"]).lower()
