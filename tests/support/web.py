"""A web server with files that tests put there and change; in threads, for tests over HTTP.

For one that breaks in the middle, see `unruly`.
"""

from __future__ import annotations

import http.server
import re
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tests.support.server import Config


@dataclass
class File:
    """What is at a path, and how it is served."""

    data: bytes
    etag: str | None = None
    takes_ranges: bool = True
    status: int = 200
    location: str = ""
    """Where a redirect leads."""
    rate_bytes: int = 0
    """Bytes a second; 0 = as fast as it goes."""
    gate: threading.Event | None = None
    """The second half is sent when it is set."""
    is_cut: bool = False
    """Break connections that are in the middle of the file."""


class Web:
    """The server. `with Web() as web: url = web.put("disk", b"…")`."""

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self.asked: list[tuple[str, str | None]] = []
        """Path and Range of every request."""
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Its base, without a slash at the end."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def put(self, name: str, data: bytes, **facts: Any) -> str:
        """Put a file there, with an ETag of its own unless one is given; its URL."""
        facts.setdefault("etag", f'"{hash(data)}"')
        self.files[f"/{name}"] = File(data, **facts)
        return f"{self.url}/{name}"

    def __getitem__(self, name: str) -> File:
        return self.files[f"/{name}"]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def allowing(config: Config | None = None, **images: Any) -> dict[str, Any]:
    """A configuration that reads from this machine, with a store `web`."""
    return {
        "imports": {
            "allowed_hosts": ["127.0.0.1"],
            "allowed_ports": [],
            "retries_max": 1,
            "retry_seconds": 0.05,
            "read_timeout_seconds": 5,
        },
        "stores": {"web": {"driver": "http"}},
        "images": {"show_multiple_locations": True, **images},
        **(config or {}),
    }


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that leave in the middle."""


def _handler(web: Web) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """The file, or the part of it that is asked for."""
            wanted = self.headers.get("Range")
            web.asked.append((self.path, wanted))
            file = web.files.get(self.path)
            if file is None or file.status != 200:
                self.send_response(404 if file is None else file.status)
                if file is not None and file.location:
                    self.send_header("Location", file.location)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            data, status, part = file.data, 200, None
            condition = self.headers.get("If-Range")
            found = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted or "")
            if found and file.takes_ranges and condition in (None, file.etag):
                first = int(found[1])
                last = min(int(found[2] or len(data)), len(data) - 1)
                status, part = 206, f"bytes {first}-{last}/{len(data)}"
                data = data[first : last + 1]
            self.send_response(status)
            if part:
                self.send_header("Content-Range", part)
            if file.etag:
                self.send_header("ETag", file.etag)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self._pour(data, file)

        def _pour(self, data: bytes, file: File) -> None:
            rate_bytes = file.rate_bytes
            step = max(1, rate_bytes // 10) if rate_bytes else max(1, len(data))
            if file.gate is not None:
                step = max(1, len(data) // 2)
            try:
                for begin in range(0, len(data), step):
                    if file.is_cut:
                        self.close_connection = True
                        return
                    if begin and file.gate is not None:
                        file.gate.wait(60)
                    self.wfile.write(data[begin : begin + step])
                    self.wfile.flush()
                    if rate_bytes:
                        time.sleep(0.1)
            except OSError:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
