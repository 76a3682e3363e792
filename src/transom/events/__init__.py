"""Events: what happens to images, tasks and definitions, told to who wants to know.

Verbs say what happened (`telling`, `tell`) in the words of `payloads`; the catalog's outbox keeps it
until `delivery` has brought it to every target, a module each in `targets`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Self

import structlog

from transom.catalog.outbox import Letter, Look
from transom.errors import CatalogUnavailable
from transom.model.event import Notice
from transom.telemetry import request_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transom.catalog import Catalog
    from transom.settings import Settings

_log = structlog.get_logger(__name__)

AMQP = "amqp"
"""The name of the message bus among the targets."""
_NOTHING: AbstractContextManager[None] = nullcontext()

Say = Callable[[Any, Look], Iterable[Notice]]
"""What the result of a write, and a look at the catalog after it, have to tell."""


class Events:
    """What is told, and to whom. Where nobody wants to know, telling costs nothing."""

    def __init__(
        self, catalog: Catalog, wanted: dict[str, Sequence[str]], disabled: Sequence[str] = ()
    ) -> None:
        """`wanted` says for each target which events it wants, by name or group; none = all."""
        self._catalog = catalog
        self._wanted = wanted
        self._disabled = disabled
        self._readers: dict[str, tuple[str, ...]] = {}
        self.waits = asyncio.Event()
        """Set when something was told, so that this process delivers it at once."""

    @classmethod
    def open(cls, settings: Settings, catalog: Catalog) -> Self:
        """The events that a configuration asks for."""
        notifications = settings.notifications
        wanted = {name: webhook.events for name, webhook in notifications.webhooks.items()}
        if notifications.amqp.url:
            wanted[AMQP] = notifications.amqp.events
        return cls(catalog, dict(wanted), notifications.disabled)

    @property
    def is_on(self) -> bool:
        """True when there is a target."""
        return bool(self._wanted)

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of all targets."""
        return tuple(self._wanted)

    def wants(self, type_: str) -> bool:
        """True when somebody is told of events of this name."""
        return bool(self._wanted) and bool(self._targets(type_))

    def telling(self, say: Say, *, of_request: str | None = None) -> AbstractContextManager[None]:
        """Have the write of the catalog that is made inside tell of itself, in its own
        transaction: `say` is asked there, and runs again if the transaction does."""
        return self._telling(say, of_request) if self._wanted else _NOTHING

    @contextmanager
    def _telling(self, say: Say, of_request: str | None) -> Iterator[None]:
        asked_by = request_id.get() if of_request is None else of_request

        def letters(result: Any, look: Look) -> list[Letter]:
            return self._letters(say(result, look), asked_by)

        with self._catalog.outbox.with_next_write(letters):
            yield
        self.waits.set()

    async def tell(self, *notices: Notice, of_request: str | None = None) -> None:
        """Tell of what no write of the catalog goes with. When the catalog does not answer, nobody
        is told: what happened has happened."""
        if not self._wanted:
            return
        asked_by = request_id.get() if of_request is None else of_request
        letters = self._letters(notices, asked_by)
        if not letters:
            return
        try:
            await self._catalog.outbox.add(letters)
        except CatalogUnavailable as away:
            names = [letter.notice.type for letter in letters]
            _log.warning("events.not_told", events=names, reason=str(away))
        else:
            self.waits.set()

    def _letters(self, notices: Iterable[Notice], asked_by: str) -> list[Letter]:
        return [
            Letter(notice=notice, targets=targets, request_id=asked_by)
            for notice in notices
            if (targets := self._targets(notice.type))
        ]

    def _targets(self, type_: str) -> tuple[str, ...]:
        targets = self._readers.get(type_)
        if targets is None:
            targets = (
                ()
                if among(type_, self._disabled)
                else tuple(
                    name
                    for name, wanted in self._wanted.items()
                    if not wanted or among(type_, wanted)
                )
            )
            self._readers[type_] = targets
        return targets


def among(type_: str, names: Iterable[str]) -> bool:
    """True when an event is one of these, by its name or by a group's: `image` and `image.member`
    are groups of `image.member.create`."""
    return any(type_ == name or type_.startswith(f"{name}.") for name in names)
