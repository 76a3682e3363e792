"""Fill one side's catalog; a process of its own, so that several can work at once.

python -m bench.seed FOLDER PORT SIDE COUNT
"""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from bench.catalogs import Folder
from bench.postgres import Postgres
from bench.sides import limit


def seed(folder: Folder, postgres: Postgres, side: str, count: int) -> None:
    """Make the catalog of `side` with `count` images anew."""
    name = f"{side}_{count}"
    if side == "glance":
        _in_postgres(postgres, name, lambda half: folder.glance(postgres).seed(half, count))
    elif side == "limit":
        _in_postgres(postgres, name, lambda half: limit.seed_postgres(postgres, half, count))
    elif side == "limit-sqlite":
        limit.seed_sqlite(folder.sqlite_limit(name), count)
    else:
        transom = folder.transom()
        shutil.rmtree(transom.data(name), ignore_errors=True)
        if side == "sqlite":
            transom.seed(name, transom.sqlite(name), count)
        else:
            _in_postgres(postgres, name, lambda half: transom.seed(name, postgres.url(half), count))


def _in_postgres(postgres: Postgres, name: str, fill: Callable[[str], None]) -> None:
    half = f"half_{name}"
    postgres.create(half)
    fill(half)
    postgres.settle(half)
    postgres.drop(name)
    postgres.rename(half, name)


def _main() -> None:
    def interrupted(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    path, port, side, count = sys.argv[1:]
    folder = Folder(Path(path))
    seed(folder, Postgres(folder.postgres, folder.path, int(port)), side, int(count))


if __name__ == "__main__":
    _main()
