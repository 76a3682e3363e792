"""One image's inspection: bytes in, verdict out (lifecycle §7)."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import structlog

from transom.errors import FormatMismatch, UnsafeImage

if TYPE_CHECKING:
    from transom.formats.found import Recognized
    from transom.formats.recognition import Recognition

_log = structlog.get_logger(__name__)

INSPECTABLE = frozenset({"raw", "qcow2", "vhd", "vhdx", "vmdk", "vdi", "qed", "iso", "gpt", "luks"})
"""Formats that can be recognised (lifecycle §7.1)."""

TAIL_BYTES = 1536
"""The end of the data that is looked at in any case."""
_VIRTUAL_SIZE_MAX = 2**63 - 1
"""What the catalog can hold, and more than any hypervisor takes."""
_TOLERANT_OF_MBR = frozenset({"aki", "ari"})
"""Kernels and ramdisks may carry an MBR that is none (lifecycle §7.1)."""


class Inspection:
    """Looks at the bytes of one image as they pass. Calls must not overlap.

    Nothing is looked at unless `container_format` is `bare` and `disk_format` is known: other
    containers hide what is in them, and staged data may come before its formats.
    """

    def __init__(
        self,
        disk_format: str | None,
        container_format: str | None,
        *,
        verify: bool = True,
        gpt_checks_nonfatal: Collection[str] = (),
        is_exact: bool = False,
    ) -> None:
        """With `verify` off, data of another format than declared is accepted; unsafe data never
        is. `gpt_checks_nonfatal` names safety checks of GPT disks that only warn: `mbr`.
        `is_exact` is for who goes on to read the disk: whatever `verify` says, data of a known
        format is not raw (but a partition table is no format), and only raw data is raw."""
        self._disk_format = disk_format
        self._is_exact = is_exact
        self._verify = verify
        self._gpt_checks_nonfatal = frozenset(gpt_checks_nonfatal)
        self._is_looking = container_format == "bare" and disk_format is not None
        self._recognition: Recognition | None = None
        self._size_bytes = 0

    @property
    def is_satisfied(self) -> bool:
        """True when the bytes to come need only be counted (and at most their last 1536 kept), so
        that `take` costs nothing worth a thread."""
        if not self._is_looking:
            return True
        return self._recognition is not None and self._recognition.is_satisfied

    def take(self, chunk: bytes) -> None:
        """Look at the next bytes. The first call imports the inspectors (about 0.1 s, once)."""
        self._size_bytes += len(chunk)
        if not self._is_looking or not chunk:
            return
        if self._recognition is None:
            # Imported here, because oslo.utils would double the time that Transom takes to start.
            from transom.formats.recognition import Recognition

            self._recognition = Recognition()
        self._recognition.take(chunk)

    def skip(self, size_bytes: int) -> None:
        """Count the next bytes without a look at them. Only while satisfied, and only if at least
        TAIL_BYTES are taken afterwards."""
        self._size_bytes += size_bytes
        if self._recognition is not None:
            self._recognition.skip(size_bytes)

    def verdict(self) -> int | None:
        """The virtual size in bytes, or None when there is none to tell; call it after the last
        byte, once. Raises UnsafeImage, FormatMismatch."""
        if self._recognition is None:
            return None
        found = self._recognition.finish()
        if {each.name for each in found} == {"iso", "gpt"}:
            # A disc that boots from a stick carries a partition table too.
            found = [each for each in found if each.name == "iso"]
        for each in found:
            self._check_safety(each)
        if not found:
            return self._unrecognized()
        [*others, first] = found
        if not others and first.name == self._disk_format:
            return _known(first.virtual_size_bytes)
        if (
            not others
            and self._disk_format == "raw"
            and (first.name == "gpt" or not self._is_exact)
        ):
            return self._size_bytes
        return self._mismatch("+".join(each.name for each in found))

    def _unrecognized(self) -> int | None:
        if self._disk_format == "raw":
            return self._size_bytes
        if self._is_exact or self._disk_format in INSPECTABLE:
            return self._mismatch("raw")
        return None

    def _mismatch(self, detected: str) -> int | None:
        declared = self._disk_format or ""
        if self._verify or self._is_exact:
            raise FormatMismatch(declared, detected)
        _log.warning("format.mismatch_accepted", declared=declared, detected=detected)
        return None

    def _check_safety(self, found: Recognized) -> None:
        failed = set(found.failed_checks)
        if found.name == "gpt":
            failed -= self._gpt_checks_nonfatal
        if self._disk_format in _TOLERANT_OF_MBR:
            failed.discard("mbr")
        if failed:
            raise UnsafeImage(found.name, ", ".join(sorted(failed)))
        if found.failed_checks:
            _log.warning(
                "format.checks_failed", detected=found.name, checks=sorted(found.failed_checks)
            )


def _known(size_bytes: int) -> int | None:
    return size_bytes if 0 < size_bytes <= _VIRTUAL_SIZE_MAX else None
