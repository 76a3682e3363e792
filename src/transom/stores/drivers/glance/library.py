"""Glance's driver library, opened for one store and configured as in Glance."""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Mapping
from typing import Any

from transom.errors import ConfigurationError

_MODULES = {
    "rbd": "glance_store._drivers.rbd",
    "swift": "glance_store._drivers.swift.store",
    "cinder": "glance_store._drivers.cinder.store",
}
_OURS = frozenset({"store_description", "weight"})
"""Options of every Glance store that Transom has names of its own for."""


class Library:
    """The library's driver for one kind of storage, with the options of one store.

    It is configured when it is first used, because that asks the storage.
    """

    def __init__(self, name: str, kind: str, options: Mapping[str, Any]) -> None:
        """Reaches nothing. Raises ConfigurationError for options that the kind does not have, and
        ModuleNotFoundError without the library."""
        from oslo_config import cfg

        self.name = name
        self.kind = kind
        self.module = importlib.import_module(_MODULES[kind])
        # It warns of what is meant so here, such as data without a known length.
        logging.getLogger("glance_store").setLevel(logging.ERROR)
        self._lock = threading.Lock()
        self._driver: Any = None
        self.conf = cfg.ConfigOpts()
        self.conf([], project="transom", default_config_files=[], default_config_dirs=[])
        # With one store alone the library does not tell why a connection fails.
        self.conf.register_opt(cfg.DictOpt("enabled_backends"))
        self.conf.set_override("enabled_backends", {name: kind, f"{name}.second": kind})
        self.conf.register_opt(cfg.StrOpt("default_backend"), group="glance_store")
        self.conf.register_opts(self.module.Store.OPTIONS, group=name)
        self._defaults = {option.name: option.default for option in self.module.Store.OPTIONS}
        known = set(self._defaults)
        for key, value in options.items():
            if key not in known or key in _OURS:
                raise ConfigurationError(
                    f"stores.{name}.{key}: Glance's driver for {kind} does not have this option; "
                    f"it has {', '.join(sorted(known - _OURS))}."
                )
            try:
                self.conf.set_override(key, value, group=name)
            except (ValueError, TypeError) as wrong:
                raise ConfigurationError(
                    f"stores.{name}.{key}: Glance's driver for {kind} does not take this value "
                    f"({wrong})."
                ) from wrong

    def option(self, key: str) -> Any:
        """The value of an option, or its default, which the driver takes away once it is made."""
        value = self.conf[self.name][key]
        return self._defaults[key] if value is None else value

    def driver(self) -> Any:
        """The driver, ready for use. Blocks. Raises errors of the library."""
        with self._lock:
            if self._driver is None:
                fresh = self.module.Store(self.conf, backend=self.name)
                fresh.configure(re_raise_bsc=True)
                self._driver = fresh
            return self._driver

    def location(self, url: str) -> Any:
        """What the driver takes for a URL. Raises BadStoreUri."""
        location = importlib.import_module("glance_store.location")
        scheme = url.partition(":")[0]
        return location.Location(
            scheme, self.module.StoreLocation, self.conf, uri=url, backend=self.name
        )
