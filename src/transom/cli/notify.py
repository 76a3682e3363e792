"""Tells a service manager how the process stands: sd_notify(3), where it asks for that."""

from __future__ import annotations

import contextlib
import os
import socket

READY = "READY=1"
STOPPING = "STOPPING=1"


def notify(state: str) -> None:
    """Tell it, if it listens. Nobody who does is no error."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        # A name that begins with @ is one of the abstract namespace.
        manager.connect("\0" + address[1:] if address[0] == "@" else address)
        manager.send(state.encode())
