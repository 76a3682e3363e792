"""The plugin `image_conversion` (lifecycle §9)."""

from __future__ import annotations

import asyncio
import functools
import os
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import msgspec
import structlog

from transom.errors import ConversionFailed, FormatsMissing, ImageTooLarge, ScratchFull
from transom.formats import TAIL_BYTES, Inspection
from transom.imports.plugin import Material, Workbench
from transom.imports.plugins.image_conversion.qemu import DRIVERS, Job, QemuImg
from transom.imports.staged import Staged
from transom.settings import Settings
from transom.stores.store import Stored
from transom.stores.threads import run_to_end

_log = structlog.get_logger(__name__)

_PIECE_BYTES = 1024 * 1024
_SECTOR_BYTES = 512
_VDI_DATA_OFFSET = 344
_VDI_FACTS_BYTES = 48


@functools.cache
def _threads() -> ThreadPoolExecutor:
    """The threads that inspect, and read and write the scratch folders."""
    return ThreadPoolExecutor(4, thread_name_prefix="convert")


class ImageConversion:
    """Converts a disk in the staging store to one format, and judges it before and after.

    Images in another container than `bare` are left alone, as is an ISO that says so; any other
    image must be exactly what its `disk_format` says.
    """

    name = "image_conversion"

    def __init__(self, settings: Settings, target: str) -> None:
        """Raises ConfigurationError when `qemu-img` is missing or does not run."""
        self._target = target
        self._size_bytes_max = settings.limits.image_size_bytes_max
        self._gpt_checks_nonfatal = settings.images.gpt_checks_nonfatal
        self._qemu = QemuImg(settings.imports)

    async def run(self, bench: Workbench, material: Material) -> Material:
        """The Material in the target format. Raises FormatsMissing, FormatMismatch, UnsafeImage,
        ConversionFailed, ImageTooLarge, ScratchFull, and the errors of the store."""
        if material.container_format != "bare" or not self._target:
            return material
        declared = material.disk_format
        if declared is None:
            raise FormatsMissing
        if declared not in DRIVERS and declared != "iso":
            raise ConversionFailed(
                declared,
                self._target,
                f"only {', '.join(DRIVERS)} can be; set disk_format to what the data is",
            )
        staged = Staged(bench.registry.stores.staging, material.key, material.size_bytes)
        size_bytes = await self._inspected(staged, declared)
        if declared in ("iso", self._target):
            return material
        if declared == "vdi":
            await self._require_blocks(staged)
        if not size_bytes:
            raise ConversionFailed(declared, self._target, "it tells of no disk; is it complete?")
        virtual_size_bytes = -(-size_bytes // _SECTOR_BYTES) * _SECTOR_BYTES
        if self._target == "raw" and 0 < self._size_bytes_max < virtual_size_bytes:
            raise ImageTooLarge(self._size_bytes_max)
        folder = await bench.scratch()
        job = Job(
            image_id=bench.image.id,
            source_format=declared,
            target_format=self._target,
            folder=folder,
            readable=await self._brought(bench, staged, folder),
            virtual_size_bytes=virtual_size_bytes,
        )
        stored = await self._convert(bench, job)
        _log.info(
            "import.converted",
            image_id=job.image_id,
            source=declared,
            target=self._target,
            source_bytes=material.size_bytes,
            size_bytes=stored.size_bytes,
        )
        return msgspec.structs.replace(
            material,
            key=stored.key,
            size_bytes=stored.size_bytes,
            disk_format=self._target,
            container_format="bare",
        )

    async def _convert(self, bench: Workbench, job: Job) -> Stored:
        await self._qemu.check(job)
        required_bytes = await self._qemu.required_bytes(job)
        await run_to_end(_threads(), _require_room, job, required_bytes)
        loop = asyncio.get_running_loop()

        def report(part: float) -> None:
            done_bytes = int(part * job.virtual_size_bytes)
            loop.call_soon_threadsafe(
                bench.report, "converting", done_bytes, job.virtual_size_bytes
            )

        bench.report("converting", 0, job.virtual_size_bytes)
        await self._qemu.convert(job, report)
        return await self._store(bench, job)

    async def _store(self, bench: Workbench, job: Job) -> Stored:
        """Bring the target into the staging store, judged like anything that comes in."""
        file = await run_to_end(_threads(), _opened, job.target)
        try:
            total_bytes = os.fstat(file.fileno()).st_size
            if 0 < self._size_bytes_max < total_bytes:
                raise ImageTooLarge(self._size_bytes_max)
            inspection = self._inspection(job.target_format)
            writer = await bench.writer(size_hint=total_bytes)
            async with writer:
                while piece := await run_to_end(_threads(), _piece, file, inspection):
                    await writer.write(piece)
                    bench.report("saving", writer.offset, total_bytes)
                if inspection.verdict() != job.virtual_size_bytes:
                    raise job.failed("its size changed on the way; make it anew")
                return await writer.commit()
        finally:
            await run_to_end(_threads(), file.close)

    async def _inspected(self, staged: Staged, declared: str) -> int | None:
        """The virtual size in bytes. Reads no more than the inspection looks at."""
        inspection = self._inspection(declared)
        done_bytes = 0
        stream = staged.stream(0, staged.size_bytes)
        try:
            async for piece in stream:
                await run_to_end(_threads(), inspection.take, piece)
                done_bytes += len(piece)
                if inspection.is_satisfied:
                    break
        finally:
            await stream.aclose()
        tail_bytes = min(TAIL_BYTES, staged.size_bytes - done_bytes)
        inspection.skip(staged.size_bytes - done_bytes - tail_bytes)
        inspection.take(await staged.read(staged.size_bytes - tail_bytes, tail_bytes))
        return inspection.verdict()

    async def _require_blocks(self, staged: Staged) -> None:
        """Raise ConversionFailed unless all blocks that a VDI says it has are there: nobody else
        looks (VdiHeader in block/vdi.c of QEMU)."""
        begin, block_bytes, blocks = struct.unpack(
            "<I28xI8xI", await staged.read(_VDI_DATA_OFFSET, _VDI_FACTS_BYTES)
        )
        if begin + block_bytes * blocks > staged.size_bytes:
            raise ConversionFailed("vdi", self._target, "it ends too early; is it complete?")

    def _inspection(self, disk_format: str) -> Inspection:
        return Inspection(
            disk_format, "bare", gpt_checks_nonfatal=self._gpt_checks_nonfatal, is_exact=True
        )

    async def _brought(self, bench: Workbench, staged: Staged, folder: Path) -> Path:
        """The local file to read from, under the name `source` in the folder: nothing else is there
        for a relative name to lead to."""
        source = folder / "source"
        path = staged.local_path()
        if path is not None:
            return await run_to_end(_threads(), _linked, source, path)
        free_bytes = await run_to_end(_threads(), _free_bytes, folder)
        if free_bytes < staged.size_bytes:
            raise ScratchFull(staged.size_bytes, free_bytes)
        file = await run_to_end(_threads(), _created, source)
        stream = staged.stream(0, staged.size_bytes)
        try:
            done_bytes = 0
            async for piece in stream:
                await run_to_end(_threads(), file.write, piece)
                done_bytes += len(piece)
                bench.report("fetching", done_bytes, staged.size_bytes)
        finally:
            await stream.aclose()
            await run_to_end(_threads(), file.close)
        return source.resolve()


# --- in threads ---


def _linked(source: Path, path: Path) -> Path:
    found = path.resolve(strict=True)
    source.symlink_to(found)
    return found


def _opened(path: Path) -> BinaryIO:
    return path.open("rb", buffering=0)


def _created(path: Path) -> BinaryIO:
    return path.open("xb")


def _piece(file: BinaryIO, inspection: Inspection) -> bytes:
    piece = file.read(_PIECE_BYTES)
    inspection.take(piece)
    return piece


def _free_bytes(folder: Path) -> int:
    facts = os.statvfs(folder)
    return facts.f_bavail * facts.f_frsize


def _require_room(job: Job, required_bytes: int) -> None:
    """Raise ScratchFull unless the target fits, twice where the staging store is on the same disk:
    in there it is written out whole."""
    is_shared = os.stat(job.folder).st_dev == os.stat(job.readable).st_dev  # noqa: PTH116
    needed_bytes = required_bytes * (2 if is_shared else 1)
    free_bytes = _free_bytes(job.folder)
    if free_bytes < needed_bytes:
        raise ScratchFull(needed_bytes, free_bytes)
