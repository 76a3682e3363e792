"""Keys: the names of objects in stores, as the contract allows them."""

from __future__ import annotations

import re

_KEY = re.compile(r"[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,127}", re.ASCII)


def is_key(text: str) -> bool:
    """True for 1 to 128 characters of `a-z A-Z 0-9 . _ -`, the first of them no dot."""
    return _KEY.fullmatch(text) is not None


def checked_key(key: str) -> str:
    """The key itself. Raises ValueError for one that could reach outside the store: keys are made
    by Transom, so a bad one is a fault of the program."""
    if not is_key(key):
        raise ValueError(
            f"{key!r:.200} is no key; use 1 to 128 letters, digits, dots, underscores or dashes, "
            "not starting with a dot"
        )
    return key
