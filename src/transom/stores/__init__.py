"""The stores that are configured, by name. A driver is reached only through the table here.

A driver is one file in `drivers/` and one line in `DRIVERS`. Its class is made with
`(name, settings, data)`: the store's name, its `StoreSettings`, and the data folder that stands in
for `<data>`; it raises ConfigurationError when these cannot work. One that says `reads_urls = True`
gets the guard of the deployment besides, as `guard`; one that says `limits_size = True` the largest
image, as `size_bytes_max`.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Self, cast

import msgspec

from transom import tracing
from transom.errors import ConfigurationError, LocationRefused, StoreReadOnly, UnknownStore
from transom.remote.guard import Guard
from transom.settings import Settings, StoreSettings
from transom.stores.measured import MeasuredStore
from transom.stores.store import Entry, KeyMissing, Store

DRIVERS: dict[str, str] = {
    "file": "transom.stores.drivers.file:FileStore",
    "memory": "transom.stores.drivers.memory:MemoryStore",
    "http": "transom.stores.drivers.http:HttpStore",
    "s3": "transom.stores.drivers.s3:S3Store",
    "gcs": "transom.stores.drivers.objects:GcsStore",
    "azure": "transom.stores.drivers.objects:AzureStore",
    "glance_store": "transom.stores.drivers.glance:GlanceStore",
}
"""Driver name → class, by dotted name, so that a driver's library is needed only where it is used."""

STAGING = "staging"
"""Name of the staging store in messages, when it is a folder of its own."""


class StoreFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is told of a store to those who look for one (API §15)."""

    name: str
    driver: str
    description: str
    weight: int
    is_default: bool
    is_writable: bool
    properties: dict[str, object]


class Stores:
    """Every configured store, open. Made by `Stores.open`."""

    def __init__(
        self,
        named: dict[str, Store],
        staging: Store,
        settings: dict[str, StoreSettings],
        default: str,
    ) -> None:
        """`named` in configured order; `staging` may be one of them; `default` is one of them."""
        self._named = named
        self._settings = settings
        self._staging = staging
        self._default = default

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Open every store of `[stores]`, and the staging store. Raises ConfigurationError."""
        configured = settings.stores.named
        named: dict[str, Store] = {
            name: open_store(name, each, settings.data_path, whole=settings)
            for name, each in configured.items()
        }
        if settings.stores.staging:
            staging = named[settings.stores.staging]
        else:
            folder = StoreSettings(driver="file", path=str(settings.data_path / "staging"))
            staging = open_store(STAGING, folder, settings.data_path)
        if settings.metrics.bind or tracing.is_on():
            is_own = not settings.stores.staging
            named = {name: MeasuredStore(store) for name, store in named.items()}
            staging = MeasuredStore(staging) if is_own else named[settings.stores.staging]
        return cls(named, staging, dict(configured), settings.stores.default)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the stores, in configured order. Staging alone is not among them."""
        return tuple(self._named)

    @property
    def default(self) -> str:
        """Name of the store that takes data when none is named."""
        return self._default

    @property
    def staging(self) -> Store:
        """Where data waits for its import."""
        return self._staging

    @property
    def every(self) -> tuple[Store, ...]:
        """Every store once, in configured order; the staging store last if it is none of them."""
        stores = {id(store): store for store in (*self._named.values(), self._staging)}
        return tuple(stores.values())

    def find(self, name: str) -> Store:
        """The store of that name as the catalog knows it, staging included. Raises
        UnknownStore."""
        return self._staging if name == self._staging.name else self.get(name)

    def get(self, name: str) -> Store:
        """The store of that name. Raises UnknownStore."""
        try:
            return self._named[name]
        except KeyError:
            raise UnknownStore(name, self._named) from None

    def pick(self, name: str | None) -> Store:
        """The store of that name to put data into, or the default one for None. Raises
        UnknownStore, StoreReadOnly."""
        store = self.get(self._default if name is None else name)
        if not store.features.writable:
            raise StoreReadOnly(store.name)
        return store

    def for_url(self, url: str, *, foreign_only: bool) -> tuple[Store, ...]:
        """The stores that understand the scheme of a location URL; `foreign_only`: of those alone
        whose objects are other people's."""
        scheme = url.partition(":")[0].lower()
        return tuple(
            store
            for store in self._named.values()
            if scheme in store.features.schemes and not (foreign_only and store.features.exclusive)
        )

    @property
    def takes_foreign(self) -> bool:
        """True when some store holds objects of others."""
        return any(not store.features.exclusive for store in self._named.values())

    async def find_location(
        self, url: str, *, foreign_only: bool, proves: bool = False
    ) -> tuple[Store, Entry]:
        """The store and the object behind a location URL (`Store.find`). Raises LocationRefused,
        UrlRefused, FetchFailed, ImageTooLarge, StoreUnavailable."""
        stores = self.for_url(url, foreign_only=foreign_only)
        if not stores:
            raise LocationRefused("no store here takes locations of its scheme")
        for store in stores:
            try:
                return store, await store.find(url, proves=proves)
            except KeyMissing:
                continue
        raise LocationRefused("there is nothing at its URL")

    def settings_of(self, name: str) -> StoreSettings:
        """The configuration of a store. Raises UnknownStore."""
        self.get(name)
        return self._settings[name]

    def facts(self, name: str) -> StoreFacts:
        """What is told of a store. Raises UnknownStore."""
        store, settings = self.get(name), self._settings[name]
        return StoreFacts(
            name=name,
            driver=settings.driver,
            description=settings.description,
            weight=settings.weight,
            is_default=name == self._default,
            is_writable=store.features.writable,
            properties=store.properties(),
        )

    def weight(self, name: str) -> int:
        """Locations in stores of higher weight are read first; a store unknown here weighs 0."""
        known = self._settings.get(name)
        return known.weight if known else 0

    async def check(self) -> None:
        """Raise StoreUnavailable unless the default store can be read and written now."""
        await self.get(self._default).check()

    async def close(self) -> None:
        """Free what the stores hold; harmless when called twice."""
        for store in self.every:
            await store.close()


def open_store(
    name: str, settings: StoreSettings, data: Path, *, whole: Settings | None = None
) -> Store:
    """One store by its driver; `whole` is the configuration that it is a part of. Raises
    ConfigurationError, also when the driver is not installed."""
    try:
        module, _, kind = DRIVERS[settings.driver].partition(":")
    except KeyError:
        raise ConfigurationError(
            f"stores.{name}.driver = {settings.driver!r}: no such driver; use one of "
            f"{', '.join(DRIVERS)}."
        ) from None
    try:
        driver = getattr(importlib.import_module(module), kind)
    except ModuleNotFoundError as missing:
        raise ConfigurationError(
            f"stores.{name}.driver = {settings.driver!r}: the Python package {missing.name} is not "
            "installed; install it, or choose another driver."
        ) from missing
    if getattr(driver, "reads_urls", False):
        guard = Guard.open(Settings() if whole is None else whole)
        return cast("Store", driver(name, settings, data, guard=guard))
    if getattr(driver, "limits_size", False):
        limit = (Settings() if whole is None else whole).limits.image_size_bytes_max
        return cast("Store", driver(name, settings, data, size_bytes_max=limit))
    return cast("Store", driver(name, settings, data))
