"""A run of the tests that was killed, with its machine or alone, does not disturb the next one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import postgres
from tests.support.postgres import Cluster, remove_leftovers

_OWNING = """
import os, signal
from tests.support.postgres import Cluster
print(Cluster.start().folder, flush=True)
signal.pause()
"""


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Temporary files lie where no other process of the run looks for leftovers. The path is short,
    for sockets, and open to the server's own user."""
    with tempfile.TemporaryDirectory(prefix="transom-left-") as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield folder


@pytest.fixture
def killed(apart: str) -> Iterator[Path]:
    """The folder of a cluster whose process was killed. The server itself still runs."""
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNING],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TMPDIR": apart},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    with owner, owner.stdout:
        folder = Path(owner.stdout.readline().strip())
        assert folder.exists()
        owner.kill()
    yield folder
    remove_leftovers()


def _server(folder: Path) -> int:
    return int((folder / "data" / "postmaster.pid").read_text().split()[0])


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}/cwd").is_dir():
        time.sleep(0.01)


def test_a_server_whose_owner_was_killed_is_ended(killed: Path) -> None:
    pid = _server(killed)

    remove_leftovers()

    assert not killed.exists()
    assert not Path(f"/proc/{pid}/cwd").is_dir()


def test_a_cluster_goes_whose_server_was_killed_too(killed: Path) -> None:
    """As after the machine was switched off."""
    _end(_server(killed))

    remove_leftovers()

    assert not killed.exists()


def test_a_process_that_has_the_number_of_a_dead_server_is_left_alone(killed: Path) -> None:
    _end(_server(killed))
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            (killed / "data" / "postmaster.pid").write_text(f"{other.pid}\n{killed / 'data'}\n")
            remove_leftovers()
            assert other.poll() is None
        finally:
            other.kill()

    assert not killed.exists()


@pytest.fixture(scope="module")
def shared() -> str:
    """A database of all tests of this module."""
    return postgres.cluster().database()


def test_what_tests_share_outlives_the_first_of_them(shared: str) -> None:
    own = [postgres.cluster().database() for _ in range(20)]

    postgres.end_of_test()

    found = postgres.cluster().sql("SELECT datname FROM pg_database")
    there = {postgres.cluster().url(name) for (name,) in found}
    assert shared in there
    assert not there & set(own)


def test_what_has_an_owner_stays() -> None:
    cluster = Cluster.start()
    try:
        remove_leftovers()
        assert cluster.sql("SELECT 1") == [(1,)]
    finally:
        cluster.remove()
    assert not cluster.folder.exists()
