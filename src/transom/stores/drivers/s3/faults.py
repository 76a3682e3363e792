"""What the errors of an S3 server mean, and of the way to it."""

from __future__ import annotations

import asyncio

import aiohttp
import structlog
from botocore import exceptions as boto

from transom.errors import StoreFailed, StoreFull, StoreRefused, StoreUnavailable, TransomError

_log = structlog.get_logger(__name__)

TROUBLE = (boto.BotoCoreError, boto.ClientError, aiohttp.ClientError, OSError, asyncio.TimeoutError)
"""Everything that goes wrong between here and the server."""
_TLS = (boto.SSLError, aiohttp.ClientSSLError)
"""Which repetition does not mend."""
_PASSING = (
    boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError, boto.ResponseStreamingError,
    aiohttp.ClientError, OSError, asyncio.TimeoutError,
)  # fmt: skip

_BUSY = frozenset(
    {
        "SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling",
        "ThrottlingException", "TooManyRequests", "RequestLimitExceeded", "ConditionalConflict",
        "OperationAborted", "ConcurrentModification", "XMinioServerNotInitialized",
    }
)  # fmt: skip
_DAMAGED = frozenset({"BadDigest", "XAmzContentSHA256Mismatch", "IncompleteBody"})
"""The body did not arrive as it was sent: it is sent again."""
_FULL = frozenset(
    {
        "QuotaExceeded", "InsufficientStorage", "InsufficientCapacity", "XMinioStorageFull",
        "XMinioAdminBucketQuotaExceeded", "ServiceQuotaExceeded",
    }
)  # fmt: skip
_CREDENTIALS = frozenset(
    {
        "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken",
        "TokenRefreshRequired", "InvalidClientTokenId", "ExpiredTokenException",
    }
)  # fmt: skip
_REGION = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)
_NOT_PERMITTED = frozenset({"AccessDenied", "AllAccessDisabled", "AccountProblem", "Forbidden"})
GONE = frozenset({"NoSuchKey", "404", "NotFound"})
NO_UPLOAD = "NoSuchUpload"
NO_BUCKET = "NoSuchBucket"


class Answer(Exception):
    """The server said something else than yes, which the caller knows what to do with."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def code_of(error: BaseException) -> str:
    """The code of an S3 server's error, or its HTTP status; empty for errors that are none."""
    if not isinstance(error, boto.ClientError):
        return ""
    return str(error.response.get("Error", {}).get("Code", "")) or str(_status(error))


def passes(error: BaseException) -> bool:
    """True when the same request may succeed in a moment."""
    if isinstance(error, boto.ClientError):
        code, status = code_of(error), _status(error)
        return code in _BUSY or code in _DAMAGED or status == 429 or 500 <= status != 507
    return isinstance(error, _PASSING) and not isinstance(error, _TLS)


def explained(store: str, error: BaseException, operation: str, *, where: str = "") -> TransomError:
    """The domain's error for one of the server's, its client library's or the network's. `where`, the
    bucket and its server, is for the operator's eyes: it goes to the log."""
    code = code_of(error)
    reason = _reason(error, code)
    _log.warning("store.s3_failed", store=store, operation=operation, bucket=where, reason=reason)
    if not isinstance(error, boto.ClientError):
        return _unreachable(store, error, reason)
    status = _status(error)
    if code in _FULL or status == 507:
        return StoreFull(store)
    if code == NO_BUCKET:
        return StoreUnavailable(
            store, f"its bucket does not exist; an operator has to create it, or correct "
            f"stores.{store}.bucket"
        )  # fmt: skip
    if code in _CREDENTIALS:
        return StoreUnavailable(
            store,
            f"its server refuses the credentials ({code}); an operator has to correct them",
        )
    if code == "RequestTimeTooSkewed":
        return StoreUnavailable(
            store,
            "the clocks of this machine and of its server differ too much; an operator has to set "
            "them right",
        )
    if code in _REGION or status in (301, 307):
        return StoreUnavailable(
            store,
            f"its bucket lies in another region; an operator has to correct stores.{store}.region",
        )
    if code in _NOT_PERMITTED or status in (401, 403):
        # The answer to a HEAD does not say what is wrong.
        wrong = "what its credentials are allowed to do"
        wrong = wrong if code in _NOT_PERMITTED else f"its credentials, or {wrong}"
        refusal = f"its server answers {code}; an operator has to correct {wrong}"
        if operation.startswith(("delete", "abort")):
            return StoreRefused(store, refusal)
        return StoreUnavailable(store, refusal)
    if passes(error):
        return StoreUnavailable(store, f"its server answers {reason}")
    return StoreFailed(store, f"its server answers {reason}; look for it in the server's log")


def _unreachable(store: str, error: BaseException, reason: str) -> TransomError:
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        return StoreUnavailable(
            store,
            f"there are no credentials for it; an operator has to set stores.{store}.access_key and "
            "secret_key, or provide them in the environment",
        )
    if isinstance(error, boto.ProfileNotFound | boto.CredentialRetrievalError | boto.NoRegionError):
        return StoreUnavailable(store, f"{reason}; an operator has to correct it")
    if isinstance(error, _TLS):
        return StoreUnavailable(
            store,
            "the certificate of its server cannot be trusted; an operator has to set "
            f"stores.{store}.ca_file",
        )
    if isinstance(error, boto.ParamValidationError):
        return StoreFailed(store, reason)
    return StoreUnavailable(store, reason)


def _reason(error: BaseException, code: str) -> str:
    if code:
        assert isinstance(error, boto.ClientError)
        message = str(error.response.get("Error", {}).get("Message") or "")
        return f"{code} {_status(error)}" + (f" ({message:.200})" if message else "")
    if isinstance(error, boto.ConnectTimeoutError | boto.ReadTimeoutError | asyncio.TimeoutError):
        return "its server does not answer in time"
    if isinstance(error, boto.EndpointConnectionError | boto.ConnectionError | OSError):
        return "its server cannot be reached"
    if isinstance(error, boto.HTTPClientError | aiohttp.ClientError):
        return "the connection to its server broke"
    return f"{error}"[:300]


def _status(error: boto.ClientError) -> int:
    found: int = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return found
