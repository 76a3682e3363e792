"""Delayed deletion: the data waits, the scrubber removes it, the operator restores (lifecycle §4)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.api.checks import queued
from tests.conftest import Running, ServerWith
from tests.support.copies import add_copy
from tests.support.operator import operate
from tests.support.server import Config, merged, told

LONG: Config = {
    "delete": {"delayed": True, "scrub_after_seconds": 3600},
    "stores": {
        "default": "main",
        "main": {"driver": "file", "path": "<data>/images"},
        "second": {"driver": "file", "path": "<data>/second"},
    },
}
AT_ONCE: Config = merged(LONG, {"delete": {"scrub_after_seconds": 0}})
DATA = b"what is gone may come back, " * 5_000
SWEPT_SECONDS = 75.0
"""The service sweeps every thirty seconds, and leaves alone what was deleted in the last ten."""


@pytest.fixture
def long(server_with: ServerWith) -> Running:
    """A server that keeps the data of deleted images for an hour."""
    return server_with(LONG)


def uploaded(running: Running, **attributes: object) -> str:
    """An active image in `main`."""
    image_id = queued(running.demo, **attributes)
    running.demo.upload(image_id, DATA)
    return image_id


def files_of(running: Running, image_id: str) -> list[Path]:
    """The files of an image in both stores."""
    return [
        path
        for name in ("main", "second")
        for path in running.server.stored_files(name)
        if image_id in path.name
    ]


def deleted(running: Running, image_id: str) -> None:
    """Delete the image."""
    answer = running.demo.delete(f"/v2/images/{image_id}")
    assert answer.status_code == 204, told(answer)
    assert running.demo.get(f"/v2/images/{image_id}").status_code == 404


def test_a_deleted_image_is_listed_restored_and_whole(long: Running, mark: str) -> None:
    image_id = uploaded(long, name="kept", tags=[mark], colour="red")
    add_copy(long.server, image_id, "second")
    before = long.demo.show(image_id)
    deleted(long, image_id)
    assert len(files_of(long, image_id)) == 2
    listed = operate(long.server, "image", "deleted", "--json")
    assert listed.status == 0, listed
    [row] = [row for row in listed.json() if row["id"] == image_id]
    assert (row["name"], row["size_bytes"]) == ("kept", len(DATA))
    assert row["stores"] == ["main", "second"]
    assert row["deleted_at"] < row["scrubbed_from"]
    done = operate(long.server, "image", "restore", image_id, "--json")
    assert done.status == 0, done
    assert done.json() == {
        "id": image_id,
        "name": "kept",
        "status": "active",
        "stores": ["main", "second"],
    }
    after = long.demo.show(image_id)
    assert {name for name in before if before[name] != after[name]} <= {"updated_at"}
    assert long.demo.list_ids(tag=mark) == [image_id]
    assert long.demo.list_ids(colour="red", tag=mark) == [image_id]
    assert long.demo.get(f"/v2/images/{image_id}/file").content == DATA


def test_a_deactivated_image_comes_back_deactivated(long: Running) -> None:
    image_id = uploaded(long)
    long.demo.post(f"/v2/images/{image_id}/actions/deactivate")
    deleted(long, image_id)
    assert operate(long.server, "image", "restore", image_id).status == 0
    shown = long.demo.show(image_id)
    assert shown["status"] == "deactivated"
    assert not [name for name in shown if name.startswith("os_glance")]
    assert long.demo.get(f"/v2/images/{image_id}/file").status_code == 403
    assert long.admin.get(f"/v2/images/{image_id}/file").content == DATA


@pytest.mark.parametrize("state", ["active", "queued", "deleted", "unknown"])
def test_nothing_else_is_restored(long: Running, state: str) -> None:
    image_id = "11111111-2222-4333-8444-555555555555"
    if state != "unknown":
        image_id = uploaded(long) if state == "active" else queued(long.demo)
    if state == "deleted":
        deleted(long, image_id)
    done = operate(long.server, "image", "restore", image_id)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("transom: ")
    assert image_id in done.err
    if state == "active":
        assert long.demo.show(image_id)["status"] == "active"


@pytest.mark.parametrize("damage", ["missing", "cut short"])
def test_an_image_whose_data_is_damaged_is_not_restored(long: Running, damage: str) -> None:
    image_id = uploaded(long)
    deleted(long, image_id)
    [path] = files_of(long, image_id)
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(DATA[:10])
    done = operate(long.server, "image", "restore", image_id)
    assert done.status == 1
    assert image_id in done.err
    assert long.demo.get(f"/v2/images/{image_id}").status_code == 404
    path.write_bytes(DATA)
    assert operate(long.server, "image", "restore", image_id).status == 0


def test_a_restored_image_can_be_deleted_and_restored_again(long: Running) -> None:
    image_id = uploaded(long)
    for _ in range(2):
        deleted(long, image_id)
        assert operate(long.server, "image", "restore", image_id).status == 0
    assert long.demo.get(f"/v2/images/{image_id}/file").content == DATA


def test_the_sweep_leaves_alone_what_has_to_wait(long: Running) -> None:
    image_id = uploaded(long)
    deleted(long, image_id)
    done = operate(long.server, "sweep", "--apply", "--orphans", "--grace", "0", "--json")
    assert done.status == 0, done
    assert image_id not in done.out
    assert len(files_of(long, image_id)) == 1


def test_the_scrubber_removes_the_data_by_itself_and_then_it_is_too_late(
    server_with: ServerWith,
) -> None:
    running = server_with(AT_ONCE)
    image_id = uploaded(running)
    add_copy(running.server, image_id, "second")
    withdrawn = uploaded(running)
    add_copy(running.server, withdrawn, "second")
    assert running.admin.delete(f"/v2/stores/second/{withdrawn}").status_code == 204
    deleted(running, image_id)
    assert len(files_of(running, image_id)) == 2
    deadline = time.monotonic() + SWEPT_SECONDS
    while files_of(running, image_id) or len(files_of(running, withdrawn)) > 1:
        assert time.monotonic() < deadline, "nothing was scrubbed"
        time.sleep(0.5)
    assert running.demo.show(withdrawn)["stores"] == "main"
    assert running.demo.get(f"/v2/images/{withdrawn}/file").content == DATA
    done = operate(running.server, "image", "restore", image_id)
    assert (done.status, done.out) == (1, "")
    assert running.demo.post("/v2/images", json={"id": image_id}).status_code == 409
