"""Operation by image status, for the states that uploads and actions reach (API §23)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.conftest import Actors
from tests.support.raw_http import RawConnection
from tests.support.server import Client, ServerProcess, told

STATES = ["queued", "saving", "active", "deactivated", "deleted"]
DATA = b"0123456789"


class Stateful(NamedTuple):
    """An image of the owner in one state."""

    state: str
    id: str
    tag: str = "there"

    @property
    def path(self) -> str:
        return f"/v2/images/{self.id}"


@pytest.fixture(params=STATES)
def stateful(
    request: pytest.FixtureRequest, server: ServerProcess, actors: Actors
) -> Iterator[Stateful]:
    """An image in each state."""
    state: str = request.param
    owner = actors.owner
    created = owner.create(
        disk_format="raw", container_format="bare", tags=["there"], custom="value"
    )
    image = Stateful(state, created["id"])
    connection: RawConnection | None = None
    if state in ("active", "deactivated", "deleted"):
        owner.upload(image.id, DATA)
    if state == "deactivated":
        assert owner.post(f"{image.path}/actions/deactivate").status_code == 204
    if state == "deleted":
        assert owner.delete(image.path).status_code == 204
    if state == "saving":
        connection = RawConnection(server.port)
        connection.send_head(
            "PUT",
            f"{image.path}/file",
            {
                "X-Auth-Token": owner.token or "",
                "Content-Type": "application/octet-stream",
                "Content-Length": "1000000",
            },
        )
        connection.send(DATA)
        deadline = time.monotonic() + 10
        while owner.show(image.id)["status"] != "saving" and time.monotonic() < deadline:
            time.sleep(0.01)
    if state != "deleted":
        assert owner.show(image.id)["status"] == state
    yield image
    if connection:
        connection.close()
    owner.delete(image.path)


def check(
    stateful: Stateful, expected: dict[str, int], client: Client, method: str, path: str, **how: Any
) -> None:
    """The request gets the status that the state's column says."""
    answer = client.request(method, f"{stateful.path}{path}", **how)
    assert answer.status_code == expected[stateful.state], f"{stateful.state}: {told(answer)}"


def column(queued: int, saving: int, active: int, deactivated: int) -> dict[str, int]:
    """A row of the table; deleted images are 404 throughout."""
    return dict(zip(STATES, (queued, saving, active, deactivated, 404), strict=True))


def json_patch(*operations: dict[str, Any]) -> dict[str, Any]:
    """Options of a PATCH request."""
    return {
        "json": list(operations),
        "headers": {"Content-Type": "application/openstack-images-v2.1-json-patch"},
    }


def test_show(stateful: Stateful, owner: Client) -> None:
    check(stateful, column(200, 200, 200, 200), owner, "GET", "")


def test_list(stateful: Stateful, owner: Client) -> None:
    listed = owner.list_ids(id=stateful.id)
    assert listed == ([] if stateful.state == "deleted" else [stateful.id])
    by_status = owner.list_ids(id=stateful.id, status=stateful.state)
    assert by_status == listed


def test_patch_property(stateful: Stateful, owner: Client) -> None:
    how = json_patch({"op": "add", "path": "/p", "value": "x"})
    check(stateful, column(200, 200, 200, 200), owner, "PATCH", "", **how)


def test_patch_base_attributes(stateful: Stateful, owner: Client) -> None:
    how = json_patch(
        {"op": "replace", "path": "/name", "value": "x"},
        {"op": "replace", "path": "/min_ram", "value": 5},
        {"op": "replace", "path": "/visibility", "value": "private"},
        {"op": "replace", "path": "/tags", "value": ["new"]},
    )
    check(stateful, column(200, 200, 200, 200), owner, "PATCH", "", **how)


@pytest.mark.parametrize(("name", "value"), [("disk_format", "qcow2"), ("container_format", "ovf")])
def test_patch_formats(stateful: Stateful, owner: Client, name: str, value: str) -> None:
    how = json_patch({"op": "replace", "path": f"/{name}", "value": value})
    check(stateful, column(200, 403, 403, 403), owner, "PATCH", "", **how)


def test_add_tag(stateful: Stateful, owner: Client) -> None:
    check(stateful, column(204, 204, 204, 204), owner, "PUT", "/tags/new")


def test_remove_tag(stateful: Stateful, owner: Client) -> None:
    check(stateful, column(204, 204, 204, 204), owner, "DELETE", "/tags/there")


def test_members(stateful: Stateful, owner: Client) -> None:
    check(stateful, column(200, 200, 200, 200), owner, "GET", "/members")
    how = {"json": {"member": "project"}}
    check(stateful, column(200, 200, 200, 200), owner, "POST", "/members", **how)
    check(stateful, column(204, 204, 204, 204), owner, "DELETE", "/members/project")


def test_upload(stateful: Stateful, owner: Client) -> None:
    how = {"content": b"data", "headers": {"Content-Type": "application/octet-stream"}}
    check(stateful, column(204, 409, 409, 409), owner, "PUT", "/file", **how)


def test_download(stateful: Stateful, owner: Client) -> None:
    check(stateful, column(204, 204, 200, 403), owner, "GET", "/file")
    how = {"headers": {"Range": "bytes=2-3"}}
    check(stateful, column(204, 204, 206, 403), owner, "GET", "/file", **how)


def test_download_by_an_admin(stateful: Stateful, admin: Client) -> None:
    check(stateful, column(204, 204, 200, 200), admin, "GET", "/file")
    how = {"headers": {"Range": "bytes=2-3"}}
    check(stateful, column(204, 204, 206, 206), admin, "GET", "/file", **how)


def test_deactivate(stateful: Stateful, owner: Client) -> None:
    check(stateful, column(403, 403, 204, 204), owner, "POST", "/actions/deactivate")


def test_reactivate(stateful: Stateful, owner: Client) -> None:
    check(stateful, column(403, 403, 204, 204), owner, "POST", "/actions/reactivate")


def test_delete(stateful: Stateful, owner: Client) -> None:
    check(stateful, column(204, 204, 204, 204), owner, "DELETE", "")


def test_saving_image_shows_no_digests_yet(stateful: Stateful, owner: Client) -> None:
    if stateful.state == "deleted":
        assert owner.get(stateful.path).status_code == 404
        return
    shown = owner.show(stateful.id)
    has_data = stateful.state in ("active", "deactivated")
    for name in ("checksum", "os_hash_algo", "os_hash_value", "virtual_size"):
        assert (shown[name] is not None) == has_data, name
