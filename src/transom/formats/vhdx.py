"""VHDX: found by its name at the beginning, measured by two tables further on."""

from __future__ import annotations

import struct

from oslo_utils.imageutils import format_inspector as oslo

from transom.formats.found import Recognized, failed_checks

_PIECE_BYTES = 64 * 1024
"""The tables are looked for in pieces of this size: in one large piece oslo's inspector would pass
over the second before it has read the first."""


class Vhdx:
    """VHDX: its virtual size lies behind two tables, anywhere in the file."""

    def __init__(self) -> None:
        self._inspector = _VhdxInspector()
        self._piece = bytearray()
        self._is_broken = False

    @staticmethod
    def may_be(head: bytes) -> bool:
        """True when the file says that it is one."""
        return head.startswith(b"vhdxfile")

    @property
    def is_satisfied(self) -> bool:
        """True when the size is found, or can no longer be."""
        return self._is_broken or self._inspector.size_bytes is not None

    def take(self, chunk: bytes) -> None:
        """Show the inspector the parts that it waits for, in pieces of 64 KiB."""
        view = memoryview(chunk)
        while view and not self.is_satisfied:
            if not self._piece:
                skipped = min(self._inspector.idle_bytes // _PIECE_BYTES, len(view) // _PIECE_BYTES)
                self._inspector.skip(skipped * _PIECE_BYTES)
                view = view[skipped * _PIECE_BYTES :]
            room = _PIECE_BYTES - len(self._piece)
            self._piece += view[:room]
            view = view[room:]
            if len(self._piece) == _PIECE_BYTES:
                self._show()

    def finish(self) -> Recognized | None:
        """The format, or None when the structure is broken or not all there."""
        if self._piece and not self.is_satisfied:
            self._show()
        size_bytes = self._inspector.size_bytes
        if self._is_broken or size_bytes is None:
            return None
        self._inspector.finish()
        return Recognized("vhdx", size_bytes, failed_checks(self._inspector))

    def _show(self) -> None:
        piece = bytes(self._piece)
        self._piece.clear()
        try:
            self._inspector.eat_chunk(piece)
        except (oslo.ImageFormatError, struct.error):
            self._is_broken = True


class _VhdxInspector(oslo.VHDXInspector):
    """oslo's inspector, which may skip what it does not wait for, and gives up when it can."""

    _piece_begin = 0

    @property
    def size_bytes(self) -> int | None:
        """The virtual size, when it has been seen."""
        if not self.has_region("vds") or not self.region("vds").complete:
            return None
        (size_bytes,) = struct.unpack("<Q", self.region("vds").data)
        return int(size_bytes)

    @property
    def idle_bytes(self) -> int:
        """How many of the next bytes it does not need."""
        offsets = [
            self.region(name).offset
            for name in ("ident", "header", "metadata", "vds")
            if self.has_region(name) and not self.region(name).complete
        ]
        return max(0, min(offsets, default=0) - self._total_count)

    def skip(self, size_bytes: int) -> None:
        """Count bytes without looking at them."""
        self._total_count += size_bytes

    def eat_chunk(self, chunk: bytes) -> None:
        """Look at the next bytes."""
        self._piece_begin = self._total_count
        super().eat_chunk(chunk)

    def _find_meta_region(self) -> oslo.CaptureRegion:
        region = super()._find_meta_region()
        if region is None or region.offset < self._piece_begin:
            raise oslo.ImageFormatError("no metadata region ahead")
        return region

    def _find_meta_entry(self, desired_guid: str) -> oslo.CaptureRegion | None:
        region = super()._find_meta_entry(desired_guid)
        table = self.region("metadata").data
        if region is None and len(table) >= 32:
            (count,) = struct.unpack("<H", table[10:12])
            if count >= 2048 or len(table) >= 32 + count * 32:
                raise oslo.ImageFormatError("no virtual disk size in the metadata")
        if region is not None and (region.length != 8 or region.offset < self._piece_begin):
            raise oslo.ImageFormatError("no virtual disk size ahead")
        return region
