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
import re
import struct
from typing import NamedTuple

from oslo_utils.imageutils import format_inspector as oslo

KIB = 1024
HEAD_BYTES = 34 * KIB
"""After so many bytes all formats but VMDK and VHDX are decided; ISO needs the most."""

_VHDX_PIECE_BYTES = 64 * KIB
_TEXT_BYTES = 512
_ALLOWED_VMDK_TYPES = frozenset({"monolithicsparse", "streamoptimized"})


class Recognized(NamedTuple):
    """One format that the data has."""

    name: str
    virtual_size_bytes: int
    """0 = the header does not tell."""
    failed_checks: frozenset[str]


class Recognition:
    """Finds every format that one stream of bytes has."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._is_head_taken = False
        self._size_bytes = 0
        self._simple: list[oslo.FileInspector] = []
        self._long: list[Vmdk | Vhdx] = []

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

    def finish(self) -> list[Recognized]:
        """Every format found; empty means raw. Nothing may be taken afterwards."""
        if not self._is_head_taken:
            self._take_head()
        found = [
            Recognized(each.NAME, self._virtual_size(each), _failed_checks(each))
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
        self._long = [kind() for kind in (Vmdk, Vhdx) if kind.may_be(head)]
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
                skipped = min(
                    self._inspector.idle_bytes // _VHDX_PIECE_BYTES, len(view) // _VHDX_PIECE_BYTES
                )
                self._inspector.skip(skipped * _VHDX_PIECE_BYTES)
                view = view[skipped * _VHDX_PIECE_BYTES :]
            room = _VHDX_PIECE_BYTES - len(self._piece)
            self._piece += view[:room]
            view = view[room:]
            if len(self._piece) == _VHDX_PIECE_BYTES:
                self._show()

    def finish(self) -> Recognized | None:
        """The format, or None when the structure is broken or not all there."""
        if self._piece and not self.is_satisfied:
            self._show()
        size_bytes = self._inspector.size_bytes
        if self._is_broken or size_bytes is None:
            return None
        self._inspector.finish()
        return Recognized("vhdx", size_bytes, _failed_checks(self._inspector))

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


class Vmdk:
    """VMDK: a sparse file with its descriptor inside, or a descriptor alone.

    What begins as a VMDK and cannot be checked (cut off, an unknown version, a descriptor elsewhere)
    counts as a VMDK that fails the check `descriptor`, because QEMU would still follow it.
    """

    def __init__(self) -> None:
        self._inspector = oslo.VMDKInspector()
        self._text = bytearray()
        self._is_text = False
        self._is_text_whole = False
        self._is_begun = False
        self._is_broken = False
        self._tail = b""

    @staticmethod
    def may_be(head: bytes) -> bool:
        """True for a sparse header, and for text."""
        is_sparse = head.startswith(b"KDMV") and len(head) >= 64
        return is_sparse or _is_text(head[:_TEXT_BYTES]) or bool(_QEMU_DESCRIPTOR.match(head))

    @property
    def is_satisfied(self) -> bool:
        """True when the descriptor is there; of the rest only the last bytes matter."""
        if self._is_text:
            return self._is_text_whole
        return self._is_begun and (self._is_broken or self._has_descriptor)

    def take(self, chunk: bytes) -> None:
        """Look at the next bytes; the first call gets all of the head."""
        if not self._is_begun:
            self._is_begun = True
            self._is_text = not chunk.startswith(b"KDMV")
        if self._is_text:
            self._take_text(chunk)
        elif self._is_broken:
            return
        elif self._has_descriptor:
            if self._inspector.has_region("footer"):
                self._tail = (self._tail + chunk[-_FOOTER_BYTES:])[-_FOOTER_BYTES:]
        else:
            self._show(chunk)

    def _take_text(self, chunk: bytes) -> None:
        if not self._is_text_whole:
            # Up to the first zero byte, like QEMU, which reads it as a C string.
            text, zero, _ = chunk.partition(b"\0")
            self._text += text[: oslo.VMDKInspector.DESC_MAX_SIZE - len(self._text)]
            self._is_text_whole = bool(zero) or len(self._text) >= oslo.VMDKInspector.DESC_MAX_SIZE

    def finish(self) -> Recognized | None:
        """The format, or None when the text is no descriptor."""
        if self._is_text:
            return self._finish_text()
        if self._tail and not self._is_broken:
            self._show(self._tail)
        self._inspector.finish()
        if self._is_broken or not self._inspector.complete or not self._inspector.desc_text:
            return Recognized("vmdk", 0, frozenset({"descriptor"}))
        return self._recognized(int(self._inspector.virtual_size))

    @property
    def _has_descriptor(self) -> bool:
        return (
            self._inspector.has_region("descriptor")
            and self._inspector.region("descriptor").offset > 0
            and self._inspector.region("descriptor").complete
        )

    def _finish_text(self) -> Recognized | None:
        text = bytes(self._text)
        if b"createtype" not in text.lower():
            return None
        self._show(text.ljust(64, b"\n"))
        self._inspector.finish()
        if self._is_broken or not self._inspector.desc_text:
            return Recognized("vmdk", 0, frozenset({"descriptor"}))
        return self._recognized(0)

    def _show(self, chunk: bytes) -> None:
        try:
            self._inspector.eat_chunk(chunk)
        except (oslo.ImageFormatError, struct.error):
            self._is_broken = True

    def _recognized(self, virtual_size_bytes: int) -> Recognized:
        failed = set(_failed_checks(self._inspector, "descriptor"))
        if not _is_descriptor_plain(self._inspector.desc_text or ""):
            failed.add("descriptor")
        return Recognized("vmdk", virtual_size_bytes, frozenset(failed))


_FOOTER_BYTES = 1536


_QEMU_DESCRIPTOR = re.compile(rb"(#[^\n]*\n| *\r?\n)*version=")
"""How QEMU knows a descriptor: comments and blank lines, then the version."""


def _is_text(head: bytes) -> bool:
    text = head.partition(b"\0")[0]
    try:
        characters = text.decode("ascii")
    except UnicodeDecodeError:
        return False
    return bool(text) and all(each.isprintable() or each.isspace() for each in characters)


def _is_descriptor_plain(text: str) -> bool:
    """Every `createType` is an allowed one, and every key is one word. QEMU looks for the first
    `createType` in that very spelling, wherever it stands, and takes tabs for spaces; oslo.utils
    looks at the first in any spelling, and for spaces alone."""
    for found in re.finditer(r"createtype(=\"([a-z]*)\")?", text):
        if found[2] not in _ALLOWED_VMDK_TYPES:
            return False
    for line in text.split("\n"):
        line = line.strip()
        if not line or line.startswith(("#", "ddb")):
            continue
        key, equals, _ = line.partition("=")
        is_field = bool(equals) and not re.search(r"\s", key)
        if not is_field and not line.startswith(("rw ", "rdonly ", "noaccess ")):
            return False
    return True


def _failed_checks(inspector: oslo.FileInspector, unjudged: str = "structure") -> frozenset[str]:
    """Names of the checks that fail; `unjudged` when the inspector could not even begin."""
    try:
        inspector.safety_check()
    except oslo.SafetyCheckFailed as failed:
        return frozenset(failed.failures)
    except oslo.ImageFormatError:
        return frozenset({unjudged})
    return frozenset()
