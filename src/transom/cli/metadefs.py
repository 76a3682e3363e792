"""`transom metadefs`: load, export and unload metadata definitions, as JSON files."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from transom.cli.opened import require_catalog
from transom.cli.options import add_location, settings_of
from transom.model.metadef import Loaded, LoadMode

if TYPE_CHECKING:
    from transom.catalog import Catalog

Task = Callable[[argparse.Namespace, "Catalog"], None]


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("metadefs", help="load and export metadata definitions")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    load = _verb(
        verbs,
        "load",
        "load the namespaces of JSON files into the catalog",
        "Files have the form that Glance ships. A namespace that is there already is left alone "
        "unless told otherwise. Nothing is loaded when a file is wrong.",
        _load,
    )
    load.add_argument("dir", type=Path, metavar="DIR", help="folder of JSON files, or one file")
    mode = load.add_mutually_exclusive_group()
    mode.add_argument(
        "--merge",
        dest="mode",
        action="store_const",
        const=LoadMode.MERGE,
        help="add to a namespace what it does not have, and change nothing in it",
    )
    mode.add_argument(
        "--prefer-new",
        dest="mode",
        action="store_const",
        const=LoadMode.PREFER_NEW,
        help="add what a namespace does not have, and change what differs",
    )
    mode.add_argument(
        "--replace",
        dest="mode",
        action="store_const",
        const=LoadMode.REPLACE,
        help="put the namespace of the file in the place of the one that is there",
    )
    load.add_argument(
        "--owner", metavar="PROJECT", help="id of the project that owns what names no owner"
    )
    load.set_defaults(mode=LoadMode.SKIP)

    export = _verb(
        verbs,
        "export",
        "write every namespace of the catalog into a JSON file",
        "Files that are there are written anew if they have the same name, and stay otherwise.",
        _export,
    )
    export.add_argument("dir", type=Path, metavar="DIR", help="folder for the files")

    unload = _verb(
        verbs,
        "unload",
        "delete the namespaces that JSON files name",
        "Protected namespaces too, with all that they hold, and resource types that no namespace "
        "is associated with any more.",
        _unload,
    )
    unload.add_argument("dir", type=Path, metavar="DIR", help="folder of JSON files, or one file")


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    help_: str,
    description: str,
    task: Task,
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(
        name, help=help_, description=f"{help_[0].upper()}{help_[1:]}. {description}"
    )
    add_location(parser)
    parser.set_defaults(func=lambda args: _run(args, task))
    return parser


def _run(args: argparse.Namespace, task: Task) -> int:
    from transom.catalog import Catalog

    settings = settings_of(args)
    require_catalog(settings)
    catalog = Catalog.open(settings)
    try:
        task(args, catalog)
    finally:
        catalog.close()
    return 0


def _load(args: argparse.Namespace, catalog: Catalog) -> None:
    import msgspec

    from transom.metadefs.access import now
    from transom.metadefs.files import read

    for source in read(args.dir, now()):
        namespace = source.namespace
        if namespace.owner is None:
            namespace = msgspec.structs.replace(namespace, owner=args.owner)
        outcome = catalog.metadef_loading.load_now(namespace, source.contents, args.mode)
        print(f"{namespace.namespace}: {_told(outcome)}")


def _told(outcome: Loaded) -> str:
    if outcome.is_new:
        return "loaded"
    if outcome.is_replaced:
        return "replaced"
    if outcome.added or outcome.changed:
        return f"{outcome.added} added, {outcome.changed} changed"
    return "left as it is"


def _export(args: argparse.Namespace, catalog: Catalog) -> None:
    from transom.metadefs.files import write

    for path in write(args.dir, catalog.metadef_loading.everything_now()):
        print(path)


def _unload(args: argparse.Namespace, catalog: Catalog) -> None:
    from transom.metadefs.access import now
    from transom.metadefs.files import read

    names = [source.namespace.namespace for source in read(args.dir, now())]
    for name in catalog.metadef_loading.unload_now(names):
        print(f"{name}: deleted")
