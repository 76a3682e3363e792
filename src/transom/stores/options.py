"""Options of drivers: the keys of `[stores.NAME]` that only the driver knows."""

from __future__ import annotations

import re
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


def text_option(
    name: str, settings: StoreSettings, key: str, default: str = "", *, right: str = ""
) -> str:
    """An option that is text; `right` tells what it should be, where it cannot be empty. Raises
    ConfigurationError."""
    value = settings.options.get(key, default)
    if not isinstance(value, str) or not value.isprintable() or (right and not value.strip()):
        raise ConfigurationError(f"stores.{name}.{key}: give {right or 'a text'}.")
    return value.strip()


def choice_option(
    name: str, settings: StoreSettings, key: str, choices: Collection[str], default: str
) -> str:
    """An option that is one of a few words. Raises ConfigurationError."""
    value = settings.options.get(key, default)
    if isinstance(value, bool):
        value = str(value).lower()
    if value not in choices:
        raise ConfigurationError(
            f"stores.{name}.{key} = {value!r}: use one of {', '.join(choices)}."
        )
    return str(value)


def flag_option(name: str, settings: StoreSettings, key: str, *, default: bool) -> bool:
    """An option that is true or false. Raises ConfigurationError."""
    value = settings.options.get(key, default)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise ConfigurationError(f"stores.{name}.{key} = {value!r}: use true or false.")
    return value


def count_option(
    name: str, settings: StoreSettings, key: str, default: int, *, least: int, most: int
) -> int:
    """An option that is a whole number within bounds. Raises ConfigurationError."""
    value = settings.options.get(key, default)
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ConfigurationError(
            f"stores.{name}.{key} = {value!r}: give a number from {least} to {most}."
        )
    return value


def seconds_option(
    name: str, settings: StoreSettings, key: str, default: float, *, most: float
) -> float:
    """An option that is a time in seconds, more than none. Raises ConfigurationError."""
    value = settings.options.get(key, default)
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value, re.ASCII):
        value = float(value)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= most:
        raise ConfigurationError(
            f"stores.{name}.{key} = {value!r}: give a number of seconds from above 0 to {most:g}."
        )
    return float(value)
