"""Breaks imports at one effect after the other: a server that forks one process per scenario.

    python -m tests.support.breaking      reads a scenario a line (JSON), answers each with a line

An effect is what leaves a trace outside of the process: a write to the catalog, an object that is
made, committed or deleted in a store, a step that the engine records. Each process counts those of
the task that it works on, and at the chosen one it is killed, or the effect fails, or its answer is
lost, or somebody cancels the task or deletes the image. Production code knows nothing of this: the
methods are wrapped here, in a process of the test's own.

The modules are imported once; a fork costs milliseconds, where a start of Python costs a second.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import os
import signal
import sys
import time
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dbos
import msgspec
import sqlalchemy as sa
from dbos._sys_db import SystemDatabase

import transom.imports.engine
from transom import telemetry
from transom.app import open_registry
from transom.catalog.schema import intakes
from transom.catalog.task_tables import staged, task_objects
from transom.catalog.tasks import Tasks
from transom.errors import CatalogUnavailable, ImageNotFound, StoreFailed
from transom.images.create import create
from transom.images.delete import delete
from transom.images.stage import stage
from transom.images.sweep import join, sweep
from transom.images.upload import upload
from transom.imports import durable, steps
from transom.imports.engine import Engine
from transom.imports.request import parsed
from transom.imports.run import Run
from transom.imports.start import start_import
from transom.imports.work import sweep_tasks
from transom.model.actor import Actor
from transom.model.task import Task
from transom.registry import Registry
from transom.settings import load
from transom.stores.drivers.file.store import FileStore
from transom.stores.drivers.file.writer import FileWriter

SECONDS_MAX = 100
CATALOG = (
    "claim", "note", "take_image", "remember_object", "forget_object", "place", "store_failed",
    "succeed", "fail",
)  # fmt: skip
ADMIN = Actor(user_id="u", project_id="p", roles=frozenset({"admin", "member"}), is_admin=True)
MODULES = (dbos, steps)
"""Imported here, so that no process imports them again."""


class Broken(RuntimeError):
    """What no code expects."""


class Breaker:
    """Counts effects, and breaks one of them."""

    def __init__(self, plan: dict[str, Any], trace: Path) -> None:
        self.at: int = plan.get("at", 0)
        self.how: str = plan.get("how", "")
        self.count = 0
        self.is_on = False
        self.disturb: Callable[[], Any] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self._trace = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def enter(self, label: str) -> int:
        """An effect is about to happen."""
        if not self.is_on:
            return 0
        self.count += 1
        self._say(f"{self.count} {label}")
        if self.count == self.at and self.how == "kill":
            self._die()
        return self.count

    def leave(self, number: int, label: str) -> None:
        """It has happened."""
        if number:
            self._say(f"{number} {label} done")

    def _say(self, text: str) -> None:
        os.write(self._trace, f"{text}\n".encode())

    def _die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)

    def is_broken(self, number: int) -> bool:
        """True for the effect to break."""
        return bool(number) and number == self.at

    def wrap(self, owner: Any, name: str, label: Callable[..., str | None], kind: str) -> None:
        """Make an effect of an async method."""
        original = getattr(owner, name)

        @functools.wraps(original)
        async def wrapped(*args: Any, **options: Any) -> Any:
            told = label(*args, **options)
            if told is None:
                return await original(*args, **options)
            number = self.enter(told)
            is_broken = self.is_broken(number)
            if is_broken and self.how == "fail":
                raise StoreFailed("main", "the test broke it") if kind == "store" else Broken
            if is_broken and self.how == "away" and kind == "catalog":
                raise CatalogUnavailable
            if is_broken and self.how in ("cancel", "delete") and self.disturb is not None:
                await self.disturb()
            result = await original(*args, **options)
            self.leave(number, told)
            if is_broken and self.how == "lost":
                raise (
                    StoreFailed("main", "the test lost the answer")
                    if kind == "store"
                    else CatalogUnavailable()
                )
            return result

        setattr(owner, name, wrapped)

    def wrap_sync(self, owner: Any, name: str, label: str) -> None:
        """Make an effect of a method that runs in a thread."""
        original = getattr(owner, name)

        @functools.wraps(original)
        def wrapped(*args: Any, **options: Any) -> Any:
            number = self.enter(label)
            if self.is_broken(number) and self.how in ("cancel", "delete"):
                assert self.disturb is not None
                assert self.loop is not None
                asyncio.run_coroutine_threadsafe(self.disturb(), self.loop).result()
            result = original(*args, **options)
            self.leave(number, label)
            return result

        setattr(owner, name, wrapped)


def _first(writer: FileWriter, *_args: Any, **_options: Any) -> str | None:
    # How data is cut to chunks is chance; the first one is not.
    if writer in _written:
        return None
    _written.add(writer)
    return f"write {_name(writer)}"


_written: set[FileWriter] = set()


def _name(writer: FileWriter) -> str:
    return str(writer._folder.name)


def arm(breaker: Breaker) -> None:
    """Wrap everything that has an effect."""
    for name in CATALOG:
        breaker.wrap(Tasks, name, lambda *_a, _name=name, **_o: f"catalog {_name}", "catalog")
    breaker.wrap(FileWriter, "write", _first, "store")
    breaker.wrap(FileWriter, "commit", lambda writer: f"commit {_name(writer)}", "store")
    breaker.wrap(FileStore, "delete", lambda store, _key: f"delete {store.name}", "store")
    breaker.wrap(FileStore, "reopen", lambda store, _token: f"reopen {store.name}", "store")
    for name in ("record_operation_result", "update_workflow_outcome"):
        breaker.wrap_sync(SystemDatabase, name, f"engine {name}")
    original = Run.__init__

    def made(run: Run, registry: Registry, task: Task, perform: Any) -> None:
        holder = types.SimpleNamespace(perform=perform)
        breaker.wrap(holder, "perform", lambda _run, step: f"step {step}", "step")
        original(run, registry, task, holder.perform)

    Run.__init__ = made  # type: ignore[assignment,method-assign]


async def begun(registry: Registry, work: dict[str, Any]) -> str:
    """An image with its import; gives the task's id."""
    data = bytes.fromhex(work["data"]) if "data" in work else b""

    async def body() -> Any:
        yield data

    image = await create(
        registry,
        ADMIN,
        {"disk_format": "raw", "container_format": "bare", "name": "i", **work.get("image", {})},
    )
    method = work["body"]["method"]["name"]
    if method == "glance-direct":
        await stage(registry, ADMIN, image.id, body())
    if method == "copy-image":
        await upload(registry, ADMIN, image.id, body(), store_name="main")
    request = parsed(registry, work["body"], registry.settings.imports.methods, None)
    task = await start_import(registry, ADMIN, image.id, request, request_id="req-1")
    assert task is not None
    return task.id


async def told(registry: Registry, task_id: str) -> dict[str, Any]:
    """What is left of an import."""
    task = await registry.catalog.tasks.get(task_id)
    assert task.image_id is not None
    image: Any = None
    content = None
    try:
        found = await registry.catalog.images.get(task.image_id, seen_by=None)
        image = msgspec.to_builtins(found)
        contents = []
        for each in found.locations:
            reader = await registry.stores.get(each.store).read(each.key)
            contents.append(hashlib.sha256(b"".join([piece async for piece in reader])).hexdigest())
        content = sorted(set(contents))
    except ImageNotFound:
        pass
    stores: dict[str, Any] = {}
    for store in {store.name: store for store in registry.stores.every}.values():
        stores[store.name] = {
            "complete": sorted([entry.key async for entry in store.list()]),
            "partial": sorted([entry.key async for entry in store.list_partial()]),
        }

    def rows(connection: sa.Connection) -> dict[str, int]:
        return {
            table.name: connection.execute(
                sa.select(sa.func.count()).select_from(table)
            ).scalar_one()
            for table in (task_objects, staged, intakes)
        }

    scratch = registry.settings.data_path / "scratch"
    return {
        "task": msgspec.to_builtins(task),
        "image": image,
        "content": content,
        "stores": stores,
        "rows": await registry.catalog.engine.read(rows),
        "scratch": len(list(scratch.iterdir())) if scratch.is_dir() else 0,
    }


async def play(scenario: dict[str, Any]) -> dict[str, Any]:
    """One process's part of a scenario."""
    breaker = Breaker(scenario.get("break", {}), Path(scenario["trace"]))
    durable.POLL_SECONDS = 0.02
    transom.imports.engine.TICK_SECONDS = 0.1
    transom.imports.engine.SETTLED_SECONDS = 0.5
    settings = load(Path(scenario["config"]), Path(scenario["folder"]), {})
    registry = open_registry(settings)
    if scenario.get("prepare"):
        registry.catalog.upgrade()
    arm(breaker)
    await join(registry)
    note = Path(scenario["folder"]) / "task-id"
    if "work" in scenario:
        note.write_text(await begun(registry, scenario["work"]))
    task_id = note.read_text()
    task = await registry.catalog.tasks.get(task_id)

    async def disturb() -> None:
        breaker.is_on = False
        if breaker.how == "cancel":
            await registry.catalog.tasks.cancel(task_id)
        else:
            await delete(registry, ADMIN, str(task.image_id))

    breaker.disturb = disturb
    breaker.loop = asyncio.get_running_loop()
    breaker.is_on = True
    engine = Engine(registry)
    await engine.start()
    began = time.monotonic()
    while not (task := await registry.catalog.tasks.get(task_id)).has_ended:
        await asyncio.sleep(0.02)
        if time.monotonic() - began > scenario.get("seconds_max", 60):
            break
    ended_seconds = time.monotonic() - began
    for _ in range(scenario.get("settles", 50)):
        if not await registry.catalog.tasks.objects(task_id) and not engine.works_on(task_id):
            break
        await asyncio.sleep(0.02)
    breaker.is_on = False
    await engine.stop()
    await sweep_tasks(registry)
    await sweep(registry)
    result = await told(registry, task_id)
    result["ended_seconds"] = ended_seconds
    await registry.catalog.processes.leave(registry.process_id)
    await registry.stores.close()
    await registry.identity.close()
    registry.catalog.close()
    return result


def _child(scenario: dict[str, Any], answer: int) -> None:
    log = os.open(scenario["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    signal.alarm(SECONDS_MAX)
    telemetry.configure("info")
    try:
        result = asyncio.run(play(scenario))
    except BaseException:  # noqa: BLE001 - a fork must not return into the program
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    with os.fdopen(answer, "w") as file:
        json.dump(result, file)
    sys.stderr.flush()
    os._exit(0)


def main() -> None:
    """Serve scenarios until the input ends."""
    for line in sys.stdin:
        scenario = json.loads(line)
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            _child(scenario, writing)
        os.close(writing)
        with os.fdopen(reading) as file:
            text = file.read()
        _, status = os.waitpid(pid, 0)
        print(
            json.dumps(
                {
                    "exit": os.waitstatus_to_exitcode(status),
                    "result": json.loads(text) if text else None,
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
