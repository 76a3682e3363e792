"""`transom events`: what is on its way to webhooks and the message bus, and what was laid aside."""

from __future__ import annotations

import argparse
import datetime as dt
from collections.abc import Collection
from typing import TYPE_CHECKING

from transom.cli.accounts import show, show_all
from transom.cli.opened import run
from transom.cli.options import add_location
from transom.errors import ConfigurationError
from transom.model.event import EventState

if TYPE_CHECKING:
    from transom.registry import Registry

STATES = tuple(str(state) for state in EventState)


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("events", help="look after events that are not delivered yet")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    listed = verbs.add_parser(
        "list",
        help="list events that wait for their target, and those that were tried in vain",
        description="`waiting` events are tried again by themselves, `dead` ones when you say so.",
    )
    _add_choice(listed)
    listed.add_argument("--state", choices=STATES, help="only those that are in this state")
    listed.add_argument(
        "--limit", type=int, default=100, metavar="N", help="at most so many; default: 100"
    )
    listed.set_defaults(func=lambda args: run(args, _list))

    retry = verbs.add_parser(
        "retry",
        help="have dead events delivered after all",
        description="They are tried as if for the first time, before later ones of their image.",
    )
    _add_numbers(retry)
    _add_choice(retry)
    retry.set_defaults(func=lambda args: run(args, _retry))

    drop = verbs.add_parser(
        "drop",
        help="forget events without delivering them",
        description="Without --state it is dead ones that are forgotten.",
    )
    _add_numbers(drop)
    _add_choice(drop)
    drop.add_argument(
        "--state", choices=STATES, default=str(EventState.DEAD), help="those in this state"
    )
    drop.set_defaults(func=lambda args: run(args, _drop))


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", metavar="NAME", help="only those for this webhook, or for amqp")
    add_location(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def _add_numbers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "number", nargs="*", type=int, help="numbers of events, as `list` shows them"
    )
    parser.add_argument("--all", action="store_true", help="all of them")


async def _list(args: argparse.Namespace, registry: Registry) -> int:
    state = None if args.state is None else EventState(args.state)
    found = await registry.catalog.outbox.list(target=args.target, state=state, limit=args.limit)
    rows = [
        (
            event.number,
            event.target,
            event.type,
            event.subject,
            str(event.state),
            event.attempts,
            _time(event.created_at),
            _time(event.due_at),
            event.reason,
        )
        for event in found
    ]
    if not rows and not args.json:
        print("Nothing waits.")
        return 0
    columns = ("number", "target", "type", "subject", "state", "attempts", "created_at", "due_at")
    show_all(args, (*columns, "reason"), rows)
    return 0


async def _retry(args: argparse.Namespace, registry: Registry) -> int:
    outbox = registry.catalog.outbox
    number = await outbox.retry(_numbers(args), target=args.target, now=dt.datetime.now(dt.UTC))
    show(args, {"tried_again": number})
    return 0


async def _drop(args: argparse.Namespace, registry: Registry) -> int:
    number = await registry.catalog.outbox.drop(
        _numbers(args), target=args.target, state=EventState(args.state)
    )
    show(args, {"dropped": number})
    return 0


def _numbers(args: argparse.Namespace) -> Collection[int] | None:
    if bool(args.number) == args.all:
        raise ConfigurationError(
            "Name events by their numbers, as `transom events list` shows them, or say --all."
        )
    return None if args.all else args.number


def _time(moment: dt.datetime) -> str:
    return moment.isoformat(timespec="seconds")
