"""Take in the data of an image (API §9.1). Bytes first, row last."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable

import structlog

from transom.catalog.outbox import Look
from transom.errors import CatalogUnavailable, FormatsMissing, StatusConflict, TransomError
from transom.events.payloads import data_notice, failed_notice, image_notice
from transom.images.change import refuse_anonymous
from transom.images.clock import now
from transom.images.intake import Seal, Taken, take_in
from transom.model.actor import Actor
from transom.model.event import Notice
from transom.model.image import Image, Location, Status
from transom.quotas import Allowance
from transom.registry import Registry
from transom.stores.store import Store, Writer

_log = structlog.get_logger(__name__)

PAUSE_SECONDS = 0.5
PAUSE_SECONDS_MAX = 10.0
"""Longest pause before a catalog that is away is asked again."""
_undoing: set[asyncio.Task[None]] = set()
"""What goes on in the background; nothing else would keep it alive."""


async def upload(
    registry: Registry,
    actor: Actor,
    image_id: str,
    body: AsyncIterator[bytes],
    *,
    store_name: str | None = None,
    size_bytes: int | None = None,
) -> Image:
    """The image, active, after all of `body` is durable in the store and verified.

    `size_bytes` is the announced length. Whatever fails, the client's leaving included, the image
    is queued again and nothing is left behind. Raises ImageNotFound, PolicyRefused, FormatsMissing,
    UnknownStore, StatusConflict, SizeMismatch, IncompleteUpload, ImageTooLarge, QuotaExceeded,
    StoreFull, SignatureInvalid, FormatMismatch, UnsafeImage, ImageDeletedMeanwhile, StoreUnavailable, StoreFailed,
    IdentityUnavailable.
    """
    refuse_anonymous(actor)
    image = await registry.catalog.images.get(image_id, seen_by=actor)
    registry.policy.check_image(actor, "upload_image", image)
    if image.disk_format is None or image.container_format is None:
        raise FormatsMissing
    if image.status is not Status.QUEUED:
        raise StatusConflict(image_id, "upload data to", image.status)
    store = registry.stores.pick(store_name)
    seal = await registry.signatures.verifier_for(
        image.properties, token=actor.token, project_id=actor.project_id
    )
    allowance = await registry.limits.allowance(image.owner)
    key = new_key(image_id)
    writer = store.writer(key, size_hint=size_bytes)
    intake = registry.catalog.images
    backend = {"backend": store.name} if registry.announces_stores else {}
    with registry.events.telling(
        lambda begun, _: [
            image_notice("image.update", begun),
            data_notice("image.prepare", begun, **backend),
        ]
    ):
        beginning = intake.begin_intake(
            image_id,
            kind="saving",
            store=store.name,
            key=key,
            token=writer.token,
            process_id=registry.process_id,
            limit=allowance.uploading,
        )
        image = await begun_intake(registry, store, image_id, key, beginning)
    try:
        async with writer:
            taken = await _take(registry, image, key, writer, body, size_bytes, allowance, seal)
            stored = await writer.commit()
        with registry.events.telling(_uploaded):
            active = await intake.finish_upload(
                image_id,
                location=Location(store=store.name, key=key, url=stored.url),
                size=taken.size_bytes,
                virtual_size=taken.virtual_size_bytes,
                checksum=taken.checksum,
                os_hash_algo=taken.hash_algorithm,
                os_hash_value=taken.hash_value,
                now=now(),
            )
    except BaseException as failure:
        reason = str(failure) or repr(failure)
        _log.info("image.upload_failed", image_id=image_id, reason=reason)
        undoing = undo_intake(registry, store, image_id, key, refused=reason)
        await asyncio.shield(asyncio.ensure_future(undoing))
        raise
    _log.info("image.uploaded", image_id=image_id, store=store.name, size_bytes=taken.size_bytes)
    return active


async def begun_intake(
    registry: Registry, store: Store, image_id: str, key: str, beginning: Awaitable[Image]
) -> Image:
    """What the beginning of an intake gives. Where the catalog does not answer, it may have begun all
    the same: that is undone. Raises what the beginning raises."""
    try:
        return await beginning
    except CatalogUnavailable:
        await undo_intake(registry, store, image_id, key)
        raise


def _uploaded(active: Image, _: Look) -> list[Notice]:
    return [
        data_notice("image.upload", active),
        image_notice("image.activate", active),
        image_notice("image.update", active),
    ]


async def _take(
    registry: Registry,
    image: Image,
    key: str,
    writer: Writer,
    body: AsyncIterator[bytes],
    size_bytes: int | None,
    allowance: Allowance,
    seal: Seal | None,
) -> Taken:
    settings = registry.settings
    return await take_in(
        body,
        writer,
        disk_format=image.disk_format,
        container_format=image.container_format,
        hash_algorithm=settings.images.hash_algorithm,
        verify_formats=settings.images.verify_formats,
        gpt_checks_nonfatal=settings.images.gpt_checks_nonfatal,
        size_bytes_max=settings.limits.image_size_bytes_max or None,
        size_bytes_expected=size_bytes,
        room=await registry.limits.room_for(registry.catalog, image, key, size_bytes, allowance),
        seal=seal,
    )


async def undo_intake(
    registry: Registry, store: Store, image_id: str, key: str, *, refused: str = ""
) -> None:
    """Remove what an intake that failed has written, and queue the image again; tells why an upload
    was refused. While the catalog is away this goes on in the background."""
    try:
        await _undo(registry, store, image_id, key, refused)
    except CatalogUnavailable as away:
        _log.warning("image.undo_delayed", image_id=image_id, reason=str(away))
        later = asyncio.create_task(_undo_later(registry, store, image_id, key, refused))
        _undoing.add(later)
        later.add_done_callback(_undoing.discard)


async def _undo_later(
    registry: Registry, store: Store, image_id: str, key: str, refused: str
) -> None:
    pause = PAUSE_SECONDS
    while True:
        await asyncio.sleep(pause)
        try:
            return await _undo(registry, store, image_id, key, refused)
        except CatalogUnavailable:
            pause = min(2 * pause, PAUSE_SECONDS_MAX)


async def _undo(registry: Registry, store: Store, image_id: str, key: str, refused: str) -> None:
    catalog = registry.catalog
    told = [failed_notice(image_id, refused)] if refused else []
    # What failed may only be the answer of the catalog: then the data is the image's by now.
    is_mine = await catalog.intakes.disown(image_id, key)
    if not is_mine and await catalog.inventory.known(store.name, [key]):
        _log.warning("image.finished_after_all", image_id=image_id, store=store.name)
        return
    # The object goes before the row that remembers it: a crash in between leaves the sweep a trace.
    left_in = await removed_or_left(store, image_id, key)
    with registry.events.telling(
        lambda is_undone, look: told + queued_again(image_id, is_undone, look)
    ):
        await catalog.images.abandon_intake(image_id, key, left_in=left_in)


async def removed_or_left(store: Store, image_id: str, key: str) -> str:
    """Remove what an intake wrote; gives the name of the store if it does not let it go now: the
    image need not wait for that."""
    try:
        await store.delete(key)
    except TransomError as error:
        _log.warning("image.data_left", image_id=image_id, store=store.name, reason=str(error))
        return store.name
    return ""


def queued_again(image_id: str, is_undone: object, look: Look) -> list[Notice]:
    """That the image is queued again, if it is: what the undoing of an intake tells."""
    image = look.image(image_id) if is_undone else None
    return [] if image is None else [image_notice("image.update", image)]


def new_key(image_id: str) -> str:
    """A fresh key for the data of an image: readable for people, never used twice."""
    return f"{image_id.lower()}.{secrets.token_hex(4)}"
