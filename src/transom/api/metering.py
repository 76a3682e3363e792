"""Counts requests, their bytes, and how long they take, by route; shows each as a span."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Final

from starlette.types import Message, Receive, Send

from transom import tracing
from transom.api.call import Call
from transom.metrics.kinds import Cell
from transom.metrics.table import (
    HTTP_DURATION,
    HTTP_RECEIVED,
    HTTP_REQUESTS,
    HTTP_SENT,
)

UNMATCHED: Final = "unmatched"
"""What stands for the route of a path that is none of ours."""
BROKEN: Final = "broken"
"""What stands for the status of an answer that did not come to its end."""
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Passage:
    """Hands the messages of one request on and remembers what is counted of them."""

    __slots__ = ("_receive", "_send", "began", "is_whole", "received_bytes", "sent_bytes", "status")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.began = perf_counter()
        self.status = 0
        """0 = no answer went out."""
        self.is_whole = False
        self.received_bytes = 0
        self.sent_bytes = 0

    async def receive(self) -> Message:
        """Hand on what the client sends."""
        message = await self._receive()
        body = message.get("body")
        if body:
            self.received_bytes += len(body)
        return message

    async def send(self, message: Message) -> None:
        """Hand on what the client gets."""
        await self._send(message)
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        self.sent_bytes += len(message.get("body", b""))
        if not message.get("more_body"):
            self.is_whole = True


class _Cells:
    """The cells of one route and method."""

    __slots__ = ("_labels", "duration", "received", "sent", "statuses")

    def __init__(self, route: str, method: str) -> None:
        self._labels = route, method
        self.duration = HTTP_DURATION.at(route, method)
        self.received = HTTP_RECEIVED.at(route, method)
        self.sent = HTTP_SENT.at(route, method)
        self.statuses: dict[int, Cell] = {}

    def answered(self, status: int) -> Cell:
        """The cell of a status; 0 for an answer that broke off."""
        cell = self.statuses.get(status)
        if cell is None:
            text = str(status) if status else BROKEN
            cell = self.statuses[status] = HTTP_REQUESTS.at(*self._labels, text)
        return cell


class Meter:
    """Counts what passes. Belongs to the event loop."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str], _Cells] = {}

    def note(self, call: Call, passage: Passage) -> None:
        """Count a request that has been answered, or will not be."""
        method = call.method
        key = UNMATCHED if call.route is None else call.route.path, method
        cells = self._cells.get(key)
        if cells is None:
            known = key[0], method if method in _METHODS else "other"
            cells = self._cells.get(known)
            if cells is None:
                cells = self._cells[known] = _Cells(*known)
        cells.duration.observe(perf_counter() - passage.began)
        cells.answered(passage.status if passage.is_whole else 0).value += 1
        cells.received.value += passage.received_bytes
        cells.sent.value += passage.sent_bytes


@contextmanager
def traced(call: Call, passage: Passage) -> Iterator[None]:
    """The request as a span; what it is about is known only at its end."""
    method = call.method
    with tracing.request_span(method, call.headers, **{"http.request.method": method}) as span:
        try:
            yield
        finally:
            if span is not None:
                route = UNMATCHED if call.route is None else call.route.path
                span.update_name(f"{method} {route}")
                span.set_attribute("http.route", route)
                span.set_attribute("transom.request_id", call.request_id)
                if passage.status:
                    span.set_attribute("http.response.status_code", passage.status)
                for name, value in call.params.items():
                    span.set_attribute(f"transom.{name}", value)
                if passage.status >= 500 or not passage.is_whole:
                    tracing.fail(span)
