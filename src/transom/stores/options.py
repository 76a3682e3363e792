"""Options of drivers: the keys of `[stores.NAME]` that only the driver knows."""

from __future__ import annotations

from collections.abc import Collection

from transom.errors import ConfigurationError
from transom.settings import StoreSettings


def refuse_unknown_options(name: str, settings: StoreSettings, known: Collection[str] = ()) -> None:
    """Raise ConfigurationError if the store has options that its driver does not know: a mistyped
    key must not silently do nothing."""
    for key in settings.options:
        if key not in known:
            right = f"use one of {', '.join(known)}" if known else "the driver has no such options"
            raise ConfigurationError(
                f"stores.{name}.{key}: the driver '{settings.driver}' does not know this key; "
                f"{right}."
            )


def size_option(name: str, settings: StoreSettings, key: str, default: int) -> int:
    """An option that is a number of bytes, 0 = unlimited. Raises ConfigurationError."""
    value = settings.options.get(key, default)
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigurationError(
            f"stores.{name}.{key} = {value!r}: give a number of bytes, 0 = unlimited."
        )
    return value
