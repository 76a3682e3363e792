"""The identity face, request by request, against what a Keystone answers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.identity import World, cheap_passwords, settings_in
from transom.api.face import Face
from transom.app import open_registry
from transom.auth.local import identity as identity_module
from transom.auth.local.guesses import Guesses
from transom.settings import Settings

BASE = "http://transom.test"
HEX_ID = re.compile(r"^[0-9a-f]{32}$")
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_passwords(monkeypatch)


class Site:
    """The whole HTTP face over a new identity, without a socket."""

    def __init__(self, settings: Settings) -> None:
        self.world = World(settings)
        self.world.catalog.close()
        self.settings = settings
        self.registry = open_registry(settings)
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=Face(self.registry), client=("192.0.2.7", 1)),
            base_url=BASE,
        )
        clouds = yaml.safe_load((settings.data_path / "clouds.yaml").read_text())["clouds"]
        self.logins = {
            each["auth"]["username"]: each["auth"]["password"] for each in clouds.values()
        }

    async def close(self) -> None:
        """Free connections."""
        await self.http.aclose()
        await self.registry.identity.close()
        await self.registry.stores.close()
        self.registry.catalog.close()

    def login(
        self, user: str, project: str | None, scope: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """The body of a login with the password."""
        domain = {"name": "Default"}
        auth: dict[str, Any] = {
            "identity": {
                "methods": ["password"],
                "password": {
                    "user": {"name": user, "domain": domain, "password": self.logins[user]}
                },
            }
        }
        if project is not None:
            auth["scope"] = {"project": {"name": project, "domain": domain}}
        if scope:
            auth["scope"] = scope
        return {"auth": auth}

    async def log_in(self, user: str, project: str | None = "same") -> Caller:
        """A caller with a token."""
        body = self.login(user, user if project == "same" else project)
        answer = await self.http.post("/v3/auth/tokens", json=body)
        assert answer.status_code == 201, answer.text
        return Caller(self, answer.headers["x-subject-token"], answer.json()["token"])


class Caller:
    """Somebody with a token."""

    def __init__(self, site: Site, token: str, shown: dict[str, Any]) -> None:
        self.site = site
        self.token = token
        self.shown = shown
        self.user_id: str = shown["user"]["id"]
        self.project_id: str = shown.get("project", {}).get("id", "")

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """One request."""
        return await self.site.http.request(
            method, path, json=body, headers={"X-Auth-Token": self.token} | headers
        )

    async def get(self, path: str, key: str) -> Any:
        """What lies under a key of an answer that must be 200."""
        answer = await self.ask("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()[key]

    async def about(self, method: str, token: str, query: str = "") -> httpx.Response:
        """A request about a token."""
        return await self.ask(method, f"/v3/auth/tokens{query}", **{"X-Subject-Token": token})


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A site of the test's own."""
    made = Site(settings_in(tmp_path))
    yield made
    await made.close()


@pytest.fixture
async def admin(site: Site) -> Caller:
    """The first administrator."""
    return await site.log_in("admin")


@pytest.fixture
async def demo(site: Site) -> Caller:
    """The first user, a member of its project."""
    return await site.log_in("demo")


def check_fault(answer: httpx.Response, status: int, words: str = "") -> None:
    """The answer is a failure in Keystone's form."""
    assert answer.status_code == status, answer.text
    fault = answer.json()
    assert set(fault) == {"error"}
    assert set(fault["error"]) == {"code", "title", "message"}
    assert fault["error"]["code"] == status
    assert words in fault["error"]["message"]
    if status == 401:
        assert fault["error"]["title"] == "Unauthorized"
        assert answer.headers["www-authenticate"] == f'Keystone uri="{BASE}/v3"'


# --- versions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v3", "/v3/", "/identity/v3", "/identity/v3/"])
async def test_the_version_is_found_without_a_token(site: Site, path: str) -> None:
    answer = await site.http.get(path)
    assert answer.status_code == 200
    assert answer.json() == {
        "version": {
            "id": "v3.14",
            "status": "stable",
            "updated": "2020-04-07T00:00:00Z",
            "links": [{"rel": "self", "href": f"{BASE}/v3/"}],
            "media-types": [
                {
                    "base": "application/json",
                    "type": "application/vnd.openstack.identity-v3+json",
                }
            ],
        }
    }


@pytest.mark.parametrize("path", ["/identity", "/identity/"])
async def test_the_versions_are_a_choice_of_one(site: Site, path: str) -> None:
    answer = await site.http.get(path)
    assert answer.status_code == 300
    assert answer.headers["location"] == f"{BASE}/v3/"
    (version,) = answer.json()["versions"]["values"]
    assert version["id"] == "v3.14"


# --- logging in ---------------------------------------------------------------------------------------


async def test_a_login_answers_as_keystone_does(site: Site) -> None:
    answer = await site.http.post("/v3/auth/tokens", json=site.login("admin", "admin"))
    assert answer.status_code == 201
    assert answer.headers["vary"] == "X-Auth-Token"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-openstack-request-id"].startswith("req-")
    assert answer.headers["x-subject-token"]
    token = answer.json()["token"]
    assert set(token) == {
        "methods", "user", "audit_ids", "expires_at", "issued_at", "project", "is_domain", "roles",
        "catalog",
    }  # fmt: skip
    assert token["methods"] == ["password"]
    default = {"id": "default", "name": "Default"}
    assert token["user"] == {
        "domain": default,
        "id": token["user"]["id"],
        "name": "admin",
        "password_expires_at": None,
    }
    assert token["project"] == {"domain": default, "id": token["project"]["id"], "name": "admin"}
    assert HEX_ID.match(token["user"]["id"])
    assert HEX_ID.match(token["project"]["id"])
    assert token["is_domain"] is False
    assert {role["name"] for role in token["roles"]} == {"admin", "manager", "member", "reader"}
    assert all(set(role) == {"id", "name"} for role in token["roles"])
    assert TIME.match(token["expires_at"])
    assert TIME.match(token["issued_at"])
    assert len(token["audit_ids"]) == 1


async def test_the_catalog_names_every_service_with_three_interfaces(admin: Caller) -> None:
    services = {each["type"]: each for each in admin.shown["catalog"]}
    assert services["image"]["name"] == "glance"
    assert services["identity"]["name"] == "keystone"
    assert {each["url"] for each in services["image"]["endpoints"]} == {BASE}
    assert {each["url"] for each in services["identity"]["endpoints"]} == {f"{BASE}/identity/v3"}
    for service in services.values():
        assert HEX_ID.match(service["id"])
        assert [each["interface"] for each in service["endpoints"]] == [
            "public", "internal", "admin",
        ]  # fmt: skip
        for endpoint in service["endpoints"]:
            assert set(endpoint) == {"id", "interface", "region_id", "region", "url"}
            assert (endpoint["region"], endpoint["region_id"]) == ("RegionOne", "RegionOne")
    assert await admin.get("/v3/auth/catalog", "catalog") == admin.shown["catalog"]


async def test_the_catalog_can_be_left_out(site: Site, admin: Caller) -> None:
    body = site.login("admin", "admin")
    answer = await site.http.post("/v3/auth/tokens?nocatalog", json=body)
    assert "catalog" not in answer.json()["token"]
    answer = await admin.about("GET", admin.token, "?nocatalog")
    assert "catalog" not in answer.json()["token"]


async def test_an_unscoped_token_has_neither_project_nor_roles_nor_catalog(site: Site) -> None:
    caller = await site.log_in("admin", None)
    assert set(caller.shown) == {"methods", "user", "audit_ids", "expires_at", "issued_at"}
    answer = await site.http.post("/v3/auth/tokens", json=site.login("admin", None))
    assert "project" not in answer.json()["token"]
    assert [each["name"] for each in await caller.get("/v3/auth/projects", "projects")] == ["admin"]
    check_fault(await caller.ask("GET", "/v3/auth/catalog"), 403, "scope")
    check_fault(await caller.ask("GET", "/v3/users"), 403, "identity:list_users")
    assert (await caller.ask("GET", "/v2/images")).status_code == 403


async def test_a_token_is_scoped_anew(site: Site) -> None:
    first = await site.log_in("demo", None)
    body = {
        "auth": {
            "identity": {"methods": ["token"], "token": {"id": first.token}},
            "scope": {"project": {"name": "demo", "domain": {"id": "default"}}},
        }
    }
    answer = await site.http.post("/v3/auth/tokens", json=body)
    token = answer.json()["token"]
    assert token["methods"] == ["token", "password"]
    assert token["audit_ids"][1] == first.shown["audit_ids"][0]
    assert token["expires_at"] == first.shown["expires_at"]
    assert token["project"]["name"] == "demo"


@pytest.mark.parametrize(
    "scope",
    [
        {"system": {"all": True}},
        {"domain": {"id": "default"}},
        {"OS-TRUST:trust": {"id": "1"}},
        {"project": {"name": "admin", "domain": {"name": "Other"}}},
        {"project": {"name": "demo", "domain": {"name": "Default"}}},
        {"project": {"id": "nowhere"}},
    ],
    ids=str,
)
async def test_scopes_in_which_the_user_is_nobody(site: Site, scope: dict[str, Any]) -> None:
    answer = await site.http.post("/v3/auth/tokens", json=site.login("admin", None, scope))
    check_fault(answer, 401, "The request you have made requires authentication.")


USER = {"name": "admin", "domain": {"name": "Default"}, "password": "x"}


def identity(**part: Any) -> dict[str, Any]:
    return {"auth": {"identity": part}}


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "JSON"),
        (b"{", 400, "JSON"),
        (b"[]", 400, "object"),
        (b"\xff", 400, ""),
        (b'{"auth": {"identity": {"methods": ["password\\ud800"]}}}', 400, ""),
        ({}, 400, "auth"),
        ({"auth": {}}, 400, "identity"),
        ({"auth": {"identity": {}}}, 400, "methods"),
        (identity(methods=[]), 400, "methods"),
        (identity(methods="password"), 400, "methods"),
        (identity(methods=["password"]), 400, "Expecting to find password in identity"),
        (identity(methods=["token"]), 400, "Expecting to find token in identity"),
        (identity(methods=["foo"]), 401, "unsupported method"),
        (identity(methods=["password"], password={"user": {"name": "a"}}), 400, "password"),
        (
            identity(methods=["password"], password={"user": {"name": "a", "password": "b"}}),
            400,
            "domain",
        ),
        (
            identity(methods=["password"], password={"user": {"password": "b"}}),
            400,
            "id or name in user",
        ),
        (
            identity(methods=["password"], password={"user": {**USER, "domain": {}}}),
            400,
            "id or name in domain",
        ),
        (identity(methods=["password"], password={"user": {**USER, "name": 1}}), 400, "str"),
        (identity(methods=["password"], password={"user": {**USER, "name": "a\0"}}), 400, ""),
        (identity(methods=["password"], password={"user": USER}), 401, "requires authentication"),
        (
            identity(methods=["password"], password={"user": {**USER, "domain": {"id": "x"}}}),
            401,
            "requires authentication",
        ),
        (
            identity(methods=["application_credential"], application_credential={"secret": "x"}),
            400,
            "application_credential",
        ),
        (
            {
                "auth": {
                    "identity": {"methods": ["password"], "password": {"user": USER}},
                    "scope": {"project": {"name": "admin"}},
                }
            },
            400,
            "domain in project",
        ),
        (
            {
                "auth": {
                    "identity": {"methods": ["password"], "password": {"user": USER}},
                    "scope": {"project": {"id": "x"}, "system": {"all": True}},
                }
            },
            400,
            "one scope",
        ),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_a_login_that_is_wrong(site: Site, body: Any, status: int, words: str) -> None:
    content = {"content": body} if isinstance(body, bytes) else {"json": body}
    answer = await site.http.post("/v3/auth/tokens", **content)
    check_fault(answer, status, words)
    assert "x-subject-token" not in answer.headers


async def test_a_login_larger_than_any_login_needs_to_be(site: Site) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(120):
            yield b" " * 1024

    check_fault(await site.http.post("/v3/auth/tokens", content=b" " * 114689), 413)
    check_fault(await site.http.post("/v3/auth/tokens", content=pieces()), 413)


@pytest.fixture
def _no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The brake's clock stands still, however slowly the machine checks passwords."""
    monkeypatch.setattr(identity_module, "Guesses", partial(Guesses, clock=lambda: 1000.0))


@pytest.mark.usefixtures("_no_time_passes")
async def test_guessing_is_answered_with_the_time_to_wait(site: Site) -> None:
    body = identity(methods=["password"], password={"user": USER})
    for _ in range(6):
        check_fault(await site.http.post("/v3/auth/tokens", json=body), 401, "requires auth")
    check_fault(await site.http.post("/v3/auth/tokens", json=body), 401, "wait")
    right = site.login("admin", "admin")
    check_fault(await site.http.post("/v3/auth/tokens", json=right), 401, "wait")
    assert (await site.log_in("demo")).token, "others are not held up"


@pytest.mark.usefixtures("_no_time_passes")
async def test_behind_a_trusted_proxy_guessing_slows_the_one_who_guesses(tmp_path: Path) -> None:
    site = Site(settings_in(tmp_path, server__trusted_proxies=["192.0.2.0/24"]))
    body = identity(methods=["password"], password={"user": USER})
    for _ in range(7):
        headers = {"X-Forwarded-For": "203.0.113.5"}
        answer = await site.http.post("/v3/auth/tokens", json=body, headers=headers)
    check_fault(answer, 401, "wait")
    headers = {"X-Forwarded-For": "198.51.100.1"}
    right = site.login("admin", "admin")
    answer = await site.http.post("/v3/auth/tokens", json=right, headers=headers)
    assert answer.status_code == 201
    await site.close()


# --- tokens -------------------------------------------------------------------------------------------


async def test_a_token_is_shown_as_it_was_given(demo: Caller) -> None:
    for path in ("/v3", "/identity/v3"):
        answer = await demo.ask("GET", f"{path}/auth/tokens", **{"X-Subject-Token": demo.token})
        assert answer.status_code == 200
        assert answer.headers["x-subject-token"] == demo.token
        assert answer.headers["vary"] == "X-Auth-Token"
        assert answer.json() == {"token": demo.shown}
    answer = await demo.about("HEAD", demo.token)
    assert (answer.status_code, answer.content) == (200, b"")


async def test_whose_token_it_is_decides_who_may_look(
    site: Site, admin: Caller, demo: Caller
) -> None:
    other = await site.log_in("demo", None)
    for method in ("GET", "HEAD"):
        assert (await admin.about(method, demo.token)).status_code == 200
        assert (await demo.about(method, other.token)).status_code == 200
        assert (await demo.about(method, admin.token)).status_code == 403
    check_fault(await demo.about("DELETE", admin.token), 403, "identity:revoke_token")
    assert (await admin.about("GET", admin.token)).status_code == 200


async def test_a_service_may_look_at_tokens_and_end_none(
    site: Site, admin: Caller, demo: Caller
) -> None:
    await made(admin, "project", name="service")
    user = await made(admin, "user", name="nova", password="pw")
    (project,) = await admin.get("/v3/projects?name=service", "projects")
    (role,) = await admin.get("/v3/roles?name=service", "roles")
    path = f"/v3/projects/{project['id']}/users/{user['id']}/roles/{role['id']}"
    assert (await admin.ask("PUT", path)).status_code == 204
    site.logins["nova"] = "pw"
    nova = await site.log_in("nova", "service")
    assert (await nova.about("GET", demo.token)).status_code == 200
    check_fault(await nova.about("DELETE", demo.token), 403)
    # Beside a service's token, a user's is worth no more than the service's for looking.
    both = {"X-Service-Token": nova.token, "X-Subject-Token": admin.token}
    assert (await demo.ask("GET", "/v3/auth/tokens", **both)).status_code == 200
    assert (await demo.ask("DELETE", "/v3/auth/tokens", **both)).status_code == 403
    both["X-Service-Token"] = admin.token
    assert (await demo.ask("DELETE", "/v3/auth/tokens", **both)).status_code == 403
    assert (await demo.ask("GET", "/v3/users", **both)).status_code == 403


async def test_what_is_no_token_is_not_found(admin: Caller) -> None:
    check_fault(await admin.about("GET", "nonsense"), 404, "Could not find the token")
    check_fault(await admin.about("DELETE", admin.token[:-1]), 404)
    check_fault(await admin.ask("GET", "/v3/auth/tokens"), 404, "X-Subject-Token")
    answer = await admin.about("HEAD", "nonsense")
    assert (answer.status_code, answer.content) == (404, b"")


async def test_a_revoked_token_opens_nothing_from_that_moment_on(site: Site) -> None:
    demo, other = await site.log_in("demo"), await site.log_in("demo")
    assert (await demo.about("DELETE", demo.token)).status_code == 204
    check_fault(await demo.ask("GET", "/v3/auth/projects"), 401)
    assert (await demo.ask("GET", "/v2/images")).status_code == 401
    assert (await other.ask("GET", "/v2/images")).status_code == 200
    admin = await site.log_in("admin")
    check_fault(await admin.about("GET", demo.token), 404)
    assert (await admin.about("DELETE", other.token)).status_code == 204
    assert (await other.ask("GET", "/v2/images")).status_code == 401


@pytest.mark.parametrize("token", ["", "nonsense", "gAAAAABrAmvXJhnywLfeaPLjZJ6fvk5G"])
async def test_without_a_good_token_only_the_version_is_told(site: Site, token: str) -> None:
    headers = {"X-Auth-Token": token} if token else {}
    for path in (
        "/v3/auth/tokens", "/v3/auth/catalog", "/v3/auth/projects", "/v3/auth/domains",
        "/v3/auth/system", "/v3/projects", "/v3/projects/x", "/v3/users", "/v3/users/x",
        "/v3/users/x/projects", "/v3/users/x/application_credentials", "/v3/roles", "/v3/roles/x",
        "/v3/role_assignments", "/v3/domains", "/v3/domains/default", "/v3/services",
        "/v3/services/x", "/v3/endpoints", "/v3/endpoints/x", "/v3/regions", "/v3/regions/x",
        "/identity/v3/users",
    ):  # fmt: skip
        check_fault(await site.http.get(path, headers=headers), 401)


async def test_anonymous_readers_of_images_read_no_accounts(tmp_path: Path) -> None:
    site = Site(settings_in(tmp_path, identity__allow_anonymous=True))
    for path in ("/v3/users", "/v3/auth/projects", "/v3/domains/default", "/v3/users/x"):
        check_fault(await site.http.get(path), 401)
    answer = await site.http.post("/v3/projects", json={"project": {"name": "x"}})
    check_fault(answer, 401)
    await site.close()


async def test_unknown_paths_and_methods(admin: Caller) -> None:
    assert (await admin.ask("GET", "/v3/groups")).status_code == 404
    answer = await admin.ask("DELETE", "/v3/auth/catalog")
    check_fault(answer, 405)
    assert answer.headers["allow"] == "GET"


# --- looking around -----------------------------------------------------------------------------------


async def test_lists_name_themselves_as_keystone_lists_do(admin: Caller) -> None:
    for path, key in (
        ("projects", "projects"), ("users", "users"), ("roles", "roles"), ("domains", "domains"),
        ("services", "services"), ("endpoints", "endpoints"), ("regions", "regions"),
        ("role_assignments", "role_assignments"), ("auth/projects", "projects"),
        ("auth/domains", "domains"), (f"users/{admin.user_id}/projects", "projects"),
        (f"users/{admin.user_id}/application_credentials", "application_credentials"),
    ):  # fmt: skip
        for query in ("", "?name=nothing&x=y"):
            answer = await admin.ask("GET", f"/v3/{path}{query}")
            assert answer.status_code == 200, path
            body = answer.json()
            assert set(body) == {key, "links"}
            assert body["links"] == {
                "next": None, "previous": None, "self": f"{BASE}/v3/{path}{query}",
            }  # fmt: skip


async def test_things_are_shown_as_keystone_shows_them(admin: Caller) -> None:
    (project,) = await admin.get("/v3/projects?name=admin", "projects")
    assert project == {
        "id": admin.project_id,
        "name": "admin",
        "domain_id": "default",
        "description": project["description"],
        "enabled": True,
        "parent_id": "default",
        "is_domain": False,
        "tags": [],
        "options": {},
        "links": {"self": f"{BASE}/v3/projects/{admin.project_id}"},
    }
    (user,) = await admin.get("/v3/users?name=admin", "users")
    assert user == {
        "id": admin.user_id,
        "name": "admin",
        "domain_id": "default",
        "enabled": True,
        "password_expires_at": None,
        "options": {},
        "links": {"self": f"{BASE}/v3/users/{admin.user_id}"},
    }
    (role,) = await admin.get("/v3/roles?name=member", "roles")
    assert role == {
        "id": role["id"],
        "name": "member",
        "domain_id": None,
        "description": None,
        "options": {"immutable": True},
        "links": {"self": f"{BASE}/v3/roles/{role['id']}"},
    }
    assert await admin.get("/v3/domains/default", "domain") == {
        "id": "default",
        "name": "Default",
        "description": "The default domain",
        "enabled": True,
        "tags": [],
        "options": {},
        "links": {"self": f"{BASE}/v3/domains/default"},
    }


async def test_what_a_list_shows_can_be_shown_alone(admin: Caller) -> None:
    for path, key in (
        ("projects", "project"), ("users", "user"), ("roles", "role"), ("domains", "domain"),
        ("services", "service"), ("endpoints", "endpoint"), ("regions", "region"),
    ):  # fmt: skip
        listed = await admin.get(f"/v3/{path}", path)
        assert listed
        for each in listed:
            assert await admin.get(f"/v3/{path}/{each['id']}", key) == each
        check_fault(await admin.ask("GET", f"/v3/{path}/nothing"), 404, "nothing")


async def test_filters(admin: Caller) -> None:
    for path, key in (("projects", "projects"), ("users", "users")):
        assert len(await admin.get(f"/v3/{path}", key)) == 2
        assert len(await admin.get(f"/v3/{path}?name=demo", key)) == 1
        assert await admin.get(f"/v3/{path}?name=DEMO", key) == []
        assert len(await admin.get(f"/v3/{path}?domain_id=default&enabled=true", key)) == 2
        assert await admin.get(f"/v3/{path}?domain_id=other", key) == []
        assert await admin.get(f"/v3/{path}?enabled=0", key) == []
        check_fault(await admin.ask("GET", f"/v3/{path}?enabled=perhaps"), 400, "enabled")
        check_fault(await admin.ask("GET", f"/v3/{path}?name=%00"), 400, "NUL")
    assert len(await admin.get("/v3/services?type=image", "services")) == 1
    assert len(await admin.get("/v3/endpoints?interface=public", "endpoints")) == len(
        await admin.get("/v3/services", "services")
    )
    assert await admin.get("/v3/endpoints?region_id=nowhere", "endpoints") == []
    assert await admin.get("/v3/domains?name=Other", "domains") == []
    assert len(await admin.get("/v3/domains?name=Default&enabled=true", "domains")) == 1


async def test_endpoints_say_where_a_project_belongs_into_the_url(admin: Caller) -> None:
    for endpoint in await admin.get("/v3/endpoints", "endpoints"):
        assert "{" not in endpoint["url"]
        assert admin.project_id not in endpoint["url"]


async def test_a_member_sees_itself_and_its_project_and_no_more(
    admin: Caller, demo: Caller
) -> None:
    for path in (
        f"projects/{demo.project_id}", f"users/{demo.user_id}", f"users/{demo.user_id}/projects",
        f"users/{demo.user_id}/application_credentials", "domains/default", "regions",
        "auth/projects", "auth/catalog", "auth/system", "auth/domains",
    ):  # fmt: skip
        assert (await demo.ask("GET", f"/v3/{path}")).status_code == 200, path
    for path in (
        "projects", "projects?name=demo", f"projects/{admin.project_id}", "projects/nothing",
        "users", f"users/{admin.user_id}", "users/nothing", f"users/{admin.user_id}/projects",
        f"users/{admin.user_id}/application_credentials", "roles", "roles/nothing", "domains",
        "domains/nothing", "services", "endpoints", "role_assignments",
        f"projects/{demo.project_id}/users/{demo.user_id}/roles",
    ):  # fmt: skip
        check_fault(await demo.ask("GET", f"/v3/{path}"), 403, "not authorized")


async def test_role_assignments_by_id_and_by_name(admin: Caller, demo: Caller) -> None:
    found = await admin.get(f"/v3/role_assignments?user.id={demo.user_id}", "role_assignments")
    (member,) = await admin.get("/v3/roles?name=member", "roles")
    path = f"projects/{demo.project_id}/users/{demo.user_id}/roles/{member['id']}"
    assert found == [
        {
            "links": {"assignment": f"{BASE}/v3/{path}"},
            "scope": {"project": {"id": demo.project_id}},
            "user": {"id": demo.user_id},
            "role": {"id": member["id"]},
        }
    ]
    query = f"scope.project.id={demo.project_id}&include_names=True&effective"
    named = await admin.get(f"/v3/role_assignments?{query}", "role_assignments")
    default = {"id": "default", "name": "Default"}
    assert {each["role"]["name"] for each in named} == {"member", "reader"}
    assert named[0]["user"] == {"id": demo.user_id, "name": "demo", "domain": default}
    assert named[0]["scope"] == {
        "project": {"id": demo.project_id, "name": "demo", "domain": default}
    }
    only = await admin.get(f"/v3/role_assignments?role.id={member['id']}", "role_assignments")
    assert [each["user"]["id"] for each in only] == [demo.user_id]


# --- changing -------------------------------------------------------------------------------------------


async def made(caller: Caller, kind: str, **values: Any) -> dict[str, Any]:
    answer = await caller.ask("POST", f"/v3/{kind}s", {kind: values})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()[kind]
    return found


async def test_an_operator_s_tools_make_change_and_remove_accounts(
    site: Site, admin: Caller
) -> None:
    project = await made(admin, "project", name="lab", domain_id="default", description="d")
    user = await made(admin, "user", name="anna", password="pw-anna", email="a@example.org")
    role = await made(admin, "role", name="onlooker")
    grant = f"/v3/projects/{project['id']}/users/{user['id']}/roles/{role['id']}"
    assert (await admin.ask("HEAD", grant)).status_code == 404
    assert (await admin.ask("PUT", grant)).status_code == 204
    assert (await admin.ask("PUT", grant)).status_code == 204
    assert (await admin.ask("HEAD", grant)).status_code == 204
    listed = await admin.get(grant.removesuffix(f"/{role['id']}"), "roles")
    assert [each["name"] for each in listed] == ["onlooker"]
    site.logins["anna"] = "pw-anna"
    anna = await site.log_in("anna", "lab")
    assert [each["name"] for each in anna.shown["roles"]] == ["onlooker"]

    path = f"/v3/projects/{project['id']}"
    answer = await admin.ask("PATCH", path, {"project": {"name": "lab2", "description": None}})
    assert (answer.json()["project"]["name"], answer.json()["project"]["description"]) == (
        "lab2", "",
    )  # fmt: skip
    assert (await anna.ask("GET", "/v3/auth/projects")).status_code == 200
    answer = await admin.ask("PATCH", path, {"project": {"enabled": False}})
    assert answer.json()["project"]["enabled"] is False
    check_fault(await anna.ask("GET", "/v3/auth/projects"), 401)
    await admin.ask("PATCH", path, {"project": {"enabled": True}})

    anna = await site.log_in("anna", "lab2")
    path = f"/v3/users/{user['id']}"
    answer = await admin.ask("PATCH", path, {"user": {"password": "another", "name": "Anna"}})
    assert answer.json()["user"]["name"] == "Anna"
    check_fault(await anna.ask("GET", "/v3/auth/projects"), 401)
    site.logins["Anna"] = "another"
    anna = await site.log_in("Anna", "lab2")
    assert (await admin.ask("DELETE", grant)).status_code == 204
    check_fault(await anna.ask("GET", "/v3/auth/projects"), 401)
    check_fault(await admin.ask("DELETE", grant), 404)

    for path in (f"/v3/users/{user['id']}", f"/v3/projects/{project['id']}"):
        assert (await admin.ask("DELETE", path)).status_code == 204
        check_fault(await admin.ask("GET", path), 404)
        check_fault(await admin.ask("DELETE", path), 404)
    assert (await admin.ask("DELETE", f"/v3/roles/{role['id']}")).status_code == 204


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("projects", {"project": {"name": "demo"}}, 409, "demo"),
        ("projects", {"project": {"name": ""}}, 400, "name"),
        ("projects", {"project": {"name": " "}}, 400, "name"),
        ("projects", {"project": {"name": "x" * 65}}, 400, "64"),
        ("projects", {"project": {"name": "a\nb"}}, 400, "control"),
        ("projects", {"project": {}}, 400, "name"),
        ("projects", {}, 400, "project"),
        ("projects", {"project": {"name": "x", "domain_id": "other"}}, 400, "domain"),
        ("projects", {"project": {"name": "x", "is_domain": True}}, 400, "parent"),
        ("projects", {"project": {"name": "x", "parent_id": "y"}}, 400, "parent"),
        ("users", {"user": {"name": "demo"}}, 409, "demo"),
        ("users", {"user": {"name": "x" * 256}}, 400, ""),
        ("users", {"user": {"name": "x", "password": ""}}, 400, "password"),
        ("users", {"user": {"name": "x", "password": "y" * 1025}}, 400, "password"),
        ("users", {"user": {"name": "x", "enabled": "yes"}}, 400, "bool"),
        ("roles", {"role": {"name": "admin"}}, 409, "admin"),
        ("roles", {"role": {"name": "x", "domain_id": "default"}}, 400, "domain"),
    ],
    ids=lambda value: str(value)[:50],
)
async def test_accounts_that_cannot_be_made(
    admin: Caller, path: str, body: Any, status: int, words: str
) -> None:
    check_fault(await admin.ask("POST", f"/v3/{path}", body), status, words)


async def test_a_change_that_is_refused_changes_nothing(admin: Caller, demo: Caller) -> None:
    path = f"/v3/users/{demo.user_id}"
    change = {"user": {"description": "changed", "password": ""}}
    check_fault(await admin.ask("PATCH", path, change), 400, "password")
    check_fault(await admin.ask("PATCH", path, {"user": {"name": "admin"}}), 409)
    assert "description" not in (await admin.get(path, "user"))
    assert (await demo.ask("GET", "/v3/auth/projects")).status_code == 200


async def test_built_in_roles_stay(admin: Caller) -> None:
    for role in await admin.get("/v3/roles", "roles"):
        check_fault(await admin.ask("DELETE", f"/v3/roles/{role['id']}"), 400, "built in")


async def test_members_change_nothing(admin: Caller, demo: Caller) -> None:
    (role,) = await admin.get("/v3/roles?name=admin", "roles")
    grant = f"/v3/projects/{demo.project_id}/users/{demo.user_id}/roles/{role['id']}"
    for method, path, body in (
        ("POST", "/v3/projects", {"project": {"name": "x"}}),
        ("PATCH", f"/v3/projects/{demo.project_id}", {"project": {"name": "x"}}),
        ("DELETE", f"/v3/projects/{demo.project_id}", None),
        ("POST", "/v3/users", {"user": {"name": "x"}}),
        ("PATCH", f"/v3/users/{demo.user_id}", {"user": {"password": "x"}}),
        ("DELETE", f"/v3/users/{demo.user_id}", None),
        ("POST", "/v3/roles", {"role": {"name": "x"}}),
        ("DELETE", f"/v3/roles/{role['id']}", None),
        ("PUT", grant, None),
        ("DELETE", grant, None),
        ("HEAD", grant, None),
    ):
        answer = await demo.ask(method, path, body)
        assert answer.status_code == 403, (method, path)
    assert (await demo.ask("GET", "/v3/auth/projects")).status_code == 200


async def test_everybody_changes_the_own_password_with_the_old_one(site: Site) -> None:
    demo = await site.log_in("demo")
    path = f"/v3/users/{demo.user_id}/password"
    wrong = {"user": {"original_password": "wrong", "password": "new"}}
    check_fault(await demo.ask("POST", path, wrong), 401)
    right = {"user": {"original_password": site.logins["demo"], "password": "new"}}
    admin = await site.log_in("admin")
    check_fault(await admin.ask("POST", path, right), 403)
    assert (await demo.ask("POST", path, right)).status_code == 204
    check_fault(await demo.ask("GET", "/v3/auth/projects"), 401)
    body = site.login("demo", "demo")
    check_fault(await site.http.post("/v3/auth/tokens", json=body), 401)
    site.logins["demo"] = "new"
    await site.log_in("demo")


# --- application credentials ------------------------------------------------------------------------------


def credentials(caller: Caller) -> str:
    return f"/v3/users/{caller.user_id}/application_credentials"


async def credential(caller: Caller, **values: Any) -> dict[str, Any]:
    answer = await caller.ask("POST", credentials(caller), {"application_credential": values})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()["application_credential"]
    return found


async def log_in_with(site: Site, made: dict[str, Any], **scope: Any) -> httpx.Response:
    part = {"id": made["id"], "secret": made["secret"]}
    auth = {"identity": {"methods": ["application_credential"], "application_credential": part}}
    return await site.http.post("/v3/auth/tokens", json={"auth": auth | scope})


async def test_a_credential_is_shown_as_keystone_shows_it_and_its_secret_once(
    demo: Caller,
) -> None:
    made = await credential(demo, name="ci", description="builds", roles=[], access_rules=[])
    secret = made.pop("secret")
    assert len(secret) >= 80
    roles = made.pop("roles")
    assert [role["name"] for role in roles] == ["member", "reader"]
    assert roles[0]["domain_id"] is None
    assert made == {
        "id": made["id"],
        "name": "ci",
        "description": "builds",
        "user_id": demo.user_id,
        "project_id": demo.project_id,
        "system": None,
        "expires_at": None,
        "unrestricted": False,
        "links": {"self": f"{BASE}{credentials(demo)}/{made['id']}"},
    }
    (listed,) = await demo.get(f"{credentials(demo)}?name=ci", "application_credentials")
    shown = await demo.get(f"{credentials(demo)}/{made['id']}", "application_credential")
    assert listed == shown == made | {"roles": roles}


async def test_a_credential_logs_in_with_no_more_than_its_roles(site: Site, demo: Caller) -> None:
    made = await credential(
        demo, name="ci", secret="s3cret", roles=[{"name": "reader"}],
        expires_at="2999-01-01T00:00:00.000000Z",
    )  # fmt: skip
    assert (made["secret"], made["expires_at"]) == ("s3cret", "2999-01-01T00:00:00.000000")
    answer = await log_in_with(site, made)
    assert answer.status_code == 201
    token = answer.json()["token"]
    assert token["methods"] == ["application_credential"]
    assert [role["name"] for role in token["roles"]] == ["reader"]
    assert token["project"]["id"] == demo.project_id
    assert token["application_credential"] == {
        "id": made["id"], "name": "ci", "restricted": True,
    }  # fmt: skip
    caller = Caller(site, answer.headers["x-subject-token"], token)
    assert (await caller.ask("GET", "/v2/images")).status_code == 200
    assert (await caller.ask("POST", "/v2/images", {"name": "x"})).status_code == 403
    answer = await log_in_with(site, made, scope={"project": {"id": demo.project_id}})
    check_fault(answer, 401, "cannot request a scope")
    check_fault(await log_in_with(site, made | {"secret": "wrong"}), 401)


async def test_a_restricted_credential_breeds_no_others(site: Site, demo: Caller) -> None:
    for unrestricted, status in ((False, 403), (True, 201)):
        made = await credential(demo, name=f"ci {unrestricted}", unrestricted=unrestricted)
        answer = await log_in_with(site, made)
        caller = Caller(site, answer.headers["x-subject-token"], answer.json()["token"])
        assert caller.shown["application_credential"]["restricted"] is not unrestricted
        body = {"application_credential": {"name": f"child {unrestricted}"}}
        assert (await caller.ask("POST", credentials(demo), body)).status_code == status
        path = f"{credentials(demo)}/{made['id']}"
        expected = 204 if unrestricted else 403
        assert (await caller.ask("DELETE", path)).status_code == expected
        password = {"user": {"original_password": site.logins["demo"], "password": "x"}}
        answer = await caller.ask("POST", f"/v3/users/{demo.user_id}/password", password)
        assert answer.status_code == (401 if unrestricted else 403)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x", "roles": [{"name": "admin"}]}, "admin"),
        ({"name": "x", "roles": [{"id": "nothing"}]}, "nothing"),
        ({"name": "x", "roles": [{}]}, "role"),
        ({"name": "x", "expires_at": "2020-01-01T00:00:00Z"}, "future"),
        ({"name": "x", "expires_at": "tomorrow"}, "ISO 8601"),
        ({"name": "x", "secret": "y" * 1025}, "password"),
        ({"name": "x", "access_rules": [{"path": "/v2/images"}]}, "access_rules"),
    ],
    ids=str,
)
async def test_credentials_that_cannot_be_made(
    demo: Caller, values: dict[str, Any], words: str
) -> None:
    body = {"application_credential": values}
    check_fault(await demo.ask("POST", credentials(demo), body), 400, words)


async def test_credentials_are_their_owner_s_and_administrators_may_clear_up(
    site: Site, admin: Caller, demo: Caller
) -> None:
    made = await credential(demo, name="ci")
    body = {"application_credential": {"name": "ci"}}
    check_fault(await demo.ask("POST", credentials(demo), body), 409, "ci")
    check_fault(await admin.ask("POST", credentials(demo), body), 403)
    check_fault(await demo.ask("POST", credentials(admin), body), 403)
    unscoped = await site.log_in("demo", None)
    check_fault(await unscoped.ask("POST", credentials(demo), body), 403, "project")
    path = f"{credentials(demo)}/{made['id']}"
    assert (await admin.ask("GET", path)).status_code == 200
    check_fault(await demo.ask("GET", f"{credentials(admin)}/{made['id']}"), 403)
    check_fault(await admin.ask("GET", f"{credentials(admin)}/{made['id']}"), 404)
    answer = await log_in_with(site, made)
    token = answer.headers["x-subject-token"]
    assert (await admin.ask("DELETE", path)).status_code == 204
    check_fault(await site.http.get("/v3/auth/projects", headers={"X-Auth-Token": token}), 401)
    check_fault(await demo.ask("GET", path), 404, "Could not find Application Credential")
