"""Logs: one form for every line, at the level that was asked for; and a clock that is set."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import subprocess
import sys
import time
from typing import Any

import pytest
import structlog

from transom.images import clock
from transom.metrics.table import CLOCK_JUMPS

_PROGRAM = """
import logging, sys, structlog
from transom import telemetry
telemetry.configure({level!r}, {form!r}, for_good=True)
log = structlog.get_logger()
log.debug("quiet")
telemetry.request_id.set("req-1")
log.info("said", number=7)
try:
    raise ValueError("wrong")
except ValueError:
    log.exception("broke")
logging.getLogger("some.library").warning("careful with %s", "this")
logging.getLogger("some.library").info("chatter")
"""


def lines(level: str, form: str) -> list[str]:
    """What a program logs that was told this level and form."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(level=level, form=form)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


@pytest.mark.parametrize("form", ["json", "auto"])
def test_every_line_is_an_object_where_no_person_reads(form: str) -> None:
    said, broke, library = (json.loads(line) for line in lines("info", form))

    assert said["event"] == "said"
    assert said["level"] == "info"
    assert said["number"] == 7
    assert said["request_id"] == "req-1"
    assert said["timestamp"].endswith("Z")
    assert "ValueError: wrong" in broke["exception"]
    assert library["event"] == "careful with this"
    assert library["level"] == "warning"
    assert library["logger"] == "some.library"


def test_people_get_text() -> None:
    text = lines("info", "text")

    assert "said" in text[0]
    assert "number=7" in text[0]
    assert not text[0].startswith("{")
    assert "\x1b" not in text[0], "colours are for terminals"


@pytest.mark.parametrize(
    ("level", "events"),
    [
        ("debug", ["quiet", "said", "broke", "careful with this"]),
        ("warning", ["broke", "careful with this"]),
        ("error", ["broke"]),
    ],
)
def test_nothing_below_the_level_is_written(level: str, events: list[str]) -> None:
    assert [json.loads(line)["event"] for line in lines(level, "json")] == events


def test_a_program_that_is_no_service_leaves_the_loggers_of_libraries_alone() -> None:
    before = list(logging.root.handlers)
    try:
        from transom import telemetry

        telemetry.configure("error")
        assert logging.root.handlers == before
    finally:
        structlog.reset_defaults()


@pytest.mark.parametrize(("jump", "direction"), [(3600.0, "forward"), (-90.0, "backward")])
async def test_a_clock_that_is_set_is_told_and_counted(
    jump: float, direction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, moved = time.time, [0.0]
    monkeypatch.setattr(clock, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(time, "time", lambda: real() + moved[0])
    before = CLOCK_JUMPS.at(direction).value

    with structlog.testing.capture_logs() as told:
        watching = asyncio.create_task(clock.watch_clock())
        await asyncio.sleep(0.05)
        assert CLOCK_JUMPS.at(direction).value == before
        moved[0] = jump
        await asyncio.sleep(0.1)
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching

    assert CLOCK_JUMPS.at(direction).value == before + 1
    warning: Any = next(line for line in told if line["event"] == "clock.set")
    assert warning["jump_seconds"] == pytest.approx(jump, abs=0.5)
