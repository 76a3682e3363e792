"""Virtual environments for programs that cannot share ours, made once and kept below `.cache`."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def environment(name: str, requirements: Path, *, alone: bool = False) -> Path:
    """A folder whose `venv` holds what the requirements name; made on first use, shared by test
    processes that run side by side. `alone` leaves out what they need to run, for packages of which
    only the files matter."""
    version = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = ROOT / ".cache" / f"{name}-{version}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            _install(folder / "venv", requirements, alone)
            (folder / "ready").touch()
    return folder


def _install(venv: Path, requirements: Path, alone: bool) -> None:
    shutil.rmtree(venv, ignore_errors=True)
    uv = shutil.which("uv")
    if uv:
        _run([uv, "venv", "--quiet", "--python", sys.executable, str(venv)])
        install = [uv, "pip", "install", "--quiet", "--python", str(venv / "bin/python")]
    else:
        _run([sys.executable, "-m", "venv", str(venv)])
        install = [str(venv / "bin/pip"), "install", "--quiet"]
    only = ["--no-deps"] if alone else []
    _run([*install, *only, "--requirement", str(requirements)])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
