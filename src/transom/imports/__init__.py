"""Imports: data comes in by a task, which survives the process that works on it.

The table of import methods. A method is one file in `methods/` and one line here.
"""

from __future__ import annotations

import datetime as dt
import importlib
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from transom.imports.method import ImportMethod
    from transom.settings import Settings

METHODS: dict[str, str] = {
    "glance-direct": "transom.imports.methods.glance_direct:GlanceDirect",
    "web-download": "transom.imports.methods.web_download:WebDownload",
    "copy-image": "transom.imports.methods.copy_image:CopyImage",
    "glance-download": "transom.imports.methods.glance_download:GlanceDownload",
}
"""Lazy dotted names of the import methods that this release has."""


def enabled_methods(settings: Settings) -> tuple[str, ...]:
    """The import methods that are configured and that this release has, in configured order."""
    return tuple(name for name in settings.imports.methods if name in METHODS)


def open_method(name: str) -> ImportMethod:
    """The import method of a name in METHODS."""
    module, _, kind = METHODS[name].partition(":")
    return cast("ImportMethod", getattr(importlib.import_module(module), kind)())


def expiry(settings: Settings, ended_at: dt.datetime) -> dt.datetime:
    """Until when a task that ended then can be looked up."""
    return ended_at + dt.timedelta(hours=settings.imports.task_hours)
