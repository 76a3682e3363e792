"""Actions: deactivate and reactivate (API §13)."""

from __future__ import annotations

import uuid

import pytest

from tests.conftest import Actors, MakeImage
from tests.support.server import Client, ServerProcess, told


def act(client: Client, image_id: str, action: str) -> int:
    """POST an action; the status of the answer."""
    return client.post(f"/v2/images/{image_id}/actions/{action}").status_code


def test_deactivate_and_reactivate(owner: Client, image: MakeImage) -> None:
    created = image(data=b"data")
    answer = owner.post(f"/v2/images/{created['id']}/actions/deactivate")
    assert answer.status_code == 204, told(answer)
    assert answer.content == b""
    deactivated = owner.show(created["id"])
    assert deactivated["status"] == "deactivated"
    unchanged = ("size", "checksum", "os_hash_value", "virtual_size", "disk_format")
    assert [deactivated[name] for name in unchanged] == [created[name] for name in unchanged]
    assert act(owner, created["id"], "reactivate") == 204
    assert owner.show(created["id"])["status"] == "active"
    assert owner.get(f"/v2/images/{created['id']}/file").content == b"data"


def test_repeating_an_action_changes_nothing(owner: Client, image: MakeImage) -> None:
    image_id = image(data=b"data")["id"]
    assert act(owner, image_id, "reactivate") == 204
    assert owner.show(image_id)["status"] == "active"
    assert [act(owner, image_id, "deactivate") for _ in range(2)] == [204, 204]
    assert owner.show(image_id)["status"] == "deactivated"


@pytest.mark.parametrize("action", ["deactivate", "reactivate"])
def test_queued_image_cannot_be_acted_on(owner: Client, image: MakeImage, action: str) -> None:
    image_id = image()["id"]
    assert act(owner, image_id, action) == 403
    assert owner.show(image_id)["status"] == "queued"


@pytest.mark.parametrize("action", ["deactivate", "reactivate"])
def test_body_is_refused(owner: Client, image: MakeImage, action: str) -> None:
    image_id = image(data=b"data")["id"]
    answer = owner.post(f"/v2/images/{image_id}/actions/{action}", content=b"{}")
    assert answer.status_code == 400, told(answer)
    assert owner.show(image_id)["status"] == "active"


@pytest.mark.parametrize("action", ["deactivate", "reactivate"])
@pytest.mark.parametrize(
    ("visibility", "who", "status"),
    [
        ("private", "owner", 204),
        ("private", "admin", 204),
        ("private", "owner_reader", 403),
        ("private", "other", 404),
        ("community", "other", 403),
        ("community", "service", 404),
        ("shared", "other", 404),
    ],
)
def test_hide_rule(
    actors: Actors, image: MakeImage, action: str, visibility: str, who: str, status: int
) -> None:
    image_id = image(actors.owner, data=b"data", visibility=visibility)["id"]
    if action == "reactivate":
        act(actors.owner, image_id, "deactivate")
    assert act(getattr(actors, who), image_id, action) == status
    before, after = {
        "deactivate": ("active", "deactivated"),
        "reactivate": ("deactivated", "active"),
    }[action]
    assert actors.owner.show(image_id)["status"] == (after if status == 204 else before)


def test_deactivated_data_is_for_admins_only(actors: Actors, image: MakeImage) -> None:
    image_id = image(actors.owner, data=b"data", visibility="community")["id"]
    act(actors.owner, image_id, "deactivate")
    for caller in (actors.owner, actors.owner_reader, actors.other):
        for headers in ({}, {"Range": "bytes=0-1"}):
            answer = caller.get(f"/v2/images/{image_id}/file", headers=headers)
            assert answer.status_code == 403, told(answer)
            assert answer.content != b"data"
    assert actors.admin.get(f"/v2/images/{image_id}/file").content == b"data"


def test_all_else_is_as_active(owner: Client, image: MakeImage) -> None:
    image_id = image(data=b"data")["id"]
    act(owner, image_id, "deactivate")
    path = f"/v2/images/{image_id}"
    changed = owner.patch(path, [{"op": "replace", "path": "/name", "value": "x"}])
    assert changed.status_code == 200, told(changed)
    assert owner.post(f"{path}/members", json={"member": "p"}).status_code == 200
    assert owner.put_data(image_id, b"again").status_code == 409
    assert owner.delete(path).status_code == 204


def test_unknown_image_and_action_are_not_found(owner: Client, image: MakeImage) -> None:
    assert act(owner, str(uuid.uuid4()), "deactivate") == 404
    assert act(owner, str(uuid.uuid4()), "reactivate") == 404
    assert act(owner, image(data=b"x")["id"], "explode") == 404


def test_actions_need_a_token(server: ServerProcess, image: MakeImage) -> None:
    image_id = image(data=b"x")["id"]
    assert act(server.client(), image_id, "deactivate") == 401
