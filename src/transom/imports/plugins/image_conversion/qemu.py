"""What is asked of `qemu-img`, and what its answers mean."""

from __future__ import annotations

import functools
import re
import resource
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import structlog

from transom.errors import ConfigurationError, ConversionFailed
from transom.imports.plugins.image_conversion.process import (
    Confinement,
    Ended,
    run_confined,
    run_confined_now,
)
from transom.settings import Imports

_log = structlog.get_logger(__name__)

PROGRAM = "qemu-img"
DRIVERS = {
    "raw": "raw",
    "qcow2": "qcow2",
    "vmdk": "vmdk",
    "vhdx": "vhdx",
    "vdi": "vdi",
    "vhd": "vpc",
}
"""disk_format → QEMU's name for it, of all formats that are read."""

_CREATION = {"vhdx": "block_size=1048576", "vmdk": "subformat=monolithicSparse"}
"""Small blocks, so that a VHDX does not become much larger than what is in it."""
_MEASURED_AS = {
    "vmdk": ("qcow2", "cluster_size=65536"),
    "vhdx": ("qcow2", "cluster_size=1048576"),
}
"""Formats that qemu-img cannot measure, and one that it can, with blocks of the same size."""
_METADATA_BYTES = 64 * 1024 * 1024
"""What no format needs for itself, beside a 64th of the disk."""
_ASKING_CPU_SECONDS = 30
_ASKING_SECONDS = 120.0
_CHECKED = frozenset({"qcow2", "vmdk", "vhdx"})
"""Formats whose own tables qemu-img can hold against the length of the file."""
_ONLY_LEAKS = 3
"""How `check` ends when the file has room that nothing uses, which harms nobody."""
_PROGRESS = re.compile(rb"\((\d+\.\d+)/100%\)")
_VMDK_TYPES = frozenset({"monolithicSparse", "streamOptimized"})


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One conversion: the same for every question that is asked on the way."""

    image_id: str
    source_format: str
    target_format: str
    folder: Path
    """Holds `source`, perhaps as a link, and will hold `target`; the only place to write."""
    readable: Path
    """The file behind `source`, without links on the way."""
    virtual_size_bytes: int
    """As the header tells, rounded up to sectors of 512 bytes."""

    @property
    def source(self) -> str:
        """The file to read. An absolute path, so that no part of it is taken for a protocol."""
        return str(self.folder / "source")

    @property
    def target(self) -> Path:
        """The file to write."""
        return self.folder / "target"

    def failed(self, reason: str) -> ConversionFailed:
        """The error of this job."""
        return ConversionFailed(self.source_format, self.target_format, reason)


class QemuImg:
    """`qemu-img`, found and tried, with the limits of the settings."""

    def __init__(self, imports: Imports) -> None:
        """Raises ConfigurationError unless it can be run."""
        self._path = _found()
        self._memory_bytes_max = imports.conversion_memory_bytes_max
        self._cpu_seconds_max = imports.conversion_cpu_seconds_max

    async def check(self, job: Job) -> None:
        """Let it look at the source: what it sees must be what our own inspection saw. Raises
        ConversionFailed."""
        facts = msgspec.json.decode(
            await self._ask(job, "info", "-f", DRIVERS[job.source_format], job.source)
        )
        others = {"backing-filename", "full-backing-filename", "encrypted"} & facts.keys()
        data = facts.get("format-specific", {}).get("data", {})
        extents = [extent.get("filename") for extent in data.get("extents", ())]
        if (
            others
            or "data-file" in data
            or any(name != job.source for name in extents)
            or data.get("create-type", "monolithicSparse") not in _VMDK_TYPES
        ):
            raise job.failed("it refers to other files, or is encrypted; send a plain image")
        if facts.get("virtual-size") != job.virtual_size_bytes:
            raise job.failed("its header contradicts itself; make it anew")
        if job.source_format in _CHECKED:
            # Where a file has ended, qemu-img reads zeros and is content.
            await self._ask(job, "check", "-f", DRIVERS[job.source_format], job.source)

    async def required_bytes(self, job: Job) -> int:
        """How large the target will be on the disk at most. Raises ConversionFailed."""
        kind, options = _MEASURED_AS.get(job.target_format, (job.target_format, ""))
        arguments = ["-O", kind, *(("-o", options) if options else ())]
        answer = await self._ask(
            job, "measure", "-f", DRIVERS[job.source_format], *arguments, job.source
        )
        required: int = msgspec.json.decode(answer)["required"]
        return min(required + _METADATA_BYTES // 4, self.size_bytes_max(job))

    def size_bytes_max(self, job: Job) -> int:
        """What the target cannot exceed."""
        if job.target_format == "raw":
            return job.virtual_size_bytes
        return job.virtual_size_bytes + job.virtual_size_bytes // 64 + _METADATA_BYTES

    async def convert(self, job: Job, report: Callable[[float], None]) -> None:
        """Make the target; `report` is called in a thread with the part that is done, 0 to 1.
        Raises ConversionFailed."""

        def hear(piece: bytes) -> None:
            if found := _PROGRESS.findall(piece):
                report(min(float(found[-1]) / 100, 1.0))

        options = _CREATION.get(job.target_format)
        ended = await run_confined(
            [
                self._path, "convert", "-p", "-f", DRIVERS[job.source_format],
                "-O", job.target_format, *(("-o", options) if options else ()),
                job.source, str(job.target),
            ],
            self._confinement(job, self._cpu_seconds_max, None),
            hear,
        )  # fmt: skip
        self._require_success(job, "convert", ended)

    async def _ask(self, job: Job, verb: str, *arguments: str) -> bytes:
        ended = await run_confined(
            [self._path, verb, "--output=json", *arguments],
            self._confinement(job, _ASKING_CPU_SECONDS, _ASKING_SECONDS),
        )
        self._require_success(job, verb, ended)
        return ended.output

    def _confinement(
        self, job: Job, cpu_seconds_max: int, seconds_max: float | None
    ) -> Confinement:
        return Confinement(
            limits=_limits(self._memory_bytes_max, cpu_seconds_max, self.size_bytes_max(job)),
            read=(str(job.readable),),
            write=str(job.folder),
            seconds_max=seconds_max,
        )

    def _require_success(self, job: Job, verb: str, ended: Ended) -> None:
        is_good = ended.code == 0 or (verb == "check" and ended.code == _ONLY_LEAKS)
        if is_good and not ended.is_late:
            return
        _log.warning(
            "import.qemu_img_failed",
            image_id=job.image_id,
            verb=verb,
            code=ended.code,
            reason=ended.errors,
        )
        raise job.failed(_DAMAGED if verb == "check" and ended.code > 0 else _reason(ended))


_DAMAGED = "it is damaged, cut off, or was in use when it was copied; is it complete?"


def _reason(ended: Ended) -> str:
    """A sentence for the user; what qemu-img said names folders, and stays in the log."""
    if ended.is_late or ended.code in (-signal.SIGXCPU, -signal.SIGKILL):
        return "it takes longer than is allowed here; convert it before you import it"
    if ended.code == -signal.SIGXFSZ or "File too large" in ended.errors:
        return "it becomes larger than its header tells; make it anew"
    if "No space left" in ended.errors:
        return "the local disk is full; try again later, or ask an operator to make room"
    if ended.code == -signal.SIGABRT or "Cannot allocate memory" in ended.errors:
        return "it takes more memory than is allowed here; convert it before you import it"
    return "qemu-img cannot read all of it; is it complete, and what disk_format says?"


def _limits(memory_bytes: int, cpu_seconds: int, file_bytes: int) -> dict[str, int]:
    limits = {"AS": memory_bytes, "CPU": cpu_seconds, "FSIZE": file_bytes, "CORE": 0, "NOFILE": 64}
    known = {f"RLIMIT_{name}": value for name, value in limits.items()}
    return {name: value for name, value in known.items() if hasattr(resource, name)}


@functools.cache
def _found() -> str:
    """The program's path, after a look whether it runs confined. Raises ConfigurationError."""
    path = shutil.which(PROGRAM)
    if path is None:
        raise ConfigurationError(
            f"imports.plugins, imports.convert_to: converting images needs {PROGRAM}, which is not "
            "installed; install it (the package is called qemu-utils or qemu-img), or convert to "
            "nothing."
        )
    path = str(Path(path).resolve())
    _tried([path, "--version"])
    return path


def _tried(command: Sequence[str]) -> None:
    confinement = Confinement(
        limits=_limits(2**31, _ASKING_CPU_SECONDS, 0),
        read=(command[0],),
        seconds_max=_ASKING_SECONDS,
    )
    ended = run_confined_now(command, confinement)
    if ended.code != 0:
        raise ConfigurationError(
            f"imports.plugins, imports.convert_to: {PROGRAM} does not run here: "
            f"{ended.errors[-300:] or ended.code}; mend that, or convert to nothing."
        )
