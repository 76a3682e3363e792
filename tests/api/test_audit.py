"""The audit log over HTTP: what is noted, how, and what never is."""

from __future__ import annotations

import json
import os
import signal
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import MakeServer
from tests.support.server import Client, ServerProcess, told
from tests.support.waiting import until


def noted(server: ServerProcess, **wanted: Any) -> list[dict[str, Any]]:
    """The lines that have these values, as soon as there is one; all of them after a second."""
    path = server.data / "audit.log"
    deadline = time.monotonic() + 5
    while True:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        found = [line for line in lines if wanted.items() <= line.items()]
        if found or time.monotonic() > deadline:
            return found
        time.sleep(0.02)


def one(server: ServerProcess, answer: httpx.Response) -> dict[str, Any]:
    """The only line about a request."""
    found = noted(server, request_id=answer.headers["x-openstack-request-id"])
    assert len(found) == 1, (told(answer), found)
    return found[0]


@pytest.fixture
def server(make_server: MakeServer) -> ServerProcess:
    return make_server({"audit": {"path": "<data>/audit.log"}})


@pytest.fixture
def admin(server: ServerProcess) -> Client:
    return server.log_in_to_cloud("transom")


@pytest.fixture
def demo(server: ServerProcess) -> Client:
    return server.log_in_to_cloud("transom-demo")


def test_every_change_is_one_line_with_who_what_and_the_outcome(
    server: ServerProcess, demo: Client
) -> None:
    answer = demo.post("/v2/images", json={"disk_format": "raw", "container_format": "bare"})
    image_id = answer.json()["id"]
    line = one(server, answer)
    assert line["typeURI"] == "http://schemas.dmtf.org/cloud/audit/1.0/event"
    assert line["eventType"] == "activity"
    assert uuid.UUID(line["id"])
    assert line["eventTime"].endswith("+00:00")
    assert (line["action"], line["operation"], line["outcome"]) == (
        "create",
        "image_create",
        "success",
    )
    assert line["reason"] == {"reasonType": "HTTP", "reasonCode": "201", "phrase": "Created"}
    assert line["target"] == {"typeURI": "service/storage/image/images", "id": image_id}
    who = line["initiator"]
    assert (who["id"], who["project_id"], who["name"]) == (demo.user_id, demo.project_id, "demo")
    assert set(who["roles"]) == demo.roles
    assert who["host"]["address"] == "127.0.0.1"
    assert line["requestPath"] == "/v2/images"

    for answer, action, operation in (
        (demo.put_data(image_id, b"data"), "update", "data_upload"),
        (
            demo.patch(f"/v2/images/{image_id}", [{"op": "add", "path": "/a", "value": "b"}]),
            "update",
            "image_update",
        ),
        (demo.put(f"/v2/images/{image_id}/tags/new"), "update/tag", "tag_add"),
        (demo.post(f"/v2/images/{image_id}/actions/deactivate"), "disable", "image_deactivate"),
        (demo.delete(f"/v2/images/{image_id}"), "delete", "image_delete"),
    ):
        assert answer.is_success, told(answer)
        line = one(server, answer)
        assert (line["action"], line["operation"]) == (action, operation)
        assert line["target"]["id"] == image_id
        assert line["outcome"] == "success"


def test_reading_is_noted_only_when_it_is_refused(server: ServerProcess, demo: Client) -> None:
    reading = demo.get("/v2/images")
    missing = demo.get(f"/v2/images/{uuid.uuid4()}")
    refused = demo.get("/v2/tasks")
    stranger = server.client("no-token-of-ours").get("/v2/images")
    assert [each.status_code for each in (reading, missing, refused, stranger)] == [
        *(200, 404, 403, 401)
    ]
    assert one(server, refused)["outcome"] == "failure"
    line = one(server, stranger)
    assert line["action"] == "read"
    assert line["reason"] == {
        "reasonType": "HTTP",
        "reasonCode": "401",
        "phrase": "Unauthorized",
        "error": "Unauthenticated",
    }
    assert line["initiator"]["id"] is None
    ids = {each.headers["x-openstack-request-id"] for each in (reading, missing)}
    assert not [line for line in noted(server) if line["request_id"] in ids]


def test_a_change_that_fails_is_noted_as_a_failure(server: ServerProcess, demo: Client) -> None:
    image_id = str(uuid.uuid4())
    answer = demo.delete(f"/v2/images/{image_id}")
    line = one(server, answer)
    assert line["outcome"] == "failure"
    assert line["reason"]["error"] == "ImageNotFound"
    assert line["target"]["id"] == image_id


def test_logins_are_noted_with_the_user_and_without_any_secret(
    server: ServerProcess, admin: Client
) -> None:
    made = admin.post(
        "/v3/users", json={"user": {"name": "ursula", "password": "a-Secret-of-hers"}}
    )
    user_id = made.json()["user"]["id"]
    assert one(server, made)["target"] == {"typeURI": "service/security/users", "id": user_id}
    with pytest.raises(AssertionError):
        server.log_in("ursula", "wrong-Secret", None)
    good = server.log_in("ursula", "a-Secret-of-hers", None)

    def hers() -> list[dict[str, Any]]:
        lines = noted(server, operation="token_create")
        return [line for line in lines if line["initiator"]["name"] == "ursula"]

    until(lambda: len(hers()) >= 2)
    mine = hers()
    assert [(line["outcome"], line["action"]) for line in mine] == [
        ("failure", "authenticate/login"),
        ("success", "authenticate/login"),
    ]
    assert mine[1]["initiator"]["id"] == user_id
    text = (server.data / "audit.log").read_text()
    assert "Secret" not in text
    assert str(good.token) not in text
    assert str(admin.token) not in text


def test_a_client_that_writes_line_ends_writes_no_lines(
    server: ServerProcess, demo: Client
) -> None:
    answer = demo.delete("/v2/images/a%0A%7B%22forged%22%3A1%7D")
    assert "\n" not in one(server, answer)["target"]["id"]


def test_after_logrotate_and_sighup_lines_go_to_the_new_file(
    server: ServerProcess, demo: Client
) -> None:
    one(server, demo.post("/v2/images", json={}))
    path: Path = server.data / "audit.log"
    path.rename(server.data / "audit.log.1")
    path.write_bytes(b"")
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGHUP)
    answer = demo.post("/v2/images", json={})
    assert answer.status_code == 201
    assert one(server, answer)["outcome"] == "success"


def test_lines_of_answered_requests_are_there_after_a_stop(
    server: ServerProcess, demo: Client
) -> None:
    ids = [demo.post("/v2/images", json={}).headers["x-openstack-request-id"] for _ in range(50)]
    server.stop()
    found = {line["request_id"] for line in noted(server)}
    assert set(ids) <= found
