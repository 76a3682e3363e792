"""What an examination is asked for, and what it finds."""

from __future__ import annotations

from typing import Literal

import msgspec


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What an examination is to do."""

    repair: bool = False
    """Mend what can be mended safely."""
    grace_seconds: float
    """Younger orphans are left alone."""
    hashes: bool = False
    """Read all data and compare its digests."""
    hash_seconds: float = 0.0
    """End the reading after so long; 0 = at the end of the data."""
    hash_after: int = 0
    """Begin behind the location with this number."""


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that was found. `says` is one sentence or two: what is wrong and what to do."""

    check: str
    says: str
    level: Literal["problem", "note"] = "problem"
    is_mended: bool = False
    image_id: str = ""
    store: str = ""
    key: str = ""
    number: int = 0
    """Where to go on, in the note that an unfinished check of digests ends with."""

    @property
    def is_open(self) -> bool:
        """True for a problem that is still there."""
        return self.level == "problem" and not self.is_mended
