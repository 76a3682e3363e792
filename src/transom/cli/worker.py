"""`transom worker`: work on tasks, without serving requests."""

from __future__ import annotations

import argparse
import asyncio
import signal

import structlog

from transom import tracing
from transom.cli.notify import READY, STOPPING, notify
from transom.cli.observed import add_log_level, exposed, log_as, trace
from transom.cli.options import add_location, settings_of
from transom.cli.serve import prepare
from transom.errors import ConfigurationError
from transom.settings import Settings

_log = structlog.get_logger(__name__)


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "worker",
        help="work on imports and other tasks, without serving requests",
        description="Any number of workers and serving processes share one database and its stores. "
        "What one of them leaves undone when it ends, another finishes.",
    )
    add_location(parser)
    add_log_level(parser)
    parser.set_defaults(func=_run)


def _run(args: argparse.Namespace) -> int:
    import uvloop

    settings = settings_of(args, {"logging.level": args.log_level} if args.log_level else {})
    log_as(settings)
    trace(settings)
    if any(store.driver == "memory" for store in settings.stores.named.values()):
        raise ConfigurationError(
            'A store with driver = "memory" is known to the serving process alone; let that one '
            "work on tasks (server.worker = true), or use another driver."
        )
    settings.data_path.mkdir(parents=True, exist_ok=True, mode=0o750)
    for line in prepare(settings):
        print(line, flush=True)
    with exposed(settings):
        uvloop.run(_work(settings))
    tracing.stop()
    return 0


async def _work(settings: Settings) -> None:
    from transom.app import Background, open_registry

    background = Background(open_registry(settings), is_worker=True)
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await background.start()
    _log.info("working", data=settings.data)
    notify(READY)
    await ended.wait()
    notify(STOPPING)
    await background.stop()
    _log.info("stopped")
