"""Seeded catalogs, made once and kept: the same images for every side, in every size."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench import dataset
from bench.postgres import Postgres
from bench.sides import glance, limit, transom

_ROOT = Path(__file__).resolve().parent.parent
_AT_ONCE = 2
_SECONDS_MAX = 3600
"""Longest time that seeding all catalogs may take."""


class Folder:
    """Where a run keeps its things: the database cluster, the catalogs, and `work`, which goes
    when the run ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.postgres = path / "postgres"
        self.work = path / "work"
        self.stamps = path / "stamps"

    def glance(self, postgres: Postgres) -> glance.Glance:
        """Glance over the databases of `postgres`."""
        return glance.Glance(self.path / "venv-glance", self.work, postgres)

    def transom(self) -> transom.Transom:
        """Transom over data folders under this one."""
        return transom.Transom(self.path / "transom")

    def sqlite_limit(self, name: str) -> Path:
        """The file of one of the limit program's SQLite catalogs."""
        return self.path / f"{name}.db"


class Catalogs:
    """The catalogs of all sides, named after side and size. A stamp for each tells by which
    version of schema and data set it was seeded, so that a stale one is made anew."""

    def __init__(self, folder: Folder, postgres: Postgres) -> None:
        self._folder = folder
        self._postgres = postgres

    def prepare(self, sides: Sequence[str], sizes: Iterable[int]) -> dict[str, str]:
        """Seed what is missing, two at a time; what failed, by name, with the reason."""
        wanted = [(side, count) for count in sorted(sizes, reverse=True) for side in sides]
        missing = [item for item in wanted if not self._is_done(*item)]
        failures: dict[str, str] = {}
        running: list[tuple[str, int, str, float, subprocess.Popen[str]]] = []
        deadline = time.monotonic() + _SECONDS_MAX
        try:
            while missing or running:
                if time.monotonic() > deadline:
                    for side, count in [*missing, *((side, count) for side, count, *_ in running)]:
                        failures[f"{side}_{count}"] = f"not done in {_SECONDS_MAX} s"
                    break
                while missing and len(running) < _AT_ONCE:
                    side, count = missing.pop(0)
                    version, began = _version(side), time.monotonic()
                    running.append((side, count, version, began, self._seed(side, count)))
                for item in [item for item in running if item[-1].poll() is not None]:
                    running.remove(item)
                    side, count, version, began, process = item
                    name = f"{side}_{count}"
                    if process.returncode:
                        failures[name] = (process.stdout.read() if process.stdout else "")[-2000:]
                        continue
                    self._folder.stamps.mkdir(exist_ok=True)
                    (self._folder.stamps / name).write_text(version)
                    print(f"  seeded {name} in {time.monotonic() - began:.0f} s", flush=True)
                time.sleep(0.1)
        finally:
            for *_, process in running:
                process.terminate()
            for *_, process in running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=10)
                process.kill()
        return failures

    def files(self, side: str, count: int) -> list[Path]:
        """The files of a catalog."""
        name = f"{side}_{count}"
        if side == "limit-sqlite":
            return [self._folder.sqlite_limit(name)]
        if side == "sqlite":
            return [*self._folder.transom().data(name).glob("transom.db*")]
        return [*self._postgres.files(name).iterdir()]

    def copy_for_work(self, side: str, count: int) -> str:
        """A copy of a catalog that may be written to; its name."""
        name, source = f"{side}_work", f"{side}_{count}"
        if side in ("glance", "transom", "limit"):
            self._postgres.create(name, source)
        if side == "limit-sqlite":
            shutil.copy(self._folder.sqlite_limit(source), self._folder.sqlite_limit(name))
        if side in ("transom", "sqlite"):
            data = self._folder.transom().data
            shutil.rmtree(data(name), ignore_errors=True)
            shutil.copytree(data(source), data(name))
        return name

    def remove_copies(self, sides: Iterable[str]) -> None:
        """Remove all copies that were made for work."""
        for side in sides:
            name = f"{side}_work"
            if side in ("glance", "transom", "limit"):
                self._postgres.drop(name)
            shutil.rmtree(self._folder.transom().data(name), ignore_errors=True)
            for path in self._folder.path.glob(f"{name}.db*"):
                path.unlink()

    def _seed(self, side: str, count: int) -> subprocess.Popen[str]:
        (self._folder.stamps / f"{side}_{count}").unlink(missing_ok=True)
        return subprocess.Popen(
            [
                sys.executable, "-m", "bench.seed",
                str(self._folder.path), str(self._postgres.port), side, str(count),
            ],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )  # fmt: skip

    def _is_done(self, side: str, count: int) -> bool:
        stamp = self._folder.stamps / f"{side}_{count}"
        return stamp.exists() and stamp.read_text() == _version(side)


def _version(side: str) -> str:
    """Changes whenever a side's seeded catalog would come out differently."""
    files = [Path(str(dataset.__file__))]
    if side == "glance":
        files += [glance.REQUIREMENTS]
    elif side.startswith("limit"):
        files += [Path(limit.__file__), Path(limit.__file__).parent.parent / "limits" / "schema.py"]
    digest = hashlib.sha256()
    if side in ("transom", "sqlite"):
        digest.update(transom.schema().encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()
