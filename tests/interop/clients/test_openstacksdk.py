"""openstacksdk: the whole image proxy for the core of the API, and the cloud layer above it."""

from __future__ import annotations

import hashlib
import io
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from openstack import exceptions
from openstack.connection import Connection
from openstack.image.v2.image import Image

from tests.interop.conftest import Cloud
from tests.interop.images.corpus import BootableImage

pytestmark = pytest.mark.interop

DATA = b"one small step for an image\n" * 10_000


@pytest.fixture(scope="module")
def connection(cloud: Cloud) -> Connection:
    """The demo user's connection."""
    return cloud.sdk("transom-demo")


@pytest.fixture(scope="module")
def admin(cloud: Cloud) -> Connection:
    """The administrator's connection."""
    return cloud.sdk("transom")


@pytest.fixture(scope="module")
def neighbour(cloud: Cloud) -> Connection:
    """The connection of a member of another project."""
    return cloud.sdk("neighbour")


@pytest.fixture
def name(connection: Connection) -> Iterator[str]:
    """A name prefix of the test's own; all images that begin with it are gone afterwards."""
    prefix = f"sdk-{uuid.uuid4().hex}"
    yield prefix
    for hidden in (False, True):
        for image in list(connection.image.images(is_hidden=hidden)):
            if image.name and image.name.startswith(prefix):
                connection.image.update_image(image.id, is_protected=False)
                connection.image.delete_image(image.id)


def make(connection: Connection, name: str, data: bytes | None = DATA, **more: object) -> Image:
    """An image with data, or queued when there is none."""
    options = {"disk_format": "raw", "container_format": "bare", "allow_duplicates": True, **more}
    return connection.image.create_image(name, data=data, **options)


def test_create_from_a_file_verifies_its_checksum(
    connection: Connection, bootable: dict[str, BootableImage], name: str
) -> None:
    source = bootable["grub-rescue-qcow2"]

    image = connection.image.create_image(
        name,
        filename=str(source.path),
        disk_format="qcow2",
        container_format="bare",
        validate_checksum=True,
        wait=True,
        tags=["sdk"],
        meta={"hw_cpu_cores": "2"},
        min_ram=128,
        min_disk=1,
        is_protected=False,
        visibility="private",
        architecture="x86_64",
        a_key="a value",
    )

    image = connection.image.get_image(image.id)
    assert image.status == "active"
    assert (image.size, image.hash_algo, image.hash_value) == (
        source.size_bytes,
        "sha512",
        source.sha512,
    )
    assert image.virtual_size == 5081088
    assert (image.min_ram, image.min_disk) == (128, 1)
    assert image.visibility == "private"
    assert image.tags == ["sdk"]
    assert image.hw_cpu_cores == 2
    assert image.architecture == "x86_64"
    assert image.properties["a_key"] == "a value"
    assert image.owner_id == connection.current_project_id


def test_create_of_what_is_there_already_changes_nothing(
    connection: Connection, name: str, tmp_path: Path
) -> None:
    source = tmp_path / "disk"
    source.write_bytes(DATA)
    options = {
        "filename": str(source),
        "disk_format": "raw",
        "container_format": "bare",
        "validate_checksum": True,
    }

    first = connection.image.create_image(name, **options)
    second = connection.image.create_image(name, **options)

    assert second.id == first.id
    assert [image.id for image in connection.image.images(name=name)] == [first.id]


def test_upload_to_a_queued_image_makes_it_active(connection: Connection, name: str) -> None:
    image = make(connection, name, None)
    assert image.status == "queued"
    assert image.size is None

    image.data = io.BytesIO(DATA)
    answer = image.upload(connection.image)

    assert answer.status_code == 204
    image = connection.image.wait_for_status(image, "active", wait=10)
    assert image.checksum == hashlib.md5(DATA).hexdigest()


def test_upload_image_call_creates_and_fills(connection: Connection, name: str) -> None:
    image = connection.image.upload_image(
        name=name, data=DATA, disk_format="raw", container_format="bare"
    )

    shown = connection.image.get_image(image.id)
    assert (shown.status, shown.size) == ("active", len(DATA))


def test_upload_of_an_iterator_goes_in_chunks(connection: Connection, name: str) -> None:
    image = make(connection, name, None)

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(DATA), 1000):
            yield DATA[start : start + 1000]

    answer = connection.image.put(
        f"/images/{image.id}/file",
        data=pieces(),
        headers={"Content-Type": "application/octet-stream"},
    )

    assert answer.status_code == 204
    assert connection.image.get_image(image.id).size == len(DATA)


def test_download_into_memory_file_stream_and_object(
    connection: Connection, name: str, tmp_path: Path
) -> None:
    image = make(connection, name)

    assert connection.image.download_image(image).content == DATA
    path = tmp_path / "image"
    connection.image.download_image(image, output=str(path))
    assert path.read_bytes() == DATA
    with io.BytesIO() as target:
        connection.image.download_image(image.id, output=target, chunk_size=777)
        assert target.getvalue() == DATA
    with connection.image.download_image(image.id, stream=True) as answer:
        assert answer.headers["Content-Length"] == str(len(DATA))
        assert answer.headers["Content-MD5"] == hashlib.md5(DATA).hexdigest()
        assert b"".join(answer.iter_content(4096)) == DATA


def test_find_by_name_by_id_and_among_hidden_ones(connection: Connection, name: str) -> None:
    image = make(connection, name, None)
    hidden = make(connection, f"{name}-hidden", None, meta={"is_hidden": True})

    assert connection.image.find_image(name).id == image.id
    assert connection.image.find_image(image.id).id == image.id
    assert connection.image.find_image(f"{name}-hidden").id == hidden.id
    assert connection.image.find_image(f"{name}-none") is None
    assert connection.image.find_image(str(uuid.uuid4())) is None
    with pytest.raises(exceptions.NotFoundException):
        connection.image.find_image(f"{name}-none", ignore_missing=False)
    make(connection, name, None)
    with pytest.raises(exceptions.DuplicateResource):
        connection.image.find_image(name)


def test_pages_follow_the_next_link_to_the_end(connection: Connection, name: str) -> None:
    made = [make(connection, f"{name}-{n}", None, tags=[name]).id for n in range(7)]

    assert [image.id for image in connection.image.images(tag=name, limit=3)] == made[::-1]
    ascending = connection.image.images(tag=name, limit=2, sort="created_at:asc,id:asc")
    assert {image.id for image in ascending} == set(made)
    by_name = connection.image.images(tag=name, sort_key="name", sort_dir="asc", limit=2)
    assert [image.id for image in by_name] == made
    page = connection.image.images(tag=name, limit=3, paginated=False)
    assert [image.id for image in page] == made[:3:-1]
    rest = connection.image.images(tag=name, marker=made[3], limit=2)
    assert [image.id for image in rest] == made[2::-1]


def test_list_without_a_limit_gives_more_than_one_page_of_the_service(
    connection: Connection, name: str
) -> None:
    made = [make(connection, f"{name}-{n:02}", None, tags=[name]).id for n in range(27)]

    assert [image.id for image in connection.image.images(tag=name)] == made[::-1]


def test_every_query_that_the_sdk_knows_filters(connection: Connection, name: str) -> None:
    full = make(connection, f"{name}-full", tags=[name, "second"])
    empty = make(connection, f"{name}-empty", None, tags=[name], is_protected=True)
    hidden = make(connection, f"{name}-hidden", None, tags=[name], meta={"is_hidden": True})
    private = make(connection, f"{name}-private", None, tags=[name], visibility="private")

    def found(**query: object) -> set[str]:
        return {image.id for image in connection.image.images(**{"tag": name, **query})}

    visible = {full.id, empty.id, private.id}
    assert found() == visible
    assert found(tag=[name, "second"]) == {full.id}
    assert found(name=f"{name}-full") == {full.id}
    assert found(name=f"in:{name}-full,{name}-empty") == {full.id, empty.id}
    assert found(id=full.id) == {full.id}
    assert found(status="active") == {full.id}
    assert found(status="queued") == {empty.id, private.id}
    assert found(visibility="private") == {private.id}
    assert found(visibility="all") == visible
    assert found(owner=connection.current_project_id) == visible
    assert found(owner="nobody") == set()
    assert found(size_min=len(DATA)) == {full.id}
    assert found(size_max=len(DATA) - 1) == set()
    # The SDK sends Python's `True`; the service knows `true` alone, so this one goes as text.
    assert found(protected="true") == {empty.id}
    assert found(is_hidden=True) == {hidden.id}
    assert found(member_status="all") == visible
    assert found(created_at=f"gte:{full.created_at}") == visible
    assert found(created_at="lt:2001-01-01") == set()
    assert found(updated_at="gt:2001-01-01T00:00:00Z") == visible


def test_update_sends_only_what_changed(connection: Connection, name: str) -> None:
    image = make(connection, name, None, keep="1", change="2", remove="3")
    image = connection.image.get_image(image.id)

    properties = {**image.properties, "change": "two", "added": "4"}
    del properties["remove"]
    updated = connection.image.update_image(
        image,
        name=f"{name}-new",
        min_disk=9,
        is_protected=True,
        is_hidden=True,
        os_distro="debian",
        properties=properties,
    )

    again = connection.image.get_image(updated.id)
    for seen in (updated, again):
        assert seen.name == f"{name}-new"
        assert seen.min_disk == 9
        assert (seen.is_protected, seen.is_hidden) == (True, True)
        assert seen.os_distro == "debian"
        kept = {key: seen.properties[key] for key in ("keep", "change", "added")}
        assert kept == {"keep": "1", "change": "two", "added": "4"}
        assert "remove" not in seen.properties


def test_update_by_id_replaces_all_tags(connection: Connection, name: str) -> None:
    # Given an image that it has read, the SDK would patch single positions of the list of tags,
    # which the Image API has never taken.
    image = make(connection, name, None, tags=["old", "older"])

    updated = connection.image.update_image(image.id, tags=["new"])

    assert updated.tags == ["new"]
    assert connection.image.update_image(image.id, tags=[]).tags == []


def test_update_image_properties_adds_to_those_that_are_there(
    connection: Connection, name: str
) -> None:
    image = connection.image.get_image(make(connection, name, None, shape="round").id)

    assert connection.image.update_image_properties(image=image, colour="red") is True

    properties = connection.image.get_image(image.id).properties
    assert (properties["shape"], properties["colour"]) == ("round", "red")


def test_tags_are_added_and_removed_one_by_one(connection: Connection, name: str) -> None:
    image = make(connection, name, None)

    connection.image.add_tag(image, "one")
    connection.image.add_tag(image, "zwei-drei")
    connection.image.add_tag(image, "one")
    assert set(connection.image.get_image(image.id).tags) == {"one", "zwei-drei"}
    connection.image.remove_tag(image, "one")
    assert connection.image.get_image(image.id).tags == ["zwei-drei"]


def test_members_from_invitation_to_removal(
    connection: Connection, neighbour: Connection, name: str
) -> None:
    image = make(connection, name)
    them = neighbour.current_project_id
    assert neighbour.image.find_image(image.id) is None

    member = connection.image.add_member(image, member_id=them)
    assert (member.member_id, member.status, member.image_id) == (them, "pending", image.id)
    assert member.created_at
    assert member.updated_at
    assert member.schema == "/v2/schemas/member"
    assert [found.member_id for found in connection.image.members(image)] == [them]
    assert neighbour.image.get_member(them, image).status == "pending"
    assert connection.image.find_member(them, image).member_id == them
    assert connection.image.find_member("nobody", image) is None

    assert list(neighbour.image.images(name=name)) == []
    accepted = neighbour.image.update_member(them, image, status="accepted")
    assert accepted.status == "accepted"
    assert [found.id for found in neighbour.image.images(name=name)] == [image.id]
    assert neighbour.image.download_image(image.id).content == DATA

    connection.image.remove_member(them, image)
    connection.image.remove_member(them, image)
    with pytest.raises(exceptions.NotFoundException):
        connection.image.remove_member(them, image, ignore_missing=False)
    assert neighbour.image.find_image(image.id) is None


def test_deactivated_image_keeps_its_bytes_from_all_but_administrators(
    connection: Connection, admin: Connection, name: str, tmp_path: Path
) -> None:
    image = make(connection, name)

    connection.image.deactivate_image(image)

    assert connection.image.get_image(image.id).status == "deactivated"
    refused = connection.image.get(f"/images/{image.id}/file")
    assert refused.status_code == 403
    assert admin.image.download_image(image.id).content == DATA
    connection.image.reactivate_image(image)
    assert connection.image.get_image(image.id).status == "active"
    assert connection.image.download_image(image.id).content == DATA


def test_delete_forgives_a_missing_image_unless_told_not_to(
    connection: Connection, name: str
) -> None:
    image = make(connection, name)

    connection.image.delete_image(image, ignore_missing=False)

    connection.image.wait_for_delete(image, wait=10)
    connection.image.delete_image(image)
    with pytest.raises(exceptions.NotFoundException):
        connection.image.delete_image(image, ignore_missing=False)
    with pytest.raises(exceptions.NotFoundException):
        connection.image.get_image(image.id)


@pytest.mark.parametrize("which", ["image", "images", "member", "members"])
def test_schemas_of_the_core_are_served(connection: Connection, which: str) -> None:
    schema = getattr(connection.image, f"get_{which}_schema")()

    assert schema.name == which
    assert schema.properties


def test_cloud_layer_drives_the_whole_life(
    connection: Connection, name: str, tmp_path: Path
) -> None:
    source = tmp_path / "disk"
    source.write_bytes(DATA)

    image = connection.create_image(
        name,
        filename=str(source),
        wait=True,
        disk_format="raw",
        container_format="bare",
        colour="green",
    )
    assert connection.get_image(name).id == image.id
    assert connection.get_image_by_id(image.id).name == name
    assert connection.get_image_id(name) == image.id
    assert [found.id for found in connection.search_images(name)] == [image.id]
    assert image.id in {found.id for found in connection.list_images(show_all=True)}
    assert connection.update_image_properties(image=image, name_or_id=name, colour="teal")
    target = tmp_path / "copy"
    connection.download_image(name, output_path=str(target))
    assert target.read_bytes() == DATA
    assert connection.delete_image(name, wait=True, timeout=10) is True
    assert connection.delete_image(name) is False


def test_service_announces_version_two_to_the_sdk(connection: Connection) -> None:
    assert connection.image.get_api_major_version()[0] == 2
    data = connection.image.get_endpoint_data()
    assert data.api_version[0] == 2
    assert data.url.rstrip("/").endswith("/v2")
    assert connection.has_service("image")
