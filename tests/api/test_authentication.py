"""Tokens at the door of the Image API (API §1.1, errors.md §5)."""

from __future__ import annotations

import base64
import time
import uuid
from typing import Any

import httpx
import pytest

from tests.conftest import Actors, MakeImage, MakeServer, ServerWith
from tests.support.server import Client, ServerProcess, told

READS = ["/v2/images", f"/v2/images/{uuid.UUID(int=1)}", "/v2/schemas/image", "/v2/info/import"]


def check_refused(answer: httpx.Response, server: ServerProcess) -> None:
    """The answer is 401 and says where to log in."""
    assert answer.status_code == 401, told(answer)
    challenge = answer.headers["www-authenticate"]
    assert challenge.startswith('Keystone uri="'), challenge
    uri = challenge.removeprefix('Keystone uri="').removesuffix('"')
    # The address answers version discovery, so a client can go on from here.
    discovered = httpx.get(uri, trust_env=False, follow_redirects=True)
    assert discovered.status_code in (200, 300), f"{uri}: {discovered.status_code}"
    assert uri.startswith(server.url)


def test_no_token(server: ServerProcess) -> None:
    for path in READS:
        check_refused(server.client().get(path), server)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "0" * 32,
        str(uuid.UUID(int=0)),
        "gAAAAABmXk_forged_fernet_token_0123456789",
        "a.b.c",
        "." * 5,
        "../../etc/passwd",
        "' OR 1=1 --",
        "x" * 7000,
        "%00",
        "null",
        "Bearer x",
    ],
)
def test_unknown_token(server: ServerProcess, token: str) -> None:
    client = server.client()
    check_refused(client.get("/v2/images", headers={"X-Auth-Token": token}), server)


def test_non_ascii_token(server: ServerProcess) -> None:
    answer = server.client().get("/v2/images", headers=[(b"X-Auth-Token", b"\xff\xfe\xc3")])
    assert answer.status_code in (400, 401), told(answer)


def test_every_forged_character_is_noticed(server: ServerProcess, owner: Client) -> None:
    token = owner.token or ""
    client = server.client()
    step = max(1, len(token) // 60)
    for place in range(0, len(token), step):
        other = "A" if token[place] != "A" else "B"
        forged = token[:place] + other + token[place + 1 :]
        if same_bits(token, forged):
            continue
        answer = client.get("/v2/images?limit=1", headers={"X-Auth-Token": forged})
        assert answer.status_code == 401, f"character {place} can be changed"
    for forged in (token[:-1], token + "A", token[1:], token.swapcase(), token * 2):
        if same_bits(token, forged):
            continue
        answer = client.get("/v2/images?limit=1", headers={"X-Auth-Token": forged})
        assert answer.status_code == 401, "a cut or grown token passes"


def same_bits(one: str, two: str) -> bool:
    """True when two spellings of base64 stand for the same bytes: that is no forgery."""

    def decoded(text: str) -> Any:
        try:
            return [
                base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in text.split(".")
            ]
        except ValueError:
            return None

    bits = decoded(one)
    return bits is not None and bits == decoded(two)


def test_expired_token(make_server: MakeServer) -> None:
    server = make_server({"identity": {"token_seconds": 2}})
    demo = server.log_in_to_cloud("transom-demo")
    assert demo.get("/v2/images").status_code == 200
    deadline = time.monotonic() + 10
    while demo.get("/v2/images").status_code == 200:
        assert time.monotonic() < deadline, "the token never expires"
        time.sleep(0.2)
    check_refused(demo.get("/v2/images"), server)
    check_refused(demo.post("/v2/images", json={}), server)
    assert server.log_in_to_cloud("transom-demo").get("/v2/images").status_code == 200


def test_service_vouches_for_an_expired_token(make_server: MakeServer) -> None:
    server = make_server()
    people = {
        "user": ("work", ["member"]),
        "nova": ("services", ["service"]),
        "plain": ("others", ["member"]),
    }
    created = server.provision(people)["user"].create(name="vouched for")
    # What came before took longer than these tokens live.
    server.restart({"identity": {"token_seconds": 3}})
    expired = server.log_in("user", "user-secret", "work").token or ""
    time.sleep(3.2)
    client = server.client(expired)
    check_refused(client.get("/v2/images"), server)
    nova = server.log_in("nova", "nova-secret", "services")
    vouched = {"X-Service-Token": nova.token or ""}
    shown = client.get(f"/v2/images/{created['id']}", headers=vouched)
    assert shown.status_code == 200, told(shown)
    plain = server.log_in("plain", "plain-secret", "others")
    for token in (plain.token or "", expired, "forged"):
        check_refused(client.get("/v2/images", headers={"X-Service-Token": token}), server)
    forged = server.client("forged").get("/v2/images", headers=vouched)
    check_refused(forged, server)


def test_unscoped_token_is_good_for_schemas_only(
    server: ServerProcess, actors: Actors, image: MakeImage
) -> None:
    public = image(actors.admin, visibility="public")
    unscoped = server.log_in("other", "other-secret", None, "unscoped")
    assert unscoped.get("/v2/schemas/image").status_code == 200
    assert unscoped.get("/v2/images").status_code == 403
    assert unscoped.post("/v2/images", json={}).status_code == 403
    for answer in (
        unscoped.get(f"/v2/images/{public['id']}"),
        unscoped.patch(
            f"/v2/images/{public['id']}", [{"op": "replace", "path": "/name", "value": "x"}]
        ),
        unscoped.delete(f"/v2/images/{public['id']}"),
    ):
        assert answer.status_code == 404, told(answer)
    assert actors.admin.show(public["id"]) == public


def test_revoked_token(server: ServerProcess, actors: Actors) -> None:
    client = server.log_in("other", "other-secret", "others")
    assert client.get("/v2/images").status_code == 200
    revoked = httpx.delete(
        f"{server.auth_url}/auth/tokens",
        headers={"X-Auth-Token": client.token or "", "X-Subject-Token": client.token or ""},
        trust_env=False,
    )
    assert revoked.status_code == 204, told(revoked)
    check_refused(client.get("/v2/images"), server)
    assert actors.other.get("/v2/images").status_code == 200, "other tokens go on"


def test_token_of_another_server(server: ServerProcess, make_server: MakeServer) -> None:
    foreign = make_server().log_in_to_cloud("transom")
    check_refused(
        server.client().get("/v2/images", headers={"X-Auth-Token": foreign.token or ""}), server
    )


def test_tokens_survive_a_restart(make_server: MakeServer) -> None:
    server = make_server()
    token = server.log_in_to_cloud("transom-demo").token
    server.restart()
    assert server.client(token).get("/v2/images").status_code == 200


def test_token_for_another_project_sees_none_of_the_images(
    actors: Actors, image: MakeImage
) -> None:
    created = image(actors.owner, data=b"secret", visibility="private")
    path = f"/v2/images/{created['id']}"
    for answer in (
        actors.other.get(path),
        actors.other.get(f"{path}/file"),
        actors.other.patch(path, [{"op": "replace", "path": "/name", "value": "x"}]),
        actors.other.delete(path),
        actors.other.put(f"{path}/tags/x"),
        actors.other.post(f"{path}/actions/deactivate"),
        actors.other.get(f"{path}/members"),
        actors.other.put_data(created["id"], b"x"),
    ):
        assert answer.status_code == 404, told(answer)
    assert actors.owner.show(created["id"]) == created


def test_refused_requests_change_nothing(
    server: ServerProcess, owner: Client, image: MakeImage
) -> None:
    created = image(data=b"data", tags=["t"])
    path = f"/v2/images/{created['id']}"
    nobody = server.client("forged")
    for answer in (
        nobody.patch(path, [{"op": "replace", "path": "/name", "value": "x"}]),
        nobody.delete(path),
        nobody.put(f"{path}/tags/x"),
        nobody.delete(f"{path}/tags/t"),
        nobody.post(f"{path}/actions/deactivate"),
        nobody.post(f"{path}/members", json={"member": "x"}),
        nobody.put_data(created["id"], b"x" * 300_000),
        nobody.get(f"{path}/file"),
    ):
        assert answer.status_code == 401, told(answer)
        assert answer.content != b"data"
    assert owner.show(created["id"]) == created


def test_token_is_never_logged(server: ServerProcess, actors: Actors) -> None:
    secret = f"secret-{uuid.uuid4().hex}"
    server.client(secret).get("/v2/images")
    for client in (actors.owner, actors.admin):
        client.get("/v2/images", params={"limit": 1})
    log = server.log()
    assert secret not in log
    for client in actors:
        assert (client.token or "") not in log, f"the token of {client.who} is in the log"
    assert "owner-secret" not in log, "a password is in the log"


@pytest.mark.parametrize("path", ["/", "/versions", "/healthcheck", "/v1/images"])
def test_public_paths_need_no_token(server: ServerProcess, path: str) -> None:
    assert server.client().get(path).status_code in (200, 300)
    forged = server.client("forged").get(path)
    assert forged.status_code in (200, 300)


class TestAnonymous:
    """`identity.allow_anonymous`: without identity, read-only and without roles."""

    CONFIG = {"identity": {"allow_anonymous": True}}

    @pytest.mark.parametrize("token", [None, "forged"])
    def test_reading(self, server_with: ServerWith, token: str | None) -> None:
        running = server_with(self.CONFIG)
        anyone = running.server.client(token)
        public = running.admin.create(
            visibility="public", disk_format="raw", container_format="bare"
        )
        running.admin.upload(public["id"], b"public")
        assert anyone.get("/v2/images").status_code == 403
        assert anyone.get(f"/v2/images/{public['id']}").status_code == 404
        assert anyone.get(f"/v2/images/{public['id']}/file").status_code == 404
        assert anyone.get("/v2/schemas/image").status_code == 200
        assert anyone.get("/v2/schemas/members").status_code == 200

    @pytest.mark.parametrize("token", [None, "forged"])
    def test_changing_is_refused(self, server_with: ServerWith, token: str | None) -> None:
        running = server_with(self.CONFIG)
        anyone = running.server.client(token)
        public = running.admin.create(
            visibility="public", disk_format="raw", container_format="bare", tags=["t"]
        )
        path = f"/v2/images/{public['id']}"
        for answer in (
            anyone.post("/v2/images", json={}),
            anyone.patch(path, [{"op": "replace", "path": "/name", "value": "x"}]),
            anyone.delete(path),
            anyone.put_data(public["id"], b"x"),
            anyone.put(f"{path}/tags/x"),
            anyone.delete(f"{path}/tags/t"),
            anyone.post(f"{path}/members", json={"member": "x"}),
            anyone.post(f"{path}/actions/deactivate"),
        ):
            assert answer.status_code == 403, told(answer)
        assert running.admin.show(public["id"]) == public

    def test_a_valid_token_keeps_its_rights(self, server_with: ServerWith) -> None:
        running = server_with(self.CONFIG)
        created = running.demo.create(name="mine")
        assert running.demo.show(created["id"])["name"] == "mine"


class TestNone:
    """`identity.backend = "none"`: everyone is an administrator."""

    def test_everyone_is_an_admin_and_no_token_is_needed(self, make_server: MakeServer) -> None:
        anyone = make_server({"identity": {"backend": "none"}}).client()
        created = anyone.create(visibility="public", disk_format="raw", container_format="bare")
        shown = anyone.upload(created["id"], b"open")
        assert anyone.get(shown["file"]).content == b"open"
        assert anyone.list_ids() == [created["id"]]
        assert anyone.delete(f"/v2/images/{created['id']}").status_code == 204
