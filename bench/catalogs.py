"""Seeded catalogs, made once and kept: the same images for every side, in every size."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench import dataset
from bench.postgres import Postgres
from bench.sides import glance, limit, transom

_STAMP = "seeded-by"


class Catalogs:
    """The catalogs of all sides. A catalog's name says its side and its size; `done` stamps tell
    by which version of the schema and the data set it was seeded, so a stale one is made anew."""

    def __init__(
        self,
        folder: Path,
        postgres: Postgres,
        glance_side: glance.Glance,
        transom_side: transom.Transom,
    ) -> None:
        self._folder = folder
        self._postgres = postgres
        self._glance = glance_side
        self._transom = transom_side
        self._stamps = folder / "stamps"

    def sqlite_limit(self, count: int) -> Path:
        """The file of the limit program's SQLite catalog."""
        return self._folder / f"limit_{count}.db"

    def database(self, side: str, count: int) -> str:
        """The name of a side's PostgreSQL database."""
        return f"{side}_{count}"

    def prepare(self, sides: Iterable[str], sizes: Iterable[int]) -> dict[str, str]:
        """Seed what is missing, two at a time; what failed, by name, with the reason."""
        wanted = [
            (f"{side}_{count}", self._version(side), self._maker(side, count))
            for count in sorted(sizes, reverse=True)
            for side in sides
        ]
        missing = [item for item in wanted if not self._is_done(item[0], item[1])]
        failures: dict[str, str] = {}
        with ThreadPoolExecutor(max_workers=2) as pool:
            futures = {name: pool.submit(self._make, name, *rest) for name, *rest in missing}
            try:
                for name, future in futures.items():
                    error = future.exception()
                    if error is not None:
                        failures[name] = f"{type(error).__name__}: {error}"
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return failures

    def copy_for_work(self, side: str, count: int) -> str:
        """A copy of a catalog that may be written to; the name under which it is started."""
        name = f"{side}_work"
        if side in ("glance", "transom", "limit"):
            self._postgres.create(name, self.database(side, count))
        if side == "limit-sqlite":
            shutil.copy(self.sqlite_limit(count), self._folder / f"{name}.db")
        if side in ("transom", "sqlite"):
            shutil.rmtree(self._transom.data(name), ignore_errors=True)
            shutil.copytree(self._transom.data(f"{side}_{count}"), self._transom.data(name))
        return name

    def _maker(self, side: str, count: int) -> Callable[[], None]:
        name = f"{side}_{count}"
        database = self.database(side, count)

        def in_postgres(seed: Callable[[str], None]) -> None:
            half = f"half_{database}"
            self._postgres.create(half)
            seed(half)
            self._postgres.drop(database)
            self._postgres.rename(half, database)

        def make() -> None:
            if side == "glance":
                in_postgres(lambda half: self._glance.seed(half, count))
            elif side == "limit":
                in_postgres(lambda half: limit.seed_postgres(self._postgres, half, count))
            elif side == "limit-sqlite":
                for path in self._folder.glob(f"{name.replace('limit-sqlite', 'limit')}.db*"):
                    path.unlink()
                limit.seed_sqlite(self.sqlite_limit(count), count)
            else:
                shutil.rmtree(self._transom.data(name), ignore_errors=True)
                if side == "sqlite":
                    self._transom.seed(name, self._transom.sqlite(name), count)
                    return

                def seed(half: str) -> None:
                    self._transom.seed(name, self._postgres.url(half), count)
                    self._postgres.settle(half)

                in_postgres(seed)

        return make

    def _make(self, name: str, version: str, maker: Callable[[], None]) -> None:
        began = time.monotonic()
        maker()
        self._stamps.mkdir(exist_ok=True)
        (self._stamps / name).write_text(version)
        print(f"  seeded {name} in {time.monotonic() - began:.0f} s", flush=True)

    def _is_done(self, name: str, version: str) -> bool:
        stamp = self._stamps / name
        return stamp.exists() and stamp.read_text() == version

    def _version(self, side: str) -> str:
        """Changes whenever a side's seeded catalog would come out differently."""
        files = [Path(dataset.__file__)]
        if side == "glance":
            files += [Path(glance.__file__), glance.REQUIREMENTS]
        elif side.startswith("limit"):
            files += [Path(limit.__file__), Path(limit.schema.__file__)]
        else:
            files += transom.schema_files()
        digest = hashlib.sha256()
        for file in files:
            digest.update(file.read_bytes())
        return digest.hexdigest()
