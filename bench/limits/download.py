"""The limit of a download: find the file, send the head, `sendfile` the rest; a thread a client.

python -m bench.limits.download PORT FILE
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path


def _serve_client(client: socket.socket, file: int, size_bytes: int) -> None:
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with client:
        head = client.recv(65536)
        if not head:
            # Who looks whether somebody listens asks nothing.
            return
        start, end, status = 0, size_bytes, b"200 OK"
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"range: bytes="):
                first, last = line[13:].split(b"-")
                start, end, status = int(first), int(last) + 1, b"206 Partial Content"
        client.sendall(
            b"HTTP/1.1 %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
            % (status, end - start)
        )
        while start < end:
            start += os.sendfile(client.fileno(), file, start, end - start)


def _serve() -> None:
    port, path = int(sys.argv[1]), Path(sys.argv[2])
    file = os.open(path, os.O_RDONLY)
    size_bytes = path.stat().st_size
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    while True:
        client, _ = listener.accept()
        threading.Thread(target=_serve_client, args=(client, file, size_bytes), daemon=True).start()


if __name__ == "__main__":
    _serve()
