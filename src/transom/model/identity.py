"""The nouns of the local identity: users, projects, roles, and what ties them together."""

from __future__ import annotations

import datetime as dt

import msgspec

DOMAIN_ID = "default"
DOMAIN_NAME = "Default"
"""The one domain of the local identity, named as Keystone names its first."""

REGION = "RegionOne"
"""The one region, named as Keystone's bootstrap names its first."""

ROLE_NAMES = ("admin", "manager", "member", "reader", "service")
"""The roles that Keystone's bootstrap creates; they can be neither renamed nor deleted."""

IMPLIED: dict[str, tuple[str, ...]] = {
    "admin": ("manager",),
    "manager": ("member",),
    "member": ("reader",),
}
"""Which role brings which others along, as Keystone's bootstrap sets it up."""


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody may be in a project."""

    id: str
    name: str


class User(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who can log in. `epoch` grows when all of the user's tokens must die."""

    id: str
    name: str
    is_enabled: bool = True
    password_hash: str | None = None
    """argon2id in its usual text form; None = no password fits."""
    epoch: int = 0
    default_project_id: str | None = None
    description: str = ""
    email: str = ""
    created_at: dt.datetime

    def __repr__(self) -> str:
        return f"User(id={self.id!r}, name={self.name!r}, is_enabled={self.is_enabled!r})"


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """What owns images. `epoch` grows when all tokens for the project must die."""

    id: str
    name: str
    is_enabled: bool = True
    epoch: int = 0
    description: str = ""
    created_at: dt.datetime


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """One role of one user in one project. Its number is never used again, so a token can name the
    grants that it stands on and dies with any of them."""

    id: int
    user_id: str
    project_id: str
    role: Role


class ApplicationCredential(msgspec.Struct, frozen=True, kw_only=True):
    """A secret of its own with which a program logs in as a user, in one project, with some of the
    user's roles."""

    id: str
    name: str
    user_id: str
    project_id: str
    description: str | None = None
    secret_hash: str
    expires_at: dt.datetime | None = None
    is_unrestricted: bool = False
    """May its tokens manage application credentials?"""
    roles: tuple[Role, ...] = ()
    created_at: dt.datetime

    def __repr__(self) -> str:
        return f"ApplicationCredential(id={self.id!r}, name={self.name!r})"


class SigningKey(msgspec.Struct, frozen=True, kw_only=True):
    """A secret that signs tokens. The newest signs; all that are kept can verify."""

    id: int
    secret: bytes
    created_at: dt.datetime

    def __repr__(self) -> str:
        return f"SigningKey(id={self.id!r})"


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """All that the catalog knows about whom a token names, read at one moment.

    `revision` was read first, so the rest is at least as new as it says.
    """

    revision: int
    user: User | None
    project: Project | None = None
    grants: tuple[Grant, ...] = ()
    """The user's roles in the project, without the implied ones."""
    credential: ApplicationCredential | None = None
    is_revoked: bool = False


class Basics(msgspec.Struct, frozen=True, kw_only=True):
    """What every process keeps in mind, as of `revision`: signing keys, newest first, and roles."""

    revision: int
    keys: tuple[SigningKey, ...]
    roles: tuple[Role, ...]
