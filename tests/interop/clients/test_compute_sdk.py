"""openstacksdk's compute proxy finds the image view in the catalog and works with it."""

from __future__ import annotations

import uuid

import pytest
from openstack import exceptions
from openstack.connection import Connection
from openstack.image.v2.image import Image

from tests.interop.conftest import Cloud

pytestmark = [pytest.mark.interop, pytest.mark.filterwarnings("ignore::Warning")]


@pytest.fixture(scope="module")
def connection(cloud: Cloud) -> Connection:
    """The demo user's connection."""
    return cloud.sdk("transom-demo")


@pytest.fixture
def image(connection: Connection) -> Image:
    """An active image with two properties."""
    made = connection.create_image(
        f"compute-{uuid.uuid4().hex}",
        data=b"seen through another window",
        disk_format="raw",
        container_format="bare",
        os_distro="debian",
        image_type="snapshot",
        validate_checksum=True,
        wait=True,
    )
    assert isinstance(made, Image)
    return made


def test_images_are_listed_shown_and_filtered(connection: Connection, image: Image) -> None:
    compute = connection.compute
    shown = compute.get_image(image.id)
    assert (shown.name, shown.status, shown.progress) == (image.name, "ACTIVE", 100)
    assert shown.size == len(b"seen through another window")
    assert shown.metadata["os_distro"] == "debian"
    assert [found.id for found in compute.images(name=image.name)] == [image.id]
    assert [found.id for found in compute.images(details=False, name=image.name)] == [image.id]
    assert list(compute.images(name=image.name, status="SAVING")) == []
    assert image.id in {found.id for found in compute.images(type="snapshot", limit=1)}
    assert compute.find_image(image.name).id == image.id


def test_metadata_is_read_set_and_removed(connection: Connection, image: Image) -> None:
    compute = connection.compute
    assert compute.get_image_metadata(image.id).metadata["os_distro"] == "debian"
    compute.set_image_metadata(image.id, role="web", os_distro="devuan")
    metadata = compute.get_image_metadata(image.id).metadata
    assert (metadata["role"], metadata["os_distro"]) == ("web", "devuan")
    compute.delete_image_metadata(image.id, ["role"])
    assert "role" not in compute.get_image_metadata(image.id).metadata
    assert connection.image.get_image(image.id).os_distro == "devuan"


def test_deleting_here_deletes_there(connection: Connection, image: Image) -> None:
    connection.compute.delete_image(image.id)
    assert connection.image.find_image(image.id) is None
    with pytest.raises(exceptions.NotFoundException):
        connection.compute.get_image(image.id)
