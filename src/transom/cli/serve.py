"""`transom serve`: start the service and keep it running until a signal ends it."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import structlog

from transom import __version__, tracing
from transom.cli.allocation import keep_freed_memory
from transom.cli.notify import READY, STOPPING, notify
from transom.cli.observed import add_log_level, exposed, log_as, trace
from transom.cli.options import add_location, settings_of
from transom.errors import ConfigurationError
from transom.metrics import process
from transom.metrics.kinds import forget_all
from transom.metrics.sharing import Report, Workers
from transom.settings import Settings, host_and_port, load

_log = structlog.get_logger(__name__)
_LAUNCH = "TRANSOM_LAUNCH"
"""Environment variable that tells worker processes how they were launched."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("serve", help="start the service")
    add_location(parser)
    parser.add_argument("--bind", metavar="HOST:PORT", help="listen here instead of server.bind")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes; default: server.workers"
    )
    add_log_level(parser)
    parser.set_defaults(func=_run)


def _run(args: argparse.Namespace) -> int:
    flags = {
        key: value
        for key, value in (
            ("server.bind", args.bind),
            ("server.workers", args.workers),
            ("logging.level", args.log_level),
        )
        if value is not None
    }
    settings = settings_of(args, flags)
    log_as(settings)
    settings.data_path.mkdir(parents=True, exist_ok=True, mode=0o750)
    for key, bind in (("server", settings.server.bind), ("compute", settings.compute.bind)):
        if bind:
            _refuse_taken_address(key, bind)
    for line in prepare(settings):
        print(line, flush=True)
    if settings.server.workers == 1:
        trace(settings)
        with exposed(settings):
            _serve_here(settings)
        tracing.stop()
        return 0
    launch = {
        "config": str(args.config) if args.config else None,
        "data": settings.data,
        "flags": flags,
    }
    if not settings.metrics.bind:
        _serve_in_workers(settings, launch)
        return 0
    workers = Workers()
    try:
        with exposed(settings, workers.read):
            _serve_in_workers(settings, {**launch, "metrics": str(workers.path)})
    finally:
        workers.close()
    return 0


def prepare(settings: Settings) -> list[str]:
    """Bring the catalog up to date and, the first time, make users; gives the lines to print.
    Raises ConfigurationError, also for what would otherwise fail at the first import."""
    from transom.auth import bootstrap
    from transom.catalog import Catalog
    from transom.imports.plugins import open_plugins

    open_plugins(settings)
    catalog = Catalog.open(settings)
    try:
        catalog.upgrade()
        return bootstrap(settings, catalog)
    finally:
        catalog.close()


def _refuse_taken_address(key: str, bind: str) -> None:
    host, port = host_and_port(bind)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as taken:
            raise ConfigurationError(
                f"{key}.bind = {bind!r}: cannot listen there ({taken.strerror}); "
                "stop what listens there, or choose another address."
            ) from taken


def _serve_here(settings: Settings) -> None:
    import uvloop

    keep_freed_memory()
    uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    from transom.api.listener import listener, renew, stop
    from transom.app import App

    app = App.build(settings)
    server = listener(app.application, settings.server.bind, settings)
    loop = asyncio.get_running_loop()
    ending: list[asyncio.Task[None]] = []

    def end() -> None:
        # The server waits for requests that are under way; nobody else tells these to end. A second
        # signal does not wait.
        ending.append(loop.create_task(end_after(0.0 if ending else settings.server.drain_seconds)))

    async def end_after(drain_seconds: float) -> None:
        app.face.drain()
        notify(STOPPING)
        await asyncio.sleep(drain_seconds)
        seconds = settings.server.shutdown_seconds if len(ending) == 1 else 0.0
        stop(server)
        await app.face.finish(seconds)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    audit = app.registry.audit
    # Without an audit log there is nothing to open anew, and no reason to end either.
    loop.add_signal_handler(signal.SIGHUP, int if audit is None else audit.reopen)
    try:
        await app.start()
        if settings.server.tls_certificate:
            app.tasks.append(loop.create_task(renew(settings, server), name="certificate"))
        _log.info("serving", bind=settings.server.bind, data=settings.data)
        loop.call_later(0, notify, READY)
        await server.serve()
        await app.face.finish(settings.server.shutdown_seconds)
    finally:
        await app.stop()
    _log.info("stopped")


def _serve_in_workers(settings: Settings, launch: dict[str, Any]) -> None:
    from granian.constants import HTTPModes, Interfaces, Loops

    from transom.api.listener import BACKLOG, HTTP1, tls_of
    from transom.cli.draining import DrainingServer

    os.environ[_LAUNCH] = msgspec.json.encode(launch).decode()
    host, port = host_and_port(settings.server.bind)
    tls = tls_of(settings)
    if tls:
        threading.Thread(target=_renew_workers, args=(settings,), daemon=True).start()
    DrainingServer(
        "transom.cli.serve:worker_face",
        drain_seconds=settings.server.drain_seconds,
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        workers=settings.server.workers,
        loop=Loops.uvloop,
        http=HTTPModes.http1,
        http1_settings=HTTP1,
        websockets=False,
        backlog=BACKLOG,
        backpressure=BACKLOG,
        factory=True,
        log_enabled=False,
        respawn_failed_workers=True,
        workers_kill_timeout=int(settings.server.shutdown_seconds) + 5,
        **tls,
    ).serve()


def _renew_workers(settings: Settings) -> None:
    """Have the workers replaced, one after the other, whenever the certificate changes."""
    from transom.api.listener import LOOK_SECONDS, is_renewed, stamp

    seen = stamp(settings)
    while True:
        time.sleep(LOOK_SECONDS)
        if is_renewed(settings, seen):
            seen = stamp(settings)
            os.kill(os.getpid(), signal.SIGHUP)


def worker_face() -> object:
    """The ASGI application of one worker process, configured as the main process was."""
    from transom.app import App

    keep_freed_memory()
    launch = msgspec.json.decode(os.environ[_LAUNCH])
    config = Path(launch["config"]) if launch["config"] else None
    settings = load(config, Path(launch["data"]), os.environ, launch["flags"])
    log_as(settings)
    trace(settings)
    # A worker may be a copy of the main process: what that one has counted stays its own.
    forget_all()
    app = App.build(settings)
    if "metrics" in launch:
        process.watch(__version__)
        app.closing.append(Report(Path(launch["metrics"])).close)
    app.started.append(partial(notify, READY))
    app.closing.append(tracing.stop)
    return app.application
