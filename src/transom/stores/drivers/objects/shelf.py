"""What a store, its writers and its readers share."""

from __future__ import annotations

from typing import Any

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
