"""`transom role`: who is what in which project."""

from __future__ import annotations

import argparse

from transom.auth.local import manage
from transom.auth.local.accounts import Accounts
from transom.auth.local.roles import with_implied
from transom.cli.accounts import add_verb, show, show_all
from transom.errors import IdentityNotFound
from transom.model.identity import ROLE_NAMES, Project, Role, User
from transom.settings import Settings


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("role", help="look after roles of the local identity")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    add_verb(verbs, "list", "list all roles and what they imply", _list)

    create = add_verb(verbs, "create", "create a role, for policy rules of your own", _create)
    create.add_argument("name")

    delete = add_verb(verbs, "delete", "delete a role of your own and all its grants", _delete)
    delete.add_argument("role", help="name or id")

    give = add_verb(verbs, "add", "give a user a role in a project", _add)
    take = add_verb(
        verbs,
        "remove",
        "take a role from a user in a project; tokens that stand on it die, and the user's "
        "application credentials in the project go",
        _remove,
    )
    for verb in (give, take):
        verb.add_argument("role", help="name or id")
        verb.add_argument("--user", metavar="U", required=True, help="name or id")
        verb.add_argument("--project", metavar="P", required=True, help="name or id")

    assignments = add_verb(verbs, "assignments", "list who is what in which project", _assignments)
    assignments.add_argument("--user", metavar="U", help="only this user (name or id)")
    assignments.add_argument("--project", metavar="P", help="only this project (name or id)")


async def _list(args: argparse.Namespace, _settings: Settings, accounts: Accounts) -> None:
    show_all(
        args,
        ("id", "name", "implies", "built_in"),
        (
            (role.id, role.name, sorted(with_implied([role.name]) - {role.name}),
             role.name in ROLE_NAMES)
            for role in await accounts.roles()
        ),
    )  # fmt: skip


async def _create(args: argparse.Namespace, _settings: Settings, accounts: Accounts) -> None:
    role = await manage.create_role(accounts, args.name)
    show(args, {"id": role.id, "name": role.name})


async def _delete(args: argparse.Namespace, _settings: Settings, accounts: Accounts) -> None:
    role = await manage.role_of(accounts, args.role)
    await manage.delete_role(accounts, role)
    show(args, {"id": role.id, "name": role.name, "deleted": True})


async def _named(args: argparse.Namespace, accounts: Accounts) -> tuple[User, Project, Role]:
    return (
        await manage.user_of(accounts, args.user),
        await manage.project_of(accounts, args.project),
        await manage.role_of(accounts, args.role),
    )


async def _add(args: argparse.Namespace, _settings: Settings, accounts: Accounts) -> None:
    user, project, role = await _named(args, accounts)
    await accounts.grant(user.id, project.id, role.id)
    show(args, {"user": user.name, "project": project.name, "role": role.name})


async def _remove(args: argparse.Namespace, _settings: Settings, accounts: Accounts) -> None:
    user, project, role = await _named(args, accounts)
    try:
        await accounts.withdraw(user.id, project.id, role.id)
    except IdentityNotFound as missing:
        raise IdentityNotFound(
            "role assignment", f"{user.name} is not {role.name} in {project.name}"
        ) from missing
    show(args, {"user": user.name, "project": project.name, "role": role.name, "removed": True})


async def _assignments(args: argparse.Namespace, _settings: Settings, accounts: Accounts) -> None:
    user = await manage.user_of(accounts, args.user) if args.user else None
    project = await manage.project_of(accounts, args.project) if args.project else None
    users = {each.id: each.name for each in await accounts.users()}
    projects = {each.id: each.name for each in await accounts.projects()}
    held = await accounts.grants(user.id if user else None, project.id if project else None)
    show_all(
        args,
        ("user", "project", "role"),
        (
            (
                users.get(grant.user_id, grant.user_id),
                projects.get(grant.project_id, grant.project_id),
                grant.role.name,
            )
            for grant in held
        ),
    )
