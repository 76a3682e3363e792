"""How the work of each hot statement grows with the catalog, on both databases.

python -m bench.growth [--sizes 1000,100000,1000000] [--repetitions 7] [--json FILE]

Measured are the catalogs that `make bench` has seeded; they are left as they were. The unit is what the
database touches, pages or instructions, so the numbers hold on a busy machine too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path

from bench.catalogs import Folder
from bench.growth.measure import Measured, measure
from bench.postgres import Postgres
from bench.run import _alone

_ROOT = Path(__file__).resolve().parents[2]
_UNITS = {"postgresql": "pages", "sqlite": "instructions"}


def main() -> int:
    """Measure and print; exit code 2 where a catalog is missing."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--sizes", default="1000,100000,1000000", metavar="N,…")
    parser.add_argument("--repetitions", type=int, default=7, metavar="N")
    parser.add_argument("--folder", type=Path, default=_ROOT / ".cache" / "bench")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    path = options.folder.resolve()
    folder = Folder(path)
    missing = [
        f"{side}_{size}"
        for side in ("transom", "sqlite")
        for size in sizes
        if not (folder.stamps / f"{side}_{size}").exists()
    ]
    if missing:
        print(f"not seeded yet, run `make bench` first: {', '.join(missing)}", file=sys.stderr)
        return 2
    results: dict[str, dict[int, dict[str, Measured]]] = {}
    with _alone(path):
        postgres = Postgres(folder.postgres, path)
        postgres.start()
        try:
            for size in sizes:
                for dialect, url in (
                    ("postgresql", postgres.url(f"transom_{size}")),
                    ("sqlite", folder.transom().sqlite(f"sqlite_{size}")),
                ):
                    print(f"{dialect}, {size:,} images", file=sys.stderr, flush=True)
                    found = asyncio.run(measure(url, size, options.repetitions))
                    results.setdefault(dialect, {})[size] = found
        finally:
            postgres.stop()
    for dialect, by_size in results.items():
        print(_table(dialect, by_size))
    if options.json:
        plain = {
            dialect: {
                size: {name: asdict(each) for name, each in found.items()}
                for size, found in by_size.items()
            }
            for dialect, by_size in results.items()
        }
        options.json.write_text(json.dumps(plain, indent=1))
    return 0


def _table(dialect: str, by_size: dict[int, dict[str, Measured]]) -> str:
    sizes = sorted(by_size)
    unit = _UNITS[dialect]
    lines = [
        f"\n## {dialect}: {unit} for each operation, and milliseconds\n",
        "| operation | "
        + " | ".join(f"{size:,}" for size in sizes)
        + f" | growth to {sizes[-1]:,} | "
        + " | ".join(f"ms, {size:,}" for size in sizes)
        + " |",
        "|---|" + "--:|" * (2 * len(sizes) + 1),
    ]
    for name in by_size[sizes[0]]:
        found = [by_size[size][name] for size in sizes]
        growth = found[-1].work / max(found[0].work, 1)
        lines.append(
            f"| {name} | "
            + " | ".join(f"{each.work:,.0f}" for each in found)
            + f" | {growth:.1f}-fold | "
            + " | ".join(f"{each.milliseconds:.2f}" for each in found)
            + " |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
