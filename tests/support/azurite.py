"""Stores in Azurite, Microsoft's own emulator of Azure Blob Storage, on the loopback interface."""

from __future__ import annotations

import atexit
import base64
import datetime as dt
import fcntl
import functools
import hashlib
import hmac
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import httpx

from tests.interop.environments import environment
from tests.support.ports import free_port
from tests.support.server import _DIES_WITH_US
from transom.settings import StoreSettings

VERSION = "3.37.0"
ACCOUNT = "devstoreaccount1"
KEY = base64.b64encode(b"a key that opens nothing but the tests' own emulator").decode()
START_SECONDS = 90.0
MEMORY_MIB = 1024
ROOT = Path(__file__).parents[2]


@functools.cache
def url() -> str:
    """The address of the account, in an Azurite that ends with this process."""
    folder = Path(tempfile.mkdtemp(prefix="transom-azurite-"))
    port = free_port()
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [
            *_DIES_WITH_US, _node()[0], str(_program()),
            "--blobHost", "127.0.0.1", "--blobPort", str(port),
            "--inMemoryPersistence", "--extentMemoryLimit", str(MEMORY_MIB),
            "--skipApiVersionCheck", "--disableTelemetry", "--silent",
        ],
        env={"PATH": "/usr/bin:/bin", "AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    log.close()

    def end() -> None:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    found = f"http://127.0.0.1:{port}/{ACCOUNT}"
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            _make_container(found, "first")
        except httpx.TransportError as error:
            text = (folder / "log").read_text()[-3000:]
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Azurite does not start:\n{text}") from error
            time.sleep(0.2)
        else:
            return found


@functools.cache
def container() -> str:
    """The container that the tests of this process share, each with a prefix of its own."""
    name = f"container-{uuid.uuid4().hex[:12]}"
    _make_container(url(), name)
    return name


def options(**more: Any) -> dict[str, Any]:
    """Keys of `[stores.NAME]` that lead to the container; `more` replaces and adds."""
    return {
        "endpoint_url": url(),
        "account": ACCOUNT,
        "access_key": KEY,
        "container": more["container"] if "container" in more else container(),
        "part_size_bytes": 5 * 1024 * 1024,
    } | more


def settings(**more: Any) -> StoreSettings:
    """The settings of a store in the container."""
    return StoreSettings(driver="azure", options=options(**more))


def in_folder(folder: Path) -> StoreSettings:
    """The settings of a store that sees the objects of one temporary folder alone."""
    return settings(prefix=hashlib.sha256(str(folder).encode()).hexdigest()[:16])


def _make_container(address: str, name: str) -> None:
    """What an operator does beforehand, by Azure's "Create Container" with a shared key. Raises
    httpx.TransportError while the server does not answer."""
    moment = dt.datetime.now(dt.UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    headers = {"x-ms-date": moment, "x-ms-version": "2021-12-02"}
    signed = [
        *("PUT", *[""] * 11),
        *(f"{key}:{value}" for key, value in headers.items()),
        f"/{ACCOUNT}/{ACCOUNT}/{name}",
        "restype:container",
    ]
    digest = hmac.digest(base64.b64decode(KEY), "\n".join(signed).encode(), "sha256")
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
    answer = httpx.put(
        f"{address}/{name}", params={"restype": "container"}, headers=headers, timeout=10
    )
    assert answer.status_code == 201, answer.text


@functools.cache
def _node() -> tuple[str, str]:
    """The commands node and npm: the machine's, or those of a package, installed on first use."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        return node, npm
    bin_folder = environment("node", Path(__file__).with_name("requirements-node.txt")) / "venv/bin"
    return str(bin_folder / "node"), str(bin_folder / "npm")


@functools.cache
def _program() -> Path:
    """Azurite's blob server, installed once below `.cache`."""
    folder = ROOT / ".cache" / f"azurite-{VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    node, npm = _node()
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            subprocess.run(
                [npm, "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts",
                 "--no-save", f"azurite@{VERSION}"],
                cwd=folder,
                env={**os.environ, "PATH": f"{Path(node).parent}:{os.environ['PATH']}"},
                check=True,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
            (folder / "ready").touch()
    return folder / "node_modules/azurite/dist/src/blob/main.js"
