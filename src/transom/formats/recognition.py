"""Recognising formats in a stream, with the inspectors of oslo.utils.

The inspectors judge; this module decides what each is shown and when, for three reasons:

- Their answers depend on how the stream is cut (a VMDK descriptor in many small chunks is not seen,
  the size of a VHDX in one big chunk is not found). Here they get the same pieces whatever the
  chunks are.
- Most are satisfied after 34 KiB. Afterwards nothing is done with a chunk but counting it.
- Where they differ from the rules of Transom (lifecycle §7), those win; decision 0013 lists them.

Importing this module imports oslo.utils, which takes about 0.1 s: import it when it is needed.
"""

from __future__ import annotations

import contextlib

from oslo_utils.imageutils import format_inspector as oslo

from transom.formats.found import Recognized, failed_checks
from transom.formats.vhdx import Vhdx
from transom.formats.vmdk import SparseVmdk, TextVmdk

HEAD_BYTES = 34 * 1024
"""After so many bytes all formats but VMDK and VHDX are decided; ISO needs the most."""


class Recognition:
    """Finds every format that one stream of bytes has."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._is_head_taken = False
        self._size_bytes = 0
        self._simple: list[oslo.FileInspector] = []
        self._long: list[SparseVmdk | TextVmdk | Vhdx] = []

    @property
    def is_satisfied(self) -> bool:
        """True when what follows need only be counted."""
        return self._is_head_taken and all(each.is_satisfied for each in self._long)

    def take(self, chunk: bytes) -> None:
        """Look at the next bytes."""
        self._size_bytes += len(chunk)
        if not self._is_head_taken:
            room = HEAD_BYTES - len(self._head)
            self._head += memoryview(chunk)[:room]
            if len(self._head) < HEAD_BYTES:
                return
            self._take_head()
            chunk = chunk[room:]
        if chunk:
            for each in self._long:
                each.take(chunk)

    def skip(self, size_bytes: int) -> None:
        """Count the next bytes without a look at them, when satisfied."""
        self._size_bytes += size_bytes

    def finish(self) -> list[Recognized]:
        """Every format found; empty means raw. Nothing may be taken afterwards."""
        if not self._is_head_taken:
            self._take_head()
        found = [
            Recognized(each.NAME, self._virtual_size(each), failed_checks(each))
            for each in self._simple
            if each.complete and each.format_match
        ]
        found += [each for long in self._long if (each := long.finish()) is not None]
        return found

    def _take_head(self) -> None:
        self._is_head_taken = True
        head = bytes(self._head)
        self._head.clear()
        for kind in (
            oslo.QcowInspector, oslo.QEDInspector, oslo.VHDInspector, oslo.VDIInspector,
            oslo.ISOInspector, oslo.GPTInspector, oslo.LUKSInspector,
        ):  # fmt: skip
            inspector = kind()
            with contextlib.suppress(oslo.ImageFormatError):
                inspector.eat_chunk(head)
                inspector.finish()
                self._simple.append(inspector)
        self._long = [kind() for kind in (SparseVmdk, TextVmdk, Vhdx) if kind.may_be(head)]
        for each in self._long:
            each.take(head)

    def _virtual_size(self, inspector: oslo.FileInspector) -> int:
        match inspector:
            case oslo.GPTInspector():
                return self._size_bytes
            case oslo.LUKSInspector():
                # The inspector was shown the head alone, so it cannot count.
                payload_offset: int = inspector.header_items["payload_offset"]
                return self._size_bytes - payload_offset * 512
            case _:
                return int(inspector.virtual_size)
