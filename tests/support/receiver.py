"""A receiver of webhooks that checks what it gets, as Standard Webhooks and CloudEvents say.

The signature is checked by the words of the specification, not by Transom's code.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

KEY = b"a key of the tests, 24 b"
SECRET = "whsec_" + base64.b64encode(KEY).decode()


class Receiver:
    """The server. `with Receiver() as receiver: … receiver.wait_for(3)`."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        """What was taken, in the order in which it came."""
        self.tries: list[tuple[float, str]] = []
        """When something came, and the id that it said."""
        self.wrong: list[str] = []
        """What was not as it has to be."""
        self.answer: Callable[[dict[str, Any]], int] = lambda _: 204
        """The status for an event; one that is no 2xx is not taken."""
        self.hangs: threading.Event | None = None
        """While it is there and not set, nobody gets an answer."""
        self.headers: dict[str, str] = {}
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """What Transom posts to."""
        return f"http://127.0.0.1:{self.port}/hook?from=transom"

    def config(self, *events: str, **more: Any) -> dict[str, Any]:
        """A configuration that tells this receiver of events, quickly again when it fails."""
        hook = {"url": self.url, "secret": SECRET, "events": list(events)}
        quick = {"retry_seconds": 0.05, "retry_seconds_max": 0.4, "timeout_seconds": 20.0}
        return {"notifications": {**quick, **more, "webhooks": {"hook": hook}}}

    def wait_for(self, number: int, seconds: float = 30) -> list[dict[str, Any]]:
        """What was taken, once it is so many; fails the test when it never is."""
        deadline = time.monotonic() + seconds
        while len(self.events) < number:
            told = [event["type"] for event in self.events]
            assert time.monotonic() < deadline, f"{told} after {seconds} s, {self.wrong}"
            time.sleep(0.02)
        assert not self.wrong
        return list(self.events)

    def types(self, number: int) -> list[str]:
        """The names of what was taken, once it is so many."""
        return [event["type"] for event in self.wait_for(number)]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.hangs is not None:
            self.hangs.set()
        self._server.shutdown()
        self._server.server_close()

    def take(self, headers: Any, path: str, body: bytes) -> int:
        """Judge one request; gives its status."""
        event = json.loads(body)
        with self._lock:
            self.tries.append((time.monotonic(), headers["webhook-id"]))
            self.wrong += _mistakes(headers, path, body, event)
        status = self.answer(event)
        if 200 <= status < 300:
            with self._lock:
                self.events.append(event)
        return status


def _mistakes(headers: Any, path: str, body: bytes, event: dict[str, Any]) -> list[str]:
    found = []
    text = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    right = base64.b64encode(hmac.new(KEY, text, hashlib.sha256).digest()).decode()
    if headers["webhook-signature"] != f"v1,{right}":
        found.append(f"signature {headers['webhook-signature']}")
    if abs(int(headers["webhook-timestamp"]) - time.time()) > 300:
        found.append("an old timestamp")
    if not headers["content-type"].startswith("application/cloudevents+json"):
        found.append(headers["content-type"])
    if event["id"] != headers["webhook-id"] or event["specversion"] != "1.0":
        found.append(f"id or version of {event}")
    if not all(event[name] for name in ("source", "type", "subject", "time", "data")):
        found.append(f"something missing in {event}")
    if path != "/hook?from=transom":
        found.append(path)
    return found


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that leave in the middle."""


def _handler(receiver: Receiver) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            """One event."""
            body = self.rfile.read(int(self.headers["content-length"]))
            if receiver.hangs is not None:
                receiver.hangs.wait()
            status = receiver.take(self.headers, self.path, body)
            self.send_response(status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
