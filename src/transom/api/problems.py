"""Errors become answers: one status row for each error, and the body that the client asked for.

The forms of the bodies are those that clients of the Image API expect (errors.md, part A), the
form of the Identity API for its face, and `application/problem+json` (RFC 9457) for whoever asks.
"""

from __future__ import annotations

import html
from http import HTTPStatus
from typing import Final

import msgspec
from starlette.responses import Response

from transom import errors
from transom.api.route import Face
from transom.errors import TransomError

STATUS: Final[dict[type[TransomError], int]] = {
    errors.Invalid: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.VersionNotAcceptable: 406,
    errors.Conflict: 409,
    errors.ImageDeletedMeanwhile: 410,
    errors.PreconditionFailed: 412,
    errors.OverLimit: 413,
    errors.UnsupportedMedia: 415,
    errors.RangeNotSatisfiable: 416,
    errors.RequestIdTooLong: 431,
    errors.StoreRefused: 403,
    errors.StoreFailed: 500,
    errors.Unavailable: 503,
}
"""The status of every error: its own row, or that of the nearest class above it."""

PATCH_TYPES: Final = (
    "application/openstack-images-v2.0-json-patch",
    "application/openstack-images-v2.1-json-patch",
)
PROBLEM: Final = "application/problem+json"
RETRY_SECONDS: Final = 5
COMPUTE_FAULTS: Final = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    409: "conflictingRequest",
    413: "overLimit",
    415: "badMediaType",
    429: "overLimit",
    501: "notImplemented",
    503: "serviceUnavailable",
}
"""The one key of an error's body in the Compute API (errors.md, part B)."""

_RETRIED: Final = (413, 429)
UNEXPECTED: Final = (
    "The server has either erred or is incapable of performing the requested operation."
)

_FORCED_TEXT: Final = (
    (errors.QuotaExceeded, "POST"),
    (errors.QuotaExceeded, "PATCH"),
    (errors.UnknownStore, "PUT"),
    (errors.ImageDeletedMeanwhile, "PUT"),
)
"""Answers that carry `text/plain` whatever their body is, as Glance's do (errors.md §1.1)."""


def status_of(error: TransomError) -> int:
    """The HTTP status of an error."""
    for kind in type(error).__mro__:
        status = STATUS.get(kind)
        if status is not None:
            return status
    return 500


def answer(
    error: TransomError | None,
    *,
    face: Face,
    method: str,
    accept: str | None,
    request_id: str,
    www_authenticate: str,
) -> Response:
    """The answer to a request that ended in `error`; None stands for a fault of ours."""
    status = 500 if error is None else status_of(error)
    message = UNEXPECTED if error is None else str(error)
    headers = _headers(error, status, www_authenticate)
    if _asks_for_problem(accept):
        content, media_type = _problem(error, status, message, request_id), PROBLEM
    elif face == "identity" or (face == "compute" and isinstance(error, errors.Unauthenticated)):
        content, media_type = _identity(status, message), "application/json"
    elif face == "compute":
        content, media_type = _compute(status, message), "application/json; charset=UTF-8"
    else:
        content, media_type = _negotiated(status, message, accept)
        if any(isinstance(error, kind) and method == verb for kind, verb in _FORCED_TEXT):
            media_type = "text/plain; charset=UTF-8"
    if method == "HEAD":
        content = b""
    headers["content-type"] = media_type
    return Response(content, status, headers)


def _headers(error: TransomError | None, status: int, www_authenticate: str) -> dict[str, str]:
    headers: dict[str, str] = {}
    match error:
        case errors.Unauthenticated():
            headers["www-authenticate"] = www_authenticate
        case errors.MethodNotAllowed(allowed=allowed):
            headers["allow"] = ", ".join(allowed)
        case errors.WrongPatchType():
            headers["accept-patch"] = ", ".join(PATCH_TYPES)
        case errors.RangeNotSatisfiable(size_bytes=size_bytes):
            headers["content-range"] = f"bytes */{size_bytes}"
        case _ if status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers["retry-after"] = str(RETRY_SECONDS)
    return headers


def _negotiated(status: int, message: str, accept: str | None) -> tuple[bytes, str]:
    reason = HTTPStatus(status).phrase
    title = f"{status} {reason}"
    as_html, as_json = quality(accept, "text/html"), quality(accept, "application/json")
    if as_html and as_html >= as_json:
        text = (
            f"<html>\n <head>\n  <title>{title}</title>\n </head>\n <body>\n"
            f"  <h1>{title}</h1>\n  {html.escape(message)}<br /><br />\n\n\n\n </body>\n</html>"
        )
        return text.encode(), "text/html; charset=UTF-8"
    if as_json:
        body = {"message": message, "code": title, "title": reason}
        return msgspec.json.encode(body), "application/json"
    return f"{title}\n\n{message}\n\n   ".encode(), "text/plain; charset=UTF-8"


def _identity(status: int, message: str) -> bytes:
    title = HTTPStatus(status).phrase
    return msgspec.json.encode({"error": {"code": status, "message": message, "title": title}})


def _compute(status: int, message: str) -> bytes:
    fault: dict[str, object] = {"message": message, "code": status}
    if status in _RETRIED:
        fault["retryAfter"] = RETRY_SECONDS
    return msgspec.json.encode({COMPUTE_FAULTS.get(status, "computeFault"): fault})


def _problem(error: TransomError | None, status: int, message: str, request_id: str) -> bytes:
    kind = "InternalError" if error is None else type(error).__name__
    body = {
        "type": f"urn:transom:error:{kind}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": message,
        "instance": request_id,
        "retryable": error is not None and error.retryable,
    }
    if error is not None:
        body |= {name: value for name, value in vars(error).items() if _is_plain(value)}
    return msgspec.json.encode(body)


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool | tuple | list)


def _asks_for_problem(accept: str | None) -> bool:
    return accept is not None and PROBLEM in accept and quality(accept, PROBLEM) > 0


def quality(accept: str | None, media_type: str) -> float:
    """How much an Accept header wants a media type, 0 to 1; the most specific range decides
    (RFC 9110 §12.5.1). 0 without a header, as nothing in particular was asked for."""
    best, found = 0.0, -1
    kind = media_type.partition("/")[0]
    for item in (accept or "").split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        precision = {media_type: 2, f"{kind}/*": 1, "*/*": 0}.get(name.lower(), -1)
        if precision <= found:
            continue
        weight = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip().lower() == "q":
                try:
                    weight = min(max(float(value), 0.0), 1.0)
                except ValueError:
                    weight = 0.0
        best, found = weight, precision
    return best
