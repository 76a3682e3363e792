"""python-glanceclient: the library on a keystoneauth session, and the `glance` command line."""

from __future__ import annotations

import hashlib
import io
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from glanceclient import exc

from tests.interop.clients.commands import Shell
from tests.interop.conftest import Cloud
from tests.interop.images.corpus import BootableImage

pytestmark = pytest.mark.interop

DATA = b"pane, sash and transom\n" * 10_000

Glance = Any
"""A glanceclient; it has no types."""


@pytest.fixture(scope="module")
def glance(cloud: Cloud) -> Glance:
    """The demo user's library client."""
    return cloud.glance_library("transom-demo")


@pytest.fixture(scope="module")
def neighbour(cloud: Cloud) -> Glance:
    """The library client of a member of another project."""
    return cloud.glance_library("neighbour")


@pytest.fixture(scope="module")
def shell(cloud: Cloud) -> Shell:
    """The demo user's `glance` command line."""
    return cloud.glance("transom-demo")


@pytest.fixture
def name(glance: Glance) -> Iterator[str]:
    """A name prefix of the test's own; all images that begin with it are gone afterwards."""
    prefix = f"glance-{uuid.uuid4().hex}"
    yield prefix
    for hidden in ("false", "true"):
        for image in list(glance.images.list(filters={"os_hidden": hidden})):
            if (image["name"] or "").startswith(prefix):
                glance.images.update(image["id"], protected=False)
                glance.images.delete(image["id"])


def make(glance: Glance, name: str, data: bytes | None = DATA, **attributes: Any) -> Any:
    """An image with data, or queued when there is none."""
    attributes = {"disk_format": "raw", "container_format": "bare", **attributes}
    image = glance.images.create(name=name, **attributes)
    if data is not None:
        glance.images.upload(image["id"], io.BytesIO(data))
    return glance.images.get(image["id"])


def rows(answer: str) -> list[list[str]]:
    """The rows of a table that the command line printed, header first."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in answer.splitlines()
        if line.startswith("|")
    ]


def facts(answer: str) -> dict[str, str]:
    """A two-column table as a dictionary."""
    return {row[0]: row[1] for row in rows(answer)[1:]}


# --- the library ---------------------------------------------------------------------------------


def test_create_validates_against_the_schema_that_the_service_serves(
    glance: Glance, name: str
) -> None:
    image = glance.images.create(
        name=name,
        disk_format="qcow2",
        container_format="bare",
        visibility="private",
        min_disk=1,
        min_ram=2,
        protected=False,
        tags=["x", "y"],
        os_hidden=True,
        kernel_id=str(uuid.uuid4()),
        os_distro="debian",
        anything="goes",
    )

    assert image["status"] == "queued"
    assert set(image["tags"]) == {"x", "y"}
    assert image["anything"] == "goes"
    assert image["os_hidden"] is True
    with pytest.raises(TypeError):
        glance.images.create(name=name, disk_format="floppy")
    with pytest.raises(TypeError):
        glance.images.create(name=7)


def test_update_changes_adds_and_removes_with_one_patch(glance: Glance, name: str) -> None:
    image = make(glance, name, None, one="1", two="2", tags=["old"])

    updated = glance.images.update(
        image["id"],
        remove_props=["one"],
        name=f"{name}-new",
        two="zwei",
        three="3",
        min_ram=77,
        tags=["new"],
        os_version="12",
    )

    again = glance.images.get(image["id"])
    for seen in (updated, again):
        assert seen["name"] == f"{name}-new"
        assert (seen["two"], seen["three"], seen["min_ram"]) == ("zwei", "3", 77)
        assert seen["os_version"] == "12"
        assert seen["tags"] == ["new"]
        assert "one" not in seen


def test_upload_with_and_without_announced_size(glance: Glance, name: str) -> None:
    for size in (None, len(DATA)):
        image = glance.images.create(name=name, disk_format="raw", container_format="bare")
        glance.images.upload(image["id"], io.BytesIO(DATA), image_size=size)
        shown = glance.images.get(image["id"])
        assert (shown["status"], shown["size"]) == ("active", len(DATA))
        assert shown["os_hash_value"] == hashlib.sha512(DATA).hexdigest()


def test_data_is_verified_while_it_is_read(glance: Glance, name: str) -> None:
    image = make(glance, name)

    body = glance.images.data(image["id"])

    assert len(body) == len(DATA)
    assert b"".join(body) == DATA
    unchecked = glance.images.data(image["id"], do_checksum=False)
    assert b"".join(unchecked) == DATA


def test_data_of_an_image_without_data_is_none(glance: Glance, name: str) -> None:
    image = make(glance, name, None)

    assert glance.images.data(image["id"]).wrapped is None


def test_list_pages_sorts_and_filters(glance: Glance, name: str) -> None:
    made = [make(glance, f"{name}-{n}", None, tags=[name], number=str(n))["id"] for n in range(5)]

    def found(filters: dict[str, Any] | None = None, **options: Any) -> list[str]:
        wanted = {"tag": [name], **(filters or {})}
        return [image["id"] for image in glance.images.list(filters=wanted, **options)]

    assert found(page_size=2) == made[::-1]
    assert found(page_size=2, limit=3) == made[:1:-1]
    assert found(sort_key="name", sort_dir="asc", page_size=1) == made
    assert found(sort_key=["status", "name"], sort_dir=["asc", "asc"]) == made
    assert found(sort="status:desc,name:asc", page_size=2) == made
    assert found(marker=made[3], page_size=2) == made[2::-1]
    assert found({"number": "3"}) == [made[3]]
    assert found({"number": "3", "name": f"{name}-4"}) == []
    assert found({"tag": [name, "nothing"]}) == []


def test_tags_one_by_one(glance: Glance, name: str) -> None:
    image = make(glance, name, None)

    glance.image_tags.update(image["id"], "fresh")
    assert glance.images.get(image["id"])["tags"] == ["fresh"]
    glance.image_tags.delete(image["id"], "fresh")
    assert glance.images.get(image["id"])["tags"] == []
    with pytest.raises(exc.HTTPNotFound):
        glance.image_tags.delete(image["id"], "fresh")


def test_members_from_invitation_to_removal(
    glance: Glance, neighbour: Glance, cloud: Cloud, name: str
) -> None:
    image = make(glance, name)
    them = cloud.project_id("neighbour")

    assert glance.image_members.create(image["id"], them)["status"] == "pending"
    assert [each["member_id"] for each in glance.image_members.list(image["id"])] == [them]
    assert neighbour.image_members.get(image["id"], them)["status"] == "pending"
    assert neighbour.image_members.update(image["id"], them, "accepted")["status"] == "accepted"
    shared = neighbour.images.list(filters={"visibility": "shared", "name": name})
    assert [each["id"] for each in shared] == [image["id"]]
    assert b"".join(neighbour.images.data(image["id"])) == DATA
    with pytest.raises(exc.HTTPConflict):
        glance.image_members.create(image["id"], them)
    with pytest.raises(exc.HTTPForbidden):
        glance.image_members.update(image["id"], them, "rejected")
    glance.image_members.delete(image["id"], them)
    with pytest.raises(exc.HTTPNotFound):
        neighbour.images.get(image["id"])


def test_deactivate_and_reactivate(glance: Glance, name: str) -> None:
    image = make(glance, name)

    glance.images.deactivate(image["id"])
    assert glance.images.get(image["id"])["status"] == "deactivated"
    with pytest.raises(exc.HTTPForbidden):
        glance.images.data(image["id"])
    glance.images.reactivate(image["id"])
    assert b"".join(glance.images.data(image["id"])) == DATA


@pytest.mark.parametrize("model", ["image", "images", "member", "members"])
def test_schemas_of_the_core_are_served(glance: Glance, model: str) -> None:
    assert glance.schemas.get(model).name == model


def test_versions_name_the_current_one(glance: Glance) -> None:
    versions = glance.versions.list()

    assert [version["id"] for version in versions if version["status"] == "CURRENT"] == ["v2.17"]


def test_request_ids_of_the_service_reach_the_caller(glance: Glance, name: str) -> None:
    image = make(glance, name, None)

    assert all(request_id.startswith("req-") for request_id in image.request_ids)
    assert image.request_ids


# --- the command line ----------------------------------------------------------------------------


def test_command_creates_uploads_and_downloads_a_disk(
    shell: Shell, bootable: dict[str, BootableImage], name: str, tmp_path: Path
) -> None:
    source = bootable["grub-rescue-vmdk-stream"]

    created = facts(
        shell.runs(
            *("image-create", "--name", name, "--file", str(source.path), "--disk-format"),
            *("vmdk", "--container-format", "bare", "--property", "vmware_disktype=stream"),
            *("--visibility", "private", "--tags", "one", "--tags", "two"),
        ).text
    )

    assert created["status"] == "active"
    assert created["size"] == str(source.size_bytes)
    # The table is cut at eighty columns.
    assert source.sha512.startswith(created["os_hash_value"])
    assert created["vmware_disktype"] == "stream"
    target = tmp_path / "disk"
    shell.runs("image-download", "--file", str(target), created["id"])
    assert target.read_bytes() == source.path.read_bytes()
    piped = shell.runs("image-download", created["id"])
    assert hashlib.sha512(piped.out).hexdigest() == source.sha512


def test_command_takes_data_from_a_pipe(shell: Shell, name: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(DATA)

    created = facts(shell.runs("image-create", "--name", name).text)
    assert created["status"] == "queued"
    shell.runs(
        *("image-update", created["id"], "--disk-format", "raw", "--container-format", "bare")
    )
    shell.runs("image-upload", created["id"], stdin=source)

    assert facts(shell.runs("image-show", created["id"]).text)["size"] == str(len(DATA))


def test_command_updates_lists_and_deletes(shell: Shell, glance: Glance, name: str) -> None:
    first = make(glance, f"{name}-1", None, colour="red", extra="x")["id"]
    second = make(glance, f"{name}-2", None, colour="blue")["id"]

    updated = facts(
        shell.runs(
            *("image-update", first, "--property", "colour=blue", "--remove-property", "extra"),
            *("--min-ram", "5", "--protected", "True", "--hidden", "False"),
        ).text
    )
    assert (updated["colour"], updated["min_ram"], updated["protected"]) == ("blue", "5", "True")
    assert "extra" not in updated

    listed = rows(
        shell.runs(
            *("--verbose", "image-list", "--property-filter", "colour=blue", "--limit", "10"),
            *("--sort", "name:asc", "--page-size", "1"),
        ).text
    )
    assert [row[:2] for row in listed[1:]] == [[first, f"{name}-1"], [second, f"{name}-2"]]

    said = shell.fails("image-delete", first, second, str(uuid.uuid4()))
    assert f"You are not permitted to delete the image '{first}'." in said
    assert re.search(r"No image with an ID of '.*' exists", said)
    with pytest.raises(exc.HTTPNotFound):
        glance.images.get(second)


def test_command_tags_shares_and_deactivates(
    shell: Shell, glance: Glance, cloud: Cloud, name: str
) -> None:
    image_id = make(glance, name)["id"]
    them = cloud.project_id("neighbour")
    neighbour = cloud.glance("neighbour")

    shell.runs("image-tag-update", image_id, "warm")
    assert glance.images.get(image_id)["tags"] == ["warm"]
    shell.runs("image-tag-delete", image_id, "warm")

    created = rows(shell.runs("member-create", image_id, them).text)
    assert created[1] == [image_id, them, "pending"]
    neighbour.runs("member-update", image_id, them, "accepted")
    assert facts(shell.runs("member-get", image_id, them).text)["status"] == "accepted"
    assert rows(shell.runs("member-list", "--image-id", image_id).text)[1:] == [
        [image_id, them, "accepted"]
    ]
    shell.runs("member-delete", image_id, them)
    assert "404" in neighbour.fails("image-show", image_id)

    shell.runs("image-deactivate", image_id)
    assert "403" in shell.fails("image-download", "--file", "/dev/null", image_id)
    shell.runs("image-reactivate", image_id)
    shell.runs("image-download", "--file", "/dev/null", image_id)


def test_command_explains_the_image(shell: Shell) -> None:
    explained = {row[0] for row in rows(shell.runs("explain", "image").text)}

    assert {"id", "name", "os_hash_value", "visibility", "kernel_id", "os_distro"} <= explained
