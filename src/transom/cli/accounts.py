"""What the commands about users, projects, roles and tokens share: the catalog, and how to print."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from transom.auth.local.accounts import Accounts
from transom.catalog import Catalog, migrations
from transom.cli.options import add_location, settings_of
from transom.errors import ConfigurationError
from transom.settings import Settings

Task = Callable[[argparse.Namespace, Settings, Accounts], Awaitable[None]]


def add_verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, help_: str, task: Task
) -> argparse.ArgumentParser:
    """A verb of a command, which runs `task` on the accounts of the data folder."""
    parser = verbs.add_parser(name, help=help_, description=f"{help_[0].upper()}{help_[1:]}.")
    add_location(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.set_defaults(func=lambda args: run(args, task))
    return parser


def run(args: argparse.Namespace, task: Task) -> int:
    """Run a task. It may run beside the service, which sees its changes within a second. Raises
    ConfigurationError where there is no local identity yet."""
    settings = settings_of(args)
    if settings.identity.backend != "local":
        raise ConfigurationError(
            f"identity.backend = {settings.identity.backend!r}: users are looked after there, not "
            "here; this command is for the backend 'local'."
        )
    if settings.database.url.startswith("sqlite:") and not settings.data_path.is_dir():
        raise ConfigurationError(
            f"There is no data folder {settings.data_path}; name the right one with --data, or "
            "start `transom serve` once, which makes it."
        )
    catalog = Catalog.open(settings)
    try:
        found, newest = catalog.current_revision(), migrations.head()
        if not migrations.serves(found):
            raise ConfigurationError(
                f"The database is at revision {found or 'none'}, this version needs {newest}; "
                "start `transom serve` once or run `transom db upgrade`."
            )
        asyncio.run(_run(task, args, settings, catalog))
    finally:
        catalog.close()
    return 0


async def _run(task: Task, args: argparse.Namespace, settings: Settings, catalog: Catalog) -> None:
    await task(args, settings, catalog.identity)


def show(args: argparse.Namespace, facts: dict[str, Any]) -> None:
    """Print one thing: as lines of name and value, or as a JSON object."""
    if args.json:
        print(json.dumps(facts, ensure_ascii=False))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {_cell(value)}".rstrip())


def show_all(
    args: argparse.Namespace, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Print many things: as a table, or as a JSON array of objects."""
    rows = list(rows)
    if args.json:
        found = [dict(zip(columns, row, strict=True)) for row in rows]
        print(json.dumps(found, ensure_ascii=False))
        return
    table = [[name.upper() for name in columns], *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[index]) for row in table) for index in range(len(columns))]
    for row in table:
        print(
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def _cell(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case None:
            return "-"
        case list() | tuple():
            return ", ".join(map(str, value))
        case _:
            return str(value)
