"""How a process that runs for long is watched: its logs, its metrics, its traces."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from transom import __version__, telemetry, tracing
from transom.errors import ConfigurationError
from transom.metrics import process
from transom.metrics.kinds import Series, snapshot
from transom.settings import Settings, host_and_port

LEVELS = ("debug", "info", "warning", "error")


def add_log_level(parser: argparse.ArgumentParser) -> None:
    """Add `--log-level`."""
    parser.add_argument("--log-level", choices=LEVELS, help="default: logging.level")


def log_as(settings: Settings) -> None:
    """Log as the settings say, from now on."""
    telemetry.configure(
        settings.logging.level, settings.logging.format, for_good=True, marks=(tracing.mark,)
    )
    logging.getLogger("_granian").setLevel(logging.WARNING)


def trace(settings: Settings) -> None:
    """Trace as the settings say. Before the parts are opened: they look whether they are traced.
    Raises ConfigurationError."""
    tracing.start(settings.tracing.endpoint, settings.tracing.sample_ratio, __version__)


@contextmanager
def exposed(settings: Settings, read: Callable[[], list[Series]] = snapshot) -> Iterator[None]:
    """Show metrics at their own address meanwhile, if they have one. `read` gives them. Raises
    ConfigurationError when the address cannot be had."""
    bind = settings.metrics.bind
    if not bind:
        yield
        return
    from transom.metrics.exposition import Exposition

    process.watch(__version__)
    try:
        exposition = Exposition(*host_and_port(bind), read)
    except OSError as taken:
        raise ConfigurationError(
            f"metrics.bind = {bind!r}: cannot listen there ({taken.strerror}); stop what listens "
            "there, or choose another address."
        ) from taken
    try:
        yield
    finally:
        exposition.close()
