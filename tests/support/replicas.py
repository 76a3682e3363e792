"""Several Transoms on one database and one store, behind a real nginx.

Every replica is a real process with a data folder of its own, as on a machine of its own. All listen
on loopback addresses; all end with the test, whatever happens.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from tests.support.ports import free_port
from tests.support.server import (
    Client,
    Config,
    Kind,
    ServerFailed,
    ServerProcess,
    merged,
    to_toml,
)

ROOT = Path(__file__).parents[2]
START_SECONDS = 60.0
STOP_SECONDS = 40.0

IMPORTS: Config = {
    "imports": {
        "methods": ["glance-direct", "web-download", "copy-image"],
        "allowed_hosts": ["127.0.0.1"],
        "allowed_ports": [],
        "retry_seconds": 0.05,
        "retries_max": 4,
        "connect_timeout_seconds": 5,
    }
}
"""What the clients of these tests import by, and from this machine."""

SHIPPED = ROOT / "deploy/nginx/transom.conf"
"""The balancer as operators get it; only its ports are others here."""

_NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
worker_processes 1;
{user}
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    add_header X-Served-By $upstream_addr always;
{shipped}
}}
"""


class Nginx:
    """A real nginx in front of some ports, in a folder of its own."""

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        self.folder = folder
        self.ports = list(ports)
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start it, and wait until it listens."""
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        assert program, "nginx is missing: install the package nginx-light"
        self.folder.mkdir(parents=True, exist_ok=True)
        conf = self.folder / "nginx.conf"
        conf.write_text(self.text())
        self.process = subprocess.Popen(
            [
                program,
                "-p",
                str(self.folder),
                "-e",
                str(self.folder / "error.log"),
                "-c",
                str(conf),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                answer = httpx.get(f"{self.url}/healthcheck", timeout=2, trust_env=False)
                assert "X-Served-By" in answer.headers, "somebody else listens at nginx's port"
                return self
            time.sleep(0.02)
        raise ServerFailed(f"nginx does not listen\n{self.log()}")

    def text(self) -> str:
        """Its configuration."""
        shipped = SHIPPED.read_text()
        servers = re.findall(r"^ *server 127\.0\.0\.1:\d+(.*)$", shipped, re.MULTILINE)
        assert servers, "the shipped configuration names no replicas"
        names = "\n".join(f"    server 127.0.0.1:{port}{servers[0]}" for port in self.ports)
        shipped = re.sub(
            r"(^ *server 127\.0\.0\.1:\d+.*\n)+", f"{names}\n", shipped, flags=re.MULTILINE
        )
        shipped = re.sub(
            r"^( *listen) .*;$", rf"\1 127.0.0.1:{self.port};", shipped, flags=re.MULTILINE
        )
        user = f"user {pwd.getpwuid(os.geteuid()).pw_name};" if os.geteuid() == 0 else ""
        return _NGINX.format(folder=self.folder, shipped=shipped, user=user)

    def log(self) -> str:
        """What it complained of."""
        path = self.folder / "error.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
            self.process = None


class Replica(ServerProcess):
    """One process of a deployment: it serves at a port that stays, or it works."""

    def __init__(
        self, folder: Path, config: Config, *, kind: Kind = "serve", source: Path | None = None
    ) -> None:
        """`source` is the folder of another release's packages."""
        super().__init__(folder, config)
        self.kind = kind
        self.name = folder.name
        self.source = source
        self.module = "tests.support.apart"
        self.port = free_port() if kind == "serve" else 0

    def start(self) -> Self:
        """Start it and wait until it serves, or works."""
        self.launch()
        self.wait()
        return self

    def launch(self) -> None:
        """Start it."""
        assert not self.is_running(), f"{self.name} runs already"
        self._write_config()
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            self._launch(log)

    def wait(self) -> None:
        """Wait until it is up."""
        assert self.process is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise ServerFailed(
                    f"{self.name} ended with {self.process.returncode}\n{self._log_end()}"
                )
            if self._is_up():
                return
            time.sleep(0.05)
        raise ServerFailed(f"{self.name} is not up within {START_SECONDS} s\n{self._log_end()}")

    def _is_up(self) -> bool:
        if self.kind == "worker":
            return "working" in self.log_path.read_text(errors="replace")[self._log_start :]
        try:
            ready = httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False)
        except httpx.TransportError:
            return False
        return ready.status_code == 200

    def is_running(self) -> bool:
        """True while there is a process."""
        return self.process is not None and self.process.poll() is None

    def end(self) -> float:
        """Ask it to end, as a service manager does, and wait; gives how long that took, in seconds."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise ServerFailed(f"{self.name} does not end\n{self._log_end()}") from None
        assert code == 0, f"{self.name} ended with {code}\n{self._log_end()}"
        self._reap()
        return time.monotonic() - began

    def environment(self) -> dict[str, str]:
        """What it gets from its shell: its machine's name, and where its packages are."""
        folders = [*([str(self.source)] if self.source else []), str(ROOT)]
        return {
            **super().environment(),
            "PYTHONPATH": os.pathsep.join(folders),
            "TRANSOM_TEST_HOST": f"machine-of-{self.name}",
        }

    def _write_config(self) -> None:
        bind = f"127.0.0.1:{self.port}" if self.port else "127.0.0.1:9292"
        own = {"server": {"bind": bind, "shutdown_seconds": 5}}
        self.config_path.write_text(to_toml(merged(own, self.config)))


class Deployment:
    """Replicas and workers, and nginx before them. `with Deployment(…) as cloud:`"""

    def __init__(
        self,
        folder: Path,
        shared: Config,
        *,
        serving: int = 3,
        working: int = 2,
        source: Path | None = None,
    ) -> None:
        """`shared` is the configuration of all: database, stores, and what the test needs."""
        self.folder = folder
        self.config = merged(
            {
                "server": {"worker": working == 0, "trusted_proxies": ["127.0.0.1"]},
                # So many processes share the database's connections.
                "database": {"pool_size": 4},
            },
            shared,
        )
        self.serving = [
            Replica(folder / f"replica{number}", self.config, source=source)
            for number in range(1, serving + 1)
        ]
        self.working = [
            Replica(folder / f"worker{number}", self.config, kind="worker", source=source)
            for number in range(1, working + 1)
        ]
        self.nginx = Nginx(folder / "nginx", [replica.port for replica in self.serving])

    @property
    def every(self) -> list[Replica]:
        """All processes."""
        return [*self.serving, *self.working]

    @property
    def url(self) -> str:
        """The proxy's."""
        return self.nginx.url

    def __enter__(self) -> Self:
        try:
            # The first one makes the first users, so it has their passwords.
            self.serving[0].start()
            for replica in self.every[1:]:
                replica.launch()
            for replica in self.every[1:]:
                replica.wait()
            self.nginx.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    def kill(self) -> None:
        """End everything at once."""
        for replica in self.every:
            replica.kill()
        self.nginx.stop()

    def log_in(self, cloud: str = "transom-demo", at: ServerProcess | None = None) -> Client:
        """A user of clouds.yaml at one replica, or at the proxy."""
        auth = self.serving[0].cloud(cloud)
        where = at or self.serving[0]
        client = where.log_in(auth["username"], auth["password"], auth["project_name"], cloud)
        return client if at is not None else self.at_proxy(client)

    def at_proxy(self, client: Client) -> Client:
        """The same caller at the proxy."""
        other = Client(self.url, client.token, client.who)
        other.project_id, other.user_id, other.roles = (
            client.project_id,
            client.user_id,
            client.roles,
        )
        return other

    def log_ends(self, length: int = 3000) -> str:
        """The end of every log, for the message of a test that fails."""
        ends = [f"--- {each.name} ---\n{each.log()[-length:]}" for each in self.every]
        return "\n".join([*ends, f"--- nginx ---\n{self.nginx.log()[-length:]}"])


def buckets(**more: Any) -> dict[str, Any]:
    """Two stores in buckets of a real S3 server. Staged data lies in the first."""
    # Only here: a machine without Ceph runs everything else.
    from tests.support import ceph

    gateway = ceph.gateway()
    common = {
        "driver": "s3",
        "endpoint_url": gateway.url,
        "region": "default",
        "access_key": gateway.access_key,
        "secret_key": gateway.secret_key,
    }
    stores = {name: {**common, "bucket": gateway.bucket()} for name in ("main", "second")}
    return {"stores": {"default": "main", "staging": "main", **stores}, **more}


def shared_folders(folder: Path, **more: Any) -> dict[str, Any]:
    """Stores in folders that all replicas see, as on a shared file system."""
    stores = {
        name: {"driver": "file", "path": str(folder / name), "fsync": False}
        for name in ("main", "second")
    }
    return {"stores": {"default": "main", "staging": "main", **stores}, **more}
