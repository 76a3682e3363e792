"""What files there are: the ones that belong to the project, not what tools leave beside them."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_LEFT_BY_TOOLS = frozenset(
    {".git", "__pycache__", "dist", "build", "data", "node_modules"}
)  # fmt: skip


@cache
def files() -> tuple[Path, ...]:
    """Every file of the project: those git tracks or would track, or all where git is not."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listing.returncode == 0:
        names = listing.stdout.decode().split("\0")
        return tuple(path for name in names if name and (path := ROOT / name).is_file())
    return tuple(
        path
        for path in ROOT.rglob("*")
        if path.is_file()
        and not any(
            part in _LEFT_BY_TOOLS or part.startswith((".venv", "."))
            for part in path.relative_to(ROOT).parts[:-1]
        )
    )


def texts(*suffixes: str) -> dict[Path, str]:
    """The text of every file with one of the suffixes; of every text file without."""
    found: dict[Path, str] = {}
    for path in files():
        if not suffixes or path.suffix in suffixes:
            try:
                found[path] = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
    return found
