"""`transom image`: what only an operator can do with images, beside the API."""

from __future__ import annotations

import argparse
import datetime as dt
from typing import TYPE_CHECKING

from transom.cli.accounts import show, show_all
from transom.cli.opened import run
from transom.cli.options import add_location

if TYPE_CHECKING:
    from transom.registry import Registry


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("image", help="bring back deleted images")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    deleted = verbs.add_parser(
        "deleted",
        help="list deleted images whose data waits for the scrubber",
        description="With `delete.delayed` these can be restored until their data is removed.",
    )
    add_location(deleted)
    deleted.add_argument("--json", action="store_true", help="print JSON, for programs")
    deleted.set_defaults(func=lambda args: run(args, _deleted))

    restore = verbs.add_parser(
        "restore",
        help="bring back a deleted image whose data waits for the scrubber",
        description="Its data must be in every store that it was in. It comes back as it was: "
        "active, or deactivated.",
    )
    restore.add_argument("image", help="id of the image")
    add_location(restore)
    restore.add_argument("--json", action="store_true", help="print JSON, for programs")
    restore.set_defaults(func=lambda args: run(args, _restore))


async def _deleted(args: argparse.Namespace, registry: Registry) -> int:
    wait = dt.timedelta(seconds=registry.settings.delete.scrub_after_seconds)
    rows = []
    for image, places in await registry.catalog.images.waiting():
        deleted_at = image.deleted_at or image.updated_at
        rows.append(
            (
                image.id,
                image.name,
                image.owner,
                image.size,
                [place.store for place in places],
                _time(deleted_at),
                _time(deleted_at + wait),
            )
        )
    show_all(
        args, ("id", "name", "owner", "size_bytes", "stores", "deleted_at", "scrubbed_from"), rows
    )
    return 0


async def _restore(args: argparse.Namespace, registry: Registry) -> int:
    from transom.images.restore import restore

    image = await restore(registry, args.image)
    show(
        args,
        {
            "id": image.id,
            "name": image.name,
            "status": str(image.status),
            "stores": [place.store for place in image.locations],
        },
    )
    return 0


def _time(moment: dt.datetime) -> str:
    return moment.isoformat(timespec="seconds")
