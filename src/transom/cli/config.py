"""`transom config`: show the effective configuration, check it, or print the reference."""

from __future__ import annotations

import argparse

from transom.cli.options import add_location, settings_of
from transom.settings import shown


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("config", help="show or check the configuration")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    show = verbs.add_parser("show", help="print the effective configuration, secrets masked")
    add_location(show)
    show.set_defaults(func=_show)
    check = verbs.add_parser("check", help="check the configuration and say what is wrong")
    add_location(check)
    check.set_defaults(func=_check)


def _show(args: argparse.Namespace) -> int:
    print(shown(settings_of(args)), end="")
    return 0


def _check(args: argparse.Namespace) -> int:
    from transom.imports.plugins import open_plugins

    open_plugins(settings_of(args))
    print("The configuration is valid.")
    return 0
