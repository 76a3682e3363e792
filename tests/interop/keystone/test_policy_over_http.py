"""Every cell of the policy matrix, asked over HTTP with tokens of a real Keystone.

For each visibility and each status that an image can rest in, every kind of caller tries every
call on an image of the owning project. The matrix says whether policy lets it through; what the
call then answers is the contract's. Calls that were let through get a fresh image afterwards.
"""

from __future__ import annotations

import itertools
import json
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.interop.keystone.conftest import SERVICE_PASSWORD
from tests.interop.keystone.server import Cloud, KeystoneServer
from tests.support.server import Client, ServerProcess, told
from transom.api.routes import ROUTES
from transom.model.image import Visibility
from transom.policy import Policy
from transom.policy.matrix import (
    HIDDEN,
    OTHER_PROJECT,
    OWNER_PROJECT,
    PERSONAS,
    REFUSED,
    SHARED_PROJECT,
    YES,
    Persona,
    image_verdict,
    list_verdict,
    verdict,
)
from transom.settings import Settings

pytestmark = pytest.mark.interop

POLICY = Policy.open(Settings())
STATUSES = ("queued", "active", "deactivated")
DATA = b"just some bytes"
OCTETS = {"Content-Type": "application/octet-stream"}
PASSWORD = "password of a persona"


@dataclass(frozen=True)
class Call:
    """One way to use an image: what is sent, the rule that is asked, and what is answered when
    policy lets the caller through."""

    rule: str
    send: Callable[[Client, str, Persona], httpx.Response]
    answers: Callable[[str, Visibility, Persona], int]
    changes: bool = True
    needs_shared: bool = False


def _patch(field: str, value: object) -> Callable[[Client, str, Persona], httpx.Response]:
    return lambda client, image, _: client.patch(
        f"/v2/images/{image}", [{"op": "replace", "path": f"/{field}", "value": value}]
    )


def _download(status: str, _visibility: Visibility, persona: Persona) -> int:
    if status == "deactivated" and persona.name != "admin":
        return 403
    return 204 if status == "queued" else 200


def _act(status: str, _visibility: Visibility, _persona: Persona) -> int:
    return 403 if status == "queued" else 204


def _always(code: int) -> Callable[[str, Visibility, Persona], int]:
    return lambda _status, _visibility, _persona: code


def _member_path(image: str, persona: Persona, clients: dict[str, str]) -> str:
    project = clients[persona.actor.project_id or OWNER_PROJECT]
    return f"/v2/images/{image}/members/{project}"


class World:
    """A Keystone with a token for every persona, and a Transom that trusts it."""

    def __init__(self, server: ServerProcess, cloud: Cloud) -> None:
        self.server = server
        self.projects: dict[str, str] = {}
        self.clients: dict[str, Client] = {}
        suffix = uuid.uuid4().hex[:6]
        names = {key: f"{key}-{suffix}" for key in (OWNER_PROJECT, OTHER_PROJECT)}
        for status in ("accepted", "pending", "rejected"):
            names[status] = f"{status}-{suffix}"
        for key, name in names.items():
            self.projects[key] = cloud.project(name)
        for persona in PERSONAS:
            self.clients[persona.name] = Client(
                server.url, self._token(cloud, persona, names, suffix), persona.name
            )

    def _token(
        self, cloud: Cloud, persona: Persona, names: dict[str, str], suffix: str
    ) -> str | None:
        actor = persona.actor
        if actor.is_anonymous:
            return None
        user = f"{persona.name.replace(' ', '-')}-{suffix}"
        user_id = cloud.user(user, PASSWORD)
        # What a role implies comes from Keystone itself.
        role = next(
            (name for name in ("admin", "service", "member", "reader") if name in actor.roles), None
        )
        if actor.system_scope:
            cloud.call("PUT", f"/system/users/{user_id}/roles/{cloud.roles[role or '']}")
            return cloud.token(user, PASSWORD, system=True)
        if actor.domain_id:
            cloud.call("PUT", f"/domains/default/users/{user_id}/roles/{cloud.roles[role or '']}")
            return cloud.token(user, PASSWORD, domain="default")
        key = self.project_key(persona)
        role_id = cloud.roles[role] if role else _odd_role(cloud)
        cloud.call("PUT", f"/projects/{self.projects[key]}/users/{user_id}/roles/{role_id}")
        return cloud.token(user, PASSWORD, project=names[key])

    def project_key(self, persona: Persona) -> str:
        """Which of the projects a persona belongs to."""
        if persona.actor.project_id == SHARED_PROJECT:
            assert persona.membership is not None
            return persona.membership.value
        return persona.actor.project_id or OTHER_PROJECT

    def member_of(self, persona: Persona) -> str:
        """The member project that a persona asks about: its own, if it is one."""
        key = self.project_key(persona)
        return self.projects[key if persona.membership else "accepted"]

    def image(self, visibility: Visibility, status: str) -> str:
        """A new image of the owning project in that state, offered to the three members."""
        owner, admin = self.clients["owner"], self.clients["admin"]
        made = owner.create(
            name="cell", disk_format="raw", container_format="bare", visibility="shared"
        )
        image = str(made["id"])
        for answer in ("accepted", "pending", "rejected"):
            project = self.projects[answer]
            assert owner.post(f"/v2/images/{image}/members", json={"member": project}).is_success
            done = self.clients[answer].put(
                f"/v2/images/{image}/members/{project}", json={"status": answer}
            )
            assert done.is_success, told(done)
        if status != "queued":
            owner.upload(image, DATA)
        if status == "deactivated":
            assert owner.post(f"/v2/images/{image}/actions/deactivate").is_success
        if visibility is not Visibility.SHARED:
            assert _patch("visibility", visibility.value)(admin, image, PERSONAS[0]).is_success
        return image

    def calls(self) -> list[Call]:
        """Every call on one image."""
        other = self.projects[OTHER_PROJECT]
        members = "/v2/images/{}/members"
        return [
            Call(
                "get_image",
                lambda client, image, _: client.get(f"/v2/images/{image}"),
                _always(200),
                changes=False,
            ),
            Call(
                "download_image",
                lambda client, image, _: client.get(f"/v2/images/{image}/file"),
                _download,
                changes=False,
            ),
            Call(
                "download_from_store",
                lambda client, image, _: client.get(f"/v2/images/{image}/file?prefer=second"),
                _download,
                changes=False,
            ),
            Call(
                "copy_image",
                lambda client, image, _: client.post(
                    f"/v2/images/{image}/import",
                    json={"method": {"name": "copy-image"}, "stores": ["second"]},
                ),
                lambda status, _visibility, _persona: 202 if status == "active" else 409,
            ),
            Call(
                "upload_image",
                lambda client, image, _: client.put_data(image, DATA),
                lambda status, _visibility, _persona: 204 if status == "queued" else 409,
            ),
            Call("modify_image", _patch("name", "changed"), _always(200)),
            Call("publicize_image", _patch("visibility", "public"), _always(200)),
            Call("communitize_image", _patch("visibility", "community"), _always(200)),
            Call(
                "modify_image",
                lambda client, image, _: client.put(f"/v2/images/{image}/tags/a-tag"),
                _always(204),
            ),
            Call(
                "deactivate",
                lambda client, image, _: client.post(f"/v2/images/{image}/actions/deactivate"),
                _act,
            ),
            Call(
                "reactivate",
                lambda client, image, _: client.post(f"/v2/images/{image}/actions/reactivate"),
                _act,
            ),
            Call(
                "get_members",
                lambda client, image, _: client.get(members.format(image)),
                _always(200),
                changes=False,
                needs_shared=True,
            ),
            Call(
                "get_member",
                lambda client, image, persona: client.get(
                    f"{members.format(image)}/{self.member_of(persona)}"
                ),
                _always(200),
                changes=False,
                needs_shared=True,
            ),
            Call(
                "add_member",
                lambda client, image, _: client.post(members.format(image), json={"member": other}),
                _always(200),
                needs_shared=True,
            ),
            Call(
                "modify_member",
                lambda client, image, persona: client.put(
                    f"{members.format(image)}/{self.member_of(persona)}",
                    json={"status": "pending"},
                ),
                _always(200),
                needs_shared=True,
            ),
            Call(
                "delete_member",
                lambda client, image, persona: client.delete(
                    f"{members.format(image)}/{self.member_of(persona)}"
                ),
                _always(204),
                needs_shared=True,
            ),
            Call(
                "fetch_image_location",
                lambda client, image, _: client.get(f"/v2/images/{image}/locations"),
                _always(200),
                changes=False,
            ),
            Call(
                "add_image_location",
                lambda client, image, _: client.post(
                    f"/v2/images/{image}/locations", json={"url": "odd://nowhere"}
                ),
                lambda status, _visibility, _persona: 400 if status == "queued" else 409,
            ),
            Call(
                "delete_image_location",
                lambda client, image, _: client.delete(f"/v2/stores/main/{image}"),
                lambda status, _visibility, _persona: 403 if status == "active" else 409,
            ),
            Call(
                "list_cached_nodes",
                lambda client, image, _: client.get(f"/v2/cache/nodes/{image}"),
                _always(200),
            ),
            Call(
                "cache_image",
                lambda client, image, _: client.put(f"/v2/cache/{image}"),
                lambda status, _visibility, _persona: 202 if status == "active" else 400,
            ),
            Call(
                "cache_delete",
                lambda client, image, _: client.delete(f"/v2/cache/{image}"),
                _always(204),
            ),
            Call(
                "delete_image",
                lambda client, image, _: client.delete(f"/v2/images/{image}"),
                _always(204),
            ),
        ]


def _odd_role(cloud: Cloud) -> str:
    """A role that no rule knows: for a token without any of the usual ones."""
    found = cloud.call("GET", "/roles?name=unheard-of").json()["roles"]
    if not found:
        found = [cloud.call("POST", "/roles", {"role": {"name": "unheard-of"}}).json()["role"]]
    return str(found[0]["id"])


@pytest.fixture(scope="module")
def world(
    keystone: KeystoneServer, cloud: Cloud, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    config: dict[str, Any] = {
        "identity": {
            "backend": "keystone",
            "allow_anonymous": True,
            "keystone": {
                "auth_url": keystone.url,
                "username": "transom",
                "password": SERVICE_PASSWORD,
            },
        },
        "images": {"verify_formats": False},
        # So that there are endpoints of several stores and of a cache.
        "stores": {
            "default": "main",
            "main": {},
            "second": {"path": "<data>/second"},
            "web": {"driver": "http"},
        },
        "cache": {"enabled": True},
    }
    with ServerProcess(tmp_path_factory.mktemp("world"), config) as server:
        made = World(server, cloud)
        yield made
        for client in made.clients.values():
            client.close()


def _expected(call: Call, persona: Persona, visibility: Visibility, status: str) -> int:
    if persona.actor.is_anonymous and call.changes:
        # Whoever has no token may only read, whatever the image (API §1.1).
        return 403
    told_by_policy = image_verdict(POLICY, persona, call.rule, visibility)
    if call.rule in {"publicize_image", "communitize_image"} and told_by_policy == YES:
        told_by_policy = image_verdict(POLICY, persona, "modify_image", visibility)
    if call.needs_shared and visibility is not Visibility.SHARED:
        # That only shared images have members is said before policy is asked, to whoever can
        # reach the image at all (lifecycle §2).
        return _not_shared(call, persona, visibility)
    if told_by_policy == HIDDEN:
        return 404
    if told_by_policy == REFUSED:
        return 403
    return call.answers(status, visibility, persona)


def _not_shared(call: Call, persona: Persona, visibility: Visibility) -> int:
    if persona.actor.system_scope or persona.actor.domain_id:
        return 404
    own = persona.actor.project_id == OWNER_PROJECT or persona.name == "admin"
    if visibility is Visibility.PRIVATE and not own:
        return 404
    return 404 if call.rule == "get_member" else 403


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("visibility", list(Visibility))
def test_every_caller_is_told_what_the_matrix_says(
    world: World, visibility: Visibility, status: str
) -> None:
    wrong: list[str] = []
    asked = 0
    image = world.image(visibility, status)
    for call in world.calls():
        for persona in PERSONAS:
            answer = call.send(world.clients[persona.name], image, persona)
            asked += 1
            expected = _expected(call, persona, visibility, status)
            if answer.status_code != expected:
                wrong.append(f"{persona.name}, {call.rule}: {expected} expected, {told(answer)}")
            if call.changes and answer.status_code < 400:
                image = world.image(visibility, status)
        shown = world.clients["admin"].show(image)
        found = (shown["status"], shown["visibility"], shown["name"], shown["tags"])
        if found != (status, visibility.value, "cell", []):
            wrong.append(f"{call.rule}: somebody was refused and changed the image: {found}")
            image = world.image(visibility, status)
    assert not wrong, "\n".join(wrong)
    assert asked == len(world.calls()) * len(PERSONAS)


@pytest.mark.parametrize("visibility", list(Visibility))
def test_a_caller_without_a_token_is_told_that_it_may_only_read(
    world: World, visibility: Visibility
) -> None:
    image = world.image(visibility, "active")
    persona = next(one for one in PERSONAS if one.actor.is_anonymous)
    for call in world.calls():
        if call.changes:
            answer = call.send(world.clients[persona.name], image, persona)
            assert answer.status_code == 403, told(answer)
            assert "read-only access" in answer.text


@pytest.mark.parametrize("visibility", list(Visibility))
def test_every_caller_lists_what_the_matrix_says(world: World, visibility: Visibility) -> None:
    image = world.image(visibility, "active")
    wrong = []
    for persona, every in itertools.product(PERSONAS, (False, True)):
        query = {"id": image, "visibility": "all"} if every else {"id": image}
        answer = world.clients[persona.name].get("/v2/images", params=query)
        if answer.status_code == 200:
            found = YES if answer.json()["images"] else "no"
        else:
            found = str(answer.status_code)
        expected = list_verdict(POLICY, persona, visibility, every=every)
        if found != expected:
            wrong.append(f"{persona.name}, all={every}: {expected} expected, {told(answer)}")
    assert not wrong, "\n".join(wrong)


def test_every_caller_creates_what_the_matrix_says(world: World) -> None:
    wrong = []
    for persona, visibility in itertools.product(PERSONAS, Visibility):
        target: dict[str, object] = {
            "project_id": persona.actor.project_id,
            "owner": persona.actor.project_id,
            "visibility": visibility.value,
        }
        rules = ["add_image"]
        if visibility is Visibility.PUBLIC:
            rules.append("publicize_image")
        if visibility is Visibility.COMMUNITY:
            rules.append("communitize_image")
        allowed = all(verdict(POLICY, persona, rule, target) == YES for rule in rules)
        answer = world.clients[persona.name].post(
            "/v2/images", json={"visibility": visibility.value}
        )
        if answer.status_code != (201 if allowed else 403):
            wrong.append(f"{persona.name}, {visibility}: {told(answer)}")
    assert not wrong, "\n".join(wrong)


DEPLOYMENT = (
    ("tasks_api_access", "GET", "/v2/tasks", 200),
    ("stores_info_detail", "GET", "/v2/info/stores/detail", 200),
    ("cache_list", "GET", "/v2/cache", 200),
    ("cache_delete", "DELETE", "/v2/cache", 204),
    ("cache_clean", "POST", "/v2/cache/clean", 200),
    ("cache_prune", "POST", "/v2/cache/prune", 200),
)
"""Rule, method, path, and what is answered to whom the rule lets through."""


def test_every_caller_reaches_what_the_matrix_says_of_the_deployment(world: World) -> None:
    wrong = []
    for persona, (rule, method, path, status) in itertools.product(PERSONAS, DEPLOYMENT):
        allowed = verdict(POLICY, persona, rule, {}) == YES
        answer = world.clients[persona.name].request(method, path)
        if answer.status_code != (status if allowed else 403):
            wrong.append(f"{persona.name}, {rule}: {told(answer)}")
    assert not wrong, "\n".join(wrong)


def test_every_rule_of_an_endpoint_is_exercised(world: World) -> None:
    tried = {call.rule for call in world.calls()} | {"get_images", "add_image"}
    tried |= {rule for rule, *_ in DEPLOYMENT}

    # Every rule of metadata definitions, with every caller: tests/api/test_metadef_access.py.
    assert {
        route.action for route in ROUTES if route.action and "metadef" not in route.action
    } <= tried


def test_a_foreign_image_answers_like_one_that_never_was(world: World) -> None:
    private = world.image(Visibility.PRIVATE, "active")
    missing = str(uuid.uuid4())
    stranger = world.clients["stranger"]
    for call in world.calls():
        persona = next(one for one in PERSONAS if one.name == "stranger")
        foreign, absent = (call.send(stranger, image, persona) for image in (private, missing))
        assert foreign.status_code == absent.status_code == 404, call.rule
        assert _without_ids(foreign) == _without_ids(absent)


@pytest.mark.parametrize("name", ["system admin", "domain admin"])
def test_a_token_of_another_scope_learns_nothing_of_what_exists(world: World, name: str) -> None:
    persona = next(one for one in PERSONAS if one.name == name)
    private = world.image(Visibility.PRIVATE, "active")
    for call in world.calls():
        existing, absent = (
            call.send(world.clients[name], image, persona) for image in (private, str(uuid.uuid4()))
        )
        assert existing.status_code == absent.status_code == 404, call.rule
        assert _without_ids(existing) == _without_ids(absent)


def _without_ids(answer: httpx.Response) -> tuple[str, list[str]]:
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", answer.text), sorted(
        answer.headers
    )


def test_without_anonymous_callers_a_missing_token_is_401_and_says_where_to_log_in(
    world: World, keystone: KeystoneServer, tmp_path: Path
) -> None:
    config: dict[str, Any] = json.loads(json.dumps(world.server.config))
    config["identity"]["allow_anonymous"] = False
    with ServerProcess(tmp_path / "strict", config) as server:
        for token in (None, "made-up"):
            client = Client(server.url, token)
            for path in ("/v2/images", f"/v2/images/{uuid.uuid4()}", "/v2/schemas/image"):
                answer = client.get(path)
                assert answer.status_code == 401, told(answer)
                assert answer.headers["www-authenticate"] == f'Keystone uri="{keystone.url}"'
            client.close()


def test_an_unreachable_keystone_is_503_with_a_time_to_come_back(
    world: World, tmp_path: Path
) -> None:
    config: dict[str, Any] = json.loads(json.dumps(world.server.config))
    config["identity"]["keystone"]["auth_url"] = "http://127.0.0.1:9/v3"
    token = world.clients["owner"].token
    with ServerProcess(tmp_path / "alone", config) as server:
        client = Client(server.url, token)
        answer = client.get("/v2/images")
        client.close()

    assert answer.status_code == 503, told(answer)
    assert int(answer.headers["retry-after"]) > 0
    assert token is not None
    assert token not in server.log()
