"""Property protections over HTTP, in both formats of their file (API §3, §4, §7.3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conftest import configured
from tests.support.server import Client, ServerProcess, told

ROLES = """
[^secret_.*]
create = admin
read = admin
update = admin
delete = admin

[^shown_.*]
create = admin
read = admin,member,reader
update = admin
delete = admin

[^grows_.*]
create = member
read = member
update = !
delete = !

[.*]
create = @
read = @
update = @
delete = @
"""
POLICIES = """
[^secret_.*]
create = admins_only
read = admins_only
update = admins_only
delete = admins_only

[^shown_.*]
create = admins_only
read = everybody
update = admins_only
delete = admins_only

[^grows_.*]
create = members
read = members
update = nobody
delete = nobody

[.*]
create = everybody
read = everybody
update = everybody
delete = everybody
"""
RULES = """
admins_only: "role:admin"
everybody: "@"
members: "role:member"
nobody: "!"
"""


class Protected(NamedTuple):
    """A server with protections, an administrator, and two of a project."""

    server: ServerProcess
    admin: Client
    member: Client
    reader: Client

    def image(self) -> str:
        """An image of the member, with a property of each kind."""
        made = self.member.create(plain="plain", grows_x="grown")
        for name in ("secret_x", "shown_x"):
            answer = patch(self.admin, made["id"], "add", name, "by the admin")
            assert answer == 200
        return str(made["id"])


def patch(client: Client, image_id: str, op: str, name: str, value: str | None = None) -> int:
    """The status of one change."""
    operation: dict[str, Any] = {"op": op, "path": f"/{name}"}
    if value is not None:
        operation["value"] = value
    return client.patch(f"/v2/images/{image_id}", [operation]).status_code


@pytest.fixture(scope="module", params=["roles", "policies"])
def protected(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("protected")
    protections, rules = folder / "protections.conf", folder / "policy.yaml"
    protections.write_text(ROLES if request.param == "roles" else POLICIES)
    rules.write_text(RULES)
    config = {
        "policy": {
            "file": str(rules),
            "property_protections": str(protections),
            "property_protection_format": request.param,
        }
    }
    with configured(folder / "server", config) as server:
        made = server.provision(
            {"p-member": ("protected", ["member"]), "p-reader": ("protected", ["reader"])}
        )
        yield Protected(server, server.log_in_to_cloud(), made["p-member"], made["p-reader"])


def test_creation_needs_the_right_for_each_property(protected: Protected) -> None:
    for name in ("secret_x", "shown_x"):
        answer = protected.member.post("/v2/images", json={"plain": "1", name: "2"})
        assert answer.status_code == 403, told(answer)
        assert protected.admin.post("/v2/images", json={name: "2"}).status_code == 201
    assert protected.member.post("/v2/images", json={"plain": "1", "grows_x": "2"}).is_success


def test_what_may_not_be_read_is_left_out_of_every_answer(protected: Protected) -> None:
    image_id = protected.image()
    expected = {
        "admin": {"secret_x", "shown_x", "plain"},
        "member": {"shown_x", "grows_x", "plain"},
        "reader": {"shown_x", "plain"},
    }
    for who, names in expected.items():
        client: Client = getattr(protected, who)
        listed = client.get("/v2/images", params={"id": image_id}).json()["images"]
        for answer in (client.show(image_id), *listed):
            found = {name for name in answer if name.endswith("_x") or name == "plain"}
            assert found - {"grows_x"} == names - {"grows_x"}, who
            if who != "admin":
                assert ("grows_x" in found) == ("grows_x" in names), who
        assert len(listed) == 1
    changed = protected.member.patch(
        f"/v2/images/{image_id}", [{"op": "replace", "path": "/name", "value": "new"}]
    )
    assert changed.status_code == 200
    assert "secret_x" not in changed.json()


@pytest.mark.parametrize(
    ("name", "add", "replace", "remove"),
    [
        # Not readable: as if it were not there, and it cannot be made.
        ("secret_x", 403, 409, 409),
        # Readable only.
        ("shown_x", 403, 403, 403),
        # May be made, and never changed.
        ("grows_x", 403, 403, 403),
        ("grows_y", 200, 409, 409),
        ("secret_y", 403, 409, 409),
        ("plain", 200, 200, 200),
    ],
)
def test_changes_need_the_right_for_what_they_do(
    protected: Protected, name: str, add: int, replace: int, remove: int
) -> None:
    for op, status in (("add", add), ("replace", replace), ("remove", remove)):
        image_id = protected.image()
        before = protected.admin.show(image_id)
        value = None if op == "remove" else "by the member"
        assert patch(protected.member, image_id, op, name, value) == status, op
        if status != 200:
            assert protected.admin.show(image_id) == before


def test_what_a_caller_cannot_read_outlives_its_changes(protected: Protected) -> None:
    image_id = protected.image()
    assert patch(protected.member, image_id, "replace", "name", "new") == 200
    assert patch(protected.member, image_id, "remove", "plain") == 200
    assert protected.member.put(f"/v2/images/{image_id}/tags/a").status_code == 204
    formats = [
        {"op": "replace", "path": "/disk_format", "value": "raw"},
        {"op": "replace", "path": "/container_format", "value": "bare"},
    ]
    assert protected.member.patch(f"/v2/images/{image_id}", formats).status_code == 200
    protected.member.upload(image_id, b"data")
    shown = protected.admin.show(image_id)
    assert shown["secret_x"] == shown["shown_x"] == "by the admin"
    assert "plain" not in shown


def test_a_file_that_cannot_be_used_is_refused_at_start(tmp_path: Path) -> None:
    from tests.support.server import ServerFailed

    protections = tmp_path / "protections.conf"
    protections.write_text("[^x\ncreate = admin\n")
    server = configured(tmp_path / "server", {"policy": {"property_protections": str(protections)}})
    with pytest.raises(ServerFailed) as failed:
        server.start()
    assert str(protections) in str(failed.value)
    assert "Traceback" not in str(failed.value)
