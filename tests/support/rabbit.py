"""A real RabbitMQ of the test's own: a node with its own folder, ports, and Erlang name service."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.ports import free_port

SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"
START_SECONDS = 120.0


class Rabbit:
    """The broker. `with Rabbit(folder) as rabbit: … rabbit.url`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = f"transom-{uuid.uuid4().hex[:8]}"
        self._epmd_port = free_port()
        self.port = free_port()
        self._dist_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What oslo.messaging takes."""
        return f"rabbit://guest:guest@127.0.0.1:{self.port}/"

    def start(self) -> Self:
        """Start it, or start it again on what it knew, and wait until it answers."""
        for name in ("db", "log", "home"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        (self._folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            "log.console = false\nlog.file.level = info\n"
            # The disk of a machine that tests may be fuller than a broker likes.
            "disk_free_limit.absolute = 1MB\n"
        )
        log = (self._folder / "log" / "console.log").open("ab")
        self._process = subprocess.Popen(
            [SERVER],
            env=self._environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        log.close()
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            text = (self._folder / "log" / "console.log").read_text()[-3000:]
            assert self._process.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.2)
        return self

    def stop(self) -> None:
        """End it, and the name service that it started."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait(30)
            self._process = None
        epmd = shutil.which("epmd")
        if epmd is not None:
            subprocess.run(
                [epmd, "-port", str(self._epmd_port), "-kill"],
                env={**self._environment(), "ERL_EPMD_RELAXED_COMMAND_CHECK": "1"},
                capture_output=True,
                check=False,
            )

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as probe:
                # It says at once that it speaks 0-9-1 to whoever speaks something else.
                probe.sendall(b"AMQP\x00\x00\x00\x00")
                return probe.recv(8).startswith(b"AMQP")
        except OSError:
            return False

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self._folder / "home"),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"{self._name}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq.conf"),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "db"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "plugins"),
            "RABBITMQ_PID_FILE": str(self._folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
        }

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
