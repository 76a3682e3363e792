"""The options that stores on obstore share, and what the library takes for them."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec

from transom.errors import ConfigurationError
from transom.settings import StoreSettings
from transom.stores.buckets import prefix_option, transfer_options
from transom.stores.options import refuse_unknown_options, text_option

KEYS = (
    "prefix", "endpoint_url", "verify", "ca_file", "part_size_bytes", "parallel_parts",
    "connect_timeout_seconds", "timeout_seconds", "retries_max",
)  # fmt: skip
_URL = re.compile(r"https?://[^\s/?#@]+(/[^\s?#@]*)?")


class ObjectOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What every such store is told. Sizes are bytes, times are seconds."""

    prefix: str
    """What all keys begin with; ends with a slash, or is empty."""
    endpoint_url: str
    """Where the server is; empty: where the provider's own is."""
    verify: bool
    ca_file: str
    part_size_bytes: int
    parallel_parts: int
    connect_timeout_seconds: float
    timeout_seconds: float
    """How long one request, of one part at most, may take."""
    retries_max: int

    def client_options(self) -> dict[str, Any]:
        """For the library's HTTP client."""
        options: dict[str, Any] = {
            "allow_http": self.endpoint_url.lower().startswith("http://"),
            "allow_invalid_certificates": not self.verify,
            "connect_timeout": dt.timedelta(seconds=self.connect_timeout_seconds),
            "timeout": dt.timedelta(seconds=self.timeout_seconds),
            "user_agent": "transom",
        }
        if self.ca_file:
            options["root_certificate"] = Path(self.ca_file).read_bytes()
        return options

    def retry_config(self) -> dict[str, Any]:
        """For the library's retries."""
        whole = self.timeout_seconds * (self.retries_max + 1)
        return {
            "max_retries": self.retries_max,
            "retry_timeout": dt.timedelta(seconds=whole),
            "backoff": {
                "init_backoff": dt.timedelta(milliseconds=100),
                "max_backoff": dt.timedelta(seconds=10),
                "base": 2,
            },
        }


def read_options(name: str, settings: StoreSettings, own: Collection[str]) -> ObjectOptions:
    """The shared options of a store, checked; `own` are the keys that its driver has besides.
    Raises ConfigurationError."""
    refuse_unknown_options(name, settings, (*own, *KEYS))
    if settings.path:
        raise ConfigurationError(
            f"stores.{name}.path = {settings.path!r}: objects have no folder; use prefix."
        )
    prefix = prefix_option(name, settings)
    endpoint_url = text_option(name, settings, "endpoint_url").rstrip("/")
    if endpoint_url and not _URL.fullmatch(endpoint_url):
        raise ConfigurationError(
            f"stores.{name}.endpoint_url: give http://host or https://host, without credentials."
        )
    ca_file = text_option(name, settings, "ca_file")
    if ca_file and not is_readable(ca_file):
        raise ConfigurationError(
            f"stores.{name}.ca_file = {ca_file!r}: it cannot be read; name a file of certificates "
            "(PEM)."
        )
    return ObjectOptions(
        prefix=prefix,
        endpoint_url=endpoint_url,
        ca_file=ca_file,
        **transfer_options(name, settings),
    )


def is_readable(file: str) -> bool:
    """True for a file that this process can read."""
    try:
        with Path(file).open("rb"):
            return True
    except OSError:
        return False
