"""Logs: structured, one line an event, each with the id of the request it belongs to."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar

import structlog

from transom.errors import TransomError

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that this task works for."""


def _add_request_id(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    value = request_id.get()
    if value:
        event.setdefault("request_id", value)
    return event


@contextlib.contextmanager
def outlived(
    event: str, failed: Callable[[], object] | None = None, **about: object
) -> Iterator[None]:
    """Nothing that goes wrong inside ends what is around: a loop of the background that died would
    be missed by nobody, and the process would do without it until its next start. It is logged as
    `event`, with what it is `about`, and `failed` is called."""
    try:
        yield
    except TransomError as error:
        structlog.get_logger().warning(event, reason=str(error), **about)
    except Exception:  # noqa: BLE001 - whatever it is, the next round may do better
        structlog.get_logger().exception(event, **about)
    else:
        return
    if failed is not None:
        failed()


class _Relay(logging.Handler):
    """Hands on what libraries log, so that every line has one form."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(
            record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info
        )


def configure(
    level: str = "info",
    form: str = "auto",
    *,
    for_good: bool = False,
    marks: Sequence[structlog.typing.Processor] = (),
) -> None:
    """Send logs to standard error, from this level on: `text` for people, `json` an object a line,
    `auto` by whether it is a terminal. `marks` add to each line. A service says `for_good`: its
    loggers keep what they are told now, which is faster, and warnings of libraries come the same
    way."""
    to_people = form == "text" or (form == "auto" and sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if to_people
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            _add_request_id,
            *marks,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if to_people else [structlog.processors.format_exc_info]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=for_good,
    )
    if for_good:
        logging.root.handlers = [_Relay(logging.WARNING)]
