"""The steps of an import, each safe to take again from its beginning (decision 0080).

Bytes first, row last, as everywhere: an object is remembered before its first byte, and becomes a
location of the image in the transaction that makes it one.
"""

from __future__ import annotations

from typing import Any

import msgspec

from transom.catalog.outbox import Look
from transom.errors import (
    DataNotFound,
    DigestMismatch,
    FormatMismatch,
    ImageDeletedMeanwhile,
    ImageTooLarge,
    SignatureInvalid,
    StoreFailed,
    TaskCancelled,
    TransomError,
    UnsafeImage,
)
from transom.events.payloads import data_notice, failed_notice, image_notice
from transom.images.clock import now
from transom.images.download import open_data, pieces
from transom.images.intake import Taken, measure, take_in
from transom.imports import expiry, open_method
from transom.imports.legacy import create_image
from transom.imports.onward import Onward
from transom.imports.original import original_properties
from transom.imports.plugin import Material, Plugin
from transom.imports.plugins import open_plugins
from transom.imports.run import PASSING, Run, source_of, stores_of
from transom.imports.workbench import Bench
from transom.metrics.table import INTAKE_REJECTED, TASKS_ENDED
from transom.model.event import Notice
from transom.model.image import Image, Location, Status
from transom.model.reserved import LAST_ERROR
from transom.model.task import Facts, Task, TaskType
from transom.settings import Settings
from transom.stores.store import KeyMissing, Reader, Store

PLACING = "storing"
_FATAL = (
    *PASSING,
    TaskCancelled,
    ImageDeletedMeanwhile,
    DigestMismatch,
    FormatMismatch,
    UnsafeImage,
    ImageTooLarge,
    SignatureInvalid,
)
"""Failures that another store would not mend."""


def steps_of(settings: Settings, task: Task) -> list[str]:
    """The steps of a task by name, in order. Written down once, when the task is first taken up,
    so that another configuration later does not change what is under way."""
    method = open_method(source_of(task)["name"])
    names: list[str] = ["create"] if task.type is TaskType.IMPORT else []
    if method.fetches:
        names.append("fetch")
    if method.needs is not Status.ACTIVE:
        plugins = [plugin.name for plugin in open_plugins(settings, stores_of(task))]
        if plugins:
            names.append("verify")
            names += [f"plugin:{name}" for name in plugins]
    return [*names, *(f"place:{store}" for store in stores_of(task)), "finish"]


async def perform(run: Run, step: str) -> None:
    """Take one step."""
    name, _, argument = step.partition(":")
    match name:
        case "create":
            await create_image(run)
        case "fetch":
            await open_method(run.source["name"]).fetch(run)
        case "verify":
            await _verify(run)
        case "plugin":
            await _plugin(run, argument)
        case "place":
            await _place_or_note(run, argument)
        case "finish":
            await _finish(run)
        case _:
            raise ValueError(f"no step has the name {step}")


async def staged_material(run: Run) -> Material | None:
    """What was staged before the task began, or fetched by it."""
    if run.material is not None or "staged" not in run.notes:
        return run.material
    staged, image = run.notes["staged"], await run.image()
    return Material(
        key=staged["key"],
        size_bytes=staged["size_bytes"],
        disk_format=image.disk_format,
        container_format=image.container_format,
        properties={},
    )


# --- plugins -----------------------------------------------------------------------------------


async def _verify(run: Run) -> None:
    """Digests of what came, before anything changes it."""
    if "original" in run.notes:
        # Plugins may have changed it since, when the engine lost its records.
        return
    material = await staged_material(run)
    if material is None:
        raise DataNotFound(run.image_id)
    algorithm = run.registry.settings.images.hash_algorithm
    expected: dict[str, str] = run.notes.get("expected", {})
    reader = await _read(run.staging, material.key, run.image_id)
    _, digests = await measure(
        pieces(reader),
        (algorithm, *expected),
        progress=lambda done: run.report("verifying", done, material.size_bytes),
    )
    _hold_to(expected, digests)
    original = {"algorithm": algorithm, "value": digests[algorithm]}
    arrived = msgspec.to_builtins(material)
    await run.keep(original=original, arrived=arrived, material=arrived)


def _plugins(run: Run) -> tuple[Plugin, ...]:
    return open_plugins(run.registry.settings, stores_of(run.task))


async def _plugin(run: Run, name: str) -> None:
    material = run.material
    if material is None:
        raise DataNotFound(run.image_id)
    if name in run.notes.get("plugged", ()):
        return
    plugin = next(each for each in _plugins(run) if each.name == name)
    bench = Bench(run, await run.image())
    done = await plugin.run(bench, material)
    await run.keep(
        material=msgspec.to_builtins(done), plugged=[*run.notes.get("plugged", ()), name]
    )
    await bench.clear(keep=done.key)


# --- stores ------------------------------------------------------------------------------------


async def _place_or_note(run: Run, store_name: str) -> None:
    """Fill one store. Where one filled store is enough, a failure is noted on the image."""
    try:
        await _place(run, store_name)
    except _FATAL:
        raise
    except TransomError as failure:
        if run.notes.get("must_succeed", True):
            raise
        await run.discard(f"store:{store_name}", run.registry.stores.get(store_name))
        image_id, reason = run.image_id, str(failure)
        with run.telling(lambda _, look: _store_failed(look, image_id, reason)):
            await run.registry.catalog.tasks.store_failed(
                run.task, image_id, store_name, reason, now()
            )


def _store_failed(look: Look, image_id: str, reason: str) -> list[Notice]:
    image = look.image(image_id)
    updated = [] if image is None else [image_notice("image.update", image)]
    return [failed_notice(image_id, reason), *updated]


async def _place(run: Run, store_name: str) -> None:
    registry, slot = run.registry, f"store:{store_name}"
    image, store = await run.image(), registry.stores.get(store_name)
    material = await staged_material(run)
    mark = run.slot(slot)
    if mark is not None and any(each.key == mark["key"] for each in image.locations):
        return
    facts = await _facts_of_complete(store, mark)
    if facts is None:
        await registry.events.tell(
            data_notice("image.prepare", image, backend=store_name),
            of_request=run.task.request_id or "",
        )
        facts = await _fill(run, slot, store, image, material)
        mark = run.slot(slot)
    if mark is None:
        raise StoreFailed(store_name, "its object is not known any more")
    key = mark["key"]
    changes = {} if material is None else _changes(run, material)
    if changes and "before" not in run.notes:
        await run.keep(before=_before(image, changes))
    allowance = await registry.limits.allowance(image.owner)
    was_active = image.status is Status.ACTIVE
    with run.telling(lambda placed, _: _placed(placed, was_active=was_active)):
        await registry.catalog.tasks.place(
            run.task,
            image.id,
            Location(store=store_name, key=key, url=store.url(key)),
            facts,
            changes=changes,
            activates=not run.notes.get("must_succeed", True),
            limits=allowance.stored,
            now=now(),
        )


def _placed(image: Image, *, was_active: bool) -> list[Notice]:
    """A store that is filled; the image may be active by it."""
    activated = image.status is Status.ACTIVE and not was_active
    return [
        data_notice("image.upload", image),
        *([image_notice("image.activate", image)] if activated else []),
        image_notice("image.update", image),
    ]


async def _facts_of_complete(store: Store, mark: dict[str, Any] | None) -> Facts | None:
    """What an earlier attempt knew of an object that it completed and did not live to place."""
    if mark is None or "facts" not in mark:
        return None
    try:
        entry = await store.stat(mark["key"])
    except KeyMissing:
        return None
    facts = msgspec.convert(mark["facts"], Facts)
    return facts if entry.size_bytes == facts.size else None


async def _fill(
    run: Run, slot: str, store: Store, image: Image, material: Material | None
) -> Facts:
    registry, settings = run.registry, run.registry.settings
    size_bytes = image.size if material is None else material.size_bytes
    if material is None:
        reader = await open_data(registry, image)
    else:
        reader = await _read(run.staging, material.key, image.id)
    expected: dict[str, str] = {} if "original" in run.notes else run.notes.get("expected", {})
    is_copy = bool(image.locations)
    seal = None
    if not is_copy:
        seal = await registry.signatures.verifier_for(
            image.properties, token=run.notes.get("token"), project_id=run.task.owner
        )
    async with await run.writer(slot, store, size_hint=size_bytes) as writer:
        try:
            taken = await take_in(
                pieces(reader),
                Onward(writer),
                disk_format=image.disk_format if material is None else material.disk_format,
                container_format=(
                    image.container_format if material is None else material.container_format
                ),
                hash_algorithm=(is_copy and image.os_hash_algo) or settings.images.hash_algorithm,
                verify_formats=settings.images.verify_formats and not is_copy,
                gpt_checks_nonfatal=settings.images.gpt_checks_nonfatal,
                size_bytes_max=settings.limits.image_size_bytes_max or None,
                size_bytes_expected=size_bytes,
                also=expected,
                seal=seal,
                progress=lambda done: run.report(f"{PLACING} in {store.name}", done, size_bytes),
            )
            _hold_to(expected, taken.digests | {"md5": taken.checksum})
            facts = _facts(taken)
            mark = run.slot(slot)
            if mark is not None:
                mark["facts"] = msgspec.to_builtins(facts)
                await run.keep()
            await writer.commit()
        except BaseException as failure:
            # What is durable stays for the attempt that goes on from here; whatever else fails is
            # cancelled on leaving.
            if not isinstance(failure, Exception) or isinstance(failure, PASSING):
                await writer.detach()
            raise
    return facts


def _facts(taken: Taken) -> Facts:
    return Facts(
        size=taken.size_bytes,
        virtual_size=taken.virtual_size_bytes,
        checksum=taken.checksum,
        os_hash_algo=taken.hash_algorithm,
        os_hash_value=taken.hash_value,
    )


async def _read(store: Store, key: str, image_id: str) -> Reader:
    try:
        return await store.read(key)
    except KeyMissing:
        raise DataNotFound(image_id) from None


def _changes(run: Run, material: Material) -> dict[str, Any]:
    properties = dict(material.properties)
    original = run.notes.get("original")
    if original is not None:
        came = msgspec.convert(run.notes["arrived"], Material)
        properties |= original_properties(came, material, original["algorithm"], original["value"])
    return {
        "disk_format": material.disk_format,
        "container_format": material.container_format,
        "properties": properties,
    }


def _before(image: Image, changes: dict[str, Any]) -> dict[str, Any]:
    """What the changes replace, in case that the import fails later."""
    brought = list(changes["properties"])
    return {
        "disk_format": image.disk_format,
        "container_format": image.container_format,
        "brought": brought,
        "properties": {
            name: image.properties[name] for name in brought if name in image.properties
        },
    }


def _hold_to(expected: dict[str, str], digests: dict[str, str]) -> None:
    for algorithm, value in expected.items():
        if digests[algorithm] != value:
            INTAKE_REJECTED.at("digest").add()
            raise DigestMismatch(algorithm, value, digests[algorithm])


async def _finish(run: Run) -> None:
    image = await run.image()
    if not image.locations:
        stores = ", ".join(stores_of(run.task))
        reason = image.properties.get(LAST_ERROR) or "every one failed"
        raise StoreFailed(stores, reason)
    was_active = image.status is Status.ACTIVE

    def ended(result: object, look: Look) -> list[Notice]:
        notices, after = run.ended(result, look), look.image(image.id)
        if after is not None and after.status is Status.ACTIVE and not was_active:
            notices.insert(0, image_notice("image.activate", after))
        return notices

    with run.telling(ended):
        await run.registry.catalog.tasks.succeed(
            run.task,
            image.id,
            result={"image_id": image.id},
            message=f"Copied {(image.size or 0) // (1024 * 1024)} MiB",
            now=now(),
            expires_at=expiry(run.registry.settings, now()),
        )
    TASKS_ENDED.at(run.task.type, "success").add()
