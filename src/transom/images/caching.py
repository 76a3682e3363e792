"""Read images through the cache of this node, and look after it (API §19, lifecycle §15).

Whoever may read an image was asked before; here is only the question where its bytes come from. The
folder says what is there, the catalog what it is for: hits, what waits to be fetched, and which nodes
have what. A sweep brings the two together.
"""

from __future__ import annotations

import asyncio
import collections
import socket
from collections.abc import AsyncIterator, Sequence

import structlog

from transom.cache import CacheFolder, Entry
from transom.catalog.caches import Cached
from transom.errors import CacheOff, ImageNotFound, NotActive, TransomError
from transom.images.change import refuse_anonymous
from transom.images.clock import now
from transom.images.download import digest_of, open_data, pieces
from transom.metrics.table import CACHE_BYTES, CACHE_REQUESTS
from transom.model.actor import Actor
from transom.model.image import Image, Status
from transom.registry import Registry
from transom.settings import Settings, host_and_port
from transom.stores.store import Reader
from transom.telemetry import outlived

_log = structlog.get_logger(__name__)
_hits: collections.Counter[str] = collections.Counter()
"""Reads from the cache that the catalog does not know of yet."""


def node_of(settings: Settings) -> str:
    """How other nodes call this one: its URL."""
    server = settings.server
    if server.self_url or server.public_url:
        return (server.self_url or server.public_url).rstrip("/")
    return f"http://{socket.gethostname()}:{host_and_port(server.bind)[1]}"


# --- reading -----------------------------------------------------------------------------------


async def open_through_cache(
    registry: Registry,
    image: Image,
    *,
    offset: int,
    length: int,
    prefer: Sequence[str] = (),
) -> Reader:
    """A Reader of the image's bytes: from the cache if it has them, filling it if all are wanted,
    else from a store. Raises what `open_data` raises."""
    cache = registry.cache
    size_bytes = image.size or 0
    if cache is not None and size_bytes and length:
        path = await cache.find(image.id, size_bytes)
        if path is not None:
            _hits[image.id] += 1
            CACHE_REQUESTS.at("hit").add()
            return _CachedReader(cache.read(path, offset, length))
        is_whole = offset == 0 and length == size_bytes
        is_filling = cache.filling(image.id) is not None
        CACHE_REQUESTS.at("joined" if is_whole and is_filling else "miss").add()
        if is_whole and image.status is Status.ACTIVE:
            filling = await _fill(registry, cache, image, prefer)
            if filling is not None:
                return filling
    return await open_data(registry, image, offset=offset, length=length, prefer=prefer)


async def _fill(
    registry: Registry, cache: CacheFolder, image: Image, prefer: Sequence[str]
) -> Reader | None:
    digest = digest_of(image)
    if digest is None:
        return None
    size_bytes = image.size or 0

    async def source() -> AsyncIterator[bytes]:
        return pieces(await open_data(registry, image, prefer=prefer))

    async def completed() -> None:
        await registry.catalog.caches.put(node_of(registry.settings), image.id, size_bytes, now())

    filling = await cache.fill(image.id, size_bytes, digest, source, completed)
    return None if filling is None else _CachedReader(cache.read(filling, 0, size_bytes))


class _CachedReader:
    """A Reader over pieces from the cache."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces

    async def close(self) -> None:
        """End the pieces, read or not."""
        await self._pieces.aclose()  # type: ignore[attr-defined]


# --- management --------------------------------------------------------------------------------


async def list_cached(
    registry: Registry, actor: Actor
) -> tuple[list[tuple[Cached, Entry]], list[str]]:
    """What this node has, with its files, and the ids of what it waits for. Raises PolicyRefused,
    CacheOff."""
    registry.policy.check(actor, "cache_list", {})
    cache = _switched_on(registry)
    await _tell_hits(registry)
    files = {entry.image_id: entry for entry in await cache.entries()}
    rows = await registry.catalog.caches.of_node(node_of(registry.settings))
    queued = [row.image_id for row in rows if row.is_queued]
    cached = [(row, files[row.image_id]) for row in rows if row.image_id in files]
    return [pair for pair in cached if not pair[0].is_queued], queued


async def queue_image(registry: Registry, actor: Actor, image_id: str) -> None:
    """Have this node fetch an image into its cache. Raises ImageNotFound, PolicyRefused, CacheOff,
    NotActive."""
    image = await _image(registry, actor, image_id, "cache_image")
    _switched_on(registry)
    if image.status is not Status.ACTIVE:
        raise NotActive(image_id, image.status)
    await registry.catalog.caches.queue(node_of(registry.settings), image_id, now())
    registry.cache_waits.set()


async def drop_image(registry: Registry, actor: Actor, image_id: str) -> None:
    """Drop an image from this node's cache and its queue. Raises ImageNotFound, PolicyRefused,
    CacheOff."""
    await _image(registry, actor, image_id, "cache_delete")
    cache = _switched_on(registry)
    await cache.remove(image_id)
    await registry.catalog.caches.forget(node_of(registry.settings), [image_id])


async def clear_cache(registry: Registry, actor: Actor, *, cached: bool, queued: bool) -> None:
    """Drop everything that this node has, or waits for. Raises PolicyRefused, CacheOff."""
    refuse_anonymous(actor)
    registry.policy.check(actor, "cache_delete", {})
    cache = _switched_on(registry)
    node = node_of(registry.settings)
    rows = await registry.catalog.caches.of_node(node)
    going = [row.image_id for row in rows if (queued if row.is_queued else cached)]
    await registry.catalog.caches.forget(node, going)
    if cached:
        for entry in await cache.entries():
            await cache.remove(entry.image_id)


async def clean_cache(registry: Registry, actor: Actor) -> None:
    """Drop what is left of fillings that ended early. Raises PolicyRefused, CacheOff."""
    refuse_anonymous(actor)
    registry.policy.check(actor, "cache_clean", {})
    await _switched_on(registry).clean()


async def prune_cache(registry: Registry, actor: Actor) -> tuple[int, int]:
    """Drop copies, those used longest ago first, until the cache has its size; gives how many, and
    how many bytes. Raises PolicyRefused, CacheOff."""
    refuse_anonymous(actor)
    registry.policy.check(actor, "cache_prune", {})
    pruned = await _switched_on(registry).prune()
    await sweep_cache(registry)
    return pruned


async def nodes_with(registry: Registry, actor: Actor, image_id: str) -> list[str]:
    """URLs of the nodes that have the image in their cache. Raises ImageNotFound, PolicyRefused,
    CacheOff."""
    await _image(registry, actor, image_id, "list_cached_nodes")
    _switched_on(registry)
    return await registry.catalog.caches.nodes_of(image_id)


async def _image(registry: Registry, actor: Actor, image_id: str, rule: str) -> Image:
    refuse_anonymous(actor)
    image = await registry.catalog.images.get(image_id, seen_by=actor)
    registry.policy.check_image(actor, rule, image)
    return image


def _switched_on(registry: Registry) -> CacheFolder:
    if registry.cache is None:
        raise CacheOff
    return registry.cache


# --- in the background -------------------------------------------------------------------------


async def prefetch(registry: Registry) -> None:
    """Fetch what waits, one image after the other."""
    cache = registry.cache
    if cache is None:
        return
    node = node_of(registry.settings)
    for row in await registry.catalog.caches.of_node(node):
        if not row.is_queued:
            continue
        try:
            await _prefetch(registry, cache, row.image_id)
        except TransomError as error:
            _log.warning("cache.not_fetched", image_id=row.image_id, reason=str(error))
            await registry.catalog.caches.forget(node, [row.image_id])


async def _prefetch(registry: Registry, cache: CacheFolder, image_id: str) -> None:
    image = await registry.catalog.images.get(image_id, seen_by=None)
    size_bytes = image.size or 0
    if image.status is not Status.ACTIVE:
        raise NotActive(image_id, image.status)
    if await cache.find(image_id, size_bytes) is not None:
        await registry.catalog.caches.put(node_of(registry.settings), image_id, size_bytes, now())
        return
    reader = await _fill(registry, cache, image, ())
    if reader is not None:
        await reader.close()
        await cache.filled(image_id)
    if await cache.find(image_id, size_bytes) is None:
        raise CacheOff(f"image {image_id} could not be brought into it")


async def sweep_cache(registry: Registry) -> int:
    """Bring folder and catalog together: copies of images that are gone go too, and rows of copies
    that are gone. Gives how many copies went."""
    cache = registry.cache
    if cache is None:
        return 0
    await _tell_hits(registry)
    node = node_of(registry.settings)
    entries = await cache.entries()
    CACHE_BYTES.at().set(sum(entry.size_bytes for entry in entries))
    files = {entry.image_id for entry in entries}
    rows = await registry.catalog.caches.of_node(node)
    known = {row.image_id for row in rows if not row.is_queued}
    removed = 0
    for image_id in files:
        try:
            image = await registry.catalog.images.get(image_id, seen_by=None)
        except ImageNotFound:
            await cache.remove(image_id)
            removed += 1
        else:
            if image_id not in known:
                await registry.catalog.caches.put(node, image_id, image.size or 0, now())
    gone = known - {entry.image_id for entry in await cache.entries()}
    if gone:
        await registry.catalog.caches.forget(node, gone)
    return removed


async def forget_cached(registry: Registry, image_id: str) -> None:
    """The image was deleted: drop its copy here; other nodes drop theirs at their next sweep."""
    if registry.cache is not None:
        await registry.cache.remove(image_id)
        await registry.catalog.caches.forget(node_of(registry.settings), [image_id])


async def _tell_hits(registry: Registry) -> None:
    hits = dict(_hits)
    if hits:
        _hits.clear()
        await registry.catalog.caches.add_hits(node_of(registry.settings), hits)


async def keep_cache(registry: Registry, *, sweep_seconds: float) -> None:
    """Fetch what is asked for as soon as it is, and sweep every so often, for ever."""
    while True:
        with outlived("cache.not_kept"):
            await prefetch(registry)
            await sweep_cache(registry)
        try:
            async with asyncio.timeout(sweep_seconds):
                await registry.cache_waits.wait()
        except TimeoutError:
            continue
        registry.cache_waits.clear()
