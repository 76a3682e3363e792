"""Worker processes that go on serving for a while after a stop signal, so that load balancers notice."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from granian import Granian

from transom.app import DRAIN_SIGNAL
from transom.cli.notify import STOPPING, notify


class DrainingServer(Granian):  # type: ignore[misc, valid-type]
    """Granian, which stops its workers at once, after a pause in which they say so."""

    def __init__(self, *arguments: Any, drain_seconds: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._drain_seconds = drain_seconds
        self._is_draining = False
        self.main_loop_interrupt = _Wake(lambda: self.interrupt_signal)
        # Inherited by the workers, for as long as they have not learned what it means.
        signal.signal(DRAIN_SIGNAL, signal.SIG_IGN)

    def signal_handler_interrupt(self, *arguments: Any, **options: Any) -> None:
        """The first signal begins the pause; a second one ends it."""
        if self._is_draining or not self._drain_seconds:
            super().signal_handler_interrupt(*arguments, **options)
            return
        self._is_draining = True
        notify(STOPPING)
        for worker in self.wrks:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.inner.pid, DRAIN_SIGNAL)
        pause = threading.Timer(self._drain_seconds, super().signal_handler_interrupt)
        pause.daemon = True
        pause.start()


class _Wake(threading.Event):
    """What the main process sleeps on. It stays set once the server is told to stop: Granian clears it
    when it begins to replace workers, and would sleep through a stop that came a moment before."""

    def __init__(self, is_stopping: Callable[[], bool]) -> None:
        super().__init__()
        self._is_stopping = is_stopping

    def clear(self) -> None:
        """Sleep again, unless the server stops."""
        super().clear()
        if self._is_stopping():
            self.set()
