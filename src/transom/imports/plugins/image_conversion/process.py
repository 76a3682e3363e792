"""Runs a confined program, hears what it says, and ends it when nobody wants it any more."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import msgspec

from transom.stores.threads import settled

_CONFINED = Path(__file__).with_name("confined.py")
_OUTPUT_BYTES_MAX = 1024 * 1024
_ERRORS_BYTES_MAX = 4096
_LOOK_SECONDS = 0.02


class Confinement(msgspec.Struct, frozen=True, kw_only=True):
    """What a program may do: see `confined.py`."""

    limits: Mapping[str, int]
    """Names of the module `resource` (`RLIMIT_CPU`), and their values."""
    read: Sequence[str] = ()
    """Files that it may read."""
    write: str = ""
    """The folder that it may write in, and that it works in."""
    seconds_max: float | None = None
    """Wall-clock time after which it is ended."""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a program ended."""

    code: int
    """Its exit status, or minus the number of the signal that ended it."""
    output: bytes
    errors: str
    """The last that it said on its standard error."""
    is_late: bool
    """It was ended because it took too long or said too much."""


async def run_confined(
    command: Sequence[str],
    confinement: Confinement,
    on_output: Callable[[bytes], None] | None = None,
) -> Ended:
    """Run a program to its end. `on_output` is called in a thread with each piece of its output,
    which is then not kept. When the caller is cancelled the program is killed, with all that it has
    begun, and gone before this raises. Raises OSError when it cannot be started."""
    child = _Child()
    # A thread of its own: the program dies with the thread that began it, and must not wait for one.
    thread = ThreadPoolExecutor(1, thread_name_prefix="qemu-img")
    try:
        future = asyncio.get_running_loop().run_in_executor(
            thread, child.run, command, confinement, on_output
        )
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            child.stop()
            await settled(future)
            raise
    finally:
        thread.shutdown(wait=False)


def run_confined_now(command: Sequence[str], confinement: Confinement) -> Ended:
    """The same without a loop, for the moment of start."""
    return _Child().run(command, confinement, None)


class _Child:
    """One process. `run` belongs to one thread, `stop` to any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

    def run(
        self,
        command: Sequence[str],
        confinement: Confinement,
        on_output: Callable[[bytes], None] | None,
    ) -> Ended:
        with self._lock:
            if self._is_stopped:
                return Ended(code=-signal.SIGKILL, output=b"", errors="", is_late=False)
            process = self._process = _start(command, confinement)
        try:
            said = _Said(on_output)
            deadline = time.monotonic() + (confinement.seconds_max or float("inf"))
            is_late = not said.listen(process, deadline)
            if is_late:
                self.stop()
            while not self._is_over():
                if time.monotonic() > deadline:
                    is_late = True
                    self.stop()
                time.sleep(_LOOK_SECONDS)
            return Ended(
                code=process.returncode,
                output=bytes(said.output),
                errors=said.errors.decode(errors="replace").strip(),
                is_late=is_late,
            )
        finally:
            self.stop()
            while not self._is_over():
                time.sleep(_LOOK_SECONDS)
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()

    def stop(self) -> None:
        """Kill the process and its group, if it lives; and never let it begin, if it does not yet."""
        with self._lock:
            self._is_stopped = True
            # Between this look and the kill nobody can give the number to another process: only
            # `_is_over` fetches the dead, under the same lock.
            if self._process is not None and self._process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)

    def _is_over(self) -> bool:
        with self._lock:
            return self._process is None or self._process.poll() is not None


class _Said:
    """What a process says, as far as it is kept."""

    def __init__(self, on_output: Callable[[bytes], None] | None) -> None:
        self.output = bytearray()
        self.errors = bytearray()
        self._on_output = on_output

    def listen(self, process: subprocess.Popen[bytes], deadline: float) -> bool:
        """Hear all of it; False when the deadline passed, or it was too much."""
        with selectors.DefaultSelector() as pipes:
            for pipe, take in ((process.stdout, self._hear), (process.stderr, self._complain)):
                if pipe is not None:
                    pipes.register(pipe, selectors.EVENT_READ, take)
            while pipes.get_map():
                if time.monotonic() > deadline or len(self.output) > _OUTPUT_BYTES_MAX:
                    return False
                for key, _ in pipes.select(min(1.0, max(0.0, deadline - time.monotonic()))):
                    pipe = _file(key.fileobj)
                    piece = os.read(pipe.fileno(), 65536)
                    if piece:
                        key.data(piece)
                    else:
                        pipes.unregister(pipe)
        return True

    def _hear(self, piece: bytes) -> None:
        if self._on_output is None:
            self.output += piece
        else:
            self._on_output(piece)

    def _complain(self, piece: bytes) -> None:
        self.errors += piece
        del self.errors[:-_ERRORS_BYTES_MAX]


def _file(registered: object) -> IO[bytes]:
    return registered  # type: ignore[return-value]


def _start(command: Sequence[str], confinement: Confinement) -> subprocess.Popen[bytes]:
    wanted = {
        "parent": os.getpid(),
        "limits": dict(confinement.limits),
        "read": list(confinement.read),
        "write": confinement.write,
    }
    environment = {"LC_ALL": "C", "MALLOC_ARENA_MAX": "1", "TMPDIR": confinement.write or "/"}
    for name in ("PATH", "LD_LIBRARY_PATH"):
        if name in os.environ:
            environment[name] = os.environ[name]
    return subprocess.Popen(  # noqa: S603 - no shell, and every argument is ours.
        [sys.executable, "-I", "-S", str(_CONFINED), json.dumps(wanted), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=confinement.write or "/",
        env=environment,
        start_new_session=True,
    )
