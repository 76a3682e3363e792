"""Applications of OpenStack in a uWSGI of their own, as its projects recommend."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import httpx

from tests.support.ports import free_port

START_SECONDS = 90.0


class UwsgiServer:
    """One application in one process."""

    def __init__(self, folder: Path, venv: Path, options: Sequence[str], *, base: str = "") -> None:
        """It runs in `folder`, which keeps its log, with uWSGI's further `options`; below `base` it
        answers 200 or 300 once it is ready."""
        self.port = free_port()
        self._folder = folder
        self._command = [
            str(venv / "bin/uwsgi"),
            *("--http-socket", f"127.0.0.1:{self.port}", "--need-app", "--lazy-apps"),
            *("--buffer-size", "65535", "--add-header", "Connection: close"),
            *options,
        ]
        self._base = base
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The base of its API."""
        return f"http://127.0.0.1:{self.port}{self._base}"

    def start(self) -> Self:
        """Start it and wait until it answers."""
        with (self._folder / "uwsgi.log").open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                stdout=output,
                stderr=output,
                cwd=self._folder,
                env={"HOME": str(self._folder), "PATH": "/usr/bin:/bin"},
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                log = (self._folder / "uwsgi.log").read_text(errors="replace")
                self.stop()
                raise RuntimeError(f"{self._command} did not start:\n{log[-4000:]}")
            time.sleep(0.1)
        return self

    def _answers(self) -> bool:
        try:
            return httpx.get(self.url, timeout=5, trust_env=False).status_code < 400
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Let it hang: it takes connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
