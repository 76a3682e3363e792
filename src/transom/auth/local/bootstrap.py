"""The first start: roles, the projects `admin` and `demo`, a user of the same name in each."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor

from transom.auth.local import clouds, passwords
from transom.auth.local.accounts import Accounts
from transom.auth.local.manage import new_id, now
from transom.errors import ConfigurationError
from transom.model.identity import ROLE_NAMES, Project, Role, User
from transom.settings import Settings

FIRST = {"admin": "admin", "demo": "member"}
"""The first users, each with a project of the same name and the role in it."""


def bootstrap(settings: Settings, accounts: Accounts) -> list[str]:
    """Make the first users, projects and roles unless they are there; gives the lines to print.

    Safe when several processes start at once: one of them makes all of it and writes
    `clouds.yaml`. That is written just before the transaction ends, so a crash in between leaves
    either nothing or everything: passwords that the database does not know are overwritten by the
    next start. Raises CatalogUnavailable, ConfigurationError.
    """
    path, auth_url = clouds.path_of(settings), clouds.auth_url_of(settings)
    if not accounts.is_founded_now() and _found(settings, accounts):
        return ["First start: users admin and demo are made. Paste:", "", *clouds.lines(path), ""]
    clouds.follow(path, auth_url)
    if path.exists():
        return ["To use it, paste:", "", *clouds.lines(path), ""]
    return [
        f"There is no {path}; its passwords cannot be read back. Set a new one with",
        f"    transom user password admin --data {settings.data_path}",
    ]


def _found(settings: Settings, accounts: Accounts) -> bool:
    moment = now()
    roles = {name: Role(id=new_id(), name=name) for name in ROLE_NAMES}
    words = {user: passwords.generate() for user in FIRST}
    with ThreadPoolExecutor(len(words)) as threads:
        hashes = dict(zip(words, threads.map(passwords.hash_now, words.values()), strict=True))
    projects = {
        name: Project(id=new_id(), name=name, description=f"Made at the first start for {name}.",
                      created_at=moment)
        for name in words
    }  # fmt: skip
    users = {
        name: User(id=new_id(), name=name, password_hash=hashes[name], created_at=moment)
        for name in words
    }

    def write_clouds() -> None:
        try:
            clouds.write(
                clouds.path_of(settings),
                clouds.auth_url_of(settings),
                {clouds.CLOUDS_OF[user]: (user, words[user], user) for user in FIRST},
            )
        except OSError as failure:
            raise ConfigurationError(
                f"Cannot write {clouds.path_of(settings)}: {failure.strerror}; make the data "
                "folder writable or choose another with --data."
            ) from failure

    return accounts.found_now(
        founded_at=moment,
        key_secret=secrets.token_bytes(32),
        new_roles=roles.values(),
        new_projects=projects.values(),
        new_users=users.values(),
        new_grants=[
            (users[user].id, projects[user].id, roles[role].id) for user, role in FIRST.items()
        ],
        before_commit=write_clouds,
    )
