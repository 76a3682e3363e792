"""The built-in identity beside a real Keystone, under real clients, and in several processes."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import keystoneauth1.exceptions
import openstack
import pytest
import yaml

from tests.conftest import configured
from tests.interop.clients.commands import Shell
from tests.interop.conftest import Cloud
from tests.interop.keystone.server import ADMIN_PASSWORD, KeystoneServer
from tests.support.server import Client, ServerProcess, told

pytestmark = pytest.mark.interop

WITHIN_SECONDS = 15.0
"""How long another process may take to notice: a second (`tests/unit/test_identity_login.py` holds it to
that), and what a busy machine may add."""


# --- beside Keystone ------------------------------------------------------------------------------------


class Peer:
    """An Identity API, and its first administrator."""

    def __init__(self, url: str, password: str) -> None:
        self.url = url
        # uWSGI closes connections without saying so: take a new one for every call.
        limits = httpx.Limits(max_keepalive_connections=0)
        self.http = httpx.Client(base_url=url, timeout=60, limits=limits, trust_env=False)
        self.password = password
        self.tokens: dict[str, str] = {}
        self.names: dict[str, str] = {}

    def log_in(self, user: str, password: str, scope: Any, query: str = "") -> httpx.Response:
        """A login with a password."""
        proof = {"user": {"name": user, "domain": {"id": "default"}, "password": password}}
        auth = {"identity": {"methods": ["password"], "password": proof}}
        if scope is not None:
            auth["scope"] = scope
        return self.http.post(f"/auth/tokens{query}", json={"auth": auth})

    def furnish(self) -> None:
        """Make the accounts that the calls below speak of, through the API alone."""
        scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
        answer = self.log_in("admin", self.password, scope)
        assert answer.status_code == 201, told(answer)
        self.tokens["admin"] = answer.headers["x-subject-token"]
        self.names["{admin}"] = answer.json()["token"]["user"]["id"]
        self.names["{admin_project}"] = answer.json()["token"]["project"]["id"]
        # A Keystone learns of regions with their endpoints; here there is one from the start.
        if self.call("admin", "GET", "/regions/RegionOne").status_code == 404:
            self.call("admin", "POST", "/regions", {"region": {"id": "RegionOne"}})
        for kind, name, more in (
            ("project", "peer", {}),
            ("user", "peer", {"password": "pw"}),
        ):
            body = {kind: {"name": name, "domain_id": "default", **more}}
            made = self.call("admin", "POST", f"/{kind}s", body)
            assert made.status_code == 201, told(made)
            self.names[f"{{{kind}}}"] = made.json()[kind]["id"]
        for role in self.call("admin", "GET", "/roles").json()["roles"]:
            self.names[f"{{role {role['name']}}}"] = role["id"]
        grant = "/projects/{project}/users/{user}/roles/{role member}"
        assert self.call("admin", "PUT", grant).status_code == 204
        for name, wanted in (
            ("peer", {"project": {"id": self.names["{project}"]}}),
            ("unscoped", "unscoped"),
        ):
            answer = self.log_in("peer", "pw", wanted)
            assert answer.status_code == 201, told(answer)
            self.tokens[name] = answer.headers["x-subject-token"]

    def filled(self, text: str) -> str:
        """The text with this peer's own ids."""
        for name, value in self.names.items():
            text = text.replace(name, value)
        return text

    def call(
        self, who: str | None, method: str, path: str, body: Any = None, about: str | None = None
    ) -> httpx.Response:
        """A call with the token of one of the callers, about the token of another."""
        headers = {"X-Auth-Token": self.tokens[who]} if who else {}
        if about:
            headers["X-Subject-Token"] = self.tokens.get(about, about)
        return self.http.request(method, self.filled(path), json=body, headers=headers)


@pytest.fixture(scope="module")
def peers(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Peer, Peer]]:
    """Transom and Keystone, with the same accounts."""
    keystone = KeystoneServer(tmp_path_factory.mktemp("keystone")).start()
    with configured(tmp_path_factory.mktemp("server")) as server:
        ours = Peer(server.auth_url, server.cloud()["password"])
        theirs = Peer(keystone.url, ADMIN_PASSWORD)
        for peer in (ours, theirs):
            peer.furnish()
        yield ours, theirs
        for peer in (ours, theirs):
            peer.http.close()
    keystone.stop()


def shape(value: Any) -> Any:
    """What a body looks like: its keys and the kinds of its values."""
    match value:
        case dict():
            return {key: shape(item) for key, item in value.items()}
        case list():
            return [shape(value[0])] if value else []
        case _:
            return type(value).__name__


GRANT = "/projects/{project}/users/{user}/roles"
CREDENTIALS = "/users/{user}/application_credentials"
CALLS: list[tuple[str | None, str, str, Any]] = [
    (None, "GET", "", None),
    (None, "GET", "/", None),
    *(
        (who, "GET", path, None)
        for who in (None, "admin", "peer")
        for path in (
            "/auth/catalog", "/auth/projects", "/auth/domains", "/projects", "/projects?name=peer",
            "/projects/{project}", "/projects/{admin_project}", "/projects/nothing", "/users",
            "/users?name=peer", "/users/{user}", "/users/{admin}", "/users/nothing",
            "/users/{user}/projects", "/users/{admin}/projects", "/roles", "/roles?name=member",
            "/roles/{role member}", "/roles/nothing", "/domains", "/domains/default",
            "/domains/nothing", "/regions", "/regions/RegionOne", "/regions/nothing", "/services",
            "/services/nothing", "/endpoints", "/endpoints/nothing", GRANT,
            "/role_assignments?user.id={user}", "/role_assignments?user.id={user}&include_names",
            "/role_assignments?scope.project.id={project}&effective", CREDENTIALS,
            f"{CREDENTIALS}/nothing", "/users/{admin}/application_credentials",
        )
    ),
    *(("unscoped", "GET", path, None) for path in ("/auth/projects", "/projects", "/auth/catalog")),
    *((who, "HEAD", f"{GRANT}/{{role {name}}}", None)
      for who in ("admin", "peer") for name in ("member", "admin")),
    *(("peer", method, path, body) for method, path, body in (
        ("POST", "/projects", {"project": {"name": "x", "domain_id": "default"}}),
        ("PATCH", "/projects/{project}", {"project": {"description": "x"}}),
        ("DELETE", "/projects/{project}", None),
        ("POST", "/users", {"user": {"name": "x", "domain_id": "default"}}),
        ("PATCH", "/users/{user}", {"user": {"description": "x"}}),
        ("DELETE", "/users/{user}", None),
        ("POST", "/roles", {"role": {"name": "x"}}),
        ("PUT", f"{GRANT}/{{role admin}}", None),
        ("DELETE", f"{GRANT}/{{role member}}", None),
        ("POST", "/users/{admin}/application_credentials",
         {"application_credential": {"name": "x"}}),
        ("POST", CREDENTIALS, {"application_credential": {"name": "a1"}}),
        ("POST", CREDENTIALS, {"application_credential": {"name": "a1"}}),
        ("POST", CREDENTIALS, {"application_credential": {"name": "a2", "unrestricted": True,
                                                          "roles": [{"name": "reader"}],
                                                          "expires_at": "2999-01-01T00:00:00"}}),
        ("POST", CREDENTIALS, {"application_credential": {}}),
        ("POST", CREDENTIALS, {"application_credential": {"name": "a3",
                                                          "roles": [{"name": "admin"}]}}),
        ("POST", CREDENTIALS, {"application_credential": {"name": "a3",
                                                          "expires_at": "2020-01-01T00:00:00"}}),
        ("GET", CREDENTIALS, None),
        ("GET", f"{CREDENTIALS}?name=a2", None),
    )),
    *(("admin", method, path, body) for method, path, body in (
        ("POST", "/projects", {"project": {"name": "peer", "domain_id": "default"}}),
        ("POST", "/projects", {"project": {"name": "", "domain_id": "default"}}),
        ("POST", "/projects", {"project": {}}),
        ("POST", "/projects", {"project": {"name": "two", "domain_id": "default",
                                           "description": "d"}}),
        ("POST", "/users", {"user": {"name": "peer", "domain_id": "default"}}),
        ("POST", "/users", {"user": {"name": "two", "domain_id": "default", "password": "x",
                                     "email": "e@example.org", "description": "d",
                                     "default_project_id": "{project}"}}),
        ("POST", "/users", {"user": {"name": "x" * 256, "domain_id": "default"}}),
        ("POST", "/roles", {"role": {"name": "member"}}),
        ("POST", "/roles", {"role": {"name": "onlooker"}}),
        ("PATCH", "/projects/nothing", {"project": {"description": "x"}}),
        ("PATCH", "/projects/{project}", {"project": {"description": "changed"}}),
        ("PATCH", "/users/{user}", {"user": {"description": "changed"}}),
        ("PUT", f"{GRANT}/nothing", None),
        ("PUT", "/projects/nothing/users/{user}/roles/{role member}", None),
        ("DELETE", f"{GRANT}/{{role admin}}", None),
        ("DELETE", "/users/nothing", None),
        ("DELETE", "/projects/nothing", None),
        ("DELETE", "/roles/nothing", None),
    )),
]  # fmt: skip

DIFFERENT = {
    # Keystone lists endpoints and services that were registered; these are told by the code.
    ("admin", "GET", "/services"),
    ("admin", "GET", "/endpoints"),
    ("admin", "GET", "/auth/catalog"),
    ("peer", "GET", "/auth/catalog"),
}
"""Bodies that have another content by their nature; statuses are compared all the same."""

STRICTER = {
    # Keystone tells everybody whether a role exists.
    ("peer", "GET", "/roles/nothing"): (403, 404),
}
"""Calls that are answered otherwise on purpose: our status, Keystone's."""


def alike(ours: httpx.Response, theirs: httpx.Response, *, bodies: bool = True) -> None:
    """Status, telling headers and the shape of the body are the same."""
    assert ours.status_code == theirs.status_code, f"{told(ours)}\n{told(theirs)}"
    for header in ("www-authenticate", "x-subject-token", "location"):
        assert (header in ours.headers) == (header in theirs.headers), f"{header}: {told(ours)}"
    if ours.is_success:
        assert ours.headers.get("vary") == theirs.headers.get("vary")
    kinds = [answer.headers.get("content-type", "").partition(";")[0] for answer in (ours, theirs)]
    if ours.content or theirs.content:
        assert kinds[0] == kinds[1]
    if not bodies or not theirs.content:
        assert bool(ours.content) == bool(theirs.content)
        return
    left, right = ours.json(), theirs.json()
    if ours.status_code >= 400:
        # One kind of failure in Keystone adds a key of its own.
        right["error"].pop("identity", None)
    forgive(left, right)
    assert shape(left) == shape(right), f"{told(ours)}\n{told(theirs)}"


def forgive(left: Any, right: Any) -> None:
    """Take out what is said in two ways that clients read alike."""
    for body in (left, right):
        for holder in (body, *body.get("application_credentials", [])):
            found = holder.get("application_credential", holder)
            # Keystone: null where nothing was said; here: false.
            if isinstance(found, dict) and "unrestricted" in found:
                found["unrestricted"] = bool(found["unrestricted"])
        for project in (*body.get("projects", []), body.get("project", {})):
            project.get("options", {}).clear()
        for found in (body.get("project", {}), body.get("user", {})):
            # Keystone repeats here, after a change, what it has no column for.
            found.pop("extra", None)


@pytest.mark.parametrize(
    ("who", "method", "path", "body"),
    CALLS,
    ids=[f"{who} {method} {path} {body or ''}"[:90] for who, method, path, body in CALLS],
)
def test_every_call_is_answered_as_keystone_answers_it(
    peers: tuple[Peer, Peer], who: str | None, method: str, path: str, body: Any
) -> None:
    ours, theirs = (peer.call(who, method, path, body) for peer in peers)
    if (who, method, path) in STRICTER:
        assert (ours.status_code, theirs.status_code) == STRICTER[who, method, path]
    else:
        alike(ours, theirs, bodies=(who, method, path) not in DIFFERENT)


PROJECT = {"project": {"name": "peer", "domain": {"name": "Default"}}}


@pytest.mark.parametrize("query", ["", "?nocatalog"])
@pytest.mark.parametrize(
    ("user", "password", "scope"),
    [
        ("peer", "pw", PROJECT),
        ("peer", "pw", "unscoped"),
        ("peer", "pw", None),
        ("peer", "pw", {"project": {"name": "nowhere", "domain": {"id": "default"}}}),
        ("peer", "pw", {"project": {"name": "peer", "domain": {"id": "other"}}}),
        ("peer", "pw", {"project": {"name": "peer"}}),
        ("peer", "pw", {"project": {"id": "nowhere"}}),
        ("peer", "pw", {"project": {"name": "admin", "domain": {"id": "default"}}}),
        ("peer", "pw", {"system": {"all": True}}),
        ("peer", "pw", {"domain": {"id": "default"}}),
        ("peer", "wrong", PROJECT),
        ("nobody", "pw", PROJECT),
    ],
    ids=lambda value: str(value)[:60],
)
def test_every_login_is_answered_as_keystone_answers_it(
    peers: tuple[Peer, Peer], user: str, password: str, scope: Any, query: str
) -> None:
    ours, theirs = (peer.log_in(user, password, scope, query) for peer in peers)
    if ours.status_code == 201 and "catalog" in ours.json()["token"]:
        assert "catalog" in theirs.json()["token"]
        tokens = [answer.json()["token"] for answer in (ours, theirs)]
        for token in tokens:
            token.pop("catalog")
        assert shape(tokens[0]) == shape(tokens[1])
        assert {role["name"] for role in tokens[0]["roles"]} == {
            role["name"] for role in tokens[1]["roles"]
        }
        alike(ours, theirs, bodies=False)
    else:
        alike(ours, theirs)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"auth": {}},
        {"auth": {"identity": {}}},
        {"auth": {"identity": {"methods": ["password"]}}},
        {"auth": {"identity": {"methods": ["token"]}}},
        {"auth": {"identity": {"methods": ["password"], "password": {"user": {"password": "x"}}}}},
    ],
    ids=str,
)
def test_every_broken_login_is_refused_as_keystone_refuses_it(
    peers: tuple[Peer, Peer], body: Any
) -> None:
    ours, theirs = (peer.http.post("/auth/tokens", json=body) for peer in peers)
    alike(ours, theirs)


@pytest.mark.parametrize(
    ("method", "proof"),
    [
        ("token", {"id": "nonsense"}),
        ("application_credential", {"id": "nothing", "secret": "x"}),
    ],
)
def test_a_login_with_what_does_not_exist_is_401_where_keystone_tells_that_it_does_not(
    peers: tuple[Peer, Peer], method: str, proof: Any
) -> None:
    body = {"auth": {"identity": {"methods": [method], method: proof}}}
    ours, theirs = (peer.http.post("/auth/tokens", json=body) for peer in peers)
    assert (ours.status_code, theirs.status_code) == (401, 404)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("who", "about"),
    [
        (None, "peer"), ("peer", None), ("peer", "peer"), ("peer", "unscoped"), ("peer", "admin"),
        ("admin", "peer"), ("admin", "nonsense"), ("peer", "nonsense"), ("unscoped", "peer"),
    ],
)  # fmt: skip
def test_who_may_look_at_a_token_is_as_in_keystone(
    peers: tuple[Peer, Peer], method: str, who: str | None, about: str | None
) -> None:
    ours, theirs = (peer.call(who, method, "/auth/tokens?nocatalog", None, about) for peer in peers)
    alike(ours, theirs, bodies=method == "GET")


def until_refused(peer: Peer, who: str) -> httpx.Response:
    """The refusal of a revoked token; Keystone may take a moment to notice its own revocation."""
    deadline = time.monotonic() + 10
    while True:
        answer = peer.call(who, "GET", "/auth/projects")
        if answer.status_code == 401 or time.monotonic() > deadline:
            return answer
        time.sleep(0.2)


def test_tokens_are_scoped_anew_and_revoked_as_in_keystone(peers: tuple[Peer, Peer]) -> None:
    answers = []
    for peer in peers:
        identity = {"methods": ["token"], "token": {"id": peer.tokens["unscoped"]}}
        body = {"auth": {"identity": identity, "scope": PROJECT}}
        scoped = peer.http.post("/auth/tokens?nocatalog", json=body)
        peer.tokens["second"] = scoped.headers["x-subject-token"]
        answers.append(
            [
                scoped,
                peer.call("peer", "DELETE", "/auth/tokens", None, "admin"),
                peer.call("peer", "DELETE", "/auth/tokens", None, "second"),
                peer.call("peer", "DELETE", "/auth/tokens", None, "second"),
                until_refused(peer, "second"),
                peer.call("unscoped", "GET", "/auth/projects"),
            ]
        )
    for ours, theirs in zip(*answers, strict=True):
        alike(ours, theirs)
    first, second = (answer[0].json()["token"] for answer in answers)
    assert sorted(first["methods"]) == sorted(second["methods"])
    assert len(first["audit_ids"]) == len(second["audit_ids"]) == 2


# --- under real clients -----------------------------------------------------------------------------------


def test_an_administrator_keeps_accounts_with_the_openstack_command(
    openstack_admin: Shell, cloud: Cloud
) -> None:
    mark = uuid.uuid4().hex[:8]
    project = openstack_admin.json("project", "create", f"p-{mark}", "--description", "d")
    user = openstack_admin.json(
        "user", "create", f"u-{mark}", "--password", "first", "--email", "u@example.org",
        "--project", f"p-{mark}",
    )  # fmt: skip
    assert user["default_project_id"] == project["id"]
    names = ("--user", f"u-{mark}", "--project", f"p-{mark}")
    openstack_admin.runs("role", "add", *names, "member")
    assigned = openstack_admin.json("role", "assignment", "list", *names, "--names")
    assert [row["Role"] for row in assigned] == ["member"]
    client = cloud.server.log_in(f"u-{mark}", "first", f"p-{mark}")
    assert client.roles == {"member", "reader"}

    openstack_admin.runs("user", "set", f"u-{mark}", "--password", "second")
    assert client.get("/v2/images").status_code == 401
    client = cloud.server.log_in(f"u-{mark}", "second", f"p-{mark}")
    openstack_admin.runs("role", "remove", *names, "member")
    assert client.get("/v2/images").status_code == 401
    openstack_admin.runs("role", "add", *names, "reader")
    client = cloud.server.log_in(f"u-{mark}", "second", f"p-{mark}")
    openstack_admin.runs("project", "set", f"p-{mark}", "--disable")
    assert client.get("/v2/images").status_code == 401
    openstack_admin.runs("user", "delete", f"u-{mark}")
    openstack_admin.runs("project", "delete", f"p-{mark}")
    assert f"u-{mark}" not in [row["Name"] for row in openstack_admin.json("user", "list")]
    assert f"p-{mark}" not in [row["Name"] for row in openstack_admin.json("project", "list")]


def test_everybody_changes_the_own_password_with_the_openstack_command(
    openstack_admin: Shell, cloud: Cloud, tmp_path: Any
) -> None:
    name = f"u-{uuid.uuid4().hex[:8]}"
    cloud.server.run(
        ["user", "create", name, "--password", "first", "--project", "demo", "--role", "reader"]
    )
    openstack_admin.runs(
        "--os-username", name, "--os-password", "first", "--os-project-name", "demo",
        "user", "password", "set", "--original-password", "first", "--password", "second",
    )  # fmt: skip
    cloud.server.log_in(name, "second", "demo")
    with pytest.raises(AssertionError, match="401"):
        cloud.server.log_in(name, "first", "demo")


def test_an_application_credential_of_the_openstack_command_works_in_clouds_yaml(
    openstack_demo: Shell, cloud: Cloud, tmp_path: Any
) -> None:
    name = f"ci-{uuid.uuid4().hex[:8]}"
    made = openstack_demo.json("application", "credential", "create", name, "--role", "reader")
    listed = openstack_demo.json("application", "credential", "list")
    assert name in [row["Name"] for row in listed]
    entry = {
        "auth_type": "v3applicationcredential",
        "auth": {
            "auth_url": cloud.server.auth_url,
            "application_credential_id": made.get("id", made.get("ID")),
            "application_credential_secret": made.get("secret", made.get("Secret")),
        },
        "region_name": "RegionOne",
    }
    path = tmp_path / "clouds.yaml"
    path.write_text(yaml.safe_dump({"clouds": {"ci": entry}}))
    config = openstack.config.OpenStackConfig(config_files=[str(path)], load_envvars=False)
    connection = openstack.connection.Connection(config=config.get_one("ci"))
    assert connection.current_project_id == cloud.project_id("transom-demo")
    list(connection.image.images())
    with pytest.raises(openstack.exceptions.ForbiddenException):
        connection.image.create_image(name="no", allow_duplicates=True)
    openstack_demo.runs("application", "credential", "delete", name)
    with pytest.raises(keystoneauth1.exceptions.Unauthorized):
        list(connection.image.images())


def test_connect_needs_the_name_of_the_cloud_alone(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(cloud.clouds_yaml))
    for name, user in (("transom", "admin"), ("transom-demo", "demo")):
        connection = openstack.connect(cloud=name)
        assert connection.identity.get_user(connection.current_user_id).name == user
        assert connection.current_project.name == user
        list(connection.image.images())
        connection.close()


# --- in several processes ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server of three processes."""
    with configured(tmp_path_factory.mktemp("several"), {"server": {"workers": 3}}) as server:
        yield server


def connections(server: ServerProcess, token: str | None) -> list[Client]:
    """Many connections, so that every process has some of them."""
    return [server.client(token) for _ in range(24)]


def soon(condition: Callable[[], bool], seconds: float = WITHIN_SECONDS) -> None:
    """The condition holds before the time is over, and then on."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
    for _ in range(3):
        assert condition()


def all_answer(clients: list[Client], status: int) -> bool:
    return {client.get("/v2/images?limit=1").status_code for client in clients} == {status}


def test_a_token_of_one_process_is_good_in_all(several: ServerProcess) -> None:
    token = several.log_in_to_cloud("transom-demo").token
    assert all_answer(connections(several, token), 200)


def test_a_revoked_token_dies_in_all_processes_within_a_second(several: ServerProcess) -> None:
    demo = several.log_in_to_cloud("transom-demo")
    clients = connections(several, demo.token)
    assert all_answer(clients, 200)
    answer = demo.request(
        "DELETE", "/v3/auth/tokens", headers={"X-Subject-Token": demo.token or ""}
    )
    assert answer.status_code == 204, told(answer)
    assert demo.get("/v2/images").status_code == 401, "at once where it was revoked"
    soon(lambda: all_answer(clients, 401))


def test_what_the_commands_change_holds_in_all_processes_within_a_second(
    several: ServerProcess,
) -> None:
    several.run(["user", "create", "eve", "--password", "pw", "--project", "demo"])
    clients = connections(several, several.log_in("eve", "pw", "demo").token)
    assert all_answer(clients, 200)
    several.run(["user", "set", "eve", "--disable"])
    soon(lambda: all_answer(clients, 401))
    several.run(["user", "set", "eve", "--enable"])
    fresh = connections(several, several.log_in("eve", "pw", "demo").token)
    assert all_answer(fresh, 200)
    assert all_answer(clients, 401), "what is dead stays dead"
    several.run(["token", "rotate-key"])
    newer = connections(several, several.log_in("eve", "pw", "demo").token)
    assert all_answer(newer, 200)
    assert all_answer(fresh, 200)
    several.run(["token", "revoke-all"])
    soon(lambda: all_answer([*fresh, *newer], 401))
    assert all_answer(connections(several, several.log_in("eve", "pw", "demo").token), 200)


def test_many_log_in_at_once(several: ServerProcess) -> None:
    from concurrent.futures import ThreadPoolExecutor

    several.run(["user", "create", "crowd", "--password", "pw", "--project", "demo"])
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda _: several.log_in("crowd", "pw", "demo").token, range(48)))
    assert len(set(found)) == 48
