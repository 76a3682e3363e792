"""SQLAlchemy's ORM, which the library of the tasks loads late and in a thread, and which fails while
it is loaded (decision 151)."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from sqlalchemy import inspection

# Which loads all of it: a test that did would put it in place of what stands in for it below.
from sqlalchemy.orm.base import _inspect_mapped_object

import transom.catalog

_CATALOG = Path(transom.catalog.__file__).parent
COMMANDS = ("migrations", "checkup.py", "copying.py", "counters.py")
"""Parts of the catalog that run before there are tasks, or in processes that have none."""


def never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a question by the catalog be an error: SQLAlchemy asks its ORM whatever a value is that is
    no part of SQL, and here this is asked instead."""

    def asked(value: Any) -> Any:
        assert not _is_the_catalog(sys._getframe()), f"SQLAlchemy asks its ORM what {value!r} is"
        return _inspect_mapped_object(value)

    monkeypatch.setitem(inspection._registrars, object, asked)


def _is_the_catalog(frame: FrameType | None) -> bool:
    found = False
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(_CATALOG):
            if path.relative_to(_CATALOG).parts[0] in COMMANDS:
                return False
            found = True
        frame = frame.f_back
    return found
