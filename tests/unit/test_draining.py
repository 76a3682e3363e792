"""The main process of several workers, and what it sleeps on."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from transom.app import DRAIN_SIGNAL
from transom.cli.draining import DrainingServer


@pytest.fixture
def server() -> Iterator[DrainingServer]:
    """One that was not started; signals as they were afterwards."""
    before = signal.getsignal(DRAIN_SIGNAL)
    yield DrainingServer("nowhere:nothing", drain_seconds=0)
    signal.signal(DRAIN_SIGNAL, before)


def test_it_sleeps_again_after_workers_were_replaced(server: DrainingServer) -> None:
    server.signal_handler_reload()
    assert server.main_loop_interrupt.is_set()
    server.main_loop_interrupt.clear()
    assert not server.main_loop_interrupt.is_set()


def test_a_stop_in_the_moment_in_which_workers_are_replaced_wakes_it(
    server: DrainingServer,
) -> None:
    server.signal_handler_reload()
    server.signal_handler_interrupt()
    server.main_loop_interrupt.clear()
    assert server.main_loop_interrupt.is_set()
