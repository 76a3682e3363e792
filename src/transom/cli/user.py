"""`transom user`: who can log in to the local identity."""

from __future__ import annotations

import argparse
import getpass
import sys
from typing import Any

from transom.auth.local import clouds, manage, passwords
from transom.auth.local.accounts import Accounts
from transom.cli.accounts import add_verb, show, show_all
from transom.errors import InvalidValue
from transom.model.identity import User
from transom.settings import Settings


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("user", help="look after users of the local identity")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    create = add_verb(verbs, "create", "create a user", _create)
    create.add_argument("name")
    _add_password(create)
    create.add_argument("--project", metavar="P", help="give a role in this project (name or id)")
    create.add_argument("--role", metavar="R", help="the role; default: member")
    create.add_argument("--description", default="")
    create.add_argument("--email", default="")
    create.add_argument("--disable", action="store_true", help="nobody can log in as it yet")

    add_verb(verbs, "list", "list all users", _list)

    shown = add_verb(verbs, "show", "show a user and its roles", _show)
    shown.add_argument("user", help="name or id")

    change = add_verb(verbs, "set", "change a user", _set)
    change.add_argument("user", help="name or id")
    switch = change.add_mutually_exclusive_group()
    switch.add_argument("--enable", action="store_true", help="let it log in again")
    switch.add_argument("--disable", action="store_true", help="let it log in no more; tokens die")
    change.add_argument("--name", help="the new name")
    change.add_argument("--description")
    change.add_argument("--email")

    password = add_verb(verbs, "password", "set a new password; the user's tokens die", _password)
    password.add_argument("user", help="name or id")
    _add_password(password)

    delete = add_verb(verbs, "delete", "delete users; their tokens die", _delete)
    delete.add_argument("user", nargs="+", help="name or id")


def _add_password(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--password",
        metavar="P",
        help="the password; - asks for it, or reads it from standard input. Default: a new one is "
        "made and printed",
    )


def _password_of(args: argparse.Namespace) -> tuple[str, bool]:
    """The password to set, and whether it was made here."""
    if args.password is None:
        return passwords.generate(), True
    if args.password != "-":  # noqa: S105 - a dash, not a password
        return args.password, False
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n"), False
    first = getpass.getpass("Password: ")
    if first != getpass.getpass("Again: "):
        raise InvalidValue("password", "the two were not the same; try again.")
    return first, False


def _facts(user: User) -> dict[str, Any]:
    return {
        "id": user.id,
        "name": user.name,
        "enabled": user.is_enabled,
        "description": user.description,
        "email": user.email,
    }


async def _create(args: argparse.Namespace, _settings: Settings, accounts: Accounts) -> None:
    if args.role and not args.project:
        raise InvalidValue("role", "a role is held in a project; name it with --project.")
    # Everything that can be wrong is looked at before anything is made.
    project = await manage.project_of(accounts, args.project) if args.project else None
    role = await manage.role_of(accounts, args.role or "member") if project else None
    password, is_new = _password_of(args)
    user = await manage.create_user(
        accounts,
        args.name,
        password,
        is_enabled=not args.disable,
        description=args.description,
        email=args.email,
        default_project_id=None if project is None else project.id,
    )
    facts = _facts(user)
    if project is not None and role is not None:
        await accounts.grant(user.id, project.id, role.id)
        facts |= {"project": project.name, "role": role.name}
    show(args, facts | ({"password": password} if is_new else {}))


async def _list(args: argparse.Namespace, _settings: Settings, accounts: Accounts) -> None:
    show_all(
        args,
        ("id", "name", "enabled", "email", "description"),
        (
            (user.id, user.name, user.is_enabled, user.email, user.description)
            for user in await accounts.users()
        ),
    )


async def _show(args: argparse.Namespace, _settings: Settings, accounts: Accounts) -> None:
    user = await manage.user_of(accounts, args.user)
    names = {project.id: project.name for project in await accounts.projects()}
    held = [
        f"{grant.role.name} in {names.get(grant.project_id, grant.project_id)}"
        for grant in await accounts.grants(user.id)
    ]
    credentials = [each.name for each in await accounts.credentials_of(user.id)]
    show(
        args,
        _facts(user)
        | {
            "created_at": user.created_at.isoformat(timespec="seconds"),
            "roles": held,
            "application_credentials": credentials,
        },
    )


async def _set(args: argparse.Namespace, _settings: Settings, accounts: Accounts) -> None:
    user = await manage.user_of(accounts, args.user)
    changes = {
        name: value
        for name in ("name", "description", "email")
        if (value := getattr(args, name)) is not None
    }
    if args.enable or args.disable:
        changes["is_enabled"] = bool(args.enable)
    if not changes:
        raise InvalidValue("user", "nothing to change; see `transom user set --help`.")
    show(args, _facts(await manage.change_user(accounts, user, **changes)))


async def _password(args: argparse.Namespace, settings: Settings, accounts: Accounts) -> None:
    user = await manage.user_of(accounts, args.user)
    password, is_new = _password_of(args)
    await manage.change_user(accounts, user, password)
    facts: dict[str, Any] = {"name": user.name} | ({"password": password} if is_new else {})
    path = clouds.path_of(settings)
    if clouds.set_password(path, clouds.auth_url_of(settings), user.name, password):
        facts["written_to"] = str(path)
    show(args, facts)


async def _delete(args: argparse.Namespace, _settings: Settings, accounts: Accounts) -> None:
    users = [await manage.user_of(accounts, reference) for reference in args.user]
    for user in users:
        await accounts.remove_user(user.id)
    show_all(args, ("id", "name", "deleted"), ((user.id, user.name, True) for user in users))
