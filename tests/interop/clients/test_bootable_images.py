"""Real bootable images, up with `openstack`, down with three clients, judged by QEMU.

Each image of the corpus goes up with the `openstack` program, is found again by name, property and
tag, comes down byte for byte with glanceclient, openstacksdk and `openstack` itself, is accepted by
qemu-img, and boots.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.interop.clients import commands
from tests.interop.clients.commands import Shell
from tests.interop.conftest import Cloud
from tests.interop.images import corpus, qemu
from tests.interop.images.corpus import BootableImage

pytestmark = pytest.mark.interop

NAMES = [kind.name for kind in corpus.KINDS]
MADE = [kind.name for kind in corpus.KINDS if not kind.shipped]
CHECKABLE = [kind.name for kind in corpus.KINDS if kind.qemu_format in qemu.CHECKABLE]

Shown = dict[str, Any]


def sha512(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha512(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def uploaded(cloud: Cloud, bootable: dict[str, BootableImage]) -> dict[str, Shown]:
    """Every image of the corpus as `openstack image create` showed it, two uploads at a time.

    Only the file that `transom serve` wrote tells the program where to go and who it is.
    """
    environment = commands.environment(cloud.home, OS_CLIENT_CONFIG_FILE=str(cloud.clouds_yaml))

    def create(program: commands.Runner, image: BootableImage) -> Shown:
        shell = Shell(program, environment, "--os-cloud", "transom-demo")
        shown: Shown = shell.json(
            *("image", "create", image.name, "--file", str(image.path)),
            *("--disk-format", image.kind.disk_format),
            *("--container-format", image.kind.container_format),
            *("--property", f"corpus_name={image.name}", "--property", "os_type=linux"),
            *("--tag", "bootable", "--tag", f"corpus:{image.name}"),
        )
        return shown

    def run(arguments: list[str], environment: Any, stdin: Path | None = None) -> commands.Answer:
        return commands.run_program("openstack", arguments, environment, stdin)

    with ThreadPoolExecutor(2) as pool:
        shown = pool.map(lambda image: create(run, image), bootable.values())
        return dict(zip(bootable, shown, strict=True))


@pytest.fixture(scope="module")
def downloaded(
    cloud: Cloud, uploaded: dict[str, Shown], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Every image as `glance image-download` wrote it, under its name."""
    folder = tmp_path_factory.mktemp("downloaded")
    glance = cloud.glance("transom-demo")
    for name, shown in uploaded.items():
        glance.runs("image-download", "--file", str(folder / name), shown["id"])
    return {name: folder / name for name in uploaded}


@pytest.mark.parametrize("name", NAMES)
def test_image_is_active_with_the_size_and_hash_of_the_file(
    uploaded: dict[str, Shown], bootable: dict[str, BootableImage], name: str
) -> None:
    image, shown = bootable[name], uploaded[name]

    assert shown["status"] == "active"
    assert shown["size"] == image.size_bytes
    assert shown["properties"]["os_hash_algo"] == "sha512"
    assert shown["properties"]["os_hash_value"] == image.sha512
    assert shown["checksum"] == hashlib.md5(image.path.read_bytes()).hexdigest()
    assert shown["disk_format"] == image.kind.disk_format
    assert shown["container_format"] == image.kind.container_format
    assert shown["properties"]["corpus_name"] == name
    assert sorted(shown["tags"]) == ["bootable", f"corpus:{name}"]


@pytest.mark.parametrize("name", NAMES)
def test_virtual_size_is_what_a_guest_sees(
    uploaded: dict[str, Shown], bootable: dict[str, BootableImage], name: str
) -> None:
    image = bootable[name]
    if image.kind.container_format != "bare":
        assert "virtual_size" not in uploaded[name], "only bare containers are inspected"
        return

    if image.kind.disk_format == "iso":
        volume = image.path.read_bytes()[32768:34816]
        blocks = int.from_bytes(volume[80:84], "little")
        expected = blocks * int.from_bytes(volume[128:130], "little")
    else:
        expected = qemu.info(image.path, image.kind.qemu_format)["virtual-size"]
    assert uploaded[name]["virtual_size"] == expected


@pytest.mark.parametrize("name", NAMES)
def test_image_is_listed_by_name_property_and_tag(
    openstack_demo: Shell, uploaded: dict[str, Shown], name: str
) -> None:
    wanted = [{"ID": uploaded[name]["id"], "Name": name, "Status": "active"}]

    assert openstack_demo.json("image", "list", "--name", name) == wanted
    assert openstack_demo.json("image", "list", "--property", f"corpus_name={name}") == wanted
    by_tags = ("--tag", "bootable", "--tag", f"corpus:{name}")
    assert openstack_demo.json("image", "list", *by_tags) == wanted


def test_service_itself_filters_by_property(cloud: Cloud, uploaded: dict[str, Shown]) -> None:
    # `openstack image list --property` filters in the client; glanceclient asks the service.
    glance = cloud.glance_library("transom-demo")

    for name, shown in uploaded.items():
        found = list(glance.images.list(filters={"corpus_name": name}))
        assert [image["id"] for image in found] == [shown["id"]]
    linux = list(glance.images.list(filters={"os_type": "linux", "tag": ["bootable"]}))
    assert {image["id"] for image in linux} == {shown["id"] for shown in uploaded.values()}


def test_all_images_are_listed_by_their_common_tag(
    openstack_demo: Shell, uploaded: dict[str, Shown]
) -> None:
    listed = openstack_demo.json("image", "list", "--tag", "bootable", "--long")

    assert {row["ID"] for row in listed} == {shown["id"] for shown in uploaded.values()}
    assert [row["Name"] for row in listed] == sorted(uploaded)
    for row in listed:
        assert row["Size"] == uploaded[row["Name"]]["size"]
        assert row["Checksum"] == uploaded[row["Name"]]["checksum"]
        assert row["Hash Value"] == uploaded[row["Name"]]["properties"]["os_hash_value"]


@pytest.mark.parametrize("name", NAMES)
def test_glance_command_downloads_the_same_bytes(
    downloaded: dict[str, Path], bootable: dict[str, BootableImage], name: str
) -> None:
    assert sha512(downloaded[name]) == bootable[name].sha512


@pytest.mark.parametrize("name", NAMES)
def test_glanceclient_library_downloads_the_same_bytes(
    cloud: Cloud, uploaded: dict[str, Shown], bootable: dict[str, BootableImage], name: str
) -> None:
    body = cloud.glance_library("transom-demo").images.data(uploaded[name]["id"])

    assert len(body) == bootable[name].size_bytes
    assert b"".join(body) == bootable[name].path.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_openstacksdk_downloads_and_verifies_the_same_bytes(
    cloud: Cloud,
    uploaded: dict[str, Shown],
    bootable: dict[str, BootableImage],
    tmp_path: Path,
    name: str,
) -> None:
    connection = cloud.sdk("transom-demo")
    target = tmp_path / name

    connection.image.download_image(uploaded[name]["id"], output=str(target))

    assert sha512(target) == bootable[name].sha512
    # Without `output` the bytes come back in the answer, verified before they are handed out.
    answer = connection.image.download_image(uploaded[name]["id"])
    assert hashlib.sha512(answer.content).hexdigest() == bootable[name].sha512


def test_openstack_command_saves_the_same_bytes(
    openstack_demo: Shell,
    uploaded: dict[str, Shown],
    bootable: dict[str, BootableImage],
    tmp_path: Path,
) -> None:
    name = "grub-rescue-qcow2"
    target = tmp_path / name

    openstack_demo.runs("image", "save", "--file", str(target), name)
    printed = openstack_demo.runs("image", "save", uploaded[name]["id"]).out

    assert sha512(target) == bootable[name].sha512
    assert hashlib.sha512(printed).hexdigest() == bootable[name].sha512


@pytest.mark.parametrize("name", CHECKABLE)
def test_qemu_finds_no_error_in_the_download(
    downloaded: dict[str, Path], bootable: dict[str, BootableImage], name: str
) -> None:
    qemu.check(downloaded[name], bootable[name].kind.qemu_format)


@pytest.mark.parametrize("name", MADE)
def test_guest_would_read_the_disk_that_the_download_was_made_from(
    downloaded: dict[str, Path], bootable: dict[str, BootableImage], name: str
) -> None:
    qemu_format = bootable[name].kind.qemu_format

    assert qemu.info(downloaded[name], qemu_format)["format"] == qemu_format
    qemu.compare(downloaded[name], qemu_format, corpus.GRUB)


@pytest.mark.parametrize("name", NAMES)
def test_download_boots_to_its_banner(
    downloaded: dict[str, Path], bootable: dict[str, BootableImage], name: str
) -> None:
    image = bootable[name]

    qemu.boot_until(image.kind.banner, image.boot_arguments(downloaded[name]))
