"""What every import plugin promises (`imports/plugin.py`), on a store with local paths and without."""

from __future__ import annotations

import asyncio
import gzip
import random
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from tests.support.workbench import Bench
from transom.imports.original import original_properties
from transom.imports.plugins import PLUGINS, open_plugins

MIB = 1024 * 1024
INPUTS = {
    "image_decompression": gzip.compress(random.Random(3).randbytes(3 * MIB)),
    "image_conversion": random.Random(4).randbytes(3 * MIB),
    "inject_image_metadata": b"any bytes",
    "no_op": b"any bytes",
}
"""Data that gives each plugin something to do."""


@pytest.fixture(params=["file", "memory"])
async def bench(tmp_path: Path, request: pytest.FixtureRequest, name: str) -> AsyncIterator[Bench]:
    made = Bench(
        tmp_path,
        driver=request.param,
        IMPORTS__PLUGINS=name,
        IMPORTS__CONVERT_TO="qcow2" if name == "image_conversion" else "",
        IMPORTS__INJECT__SOURCE="import",
    )
    yield made
    await made.close()


pytestmark = pytest.mark.parametrize("name", PLUGINS)


async def test_a_plugin_is_called_what_the_table_calls_it(bench: Bench, name: str) -> None:
    assert [plugin.name for plugin in open_plugins(bench.settings)] == [name]


async def test_what_came_stays_and_what_goes_on_is_complete(bench: Bench, name: str) -> None:
    [plugin] = open_plugins(bench.settings)
    came = await bench.stage(INPUTS[name])
    goes = await plugin.run(bench, came)
    assert await bench.content(came) == INPUTS[name]
    assert len(await bench.content(goes)) == goes.size_bytes
    assert set(await bench.keys()) == {came.key, goes.key}
    assert await bench.partial() == []


async def test_a_run_from_the_beginning_gives_the_same_data(bench: Bench, name: str) -> None:
    [plugin] = open_plugins(bench.settings)
    came = await bench.stage(INPUTS[name])
    first = await plugin.run(bench, came)
    again = await plugin.run(bench, came)
    assert await bench.content(first) == await bench.content(again)
    assert msgspec.structs.replace(first, key="") == msgspec.structs.replace(again, key="")


async def test_two_runs_side_by_side_do_not_disturb_each_other(bench: Bench, name: str) -> None:
    [plugin] = open_plugins(bench.settings)
    came = await bench.stage(INPUTS[name])
    results = await asyncio.gather(*(plugin.run(bench, came) for _ in range(3)))
    assert len({await bench.content(each) for each in results}) == 1


async def test_cancelled_at_any_moment_it_stops_and_leaves_only_what_came(
    bench: Bench, name: str
) -> None:
    [plugin] = open_plugins(bench.settings)
    came = await bench.stage(INPUTS[name])
    for step in range(12):
        task = asyncio.create_task(plugin.run(bench, came))
        await asyncio.wait([task], timeout=step * 0.01)
        began = time.monotonic()
        if task.done() or not task.cancel():
            if (key := task.result().key) != came.key:
                await bench.staging.delete(key)
            continue
        with pytest.raises(asyncio.CancelledError):
            await task
        # A second on an idle machine; a commit that is forcing data to disk is waited for.
        assert time.monotonic() - began < 10
        assert await bench.keys() == [came.key]
        assert await bench.partial() == []
        assert await is_quiet(), threading.enumerate()


async def is_quiet(seconds: float = 5.0) -> bool:
    """True as soon as no thread of a conversion is left: a thread that has done its work still has to
    be told that there is no more."""
    deadline = time.monotonic() + seconds
    while any(each.name.startswith("qemu-img") for each in threading.enumerate()):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True


async def test_reports_never_go_beyond_their_total(bench: Bench, name: str) -> None:
    [plugin] = open_plugins(bench.settings)
    await plugin.run(bench, await bench.stage(INPUTS[name]))
    for phase, done_bytes, total_bytes in bench.reports:
        assert phase.islower()
        assert total_bytes is None or 0 <= done_bytes <= total_bytes


async def test_the_original_is_told_of_only_when_other_bytes_go_on(bench: Bench, name: str) -> None:
    [plugin] = open_plugins(bench.settings)
    came = await bench.stage(INPUTS[name])
    told = original_properties(came, await plugin.run(bench, came), "sha256", "00ff")
    if name in ("image_decompression", "image_conversion"):
        assert told == {
            "original_hash_algo": "sha256",
            "original_hash_value": "00ff",
            "original_size": str(len(INPUTS[name])),
            "original_disk_format": "raw",
            "original_container_format": "bare",
        }
    else:
        assert told == {}
