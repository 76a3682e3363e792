"""What a GlanceStore, its writers and its readers share."""

from __future__ import annotations

import base64
import binascii
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import structlog

from transom.errors import ImageInUse, StoreFailed, StoreFull, StoreRefused, StoreUnavailable
from transom.stores.drivers.glance.backend import Backend, Trouble, causes, named
from transom.stores.keys import FOREIGN_LENGTH_MAX, checked_key
from transom.stores.pulled import Writers
from transom.stores.store import KeyMissing

_log = structlog.get_logger(__name__)

FOREIGN: Final = "Url-"
"""Begins the keys of objects that Transom did not write; the rest is their URL. Keys of ours begin with
the id of an image."""
_IO_THREADS = 16
_WRITERS_MAX = 512
_LIBRARY = {
    "NotFound": Trouble.MISSING,
    "Duplicate": Trouble.TAKEN,
    "InUseByStore": Trouble.BUSY,
    "HasSnapshot": Trouble.BUSY,
    "StorageFull": Trouble.FULL,
    "StorageWriteDenied": Trouble.REFUSED,
    "Forbidden": Trouble.REFUSED,
    "NotAuthenticated": Trouble.REFUSED,
    "AuthorizationFailure": Trouble.REFUSED,
    "BadStoreConfiguration": Trouble.AWAY,
    "BackendException": Trouble.AWAY,
    "RemoteServiceUnavailable": Trouble.AWAY,
    "TimeoutError": Trouble.AWAY,
}
"""What the errors of the library mean, where nothing below them says more."""


class Shelf:
    """One backend, its threads, and the keys that are being written here."""

    def __init__(self, name: str, backend: Backend, prefix: str) -> None:
        self.name = name
        self.backend = backend
        self.prefix = prefix
        self.writers: Writers = {}
        self.io = ThreadPoolExecutor(_IO_THREADS, thread_name_prefix=f"store-{name}")
        # A write holds a thread from its first byte to its last, however slow its client is.
        self.adds = ThreadPoolExecutor(_WRITERS_MAX, thread_name_prefix=f"store-{name}-add")

    def object_name(self, key: str) -> str:
        """The name of an object of ours."""
        return self.prefix + key

    def url(self, key: str) -> str:
        """The location of a key. Blocks. Raises KeyMissing for a foreign key that is none."""
        if not key.startswith(FOREIGN):
            return self.backend.url(self.object_name(key))
        text = key.removeprefix(FOREIGN)
        try:
            return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise KeyMissing(key) from None

    def explained(self, error: Exception, key: str, *, removing: bool = False) -> Exception:
        """The domain's error for one of the library's, or of those below it."""
        meaning = self.trouble(error)
        reason = next((str(each) for each in causes(error) if str(each)), type(error).__name__)
        if meaning is Trouble.MISSING:
            return KeyMissing(key)
        if meaning is Trouble.TAKEN:
            return StoreFailed(self.name, f"the key {key} is in use")
        if meaning is Trouble.BUSY:
            return ImageInUse(key.partition(".")[0])
        if meaning is Trouble.FULL:
            return StoreFull(self.name)
        # Addresses and accounts are for the operator's eyes.
        _log.error("store.driver_failed", store=self.name, kind=type(error).__name__, reason=reason)
        if meaning is Trouble.REFUSED and removing:
            return StoreRefused(self.name, "its user may not; an operator has to give it the right")
        if meaning is Trouble.REFUSED:
            return StoreUnavailable(self.name, "its user may not; an operator has to mend that")
        if meaning is Trouble.AWAY:
            return StoreUnavailable(self.name, "its storage does not answer as it should")
        return StoreFailed(
            self.name, f"{type(error).__name__} in its storage; the operator's log has the reason"
        )

    def trouble(self, error: BaseException) -> Trouble | None:
        """What an error means: what the storage says of it, or else the library."""
        for each in causes(error):
            for word, meaning in _LIBRARY.items():
                if meaning is not Trouble.AWAY and named(each, (word,)):
                    return meaning
        deep = self.backend.trouble(error)
        if deep is not None:
            return deep
        for each in causes(error):
            for word, meaning in _LIBRARY.items():
                if named(each, (word,)):
                    return meaning
        return None

    def close(self) -> None:
        """Wait for running work and end the threads."""
        self.io.shutdown()
        self.adds.shutdown()
        self.backend.close()


def foreign_key(url: str) -> str:
    """The key of an object that Transom did not write."""
    return FOREIGN + base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")


def checked(key: str) -> str:
    """The key itself. Raises ValueError for one that the contract does not allow."""
    return checked_key(key, FOREIGN_LENGTH_MAX) if key.startswith(FOREIGN) else checked_key(key)
