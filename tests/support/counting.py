"""A web server in a thread that counts what it gives: ranges, strong validators, pauses on demand."""

from __future__ import annotations

import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that were killed are what this is for."""


class CountingServer:
    """Serves `data` behind every path."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.etag = '"one"'
        self.rate_bytes = 0
        """Bytes a second over all connections together; 0 = as fast as it goes."""
        self.stalls_after: int | None = None
        """After so many bytes in all nothing more is sent, and nothing is closed."""
        self.sent_bytes = 0
        self.requests: list[str | None] = []
        """The Range of each request."""
        self._lock = threading.Lock()
        self._ended = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server._answer(self)

            def log_message(self, *_: object) -> None:
                """Be quiet."""

        self._server = _Quiet(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """The URL of the file."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/disk.raw"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        with self._lock:
            self.requests.append(wanted)
        if handler.headers.get("If-Range", self.etag) != self.etag:
            wanted = None
        body, status, size = self.data, 200, len(self.data)
        if wanted:
            found = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
            assert found, wanted
            first = int(found[1])
            last = min(int(found[2] or size), size - 1)
            if first >= size:
                status, body = 416, b""
            else:
                status, body = 206, self.data[first : last + 1]
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("ETag", self.etag)
        if status == 206:
            handler.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        if status == 416:
            handler.send_header("Content-Range", f"bytes */{size}")
        handler.end_headers()
        try:
            self._pour(handler, body)
        except OSError:
            handler.close_connection = True

    def _pour(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        step = 65536
        for begin in range(0, len(body), step):
            piece = body[begin : begin + step]
            while self.stalls_after is not None and self.sent_bytes >= self.stalls_after:
                if self._ended.wait(0.02):
                    return
            with self._lock:
                if self.rate_bytes:
                    time.sleep(len(piece) / self.rate_bytes)
                self.sent_bytes += len(piece)
            handler.wfile.write(piece)
            handler.wfile.flush()
