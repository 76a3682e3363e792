"""Managing users, projects and roles: what the commands and the API have in common."""

from __future__ import annotations

import datetime as dt
import re
import secrets
import uuid
from typing import Any

from transom.auth.local import passwords
from transom.auth.local.accounts import Accounts
from transom.auth.local.roles import with_implied
from transom.errors import IdentityNotFound, InvalidValue
from transom.model.identity import (
    ROLE_NAMES,
    ApplicationCredential,
    Grant,
    Project,
    Role,
    User,
)

USER_NAME_LENGTH_MAX = 255
PROJECT_NAME_LENGTH_MAX = 64
TEXT_LENGTH_MAX = 2048
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


def new_id() -> str:
    """A fresh id, written as Keystone writes its own: 32 hexadecimal digits."""
    return uuid.uuid4().hex


def now() -> dt.datetime:
    """This moment, UTC."""
    return dt.datetime.now(dt.UTC)


def checked_name(key: str, name: object, length_max: int) -> str:
    """The name, if it may be one. Raises InvalidValue."""
    if not isinstance(name, str) or not name.strip() or len(name) > length_max:
        raise InvalidValue(key, f"give a text of 1 to {length_max} characters, not only spaces.")
    if _UNPRINTABLE.search(name):
        raise InvalidValue(key, "control characters are not allowed.")
    return name


def checked_text(key: str, text: object) -> str:
    """The text of a description or an address. Raises InvalidValue."""
    if text is None:
        return ""
    if not isinstance(text, str) or len(text) > TEXT_LENGTH_MAX or "\0" in text:
        raise InvalidValue(key, f"give a text of at most {TEXT_LENGTH_MAX} characters.")
    return text


# --- finding ----------------------------------------------------------------------------------------


async def user_of(accounts: Accounts, reference: str) -> User:
    """The user with this id or name. Raises IdentityNotFound."""
    found = await accounts.user(reference) or await accounts.user_named(reference)
    if found is None:
        raise IdentityNotFound("user", reference)
    return found


async def project_of(accounts: Accounts, reference: str) -> Project:
    """The project with this id or name. Raises IdentityNotFound."""
    found = await accounts.project(reference) or await accounts.project_named(reference)
    if found is None:
        raise IdentityNotFound("project", reference)
    return found


async def role_of(accounts: Accounts, reference: str) -> Role:
    """The role with this id or name. Raises IdentityNotFound."""
    for role in await accounts.roles():
        if reference in (role.id, role.name):
            return role
    raise IdentityNotFound("role", reference)


# --- users ------------------------------------------------------------------------------------------


async def create_user(
    accounts: Accounts,
    name: str,
    password: str | None,
    *,
    is_enabled: bool = True,
    description: str = "",
    email: str = "",
    default_project_id: str | None = None,
) -> User:
    """A new user; without a password nobody can log in as it. Raises InvalidValue, NameTaken."""
    user = User(
        id=new_id(),
        name=checked_name("name", name, USER_NAME_LENGTH_MAX),
        is_enabled=is_enabled,
        password_hash=None if password is None else await passwords.hash_password(password),
        description=checked_text("description", description),
        email=checked_text("email", email),
        default_project_id=default_project_id,
        created_at=now(),
    )
    await accounts.add_user(user)
    return user


async def change_user(
    accounts: Accounts, user: User, password: str | None = None, **changes: Any
) -> User:
    """Change a user's name, description, email, default project, `is_enabled`, or password.
    Switching it off and a new password let the user's tokens die for good. Raises InvalidValue,
    NameTaken, IdentityNotFound."""
    if "name" in changes:
        checked_name("name", changes["name"], USER_NAME_LENGTH_MAX)
    for key in ("description", "email"):
        if key in changes:
            changes[key] = checked_text(key, changes[key])
    ends_tokens = changes.get("is_enabled") is False and user.is_enabled
    if password is not None:
        changes["password_hash"] = await passwords.hash_password(password)
        ends_tokens = True
    return await accounts.change_user(user.id, ends_tokens=ends_tokens, **changes)


# --- projects ---------------------------------------------------------------------------------------


async def create_project(
    accounts: Accounts, name: str, *, is_enabled: bool = True, description: str = ""
) -> Project:
    """A new project. Raises InvalidValue, NameTaken."""
    project = Project(
        id=new_id(),
        name=checked_name("name", name, PROJECT_NAME_LENGTH_MAX),
        is_enabled=is_enabled,
        description=checked_text("description", description),
        created_at=now(),
    )
    await accounts.add_project(project)
    return project


async def change_project(accounts: Accounts, project: Project, **changes: Any) -> Project:
    """Change a project's name, description, or `is_enabled`. Switching it off lets the tokens for
    it die for good. Raises InvalidValue, NameTaken, IdentityNotFound."""
    if "name" in changes:
        checked_name("name", changes["name"], PROJECT_NAME_LENGTH_MAX)
    if "description" in changes:
        changes["description"] = checked_text("description", changes["description"])
    ends_tokens = changes.get("is_enabled") is False and project.is_enabled
    return await accounts.change_project(project.id, ends_tokens=ends_tokens, **changes)


# --- roles ------------------------------------------------------------------------------------------


async def create_role(accounts: Accounts, name: str) -> Role:
    """A new role, for rules of an operator's own. Raises InvalidValue, NameTaken."""
    role = Role(id=new_id(), name=checked_name("name", name, USER_NAME_LENGTH_MAX))
    await accounts.add_role(role)
    return role


async def delete_role(accounts: Accounts, role: Role) -> None:
    """Remove a role and all its grants. Raises InvalidValue for one that the service needs."""
    if role.name in ROLE_NAMES:
        raise InvalidValue("role", f"'{role.name}' is built in and cannot be deleted.")
    await accounts.remove_role(role.id)


def effective(roles: dict[str, Role], grants: tuple[Grant, ...]) -> tuple[Role, ...]:
    """The roles of the grants with those that they imply, by name. `roles` holds all, by name."""
    names = with_implied(grant.role.name for grant in grants)
    return tuple(role for name, role in sorted(roles.items()) if name in names)


# --- application credentials --------------------------------------------------------------------------


async def create_credential(
    accounts: Accounts,
    *,
    user_id: str,
    project_id: str,
    name: str,
    secret: str | None,
    roles: tuple[Role, ...],
    description: str | None = None,
    expires_at: dt.datetime | None = None,
    is_unrestricted: bool = False,
) -> tuple[ApplicationCredential, str]:
    """A new application credential and its secret, which nobody can read again. Raises
    InvalidValue, NameTaken."""
    if expires_at is not None and expires_at <= now():
        raise InvalidValue("expires_at", "it must lie in the future.")
    # As long as Keystone's, and like them fit for a URL.
    secret = secret or secrets.token_urlsafe(64)
    credential = ApplicationCredential(
        id=new_id(),
        name=checked_name("name", name, USER_NAME_LENGTH_MAX),
        user_id=user_id,
        project_id=project_id,
        description=None if description is None else checked_text("description", description),
        secret_hash=await passwords.hash_password(secret),
        expires_at=expires_at,
        is_unrestricted=is_unrestricted,
        roles=roles,
        created_at=now(),
    )
    await accounts.add_credential(credential)
    return credential, secret
