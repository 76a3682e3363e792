"""Keys: the names of objects in stores, as the contract allows them."""

from __future__ import annotations

import re
from typing import Final

LENGTH_MAX: Final = 128
FOREIGN_LENGTH_MAX: Final = 4096
"""Of keys that stand for objects of others."""
_KEY = re.compile(r"[a-zA-Z0-9_-][a-zA-Z0-9._-]*", re.ASCII)


def is_key(text: str, length_max: int = LENGTH_MAX) -> bool:
    """True for 1 to 128 characters of `a-z A-Z 0-9 . _ -`, the first of them no dot."""
    return len(text) <= length_max and _KEY.fullmatch(text) is not None


def checked_key(key: str, length_max: int = LENGTH_MAX) -> str:
    """The key itself. Raises ValueError for one that could reach outside the store: keys are made
    by Transom, so a bad one is a fault of the program."""
    if not is_key(key, length_max):
        raise ValueError(
            f"{key!r:.200} is no key; use 1 to {length_max} letters, digits, dots, underscores or dashes, "
            "not starting with a dot"
        )
    return key
