"""Several worker processes, one `/metrics`: the main process asks each of them.

Each worker is connected to the main process by a socket in a folder that only their user can enter.
Asked, it sends all its series. What grows goes on counting when a worker ends: it sends its last
numbers when it stops, and of one that was killed those that were seen last are kept. So a sum never
falls, which Prometheus would take for a restart.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import struct
import tempfile
import threading
from pathlib import Path

import msgspec

from transom.metrics.kinds import Series, growing, merged, snapshot

ANSWER_SECONDS = 2.0
"""How long a worker may take to tell its numbers; of a slower one the last ones count."""
_LENGTH = struct.Struct("!I")
_ASK = b"?"

_decoder = msgspec.json.Decoder(list[Series])


class Workers:
    """The main process's end."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="transom-"))
        self.path = self._folder / "metrics"
        """Where workers connect to."""
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen(256)
        self._lock = threading.Lock()
        self._living: list[_Worker] = []
        self._gone: list[Series] = []
        threading.Thread(target=self._accept, name="metrics-workers", daemon=True).start()

    def read(self) -> list[Series]:
        """The series of this process and of all workers together."""
        with self._lock:
            living = list(self._living)
        for worker in living:
            worker.ask()
        for worker in living:
            worker.answered.wait(ANSWER_SECONDS)
        with self._lock:
            return merged([snapshot(), *(worker.last for worker in self._living), self._gone])

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            worker = _Worker(connection)
            with self._lock:
                self._living.append(worker)
            threading.Thread(
                target=self._follow, args=(worker,), name="metrics-worker", daemon=True
            ).start()

    def _follow(self, worker: _Worker) -> None:
        worker.follow()
        with self._lock:
            self._living.remove(worker)
            self._gone = merged([self._gone, growing(worker.last)])


class _Worker:
    """The main process's view of one worker."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.last: list[Series] = []
        self.answered = threading.Event()

    def ask(self) -> None:
        """Ask for its numbers."""
        self.answered.clear()
        with contextlib.suppress(OSError):
            self._connection.sendall(_ASK)

    def follow(self) -> None:
        """Take its numbers as they come, until it ends."""
        with contextlib.suppress(OSError, msgspec.DecodeError), self._connection:
            while (head := _exactly(self._connection, _LENGTH.size)) is not None:
                body = _exactly(self._connection, _LENGTH.unpack(head)[0])
                if body is None:
                    break
                self.last = _decoder.decode(body)
                self.answered.set()
        self.answered.set()


class Report:
    """A worker's end: answers the main process until it is closed."""

    def __init__(self, path: Path) -> None:
        """Connects. Raises OSError when the main process is gone."""
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.connect(str(path))
        self._lock = threading.Lock()
        threading.Thread(target=self._answer, name="metrics", daemon=True).start()

    def close(self) -> None:
        """Send the last numbers."""
        with contextlib.suppress(OSError), self._connection:
            self._send()
            self._connection.shutdown(socket.SHUT_RDWR)

    def _answer(self) -> None:
        with contextlib.suppress(OSError):
            while self._connection.recv(1):
                self._send()

    def _send(self) -> None:
        body = msgspec.json.encode(snapshot())
        with self._lock:
            self._connection.sendall(_LENGTH.pack(len(body)) + body)


def _exactly(connection: socket.socket, size_bytes: int) -> bytes | None:
    """So many bytes; None at the end of the connection."""
    received = bytearray()
    while len(received) < size_bytes:
        piece = connection.recv(size_bytes - len(received))
        if not piece:
            return None
        received += piece
    return bytes(received)
