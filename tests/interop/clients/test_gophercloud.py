"""gophercloud (Terraform, Packer, Kubernetes): from the identity URL to a deleted image.

The replay covers what today's gophercloud sends; a small Go program with the release that Debian
packages shows that a real one is content too.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.interop.clients import commands
from tests.interop.clients.gophercloud import (
    ProviderClient,
    UnexpectedResponseCode,
    base_endpoint,
)
from tests.interop.conftest import Cloud
from tests.interop.images import qemu
from tests.interop.images.corpus import BootableImage

pytestmark = pytest.mark.interop


def password(auth: dict[str, str]) -> dict[str, Any]:
    """The identity part of AuthOptions with a user name, a domain name and a password."""
    return {
        "methods": ["password"],
        "password": {
            "user": {
                "domain": {"name": auth["user_domain_name"]},
                "name": auth["username"],
                "password": auth["password"],
            }
        },
    }


def project(auth: dict[str, str]) -> dict[str, Any]:
    """The scope of AuthOptions with a project name and a domain name."""
    return {
        "project": {
            "domain": {"name": auth["project_domain_name"]},
            "name": auth["project_name"],
        }
    }


def log_in(cloud: Cloud, name: str, auth_url: str = "") -> ProviderClient:
    """A client that knows its image endpoint."""
    auth = cloud.server.cloud(name)
    client = ProviderClient(auth_url or auth["auth_url"])
    client.authenticate(password(auth), project(auth))
    client.find_image_service()
    return client


@pytest.fixture
def demo(cloud: Cloud) -> Iterator[ProviderClient]:
    """The demo user."""
    client = log_in(cloud, "transom-demo")
    yield client
    client.close()


@pytest.fixture
def image(demo: ProviderClient) -> Iterator[dict[str, Any]]:
    """A queued image of the demo user, deleted after the test."""
    made = demo.create(name=f"go-{uuid.uuid4().hex}", disk_format="raw", container_format="bare")
    yield made
    demo.delete(made["id"])


def test_login_with_the_versioned_url_of_clouds_yaml(cloud: Cloud) -> None:
    client = log_in(cloud, "transom-demo")

    assert client.image.endswith("/v2/")
    assert "/v2/v2/" not in client.image
    assert list(client.pages(limit=1)) is not None
    client.close()


def test_login_with_the_unversioned_url_discovers_version_three(cloud: Cloud) -> None:
    versioned = cloud.server.cloud("transom-demo")["auth_url"]

    client = log_in(cloud, "transom-demo", f"{base_endpoint(versioned)}identity")

    assert client.requests[0] == "GET /identity/"
    assert client.requests[1].endswith("/v3/auth/tokens")
    assert client.token
    client.close()


def test_image_endpoint_is_found_in_its_region_and_in_no_other(cloud: Cloud) -> None:
    client = log_in(cloud, "transom-demo")
    (entry,) = [entry for entry in client.catalog if entry["type"] == "image"]
    region = entry["endpoints"][0]["region"]

    client.find_image_service(region)

    assert client.image
    with pytest.raises(AssertionError, match="No suitable endpoint"):
        client.find_image_service("Atlantis")
    client.close()


def test_wrong_password_is_401(cloud: Cloud) -> None:
    auth = {**cloud.server.cloud("transom-demo"), "password": "wrong"}
    client = ProviderClient(auth["auth_url"])

    with pytest.raises(UnexpectedResponseCode) as refused:
        client.authenticate(password(auth), project(auth))

    assert refused.value.actual == 401
    client.close()


def test_token_can_be_read_scoped_anew_validated_and_revoked(
    cloud: Cloud, demo: ProviderClient
) -> None:
    auth = cloud.server.cloud("transom-demo")
    other = log_in(cloud, "transom-demo")

    assert demo.token_facts(other.token)["user"]["name"] == auth["username"]
    assert demo.validate(other.token) is True
    again = ProviderClient(auth["auth_url"])
    again.authenticate({"methods": ["token"], "token": {"id": other.token}}, project(auth))
    again.find_image_service()
    assert list(again.pages(limit=1)) is not None
    demo.revoke(other.token)
    assert demo.validate(other.token) is False
    with pytest.raises(UnexpectedResponseCode) as refused:
        list(other.pages(limit=1))
    assert refused.value.actual == 401
    for client in (other, again):
        client.close()


def test_whole_life_of_an_image(demo: ProviderClient, bootable: dict[str, BootableImage]) -> None:
    source = bootable["grub-rescue-qcow2"]
    name = f"go-{uuid.uuid4().hex}"

    created = demo.create(
        name=name,
        disk_format="qcow2",
        container_format="bare",
        visibility="private",
        min_disk=1,
        min_ram=64,
        tags=["go", "terraform"],
        hw_disk_bus="virtio",
    )
    assert created["status"] == "queued"
    assert created["hw_disk_bus"] == "virtio"

    def pieces() -> Iterator[bytes]:
        data = source.path.read_bytes()
        for start in range(0, len(data), 32768):
            yield data[start : start + 32768]

    demo.upload(created["id"], pieces())
    shown = demo.get(created["id"])
    assert shown["status"] == "active"
    assert shown["size"] == source.size_bytes
    assert hashlib.sha512(demo.download(created["id"])).hexdigest() == source.sha512

    updated = demo.update(
        created["id"],
        [
            {"op": "replace", "path": "/name", "value": f"{name}-new"},
            {"op": "replace", "path": "/visibility", "value": "shared"},
            {"op": "replace", "path": "/os_hidden", "value": True},
            {"op": "replace", "path": "/tags", "value": ["only"]},
            {"op": "replace", "path": "/min_disk", "value": 2},
            {"op": "replace", "path": "/min_ram", "value": 128},
            {"op": "replace", "path": "/protected", "value": False},
            {"op": "replace", "path": "/hw_disk_bus", "value": "scsi"},
            {"op": "add", "path": "/os_distro", "value": "debian"},
            {"op": "remove", "path": "/os_distro"},
        ],
    )
    assert updated["name"] == f"{name}-new"
    assert updated["tags"] == ["only"]
    assert updated["os_hidden"] is True
    assert updated["hw_disk_bus"] == "scsi"
    assert "os_distro" not in updated

    demo.delete(created["id"])
    with pytest.raises(UnexpectedResponseCode) as gone:
        demo.get(created["id"])
    assert gone.value.actual == 404


def test_upload_with_a_length_answers_204(demo: ProviderClient, image: dict[str, Any]) -> None:
    demo.upload(image["id"], b"some bytes")

    assert demo.get(image["id"])["size"] == 10


def test_next_links_lead_through_all_pages(demo: ProviderClient) -> None:
    tag = uuid.uuid4().hex
    made = [demo.create(name=f"{tag}-{n}", tags=[tag])["id"] for n in range(5)]

    pages = list(demo.pages(tag=[tag], limit=2, sort="name:asc"))

    assert [[image["id"] for image in page] for page in pages] == [made[:2], made[2:4], made[4:]]
    everything = list(demo.pages(tag=[tag], sort_key="created_at", sort_dir="asc", limit=1))
    assert sorted(image["id"] for (image,) in everything) == sorted(made)
    for image_id in made:
        demo.delete(image_id)


def test_members_by_the_codes_that_gophercloud_takes(
    cloud: Cloud, demo: ProviderClient, image: dict[str, Any]
) -> None:
    admin = log_in(cloud, "transom")
    them = cloud.project_id("transom")

    assert demo.add_member(image["id"], them)["status"] == "pending"
    assert [member["member_id"] for member in demo.members(image["id"])] == [them]
    assert admin.update_member(image["id"], them, "accepted")["status"] == "accepted"
    assert demo.member(image["id"], them)["status"] == "accepted"
    demo.remove_member(image["id"], them)
    assert demo.members(image["id"]) == []
    admin.close()


def test_custom_property_named_metadata_is_refused_by_the_client_not_by_the_service(
    demo: ProviderClient, image: dict[str, Any]
) -> None:
    # gophercloud's Image has a field of that name; a plain string does not decode into it.
    with pytest.raises(AssertionError, match="metadata"):
        demo.update(image["id"], [{"op": "add", "path": "/metadata", "value": "text"}])


@pytest.mark.parametrize(
    ("call", "status"),
    [
        (lambda demo, image: demo.get(str(uuid.uuid4())), 404),
        (lambda demo, image: demo.create(name="again", id=image["id"]), 409),
        (lambda demo, image: demo.create(name="n" * 256), 400),
        (
            lambda demo, image: demo.update(
                image["id"], [{"op": "replace", "path": "/status", "value": "active"}]
            ),
            403,
        ),
        (lambda demo, image: list(demo.pages(visibility="secret")), 400),
    ],
    ids=["404", "409", "400", "403", "400-query"],
)
def test_refusals_keep_their_status_and_a_json_body(
    demo: ProviderClient, image: dict[str, Any], call: Any, status: int
) -> None:
    with pytest.raises(UnexpectedResponseCode) as refused:
        call(demo, image)

    assert refused.value.actual == status
    # It asks for application/json, prints the body raw, and so shows a person what went wrong.
    assert refused.value.body.startswith(b"{")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Go program, built from Debian's packages of gophercloud without any network."""
    folder = tmp_path_factory.mktemp("go")
    built = folder / "program"
    source = Path(__file__).with_name("gophercloud_program")
    environment = commands.environment(
        folder, GO111MODULE="off", GOPATH="/usr/share/gocode", GOCACHE=str(folder / "cache")
    )
    done = subprocess.run(
        [qemu.tool("go", "golang-go"), "build", "-o", str(built), "."],
        cwd=source,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, (
        f"{done.stderr}\napt-get install golang-go golang-github-gophercloud-gophercloud-dev"
    )
    return built


def test_go_program_lives_through_the_life_of_an_image(
    cloud: Cloud, program: Path, bootable: dict[str, BootableImage], tmp_path: Path
) -> None:
    source = bootable["grub-rescue-qcow2"]
    auth = cloud.server.cloud("transom-demo")
    environment = commands.environment(
        tmp_path,
        OS_AUTH_URL=auth["auth_url"],
        OS_USERNAME=auth["username"],
        OS_PASSWORD=auth["password"],
        OS_PROJECT_NAME=auth["project_name"],
        OS_DOMAIN_NAME=auth["user_domain_name"],
    )

    done = subprocess.run(
        [str(program), str(source.path), str(tmp_path / "copy")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "created": "queued",
        "name": "gophercloud-new",
        "tags": ["gophercloud"],
        "os_distro": "debian",
        "listed": ["gophercloud-new"],
        "members": 1,
        "member": "pending",
        "status": "active",
        "size": source.size_bytes,
        "checksum": hashlib.md5(source.path.read_bytes()).hexdigest(),
        "is_not_found": True,
    }
    assert (tmp_path / "copy").read_bytes() == source.path.read_bytes()
