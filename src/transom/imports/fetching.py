"""Data from URLs into the staging store, across broken connections and dead processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
import structlog

from transom.errors import InvalidValue, SourceChanged
from transom.images.intake import receive
from transom.imports.onward import Flushing
from transom.imports.plugin import Material
from transom.imports.run import PASSING, Run
from transom.remote.checksums import digest_of
from transom.remote.fetch import Download, open_download
from transom.remote.guard import Guard
from transom.stores.store import KeyMissing, Writer

_log = structlog.get_logger(__name__)

SLOT = "fetch"
PHASE = "downloading"
STARTS_MAX = 4
"""How often a fetch begins anew because its source has changed."""


async def fetch_urls(
    run: Run,
    urls: Sequence[str],
    *,
    guard: Guard | None = None,
    checksums_url: str | None = None,
    headers: dict[str, str] | None = None,
) -> None:
    """The data of the first URL that gives it whole becomes the run's material.

    What an earlier attempt made durable is not fetched again, if the source still has the same
    data. Raises FetchFailed, UrlRefused, SourceChanged, ImageTooLarge, QuotaExceeded, StoreFull, and
    what else the staging store raises.
    """
    if run.material is not None:
        return
    guard = guard or Guard.open(run.registry.settings)
    if checksums_url is not None:
        await _expect(run, guard, checksums_url, urls[0])
    for start in range(STARTS_MAX):
        try:
            await _fetch(run, guard, urls, headers)
        except SourceChanged as changed:
            await run.discard(SLOT, run.staging)
            if start == STARTS_MAX - 1:
                raise
            _log.info("task.source_changed", task_id=run.task.id, reason=str(changed))
        else:
            return


async def _fetch(
    run: Run, guard: Guard, urls: Sequence[str], headers: dict[str, str] | None
) -> None:
    if await _is_complete(run):
        await _use(run)
        return
    writer = await run.writer(SLOT, run.staging)
    async with writer:
        try:
            slot = run.slot(SLOT) or {}
            if slot.get("size_bytes") != writer.offset:
                await _receive(run, guard, urls, headers, writer, slot)
            await writer.commit()
        except BaseException as failure:
            if not isinstance(failure, Exception) or isinstance(failure, PASSING):
                await writer.detach()
            raise
    await _use(run)


async def _receive(
    run: Run,
    guard: Guard,
    urls: Sequence[str],
    headers: dict[str, str] | None,
    writer: Writer,
    slot: dict[str, Any],
) -> None:
    size_bytes_max = run.registry.limits.image_size_bytes_max
    async with open_download(
        guard,
        urls,
        offset=writer.offset,
        validator=slot.get("validator"),
        size_bytes_max=size_bytes_max,
        headers=headers,
    ) as download:
        _hold_to(download, writer)
        await _have_room(run, download.size_bytes)
        if slot.get("validator") != download.validator:
            slot["validator"] = download.validator
            await run.keep()
        slot["size_bytes"] = await receive(
            aiter(download),
            Flushing(writer),
            size_bytes_max=size_bytes_max,
            size_bytes_expected=download.size_bytes,
            size_bytes_before=writer.offset,
            progress=lambda done: run.report(PHASE, done, download.size_bytes),
        )
    await run.keep()


def _hold_to(download: Download, writer: Writer) -> None:
    """Raise SourceChanged when the source cannot go on from where the writer stands."""
    if download.offset != writer.offset:
        raise SourceChanged


async def _have_room(run: Run, size_bytes: int | None) -> None:
    """Raise QuotaExceeded before data is fetched that its project has no room for."""
    image = await run.image()
    allowance = await run.registry.limits.allowance(image.owner)
    if image.owner is not None and allowance.staged:
        await run.registry.catalog.tasks.refuse_more(image.owner, size_bytes or 0, allowance.staged)


async def _is_complete(run: Run) -> bool:
    """True when an earlier attempt completed the object and did not live to say so."""
    slot = run.slot(SLOT)
    if slot is None or "size_bytes" not in slot:
        return False
    try:
        entry = await run.staging.stat(slot["key"])
    except KeyMissing:
        return False
    return bool(entry.size_bytes == slot["size_bytes"])


async def _use(run: Run) -> None:
    slot, image = run.slot(SLOT) or {}, await run.image()
    await run.keep(
        material=msgspec.to_builtins(
            Material(
                key=slot["key"],
                size_bytes=slot["size_bytes"],
                disk_format=image.disk_format,
                container_format=image.container_format,
                properties={},
            )
        )
    )


async def _expect(run: Run, guard: Guard, checksums_url: str, url: str) -> None:
    """Take the digest that a checksum file names for the file of a URL."""
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    found = await digest_of(guard, checksums_url, name)
    if found is None:
        raise InvalidValue(
            "checksums_uri", f"the file there names no digest of '{name}'; correct the URL"
        )
    algorithm, value = found
    await run.keep(expected={**run.notes.get("expected", {}), algorithm: value})
