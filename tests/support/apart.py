"""`transom` as if it ran on a machine of its own: python -m tests.support.apart serve …

Replicas of one test stand on one machine, where a process sees at once that another one is gone.
On machines of their own they have the leases alone to go by. So each is told another name of its
machine (TRANSOM_TEST_HOST), and waits for leases; these are shorter than in service, as all times are
that a test would have to wait for.
"""

from __future__ import annotations

import os
import socket
import sys

import transom.app
import transom.images.sweep
import transom.imports.engine
from transom.cli.main import main


def be_apart() -> None:
    """Take the machine's name from the environment, and short times."""
    socket.gethostname = lambda: os.environ["TRANSOM_TEST_HOST"]
    transom.app.BEAT_SECONDS = 0.5
    transom.app.SWEEP_SECONDS = 1.5
    for module in (transom.app, transom.images.sweep):
        module.WATCHED_SECONDS = 2.0
    transom.images.sweep.DEAD_AFTER_SECONDS = 5.0
    transom.imports.engine.TICK_SECONDS = 0.3
    transom.imports.engine.SETTLED_SECONDS = 10.0
    transom.imports.engine.STRAY_SECONDS = 2.0


if __name__ == "__main__":
    be_apart()
    sys.exit(main())
