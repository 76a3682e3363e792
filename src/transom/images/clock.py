"""The present moment, in one place."""

from __future__ import annotations

import datetime as dt


def now() -> dt.datetime:
    """The present as an aware UTC datetime."""
    return dt.datetime.now(dt.UTC)
