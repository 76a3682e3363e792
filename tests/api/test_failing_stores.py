"""A store that is full, read-only or gone: what the API answers, and what stays (API §8, §9)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.api.checks import check_still_queued, queued
from tests.conftest import configured
from tests.support.disks import Disk, mounting, unmount
from tests.support.server import Client, ServerProcess, told

ROOM = 2 << 20


class SmallDisk(NamedTuple):
    """A server whose only store lies on a file system of two mebibytes."""

    server: ServerProcess
    client: Client
    volume: Disk

    def files(self) -> list[Path]:
        """Everything that lies in the store, complete or partial."""
        return sorted(path for path in self.volume.path.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDisk]:
    """One server and disk for all tests of this module."""
    path = tmp_path_factory.mktemp("disk")
    with mounting():
        disk = Disk(path, str(ROOM))
    config = {"stores": {"main": {"driver": "file", "path": str(path)}}}
    server = configured(tmp_path_factory.mktemp("small"), config)
    try:
        server.start()
        yield SmallDisk(server, server.log_in_to_cloud("transom-demo"), disk)
    finally:
        server.kill()
        unmount(path)


@pytest.fixture
def disk(mounted: SmallDisk) -> Iterator[SmallDisk]:
    """The disk, writable and empty before and after."""
    yield mounted
    mounted.volume.make_writable()
    for image_id in mounted.client.list_ids():
        mounted.client.delete(f"/v2/images/{image_id}")
    assert mounted.files() == [], "the last test left something in the store"


@pytest.mark.parametrize("chunked", [False, True])
def test_upload_to_a_full_store_is_413_and_leaves_nothing(disk: SmallDisk, chunked: bool) -> None:
    kept_id = queued(disk.client)
    kept = disk.client.upload(kept_id, b"k" * 500_000)
    before = disk.files()
    image_id = queued(disk.client)
    data = b"x" * (ROOM + 1)
    answer = disk.client.put_data(image_id, iter([data]) if chunked else data)
    assert answer.status_code == 413, told(answer)
    assert disk.files() == before
    check_still_queued(disk.client, image_id)
    assert disk.client.get(kept["file"]).content == b"k" * 500_000


def test_upload_to_a_read_only_store_is_503_and_leaves_the_image_queued(disk: SmallDisk) -> None:
    image_id = queued(disk.client)
    disk.volume.make_read_only()
    answer = disk.client.put_data(image_id, b"x" * 100_000)
    assert answer.status_code == 503, told(answer)
    disk.volume.make_writable()
    check_still_queued(disk.client, image_id)


def test_reading_goes_on_while_nothing_can_be_written(disk: SmallDisk) -> None:
    image_id = queued(disk.client)
    disk.client.upload(image_id, b"0123456789")
    disk.volume.make_read_only()
    path = f"/v2/images/{image_id}/file"
    assert disk.client.get(path).content == b"0123456789"
    assert disk.client.get(path, headers={"Range": "bytes=2-3"}).content == b"23"


def test_delete_that_the_store_refuses_keeps_the_image_whole(disk: SmallDisk) -> None:
    image_id = queued(disk.client)
    active = disk.client.upload(image_id, b"stays")
    disk.volume.make_read_only()
    answer = disk.client.delete(f"/v2/images/{image_id}")
    # Refused for lack of permission, or not possible now (API §8): both keep everything.
    assert answer.status_code in (403, 503), told(answer)
    assert disk.client.show(image_id) == active
    assert disk.client.get(f"/v2/images/{image_id}/file").content == b"stays"
    disk.volume.make_writable()
    assert disk.client.delete(f"/v2/images/{image_id}").status_code == 204
    assert disk.client.get(f"/v2/images/{image_id}").status_code == 404


def test_errors_of_a_store_name_no_path_of_the_server(disk: SmallDisk) -> None:
    image_id = queued(disk.client)
    disk.volume.make_read_only()
    answer = disk.client.put_data(image_id, b"x" * 100_000)
    assert answer.status_code == 503
    assert str(disk.volume.path) not in answer.text, (
        "where the data lies is the operator's business"
    )


def test_store_that_vanished_is_not_an_empty_one(disk: SmallDisk, tmp_path: Path) -> None:
    image_id = queued(disk.client)
    disk.client.upload(image_id, b"there")
    waiting_id = queued(disk.client)
    moved = tmp_path / "moved"
    # What an operator does by mistake: everything below the folder is gone for a while.
    moved.mkdir()
    for child in list(disk.volume.path.iterdir()):
        shutil.move(child, moved / child.name)
    download = disk.client.get(f"/v2/images/{image_id}/file")
    assert download.status_code in (404, 503), told(download)
    assert disk.client.show(image_id)["status"] == "active"
    upload = disk.client.put_data(waiting_id, b"x")
    assert upload.status_code in (204, 503), told(upload)
    for child in list(moved.iterdir()):
        shutil.copytree(child, disk.volume.path / child.name, dirs_exist_ok=True) if (
            child.is_dir()
        ) else shutil.copy2(child, disk.volume.path / child.name)
    assert disk.client.get(f"/v2/images/{image_id}/file").content == b"there"
