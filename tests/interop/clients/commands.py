"""Runs the clients' command lines: `openstack` and `glance`, as they are installed.

`openstack` takes seconds to load its plug-ins before it does anything. `Preloaded` loads them once
and forks for every command; each still is a process of its own that runs the client's own `main`
with its own arguments, streams and exit status.

A command's standard input is a terminal, as at a prompt: both clients take the bytes of an image
from a standard input that is none.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

COMMAND_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    command: str
    status: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """What it printed."""
        return self.out.decode()

    def __str__(self) -> str:
        return f"{self.command} -> {self.status}\n{self.out[-3000:]!r}\n{self.err[-3000:]}"


class Runner(Protocol):
    """Runs one command line in an environment."""

    def __call__(
        self, arguments: list[str], environment: Mapping[str, str], stdin: Path | None = None
    ) -> Answer: ...


def environment(home: Path, **extra: str) -> dict[str, str]:
    """What a client gets from its user's shell: no cloud of the developer, a home of its own."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OS_", "TRANSOM_", "PYTHON")) and "proxy" not in name.lower()
    }
    return {**kept, "HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config"), **extra}


def installed(program: str) -> Path:
    """Path of a program that is installed beside this Python."""
    path = Path(sys.executable).parent / program
    assert path.exists(), f"{path} is missing; `make test` installs it"
    return path


def run_program(
    program: str,
    arguments: list[str],
    environment: Mapping[str, str],
    stdin: Path | None = None,
) -> Answer:
    """Run the program itself, with a start of its own."""
    terminal: tuple[int, ...] = ()
    if stdin is None:
        terminal = os.openpty()
        source = os.dup(terminal[1])
    else:
        source = os.open(stdin, os.O_RDONLY)
    try:
        done = subprocess.run(
            [str(installed(program)), *arguments],
            env=dict(environment),
            stdin=source,
            capture_output=True,
            timeout=COMMAND_TIMEOUT_SECONDS,
            check=False,
        )
    finally:
        for descriptor in (source, *terminal):
            os.close(descriptor)
    return Answer(
        " ".join([program, *arguments]), done.returncode, done.stdout, done.stderr.decode()
    )


class Preloaded:
    """`openstack` with its plug-ins loaded; a Runner."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="transom-openstack-")
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("preload.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(
        self, arguments: list[str], environment: Mapping[str, str], stdin: Path | None = None
    ) -> Answer:
        """Fork, run `openstack` with the arguments, wait for its end."""
        out, err = (Path(self._folder.name) / name for name in ("out", "err"))
        order = {
            "arguments": arguments,
            "environment": dict(environment),
            "in": str(stdin or ""),
            "out": str(out),
            "err": str(err),
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        told = self._process.stdout.readline()
        assert told, "the preloaded openstack client died"
        return Answer(
            " ".join(["openstack", *arguments]), int(told), out.read_bytes(), err.read_text()
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(COMMAND_TIMEOUT_SECONDS)
        self._process.stdout.close()
        self._folder.cleanup()


class Shell:
    """A user at a prompt: one program, one environment."""

    def __init__(self, runner: Runner, environment: Mapping[str, str], *always: str) -> None:
        self._runner = runner
        self._environment = environment
        self._always = always

    def tries(self, *arguments: str, stdin: Path | None = None) -> Answer:
        """Run a command, however it ends."""
        return self._runner([*self._always, *arguments], self._environment, stdin)

    def runs(self, *arguments: str, stdin: Path | None = None) -> Answer:
        """Run a command that has to succeed."""
        answer = self.tries(*arguments, stdin=stdin)
        assert answer.status == 0, str(answer)
        return answer

    def fails(self, *arguments: str, stdin: Path | None = None) -> str:
        """Run a command that has to fail; give what it says on both streams."""
        answer = self.tries(*arguments, stdin=stdin)
        assert answer.status != 0, str(answer)
        assert "Traceback" not in answer.err, str(answer)
        return answer.text + answer.err

    def json(self, *arguments: str) -> Any:
        """Run a command that has to succeed; give the JSON that it prints with `-f json`."""
        return json.loads(self.runs(*arguments, "-f", "json").text)
