"""What the library's errors mean."""

from __future__ import annotations

import re

import structlog
from obstore import exceptions

from transom.errors import ImageInUse, StoreFailed, StoreFull, StoreRefused, StoreUnavailable
from transom.stores.store import KeyMissing

_log = structlog.get_logger(__name__)

_STATUS = re.compile(r"status code: ([0-9]{3})")
_NO_PLACE = ("NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted", "BucketNotFound")
_IN_USE = ("LeaseIdMissing", "SnapshotsPresent", "objectUnderActiveHold")
_PASSING = frozenset({408, 409, 429})
_REASON_LENGTH_MAX = 300


def explained(error: Exception, store: str, key: str, *, removing: bool = False) -> Exception:
    """The domain's error for one of the library's."""
    text = str(error)
    reason = _plain(text)
    if any(word in text for word in _NO_PLACE):
        _log.error("store.no_bucket", store=store, reason=reason)
        return StoreUnavailable(store, "its bucket is not there; an operator has to make it")
    if isinstance(error, FileNotFoundError):
        return KeyMissing(key)
    if any(word in text for word in _IN_USE):
        return ImageInUse(key.partition(".")[0])
    if isinstance(error, exceptions.AlreadyExistsError | exceptions.PreconditionError):
        return StoreFailed(store, f"the key {key} is in use")
    # Addresses and accounts are for the operator's eyes.
    _log.error("store.request_failed", store=store, kind=type(error).__name__, reason=reason)
    found = _STATUS.search(text)
    status = int(found[1]) if found else 0
    if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
        if removing:
            return StoreRefused(store, "its account may not; an operator has to give it the right")
        return StoreUnavailable(store, "its account may not; an operator has to mend that")
    if status in (413, 507) or "QuotaExceeded" in text:
        return StoreFull(store)
    if 400 <= status < 500 and status not in _PASSING:
        return StoreFailed(
            store, f"its server answered {status}; the operator's log has the reason"
        )
    if isinstance(error, exceptions.BaseError | OSError):
        return StoreUnavailable(store, "its server does not answer as it should")
    return StoreFailed(
        store, f"{type(error).__name__} in its library; the operator's log has the reason"
    )


def _plain(text: str) -> str:
    """The sentence of an error, without what its URL carries: that may be a signature."""
    sentence = text.partition("\n\n")[0]
    return re.sub(r"\?[^\s'\"]*", "?…", sentence)[:_REASON_LENGTH_MAX]
