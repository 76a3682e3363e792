"""Limits that a real Keystone keeps."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.interop.keystone.conftest import SERVICE_PASSWORD, Opened
from tests.interop.keystone.server import Cloud, KeystoneServer
from tests.support import postgres
from tests.support.catalogs import DIALECTS
from tests.support.raw_http import RawConnection
from tests.support.server import Client, ServerProcess, told
from transom.errors import IdentityUnavailable

pytestmark = pytest.mark.interop

DEFAULTS = {
    "image_size_total": 1000,
    "image_stage_total": 1000,
    "image_count_total": 100,
    "image_count_uploading": 50,
}


@pytest.fixture
def service(cloud: Cloud) -> Iterator[str]:
    """The image service, with limits registered for it; gone after the test."""
    made = cloud.call("POST", "/services", {"service": {"type": "image", "name": "image"}}).json()
    service_id = str(made["service"]["id"])
    registered = cloud.call(
        "POST",
        "/registered_limits",
        {
            "registered_limits": [
                {"service_id": service_id, "resource_name": name, "default_limit": limit}
                for name, limit in DEFAULTS.items()
            ]
        },
    ).json()["registered_limits"]
    yield service_id
    for own in cloud.call("GET", f"/limits?service_id={service_id}").json()["limits"]:
        cloud.call("DELETE", f"/limits/{own['id']}")
    for each in registered:
        cloud.call("DELETE", f"/registered_limits/{each['id']}")
    cloud.call("DELETE", f"/services/{service_id}")


def limit(cloud: Cloud, service: str, project: str, name: str, value: int) -> str:
    made = cloud.call(
        "POST",
        "/limits",
        {
            "limits": [
                {
                    "service_id": service,
                    "project_id": project,
                    "resource_name": name,
                    "resource_limit": value,
                }
            ]
        },
    ).json()
    return str(made["limits"][0]["id"])


async def test_a_project_has_its_own_limits_over_the_registered_ones(
    keystone: KeystoneServer, cloud: Cloud, opened: Opened, service: str
) -> None:
    own, other = (cloud.project(f"limited-{uuid.uuid4().hex[:6]}") for _ in range(2))
    limit_id = limit(cloud, service, own, "image_count_total", 3)
    authenticator = opened(keystone.url)

    assert await authenticator.limits_of(own) == DEFAULTS | {"image_count_total": 3}
    assert await authenticator.limits_of(other) == DEFAULTS

    cloud.call("PATCH", f"/limits/{limit_id}", {"limit": {"resource_limit": 4}})
    assert (await authenticator.limits_of(own))["image_count_total"] == 4
    cloud.call("DELETE", f"/limits/{limit_id}")
    assert await authenticator.limits_of(own) == DEFAULTS


async def test_without_a_role_on_the_system_limits_cannot_be_known(
    keystone: KeystoneServer, cloud: Cloud, opened: Opened, service: str
) -> None:
    name = f"weak-{uuid.uuid4().hex[:6]}"
    project = cloud.project(name)
    cloud.user(name, "a password", project=project, roles=["admin"])
    authenticator = opened(keystone.url, username=name, password="a password", project_name=name)

    with pytest.raises(IdentityUnavailable):
        await authenticator.limits_of(project)
    # Tokens are another matter.
    assert await authenticator.authenticate(cloud.token(name, "a password", project=name))


async def test_without_an_image_service_limits_cannot_be_known(
    keystone: KeystoneServer, cloud: Cloud, opened: Opened
) -> None:
    with pytest.raises(IdentityUnavailable, match="no service of type image"):
        await opened(keystone.url).limits_of("a project")


# --- over HTTP -------------------------------------------------------------------------------------

MIB = 1024 * 1024

AT_ONCE = 50


@pytest.fixture(params=DIALECTS)
def transom(
    request: pytest.FixtureRequest, keystone: KeystoneServer, service: str, tmp_path: Path
) -> Iterator[ServerProcess]:
    """A server that keeps Keystone's limits, on either database."""
    identity = {
        "auth_url": keystone.url,
        "username": "transom",
        "password": SERVICE_PASSWORD,
        "use_limits": True,
    }
    config: dict[str, dict[str, object]] = {
        "identity": {"backend": "keystone", "keystone": identity},
        "images": {"verify_formats": False},
    }
    if request.param == "postgresql":
        config["database"] = {"url": postgres.cluster().database()}
    with ServerProcess(tmp_path / "transom", config) as server:
        yield server


class Tenant:
    """A member of a project of its own, with limits of its own."""

    def __init__(self, cloud: Cloud, service: str, server: ServerProcess, **limits: int) -> None:
        self.name = f"tenant-{uuid.uuid4().hex[:6]}"
        self.project = cloud.project(self.name)
        cloud.user(self.name, "a password", project=self.project, roles=["member"])
        self.token = cloud.token(self.name, "a password", project=self.name)
        self.client = server.client(self.token)
        self.client.http.timeout = 120
        self.server = server
        self._cloud = cloud
        self._ids = {
            name: limit(cloud, service, self.project, name, value) for name, value in limits.items()
        }

    def change(self, **limits: int) -> None:
        """Change limits."""
        for name, value in limits.items():
            body = {"limit": {"resource_limit": value}}
            self._cloud.call("PATCH", f"/limits/{self._ids[name]}", body)

    def usage(self) -> dict[str, tuple[int, int]]:
        """Limit and usage of each resource."""
        answer = self.client.get("/v2/info/usage")
        assert answer.status_code == 200, told(answer)
        return {
            name: (each["limit"], each["usage"]) for name, each in answer.json()["usage"].items()
        }

    def queued(self) -> str:
        """A new image."""
        return str(self.client.create(disk_format="raw", container_format="bare")["id"])

    def many(self) -> list[str]:
        """New images, made at once, because each creation asks Keystone."""
        made: list[str] = []

        def create(client: Client, _: int) -> int:
            image = client.create(disk_format="raw", container_format="bare")
            made.append(str(image["id"]))
            return 201

        self.at_once(create)
        return made

    def put(self, image_id: str, size: int, *, announced: bool = True) -> int:
        """Upload data; the status of the answer."""
        data = b"x" * size
        pieces = (data[at : at + 65536] for at in range(0, size, 65536))
        return self.client.put_data(image_id, data if announced else pieces).status_code

    def at_once(self, call: Callable[[Client, int], int], count: int = AT_ONCE) -> Counter[int]:
        """The statuses of calls that are made at the same moment, each by a client of its own."""
        statuses: list[int] = []
        barrier = threading.Barrier(count)

        def one(number: int) -> None:
            client = self.server.client(self.token)
            client.http.timeout = 120
            barrier.wait(60)
            statuses.append(call(client, number))

        threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(180)
        assert len(statuses) == count
        return Counter(statuses)


def images_of(tenant: Tenant) -> list[dict[str, Any]]:
    """All its images."""
    images: list[dict[str, Any]] = tenant.client.get("/v2/images?limit=1000").json()["images"]
    return images


def test_usage_is_told_to_every_token_of_a_project(
    cloud: Cloud, service: str, transom: ServerProcess
) -> None:
    tenant = Tenant(cloud, service, transom, image_size_total=7, image_count_total=5)
    assert tenant.usage() == {
        "image_size_total": (7, 0),
        "image_stage_total": (1000, 0),
        "image_count_total": (5, 0),
        "image_count_uploading": (50, 0),
    }
    first, _ = tenant.queued(), tenant.queued()
    assert tenant.put(first, 3 * MIB - 1) == 204
    assert tenant.usage()["image_size_total"] == (7, 2)
    assert tenant.usage()["image_count_total"] == (5, 2)
    tenant.change(image_size_total=-1)
    assert tenant.usage()["image_size_total"] == (-1, 2)
    assert tenant.client.delete(f"/v2/images/{first}").status_code == 204
    assert tenant.usage()["image_size_total"] == (-1, 0)
    assert tenant.usage()["image_count_total"] == (5, 1)
    # Another project has its own, and a token without a project has none.
    assert Tenant(cloud, service, transom).usage()["image_count_total"] == (100, 0)
    unscoped = transom.client(cloud.token(tenant.name, "a password"))
    assert unscoped.get("/v2/info/usage").json() == {"usage": {}}
    assert transom.client().get("/v2/info/usage").status_code == 401
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert tenant.client.request(method, "/v2/info/usage").status_code == 404


def test_fifty_creations_at_once_never_pass_the_number_of_images(
    cloud: Cloud, service: str, transom: ServerProcess
) -> None:
    tenant = Tenant(cloud, service, transom, image_count_total=7)

    statuses = tenant.at_once(lambda client, _: client.post("/v2/images", json={}).status_code)

    assert statuses == {201: 7, 413: AT_ONCE - 7}
    assert tenant.usage()["image_count_total"] == (7, 7)
    refused = tenant.client.post("/v2/images", json={})
    assert refused.status_code == 413
    assert "image_count_total" in refused.text
    images = tenant.client.list_ids()
    assert tenant.client.delete(f"/v2/images/{images[0]}").status_code == 204
    assert tenant.client.post("/v2/images", json={}).status_code == 201


def test_fifty_uploads_at_once_never_pass_the_size_of_all(
    cloud: Cloud, service: str, transom: ServerProcess
) -> None:
    tenant = Tenant(cloud, service, transom, image_size_total=9)
    ids = tenant.many()
    data = b"x" * MIB

    statuses = tenant.at_once(lambda client, number: client.put_data(ids[number], data).status_code)

    # Sizes count in whole MiB: nine of them, and the rest of the tenth that rounds down.
    assert statuses == {204: 9, 413: AT_ONCE - 9}
    assert tenant.usage()["image_size_total"] == (9, 9)
    assert tenant.usage()["image_count_uploading"] == (50, 0)
    states = Counter(image["status"] for image in images_of(tenant))
    assert states == {"active": 9, "queued": AT_ONCE - 9}
    active = next(image for image in images_of(tenant) if image["status"] == "active")
    assert tenant.client.delete(f"/v2/images/{active['id']}").status_code == 204
    refused = [image["id"] for image in images_of(tenant) if image["status"] == "queued"]
    assert tenant.put(refused[0], MIB) == 204, "what was deleted is given back"
    assert tenant.put(refused[1], MIB) == 413


def test_fifty_uploads_of_unknown_size_pass_it_with_one_of_them_at_most(
    cloud: Cloud, service: str, transom: ServerProcess
) -> None:
    tenant = Tenant(cloud, service, transom, image_size_total=4)
    ids = tenant.many()

    def chunked(client: Client, number: int) -> int:
        return client.put_data(ids[number], iter([b"x" * 262_144] * 8)).status_code

    statuses = tenant.at_once(chunked)

    # Two MiB each. All but the last to grow fit below five MiB, as when one comes after the other.
    assert set(statuses) == {204, 413}
    assert 1 <= statuses[204] <= 3, statuses
    assert tenant.usage()["image_size_total"] == (4, 2 * statuses[204])
    # What was refused holds nothing back.
    waiting = [image["id"] for image in images_of(tenant) if image["status"] == "queued"]
    assert len(waiting) == AT_ONCE - statuses[204]
    for image_id in waiting[: 3 - statuses[204]]:
        assert tenant.put(image_id, 2 * MIB, announced=False) == 204
    assert tenant.put(waiting[-1], 1, announced=False) == 413
    assert tenant.usage()["image_size_total"] == (4, 6)


def test_fifty_that_are_staged_at_once_never_pass_the_size_of_what_waits(
    cloud: Cloud, service: str, transom: ServerProcess
) -> None:
    # What waits does not count as stored, so a small limit of that is no matter.
    tenant = Tenant(
        cloud, service, transom, image_stage_total=4, image_size_total=0, image_count_uploading=-1
    )
    ids = tenant.many()
    data = b"x" * MIB

    def stage(client: Client, number: int) -> int:
        path = f"/v2/images/{ids[number]}/stage"
        headers = {"Content-Type": "application/octet-stream"}
        return client.put(path, content=data, headers=headers).status_code

    statuses = tenant.at_once(stage)

    assert statuses == {204: 4, 413: AT_ONCE - 4}
    assert tenant.usage()["image_stage_total"] == (4, 4)
    assert tenant.usage()["image_size_total"] == (0, 0)
    states = Counter(image["status"] for image in images_of(tenant))
    assert states == {"uploading": 4, "queued": AT_ONCE - 4}
    staged = next(image["id"] for image in images_of(tenant) if image["status"] == "uploading")
    waiting = next(at for at in range(AT_ONCE) if tenant.client.show(ids[at])["status"] == "queued")
    assert stage(tenant.client, waiting) == 413
    assert tenant.client.delete(f"/v2/images/{staged}").status_code == 204
    assert stage(tenant.client, waiting) == 204, "what was deleted is given back"


def test_fifty_uploads_at_once_never_pass_the_number_of_uploads(
    cloud: Cloud, service: str, transom: ServerProcess
) -> None:
    tenant = Tenant(cloud, service, transom, image_count_uploading=6)
    ids = tenant.many()
    connections = [RawConnection(transom.port, 60) for _ in ids]
    try:
        # Who is let in is told to go on, with data that it has not sent yet.
        for image_id, connection in zip(ids, connections, strict=True):
            connection.send_head(
                "PUT",
                f"/v2/images/{image_id}/file",
                {
                    "X-Auth-Token": tenant.token,
                    "Content-Type": "application/octet-stream",
                    "Content-Length": "5",
                    "Expect": "100-continue",
                },
            )
        answers = [connection.read_answer() for connection in connections]
        statuses = Counter(answer.status for answer in answers if answer is not None)

        assert statuses == {100: 6, 413: AT_ONCE - 6}
        assert tenant.usage()["image_count_uploading"] == (6, 6)
        for answer, connection in zip(answers, connections, strict=True):
            if answer is not None and answer.status == 100:
                connection.send(b"bytes")
                done = connection.read_answer()
                assert done is not None
                assert done.status == 204
    finally:
        for connection in connections:
            connection.close()
    assert tenant.usage()["image_count_uploading"] == (6, 0)
    states = Counter(image["status"] for image in images_of(tenant))
    assert states == {"active": 6, "queued": AT_ONCE - 6}


def test_what_a_client_cancels_is_given_back(
    cloud: Cloud, service: str, transom: ServerProcess
) -> None:
    tenant = Tenant(cloud, service, transom, image_size_total=3, image_count_uploading=1)
    given_up, other = tenant.queued(), tenant.queued()
    with RawConnection(transom.port) as connection:
        connection.send(
            f"PUT /v2/images/{given_up}/file HTTP/1.1\r\nHost: x\r\n"
            f"X-Auth-Token: {tenant.token}\r\nContent-Type: application/octet-stream\r\n"
            f"Content-Length: {3 * MIB}\r\n\r\n".encode()
        )
        connection.send(b"x" * 100_000)
        deadline = time.monotonic() + 20
        while tenant.usage()["image_count_uploading"] != (1, 1):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert tenant.put(other, 1) == 413, "one at a time"
        tenant.change(image_count_uploading=2)
        assert tenant.put(other, 2 * MIB) == 413, "the announced size is kept for the first"
        tenant.change(image_count_uploading=1)
    # The client has left in the middle of its data.
    deadline = time.monotonic() + 20
    while tenant.usage()["image_count_uploading"] != (1, 0):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert tenant.client.show(given_up)["status"] == "queued"
    assert tenant.put(other, 3 * MIB) == 204
    assert tenant.usage()["image_size_total"] == (3, 3)


def test_limits_that_cannot_be_read_stop_what_they_limit_and_nothing_else(
    cloud: Cloud, keystone: KeystoneServer, service: str, transom: ServerProcess
) -> None:
    tenant = Tenant(cloud, service, transom)
    image_id = tenant.queued()
    keystone.stop()
    try:
        for answer in (
            tenant.client.get("/v2/info/usage"),
            tenant.client.post("/v2/images", json={}),
            tenant.client.put_data(image_id, b"x"),
        ):
            assert answer.status_code == 503, told(answer)
            assert int(answer.headers["retry-after"]) > 0
        assert tenant.client.show(image_id)["status"] == "queued"
        assert tenant.client.get(f"/v2/images/{image_id}/file").status_code == 204
    finally:
        keystone.start()
