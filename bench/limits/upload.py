"""The limit of an upload: receive, hash in threads, write; a thread a client, few buffers.

    python -m bench.limits.upload PORT FOLDER HASHES FSYNC

HASHES is a comma list: `md5,sha512` is the work that an image registry owes, `md5` alone (the
slower of the two) what would be left if hashing were perfectly parallel. FSYNC is 1 or 0.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import queue
import socket
import sys
import threading
from pathlib import Path

_CHUNK_BYTES = 1 << 20
_BUFFERS = 4
_numbers = itertools.count()


class _Buffer:
    """A chunk, given back when its last user is done."""

    def __init__(self) -> None:
        self.bytes = bytearray(_CHUNK_BYTES)
        self.used = 0
        self._users = 0
        self._lock = threading.Lock()

    def hold(self, users: int) -> None:
        self._users = users

    def release(self) -> bool:
        with self._lock:
            self._users -= 1
            return self._users == 0


def _serve_client(client: socket.socket, folder: Path, hashes: list[str], fsync: bool) -> None:
    with client:
        head = b""
        while b"\r\n\r\n" not in head:
            piece = client.recv(65536)
            if not piece:
                # Who looks whether somebody listens asks nothing.
                return
            head += piece
        head, _, body = head.partition(b"\r\n\r\n")
        left = next(
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length")
        ) - len(body)
        path = folder / f"upload-{next(_numbers)}"
        file = os.open(path, os.O_WRONLY | os.O_CREAT)
        free: queue.SimpleQueue[_Buffer] = queue.SimpleQueue()
        for _ in range(_BUFFERS):
            free.put(_Buffer())
        digests = [hashlib.new(name, body) for name in hashes]
        os.write(file, body)
        works = [digest.update for digest in digests] + [lambda view: os.write(file, view)]
        queues: list[queue.SimpleQueue[_Buffer | None]] = [queue.SimpleQueue() for _ in works]

        def work(number: int) -> None:
            while (buffer := queues[number].get()) is not None:
                works[number](memoryview(buffer.bytes)[: buffer.used])
                if buffer.release():
                    free.put(buffer)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(len(works))]
        for thread in threads:
            thread.start()
        while left:
            buffer = free.get()
            buffer.used = client.recv_into(
                buffer.bytes, min(left, _CHUNK_BYTES), socket.MSG_WAITALL
            )
            if not buffer.used:
                break
            left -= buffer.used
            buffer.hold(len(works))
            for line in queues:
                line.put(buffer)
        for line in queues:
            line.put(None)
        for thread in threads:
            thread.join()
        if fsync:
            os.fsync(file)
        os.close(file)
        client.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        path.unlink()


def _serve() -> None:
    port, folder, hashes, fsync = sys.argv[1:]
    listener = socket.create_server(("127.0.0.1", int(port)), backlog=128)
    while True:
        client, _ = listener.accept()
        threading.Thread(
            target=_serve_client,
            args=(client, Path(folder), hashes.split(","), fsync == "1"),
            daemon=True,
        ).start()


if __name__ == "__main__":
    _serve()
