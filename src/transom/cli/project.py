"""`transom project`: who owns images."""

from __future__ import annotations

import argparse
from typing import Any

from transom.auth.local import manage
from transom.auth.local.accounts import Accounts
from transom.cli.accounts import add_verb, show, show_all
from transom.errors import InvalidValue
from transom.model.identity import Project
from transom.settings import Settings


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("project", help="look after projects of the local identity")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    create = add_verb(verbs, "create", "create a project", _create)
    create.add_argument("name")
    create.add_argument("--description", default="")
    create.add_argument("--disable", action="store_true", help="nobody gets tokens for it yet")

    add_verb(verbs, "list", "list all projects", _list)

    shown = add_verb(verbs, "show", "show a project and who is what in it", _show)
    shown.add_argument("project", help="name or id")

    change = add_verb(verbs, "set", "change a project", _set)
    change.add_argument("project", help="name or id")
    switch = change.add_mutually_exclusive_group()
    switch.add_argument("--enable", action="store_true", help="let users get tokens for it again")
    switch.add_argument(
        "--disable", action="store_true", help="no more tokens; those there are die"
    )
    change.add_argument("--name", help="the new name")
    change.add_argument("--description")

    delete = add_verb(
        verbs, "delete", "delete projects; tokens for them die, their images stay", _delete
    )
    delete.add_argument("project", nargs="+", help="name or id")


def _facts(project: Project) -> dict[str, Any]:
    return {
        "id": project.id,
        "name": project.name,
        "enabled": project.is_enabled,
        "description": project.description,
    }


async def _create(args: argparse.Namespace, _settings: Settings, accounts: Accounts) -> None:
    made = await manage.create_project(
        accounts, args.name, is_enabled=not args.disable, description=args.description
    )
    show(args, _facts(made))


async def _list(args: argparse.Namespace, _settings: Settings, accounts: Accounts) -> None:
    show_all(
        args,
        ("id", "name", "enabled", "description"),
        (
            (project.id, project.name, project.is_enabled, project.description)
            for project in await accounts.projects()
        ),
    )


async def _show(args: argparse.Namespace, _settings: Settings, accounts: Accounts) -> None:
    project = await manage.project_of(accounts, args.project)
    names = {user.id: user.name for user in await accounts.users()}
    held = [
        f"{names.get(grant.user_id, grant.user_id)} is {grant.role.name}"
        for grant in await accounts.grants(project_id=project.id)
    ]
    created_at = project.created_at.isoformat(timespec="seconds")
    show(args, _facts(project) | {"created_at": created_at, "roles": held})


async def _set(args: argparse.Namespace, _settings: Settings, accounts: Accounts) -> None:
    project = await manage.project_of(accounts, args.project)
    changes = {
        name: value
        for name in ("name", "description")
        if (value := getattr(args, name)) is not None
    }
    if args.enable or args.disable:
        changes["is_enabled"] = bool(args.enable)
    if not changes:
        raise InvalidValue("project", "nothing to change; see `transom project set --help`.")
    show(args, _facts(await manage.change_project(accounts, project, **changes)))


async def _delete(args: argparse.Namespace, _settings: Settings, accounts: Accounts) -> None:
    projects = [await manage.project_of(accounts, reference) for reference in args.project]
    for project in projects:
        await accounts.remove_project(project.id)
    show_all(
        args, ("id", "name", "deleted"), ((project.id, project.name, True) for project in projects)
    )
