"""`transom db`: the catalog's schema."""

from __future__ import annotations

import argparse

from transom.catalog import Catalog
from transom.cli.options import add_location, settings_of


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("db", help="look after the catalog's schema")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    upgrade = verbs.add_parser("upgrade", help="bring the schema up to this release")
    add_location(upgrade)
    upgrade.set_defaults(func=_upgrade)


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
