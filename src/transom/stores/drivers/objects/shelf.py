"""What a store, its writers and its readers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import obstore

from transom.errors import ConfigurationError
from transom.stores.drivers.objects.options import ObjectOptions
from transom.stores.pulled import Writers


class Shelf:
    """One bucket or container, and the keys that are being written here."""

    def __init__(self, name: str, bucket: Any, options: ObjectOptions, root_url: str) -> None:
        """`bucket` is what the library reaches objects by; `root_url` is where keys begin."""
        self.name = name
        self.bucket = bucket
        self.options = options
        self.writers: Writers = {}
        self._root_url = root_url

    def path(self, key: str) -> str:
        """The object's name in the bucket."""
        return self.options.prefix + key

    def url(self, key: str) -> str:
        """The object's location."""
        return self._root_url + self.options.prefix + key


def reached(
    make: Callable[..., Any],
    place: str,
    *,
    store: str,
    whose: str,
    options: ObjectOptions,
    config: dict[str, Any],
) -> Any:
    """What the library reaches a bucket or container by, without reaching it. `whose` is the provider,
    for the message. Raises ConfigurationError."""
    try:
        return make(
            place,
            config=config,
            client_options=options.client_options(),
            retry_config=options.retry_config(),
        )
    except (obstore.exceptions.BaseError, ValueError, OSError) as wrong:
        raise ConfigurationError(
            f"stores.{store}: {whose} credentials or addresses, here or in the environment, "
            f"cannot be used ({type(wrong).__name__}); correct them."
        ) from wrong
