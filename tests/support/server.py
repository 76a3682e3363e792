"""Runs the real program for tests, and talks to it.

`ServerProcess` is one `transom serve` on a free loopback port with its own data folder. `Client`
is one caller with one token. Nothing here knows the insides of Transom: everything goes through
the command line, the configuration file and HTTP.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, Self

import httpx
import yaml

from tests.support.ports import free_port

START_TIMEOUT_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 20.0
REQUEST_TIMEOUT_SECONDS = 30.0
PATCH_V21 = "application/openstack-images-v2.1-json-patch"
PATCH_V20 = "application/openstack-images-v2.0-json-patch"

Config = Mapping[str, Any]
Kind = Literal["serve", "worker"]
"""Which of the two long-running commands."""

_SETPRIV = shutil.which("setpriv")
_DIES_WITH_US = [_SETPRIV, "--pdeathsig", "KILL"] if _SETPRIV else []
"""Lets the kernel end a server whose test process was killed before it could clean up."""

_RUN_COMMANDS = """
import json, sys
from transom.cli.main import main
for argv in json.load(sys.stdin):
    try:
        code = main(argv)
    except SystemExit as done:
        code = done.code
    if code not in (None, 0):
        sys.exit(f"transom {' '.join(argv)} ended with {code}")
"""


class ServerFailed(AssertionError):
    """The program did not start, or ended on its own; the message holds the end of its log."""


def to_toml(config: Config) -> str:
    """The TOML text of nested tables of scalars and lists."""
    lines: list[str] = []

    def table(path: tuple[str, ...], values: Config) -> None:
        scalars = {key: value for key, value in values.items() if not isinstance(value, Mapping)}
        if path and (scalars or not values):
            lines.append(f"[{'.'.join(path)}]")
        # JSON's strings, numbers, booleans and lists of them are TOML as well.
        lines.extend(f"{key} = {json.dumps(value)}" for key, value in scalars.items())
        for key, value in values.items():
            if isinstance(value, Mapping):
                table((*path, key), value)

    table((), config)
    return "\n".join(lines) + "\n"


def merged(base: Config, over: Config) -> dict[str, Any]:
    """`base` with the tables of `over` laid upon it, key by key."""
    result = dict(base)
    for key, value in over.items():
        present = result.get(key)
        if isinstance(present, Mapping) and isinstance(value, Mapping):
            result[key] = merged(present, value)
        else:
            result[key] = value
    return result


class Client:
    """One caller. Sends its token with every request and never follows redirects."""

    def __init__(self, base_url: str, token: str | None = None, who: str = "nobody") -> None:
        self.base_url = base_url
        self.token = token
        self.who = who
        self.project_id = ""
        self.user_id = ""
        self.roles: frozenset[str] = frozenset()
        self.http = httpx.Client(
            base_url=base_url,
            headers={"X-Auth-Token": token} if token else {},
            timeout=REQUEST_TIMEOUT_SECONDS,
            follow_redirects=False,
            trust_env=False,
        )

    def __repr__(self) -> str:
        return f"<Client {self.who}>"

    def close(self) -> None:
        """Close the kept-alive connections."""
        self.http.close()

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Any request; `options` are httpx's."""
        return self.http.request(method, path, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        """GET."""
        return self.http.request("GET", path, **options)

    def head(self, path: str, **options: Any) -> httpx.Response:
        """HEAD."""
        return self.http.request("HEAD", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        """POST."""
        return self.http.request("POST", path, **options)

    def put(self, path: str, **options: Any) -> httpx.Response:
        """PUT."""
        return self.http.request("PUT", path, **options)

    def delete(self, path: str, **options: Any) -> httpx.Response:
        """DELETE."""
        return self.http.request("DELETE", path, **options)

    def patch(self, path: str, operations: Any, content_type: str = PATCH_V21) -> httpx.Response:
        """PATCH with a JSON-patch document."""
        return self.http.request(
            "PATCH",
            path,
            content=json.dumps(operations),
            headers={"Content-Type": content_type},
        )

    def create(self, **attributes: Any) -> dict[str, Any]:
        """A new image; fails the test unless it is created."""
        answer = self.post("/v2/images", json=attributes)
        assert answer.status_code == 201, f"{self.who} creates {attributes}: {told(answer)}"
        image: dict[str, Any] = answer.json()
        return image

    def show(self, image_id: str) -> dict[str, Any]:
        """The image; fails the test unless it is shown."""
        answer = self.get(f"/v2/images/{image_id}")
        assert answer.status_code == 200, f"{self.who} shows {image_id}: {told(answer)}"
        image: dict[str, Any] = answer.json()
        return image

    def put_data(
        self,
        image_id: str,
        data: bytes | Iterable[bytes],
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Upload; bytes go with a Content-Length, an iterable goes chunked."""
        return self.put(
            f"/v2/images/{image_id}/file",
            content=data,
            headers={"Content-Type": "application/octet-stream", **(headers or {})},
        )

    def upload(
        self, image_id: str, data: bytes, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Upload and show; fails the test unless the image becomes active."""
        answer = self.put_data(image_id, data, headers)
        assert answer.status_code == 204, f"{self.who} uploads to {image_id}: {told(answer)}"
        image = self.show(image_id)
        assert image["status"] == "active", image
        return image

    def list_ids(self, **query: Any) -> list[str]:
        """Ids of one page of the list, in its order."""
        query.setdefault("limit", 1000)
        answer = self.get("/v2/images", params=query)
        assert answer.status_code == 200, f"{self.who} lists {query}: {told(answer)}"
        return [image["id"] for image in answer.json()["images"]]


def told(answer: httpx.Response) -> str:
    """An answer in one line, for assertion messages."""
    request = answer.request
    return (
        f"{request.method} {request.url.raw_path!r} -> {answer.status_code} {answer.text[:300]!r}"
    )


class ServerProcess:
    """One running Transom. Start, stop, kill and start again on the same data."""

    def __init__(self, folder: Path, config: Config | None = None) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log_path = folder / "server.log"
        self.config_path = folder / "transom.toml"
        self.config: dict[str, Any] = merged({}, config or {})
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.module = "transom"
        """What is run: the program, or one of the tests that changes it first."""
        self.kind: Kind = "serve"
        self.module_folders: list[Path] = []
        """Where it finds further Python modules."""
        self._clients: list[Client] = []
        folder.mkdir(parents=True, exist_ok=True)

    # --- life --------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Scheme, host and port, without a slash at the end."""
        scheme = "https" if "tls_certificate" in self.config.get("server", {}) else "http"
        return f"{scheme}://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start it and wait until `/healthcheck` answers 200."""
        assert self.process is None or self.process.poll() is not None, "it runs already"
        self.port = free_port()
        self._write_config()
        with self.log_path.open("ab") as log:
            self._launch(log)
        try:
            self._wait_until_it_serves()
        except ServerFailed:
            self._reap()
            raise
        return self

    def stop(self) -> None:
        """Ask it to end, as Ctrl-C does, and wait. Fails when it does not end in time."""
        if self.process is None:
            return
        self._close_clients()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                self._reap()
                raise ServerFailed(
                    f"it did not end within {STOP_TIMEOUT_SECONDS} s\n{self._log_end()}"
                ) from None
        self._reap()

    def kill(self) -> None:
        """End it at once, children too, as a power cut would."""
        self._close_clients()
        self._reap()

    def restart(self, config: Config | None = None) -> Self:
        """Stop it if it runs, and start it on the same data, with changed settings if given."""
        self.stop()
        if config is not None:
            self.config = merged(self.config, config)
        return self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is None:
            self.stop()
        else:
            self.kill()

    # --- facts -------------------------------------------------------------------------------

    def log(self) -> str:
        """Everything it wrote so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def rss_bytes(self) -> int:
        """Resident memory of the process and its children, in bytes."""
        assert self.process is not None, "start it first"
        return sum(_rss_bytes(pid) for pid in _tree(self.process.pid))

    def store_path(self, name: str = "main") -> Path:
        """Folder of a file store with the default path."""
        path = self.config.get("stores", {}).get(name, {}).get("path", "<data>/images")
        return Path(path.replace("<data>", str(self.data)))

    def stored_files(self, name: str = "main") -> list[Path]:
        """Every file below a file store's folder, complete or partial."""
        return sorted(path for path in self.store_path(name).rglob("*") if path.is_file())

    def is_alive(self) -> bool:
        """True while the process runs and answers its health check."""
        if self.process is None or self.process.poll() is not None:
            return False
        try:
            return httpx.get(f"{self.url}/healthcheck", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    # --- callers -----------------------------------------------------------------------------

    def cloud(self, name: str = "transom") -> dict[str, str]:
        """What clouds.yaml says about a cloud: `auth_url`, `username`, `password`, …"""
        document = yaml.safe_load((self.data / "clouds.yaml").read_text())
        auth: dict[str, str] = document["clouds"][name]["auth"]
        return auth

    @property
    def auth_url(self) -> str:
        """Base of the identity API of this run; clouds.yaml keeps the address of the first one."""
        return f"{self.url}/v3"

    def log_in(self, username: str, password: str, project: str | None, who: str = "") -> Client:
        """A Client with a token for the user, scoped to the project (by name) unless None."""
        auth: dict[str, Any] = {
            "identity": {
                "methods": ["password"],
                "password": {
                    "user": {
                        "name": username,
                        "domain": {"name": "Default"},
                        "password": password,
                    }
                },
            }
        }
        if project is not None:
            auth["scope"] = {"project": {"name": project, "domain": {"name": "Default"}}}
        answer = httpx.post(
            f"{self.auth_url}/auth/tokens",
            json={"auth": auth},
            timeout=REQUEST_TIMEOUT_SECONDS,
            trust_env=False,
        )
        assert answer.status_code == 201, f"{username} cannot log in: {told(answer)}"
        token = answer.json()["token"]
        client = self.client(answer.headers["x-subject-token"], who or username)
        client.user_id = token["user"]["id"]
        client.project_id = token.get("project", {}).get("id", "")
        client.roles = frozenset(role["name"] for role in token.get("roles", []))
        return client

    def client(self, token: str | None = None, who: str = "nobody") -> Client:
        """A Client with any token, or none. Closed when the server stops."""
        client = Client(self.url, token, who)
        self._clients.append(client)
        return client

    def log_in_to_cloud(self, name: str = "transom") -> Client:
        """A Client for a cloud of clouds.yaml: `transom` (admin) or `transom-demo` (member)."""
        auth = self.cloud(name)
        return self.log_in(auth["username"], auth["password"], auth["project_name"])

    def run(self, *commands: Sequence[str]) -> str:
        """Run `transom` commands on this data, one after the other; give what they print.

        One process runs them all: a start of Python for each would cost more than the work.
        """
        wanted = [[*command, "--data", str(self.data)] for command in commands]
        done = subprocess.run(
            [sys.executable, "-c", _RUN_COMMANDS],
            input=json.dumps(wanted),
            capture_output=True,
            text=True,
            timeout=120,
            env=self.environment(),
            check=False,
        )
        assert done.returncode == 0, f"{commands}: {done.stdout}{done.stderr}"
        return done.stdout

    def provision(self, users: Mapping[str, tuple[str, Iterable[str]]]) -> dict[str, Client]:
        """Make users with roles on projects and log them in: `{user: (project, roles)}`.

        Through the identity API, as an operator's tools would; roles that do not exist are made.
        """
        admin = self.log_in_to_cloud("transom")
        base = "/v3"

        def made(kind: str, body: dict[str, Any]) -> str:
            answer = admin.post(f"{base}/{kind}s", json={kind: body})
            assert answer.status_code == 201, f"make {kind}: {told(answer)}"
            made_id: str = answer.json()[kind]["id"]
            return made_id

        roles = {role["name"]: role["id"] for role in admin.get(f"{base}/roles").json()["roles"]}
        projects: dict[str, str] = {}
        for user, (project, role_names) in users.items():
            if project not in projects:
                projects[project] = made("project", {"name": project})
            user_id = made("user", {"name": user, "password": f"{user}-secret"})
            for role in role_names:
                if role not in roles:
                    roles[role] = made("role", {"name": role})
                grant = f"{base}/projects/{projects[project]}/users/{user_id}/roles/{roles[role]}"
                answer = admin.put(grant)
                assert answer.status_code == 204, told(answer)
        return {
            user: self.log_in(user, f"{user}-secret", project, user)
            for user, (project, _) in users.items()
        }

    # --- inside ------------------------------------------------------------------------------

    def _write_config(self) -> None:
        own = {"server": {"bind": f"127.0.0.1:{self.port}", "shutdown_seconds": 5}}
        self.config_path.write_text(to_toml(merged(self.config, own)))

    def environment(self) -> dict[str, str]:
        """What the service gets from its shell: nothing of the developer's Transom or cloud."""
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("TRANSOM_", "OS_")) and not key.lower().endswith("_proxy")
        }
        folders = list(self.module_folders)
        if self.module != "transom":
            folders.append(Path(__file__).parents[2])
        if folders:
            kept["PYTHONPATH"] = os.pathsep.join(map(str, folders))
        if "database" in self.config:
            # The commands of `run` take no configuration file here, so the address goes this way.
            kept["TRANSOM_DATABASE__URL"] = str(self.config["database"]["url"])
        return kept

    def _launch(self, log: BinaryIO) -> None:
        """Start the process, and do not wait for it."""
        self.process = subprocess.Popen(
            [
                *_DIES_WITH_US,
                sys.executable,
                "-m",
                self.module,
                self.kind,
                "--config",
                str(self.config_path),
                "--data",
                str(self.data),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env=self.environment(),
            start_new_session=True,
        )

    def _wait_until_it_serves(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise ServerFailed(
                    f"it ended with {self.process.returncode} before it served\n{self._log_end()}"
                )
            try:
                answer = httpx.get(
                    f"{self.url}/healthcheck", timeout=2, trust_env=False, verify=False
                )
                if answer.status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.03)
        raise ServerFailed(f"no answer within {START_TIMEOUT_SECONDS} s\n{self._log_end()}")

    def _close_clients(self) -> None:
        for client in self._clients:
            client.close()
        self._clients.clear()

    def _reap(self) -> None:
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_TIMEOUT_SECONDS)
        self.process = None

    def _log_end(self) -> str:
        return f"--- end of {self.log_path} ---\n{self.log()[-4000:]}"


def _tree(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for child in children(pid):
        found.extend(_tree(child))
    return found


def children(pid: int) -> list[int]:
    """The processes that a process has started, and that have not ended."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        # A thread may end while it is looked at.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.extend(map(int, task.read_text().split()))
    return found


def _rss_bytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
