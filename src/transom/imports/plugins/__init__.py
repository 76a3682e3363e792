"""The import plugins, by name, and how those of one import are put together.

A plugin is one module here and one line in `PLUGINS`. Its class is made with `(settings, target)`: the
settings, and the format that the data is to have at the end, or an empty text for the one that it
comes in. It raises ConfigurationError when these cannot work.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import cast

from transom.errors import ConfigurationError, StoresDisagree, UnknownStore
from transom.imports.plugin import Plugin
from transom.settings import Settings

PLUGINS: dict[str, str] = {
    "image_decompression": "transom.imports.plugins.image_decompression:ImageDecompression",
    "image_conversion": "transom.imports.plugins.image_conversion:ImageConversion",
    "inject_image_metadata": "transom.imports.plugins.inject_image_metadata:InjectImageMetadata",
    "no_op": "transom.imports.plugins.no_op:NoOp",
}
"""Plugin name → class, by dotted name, so that what a plugin needs is loaded only where it is used."""

CONVERSION = "image_conversion"


def open_plugins(settings: Settings, stores: Iterable[str] | None = None) -> tuple[Plugin, ...]:
    """The plugins of an import into `stores`, in the order of `imports.plugins`; converting comes
    last where that does not name it. Without `stores`: those of an import into stores that have no
    format of their own, after a look whether every configured format can be made; call it so at
    start. Raises ConfigurationError, StoresDisagree, UnknownStore."""
    if stores is None:
        formats = [known.convert_to for known in settings.stores.named.values()]
        if any(formats):
            _open(CONVERSION, settings, next(filter(None, formats)))
        target = _general_format(settings)
    else:
        target = target_format(settings, stores)
    names = settings.imports.plugins
    for name in names:
        if name not in PLUGINS or names.count(name) > 1:
            raise ConfigurationError(
                f"imports.plugins: {name!r} is not a plugin, or is named twice; name each of "
                f"{', '.join(PLUGINS)} at most once."
            )
    if target and CONVERSION not in names:
        names = (*names, CONVERSION)
    return tuple(_open(name, settings, target) for name in names)


def target_format(settings: Settings, stores: Iterable[str]) -> str:
    """The format that an import into these stores ends in; empty = as it comes. An image has one
    format and one hash, so all of them have to agree. Raises StoresDisagree, UnknownStore."""
    formats = {}
    for name in stores:
        known = settings.stores.named.get(name)
        if known is None:
            raise UnknownStore(name, settings.stores.named)
        formats[name] = known.convert_to or _general_format(settings)
    if len(set(formats.values())) > 1:
        raise StoresDisagree(formats)
    return next(iter(formats.values()), "")


def _general_format(settings: Settings) -> str:
    imports = settings.imports
    return imports.convert_to or ("raw" if CONVERSION in imports.plugins else "")


def _open(name: str, settings: Settings, target: str) -> Plugin:
    module, _, kind = PLUGINS[name].partition(":")
    return cast("Plugin", getattr(importlib.import_module(module), kind)(settings, target))
