"""A local identity over a database of its own, for tests below HTTP."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.support import postgres
from transom.auth.local import manage, passwords
from transom.auth.local.bootstrap import bootstrap
from transom.auth.local.identity import (
    LocalIdentity,
    Login,
    Password,
    ProjectReference,
    Secret,
    UserReference,
    Verdict,
)
from transom.catalog import Catalog
from transom.model.identity import ApplicationCredential, Project, User
from transom.settings import Settings, load

PASSWORD = "correct horse battery staple"


class Clock:
    """A clock that stands still until it is moved; both kinds of time at once."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """The time in seconds."""
        return self.now

    def go(self, seconds: float) -> None:
        """Move it."""
        self.now += seconds


def settings_in(folder: Path, **flags: Any) -> Settings:
    """Settings with the data in the folder, on a new database of the kind that the tests run with
    (TRANSOM_TEST_DATABASE)."""
    chosen = {key.replace("__", "."): value for key, value in flags.items()}
    if os.environ.get("TRANSOM_TEST_DATABASE", "sqlite") != "sqlite":
        chosen["database.url"] = postgres.cluster().database()
    return load(None, folder, None, chosen)


def cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let hashes of this test cost next to nothing: what they cost is tested where it belongs."""
    for name, value in (("_TIME_COST", 1), ("_MEMORY_KIB", 8)):
        monkeypatch.setattr(passwords, name, value)
    for cached in (passwords._hasher, passwords._decoy):
        cached.cache_clear()
        monkeypatch.setattr(passwords, cached.__name__, functools.cache(cached.__wrapped__))


@functools.cache
def _founded() -> Path:
    """A folder whose SQLite database has been through the first start; to be copied."""
    folder = Path(tempfile.mkdtemp(prefix="transom-identity-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    catalog = Catalog.open(load(None, folder))
    catalog.upgrade()
    bootstrap(load(None, folder), catalog.identity)
    catalog.close()
    return folder


class World:
    """A founded identity, its rules with a clock of their own, and short ways to fill it."""

    def __init__(self, settings: Settings, *, token_seconds: float = 3600.0) -> None:
        self.settings = settings
        self.clock = Clock()
        if settings.database.url.startswith("sqlite:"):
            shutil.copytree(_founded(), settings.data_path, dirs_exist_ok=True)
        self.catalog = Catalog.open(settings)
        self.catalog.upgrade()
        bootstrap(settings, self.catalog.identity)
        self.accounts = self.catalog.identity
        self.identity = LocalIdentity(
            self.accounts, token_seconds, clock=self.clock, ticks=self.clock
        )

    def neighbour(self) -> LocalIdentity:
        """The rules as another process on the same database has them, with the same clock."""
        return LocalIdentity(self.accounts, 3600.0, clock=self.clock, ticks=self.clock)

    async def close(self) -> None:
        """End what runs and free connections."""
        await self.identity.close()
        self.catalog.close()

    async def user(self, name: str, project: str | None = None, *roles: str) -> User:
        """A user with PASSWORD, and with roles in a project, which is made if need be."""
        user = await manage.create_user(self.accounts, name, PASSWORD)
        if project is not None:
            await self.give(user, project, *roles)
        return user

    async def project(self, name: str) -> Project:
        """The project of this name, made if need be."""
        found = await self.accounts.project_named(name)
        return found or await manage.create_project(self.accounts, name)

    async def give(self, user: User, project: str, *roles: str) -> None:
        """Give a user roles in a project."""
        found = await self.project(project)
        for name in roles:
            role = await manage.role_of(self.accounts, name)
            await self.accounts.grant(user.id, found.id, role.id)

    async def take(self, user: User, project: str, role: str) -> None:
        """Take a role from a user in a project."""
        await self.accounts.withdraw(
            user.id,
            (await self.project(project)).id,
            (await manage.role_of(self.accounts, role)).id,
        )

    async def credential(
        self, verdict: Verdict, name: str, **options: Any
    ) -> tuple[ApplicationCredential, str]:
        """An application credential of a token's user, with its secret."""
        assert verdict.project is not None
        options.setdefault("roles", verdict.roles)
        return await manage.create_credential(
            self.accounts,
            user_id=verdict.user.id,
            project_id=verdict.project.id,
            name=name,
            secret=None,
            **options,
        )

    async def log_in(
        self, name: str, project: str | None = None, password: str = PASSWORD, address: str = ""
    ) -> Verdict:
        """A token of the user for a project, else without a scope."""
        scope: ProjectReference | str = (
            "unscoped" if project is None else ProjectReference(name=project)
        )
        login = Login((Password(UserReference(name=name), password),), scope)
        return await self.identity.log_in(login, address)

    async def log_in_with(self, credential: ApplicationCredential, secret: str) -> Verdict:
        """A token of an application credential."""
        proof = Secret(credential.id, None, UserReference(), secret)
        return await self.identity.log_in(Login((proof,)))
