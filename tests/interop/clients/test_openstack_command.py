"""Everything that `openstack image …` does with the core of the Image API, as its users type it."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.interop.clients.commands import Shell
from tests.interop.conftest import Cloud

pytestmark = pytest.mark.interop

DATA = b"Transom lets the light through.\n" * 4096

MakeImage = Callable[..., str]


@pytest.fixture
def name() -> str:
    """An image name that no other test uses."""
    return f"cli-{uuid.uuid4().hex}"


@pytest.fixture
def make(cloud: Cloud) -> Iterator[MakeImage]:
    """Makes an image of the demo project, with data unless `data` is None; gives its id.

    Through the SDK, because that spares the start of a program; the image goes after the test.
    """
    connection = cloud.sdk("transom-demo")
    made: list[str] = []

    def make(name: str, data: bytes | None = DATA, **attributes: Any) -> str:
        attributes = {"disk_format": "raw", "container_format": "bare", **attributes}
        image = connection.image._create(_image_class(), name=name, **attributes)
        made.append(image.id)
        if data is not None:
            answer = connection.image.put(
                f"/images/{image.id}/file",
                data=data,
                headers={"Content-Type": "application/octet-stream"},
            )
            assert answer.status_code == 204, answer.text
        return str(image.id)

    yield make
    for image_id in made:
        if connection.image.find_image(image_id):
            connection.image.update_image(image_id, is_protected=False)
            connection.image.delete_image(image_id)


def _image_class() -> Any:
    from openstack.image.v2.image import Image

    return Image


@pytest.fixture(scope="module")
def neighbours_id(cloud: Cloud) -> str:
    """Id of the neighbour's project."""
    return cloud.project_id("neighbour")


def names_in(listed: list[dict[str, Any]]) -> list[str]:
    """The names of a list that the client printed, in its order."""
    return [row["Name"] for row in listed]


def test_create_without_data_leaves_a_queued_image_with_every_attribute(
    openstack_demo: Shell, cloud: Cloud, name: str
) -> None:
    image_id = str(uuid.uuid4())

    created = openstack_demo.json(
        *("image", "create", name, "--id", image_id, "--disk-format", "qcow2"),
        *("--min-disk", "3", "--min-ram", "512", "--protected", "--private"),
        *("--property", "hw_disk_bus=virtio", "--property", "cat=tabby=grey"),
        *("--tag", "alpha", "--tag", "two words"),
    )

    shown = openstack_demo.json("image", "show", image_id)
    assert shown == created
    assert shown["status"] == "queued"
    assert shown["id"] == image_id
    assert shown["name"] == name
    assert (shown["disk_format"], shown["container_format"]) == ("qcow2", "bare")
    assert (shown["min_disk"], shown["min_ram"]) == (3, 512)
    assert shown["protected"] is True
    assert shown["visibility"] == "private"
    assert shown["owner"] == cloud.project_id("transom-demo")
    assert shown["properties"]["hw_disk_bus"] == "virtio"
    assert shown["properties"]["cat"] == "tabby=grey"
    assert sorted(shown["tags"]) == ["alpha", "two words"]
    assert "size" not in shown
    openstack_demo.runs("image", "set", "--unprotected", image_id)
    openstack_demo.runs("image", "delete", image_id)


def test_create_takes_the_data_from_a_pipe(
    openstack_demo: Shell, name: str, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(DATA)

    answer = openstack_demo.runs("image", "create", name, "-f", "value", "-c", "id", stdin=source)

    shown = openstack_demo.json("image", "show", answer.text.strip())
    assert shown["status"] == "active"
    assert shown["size"] == len(DATA)
    assert shown["properties"]["os_hash_value"] == hashlib.sha512(DATA).hexdigest()
    openstack_demo.runs("image", "delete", name)


def test_create_with_a_progress_bar_and_an_announced_size(
    openstack_demo: Shell, name: str, tmp_path: Path
) -> None:
    # With a progress bar the client reads the file through a wrapper that has no length.
    source = tmp_path / "source"
    source.write_bytes(DATA)
    options = ("--progress", "--file", str(source), "-f", "value", "-c", "status")

    for size in ((), ("--size", str(len(DATA)))):
        answer = openstack_demo.runs("image", "create", name, *options, *size)
        assert answer.text.splitlines()[-1] == "active"
    said = openstack_demo.fails("image", "create", name, *options, "--size", str(len(DATA) + 1))

    assert "400" in said
    ids = openstack_demo.runs("image", "list", "--name", name, "-f", "value", "-c", "ID")
    openstack_demo.runs("image", "delete", *ids.text.split())
    assert len(ids.text.split()) == 2


def test_set_changes_every_attribute_that_has_an_option(
    openstack_demo: Shell, make: MakeImage, name: str
) -> None:
    image_id = make(name, None, tags=["first"])
    kernel, ramdisk, instance = (str(uuid.uuid4()) for _ in range(3))

    openstack_demo.runs(
        *("image", "set", "--name", f"{name}-new", "--min-disk", "7", "--min-ram", "64"),
        *("--container-format", "ovf", "--disk-format", "vmdk", "--private", "--hidden"),
        *("--protected", "--property", "colour=blue", "--tag", "second"),
        *("--architecture", "x86_64", "--instance-id", instance, "--kernel-id", kernel),
        *("--ramdisk-id", ramdisk, "--os-distro", "debian", "--os-version", "12", image_id),
    )

    shown = openstack_demo.json("image", "show", image_id)
    assert shown["name"] == f"{name}-new"
    assert (shown["min_disk"], shown["min_ram"]) == (7, 64)
    assert (shown["container_format"], shown["disk_format"]) == ("ovf", "vmdk")
    assert shown["visibility"] == "private"
    assert shown["protected"] is True
    assert sorted(shown["tags"]) == ["first", "second"]
    properties = shown["properties"]
    assert properties["os_hidden"] is True
    assert properties["colour"] == "blue"
    assert properties["architecture"] == "x86_64"
    assert properties["kernel_id"] == kernel
    assert properties["ramdisk_id"] == ramdisk
    assert (properties["os_distro"], properties["os_version"]) == ("debian", "12")


def test_unset_removes_properties_and_tags_and_names_what_is_not_there(
    openstack_demo: Shell, make: MakeImage, name: str
) -> None:
    image_id = make(name, None, tags=["keep", "drop"], keep_me="1", drop_me="2", os_distro="x")

    openstack_demo.runs(
        *("image", "unset", "--property", "drop_me", "--property", "os_distro"),
        *("--tag", "drop", image_id),
    )

    shown = openstack_demo.json("image", "show", image_id)
    assert shown["tags"] == ["keep"]
    assert shown["properties"]["keep_me"] == "1"
    assert not {"drop_me", "os_distro"} & set(shown["properties"])
    said = openstack_demo.fails("image", "unset", "--tag", "never", "--property", "nor", image_id)
    assert "Failed to unset 1 of 1 tags" in said
    assert "Failed to unset 1 of 1 properties" in said


def test_show_finds_by_name_even_a_hidden_image(
    openstack_demo: Shell, make: MakeImage, name: str
) -> None:
    image_id = make(name, is_hidden=True)

    assert openstack_demo.json("image", "show", name)["id"] == image_id
    human = openstack_demo.json("image", "show", "--human-readable", name)
    assert human["size"] == "131.1K"
    assert "No Image found" in openstack_demo.fails("image", "show", f"{name}-not")


def test_show_refuses_to_choose_between_two_images_of_one_name(
    openstack_demo: Shell, make: MakeImage, name: str
) -> None:
    make(name, None)
    make(name, None)

    assert "More than one Image exists" in openstack_demo.fails("image", "show", name)


def test_hidden_images_are_listed_only_on_demand(
    openstack_demo: Shell, make: MakeImage, name: str
) -> None:
    make(name, None)

    openstack_demo.runs("image", "set", "--hidden", name)
    assert openstack_demo.json("image", "list", "--name", name) == []
    assert names_in(openstack_demo.json("image", "list", "--hidden", "--name", name)) == [name]

    openstack_demo.runs("image", "set", "--unhidden", name)
    assert names_in(openstack_demo.json("image", "list", "--name", name)) == [name]


def test_delete_takes_several_names_and_reports_each_failure(
    openstack_demo: Shell, make: MakeImage, name: str
) -> None:
    kept = make(f"{name}-kept", None, is_protected=True)
    make(f"{name}-a")
    make(f"{name}-b", None)

    said = openstack_demo.fails(*("image", "delete", f"{name}-a", f"{name}-kept", f"{name}-b"))

    assert "Failed to delete 1 of 3 images." in said
    assert f"Image {kept} is protected and cannot be deleted" in said
    assert openstack_demo.json("image", "show", kept)["status"] == "queued"
    openstack_demo.fails("image", "show", f"{name}-a")
    openstack_demo.fails("image", "show", f"{name}-b")


def test_deactivated_image_cannot_be_saved_until_it_is_activated(
    openstack_demo: Shell, openstack_admin: Shell, make: MakeImage, name: str, tmp_path: Path
) -> None:
    image_id = make(name)
    target = tmp_path / "saved"

    openstack_demo.runs("image", "set", "--deactivate", image_id)

    assert openstack_demo.json("image", "show", image_id)["status"] == "deactivated"
    # The client takes the refusal for the image's bytes and finds that their hash is wrong.
    said = openstack_demo.fails("image", "save", "--file", str(target), image_id)
    assert "Unable to download image" in said
    assert DATA[:10] not in target.read_bytes()
    openstack_admin.runs("image", "save", "--file", str(target), image_id)
    assert target.read_bytes() == DATA
    openstack_demo.runs("image", "set", "--activate", image_id)
    assert openstack_demo.json("image", "show", image_id)["status"] == "active"
    openstack_demo.runs("image", "save", "--file", str(target), image_id)


def test_shared_image_is_listed_by_the_member_once_it_accepts(
    openstack_demo: Shell,
    openstack_neighbour: Shell,
    make: MakeImage,
    neighbours_id: str,
    name: str,
    tmp_path: Path,
) -> None:
    image_id = make(name)
    openstack_neighbour.fails("image", "show", image_id)

    added = openstack_demo.json("image", "add", "project", name, neighbours_id)
    assert (added["image_id"], added["member_id"]) == (image_id, neighbours_id)
    assert added["status"] == "pending"

    listing = ("image", "list", "--name", name)
    assert openstack_neighbour.json("image", "show", image_id)["name"] == name
    assert openstack_neighbour.json(*listing) == []
    assert names_in(openstack_neighbour.json(*listing, "--member-status", "pending")) == [name]

    openstack_neighbour.runs("image", "set", "--accept", image_id)
    assert names_in(openstack_neighbour.json(*listing)) == [name]
    assert names_in(openstack_neighbour.json(*listing, "--shared")) == [name]
    members = openstack_demo.json("image", "member", "list", name)
    assert members == [{"Image ID": image_id, "Member ID": neighbours_id, "Status": "accepted"}]
    member = openstack_neighbour.json("image", "member", "get", image_id, neighbours_id)
    assert member["status"] == "accepted"
    saved = tmp_path / "saved"
    openstack_neighbour.runs("image", "save", "--file", str(saved), name)
    assert saved.read_bytes() == DATA

    openstack_neighbour.runs("image", "set", "--reject", image_id)
    assert openstack_neighbour.json(*listing) == []
    openstack_neighbour.runs("image", "set", "--pending", image_id)
    assert names_in(openstack_neighbour.json(*listing, "--member-status", "all")) == [name]

    openstack_demo.runs("image", "remove", "project", name, neighbours_id)
    assert openstack_demo.json("image", "member", "list", name) == []
    openstack_neighbour.fails("image", "show", image_id)


def test_administrator_shares_by_the_name_of_the_project(
    openstack_admin: Shell, make: MakeImage, neighbours_id: str, name: str
) -> None:
    image_id = make(name, None)

    added = openstack_admin.json("image", "add", "project", image_id, "neighbours")

    assert added["member_id"] == neighbours_id
    openstack_admin.runs("image", "set", "--accept", "--project", "neighbours", image_id)
    shown = openstack_admin.json("image", "member", "get", image_id, neighbours_id)
    assert shown["status"] == "accepted"
    openstack_admin.runs("image", "remove", "project", image_id, "neighbours")


def test_visibility_decides_who_lists_an_image(
    openstack_admin: Shell,
    openstack_demo: Shell,
    openstack_neighbour: Shell,
    make: MakeImage,
    name: str,
) -> None:
    image_id = make(name, None)
    listing = ("image", "list", "--name", name)
    assert openstack_demo.json("image", "show", image_id)["visibility"] == "shared"

    openstack_demo.runs("image", "set", "--community", image_id)
    assert openstack_neighbour.json(*listing) == []
    assert names_in(openstack_neighbour.json(*listing, "--community")) == [name]
    assert names_in(openstack_neighbour.json(*listing, "--all")) == [name]

    said = openstack_demo.fails("image", "set", "--public", image_id)
    assert "ForbiddenException: 403" in said
    openstack_admin.runs("image", "set", "--public", image_id)
    assert names_in(openstack_neighbour.json(*listing)) == [name]
    assert names_in(openstack_neighbour.json(*listing, "--public")) == [name]

    openstack_demo.runs("image", "set", "--private", image_id)
    assert openstack_neighbour.json(*listing, "--all") == []
    assert names_in(openstack_demo.json(*listing, "--private")) == [name]
    openstack_neighbour.fails("image", "show", image_id)


def test_list_pages_sorts_and_filters(
    openstack_demo: Shell, openstack_admin: Shell, make: MakeImage, name: str
) -> None:
    ids = {n: make(f"{name}-{n}", DATA if n % 2 else None, tags=[name]) for n in range(1, 6)}
    listing = ("image", "list", "--tag", name)

    everything = names_in(openstack_demo.json(*listing))
    assert everything == [f"{name}-{n}" for n in range(1, 6)]
    assert names_in(openstack_demo.json(*listing, "--sort", "name:desc")) == everything[::-1]

    # The service hands out the newest first; the client then sorts the page it got by name.
    assert names_in(openstack_demo.json(*listing, "--limit", "2")) == everything[3:]
    after = openstack_demo.json(*listing, "--limit", "2", "--marker", ids[4])
    assert names_in(after) == everything[1:3]
    assert names_in(openstack_demo.json(*listing, "--marker", ids[2])) == everything[:1]
    assert names_in(openstack_demo.json(*listing, "--max-items", "3")) == everything[2:]

    active = openstack_demo.json(*listing, "--status", "active")
    assert names_in(active) == [f"{name}-{n}" for n in (1, 3, 5)]
    owned = openstack_admin.json(*listing, "--project", "demo", "--long")
    assert names_in(owned) == everything
    assert {row["Disk Format"] for row in owned} == {"raw"}
    assert {row["Protected"] for row in owned} == {False}
    assert openstack_admin.json(*listing, "--project", "neighbours") == []


def test_owner_is_changed_by_the_administrator_alone(
    openstack_admin: Shell,
    openstack_demo: Shell,
    openstack_neighbour: Shell,
    make: MakeImage,
    cloud: Cloud,
    name: str,
) -> None:
    image_id = make(name, None)
    demo_id = cloud.project_id("transom-demo")

    openstack_demo.fails("image", "set", "--project", demo_id, image_id)
    openstack_admin.runs("image", "set", "--project", "neighbours", image_id)
    openstack_demo.fails("image", "show", image_id)
    assert openstack_neighbour.json("image", "show", image_id)["id"] == image_id
    openstack_admin.runs("image", "set", "--project", "demo", image_id)


def test_reader_may_look_but_not_touch(
    cloud: Cloud, make: MakeImage, name: str, tmp_path: Path
) -> None:
    image_id = make(name)
    reader = cloud.openstack("reader")

    assert names_in(reader.json("image", "list", "--name", name)) == [name]
    reader.fails("image", "save", "--file", str(tmp_path / "no"), image_id)
    assert DATA[:10] not in (tmp_path / "no").read_bytes()
    assert "403" in reader.fails("image", "set", "--name", "mine", image_id)
    assert "delete_image" in reader.fails("image", "delete", image_id)
    assert "add_image" in reader.fails("image", "create", f"{name}-other")


def test_content_that_is_not_what_it_says_is_refused_and_taken_back(
    openstack_demo: Shell, name: str, tmp_path: Path
) -> None:
    source = tmp_path / "text"
    source.write_bytes(DATA)

    said = openstack_demo.fails(
        "image", "create", name, "--disk-format", "qcow2", "--file", str(source)
    )

    assert "415" in said
    # The client takes back what it could not fill.
    assert openstack_demo.json("image", "list", "--name", name) == []


def test_names_in_every_script_come_back_as_they_were_typed(
    openstack_demo: Shell, make: MakeImage, name: str
) -> None:
    strange = f'{name} Fenêtre 窓 окно, "quoted" & <b>'
    image_id = make(name, None)

    openstack_demo.runs(
        *("image", "set", "--name", strange, "--property", "beschriftung=größer"),
        *("--tag", "windöw", image_id),
    )

    shown = openstack_demo.json("image", "show", strange)
    assert shown["id"] == image_id
    assert shown["name"] == strange
    assert shown["properties"]["beschriftung"] == "größer"
    assert shown["tags"] == ["windöw"]
    assert names_in(openstack_demo.json("image", "list", "--tag", "windöw")) == [strange]
    openstack_demo.runs("image", "unset", "--tag", "windöw", image_id)
    assert openstack_demo.json("image", "show", image_id)["tags"] == []
