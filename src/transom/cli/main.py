"""`transom <command>`: finds the command, reads its arguments, tells errors plainly."""

from __future__ import annotations

import argparse
import importlib
import sys

from transom import __version__
from transom.errors import TransomError

COMMANDS: dict[str, str] = {
    "serve": "transom.cli.serve",
    "worker": "transom.cli.worker",
    "config": "transom.cli.config",
    "db": "transom.cli.db",
    "user": "transom.cli.user",
    "project": "transom.cli.project",
    "role": "transom.cli.role",
    "token": "transom.cli.token",
    "policy": "transom.cli.policy",
    "metadefs": "transom.cli.metadefs",
    "image": "transom.cli.image",
    "events": "transom.cli.events",
    "sweep": "transom.cli.sweep",
    "doctor": "transom.cli.doctor",
}
"""Every command and the module that adds it. Only the module of the command given is imported."""


def parser(command: str | None = None) -> argparse.ArgumentParser:
    """The command line. With `command`, only that one is complete, which starts faster."""
    top = argparse.ArgumentParser(
        prog="transom", description="An image registry for clouds: OpenStack Image API v2."
    )
    top.add_argument("--version", action="version", version=f"transom {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        if command in (None, name):
            importlib.import_module(module).add(commands)
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command; gives the exit code: 0 done, 1 failed, 2 misused."""
    given = sys.argv[1:] if arguments is None else arguments
    command = given[0] if given and given[0] in COMMANDS else None
    args = parser(command).parse_args(given)
    try:
        return int(args.func(args))
    except TransomError as error:
        print(f"transom: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
