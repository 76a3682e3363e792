"""What the local identity asks of the catalog.

The catalog's `identity` part keeps these promises. They are written down here because `auth` and
`catalog` stand on the same floor and do not know each other; `app.py` puts them together.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from transom.model.identity import (
    ApplicationCredential,
    Basics,
    Grant,
    Project,
    Role,
    Standing,
    User,
)


class Accounts(Protocol):
    """Users, projects, roles, grants, credentials, revocations and keys, remembered.

    Every change adds one to the revision. Changes raise IdentityNotFound for what is not there and
    NameTaken for a name that is in use; everything may raise CatalogUnavailable.
    """

    async def revision(self) -> int:
        """The number that grows with every change; 0 before the first start."""
        ...

    async def basics(self) -> Basics:
        """The signing keys, newest first, and the roles."""
        ...

    async def standing(
        self,
        user_id: str,
        *,
        project_id: str | None = None,
        audit_id: bytes | None = None,
        credential_id: str | None = None,
    ) -> Standing:
        """All about whom a token names; its revision was read before the rest."""
        ...

    async def revoke(self, audit_id: bytes, expires_at: dt.datetime, now: dt.datetime) -> None:
        """Let a token be dead until it would have ended by itself."""
        ...

    async def add_key(self, secret: bytes, now: dt.datetime, *, drop_before: dt.datetime) -> int:
        """Store a new signing key; drop those that were replaced before `drop_before`."""
        ...

    async def replace_keys(self, secret: bytes, now: dt.datetime) -> int:
        """Store a new signing key and drop all others."""
        ...

    async def user(self, user_id: str) -> User | None:
        """The user with this id."""
        ...

    async def user_named(self, name: str) -> User | None:
        """The user of this name."""
        ...

    async def users(self, name: str | None = None) -> tuple[User, ...]:
        """All users, or those of one name, by name."""
        ...

    async def add_user(self, user: User) -> None:
        """Store a new user."""
        ...

    async def change_user(self, user_id: str, *, ends_tokens: bool = False, **changes: Any) -> User:
        """Change columns of a user, and with `ends_tokens` let all of the user's tokens die."""
        ...

    async def renew_password_hash(self, user_id: str, old: str, new: str) -> None:
        """Store the same password, hashed at today's cost."""
        ...

    async def remove_user(self, user_id: str) -> None:
        """Remove a user with all grants and application credentials."""
        ...

    async def project(self, project_id: str) -> Project | None:
        """The project with this id."""
        ...

    async def project_named(self, name: str) -> Project | None:
        """The project of this name."""
        ...

    async def projects(self, name: str | None = None) -> tuple[Project, ...]:
        """All projects, or those of one name, by name."""
        ...

    async def projects_of(self, user_id: str) -> tuple[Project, ...]:
        """The projects in which the user has a role, by name."""
        ...

    async def add_project(self, project: Project) -> None:
        """Store a new project."""
        ...

    async def change_project(
        self, project_id: str, *, ends_tokens: bool = False, **changes: Any
    ) -> Project:
        """Change columns of a project, and with `ends_tokens` let all tokens for it die."""
        ...

    async def remove_project(self, project_id: str) -> None:
        """Remove a project with all grants and application credentials in it."""
        ...

    async def roles(self, name: str | None = None) -> tuple[Role, ...]:
        """All roles, or those of one name, by name."""
        ...

    async def add_role(self, role: Role) -> None:
        """Store a new role."""
        ...

    async def remove_role(self, role_id: str) -> None:
        """Remove a role with all its grants."""
        ...

    async def grants(
        self,
        user_id: str | None = None,
        project_id: str | None = None,
        role_id: str | None = None,
    ) -> tuple[Grant, ...]:
        """Who is what where: all of it, or that of one user, project, or role."""
        ...

    async def grant(self, user_id: str, project_id: str, role_id: str) -> None:
        """Give a user a role in a project; nothing changes when it is given already."""
        ...

    async def withdraw(self, user_id: str, project_id: str, role_id: str) -> None:
        """Take a role from a user in a project, and the user's application credentials there."""
        ...

    async def credential(self, credential_id: str) -> ApplicationCredential | None:
        """The application credential with this id."""
        ...

    async def credentials_of(
        self, user_id: str, name: str | None = None
    ) -> tuple[ApplicationCredential, ...]:
        """A user's application credentials, or the one of a name, oldest first."""
        ...

    async def add_credential(self, credential: ApplicationCredential) -> None:
        """Store a new application credential with its roles."""
        ...

    async def remove_credential(self, credential_id: str) -> None:
        """Remove an application credential; its tokens die."""
        ...

    def is_founded_now(self) -> bool:
        """True when the first start has been. Blocks."""
        ...

    def found_now(
        self,
        *,
        founded_at: dt.datetime,
        key_secret: bytes,
        new_roles: Iterable[Role],
        new_projects: Iterable[Project],
        new_users: Iterable[User],
        new_grants: Iterable[tuple[str, str, str]],
        before_commit: Callable[[], None],
    ) -> bool:
        """Store the first users, projects and roles, all or nothing; False when another process
        was faster. Blocks."""
        ...
