"""Delete image: DELETE /v2/images/{id} (API §8)."""

from __future__ import annotations

import uuid

import pytest

from tests.conftest import Actors, MakeImage, ServerWith
from tests.support.server import Client, ServerProcess, told


def data_paths(server: ServerProcess, image_id: str, content: bytes) -> list[str]:
    """Files of the default store that hold exactly this content."""
    return [
        str(path)
        for path in server.stored_files()
        if path.stat().st_size == len(content) and path.read_bytes() == content
    ]


def test_delete_answers_204_without_a_body(owner: Client, image: MakeImage) -> None:
    answer = owner.delete(f"/v2/images/{image()['id']}")
    assert answer.status_code == 204
    assert answer.content == b""
    assert answer.headers["x-openstack-request-id"].startswith("req-")


@pytest.mark.parametrize("who", ["owner", "admin"])
def test_deleted_image_is_reached_by_no_operation(
    actors: Actors, image: MakeImage, who: str, mark: str
) -> None:
    image_id = image(actors.owner, data=mark.encode(), batch=mark, tags=["t"])["id"]
    assert actors.owner.delete(f"/v2/images/{image_id}").status_code == 204
    caller: Client = getattr(actors, who)
    path = f"/v2/images/{image_id}"
    answers = [
        caller.get(path),
        caller.delete(path),
        caller.patch(path, [{"op": "replace", "path": "/name", "value": "x"}]),
        caller.get(f"{path}/file"),
        caller.head(f"{path}/file"),
        caller.put_data(image_id, b"x"),
        caller.put(f"{path}/tags/t"),
        caller.delete(f"{path}/tags/t"),
        caller.get(f"{path}/members"),
        caller.post(f"{path}/members", json={"member": "x"}),
        caller.post(f"{path}/actions/deactivate"),
        caller.post(f"{path}/actions/reactivate"),
    ]
    assert [answer.status_code for answer in answers] == [404] * len(answers), [
        told(answer) for answer in answers
    ]
    assert caller.list_ids(batch=mark) == []
    assert caller.list_ids(id=image_id) == []
    assert caller.list_ids(status="deleted") == []


def test_deleting_removes_the_data(
    server: ServerProcess, owner: Client, image: MakeImage, mark: str
) -> None:
    content = mark.encode() * 1000
    image_id = image(data=content)["id"]
    assert len(data_paths(server, image_id, content)) == 1
    owner.delete(f"/v2/images/{image_id}")
    assert data_paths(server, image_id, content) == []


def test_data_that_is_already_missing_does_not_stop_the_delete(
    server: ServerProcess, owner: Client, image: MakeImage, mark: str
) -> None:
    content = mark.encode() * 1001
    image_id = image(data=content)["id"]
    for path in server.stored_files():
        if path.stat().st_size == len(content) and path.read_bytes() == content:
            path.unlink()
    assert owner.delete(f"/v2/images/{image_id}").status_code == 204
    assert owner.get(f"/v2/images/{image_id}").status_code == 404


def test_deactivated_image_is_deleted_with_its_data(
    server: ServerProcess, owner: Client, image: MakeImage, mark: str
) -> None:
    content = mark.encode() * 1002
    image_id = image(data=content)["id"]
    assert owner.post(f"/v2/images/{image_id}/actions/deactivate").status_code == 204
    assert owner.delete(f"/v2/images/{image_id}").status_code == 204
    assert data_paths(server, image_id, content) == []


def test_hidden_image_can_be_deleted(owner: Client, image: MakeImage) -> None:
    assert owner.delete(f"/v2/images/{image(os_hidden=True)['id']}").status_code == 204


@pytest.mark.parametrize("who", ["owner", "admin"])
def test_protected_image_is_deleted_by_nobody(actors: Actors, image: MakeImage, who: str) -> None:
    image_id = image(actors.owner, protected=True, data=b"kept")["id"]
    caller: Client = getattr(actors, who)
    answer = caller.delete(f"/v2/images/{image_id}")
    assert answer.status_code == 403, told(answer)
    assert caller.get(f"/v2/images/{image_id}/file").content == b"kept"


def test_removing_protection_allows_the_delete(owner: Client, image: MakeImage) -> None:
    path = f"/v2/images/{image(protected=True)['id']}"
    owner.patch(path, [{"op": "replace", "path": "/protected", "value": False}])
    assert owner.delete(path).status_code == 204


def test_body_on_delete_is_refused_and_changes_nothing(owner: Client, image: MakeImage) -> None:
    path = f"/v2/images/{image()['id']}"
    assert owner.request("DELETE", path, content=b"{}").status_code == 400
    assert owner.get(path).status_code == 200


def test_unknown_image_is_not_found(owner: Client) -> None:
    assert owner.delete(f"/v2/images/{uuid.uuid4()}").status_code == 404


def test_second_delete_is_not_found(owner: Client, image: MakeImage) -> None:
    path = f"/v2/images/{image()['id']}"
    assert [owner.delete(path).status_code for _ in range(2)] == [204, 404]


@pytest.mark.parametrize(
    ("visibility", "who", "status"),
    [
        ("private", "owner_reader", 403),
        ("private", "other", 404),
        ("private", "member", 404),
        ("private", "service", 404),
        ("shared", "other", 404),
        ("shared", "member", 403),
        ("shared", "member_reader", 403),
        ("community", "other", 403),
        ("community", "service", 404),
        ("public", "other", 403),
        ("public", "other_reader", 403),
        ("public", "norole", 404),
    ],
)
def test_only_the_owner_and_admins_delete(
    actors: Actors, image: MakeImage, visibility: str, who: str, status: int
) -> None:
    image_id = image(actors.admin, visibility="shared", owner=actors.owner.project_id)["id"]
    added = actors.owner.post(
        f"/v2/images/{image_id}/members", json={"member": actors.member.project_id}
    )
    assert added.status_code == 200, told(added)
    changed = actors.admin.patch(
        f"/v2/images/{image_id}", [{"op": "replace", "path": "/visibility", "value": visibility}]
    )
    assert changed.status_code == 200, told(changed)
    answer = getattr(actors, who).delete(f"/v2/images/{image_id}")
    assert answer.status_code == status, told(answer)
    assert actors.owner.get(f"/v2/images/{image_id}").status_code == 200


def test_delete_needs_a_token(server: ServerProcess, owner: Client, image: MakeImage) -> None:
    path = f"/v2/images/{image()['id']}"
    assert server.client().delete(path).status_code == 401
    assert owner.get(path).status_code == 200


class TestDelayed:
    """With `delete.delayed` the data waits, and nobody sees the image (lifecycle §4)."""

    CONFIG = {"delete": {"delayed": True, "scrub_after_seconds": 3600}}

    @pytest.mark.parametrize("deactivated", [False, True])
    def test_image_is_gone_for_the_api_and_its_id_stays_burnt(
        self, server_with: ServerWith, deactivated: bool, mark: str
    ) -> None:
        running = server_with(self.CONFIG)
        created = running.demo.create(disk_format="raw", container_format="bare", batch=mark)
        image_id = created["id"]
        running.demo.upload(image_id, b"waits")
        if deactivated:
            running.demo.post(f"/v2/images/{image_id}/actions/deactivate")
        assert running.demo.delete(f"/v2/images/{image_id}").status_code == 204
        for caller in (running.demo, running.admin):
            assert caller.get(f"/v2/images/{image_id}").status_code == 404
            assert caller.get(f"/v2/images/{image_id}/file").status_code == 404
            assert caller.delete(f"/v2/images/{image_id}").status_code == 404
            assert caller.list_ids(batch=mark) == []
            assert caller.list_ids(status="pending_delete") == []
            assert caller.post("/v2/images", json={"id": image_id}).status_code == 409

    def test_image_without_data_is_gone_too(self, server_with: ServerWith) -> None:
        running = server_with(self.CONFIG)
        image_id = running.demo.create()["id"]
        assert running.demo.delete(f"/v2/images/{image_id}").status_code == 204
        assert running.demo.get(f"/v2/images/{image_id}").status_code == 404
