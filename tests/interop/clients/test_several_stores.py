"""Several stores with the real clients: what is there, where data goes, and how it leaves."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.configs import SLOW_AND_FAST
from tests.conftest import configured
from tests.interop.clients.commands import Preloaded, Shell
from tests.interop.conftest import Cloud
from tests.support.copies import add_copy

pytestmark = pytest.mark.interop

DATA = b"glazing bars " * 10_000


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, preloaded: Preloaded) -> Iterator[Cloud]:
    """A cloud with two stores."""
    with configured(tmp_path_factory.mktemp("stores"), SLOW_AND_FAST) as server:
        yield Cloud(server, tmp_path_factory.mktemp("home"), preloaded)


@pytest.fixture(scope="module")
def glance_admin(stores: Cloud) -> Shell:
    """`glance` as the administrator."""
    return stores.glance("transom")


@pytest.fixture(scope="module")
def glance_demo(stores: Cloud) -> Shell:
    """`glance` as a member of the demo project."""
    return stores.glance("transom-demo")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A file to upload."""
    path = tmp_path / "data.img"
    path.write_bytes(DATA)
    return path


def active(stores: Cloud, store: str | None = None, copy: bool = False) -> str:
    """An image with data in `store`, else in the default one, and a copy in `fast`."""
    connection = stores.sdk("transom-demo")
    image = connection.image.create_image(
        name=f"stores-{uuid.uuid4().hex}", data=DATA, disk_format="raw", container_format="bare"
    )
    if copy:
        add_copy(stores.server, image.id, store or "fast")
    return str(image.id)


def shown(stores: Cloud, image_id: str) -> str:
    """The stores that the image shows to the demo user."""
    image = stores.glance_library("transom-demo").images.get(image_id)
    found: str = image["stores"]
    return found


def test_glance_lists_the_stores(glance_demo: Shell, glance_admin: Shell) -> None:
    told = glance_demo.runs("stores-info").text
    for text in ("slow", "fast", "Spinning disks"):
        assert text in told
    assert "data_dir" in glance_admin.runs("stores-info", "--detail").text
    glance_demo.fails("stores-info", "--detail")


def test_glance_uploads_to_the_store_of_choice(
    stores: Cloud, glance_demo: Shell, data: Path
) -> None:
    for store in ("fast", "slow"):
        created = glance_demo.runs(
            "image-create", "--name", f"in-{store}", "--disk-format", "raw",
            "--container-format", "bare", "--file", str(data), "--store", store,
        )  # fmt: skip
        assert f"| stores           | {store}" in created.text
    waiting = stores.glance_library("transom-demo").images.create(
        name="waits", disk_format="raw", container_format="bare"
    )
    glance_demo.runs("image-upload", "--store", "fast", "--file", str(data), waiting["id"])
    assert shown(stores, waiting["id"]) == "fast"
    said = glance_demo.fails(
        "image-upload", "--store", "nowhere", "--file", str(data), waiting["id"]
    )
    assert "nowhere" in said


def test_glance_deletes_from_a_store(stores: Cloud, glance_admin: Shell) -> None:
    image_id = active(stores, copy=True)
    assert shown(stores, image_id) == "fast,slow"
    glance_admin.runs("stores-delete", "--store", "slow", image_id)
    assert shown(stores, image_id) == "fast"
    glance_admin.fails("stores-delete", "--store", "fast", image_id)
    assert shown(stores, image_id) == "fast"


def test_the_glance_library_deletes_from_a_store(stores: Cloud) -> None:
    image_id = active(stores, copy=True)
    glance = stores.glance_library("transom")
    assert [store["id"] for store in glance.images.get_stores_info()["stores"]] == ["slow", "fast"]
    details = glance.images.get_stores_info_detail()["stores"]
    assert [(store["type"], store["weight"]) for store in details] == [("file", 0), ("file", 10)]
    glance.images.delete_from_store("fast", image_id)
    assert glance.images.get(image_id)["stores"] == "slow"


def test_openstacksdk_knows_the_stores_and_deletes_from_one(stores: Cloud) -> None:
    demo, admin = stores.sdk("transom-demo"), stores.sdk("transom")
    found = list(demo.image.stores())
    assert [(store.id, store.description, bool(store.is_default)) for store in found] == [
        ("slow", "Spinning disks", True),
        ("fast", None, False),
    ]
    detailed = list(admin.image.stores(details=True))
    assert [store.properties["data_dir"] for store in detailed] == [
        str(stores.server.data / name) for name in ("slow", "fast")
    ]
    image_id = active(stores, copy=True)
    admin.image.delete_image(image_id, store="slow", ignore_missing=False)
    assert shown(stores, image_id) == "fast"
    content = demo.image.download_image(image_id).content
    assert content == DATA


def test_the_openstack_command_lists_the_stores(stores: Cloud) -> None:
    found = stores.openstack("transom-demo").json("image", "stores", "list")
    assert {store["ID"] for store in found} == {"slow", "fast"}
    stores.openstack("transom").runs("image", "stores", "list", "--detail")


def test_the_openstack_command_deletes_from_a_store(stores: Cloud) -> None:
    image_id = active(stores, copy=True)
    stores.openstack("transom").runs("image", "delete", "--store", "slow", image_id)
    assert shown(stores, image_id) == "fast"
