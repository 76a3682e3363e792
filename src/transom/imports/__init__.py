"""Imports: the table of import methods. A method is one file in `methods/` and one line here."""

from __future__ import annotations

from transom.settings import Settings

METHODS: dict[str, str] = {}
"""Lazy dotted names of the import methods that this release has."""


def enabled_methods(settings: Settings) -> tuple[str, ...]:
    """The import methods that are configured and that this release has, in configured order."""
    return tuple(name for name in settings.imports.methods if name in METHODS)
