"""`transom doctor`: look at everything, say what is wrong, mend what can be mended safely."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from transom import telemetry
from transom.cli.opened import require_catalog, with_registry
from transom.cli.options import add_location, settings_of
from transom.cli.sweep import GRACE_SECONDS, seconds
from transom.errors import TransomError

if TYPE_CHECKING:
    from transom.doctor.finding import Finding
    from transom.registry import Registry


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "doctor",
        help="examine everything and say what is wrong; exit code 1 while something is",
        description="Looks at the configuration, the schema, the stores, the catalog's rows, every "
        "location, orphans, and what dead processes left. May run beside the service.",
    )
    add_location(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument(
        "--repair", action="store_true", help="mend what can be mended without losing anything"
    )
    parser.add_argument(
        "--grace",
        type=seconds,
        default=GRACE_SECONDS,
        metavar="SECONDS",
        help="leave orphans alone that are younger; default: 86400, a day",
    )
    parser.add_argument(
        "--hashes", action="store_true", help="read all data and compare its digests"
    )
    parser.add_argument(
        "--seconds",
        type=seconds,
        default=0.0,
        metavar="SECONDS",
        help="with --hashes: end the reading after so long and tell where to go on",
    )
    parser.add_argument(
        "--after",
        type=int,
        default=0,
        metavar="NUMBER",
        help="with --hashes: go on where an earlier reading ended",
    )
    parser.set_defaults(func=_run)


def _run(args: argparse.Namespace) -> int:
    import asyncio

    from transom.doctor.finding import Finding

    telemetry.configure("error")
    found: list[Finding] = []

    def tell(finding: Finding) -> None:
        found.append(finding)
        if not args.json:
            print(_line(finding), flush=True)

    try:
        settings = settings_of(args)
        require_catalog(settings)
        asyncio.run(with_registry(settings, lambda registry: _look(args, registry, tell)))
    except TransomError as error:
        # Without these three nothing else can be looked at.
        tell(Finding(check="configuration", says=str(error)))
    problems = [finding for finding in found if finding.level == "problem"]
    still_open = [finding for finding in problems if finding.is_open]
    if args.json:
        report = {
            "problems": len(problems),
            "mended": len(problems) - len(still_open),
            "findings": msgspec.to_builtins(found),
        }
        print(json.dumps(report, ensure_ascii=False))
    else:
        print(_summary(len(problems), len(problems) - len(still_open), repair=args.repair))
    return 1 if still_open else 0


async def _look(
    args: argparse.Namespace, registry: Registry, tell: Callable[[Finding], None]
) -> int:
    from transom.doctor import examine
    from transom.doctor.finding import Finding, Wishes

    wishes = Wishes(
        repair=args.repair,
        grace_seconds=args.grace,
        hashes=args.hashes,
        hash_seconds=args.seconds,
        hash_after=args.after,
    )
    for problem in registry.policy.problems():
        tell(Finding(check="configuration", says=problem))
    async for finding in examine(registry, wishes):
        tell(finding)
    return 0


def _line(finding: Finding) -> str:
    state: str = finding.level
    if finding.is_mended:
        state = "mended"
    subject = ", ".join(
        f"{name} {value}"
        for name, value in (
            ("image", finding.image_id),
            ("store", finding.store),
            ("object", finding.key),
        )
        if value
    )
    return f"{state:<7}  {finding.check:<13}  {subject}{': ' if subject else ''}{finding.says}"


def _summary(problems: int, mended: int, *, repair: bool) -> str:
    if not problems:
        return "Nothing is wrong."
    told = f"{problems} problems" if problems > 1 else "1 problem"
    if repair:
        return f"{told}, {mended} of them mended."
    return f"{told}. `transom doctor --repair` mends what can be mended safely."
