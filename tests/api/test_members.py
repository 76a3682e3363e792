"""Members: sharing an image with projects (API §11)."""

from __future__ import annotations

import re
import uuid
from typing import Any

import httpx
import pytest

from tests.conftest import Actors, MakeImage
from tests.support.server import Client, ServerProcess, told

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def share(client: Client, image_id: str, project: Any) -> httpx.Response:
    """POST a member."""
    return client.post(f"/v2/images/{image_id}/members", json={"member": project})


def answer_share(client: Client, image_id: str, project: str, status: Any) -> httpx.Response:
    """PUT a member's status."""
    return client.put(f"/v2/images/{image_id}/members/{project}", json={"status": status})


@pytest.fixture
def shared(actors: Actors, image: MakeImage) -> str:
    """The id of an image of the owner, shared with the member project, pending."""
    image_id: str = image(actors.owner, data=b"shared data")["id"]
    answer = share(actors.owner, image_id, actors.member.project_id)
    assert answer.status_code == 200, told(answer)
    return image_id


class TestAdd:
    """POST …/members"""

    def test_new_member_is_pending(self, actors: Actors, image: MakeImage) -> None:
        image_id = image(actors.owner)["id"]
        answer = share(actors.owner, image_id, "some-project")
        assert answer.status_code == 200, "200, not 201: clients check it"
        member = answer.json()
        assert TIME.fullmatch(member["created_at"])
        assert member == {
            "member_id": "some-project",
            "image_id": image_id,
            "status": "pending",
            "created_at": member["created_at"],
            "updated_at": member["created_at"],
            "schema": "/v2/schemas/member",
        }

    def test_admin_adds_members_to_any_image(self, actors: Actors, image: MakeImage) -> None:
        assert share(actors.admin, image(actors.owner)["id"], "p").status_code == 200

    def test_own_project_may_be_added(self, actors: Actors, image: MakeImage) -> None:
        image_id = image(actors.owner)["id"]
        assert share(actors.owner, image_id, actors.owner.project_id).status_code == 200

    def test_unknown_projects_are_not_looked_up(self, actors: Actors, image: MakeImage) -> None:
        assert share(actors.owner, image(actors.owner)["id"], "no such project").status_code == 200

    def test_second_time_conflicts(self, actors: Actors, shared: str) -> None:
        answer = share(actors.owner, shared, actors.member.project_id)
        assert answer.status_code == 409, told(answer)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b'"x"',
            b"{}",
            b'{"member": ""}',
            b'{"member": null}',
            b'{"member": 1}',
            b'{"member": ["x"]}',
            b'{"member": {"id": "x"}}',
            b'{"member": true}',
            b'{"status": "accepted"}',
            b'{"member": "' + b"x" * 256 + b'"}',
            b'{"member": "\\u0000"}',
            b'{"member": "\\ud83d\\udc27"}',
        ],
        ids=lambda body: repr(body[:30]),
    )
    def test_wrong_body_is_refused(self, owner: Client, image: MakeImage, body: bytes) -> None:
        image_id = image()["id"]
        answer = owner.post(f"/v2/images/{image_id}/members", content=body)
        assert answer.status_code == 400, told(answer)
        assert owner.get(f"/v2/images/{image_id}/members").json()["members"] == []

    @pytest.mark.parametrize("visibility", ["private", "community"])
    def test_only_shared_images_take_members(
        self, owner: Client, image: MakeImage, visibility: str
    ) -> None:
        answer = share(owner, image(visibility=visibility)["id"], "p")
        assert answer.status_code == 403, told(answer)

    def test_public_images_take_no_members(self, admin: Client, image: MakeImage) -> None:
        assert share(admin, image(admin, visibility="public")["id"], "p").status_code == 403

    @pytest.mark.parametrize(
        ("who", "status"),
        [
            ("owner_reader", 403),
            ("member", 403),
            ("member_reader", 403),
            ("other", 404),
            ("service", 404),
            ("norole", 404),
        ],
    )
    def test_only_the_owner_and_admins_share(
        self, actors: Actors, shared: str, who: str, status: int
    ) -> None:
        answer = share(getattr(actors, who), shared, "another")
        assert answer.status_code == status, told(answer)

    def test_unknown_image_is_not_found(self, owner: Client) -> None:
        assert share(owner, str(uuid.uuid4()), "p").status_code == 404

    @pytest.mark.parametrize("status", ["pending", "accepted", "rejected"])
    def test_access_exists_from_the_moment_of_sharing_whatever_the_status(
        self, actors: Actors, shared: str, status: str
    ) -> None:
        answer_share(actors.member, shared, actors.member.project_id, status)
        assert actors.member.get(f"/v2/images/{shared}").status_code == 200
        assert actors.member.get(f"/v2/images/{shared}/file").content == b"shared data"
        assert actors.member_reader.get(f"/v2/images/{shared}").status_code == 200
        assert actors.other.get(f"/v2/images/{shared}").status_code == 404


class TestRead:
    """GET …/members and GET …/members/{project}"""

    def test_list_is_in_creation_order(self, owner: Client, image: MakeImage) -> None:
        image_id = image()["id"]
        projects = ["zebra", "ant", "mouse", "Bee"]
        for project in projects:
            share(owner, image_id, project)
        answer = owner.get(f"/v2/images/{image_id}/members")
        assert answer.status_code == 200
        document = answer.json()
        assert set(document) == {"members", "schema"}
        assert document["schema"] == "/v2/schemas/members"
        assert [member["member_id"] for member in document["members"]] == projects
        one = owner.get(f"/v2/images/{image_id}/members/ant").json()
        assert document["members"][1] == one

    def test_list_of_an_unshared_image_is_empty(self, owner: Client, image: MakeImage) -> None:
        answer = owner.get(f"/v2/images/{image()['id']}/members")
        assert answer.json() == {"members": [], "schema": "/v2/schemas/members"}

    @pytest.mark.parametrize("who", ["owner", "owner_reader", "admin"])
    def test_owner_and_admin_see_all_members(self, actors: Actors, shared: str, who: str) -> None:
        share(actors.owner, shared, "second")
        members = getattr(actors, who).get(f"/v2/images/{shared}/members").json()["members"]
        assert [each["member_id"] for each in members] == [actors.member.project_id, "second"]
        assert getattr(actors, who).get(f"/v2/images/{shared}/members/second").status_code == 200

    @pytest.mark.parametrize("who", ["member", "member_reader"])
    def test_a_member_sees_itself_only(self, actors: Actors, shared: str, who: str) -> None:
        share(actors.owner, shared, "second")
        caller: Client = getattr(actors, who)
        members = caller.get(f"/v2/images/{shared}/members").json()["members"]
        assert [each["member_id"] for each in members] == [actors.member.project_id]
        own = caller.get(f"/v2/images/{shared}/members/{actors.member.project_id}")
        assert own.status_code == 200, told(own)
        assert caller.get(f"/v2/images/{shared}/members/second").status_code == 404

    @pytest.mark.parametrize("who", ["other", "other_reader", "service", "norole"])
    def test_strangers_see_nothing(self, actors: Actors, shared: str, who: str) -> None:
        caller: Client = getattr(actors, who)
        assert caller.get(f"/v2/images/{shared}/members").status_code == 404
        path = f"/v2/images/{shared}/members/{actors.member.project_id}"
        assert caller.get(path).status_code == 404

    def test_unknown_member_is_not_found(self, owner: Client, shared: str) -> None:
        assert owner.get(f"/v2/images/{shared}/members/nobody").status_code == 404

    def test_unknown_image_is_not_found(self, owner: Client) -> None:
        assert owner.get(f"/v2/images/{uuid.uuid4()}/members").status_code == 404
        assert owner.get(f"/v2/images/{uuid.uuid4()}/members/p").status_code == 404

    @pytest.mark.parametrize("visibility", ["private", "community", "public"])
    def test_unshared_visibility_hides_the_members(
        self, actors: Actors, shared: str, visibility: str
    ) -> None:
        actors.admin.patch(
            f"/v2/images/{shared}", [{"op": "replace", "path": "/visibility", "value": visibility}]
        )
        project = actors.member.project_id
        for caller in (actors.owner, actors.admin):
            assert caller.get(f"/v2/images/{shared}/members").status_code == 403
            assert caller.get(f"/v2/images/{shared}/members/{project}").status_code == 404
            assert caller.delete(f"/v2/images/{shared}/members/{project}").status_code == 403
        assert share(actors.owner, shared, "new").status_code == 403
        refused = answer_share(actors.admin, shared, project, "accepted")
        assert refused.status_code == 403, told(refused)

    def test_members_sleep_while_the_image_is_private_and_come_back(
        self, actors: Actors, shared: str
    ) -> None:
        answer_share(actors.member, shared, actors.member.project_id, "accepted")
        for visibility, status in (("private", 404), ("shared", 200)):
            actors.owner.patch(
                f"/v2/images/{shared}",
                [{"op": "replace", "path": "/visibility", "value": visibility}],
            )
            assert actors.member.get(f"/v2/images/{shared}").status_code == status
        members = actors.owner.get(f"/v2/images/{shared}/members").json()["members"]
        assert [(each["member_id"], each["status"]) for each in members] == [
            (actors.member.project_id, "accepted")
        ]


class TestAnswer:
    """PUT …/members/{project}"""

    @pytest.mark.parametrize("first", ["pending", "accepted", "rejected"])
    @pytest.mark.parametrize("second", ["pending", "accepted", "rejected"])
    def test_any_status_may_change_to_any_other(
        self, actors: Actors, shared: str, first: str, second: str
    ) -> None:
        for status in (first, second):
            answer = answer_share(actors.member, shared, actors.member.project_id, status)
            assert answer.status_code == 200, told(answer)
            member = answer.json()
            assert set(member) == {
                "member_id", "image_id", "status", "created_at", "updated_at", "schema",
            }  # fmt: skip
            assert member["status"] == status
            assert member["image_id"] == shared
            assert member["member_id"] == actors.member.project_id
            assert member["schema"] == "/v2/schemas/member"

    @pytest.mark.parametrize(
        ("who", "status"),
        [
            ("member", 200),
            ("admin", 200),
            ("owner", 403),
            ("owner_reader", 403),
            ("member_reader", 403),
            ("other", 404),
            ("service", 404),
            ("norole", 404),
        ],
    )
    def test_only_the_member_project_answers(
        self, actors: Actors, shared: str, who: str, status: int
    ) -> None:
        answer = answer_share(getattr(actors, who), shared, actors.member.project_id, "accepted")
        assert answer.status_code == status, told(answer)
        path = f"/v2/images/{shared}/members/{actors.member.project_id}"
        expected = "accepted" if status == 200 else "pending"
        assert actors.owner.get(path).json()["status"] == expected

    def test_owner_is_refused_before_the_record_is_looked_up(
        self, actors: Actors, shared: str
    ) -> None:
        assert answer_share(actors.owner, shared, "nobody", "accepted").status_code == 403

    def test_unknown_member_is_not_found(self, actors: Actors, shared: str) -> None:
        assert answer_share(actors.admin, shared, "nobody", "accepted").status_code == 404

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b"{}",
            b'{"status": ""}',
            b'{"status": "bogus"}',
            b'{"status": "ACCEPTED"}',
            b'{"status": null}',
            b'{"status": 1}',
            b'{"status": ["accepted"]}',
            b'{"member": "accepted"}',
        ],
        ids=lambda body: repr(body[:30]),
    )
    def test_wrong_body_is_refused(self, actors: Actors, shared: str, body: bytes) -> None:
        path = f"/v2/images/{shared}/members/{actors.member.project_id}"
        answer = actors.member.put(path, content=body)
        assert answer.status_code == 400, told(answer)
        assert actors.member.get(path).json()["status"] == "pending"


class TestWithdraw:
    """DELETE …/members/{project}"""

    def test_access_ends_at_once(self, actors: Actors, shared: str) -> None:
        path = f"/v2/images/{shared}/members/{actors.member.project_id}"
        answer = actors.owner.delete(path)
        assert answer.status_code == 204, told(answer)
        assert answer.content == b""
        assert actors.member.get(f"/v2/images/{shared}").status_code == 404
        assert actors.member.get(f"/v2/images/{shared}/file").status_code == 404
        assert actors.owner.get(path).status_code == 404
        assert actors.owner.delete(path).status_code == 404

    def test_sharing_again_starts_at_pending(self, actors: Actors, shared: str) -> None:
        project = actors.member.project_id
        answer_share(actors.member, shared, project, "accepted")
        actors.owner.delete(f"/v2/images/{shared}/members/{project}")
        again = share(actors.owner, shared, project)
        assert again.status_code == 200, told(again)
        assert again.json()["status"] == "pending"

    @pytest.mark.parametrize(
        ("who", "status"),
        [
            ("admin", 204),
            ("owner_reader", 403),
            ("member", 403),
            ("member_reader", 403),
            ("other", 404),
            ("service", 404),
            ("norole", 404),
        ],
    )
    def test_only_the_owner_and_admins_withdraw(
        self, actors: Actors, shared: str, who: str, status: int
    ) -> None:
        path = f"/v2/images/{shared}/members/{actors.member.project_id}"
        answer = getattr(actors, who).delete(path)
        assert answer.status_code == status, told(answer)
        assert actors.owner.get(path).status_code == (404 if status == 204 else 200)

    def test_unknown_member_is_not_found(self, owner: Client, shared: str) -> None:
        assert owner.delete(f"/v2/images/{shared}/members/nobody").status_code == 404


def test_body_on_read_and_withdraw_is_refused(actors: Actors, shared: str) -> None:
    one = f"/v2/images/{shared}/members/{actors.member.project_id}"
    for method, path in (("GET", f"/v2/images/{shared}/members"), ("GET", one), ("DELETE", one)):
        answer = actors.owner.request(method, path, content=b"{}")
        assert answer.status_code == 400, told(answer)
    assert actors.owner.get(one).status_code == 200


def test_members_need_a_token(server: ServerProcess, shared: str) -> None:
    nobody = server.client()
    assert nobody.get(f"/v2/images/{shared}/members").status_code == 401
    assert share(nobody, shared, "p").status_code == 401


def test_deleting_the_image_takes_its_members_along(actors: Actors, image: MakeImage) -> None:
    image_id = image(actors.owner)["id"]
    share(actors.owner, image_id, actors.member.project_id)
    actors.owner.delete(f"/v2/images/{image_id}")
    assert actors.member.get(f"/v2/images/{image_id}").status_code == 404
    assert actors.member.list_ids(member_status="all", id=image_id) == []
