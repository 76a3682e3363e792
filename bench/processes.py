"""Servers under measurement: started, awaited, watched in /proc, and always stopped."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_PR_SET_PDEATHSIG = 1
_TICKS = os.sysconf("SC_CLK_TCK")
_libc = ctypes.CDLL(None, use_errno=True)


class StartFailed(Exception):
    """A server ended, or did not answer in time; the message holds the end of its log."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Server:
    """One program and all processes under it.

    `ready` is asked until it is true. The program gets a session of its own; `stop` ends the whole
    group, and the kernel ends the program should this one die first.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        log: Path,
        ready: Callable[[], bool],
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self._argv = [str(argument) for argument in argv]
        self._log = log
        self._ready = ready
        own = {name: value for name, value in os.environ.items() if name[:8] != "TRANSOM_"}
        self._env = {**own, **(env or {})}
        # Compiled modules are what an installed server starts from, so all may keep them.
        self._env.pop("PYTHONDONTWRITEBYTECODE", None)
        self._cwd = cwd
        self._user = user
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None
        self.start_seconds = 0.0
        """From the start of the program until `ready` was true, in seconds."""

    def start(self, timeout_seconds: float = 60.0) -> Self:
        """Start and wait until the server is ready. Raises StartFailed."""
        stop_signal = self._stop_signal

        def die_with_parent() -> None:
            _libc.prctl(_PR_SET_PDEATHSIG, int(stop_signal))

        began = time.monotonic()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                cwd=self._cwd,
                user=self._user,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        try:
            self._await_ready(began, timeout_seconds)
        except BaseException:
            self.stop()
            raise
        self.start_seconds = time.monotonic() - began
        return self

    def _await_ready(self, began: float, timeout_seconds: float) -> None:
        while not self._ready():
            if self._process is None or self._process.poll() is not None:
                raise StartFailed(f"{self._argv[0]} ended at once:\n{self._log_end()}")
            if time.monotonic() - began > timeout_seconds:
                raise StartFailed(
                    f"{self._argv[0]} gave no answer in {timeout_seconds:.0f} s:\n{self._log_end()}"
                )
            time.sleep(0.005)

    def stop(self) -> None:
        """End the program and everything it started; harmless when it has ended."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(self._stop_signal)
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def cpu_seconds(self) -> float:
        """Processor time, user and system, that the program has used until now."""
        return sum(_cpu_seconds(pid) for pid in self.pids())

    def resident_bytes(self) -> int:
        """Resident memory of all processes; a page that several share counts once."""
        return sum(_proportional_bytes(pid) for pid in self.pids())

    def pids(self) -> list[int]:
        """The program and its descendants."""
        if self._process is None:
            return []
        found = [self._process.pid]
        for pid in found:
            # A look at every process of the machine would take processors from who is measured.
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                with contextlib.suppress(OSError):
                    found.extend(int(child) for child in task.read_text().split())
        return found

    def _log_end(self) -> str:
        return self._log.read_text(errors="replace")[-3000:] if self._log.exists() else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class PeakMemory:
    """Watches the resident memory of a server while a block runs; `bytes` is the highest seen.

    The kernel goes through all memory of a process for that, and who takes or gives back memory
    meanwhile waits: five looks a second cost a server that is busy with large pieces little, fifty
    a quarter of its speed.
    """

    def __init__(self, server: Server, every_seconds: float = 0.2) -> None:
        self._server = server
        self._every_seconds = every_seconds
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.bytes = 0

    def _watch(self) -> None:
        while not self._done.is_set():
            self.bytes = max(self.bytes, self._server.resident_bytes())
            self._done.wait(self._every_seconds)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def answers(url: str, headers: Mapping[str, str] | None = None) -> bool:
    """True when a GET of `url` is answered with 200."""
    request = urllib.request.Request(url, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            response.read()
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def listens(port: int) -> bool:
    """True when something accepts connections on `port` of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _stat(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _cpu_seconds(pid: int) -> float:
    fields = _stat(pid)
    return sum(int(field) for field in fields[11:15]) / _TICKS if fields else 0.0


def _proportional_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
