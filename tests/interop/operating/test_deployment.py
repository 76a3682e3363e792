"""The files in deploy/ are what the programs take that they are for."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.house.tree import ROOT
from tests.support.ports import free_port
from tests.support.server import ServerProcess
from transom.cli.main import parser
from transom.cli.notify import notify

pytestmark = pytest.mark.interop

DEPLOY = ROOT / "deploy"
UNITS = ("transom", "transom-worker")
CONTAINERFILE = DEPLOY / "containers/Containerfile"
COMPOSE = yaml.safe_load((DEPLOY / "containers/compose.yaml").read_text())
ENVIRONMENT = {
    "POSTGRES_PASSWORD": "secret",
    "S3_ENDPOINT": "https://s3.example.org",
    "S3_BUCKET": "images",
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "hidden",
}


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """What a program said and how it ended."""
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, **options
    )


# --- systemd --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", UNITS)
def test_systemd_takes_the_units(name: str, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("transom")
    for unit in UNITS:
        text = (DEPLOY / f"systemd/{unit}.service").read_text()
        assert "/opt/transom/bin/transom" in text
        (tmp_path / f"{unit}.service").write_text(
            text.replace("/opt/transom/bin/transom", str(program))
        )

    done = run("systemd-analyze", "verify", "--man=no", tmp_path / f"{name}.service")

    assert done.returncode == 0, done.stderr
    assert name not in done.stderr


@pytest.mark.parametrize("name", UNITS)
def test_the_units_leave_little_to_an_intruder(name: str) -> None:
    unit = DEPLOY / f"systemd/{name}.service"

    done = run("systemd-analyze", "security", "--offline=true", "--threshold=25", unit)

    assert done.returncode == 0, done.stdout[-500:] + done.stderr


@pytest.mark.parametrize("name", UNITS)
def test_the_units_run_commands_that_exist(name: str) -> None:
    text = (DEPLOY / f"systemd/{name}.service").read_text()
    [command] = re.findall(r"^ExecStart=\S+ (.*)$", text, flags=re.MULTILINE)

    arguments = parser().parse_args(shlex.split(command))

    assert str(arguments.config) == "/etc/transom/transom.toml"
    assert str(arguments.data) == "/var/lib/transom"


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The end of a service manager that is told how the process stands."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


@pytest.mark.parametrize("workers", [1, 2])
def test_the_service_manager_is_told_when_it_serves_and_when_it_ends(
    manager: socket.socket, tmp_path: Path, workers: int
) -> None:
    server = ServerProcess(tmp_path / "server", {"server": {"workers": workers}})
    with server:
        assert manager.recv(100) == b"READY=1"
        assert httpx.get(f"{server.url}/versions", trust_env=False).status_code == 200
        assert server.process is not None
        server.process.send_signal(signal.SIGHUP)
        if workers == 1:
            assert httpx.get(f"{server.url}/versions", trust_env=False).status_code == 200
            server.process.terminate()
            assert manager.recv(100) == b"STOPPING=1"
            assert server.process.wait(20) == 0


def test_the_service_manager_is_told_of_a_worker(manager: socket.socket, tmp_path: Path) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-m", "transom", "worker", "--data", str(tmp_path / "data")],
        stderr=subprocess.DEVNULL,
    )
    try:
        assert manager.recv(100) == b"READY=1"
        worker.terminate()
        assert manager.recv(100) == b"STOPPING=1"
        assert worker.wait(20) == 0
    finally:
        worker.kill()
        worker.wait()


def test_a_name_of_the_abstract_namespace_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        name = f"transom-test-{os.getpid()}"
        listening.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        notify("READY=1")
        assert listening.recv(100) == b"READY=1"
    notify("READY=1")  # nobody listens any more


# --- containers -----------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """The Containerfile's instructions, continued lines joined."""
    lines = re.sub(r"\\\n\s*", "", CONTAINERFILE.read_text()).splitlines()
    return [
        (verb, rest)
        for verb, _, rest in (line.partition(" ") for line in lines)
        if verb and not verb.startswith("#")
    ]


def environment_of_the_image() -> dict[str, str]:
    """What the image's last stage sets."""
    found: dict[str, str] = {}
    for verb, rest in instructions():
        if verb == "FROM":
            found.clear()
        if verb == "ENV":
            found.update(pair.split("=", 1) for pair in rest.split())
    return found


def test_the_containerfile_is_clean() -> None:
    done = run(Path(sys.executable).with_name("hadolint"), CONTAINERFILE)
    assert done.returncode == 0, done.stdout


def test_the_image_is_made_of_files_that_exist_and_runs_as_nobody_special() -> None:
    stages = [index for index, (verb, _) in enumerate(instructions()) if verb == "FROM"]
    last = instructions()[stages[-1] :]
    for verb, rest in instructions():
        if verb == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert run("git", "ls-files", "--error-unmatch", source, cwd=ROOT).returncode == 0
    assert [rest for verb, rest in last if verb == "USER"] == ["10001:10001"]
    assert ("STOPSIGNAL", "SIGTERM") in last
    installs = [rest for verb, rest in instructions() if "pip install" in rest]
    assert all("--require-hashes" in each or "--no-deps" in each for each in installs)


def test_the_image_serves_and_its_health_check_sees_that(tmp_path: Path) -> None:
    port = free_port()
    environment = {
        **os.environ,
        **environment_of_the_image(),
        "PATH": os.environ["PATH"],
        "TRANSOM_DATA": str(tmp_path / "data"),
        "TRANSOM_SERVER__BIND": f"127.0.0.1:{port}",
        "TRANSOM_METRICS__BIND": f"127.0.0.1:{free_port()}",
    }
    verbs = dict(instructions())
    command = [*json.loads(verbs["ENTRYPOINT"]), *json.loads(verbs["CMD"])]
    assert command[0] == "transom"
    [check] = [
        json.loads(rest.partition("CMD ")[2])
        for verb, rest in instructions()
        if verb == "HEALTHCHECK"
    ]
    check = [sys.executable, *(part.replace(":9292", f":{port}") for part in check[1:])]
    assert run(*check).returncode != 0

    process = subprocess.Popen(
        [sys.executable, "-m", *command], env=environment, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        while run(*check).returncode != 0:
            assert time.monotonic() < deadline, "it never was healthy"
            time.sleep(0.2)
        process.send_signal(getattr(signal, verbs["STOPSIGNAL"]))
        _, log = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0
    lines = [line for line in log.splitlines() if line]
    assert {json.loads(line)["event"] for line in lines} >= {"serving", "stopped"}


@pytest.mark.skipif(
    "TRANSOM_IMAGE" not in os.environ,
    reason="installs every package anew, for three minutes; TRANSOM_IMAGE=1 asks for it",
)
def test_the_steps_of_the_build_can_be_taken(tmp_path: Path) -> None:
    opt, build = tmp_path / "opt/transom", tmp_path / "build"
    build.mkdir()
    for verb, rest in instructions():
        if verb == "COPY" and not rest.startswith("--from"):
            *sources, target = rest.split()
            for source in sources:
                goal = build / target
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, goal)
                else:
                    goal.mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / source, goal)
        if verb == "RUN" and "apt-get" not in rest:
            step = rest.replace("/opt/transom", str(opt)).replace(
                "python -m venv", "python3 -m venv"
            )
            done = run("bash", "-euc", step, cwd=build)
            assert done.returncode == 0, f"{step}: {done.stderr[-2000:]}"

    assert run(opt / "bin/transom", "--version").stdout.startswith("transom ")
    assert run(opt / "bin/python", "-c", "import aiobotocore, opentelemetry.sdk").returncode == 0
    shutil.rmtree(tmp_path / "opt")


def test_the_composition_is_one() -> None:
    checker = Path(sys.executable).with_name("check-jsonschema")

    done = run(
        checker, "--builtin-schema", "vendor.compose-spec", DEPLOY / "containers/compose.yaml"
    )

    assert done.returncode == 0, done.stdout
    services = COMPOSE["services"]
    assert sorted(services) == [
        "database", "nginx", "replica1", "replica2", "replica3", "schema", "worker1", "worker2",
    ]  # fmt: skip
    for service in services.values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            if source.startswith("./"):
                assert (DEPLOY / "containers" / source).exists(), source
            else:
                assert source in COMPOSE["volumes"]
        assert set(service.get("depends_on", ())) <= set(services)
    upstream = re.findall(r"server (\w+):9292", (DEPLOY / "containers/nginx.conf").read_text())
    assert upstream == ["replica1", "replica2", "replica3"]


@pytest.mark.parametrize("name", ["schema", "replica1", "replica3", "worker1"])
def test_what_the_composition_configures_is_taken(name: str, tmp_path: Path) -> None:
    service = COMPOSE["services"][name]
    said = {
        key: re.sub(r"\$\{(\w+):\?\}", lambda match: ENVIRONMENT[match[1]], value)
        for key, value in service["environment"].items()
    }
    assert said.pop("TRANSOM_CONFIG") == "/etc/transom/transom.toml"
    config = DEPLOY / "containers/transom.toml"
    environment = {**os.environ, **environment_of_the_image(), **ENVIRONMENT, **said}
    arguments = ["--config", str(config), "--data", str(tmp_path)]
    environment["PATH"] = os.environ["PATH"]

    shown = run(sys.executable, "-m", "transom", "config", "show", *arguments, env=environment)

    assert shown.returncode == 0, shown.stderr
    assert 'bucket = "images"' in shown.stdout
    assert "postgresql://transom:***@database/transom" in shown.stdout
    assert 'format = "json"' in shown.stdout
    assert "secret" not in shown.stdout
    command = service.get("command", ["serve"])
    parser().parse_args(command)
    server = {
        key: float(value)
        for key, value in re.findall(r"(drain_seconds|shutdown_seconds) = ([0-9.]+)", shown.stdout)
    }
    assert float(service["stop_grace_period"].rstrip("s")) > sum(server.values())


# --- nginx ----------------------------------------------------------------------------------------


def site(path: Path, folder: Path, ports: list[int], port: int) -> Path:
    """A configuration of nginx with the site, with its replicas at these ports."""
    text = path.read_text().replace("listen 9290", f"listen 127.0.0.1:{port}")
    places = re.findall(r"server (\S+) max_fails", text)
    assert len(places) == len(ports)
    for place, there in zip(places, ports, strict=True):
        text = text.replace(f"server {place} ", f"server 127.0.0.1:{there} ")
    user = "user root;" if os.geteuid() == 0 else ""
    temporary = "\n".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = (
        f"{user}\npid {folder}/pid;\nerror_log {folder}/error.log;\ndaemon off;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}\n{text}\n}}\n"
    )
    (folder / "nginx.conf").write_text(whole)
    return folder / "nginx.conf"


def nginx() -> str:
    """The program."""
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert found, "nginx is missing: install the package nginx-light"
    return found


@pytest.mark.parametrize("file", ["nginx/transom.conf", "containers/nginx.conf"])
def test_nginx_takes_the_site(file: str, tmp_path: Path) -> None:
    conf = site(DEPLOY / file, tmp_path, [1, 2, 3], free_port())
    done = run(nginx(), "-t", "-p", tmp_path, "-e", tmp_path / "error.log", "-c", conf)
    assert done.returncode == 0, done.stderr


def test_both_sites_are_the_same_but_for_the_names() -> None:
    bodies = [
        (DEPLOY / file).read_text().partition("\nserver {")[2]
        for file in ("nginx/transom.conf", "containers/nginx.conf")
    ]
    assert bodies[0]
    assert bodies[0] == bodies[1]


def test_nginx_passes_over_replicas_that_are_gone_and_collects_no_data(tmp_path: Path) -> None:
    port = free_port()
    with ServerProcess(tmp_path / "server") as server:
        conf = site(
            DEPLOY / "nginx/transom.conf", tmp_path, [free_port(), server.port, free_port()], port
        )
        process = subprocess.Popen(
            [nginx(), "-p", str(tmp_path), "-e", str(tmp_path / "error.log"), "-c", str(conf)]
        )
        try:
            base = f"http://127.0.0.1:{port}"
            demo = server.log_in_to_cloud("transom-demo")
            client = httpx.Client(
                base_url=base,
                headers={"X-Auth-Token": str(demo.token)},
                trust_env=False,
                timeout=30,
            )
            _until_it_listens(base)
            for _ in range(20):
                assert client.get("/v2/images").status_code == 200
            made = client.post(
                "/v2/images", json={"disk_format": "raw", "container_format": "bare"}
            )
            assert made.status_code == 201, made.text
            path = f"/v2/images/{made.json()['id']}/file"
            data = os.urandom(30_000_000)
            sent = client.put(
                path, content=data, headers={"Content-Type": "application/octet-stream"}
            )
            assert sent.status_code == 204, sent.text
            assert client.get(path).content == data
            collected = [each for each in (tmp_path / "client_body").rglob("*") if each.is_file()]
            assert collected == []
            assert "buffered to a temporary file" not in (tmp_path / "error.log").read_text()
            client.close()
        finally:
            process.terminate()
            process.wait(10)


def _until_it_listens(base: str) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            httpx.get(base, trust_env=False)
            return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens at {base}")
