"""The kinds of tasks, and the module that does each.

A kind is one module and one line in `KINDS`. Its module has `steps_of(settings, task)`, the names of
the task's steps in order, and `perform(run, step)`, which takes one of them and can be asked to take
it again from its beginning.
"""

from __future__ import annotations

import importlib
from typing import Protocol, cast

from transom.imports.run import Run
from transom.model.task import Task, TaskType
from transom.settings import Settings

KINDS: dict[TaskType, str] = {
    TaskType.IMPORT: "transom.imports.steps",
    TaskType.API_IMAGE_IMPORT: "transom.imports.steps",
    TaskType.LOCATION_IMPORT: "transom.imports.location",
}
"""Type of task → module, by dotted name."""


class Kind(Protocol):
    """What the module of a kind has."""

    def steps_of(self, settings: Settings, task: Task) -> list[str]:
        """The steps of a task by name, in order."""
        ...

    async def perform(self, run: Run, step: str) -> None:
        """Take one step."""
        ...


def open_kind(type_: TaskType) -> Kind:
    """The module that does tasks of a type."""
    return cast("Kind", importlib.import_module(KINDS[type_]))
