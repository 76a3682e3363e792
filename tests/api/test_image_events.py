"""Follow an image and its tasks as server-sent events (ours)."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator

import pytest

from tests.api.configs import IMPORTS
from tests.conftest import MakeServer, Running, ServerWith
from tests.support.importing import download, ended, events, new_image, stage, start, tasks_of
from tests.support.server import told
from tests.support.web import Web

DATA = b"x" * (2 << 20)


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    """A web server on this machine, which the servers may read from."""
    with Web() as running:
        yield running


@pytest.fixture
def one(server_with: ServerWith) -> Running:
    """One store."""
    return server_with(IMPORTS)


def test_an_import_can_be_followed_to_its_end(one: Running, web: Web) -> None:
    gate = threading.Event()
    url = web.put(f"{uuid.uuid4()}/disk", DATA, gate=gate, takes_ranges=False)
    image_id = new_image(one.demo)
    statuses, phases = [], []
    for kind, event in events(one.demo, image_id):
        if kind == "image":
            assert set(event) == {"id", "status", "size"}
            assert event["id"] == image_id
            statuses.append((event["status"], event["size"]))
            if event["status"] == "queued":
                assert start(one.demo, image_id, download(url)).status_code == 202
            if event["status"] == "active":
                break
        else:
            assert kind == "task"
            assert event["image_id"] == image_id
            phases.append((event["status"], event["progress"]["phase"]))
            if event["progress"]["done_bytes"] >= len(DATA) // 2:
                gate.set()
    assert statuses == [("queued", None), ("importing", None), ("active", len(DATA))]
    assert ("processing", "downloading") in phases
    task = ended(one.demo, image_id)
    # Who comes later hears how it ended.
    late = dict(zip(range(2), events(one.demo, image_id), strict=False))
    assert late[0] == ("image", {"id": image_id, "status": "active", "size": len(DATA)})
    assert late[1][0] == "task"
    assert {**late[1][1], "input": task["input"]} == task


def test_a_failure_is_told_with_its_reason(one: Running, web: Web) -> None:
    image_id = new_image(one.demo)
    assert start(one.demo, image_id, download(f"{web.url}/none")).status_code == 202
    for kind, event in events(one.demo, image_id):
        if kind == "task" and event["status"] == "failure":
            assert "404" in event["message"]
            break


def test_the_stream_ends_with_the_image(one: Running) -> None:
    image_id = new_image(one.demo)
    kinds = []
    for kind, event in events(one.demo, image_id):
        kinds.append(kind)
        if kind == "image":
            assert one.demo.delete(f"/v2/images/{image_id}").status_code == 204
        else:
            assert event["reason"]
    assert kinds == ["image", "end"]


def test_staging_is_seen(one: Running) -> None:
    image_id = new_image(one.demo)
    seen = []
    for _, event in events(one.demo, image_id):
        seen.append(event["size"])
        if event["status"] == "queued":
            assert stage(one.demo, image_id, b"12345").status_code == 204
        if event["size"] == 5:
            break
    assert seen[-1] == 5
    assert tasks_of(one.demo, image_id) == []


def test_a_foreign_image_has_no_events(one: Running) -> None:
    stranger = one.server.provision({"listener": ("listeners", ["member"])})["listener"]
    image_id = new_image(one.demo, visibility="private")
    for gone in (image_id, str(uuid.uuid4())):
        answer = stranger.get(f"/v2/images/{gone}/events")
        assert answer.status_code == 404, told(answer)
    assert one.server.client().get(f"/v2/images/{image_id}/events").status_code == 401


def test_the_stream_ends_when_the_image_is_shared_no_more(one: Running) -> None:
    watcher = one.server.provision({"watcher": ("watchers", ["member"])})["watcher"]
    image_id = new_image(one.demo, visibility="community")
    for kind, _ in events(watcher, image_id):
        if kind == "end":
            break
        one.demo.patch(
            f"/v2/images/{image_id}", [{"op": "replace", "path": "/visibility", "value": "private"}]
        )
    else:
        raise AssertionError("the stream ended without a word")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_other_methods_are_405(one: Running, method: str) -> None:
    answer = one.demo.request(method, f"/v2/images/{new_image(one.demo)}/events")
    assert answer.status_code == 405, told(answer)


def test_a_body_is_refused(one: Running) -> None:
    answer = one.demo.request("GET", f"/v2/images/{new_image(one.demo)}/events", content=b"{}")
    assert answer.status_code == 400, told(answer)


def test_followers_do_not_keep_a_service_from_stopping(make_server: MakeServer) -> None:
    server = make_server(IMPORTS)
    demo = server.log_in_to_cloud("transom-demo")
    path = f"/v2/images/{new_image(demo)}/events"
    with demo.http.stream("GET", path, timeout=30) as answer:
        assert answer.status_code == 200
        server.stop()
