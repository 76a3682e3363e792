"""A process that dies while it hashes a location: the next one goes on, and nothing is in between."""

from __future__ import annotations

import hashlib
import os
import time
from typing import Any

import pytest

from tests.conftest import MakeServer
from tests.support.server import Client, told
from tests.support.web import Web, allowing

pytestmark = pytest.mark.faults

DATA = os.urandom(400_000)
SHA512 = hashlib.sha512(DATA).hexdigest()
GOOD = {"os_hash_algo": "sha512", "os_hash_value": SHA512}
BAD = {"os_hash_algo": "sha512", "os_hash_value": "0" * 128}


def wait_for(client: Client, image_id: str, status: str, **more: Any) -> dict[str, Any]:
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        image = client.show(image_id)
        if image["status"] == status and all(image[name] == more[name] for name in more):
            return image
        time.sleep(0.05)
    raise AssertionError(f"never {status} {more}: {image}")


@pytest.mark.parametrize(
    ("values", "meanwhile", "status", "digest"),
    [
        (None, "active", "active", SHA512),
        (GOOD, "importing", "active", SHA512),
        (BAD, "importing", "queued", None),
    ],
    ids=["hashed afterwards", "right digest", "wrong digest"],
)
def test_a_killed_hashing_is_taken_up_by_the_next_process(
    make_server: MakeServer,
    values: dict[str, str] | None,
    meanwhile: str,
    status: str,
    digest: str | None,
) -> None:
    with Web() as web:
        url = web.put("disk", DATA, rate_bytes=len(DATA) // 4)
        server = make_server(allowing())
        demo = server.log_in_to_cloud("transom-demo")
        image_id = demo.create(disk_format="raw", container_format="bare")["id"]
        body: dict[str, Any] = {"url": url}
        if values is not None:
            body["validation_data"] = values
        assert demo.post(f"/v2/images/{image_id}/locations", json=body).status_code == 202
        wait_for(demo, image_id, meanwhile)
        time.sleep(1.0)
        assert demo.show(image_id)["status"] == meanwhile
        server.kill()
        web["disk"].rate_bytes = 0
        server.start()
        demo = server.log_in_to_cloud("transom-demo")
        image = wait_for(demo, image_id, status, os_hash_value=digest)
        tasks = demo.get(f"/v2/images/{image_id}/tasks").json()["tasks"]
        assert len(tasks) == 1
        deadline = time.monotonic() + 20
        while tasks[0]["status"] == "processing" and time.monotonic() < deadline:
            time.sleep(0.05)
            tasks = demo.get(f"/v2/images/{image_id}/tasks").json()["tasks"]
        assert tasks[0]["status"] == ("success" if status == "active" else "failure")
        assert len(image["locations"]) == (1 if status == "active" else 0)
        answer = demo.get(f"/v2/images/{image_id}/file")
        if status == "active":
            assert answer.content == DATA, told(answer)
        else:
            assert answer.status_code == 204, told(answer)
