"""How long the parts of an upload are, and the memory that they wait in."""

from __future__ import annotations

import io
from collections.abc import Callable

from transom.stores.buckets import MIB

PARTS_MAX = 10_000
"""No S3 server takes more parts in one upload."""
OBJECT_BYTES_MAX = 5 * 1024**4
"""No S3 server takes a larger object in parts of 5 GiB and less."""
_EVEN_PARTS = 500
"""So many parts of the configured size, before they grow: 4 GiB of 8 MiB each."""
_HINTED_PARTS = 7_500
"""So many parts for what is hinted at; the others are for a hint that was too small."""
_RUNNING_BYTES_MAX = 64 * MIB
"""While more than this is on its way, each writer of the store has to wait for its own part before it
fills another. One part is always allowed, so neither slow clients nor a server that hangs can stop the
others."""
CROWD_BYTES = 128 * MIB
"""When the first parts of all that is being written would take more, new objects begin with the shortest
parts that servers take."""
_SPARE_BYTES_MAX = 32 * MIB
"""What is kept for the parts to come while nothing is written."""


def part_size(
    number: int, offset: int, *, part_bytes: int, size_bytes_max: int, size_hint: int
) -> int:
    """The length of part `number` (from 1), which begins at `offset`, so that `PARTS_MAX` parts are
    enough: for `size_hint` bytes while the object is not longer, for `size_bytes_max` at last.

    Without a hint parts grow evenly, as the memory for one part has to be paid for by every upload
    that nobody knows the length of.
    """
    if offset < size_hint:
        needed = -(-size_hint // _HINTED_PARTS)
    else:
        grown = max(0, number - _EVEN_PARTS)
        steps = PARTS_MAX - _EVEN_PARTS
        needed = -(-2 * size_bytes_max * grown // (steps * steps))
        if size_hint:
            needed = max(needed, -(-(size_bytes_max - offset) // (PARTS_MAX + 1 - number)))
    return max(part_bytes, -(-needed // MIB) * MIB)


class Buffer(io.BytesIO):
    """The bytes of one part, in memory that is used again; tells of each read, so that an upload
    that has stalled is known from one that is long."""

    def __init__(self) -> None:
        super().__init__()
        self.moved: Callable[[], None] | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes."""
        if self.moved is not None:
            self.moved()
        return super().read(size)


class Memory:
    """The buffers of all writers of a store."""

    def __init__(self) -> None:
        self.running_bytes = 0
        """Length of all parts on their way."""
        self._spare: list[Buffer] = []

    @property
    def is_short(self) -> bool:
        """True while a writer should not fill one part while another is on its way."""
        return self.running_bytes >= _RUNNING_BYTES_MAX

    def take(self) -> Buffer:
        """A buffer to write from its beginning; what was in it before may still follow."""
        return self._spare.pop() if self._spare else Buffer()

    def give_back(self, buffer: Buffer) -> None:
        """Keep a buffer for the next part, unless there are enough."""
        buffer.moved = None
        # What is in it stays: to cut it off would free the memory.
        size_bytes = buffer.seek(0, io.SEEK_END)
        buffer.seek(0)
        if size_bytes * (len(self._spare) + 1) <= _SPARE_BYTES_MAX:
            self._spare.append(buffer)
