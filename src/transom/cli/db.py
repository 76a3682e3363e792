"""`transom db`: the catalog's database: its schema, its health, its copies."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from transom import telemetry
from transom.catalog import Catalog
from transom.cli.options import add_location, settings_of
from transom.errors import ConfigurationError

if TYPE_CHECKING:
    from transom.catalog.engine import Engine
    from transom.settings import Settings

PROGRESS_SECONDS = 5.0
"""How often a long copy says how far it is."""
URL_VARIABLE = "TRANSOM_COPY_TO"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("db", help="look after the catalog's database")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    upgrade = verbs.add_parser("upgrade", help="bring the schema up to this release")
    add_location(upgrade)
    upgrade.set_defaults(func=_upgrade)

    check = verbs.add_parser(
        "check",
        help="examine the database; exit code 1 while something is wrong",
        description="Compares revision and schema with this release, and looks for damage, rows that "
        "refer to nothing, and numbers that would be given twice. Changes nothing; may run beside the "
        "service. What rows say of images and objects is examined by `transom doctor`.",
    )
    add_location(check)
    check.add_argument("--quick", action="store_true", help="do not read every row")
    check.set_defaults(func=_check)

    backup = verbs.add_parser(
        "backup",
        help="write a copy of the catalog to a file",
        description="Copies the catalog as it is at one moment, while the service goes on. SQLite "
        "becomes a SQLite file, PostgreSQL an archive for pg_restore. Image data is not in it.",
    )
    add_location(backup)
    backup.add_argument("file", type=Path, metavar="FILE", help="where to write it")
    backup.add_argument(
        "--replace", action="store_true", help="replace the file when it is there already"
    )
    backup.set_defaults(func=_backup)

    copy = verbs.add_parser(
        "copy",
        help="copy the catalog into another, empty database",
        description="Copies everything that the catalog holds from the database of the configuration "
        "into another one, from SQLite to PostgreSQL or back, and compares both. No service may run "
        "on either. Nothing is kept unless everything is the same.",
    )
    add_location(copy)
    copy.add_argument(
        "--to",
        default=os.environ.get(URL_VARIABLE),
        metavar="URL",
        help=f"the empty database, as database.url names it; default: ${URL_VARIABLE}, which other "
        "users of the machine cannot read",
    )
    copy.set_defaults(func=_copy)


def _upgrade(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    settings.data_path.mkdir(parents=True, exist_ok=True)
    catalog = Catalog.open(settings)
    try:
        catalog.upgrade()
        print(f"The schema is at revision {catalog.current_revision()}.")
    finally:
        catalog.close()
    return 0


def _check(args: argparse.Namespace) -> int:
    from transom.catalog import checkup

    telemetry.configure("error")
    settings = settings_of(args)
    _require_file(settings)
    catalog = Catalog.open(settings)
    try:
        found = checkup.examine(catalog.engine, is_quick=args.quick)
        revision = catalog.current_revision()
    finally:
        catalog.close()
    for ailment in found:
        print(f"problem  {ailment.question:<10}  {ailment.says}")
    if found:
        print("1 problem." if len(found) == 1 else f"{len(found)} problems.")
        return 1
    print(f"Nothing is wrong with the {catalog.engine.dialect} database at revision {revision}.")
    return 0


def _backup(args: argparse.Namespace) -> int:
    from transom.catalog.backup import backup

    telemetry.configure("error")
    settings = settings_of(args)
    _require_file(settings)
    catalog = Catalog.open(settings)
    progress = _Progress()
    try:
        revision = catalog.current_revision()
        if revision is None:
            raise ConfigurationError(
                "There is no catalog in the database of database.url; name the right one."
            )
        size_bytes = backup(
            catalog.engine,
            args.file,
            replaces=args.replace,
            tell=lambda part: progress.tell(f"{part:.0%}"),
        )
    finally:
        catalog.close()
    print(f"{args.file}: {size_bytes} bytes, the catalog at revision {revision}.")
    return 0


def _copy(args: argparse.Namespace) -> int:
    from transom.catalog.copying import copy
    from transom.catalog.engine import Engine
    from transom.images.sweep import DEAD_AFTER_SECONDS

    telemetry.configure("error")
    if not args.to:
        raise ConfigurationError(f"Name the database to copy into, with --to or ${URL_VARIABLE}.")
    settings = settings_of(args)
    _require_file(settings)
    source = Catalog.open(settings).engine
    target = Engine(args.to.replace("<data>", str(settings.data_path)))
    progress = _Progress()
    try:
        if _is_same(source, target):
            raise ConfigurationError("Both are the same database; name another one with --to.")
        done = copy(
            source,
            target,
            alive_seconds=DEAD_AFTER_SECONDS,
            tell=lambda table, rows: progress.tell(f"{table}: {rows} rows"),
        )
    finally:
        source.close()
        target.close()
    width = max(len(each.table) for each in done)
    print(f"{'table':<{width}}  {'rows':>10}  {'hash':<32}  same")
    for each in done:
        print(f"{each.table:<{width}}  {each.rows:>10}  {each.digest}  yes")
    print(
        f"{sum(each.rows for each in done)} rows, read again and the same. Now set database.url to "
        "the copy, and start Transom; keep the original until you trust it."
    )
    return 0


def _is_same(one: Engine, other: Engine) -> bool:
    if one.dialect != other.dialect:
        return False
    if one.dialect == "sqlite":
        return Path(one.url.database or "").resolve() == Path(other.url.database or "").resolve()
    return one.url == other.url


def _require_file(settings: Settings) -> None:
    """Raise ConfigurationError for a SQLite database that is not there: to open it would make it."""
    url = settings.database.url.replace("<data>", str(settings.data_path))
    if url.startswith("sqlite:"):
        from transom.catalog.engine import parse_url

        path = Path(parse_url(url).database or "")
        if not path.is_file():
            raise ConfigurationError(
                f"There is no catalog {path}; name the right folder with --data, or the right file "
                "with --config."
            )


class _Progress:
    """Says on the error output, now and then, how far something is."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def tell(self, text: str) -> None:
        """Maybe say this."""
        now = time.monotonic()
        if now - self._last >= PROGRESS_SECONDS:
            self._last = now
            print(text, file=sys.stderr, flush=True)
