"""Imports with the real clients: staged, fetched and copied data, and the tasks that bring it in."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openstack.connection import Connection

from tests.api.configs import SLOW_AND_FAST
from tests.conftest import configured
from tests.interop.clients.commands import Preloaded, Shell
from tests.interop.conftest import Cloud
from tests.support.importing import FROM_LOOPBACK
from tests.support.server import Config, merged
from tests.support.web import Web

pytestmark = pytest.mark.interop

STORES: Config = merged(FROM_LOOPBACK, SLOW_AND_FAST)
DATA = b"transom bar " * 20_000


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, preloaded: Preloaded) -> Iterator[Cloud]:
    """A cloud with two stores, which may read from this machine."""
    with configured(tmp_path_factory.mktemp("imports"), STORES) as server:
        yield Cloud(server, tmp_path_factory.mktemp("home"), preloaded)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Where the data is to be had."""
    with Web() as web:
        yield web.put("disk.raw", DATA)


@pytest.fixture(scope="module")
def openstack(stores: Cloud) -> Shell:
    """`openstack` as a member of the demo project."""
    return stores.openstack("transom-demo")


@pytest.fixture(scope="module")
def openstack_root(stores: Cloud) -> Shell:
    """`openstack` as the administrator."""
    return stores.openstack("transom")


@pytest.fixture(scope="module")
def glance(stores: Cloud) -> Shell:
    """`glance` as a member of the demo project."""
    return stores.glance("transom-demo")


@pytest.fixture(scope="module")
def sdk(stores: Cloud) -> Connection:
    """openstacksdk as a member of the demo project."""
    return stores.sdk("transom-demo")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A file to stage."""
    path = tmp_path / "data.img"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def image_id(sdk: Connection) -> str:
    """A queued image."""
    return new_image(sdk)


def new_image(sdk: Connection, data: bytes | None = None) -> str:
    """An image, queued or with data."""
    image = sdk.image.create_image(
        f"imports-{uuid.uuid4().hex}",
        data=data,
        disk_format="raw",
        container_format="bare",
        allow_duplicates=True,
    )
    return str(image.id)


def active(stores: Cloud, image_id: str) -> dict[str, Any]:
    """The image, as soon as it is active and nothing imports into it."""
    glance = stores.glance_library("transom-demo")
    deadline = time.monotonic() + 60
    while True:
        image: dict[str, Any] = dict(glance.images.get(image_id))
        if image["status"] == "active" and not image.get("os_glance_importing_to_stores"):
            return image
        assert image["status"] in ("queued", "uploading", "importing", "active"), image
        assert "last_error" not in image, image
        assert time.monotonic() < deadline, image
        time.sleep(0.2)


def id_in(told: str) -> str:
    """The id of an image in a table that glance printed."""
    found = re.search(r"\| id +\| ([0-9a-f-]{36})", told)
    assert found, told
    return found[1]


# --- openstack -----------------------------------------------------------------------------------


def test_openstack_stages_and_imports(
    stores: Cloud, openstack: Shell, data: Path, image_id: str
) -> None:
    openstack.runs("image", "stage", "--file", str(data), image_id)
    assert openstack.json("image", "show", image_id)["status"] == "uploading"
    openstack.runs("image", "import", "--method", "glance-direct", "--wait", image_id)
    assert active(stores, image_id)["stores"] == "slow"


def test_openstack_imports_where_there_is_one_store(cloud: Cloud, data: Path) -> None:
    image_id = new_image(cloud.sdk("transom-demo"))
    openstack = cloud.openstack("transom-demo")
    openstack.runs("image", "stage", "--file", str(data), image_id)
    openstack.runs("image", "import", "--method", "glance-direct", image_id)
    assert active(cloud, image_id)["size"] == len(DATA)


def test_openstack_imports_what_the_web_has(
    stores: Cloud, openstack: Shell, image_id: str, url: str
) -> None:
    openstack.runs(
        "image", "import", "--method", "web-download", "--uri", url, "--store", "fast",
        "--wait", "--", image_id,
    )  # fmt: skip
    image = active(stores, image_id)
    assert (image["stores"], image["size"]) == ("fast", len(DATA))


def test_openstack_fills_all_stores(
    stores: Cloud, openstack: Shell, image_id: str, url: str
) -> None:
    openstack.runs(
        "image", "import", "--method", "web-download", "--uri", url, "--all-stores",
        "--allow-failure", image_id,
    )  # fmt: skip
    assert set(active(stores, image_id)["stores"].split(",")) == {"slow", "fast"}


def test_openstack_copies_between_stores(
    stores: Cloud, openstack: Shell, openstack_root: Shell, sdk: Connection
) -> None:
    image_id = new_image(sdk, DATA)
    # The command says nothing of the 403 that it gets.
    openstack.runs("image", "import", "--method", "copy-image", "--all-stores", image_id)
    assert openstack.json("image", "show", image_id)["properties"]["stores"] == "slow"
    openstack_root.runs(
        "image", "import", "--method", "copy-image", "--store", "fast", "--disallow-failure",
        "--", image_id,
    )  # fmt: skip
    image = active(stores, image_id)
    assert set(image["stores"].split(",")) == {"slow", "fast"}


def test_openstack_sees_why_an_import_failed(openstack: Shell, image_id: str, url: str) -> None:
    openstack.runs("image", "import", "--method", "web-download", "--uri", f"{url}.none", image_id)
    deadline = time.monotonic() + 60
    while "last_error" not in (image := openstack.json("image", "show", image_id))["properties"]:
        assert time.monotonic() < deadline, image
        time.sleep(0.3)
    assert image["status"] == "queued"
    assert "404" in image["properties"]["last_error"]


def test_openstack_lists_and_shows_tasks(
    stores: Cloud, openstack: Shell, openstack_root: Shell, image_id: str, url: str
) -> None:
    openstack.runs("image", "import", "--method", "web-download", "--uri", url, image_id)
    active(stores, image_id)
    listed = openstack_root.json("image", "task", "list")
    newest = listed[0]
    assert (newest["Type"], newest["Status"]) == ("api_image_import", "success")
    assert openstack_root.json("image", "task", "list", "--status", "failure", "--limit", "1")
    shown = openstack_root.json("image", "task", "show", newest["ID"])
    assert shown["result"] == {"image_id": image_id}
    openstack.fails("image", "task", "list")


def test_openstack_knows_the_methods(openstack: Shell) -> None:
    told = openstack.runs("image", "import", "info").text
    for method in ("glance-direct", "web-download", "copy-image"):
        assert method in told


# --- glance --------------------------------------------------------------------------------------


def test_glance_stages_and_imports(stores: Cloud, glance: Shell, data: Path, image_id: str) -> None:
    glance.runs("image-stage", "--file", str(data), image_id)
    glance.runs("image-import", "--import-method", "glance-direct", image_id)
    assert active(stores, image_id)["size"] == len(DATA)
    told = glance.runs("image-tasks", image_id).text
    assert "success" in told
    assert "Copied" in told


def test_glance_creates_by_staging(stores: Cloud, glance: Shell, data: Path) -> None:
    told = glance.runs(
        "image-create-via-import", "--import-method", "glance-direct", "--disk-format", "raw",
        "--container-format", "bare", "--name", "via import", "--file", str(data),
        "--stores", "slow,fast",
    ).text  # fmt: skip
    assert set(active(stores, id_in(told))["stores"].split(",")) == {"slow", "fast"}


def test_glance_creates_from_the_web(stores: Cloud, glance: Shell, url: str) -> None:
    told = glance.runs(
        "image-create-via-import", "--import-method", "web-download", "--disk-format", "raw",
        "--container-format", "bare", "--name", "via the web", "--uri", url, "--all-stores", "True",
        "--allow-failure", "False",
    ).text  # fmt: skip
    assert set(active(stores, id_in(told))["stores"].split(",")) == {"slow", "fast"}


def test_glance_copies_between_stores(stores: Cloud, sdk: Connection) -> None:
    image_id = new_image(sdk, DATA)
    root = stores.glance("transom")
    root.runs("image-import", "--import-method", "copy-image", "--stores", "fast", image_id)
    assert set(active(stores, image_id)["stores"].split(",")) == {"slow", "fast"}
    said = root.fails("image-import", "--import-method", "copy-image", "--stores", "fast", image_id)
    assert "already present" in said


def test_glance_refuses_what_the_service_does_not_allow(glance: Shell, image_id: str) -> None:
    said = glance.fails(
        "image-import", "--import-method", "web-download", "--uri", "http://169.254.169.254/x",
        image_id,
    )  # fmt: skip
    assert "not allowed" in said


def test_glance_makes_lists_and_shows_tasks(stores: Cloud, url: str) -> None:
    root = stores.glance("transom")
    given = {
        "import_from": url,
        "import_from_format": "raw",
        "image_properties": {"name": "by a task"},
    }
    told = root.runs("task-create", "--type", "import", "--input", json.dumps(given)).text
    task_id = id_in(told)
    deadline = time.monotonic() + 60
    while "success" not in (told := root.runs("task-show", task_id).text):
        assert time.monotonic() < deadline, told
        assert "failure" not in told, told
        time.sleep(0.3)
    assert task_id in root.runs("task-list", "--sort-key", "id", "--sort-dir", "desc").text
    assert task_id in root.runs("task-list", "--status", "success", "--type", "import").text


def test_glance_tells_methods_and_stores(stores: Cloud, glance: Shell) -> None:
    assert "web-download" in glance.runs("import-info").text
    assert "Spinning disks" in glance.runs("stores-info").text
    assert "data_dir" in stores.glance("transom").runs("stores-info", "--detail").text


# --- openstacksdk --------------------------------------------------------------------------------


def test_sdk_creates_by_staging(stores: Cloud, sdk: Connection, data: Path) -> None:
    image = sdk.image.create_image(
        f"imports-{uuid.uuid4().hex}",
        filename=str(data),
        disk_format="raw",
        container_format="bare",
        use_import=True,
        wait=True,
    )
    shown = active(stores, image.id)
    assert shown["size"] == len(DATA)
    assert sdk.image.download_image(image.id).content == DATA


def test_sdk_stages_and_imports(stores: Cloud, sdk: Connection, image_id: str) -> None:
    image = sdk.image.get_image(image_id)
    sdk.image.stage_image(image, data=DATA)
    sdk.image.import_image(image, method="glance-direct", stores=["slow", "fast"])
    assert set(active(stores, image_id)["stores"].split(",")) == {"slow", "fast"}


def test_sdk_imports_what_the_web_has(
    stores: Cloud, sdk: Connection, image_id: str, url: str
) -> None:
    image = sdk.image.get_image(image_id)
    sdk.image.import_image(image, method="web-download", uri=url, stores=["fast"])
    assert active(stores, image_id)["stores"] == "fast"
    tasks = stores.glance_library("transom-demo").images.get_associated_image_tasks(image_id)
    assert [task["status"] for task in tasks["tasks"]] == ["success"]


def test_sdk_waits_for_a_task(stores: Cloud, url: str) -> None:
    root = stores.sdk("transom")
    given = {"import_from": url, "import_from_format": "raw", "image_properties": {"name": "x"}}
    task = root.image.create_task(type="import", input=given)
    done = root.image.wait_for_task(task, wait=60)
    assert root.image.get_image(done.result["image_id"]).status == "active"
    assert task.id in [each.id for each in root.image.tasks(type="import")]
