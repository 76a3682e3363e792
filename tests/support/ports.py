"""Ports of the loopback interface for servers of the tests.

A probe alone tells only that a port was free a moment ago: another test process may be told the same,
the system may give it to an outgoing connection, and a server that is down for a moment may find
somebody else in its place.
"""

from __future__ import annotations

import fcntl
import functools
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import IO

FIRST = 12_000
"""Services that are installed with the system's packages listen below."""

_claimed: set[int] = set()


def free_port() -> int:
    """A port that stays this process's."""
    return free_ports(1)


def free_ports(count: int) -> int:
    """The first of so many ports in a row that stay this process's until it ends.

    No process that asks here gets one of them meanwhile, and the system gives none of them to an
    outgoing connection. Whether the server runs or not, its port is its own.
    """
    end = outgoing_from()
    for _ in range(1000):
        first = random.SystemRandom().randrange(FIRST, end - count)
        if all(claim(port) for port in range(first, first + count)):
            return first
    raise RuntimeError(f"a thousand ports between {FIRST} and {end} were all taken")


def claim(port: int) -> bool:
    """Take a port for this process until it ends; false when it is somebody's already."""
    if port in _claimed:
        # A process's own locks do not keep itself away.
        return False
    try:
        fcntl.lockf(_claims(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    _claimed.add(port)
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@functools.cache
def _claims() -> IO[bytes]:
    """A file whose byte n is locked by whom port n belongs to. The system ends a dead process's locks;
    whoever opened the file twice and closed one of both would lose its own."""
    path = Path(tempfile.gettempdir()) / f"transom-ports-{os.geteuid()}"
    return path.open("ab")


def outgoing_from() -> int:
    """The first port that the system gives to outgoing connections (ip(7))."""
    text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
    return int(text.split()[0])
