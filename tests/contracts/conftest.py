"""What holds while any contract is looked at."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.sql import sqltypes

import transom.catalog

_CATALOG = Path(transom.catalog.__file__).parent
COMMANDS = ("migrations", "checkup.py", "copying.py", "counters.py")
"""Parts of the catalog that run before there are tasks, or in processes that have none."""


@pytest.fixture(autouse=True)
def _the_orm_is_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is loaded late and in a thread, and has no answers meanwhile (`catalog.schema.Word`)."""
    known = sqltypes.inspection

    def inspect(value: Any, raises: bool) -> Any:
        assert _is_a_command(sys._getframe()), f"SQLAlchemy asks its ORM what {value!r} is"
        return known.inspect(value, raises)

    asked = SimpleNamespace(inspect=inspect, _registrars=known._registrars)
    monkeypatch.setattr(sqltypes, "inspection", asked)


def _is_a_command(frame: FrameType | None) -> bool:
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(_CATALOG) and path.relative_to(_CATALOG).parts[0] in COMMANDS:
            return True
        frame = frame.f_back
    return False
