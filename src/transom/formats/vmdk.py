"""VMDK: a sparse file with its descriptor inside, or a descriptor alone.

What begins as a VMDK and cannot be checked (cut off, of an unknown version, with its descriptor
elsewhere) counts as a VMDK that fails the check `descriptor`: QEMU would follow it all the same.
"""

from __future__ import annotations

import re
import struct

from oslo_utils.imageutils import format_inspector as oslo

from transom.formats.found import Recognized, failed_checks

_CHECK = "descriptor"
_HEADER_BYTES = 64
_DESCRIPTOR_BEGIN = 512
_DESCRIPTOR_BYTES_MAX = oslo.VMDKInspector.DESC_MAX_SIZE
_FOOTER_BYTES = 1536
_TEXT_BYTES_MAX = 64 * 1024
"""The longest descriptor alone that is judged; a longer one is unsafe. Text that goes on and on is
searched, not kept."""
_KEYWORD = b"createtype"
_ALLOWED_TYPES = frozenset({"monolithicsparse", "streamoptimized"})


class SparseVmdk:
    """A VMDK with a header, a descriptor, and perhaps a footer that repeats the header."""

    def __init__(self) -> None:
        self._inspector = oslo.VMDKInspector()
        self._front = bytearray()
        self._front_bytes = _DESCRIPTOR_BEGIN
        self._is_shown = False
        self._is_broken = False
        self._tail = b""

    @staticmethod
    def may_be(head: bytes) -> bool:
        """True for a header."""
        return head.startswith(b"KDMV") and len(head) >= _HEADER_BYTES

    @property
    def is_satisfied(self) -> bool:
        """True when the descriptor is there; of the rest only the last bytes matter."""
        return self._is_shown

    def take(self, chunk: bytes) -> None:
        """Look at the next bytes; the first call gets all of the head."""
        if self._is_shown:
            self._tail = (self._tail + chunk[-_FOOTER_BYTES:])[-_FOOTER_BYTES:]
            return
        if not self._front:
            (sectors,) = struct.unpack("<Q", chunk[36:44])
            self._front_bytes += min(sectors * 512, _DESCRIPTOR_BYTES_MAX)
        # Kept until it is whole, because what oslo's inspector sees must not depend on the chunks.
        self._front += chunk
        if len(self._front) >= self._front_bytes:
            self._show_front()

    def finish(self) -> Recognized:
        """The format; it is one whatever comes after its header."""
        if not self._is_shown:
            self._show_front()
        if self._tail:
            self._show(self._tail)
        self._inspector.finish()
        if self._is_broken or not self._inspector.complete or not self._inspector.desc_text:
            return Recognized("vmdk", 0, frozenset({_CHECK}))
        return _judged(self._inspector, int(self._inspector.virtual_size))

    def _show_front(self) -> None:
        self._is_shown = True
        self._show(bytes(self._front))
        self._front.clear()

    def _show(self, data: bytes) -> None:
        try:
            self._inspector.eat_chunk(data)
        except (oslo.ImageFormatError, struct.error):
            self._is_broken = True


class TextVmdk:
    """A descriptor alone, which names the files that hold the disk."""

    def __init__(self) -> None:
        self._text = bytearray()
        self._is_whole = False
        self._is_named = False
        self._size_bytes = 0

    @staticmethod
    def may_be(head: bytes) -> bool:
        """True for all that does not have a header, text or not: QEMU looks for one word in what
        comes before the first zero byte, and minds nothing else."""
        return not SparseVmdk.may_be(head)

    @property
    def is_satisfied(self) -> bool:
        """True when the text has ended, or has become longer than a descriptor can be."""
        return self._is_whole

    def take(self, chunk: bytes) -> None:
        """Look at the next bytes, up to the first zero: QEMU reads the text as a C string."""
        if self._is_whole:
            return
        text, zero, _ = chunk.partition(b"\0")
        text = text[: _DESCRIPTOR_BYTES_MAX - self._size_bytes]
        self._size_bytes += len(text)
        self._is_whole = bool(zero) or self._size_bytes >= _DESCRIPTOR_BYTES_MAX
        overlap = bytes(self._text[1 - len(_KEYWORD) :])
        self._is_named = self._is_named or _KEYWORD in (overlap + text).lower()
        self._text += text
        if len(self._text) > _TEXT_BYTES_MAX:
            del self._text[: 1 - len(_KEYWORD)]

    def finish(self) -> Recognized | None:
        """The format, or None when the text is no descriptor."""
        if not self._is_named:
            return None
        if len(self._text) != self._size_bytes:
            return Recognized("vmdk", 0, frozenset({_CHECK}))
        inspector = oslo.VMDKInspector()
        try:
            inspector.eat_chunk(bytes(self._text.ljust(_HEADER_BYTES, b"\n")))
        except oslo.ImageFormatError:
            return Recognized("vmdk", 0, frozenset({_CHECK}))
        inspector.finish()
        if not inspector.desc_text:
            return Recognized("vmdk", 0, frozenset({_CHECK}))
        return _judged(inspector, 0)


def _judged(inspector: oslo.VMDKInspector, virtual_size_bytes: int) -> Recognized:
    failed = set(failed_checks(inspector, _CHECK))
    if not _is_descriptor_plain(inspector.desc_text or ""):
        failed.add(_CHECK)
    return Recognized("vmdk", virtual_size_bytes, frozenset(failed))


def _is_descriptor_plain(text: str) -> bool:
    """Every `createType` is an allowed one, and every key is one word. QEMU looks for the first
    `createType` in that very spelling, wherever it stands, and takes tabs for spaces; oslo.utils
    looks at the first in any spelling, and for spaces alone."""
    for found in re.finditer(r"createtype(=\"([a-z]*)\")?", text):
        if found[2] not in _ALLOWED_TYPES:
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
