"""Options that all stores in buckets share, whoever's library reaches them."""

from __future__ import annotations

import re
from typing import Final, TypedDict

from transom.errors import ConfigurationError
from transom.settings import StoreSettings
from transom.stores.options import count_option, flag_option, seconds_option, text_option

MIB: Final = 1024 * 1024
PART_BYTES_LEAST: Final = 5 * MIB
"""Smaller parts, but for the last, are refused by every S3 server."""
_PART_BYTES_MOST: Final = 1024 * MIB
_FOLDERS: Final = re.compile(r"([A-Za-z0-9_-][A-Za-z0-9._-]*/)*")


class Transfers(TypedDict):
    """How data goes to and fro. Sizes are bytes, times are seconds."""

    verify: bool
    part_size_bytes: int
    parallel_parts: int
    connect_timeout_seconds: float
    timeout_seconds: float
    retries_max: int


def transfer_options(name: str, settings: StoreSettings) -> Transfers:
    """The options under the names of `Transfers`. Raises ConfigurationError."""
    return Transfers(
        verify=flag_option(name, settings, "verify", default=True),
        part_size_bytes=count_option(
            name, settings, "part_size_bytes", 8 * MIB,
            least=PART_BYTES_LEAST, most=_PART_BYTES_MOST,
        ),
        parallel_parts=count_option(name, settings, "parallel_parts", 4, least=1, most=64),
        connect_timeout_seconds=seconds_option(
            name, settings, "connect_timeout_seconds", 5.0, most=300
        ),
        timeout_seconds=seconds_option(name, settings, "timeout_seconds", 60.0, most=3600),
        retries_max=count_option(name, settings, "retries_max", 5, least=0, most=50),
    )  # fmt: skip


def prefix_option(name: str, settings: StoreSettings) -> str:
    """The option `prefix`: what all keys begin with, empty or ending with a
    slash. Raises ConfigurationError."""
    prefix = text_option(name, settings, "prefix")
    prefix = prefix and prefix.strip("/") + "/"
    if not _FOLDERS.fullmatch(prefix) or len(prefix) > 512:
        raise ConfigurationError(
            f"stores.{name}.prefix = {prefix!r}: give words of letters, digits, dots, underscores or "
            "dashes with slashes between, no word starting with a dot, 512 characters at most."
        )
    return prefix
