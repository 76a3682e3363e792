"""Locations as glanceclient and openstacksdk handle them, the older way and the newer one."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from glanceclient import exc

from tests.conftest import configured
from tests.interop.clients.commands import Preloaded
from tests.interop.conftest import Cloud
from tests.support.web import Web, allowing

pytestmark = pytest.mark.interop

DATA = os.urandom(100_000)
SHA512 = hashlib.sha512(DATA).hexdigest()


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with Web() as running:
        yield running


@pytest.fixture(scope="module")
def located(tmp_path_factory: pytest.TempPathFactory, preloaded: Preloaded) -> Iterator[Cloud]:
    """A cloud whose images can lie on web servers."""
    home = tmp_path_factory.mktemp("home")
    with configured(tmp_path_factory.mktemp("located"), allowing()) as server:
        yield Cloud(server, home, preloaded)


@pytest.fixture
def url(web: Web, request: pytest.FixtureRequest) -> str:
    """A URL of the test's own."""
    return web.put(request.node.name, DATA)


def queued(glance: Any) -> str:
    return str(glance.images.create(disk_format="raw", container_format="bare")["id"])


def until_active(glance: Any, image_id: str) -> Any:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        image = glance.images.get(image_id)
        if image["status"] == "active" and image["os_hash_value"]:
            return image
        time.sleep(0.1)
    raise AssertionError(image)


def test_glanceclient_adds_updates_and_deletes_locations(located: Cloud, url: str) -> None:
    admin = located.glance_library("transom")
    image_id = queued(admin)
    added = admin.images.add_location(image_id, url, {"a": "1"})
    assert added["status"] == "active"
    admin.images.add_location(image_id, f"{url}#2", {})
    updated = admin.images.update_location(image_id, url, {"b": "2"})
    assert updated["locations"] == [
        {"url": url, "metadata": {"b": "2"}},
        {"url": f"{url}#2", "metadata": {}},
    ]
    admin.images.delete_locations(image_id, {url})
    assert [each["url"] for each in admin.images.get(image_id)["locations"]] == [f"{url}#2"]
    with pytest.raises(exc.HTTPForbidden):
        admin.images.delete_locations(image_id, {f"{url}#2"})
    with pytest.raises(exc.HTTPNotFound):
        admin.images.delete_locations(image_id, {"http://nowhere.example.org/"})
    assert b"".join(admin.images.data(image_id)) == DATA


def test_glanceclient_adds_a_location_with_validation_data(located: Cloud, url: str) -> None:
    demo, admin = located.glance_library("transom-demo"), located.glance_library("transom")
    image_id = queued(demo)
    demo.images.add_image_location(
        image_id, url, {"os_hash_algo": "sha512", "os_hash_value": SHA512}
    )
    assert until_active(demo, image_id)["os_hash_value"] == SHA512
    listed = admin.images.get_image_locations(image_id)
    assert list(listed) == [{"url": url, "metadata": {}}]
    assert b"".join(demo.images.data(image_id)) == DATA
    with pytest.raises(exc.HTTPConflict):
        demo.images.add_image_location(image_id, url)


def test_the_glance_command_line_knows_both_ways(located: Cloud, url: str) -> None:
    library = located.glance_library("transom")
    shell = located.glance("transom")
    old, new = queued(library), queued(library)
    shell.runs("location-add", "--url", url, "--metadata", '{"x": "y"}', old)
    shell.runs("location-add", "--url", f"{url}#2", old)
    shell.runs("location-update", "--url", url, "--metadata", '{"x": "z"}', old)
    shell.runs("location-delete", "--url", f"{url}#2", old)
    assert library.images.get(old)["locations"] == [{"url": url, "metadata": {"x": "z"}}]
    given = json.dumps({"os_hash_algo": "sha512", "os_hash_value": SHA512})
    shell.runs("add-location", "--url", url, "--validation-data", given, new)
    assert until_active(library, new)["os_hash_value"] == SHA512


def test_openstacksdk_adds_and_lists_locations(located: Cloud, url: str) -> None:
    connection = located.sdk("transom")
    if not hasattr(connection.image, "add_image_location"):
        pytest.skip("this openstacksdk does not know locations")
    glance = located.glance_library("transom")
    image_id = queued(glance)
    given = {"os_hash_algo": "sha512", "os_hash_value": SHA512}
    connection.image.add_image_location(image_id, url, validation_data=given)
    until_active(glance, image_id)
    listed = list(connection.image.image_locations(image_id))
    assert [(each.url, each.metadata) for each in listed] == [(url, {})]
    assert connection.image.download_image(image_id).content == DATA
