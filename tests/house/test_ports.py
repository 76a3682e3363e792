"""No two servers of the tests are given one port, whether they run or not."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support import ports
from tests.support.ports import free_port, free_ports

ROOT = Path(__file__).parents[2]

_CLAIMING = """
import signal, sys
from tests.support.ports import claim
print(claim(int(sys.argv[1])), flush=True)
signal.pause()
"""


@contextlib.contextmanager
def other_process(port: int) -> Iterator[str]:
    """Another test process, for as long as the block runs, and whether it got the port."""
    process = subprocess.Popen(
        [sys.executable, "-c", _CLAIMING, str(port)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def unclaimed() -> int:
    """A port that a process had for itself which has ended."""
    done = subprocess.run(
        [sys.executable, "-c", "from tests.support.ports import free_port; print(free_port())"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def test_a_process_gets_every_port_once() -> None:
    given = [free_port() for _ in range(200)]
    first = free_ports(30)
    given += range(first, first + 30)
    assert len(set(given)) == 230


def test_another_process_does_not_get_it_though_nothing_listens() -> None:
    with other_process(free_port()) as got_it:
        assert got_it == "False"


def test_it_is_free_again_when_the_process_was_killed() -> None:
    port = unclaimed()
    with other_process(port) as got_it:
        assert got_it == "True"
        assert not ports.claim(port)
    assert ports.claim(port)


def test_a_port_somebody_listens_at_is_not_given() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        assert not ports.claim(listening.getsockname()[1])


def test_none_is_of_those_for_outgoing_connections() -> None:
    with socket.socket() as outgoing:
        outgoing.bind(("127.0.0.1", 0))
        assert free_port() < ports.outgoing_from() <= outgoing.getsockname()[1]
