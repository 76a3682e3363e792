"""Events on a message bus, message by message as Glance sends them, by oslo.messaging.

The library's own notifier swallows what goes wrong, so that nobody would know whether an event
arrived. Here the same message goes through the same transport, and an event is done when the broker
has confirmed it (decision 98).
"""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

from transom.errors import ConfigurationError
from transom.events import AMQP
from transom.events.target import Undelivered
from transom.model.event import Outgoing
from transom.settings import Amqp

_VERSION = {True: 2.0, False: 1.0}
"""Of the message: with and without the envelope."""


def _library() -> Any:
    """oslo.messaging, on threads. Raises ModuleNotFoundError."""
    with warnings.catch_warnings():
        # A library below imports eventlet where it is there, and that warns of itself.
        warnings.simplefilter("ignore")
        from oslo_service import backend

        backend.init_backend(backend.BackendType.THREADING)
        import oslo_messaging
    return oslo_messaging


class Bus:
    """The message bus."""

    name = AMQP

    def __init__(self, settings: Amqp, *, timeout_seconds: float) -> None:
        """Raises ConfigurationError when the library is not installed."""
        try:
            oslo_messaging = _library()
        except ModuleNotFoundError as missing:
            raise ConfigurationError(
                "notifications.amqp.url is set, but oslo.messaging is not installed; install "
                "transom[notifications], or leave the key empty."
            ) from missing
        from oslo_config import cfg

        self._messaging: Any = oslo_messaging
        self._settings = settings
        self._timeout_seconds = timeout_seconds
        oslo_messaging.set_transport_defaults(settings.exchange)
        conf = cfg.ConfigOpts()
        files = [settings.options_file] if settings.options_file else []
        try:
            conf([], project="transom", default_config_files=files, default_config_dirs=[])
            self._transport: Any = oslo_messaging.get_notification_transport(conf, url=settings.url)
        except (cfg.Error, oslo_messaging.MessagingException) as wrong:
            raise ConfigurationError(
                f"notifications.amqp cannot be used ({type(wrong).__name__}); give a url such as "
                "rabbit://user:password@host:5672/, and in options_file what oslo.messaging takes."
            ) from wrong

    async def deliver(self, event: Outgoing) -> None:
        """Send the event to every topic. Raises Undelivered unless the broker confirms it."""
        sending = asyncio.to_thread(self._send, event)
        try:
            async with asyncio.timeout(self._patience):
                await asyncio.shield(asyncio.ensure_future(sending))
        except TimeoutError:
            raise Undelivered(
                f"no answer within {self._patience:g} seconds", is_away=True
            ) from None
        except Exception as error:
            # kombu's, amqp's, the socket's: what is below has names of its own for all of it.
            raise Undelivered(f"{type(error).__name__}: {error}", is_away=True) from error

    @property
    def _patience(self) -> float:
        return self._timeout_seconds * 2

    def _send(self, event: Outgoing) -> None:
        message = {
            "message_id": event.event_id,
            "publisher_id": self._settings.publisher_id,
            "timestamp": f"{event.created_at:%Y-%m-%d %H:%M:%S.%f}",
            "priority": str(event.priority),
            "event_type": event.type,
            "payload": event.payload,
        }
        context = {"request_id": event.request_id} if event.request_id else {}
        for topic in self._settings.topics:
            self._transport._send_notification(  # noqa: SLF001 - see above
                self._messaging.Target(topic=f"{topic}.{event.priority.lower()}"),
                context,
                message,
                version=_VERSION[self._settings.envelope],
                retry=0,
            )

    async def close(self) -> None:
        """Close the connections."""
        await asyncio.to_thread(self._transport.cleanup)
