"""`transom sweep`: clean up once, now, and first only tell what would be cleaned."""

from __future__ import annotations

import argparse
import datetime as dt
import json
from typing import TYPE_CHECKING, Any

from transom.cli.opened import run
from transom.cli.options import add_location
from transom.errors import ConfigurationError

if TYPE_CHECKING:
    from transom.images.orphans import Survey
    from transom.images.sweep import Untidy
    from transom.registry import Registry

GRACE_SECONDS = 86_400.0
"""Younger orphans are left alone, unless one says otherwise."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "sweep",
        help="clean up after crashes and deletions; without --apply it only tells what it would do",
        description="A running service does the same every half minute, except for orphans: "
        "objects in stores that the catalog does not know.",
    )
    add_location(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument("--apply", action="store_true", help="do it")
    parser.add_argument(
        "--orphans",
        action="store_true",
        help="look for objects that the catalog does not know, complete and partial",
    )
    parser.add_argument(
        "--grace",
        type=seconds,
        default=GRACE_SECONDS,
        metavar="SECONDS",
        help="leave orphans alone that are younger; default: 86400, a day",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="remove orphans even where the catalog knows less than half of a store",
    )
    parser.set_defaults(func=lambda args: run(args, _sweep))


def seconds(text: str) -> float:
    """A number of seconds on the command line, not negative. Raises ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


async def _sweep(args: argparse.Namespace, registry: Registry) -> int:
    from transom.images.orphans import survey
    from transom.images.sweep import sweep, untidy, watch_the_silent

    await watch_the_silent(registry)
    found = await untidy(registry)
    if args.apply:
        await sweep(registry)
    left = set(await untidy(registry)) if args.apply else set(found)
    surveys = await survey(registry, grace_seconds=args.grace) if args.orphans else []
    removed = {each.store: await _remove(args, registry, each) for each in surveys}
    report = _report(args, found, left, surveys, removed)
    print(json.dumps(report, ensure_ascii=False) if args.json else _text(args, report))
    held_back = [each.store for each in surveys if _is_held_back(args, each)]
    if held_back:
        raise ConfigurationError(
            f"The catalog knows less than half of what is in store {', '.join(held_back)}, so "
            "nothing was removed there. See that database.url and the stores belong together; if "
            "they do, repeat it with --force."
        )
    return 1 if any(each.problem for each in surveys) else 0


def _is_held_back(args: argparse.Namespace, found: Survey) -> bool:
    return bool(args.apply and found.is_suspicious and not args.force)


async def _remove(args: argparse.Namespace, registry: Registry, found: Survey) -> set[str]:
    from transom.images.orphans import remove_orphans

    if not args.apply or _is_held_back(args, found):
        return set()
    return {orphan.key for orphan in await remove_orphans(registry, found)}


def _report(
    args: argparse.Namespace,
    found: list[Untidy],
    left: set[Untidy],
    surveys: list[Survey],
    removed: dict[str, set[str]],
) -> dict[str, Any]:
    return {
        "applied": bool(args.apply),
        "leftovers": [
            {
                "kind": each.kind,
                "image_id": each.image_id,
                "store": each.store,
                "key": each.key,
                "cleaned": each not in left,
            }
            for each in found
        ],
        "stores": [
            {
                "store": each.store,
                "objects": each.objects,
                "young_unknown": each.young,
                "problem": each.problem,
                "note": each.note,
                "orphans": [
                    {
                        "key": orphan.key,
                        "size_bytes": orphan.size_bytes,
                        "modified_at": dt.datetime.fromtimestamp(
                            orphan.modified_at, dt.UTC
                        ).isoformat(timespec="seconds"),
                        "partial": orphan.is_partial,
                        "removed": orphan.key in removed[each.store],
                    }
                    for orphan in each.orphans
                ],
            }
            for each in surveys
        ],
    }


def _text(args: argparse.Namespace, report: dict[str, Any]) -> str:
    kinds = {
        "intake": "unfinished data of a dead process",
        "data": "data of a deleted image",
        "image": "image that nobody works on",
    }
    lines = []
    for each in report["leftovers"]:
        verb = _verb(report["applied"], each["cleaned"], "clean")
        where = f" in {each['store']}: {each['key']}" if each["store"] else ""
        lines.append(f"{verb}  {kinds[each['kind']]} {each['image_id']}{where}")
    for store in report["stores"]:
        for orphan in store["orphans"]:
            verb = _verb(report["applied"], orphan["removed"], "remove")
            kind = "partial orphan" if orphan["partial"] else "orphan"
            lines.append(
                f"{verb}  {kind} in {store['store']}: {orphan['key']}, "
                f"{orphan['size_bytes']} bytes, of {orphan['modified_at']}"
            )
        told = (
            f"store {store['store']}: {store['objects']} objects, {len(store['orphans'])} orphans"
        )
        told += f", {store['young_unknown']} younger ones left alone"
        lines.append(f"{told}{': ' + store['note'] if store['note'] else ''}")
        if store["problem"]:
            lines.append(f"store {store['store']}: {store['problem']}")
    if not report["leftovers"] and not any(each["orphans"] for each in report["stores"]):
        lines.append("There is nothing to clean.")
    elif not args.apply:
        lines.append("Nothing was changed; --apply does it.")
    return "\n".join(lines)


def _verb(applied: bool, done: bool, verb: str) -> str:
    if not applied:
        return f"would {verb}"
    past = {"clean": "cleaned", "remove": "removed"}[verb]
    return past if done else f"not {past}"
