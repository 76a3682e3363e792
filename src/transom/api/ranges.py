"""Range and conditional requests on image data (API §9.2; RFC 9110 §13, §14)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from transom.errors import InvalidHeader, PreconditionFailed, RangeNotSatisfiable

_BYTES: Final = re.compile(r"\s*([0-9]{0,99})\s*-\s*([0-9]{0,99})\s*", re.ASCII)
_CONTENT_RANGE: Final = re.compile(
    r"bytes\s+([0-9]{1,19})-([0-9]{1,19})/(\*|[0-9]{1,19})", re.ASCII
)
_ETAG: Final = re.compile(r'\s*(?:(W/)?("[^"]*")|(\*))\s*(?:,|$)')


class Span(msgspec.Struct, frozen=True):
    """Bytes `first` to `last`, both included."""

    first: int
    last: int

    @property
    def length(self) -> int:
        """How many bytes that is."""
        return self.last - self.first + 1


def requested_span(headers: Mapping[str, str], size_bytes: int, etag: str | None) -> Span | None:
    """The part of the data that the request wants; None = all of it.

    Raises RangeNotSatisfiable, and InvalidHeader for several ranges at once.
    """
    wanted = headers.get("range")
    if wanted is None:
        return _from_content_range(headers.get("content-range"), size_bytes)
    condition = headers.get("if-range")
    if condition is not None and condition.strip() != etag:
        # RFC 9110 §13.1.5: other data, or a date, which is no strong validator here: all of it.
        return None
    unit, separator, ranges = wanted.partition("=")
    if not separator or unit.strip().lower() != "bytes":
        raise RangeNotSatisfiable(f"Range '{wanted:.60}' is not in bytes.", size_bytes)
    if "," in ranges:
        raise InvalidHeader("Range", "several ranges in one request are not supported")
    match = _BYTES.fullmatch(ranges)
    if match is None or (not match[1] and not match[2]):
        raise RangeNotSatisfiable(f"Range '{wanted:.60}' is not understood.", size_bytes)
    if not match[1]:
        suffix = min(int(match[2]), size_bytes)
        first, last = size_bytes - suffix, size_bytes - 1
    else:
        first = int(match[1])
        last = min(int(match[2]), size_bytes - 1) if match[2] else size_bytes - 1
        if match[2] and int(match[2]) < first:
            raise RangeNotSatisfiable(f"Range '{wanted:.60}' ends before it begins.", size_bytes)
    if first > last:
        raise RangeNotSatisfiable(
            f"Range '{wanted:.60}' lies outside the data of {size_bytes} bytes.", size_bytes
        )
    return Span(first, last)


def _from_content_range(value: str | None, size_bytes: int) -> Span | None:
    # Clients of old Glance asked for parts with this response header (API §9.2).
    if value is None:
        return None
    match = _CONTENT_RANGE.fullmatch(value.strip())
    if match is None:
        raise RangeNotSatisfiable(f"Content-Range '{value:.60}' is not understood.", size_bytes)
    span = Span(int(match[1]), int(match[2]))
    if span.first > span.last or span.last >= size_bytes:
        raise RangeNotSatisfiable(
            f"Content-Range '{value:.60}' lies outside the data of {size_bytes} bytes.", size_bytes
        )
    return span


def is_unchanged(headers: Mapping[str, str], etag: str | None) -> bool:
    """True when the client has this very data already (If-None-Match), which makes a 304.

    Raises PreconditionFailed when If-Match names other data.
    """
    required = headers.get("if-match")
    if required is not None and not _names(required, etag, weak=False):
        raise PreconditionFailed
    known = headers.get("if-none-match")
    return known is not None and _names(known, etag, weak=True)


def _names(value: str, etag: str | None, *, weak: bool) -> bool:
    for match in _ETAG.finditer(value):
        if match[3]:
            return True
        if etag is not None and match[2] == etag and (weak or not match[1]):
            return True
    return False
