"""What a disk image is, by its bytes: recognised as they pass, judged at their end."""

from transom.formats.inspection import TAIL_BYTES, Inspection

__all__ = ["TAIL_BYTES", "Inspection"]
