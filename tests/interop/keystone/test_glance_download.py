"""Imports from the image service of another region, found in a real Keystone's catalogue."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conftest import with_test_database
from tests.interop.clients import commands
from tests.interop.keystone.conftest import SERVICE_PASSWORD
from tests.interop.keystone.server import ADMIN_PASSWORD, Cloud, KeystoneServer
from tests.support.importing import (
    active_image,
    content_of,
    ended,
    fails,
    imports,
    new_image,
    start,
)
from tests.support.server import Client, ServerProcess, told

pytestmark = pytest.mark.interop

DATA = b"architrave and casing, " * 9000


class Regions(NamedTuple):
    """Two services of one cloud, and one caller of both."""

    here: Client
    there: Client


@pytest.fixture(scope="module")
def regions(
    keystone: KeystoneServer, cloud: Cloud, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Regions]:
    """`here` is the image service of RegionOne, `there` that of RegionTwo."""
    config = {
        "identity": {
            "backend": "keystone",
            "keystone": {
                "auth_url": keystone.url,
                "username": "transom",
                "password": SERVICE_PASSWORD,
            },
        }
    }
    made = cloud.call("POST", "/services", {"service": {"type": "image", "name": "glance"}})
    servers = []
    try:
        for region in ("RegionOne", "RegionTwo"):
            folder = tmp_path_factory.mktemp(region)
            servers.append(ServerProcess(folder, with_test_database(config)).start())
            if region != "RegionOne":
                cloud.call("POST", "/regions", {"region": {"id": region}})
            cloud.call(
                "POST",
                "/endpoints",
                {
                    "endpoint": {
                        "service_id": made.json()["service"]["id"],
                        "interface": "public",
                        "region": region,
                        "url": servers[-1].url,
                    }
                },
            )
        # A token of its own: its catalogue has both regions.
        token = cloud.token("admin", ADMIN_PASSWORD, project="admin")
        here, there = (server.client(token, "admin") for server in servers)
        yield Regions(here, there)
    finally:
        for server in servers:
            server.stop()


def from_there(image_id: str, **more: Any) -> dict[str, Any]:
    """The method, with the region and an image."""
    return {
        "name": "glance-download",
        "glance_region": "RegionTwo",
        "glance_image_id": image_id,
        **more,
    }


def test_image_comes_with_its_formats_and_properties(regions: Regions) -> None:
    source = active_image(
        regions.there,
        DATA,
        hw_disk_bus="virtio",
        os_distro="debian",
        os_type="linux",
        secret="stays",
    )
    image_id = new_image(regions.here, disk_format=None, container_format=None, own="kept")
    image = imports(regions.here, image_id, from_there(source))
    there = regions.there.show(source)
    for name in (
        "disk_format", "container_format", "size", "checksum", "os_hash_algo", "os_hash_value",
        "hw_disk_bus", "os_distro", "os_type",
    ):  # fmt: skip
        assert image[name] == there[name], name
    assert "secret" not in image
    assert image["own"] == "kept"
    assert content_of(regions.here, image_id) == DATA


def test_region_that_is_not_in_the_catalogue(regions: Regions) -> None:
    image_id = new_image(regions.here)
    method = from_there(str(uuid.uuid4()), glance_region="RegionThree")
    task = fails(regions.here, image_id, method)
    assert "RegionThree" in task["message"]
    method = from_there(str(uuid.uuid4()), glance_service_interface="internal")
    assert "internal" in fails(regions.here, image_id, method)["message"]
    image = regions.here.show(image_id)
    assert (image["status"], image["last_error"]) == (
        "queued",
        tasks_message(regions.here, image_id),
    )


def tasks_message(client: Client, image_id: str) -> str:
    """What the newest task says."""
    message: str = client.get(f"/v2/images/{image_id}/tasks").json()["tasks"][0]["message"]
    return message


def test_image_that_is_not_there(regions: Regions) -> None:
    task = fails(regions.here, new_image(regions.here), from_there(str(uuid.uuid4())))
    assert "404" in task["message"]


def test_image_that_is_not_active_there(regions: Regions) -> None:
    image_id = new_image(regions.here, disk_format=None, container_format=None)
    task = fails(regions.here, image_id, from_there(new_image(regions.there)))
    assert "not active" in task["message"]
    image = regions.here.show(image_id)
    assert (image["status"], image["disk_format"], image["container_format"]) == (
        "queued",
        None,
        None,
    )


def test_token_is_shown_nowhere(regions: Regions) -> None:
    source = active_image(regions.there, DATA)
    image_id = new_image(regions.here)
    answer = start(regions.here, image_id, from_there(source))
    assert answer.status_code == 202, told(answer)
    for _ in range(20):
        answer = regions.here.get(f"/v2/images/{image_id}/tasks")
        assert str(regions.here.token) not in answer.text
        if answer.json()["tasks"][0]["status"] == "success":
            break
        time.sleep(0.2)
    task_id = answer.json()["tasks"][0]["id"]
    assert str(regions.here.token) not in regions.here.get(f"/v2/tasks/{task_id}").text


def test_the_openstack_command_imports_from_there(
    regions: Regions, keystone: KeystoneServer, tmp_path: Path
) -> None:
    source = active_image(regions.there, DATA)
    image_id = new_image(regions.here)
    where = commands.environment(
        tmp_path,
        OS_AUTH_URL=keystone.url,
        OS_USERNAME="admin",
        OS_PASSWORD=ADMIN_PASSWORD,
        OS_PROJECT_NAME="admin",
        OS_USER_DOMAIN_NAME="Default",
        OS_PROJECT_DOMAIN_NAME="Default",
        OS_REGION_NAME="RegionOne",
        OS_IDENTITY_API_VERSION="3",
    )
    answer = commands.run_program(
        "openstack",
        [
            "image", "import", "--method", "glance-download", "--remote-region", "RegionTwo",
            "--remote-image", source, "--remote-service-interface", "public", "--wait", image_id,
        ],
        where,
    )  # fmt: skip
    assert answer.status == 0, str(answer)
    # The command does not wait, whatever `--wait` promises.
    assert ended(regions.here, image_id)["status"] == "success"
    assert content_of(regions.here, image_id) == DATA
