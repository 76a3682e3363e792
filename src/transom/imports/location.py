"""Give an image the place that its data is in already, and hash the data there (API §16.1).

The location becomes the image's only when the image becomes active with it, so an image whose data
turns out to be wrong never had it: nobody reads what was not checked, and nothing is to be taken
back (decision 87).
"""

from __future__ import annotations

import asyncio
import re
import uuid
from typing import Any

import msgspec
import structlog

from transom.errors import (
    CopyDiffers,
    DataNotFound,
    DigestMismatch,
    FormatsUnset,
    InvalidBody,
    LocationRefused,
    LocationsClosed,
    StatusConflict,
    TaskLost,
    TransomError,
)
from transom.events.payloads import image_notice, task_notice
from transom.images.attributes import checked_text
from transom.images.change import refuse_anonymous
from transom.images.clock import now
from transom.images.download import pieces
from transom.images.intake import measure
from transom.images.relocate import URL_LENGTH_MAX, is_digest
from transom.imports import expiry
from transom.imports.run import HASHING, Run
from transom.metrics.table import INTAKE_REJECTED, TASKS_ENDED
from transom.model.actor import Actor
from transom.model.image import Image, Location, Status
from transom.model.task import Facts, Task, TaskType
from transom.registry import Registry
from transom.remote.guard import Guard
from transom.settings import Settings
from transom.stores.store import KeyMissing

_log = structlog.get_logger(__name__)
ALGORITHMS = ("sha1", "sha256", "sha512", "md5")
"""What validation_data can be given in."""
PAUSE_SECONDS = 0.5
_WEB = re.compile(r"https?:", re.IGNORECASE)


class LocationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A location as it was asked for, checked for shape."""

    url: str
    algorithm: str | None = None
    value: str | None = None
    body: dict[str, Any]


def parsed_location(body: dict[str, Any]) -> LocationRequest:
    """The request of a body. Raises InvalidBody, InvalidValue."""
    for name in body:
        if name not in ("url", "validation_data"):
            raise InvalidBody(f"The body does not have '{name:.64}'.")
    if "url" not in body:
        raise InvalidBody("The body needs 'url'.")
    url = checked_text("url", body["url"], URL_LENGTH_MAX)
    given = body.get("validation_data", {})
    if not isinstance(given, dict):
        raise InvalidBody("'validation_data' must be an object.")
    for name in given:
        if name not in ("os_hash_algo", "os_hash_value"):
            raise InvalidBody(f"'validation_data' does not have '{name:.64}'.")
    if not given:
        # Clients of Glance send an empty object for none.
        return LocationRequest(url=url, body=body)
    if len(given) != 2:
        raise InvalidBody("'validation_data' needs both 'os_hash_algo' and 'os_hash_value'.")
    algorithm, value = given["os_hash_algo"], given["os_hash_value"]
    if algorithm not in ALGORITHMS:
        raise InvalidBody(f"'os_hash_algo' must be one of {', '.join(ALGORITHMS)}.")
    if not isinstance(value, str) or not is_digest(algorithm, value):
        raise InvalidBody(f"'os_hash_value' must be a {algorithm} in hexadecimal.")
    return LocationRequest(url=url, algorithm=algorithm, value=value, body=body)


async def start_location(
    registry: Registry, actor: Actor, image_id: str, request: LocationRequest, *, request_id: str
) -> Task:
    """The task that gives the image its first location, remembered together with the image's change.

    Raises ImageNotFound, PolicyRefused, LocationsClosed, LocationRefused, UrlRefused,
    StatusConflict, ImageLocked.
    """
    refuse_anonymous(actor)
    image = await registry.catalog.images.get(image_id, seen_by=actor)
    registry.policy.check_image(actor, "add_image_location", image)
    is_service = "service" in actor.roles
    if not (is_service or actor.is_admin or registry.stores.takes_foreign):
        raise LocationsClosed
    if image.status is not Status.QUEUED:
        raise StatusConflict(image_id, "add a location to", image.status)
    await _check_url(registry, request.url, foreign_only=not is_service)
    moment = now()
    task = Task(
        id=str(uuid.uuid4()),
        type=TaskType.LOCATION_IMPORT,
        owner=actor.project_id,
        user_id=actor.user_id,
        request_id=request_id,
        image_id=image_id,
        input={
            "image_id": image_id,
            "loc_url": request.url,
            "validation_data": request.body.get("validation_data", {}),
        },
        created_at=moment,
        updated_at=moment,
        notes={
            "foreign_only": not is_service,
            "algorithm": request.algorithm,
            "value": request.value,
            "hashed_by": request.algorithm or registry.settings.images.hash_algorithm,
        },
    )
    with registry.events.telling(
        lambda taken, _: [
            task_notice("task.create", task),
            image_notice("image.update", taken),
            task_notice("task.run", task),
        ]
    ):
        await registry.catalog.locations.begin(task)
    registry.work_waits.set()
    _log.info("location.started", image_id=image_id, task_id=task.id)
    return task


async def _check_url(registry: Registry, url: str, *, foreign_only: bool) -> None:
    """What can be said of a URL at once. Raises LocationRefused, UrlRefused."""
    if not registry.stores.for_url(url, foreign_only=foreign_only):
        raise LocationRefused(
            "no store here takes locations of its scheme"
            + (" from anybody but services" if foreign_only else "")
        )
    if not _WEB.match(url):
        # One of our own stores: it knows at once whether the object is in it.
        await registry.stores.find_location(url, foreign_only=foreign_only)
        return
    guard = Guard.open(registry.settings)
    target = guard.check(url)
    try:
        await guard.addresses_to_dial(target)
    except OSError as error:
        # Perhaps only now; the task tries it, and tells.
        _log.info("location.not_resolved", reason=str(error))


# --- the task --------------------------------------------------------------------------------


def steps_of(settings: Settings, task: Task) -> list[str]:
    """The steps of the task: data with a digest to check is hashed before the image is active, data
    without one after."""
    if not settings.images.hash_locations:
        return ["look", "take", "finish"]
    if task.notes["value"] is None:
        return ["look", "take", "hash", "tell", "finish"]
    return ["look", "hash", "take", "finish"]


async def perform(run: Run, step: str) -> None:
    """Take one step."""
    match step:
        case "look":
            await _look(run)
        case "hash":
            await _hash(run)
        case "take":
            await _take(run)
        case "tell":
            await _tell(run)
        case "finish":
            await _finish(run)
        case _:
            raise ValueError(f"no step has the name {step}")


async def _look(run: Run) -> None:
    """Find the object and its size."""
    image = await run.image()
    if image.disk_format is None or image.container_format is None:
        raise FormatsUnset(image.id)
    notes = run.notes
    store, entry = await run.registry.stores.find_location(
        run.task.input["loc_url"],
        foreign_only=notes["foreign_only"],
        # What is hashed later, or vouched for, is held to that.
        proves="hash" not in notes["steps"] and notes["value"] is None,
    )
    if entry.size_bytes == 0:
        raise LocationRefused("there are no bytes at its URL")
    await run.keep(store=store.name, key=entry.key, size_bytes=entry.size_bytes)


async def _hash(run: Run) -> None:
    """Digests of the data where it is; again from its beginning when reading fails."""
    tries = run.registry.settings.images.hash_tries
    for attempt in range(1, tries + 1):
        try:
            await _hash_once(run)
        except TaskLost:
            raise
        except TransomError as failure:
            if attempt == tries:
                raise
            _log.info("location.hashed_again", task_id=run.task.id, reason=str(failure))
            await asyncio.sleep(PAUSE_SECONDS * attempt)
        else:
            break
    digests, value = run.notes["digests"], run.notes["value"]
    if value is not None and digests[_algorithm(run)] != value.lower():
        INTAKE_REJECTED.at("digest").add()
        raise DigestMismatch(_algorithm(run), value, digests[_algorithm(run)])


async def _hash_once(run: Run) -> None:
    notes, size_bytes = run.notes, run.notes["size_bytes"]
    try:
        reader = await run.registry.stores.get(notes["store"]).read(notes["key"])
    except KeyMissing:
        raise DataNotFound(run.image_id) from None
    seen_bytes, digests = await measure(
        pieces(reader),
        (_algorithm(run), "md5"),
        progress=lambda done: run.report(HASHING, done, size_bytes),
    )
    if seen_bytes != size_bytes:
        raise CopyDiffers(notes["store"], "size", size_bytes, seen_bytes)
    await run.keep(digests=digests)


async def _take(run: Run) -> None:
    """Make the image active with its location, and with the digests that there are."""
    registry, notes = run.registry, run.notes
    image = await run.image()
    store = registry.stores.get(notes["store"])
    facts = _facts(run)
    if "hash" in notes["steps"] and "digests" not in notes:
        # So clients see that a digest is to come, and which.
        facts = msgspec.structs.replace(facts, os_hash_algo=_algorithm(run))
    allowance = await registry.limits.allowance(image.owner)
    with run.telling(lambda made, _: [image_notice("image.update", made)]):
        await registry.catalog.locations.take(
            run.task,
            image.id,
            Location(store=store.name, key=notes["key"], url=run.task.input["loc_url"]),
            facts,
            is_exclusive=store.features.exclusive,
            limits=allowance.stored,
            now=now(),
        )


async def _tell(run: Run) -> None:
    with run.telling(lambda made, _: [image_notice("image.update", made)]):
        await run.registry.catalog.locations.tell_digests(
            run.task, run.image_id, _facts(run), now=now()
        )


async def _finish(run: Run) -> None:
    registry, ended_at = run.registry, now()
    image: Image = await run.image()
    with run.telling(run.ended):
        await registry.catalog.tasks.succeed(
            run.task,
            image.id,
            result={"image_id": image.id},
            message=f"Location of {run.notes['size_bytes']} bytes added",
            now=ended_at,
            expires_at=expiry(registry.settings, ended_at),
        )
    TASKS_ENDED.at(run.task.type, "success").add()


def _facts(run: Run) -> Facts:
    notes = run.notes
    if "digests" in notes:
        algorithm = _algorithm(run)
        return Facts(
            size=notes["size_bytes"],
            checksum=notes["digests"]["md5"],
            os_hash_algo=algorithm,
            os_hash_value=notes["digests"][algorithm],
        )
    return Facts(
        size=notes["size_bytes"], os_hash_algo=notes["algorithm"], os_hash_value=notes["value"]
    )


def _algorithm(run: Run) -> str:
    algorithm: str = run.notes["hashed_by"]
    return algorithm
