"""The promises of `transom.auth.authenticator`, which every backend keeps.

A backend joins with one line in `DEPLOYMENTS`: a class that makes users and tokens where the
backend looks for them. `none` has no users to tell apart; it keeps the promises at the end.
"""

from __future__ import annotations

import asyncio
import atexit
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Protocol, Self

import pytest

from tests.interop.keystone.server import Cloud, KeystoneServer
from tests.support.identity import PASSWORD, World, settings_in
from tests.support.ports import free_port
from transom.auth import BACKENDS, open_authenticator
from transom.auth.authenticator import Authenticator
from transom.auth.backends.local import LocalAuthenticator
from transom.auth.local import manage
from transom.errors import CatalogUnavailable, IdentityUnavailable, Unauthenticated
from transom.model.actor import Actor
from transom.settings import Identity, Keystone, Settings


class Deployment(Protocol):
    """A backend, and the place where its users are."""

    authenticator: Authenticator

    async def user(self, name: str, project: str, *roles: str) -> None:
        """A new user with PASSWORD and roles in a project, which is made if need be."""
        ...

    async def log_in(self, name: str, project: str | None) -> str:
        """A token."""
        ...

    async def log_in_by_credential(self, name: str, project: str) -> str:
        """A token of a new application credential of the user."""
        ...

    async def ids(self, name: str, project: str) -> tuple[str, str]:
        """The ids of a user and a project."""
        ...

    async def revoke(self, token: str) -> None:
        """End a token."""
        ...

    async def disable_user(self, name: str) -> None:
        """Let the user log in no more."""
        ...

    async def delete_user(self, name: str) -> None:
        """Remove the user."""
        ...

    async def change_password(self, name: str) -> None:
        """Give the user another password."""
        ...

    async def disable_project(self, project: str) -> None:
        """Let nobody use the project any more."""
        ...

    async def take_roles(self, name: str, project: str) -> None:
        """Take all roles from a user in a project."""
        ...

    async def authenticator_that_cannot_ask(self) -> Authenticator:
        """A backend of the same kind, whose users are out of reach."""
        ...

    async def close(self) -> None:
        """Free everything."""
        ...


class LocalDeployment:
    """The built-in identity on a database of its own, in real time."""

    def __init__(self, folder: Path, *, token_seconds: float = 3600.0) -> None:
        self.world = World(settings_in(folder), token_seconds=token_seconds)
        self.world.clock = time.time  # type: ignore[assignment]
        self.world.identity._clock = time.time
        self.world.identity._ticks = time.monotonic
        self.authenticator: Authenticator = LocalAuthenticator(self.world.identity)

    @classmethod
    def short_lived(cls, folder: Path, request: pytest.FixtureRequest) -> Self:
        """One whose tokens live three seconds."""
        return cls(folder, token_seconds=3.0)

    async def user(self, name: str, project: str, *roles: str) -> None:
        await self.world.user(name, project, *roles)

    async def log_in(self, name: str, project: str | None) -> str:
        return (await self.world.log_in(name, project)).token

    async def log_in_by_credential(self, name: str, project: str) -> str:
        verdict = await self.world.log_in(name, project)
        made, secret = await self.world.credential(verdict, f"{name} {project}")
        return (await self.world.log_in_with(made, secret)).token

    async def ids(self, name: str, project: str) -> tuple[str, str]:
        user = await manage.user_of(self.world.accounts, name)
        return user.id, (await self.world.project(project)).id

    async def revoke(self, token: str) -> None:
        await self.world.identity.revoke(await self.world.identity.verdict(token))

    async def _change_user(self, name: str, **changes: Any) -> None:
        user = await manage.user_of(self.world.accounts, name)
        await manage.change_user(self.world.accounts, user, **changes)
        await self.world.identity.changed()

    async def disable_user(self, name: str) -> None:
        await self._change_user(name, is_enabled=False)

    async def delete_user(self, name: str) -> None:
        user = await manage.user_of(self.world.accounts, name)
        await self.world.accounts.remove_user(user.id)
        await self.world.identity.changed()

    async def change_password(self, name: str) -> None:
        await self._change_user(name, password="another password")

    async def disable_project(self, project: str) -> None:
        found = await self.world.project(project)
        await manage.change_project(self.world.accounts, found, is_enabled=False)
        await self.world.identity.changed()

    async def take_roles(self, name: str, project: str) -> None:
        for grant in await self.world.accounts.grants(*await self.ids(name, project)):
            await self.world.accounts.withdraw(grant.user_id, grant.project_id, grant.role.id)
        await self.world.identity.changed()

    async def authenticator_that_cannot_ask(self) -> Authenticator:
        class Away:
            def __getattr__(self, name: str) -> Any:
                async def asked(*_args: Any, **_kwargs: Any) -> Any:
                    raise CatalogUnavailable

                return asked

        identity = self.world.neighbour()
        identity.accounts = Away()  # type: ignore[assignment]
        return LocalAuthenticator(identity)

    async def close(self) -> None:
        await self.world.close()


class KeystoneDeployment:
    """A real Keystone, asked anew about every token, so that changes show at once."""

    servers: dict[int, KeystoneServer] = {}

    def __init__(self, folder: Path, *, expiration: int = 3600) -> None:
        server = self.servers.get(expiration)
        if server is None:
            # It outlives the test that asked first, whose folder goes with it.
            folder = Path(tempfile.mkdtemp(prefix="transom-keystone-"))
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            # The administrator's own token lives longer than those of a short life.
            server = KeystoneServer(folder / "keystone").start()
            self.cloud = Cloud(server.url)
            if expiration != 3600:
                server.stop()
                server.configure(expiration=expiration)
                server.start()
            self.servers[expiration] = server
        else:
            self.cloud = Cloud(server.url)
        # Names of the tests before live on in the same Keystone.
        self.mark = f"{time.monotonic_ns():x}"
        self.users: dict[str, str] = {}
        self.projects: dict[str, str] = {}
        service = self.cloud.project(f"service {self.mark}")
        self.cloud.user(
            f"transom {self.mark}", PASSWORD, project=service, roles=["admin", "service"]
        )
        self.authenticator = self._open(server.url)

    @classmethod
    def short_lived(cls, folder: Path, request: pytest.FixtureRequest) -> Self:
        """One whose tokens live a few seconds."""
        return cls(folder, expiration=6)

    def _open(self, url: str) -> Authenticator:
        keystone = Keystone(
            auth_url=url,
            username=f"transom {self.mark}",
            password=PASSWORD,
            project_name=f"service {self.mark}",
            token_cache_seconds=0.0,
        )
        settings = Settings(identity=Identity(backend="keystone", keystone=keystone))
        return open_authenticator(settings, None)

    async def user(self, name: str, project: str, *roles: str) -> None:
        if project not in self.projects:
            self.projects[project] = self.cloud.project(f"{project} {self.mark}")
        self.users[name] = self.cloud.user(
            f"{name} {self.mark}", PASSWORD, project=self.projects[project], roles=roles
        )

    async def log_in(self, name: str, project: str | None) -> str:
        scope = None if project is None else f"{project} {self.mark}"
        return await asyncio.to_thread(
            self.cloud.token, f"{name} {self.mark}", PASSWORD, project=scope
        )

    async def log_in_by_credential(self, name: str, project: str) -> str:
        token = await self.log_in(name, project)
        path = f"/users/{self.users[name]}/application_credentials"
        body = {"application_credential": {"name": f"{name} {project}"}}
        made = self.cloud.call("POST", path, body, token=token).json()["application_credential"]
        return self.cloud.application_token(made)

    async def ids(self, name: str, project: str) -> tuple[str, str]:
        return self.users[name], self.projects[project]

    async def revoke(self, token: str) -> None:
        self.cloud.revoke(token)

    async def disable_user(self, name: str) -> None:
        self.cloud.call("PATCH", f"/users/{self.users[name]}", {"user": {"enabled": False}})

    async def delete_user(self, name: str) -> None:
        self.cloud.call("DELETE", f"/users/{self.users[name]}")

    async def change_password(self, name: str) -> None:
        change = {"user": {"password": "another password"}}
        self.cloud.call("PATCH", f"/users/{self.users[name]}", change)

    async def disable_project(self, project: str) -> None:
        path = f"/projects/{self.projects[project]}"
        self.cloud.call("PATCH", path, {"project": {"enabled": False}})

    async def take_roles(self, name: str, project: str) -> None:
        path = f"/projects/{self.projects[project]}/users/{self.users[name]}/roles"
        for role in self.cloud.call("GET", path).json()["roles"]:
            self.cloud.call("DELETE", f"{path}/{role['id']}")

    async def authenticator_that_cannot_ask(self) -> Authenticator:
        return self._open(f"http://127.0.0.1:{free_port()}/v3")

    async def close(self) -> None:
        await self.authenticator.close()
        self.cloud.close()


DEPLOYMENTS = {
    "local": pytest.param(LocalDeployment, id="local"),
    "keystone": pytest.param(KeystoneDeployment, id="keystone", marks=pytest.mark.interop),
}


@pytest.fixture(scope="module", autouse=True)
def _servers() -> Iterator[None]:
    yield
    while KeystoneDeployment.servers:
        KeystoneDeployment.servers.popitem()[1].stop()


@pytest.fixture(params=DEPLOYMENTS.values())
async def deployment(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Deployment]:
    """Every backend, with anna, a member of the lab."""
    made: Deployment = request.param(tmp_path)
    await made.user("anna", "lab", "member")
    yield made
    await made.close()


async def refused(
    authenticator: Authenticator, token: str | None, service: str | None = None
) -> None:
    """Nobody is behind the token."""
    with pytest.raises(Unauthenticated) as why:
        await authenticator.authenticate(token, service)
    assert authenticator.authenticate_now(token, service) is None
    if token and len(token) > 8:
        assert token not in str(why.value)


async def test_a_token_speaks_for_its_user_in_its_project(deployment: Deployment) -> None:
    token = await deployment.log_in("anna", "lab")
    actor = await deployment.authenticator.authenticate(token)
    assert (actor.user_id, actor.project_id) == await deployment.ids("anna", "lab")
    assert (actor.user_name or "").startswith("anna")
    assert (actor.project_name or "").startswith("lab")
    assert (actor.user_domain_id, actor.project_domain_id) == ("default", "default")
    assert (actor.domain_id, actor.system_scope) == (None, None)
    assert actor.roles == {"member", "reader"}, "implied roles are among them"
    assert actor.service_roles == frozenset()
    assert actor.token == token
    assert actor.expires_at is not None
    assert 3500 < actor.expires_at - time.time() <= 3601


async def test_administrators_are_the_policy_s_affair(deployment: Deployment) -> None:
    await deployment.user("root", "lab", "admin")
    actor = await deployment.authenticator.authenticate(await deployment.log_in("root", "lab"))
    assert {"admin", "manager", "member", "reader"} == actor.roles
    assert not actor.is_admin
    assert not actor.is_anonymous


async def test_an_unscoped_token_has_no_project_and_no_roles(deployment: Deployment) -> None:
    actor = await deployment.authenticator.authenticate(await deployment.log_in("anna", None))
    assert (actor.project_id, actor.project_name, actor.roles) == (None, None, frozenset())
    assert actor.user_id == (await deployment.ids("anna", "lab"))[0]


async def test_a_token_of_an_application_credential_speaks_for_its_user(
    deployment: Deployment,
) -> None:
    token = await deployment.log_in_by_credential("anna", "lab")
    actor = await deployment.authenticator.authenticate(token)
    assert (actor.user_id, actor.project_id) == await deployment.ids("anna", "lab")
    assert actor.roles == {"member", "reader"}


STRANGE = [
    None, "", "x", "0" * 32, "x" * 20_000, "a b", "a\nb", "a\0b", "\N{SNOWMAN}", "%00", "../..",
    "' OR 1=1 --", "transom1_", "transom1_AAAA", "gAAAAABrAmvXJhnywLfeaPLjZJ6fvk5Gb5", "é" * 40,
]  # fmt: skip


@pytest.mark.parametrize("token", STRANGE, ids=lambda token: repr(token)[:20])
async def test_what_is_no_token_is_refused(deployment: Deployment, token: str | None) -> None:
    await refused(deployment.authenticator, token)


async def test_a_changed_token_is_refused(deployment: Deployment) -> None:
    token = await deployment.log_in("anna", "lab")
    middle = len(token) // 2
    other = "A" if token[middle] != "A" else "B"
    for forged in (token[:-4], token[4:], f"{token[:middle]}{other}{token[middle + 1 :]}"):
        await refused(deployment.authenticator, forged)


async def test_asking_at_once_waits_for_nothing_and_never_raises(deployment: Deployment) -> None:
    token = await deployment.log_in("anna", "lab")
    actor = await deployment.authenticator.authenticate(token)
    for candidate in (token, *STRANGE):
        for service in (None, token, *STRANGE):
            taken = []
            for _ in range(3):
                begin = time.perf_counter()
                known = deployment.authenticator.authenticate_now(candidate, service)
                taken.append(time.perf_counter() - begin)
            # Who does ask somebody is slow each time; the machine is not.
            assert min(taken) < 0.05
            assert known is None or (candidate == token and known.user_id == actor.user_id)


async def test_all_who_ask_together_are_told_the_same(deployment: Deployment) -> None:
    token = await deployment.log_in("anna", "lab")
    found = await asyncio.gather(*(deployment.authenticator.authenticate(token) for _ in range(50)))
    assert len(set(found)) == 1


async def test_a_revoked_token_is_refused_and_no_other(deployment: Deployment) -> None:
    first, second = [await deployment.log_in("anna", "lab") for _ in range(2)]
    for token in (first, second):
        await deployment.authenticator.authenticate(token)
    await deployment.revoke(first)
    await refused(deployment.authenticator, first)
    await deployment.authenticator.authenticate(second)


@pytest.mark.parametrize(
    "blow", ["disable_user", "delete_user", "change_password", "disable_project", "take_roles"]
)
async def test_a_token_dies_with_what_it_stands_on(deployment: Deployment, blow: str) -> None:
    await deployment.user("otto", "attic", "reader")
    others = await deployment.log_in("otto", "attic")
    token = await deployment.log_in("anna", "lab")
    for each in (token, others):
        await deployment.authenticator.authenticate(each)
    arguments = {"disable_project": ["lab"], "take_roles": ["anna", "lab"]}.get(blow, ["anna"])
    await getattr(deployment, blow)(*arguments)
    await refused(deployment.authenticator, token)
    await deployment.authenticator.authenticate(others)


async def test_a_service_token_adds_its_roles_and_changes_nothing_else(
    deployment: Deployment,
) -> None:
    await deployment.user("nova", "services", "service")
    token, service = (
        await deployment.log_in("anna", "lab"),
        await deployment.log_in("nova", "services"),
    )
    alone = await deployment.authenticator.authenticate(token)
    both = await deployment.authenticator.authenticate(token, service)
    assert both.service_roles == {"service"}
    assert both.roles == alone.roles
    assert both.user_id == alone.user_id
    assert alone.service_roles == frozenset()
    for strange in (None, "", "nonsense"):
        assert (await deployment.authenticator.authenticate(token, strange)) == alone
    await refused(deployment.authenticator, None, service)
    await refused(deployment.authenticator, "nonsense", service)


@pytest.mark.parametrize("kind", DEPLOYMENTS.values())
async def test_an_expired_token_passes_beside_a_service_alone(
    kind: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    deployment = kind.short_lived(tmp_path, request)
    await deployment.user("anna", "lab", "member")
    await deployment.user("nova", "services", "service")
    token = await deployment.log_in("anna", "lab")
    actor: Actor = await deployment.authenticator.authenticate(token)
    assert actor.expires_at is not None
    await asyncio.sleep(max(0.0, actor.expires_at - time.time()) + 1)
    await refused(deployment.authenticator, token)
    other = await deployment.log_in("anna", "lab")
    await refused(deployment.authenticator, token, other)
    service = await deployment.log_in("nova", "services")
    late = await deployment.authenticator.authenticate(token, service)
    assert (late.user_id, late.service_roles) == (actor.user_id, {"service"})
    await deployment.close()


async def test_when_nobody_can_tell_it_is_nobody_s_401(deployment: Deployment) -> None:
    token = await deployment.log_in("anna", "lab")
    lonely = await deployment.authenticator_that_cannot_ask()
    assert lonely.authenticate_now(token) is None
    with pytest.raises(IdentityUnavailable, match="try again later"):
        await lonely.authenticate(token)
    with pytest.raises(Unauthenticated):
        await lonely.authenticate(None)
    await lonely.close()


async def test_a_401_can_say_where_to_log_in(deployment: Deployment) -> None:
    assert re.fullmatch(
        r'Keystone uri="(\{base\}|http://[^"]+)/v3"', deployment.authenticator.www_authenticate
    )


async def test_closing_twice_is_harmless(deployment: Deployment) -> None:
    await deployment.authenticator.authenticate(await deployment.log_in("anna", "lab"))
    await deployment.authenticator.close()
    await deployment.authenticator.close()


# --- the one that tells nobody apart ------------------------------------------------------------------


@pytest.mark.parametrize("token", STRANGE, ids=lambda token: repr(token)[:20])
async def test_without_identity_everybody_is_the_same_administrator(
    token: str | None, tmp_path: Path
) -> None:
    backend = open_authenticator(settings_in(tmp_path, identity__backend="none"), None)
    actor = await backend.authenticate(token, token)
    assert actor == backend.authenticate_now(None)
    assert "admin" in actor.roles
    assert not actor.is_admin, "that is the policy's verdict"
    assert backend.www_authenticate
    await backend.close()


def test_every_backend_takes_part() -> None:
    assert set(DEPLOYMENTS) | {"none"} == set(BACKENDS)
