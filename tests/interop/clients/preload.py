"""Loads `openstack` once and forks for every command line that comes in on stdin, as JSON.

Run as a program by `commands.Preloaded`; answers each order with the exit status on a line.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from typing import Any

from openstackclient import shell

LATE = (
    "openstack.identity.v3._proxy",
    "openstack.image.v2._proxy",
    "openstackclient.identity.client",
    "openstackclient.image.client",
    "openstackclient.image.v2.image",
)
"""What the client would import when a command needs it."""


def obey(order: dict[str, Any]) -> int:
    """Become the command: its environment, its streams, its exit status."""
    os.environ.clear()
    os.environ.update(order["environment"])
    os.dup2(os.open(order["in"], os.O_RDONLY) if order["in"] else os.openpty()[1], 0)
    os.dup2(os.open(order["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 1)
    os.dup2(os.open(order["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 2)
    sys.stdin = os.fdopen(0, "r")
    sys.argv = ["openstack", *order["arguments"]]
    status = 1
    try:
        status = int(shell.main(order["arguments"]) or 0)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - what the interpreter does at the end of a program
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def main() -> None:
    """Load everything; until stdin ends: read an order, fork, wait, tell the exit status."""
    for module in LATE:
        importlib.import_module(module)
    while line := sys.stdin.readline():
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            os._exit(obey(order))
        _, ended = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(ended), flush=True)


if __name__ == "__main__":
    main()
