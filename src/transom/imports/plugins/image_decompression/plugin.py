"""The plugin `image_decompression` (lifecycle §9)."""

from __future__ import annotations

import functools
import os
import zlib
from concurrent.futures import ThreadPoolExecutor

import msgspec
import structlog

from transom.errors import ArchiveTooLarge, BadArchive, ImageTooLarge
from transom.imports.plugin import Material, Workbench
from transom.imports.plugins.image_decompression.archives import Archive, recognized
from transom.imports.plugins.image_decompression.members import Members
from transom.imports.staged import Staged
from transom.settings import Settings
from transom.stores.store import Writer
from transom.stores.threads import run_to_end

_log = structlog.get_logger(__name__)

_SMALL_BYTES = 64 * 1024 * 1024
"""So much may come out of any archive: an empty disk is nearly nothing when it is compressed."""


@functools.cache
def _threads() -> ThreadPoolExecutor:
    """The threads that unpack. Their own, so that uploads do not queue behind them."""
    return ThreadPoolExecutor(max(2, os.cpu_count() or 2), thread_name_prefix="unpack")


class ImageDecompression:
    """Unpacks an archive in the staging store; leaves alone what is none, and images whose
    `container_format` is `compressed`."""

    name = "image_decompression"

    def __init__(self, settings: Settings, target: str) -> None:
        """Reads the limits; the target is not its business."""
        del target
        self._ratio_max = settings.imports.decompression_ratio_max
        self._size_bytes_max = settings.limits.image_size_bytes_max

    async def run(self, bench: Workbench, material: Material) -> Material:
        """The Material with what was in the archive. Raises BadArchive, ArchiveTooLarge,
        ImageTooLarge, and the errors of the store."""
        if material.container_format == "compressed":
            return material
        staged = Staged(bench.registry.stores.staging, material.key, material.size_bytes)
        archive = await recognized(staged)
        if archive is None:
            return material
        meter = _Meter(archive, material.size_bytes, self._ratio_max, self._size_bytes_max)
        meter.check(archive.at_least_bytes)
        if not meter.allows(archive.claimed_bytes):
            # Too large, or damaged: either way nothing of it is worth writing.
            await _unpack(bench, staged, archive, meter, None)
            meter.check(archive.claimed_bytes)
        writer = await bench.writer(size_hint=archive.size_bytes)
        async with writer:
            await _unpack(bench, staged, archive, meter, writer)
            stored = await writer.commit()
        _log.info(
            "import.unpacked",
            image_id=bench.image.id,
            kind=archive.kind.name,
            packed_bytes=material.size_bytes,
            size_bytes=stored.size_bytes,
        )
        return msgspec.structs.replace(material, key=stored.key, size_bytes=stored.size_bytes)


async def _unpack(
    bench: Workbench, staged: Staged, archive: Archive, meter: _Meter, writer: Writer | None
) -> None:
    """Unpack all of it, into the writer if there is one."""
    members = Members(archive.kind, is_single=archive.is_single)
    done_bytes = archive.begin
    stream = staged.stream(archive.begin, archive.end - archive.begin)
    try:
        async for chunk in stream:
            members.feed(chunk)
            while not members.is_hungry:
                piece = await run_to_end(_threads(), _step, members, meter)
                if piece and writer is not None:
                    await writer.write(piece)
            done_bytes += len(chunk)
            bench.report("unpacking", done_bytes, staged.size_bytes)
    finally:
        await stream.aclose()
    members.finish()
    meter.finish()


def _step(members: Members, meter: _Meter) -> bytes:
    piece = members.step()
    meter.count(piece)
    return piece


class _Meter:
    """Counts what comes out, holds it to the limits, and to what the archive says of it."""

    def __init__(
        self, archive: Archive, packed_bytes: int, ratio_max: int, size_bytes_max: int
    ) -> None:
        """Limits of 0 are none."""
        self._archive = archive
        self._ratio_max = ratio_max
        self._size_bytes_max = size_bytes_max
        self._packed_bytes = packed_bytes
        self._size_bytes = 0
        self._crc = 0

    def check(self, size_bytes: int) -> None:
        """Raise unless so much may come out."""
        if self._size_bytes_max and size_bytes > self._size_bytes_max:
            raise ImageTooLarge(self._size_bytes_max)
        if self._ratio_max and size_bytes > max(_SMALL_BYTES, self._ratio_max * self._packed_bytes):
            raise ArchiveTooLarge(self._archive.kind.name, self._ratio_max)

    def allows(self, size_bytes: int) -> bool:
        """True if so much may come out."""
        try:
            self.check(size_bytes)
        except (ImageTooLarge, ArchiveTooLarge):
            return False
        return True

    def count(self, piece: bytes) -> None:
        """Take note of the next piece, before it is written."""
        self._size_bytes += len(piece)
        self.check(self._size_bytes)
        told = self._archive.size_bytes
        if told is not None and self._size_bytes > told:
            raise BadArchive(self._archive.kind.name, "it holds more than it says")
        if self._archive.crc is not None:
            self._crc = zlib.crc32(piece, self._crc)

    def finish(self) -> None:
        """Nothing more comes out."""
        told = self._archive.size_bytes
        if told is not None and self._size_bytes != told:
            raise BadArchive(self._archive.kind.name, "it holds less than it says")
        if self._archive.crc is not None and self._crc != self._archive.crc:
            raise BadArchive(
                self._archive.kind.name,
                "its data is damaged; compare its hash with that of the original",
            )
