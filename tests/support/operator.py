"""The operator's commands, run on a server's deployment as an operator would run them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, NamedTuple

from tests.support.server import ServerProcess


class Done(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)


def command_line(server: ServerProcess, *arguments: str) -> list[str]:
    """The whole command line of a command on the server's configuration and data."""
    where = ["--config", str(server.config_path), "--data", str(server.data)]
    return [sys.executable, "-m", "transom", *arguments, *where]


def operate(server: ServerProcess, *arguments: str) -> Done:
    """Run `transom` with these arguments, beside the server or while it is down."""
    done = subprocess.run(
        command_line(server, *arguments),
        capture_output=True,
        text=True,
        timeout=120,
        env=server.environment(),
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)
