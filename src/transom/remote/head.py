"""What the head of an answer says: status, length, range, validators, when to come again."""

from __future__ import annotations

import datetime as dt
import re
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final, NamedTuple

_ETAG = re.compile(r'"[\x21\x23-\x7e]*"')
_RANGE = re.compile(r"bytes\s+([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.ASCII)
_UNSATISFIED = re.compile(r"bytes\s+\*/([0-9]{1,18})", re.ASCII)
_CLOCK_SECONDS: Final = 60
"""A file that was this old when it was sent changes its date when it changes (RFC 9110 §8.8.2.2)."""
_OWN_ENCODINGS: Final = {
    "gzip": (".gz", ".tgz"),
    "x-gzip": (".gz", ".tgz"),
    "compress": (".z",),
    "x-compress": (".z",),
    "bzip2": (".bz2",),
    "x-bzip2": (".bz2",),
    "xz": (".xz",),
    "zstd": (".zst", ".zstd"),
}


class ContentRange(NamedTuple):
    """First and last byte of an answer's part, and the size of the whole if it is known."""

    first: int
    last: int
    size_bytes: int | None


class Head:
    """Status and header fields of an answer; names are in lower case."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status = status
        self.headers = headers

    @property
    def phrase(self) -> str:
        """The status in words of ours and never of the server's: `404 Not Found`."""
        try:
            return f"{self.status} {HTTPStatus(self.status).phrase}"
        except ValueError:
            return str(self.status)

    @property
    def is_chunked(self) -> bool:
        """True when the length of the body shows at its end alone."""
        return "transfer-encoding" in self.headers

    @property
    def length_bytes(self) -> int | None:
        """Content-Length, None where there is none that counts (RFC 9112 §6.3)."""
        text = self.headers.get("content-length", "")
        if self.is_chunked or not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII):
            return None
        return int(text)

    @property
    def content_range(self) -> ContentRange | None:
        """The part that a 206 holds, None where it does not say or holds several."""
        parts = _RANGE.fullmatch(self.headers.get("content-range", "").strip())
        if parts is None:
            return None
        first, last = int(parts[1]), int(parts[2])
        size_bytes = None if parts[3] == "*" else int(parts[3])
        if last < first or (size_bytes is not None and last >= size_bytes):
            return None
        return ContentRange(first, last, size_bytes)

    @property
    def unsatisfied_size_bytes(self) -> int | None:
        """The size of the whole as a 416 tells it."""
        parts = _UNSATISFIED.fullmatch(self.headers.get("content-range", "").strip())
        return int(parts[1]) if parts else None

    @property
    def validator(self) -> str | None:
        """What is the same as long as every byte is: the strong ETag, else a Last-Modified that
        was old enough when it was sent (RFC 9110 §8.8.2.2). Fit for If-Range."""
        etag = self.headers.get("etag")
        if etag is not None and _ETAG.fullmatch(etag):
            return etag
        modified, sent = self._moment("last-modified"), self._moment("date")
        if not self.headers.get("last-modified", "").isascii():
            return None
        if modified is None or sent is None or (sent - modified).total_seconds() < _CLOCK_SECONDS:
            return None
        return self.headers["last-modified"]

    def contradicts(self, validator: str | None) -> bool:
        """True when the answer says that it is of other data than the validator is of."""
        if validator is None:
            return False
        return self.headers.get(_field_of(validator), validator) != validator

    def names(self, validator: str) -> bool:
        """True when the answer says that it is of the data that the validator is of."""
        return self.headers.get(_field_of(validator)) == validator

    @property
    def foreign_encoding(self) -> str | None:
        """The Content-Encoding, if there is one."""
        coding = self.headers.get("content-encoding", "").strip().lower()
        return None if coding in ("", "identity") else coding

    def is_packed_on_the_way(self, path: str) -> bool:
        """True when the body is not the file but a packed form of it, which nobody asked for.

        A file that is packed itself (`disk.qcow2.gz`) is often sent with the encoding of its name.
        """
        coding = self.foreign_encoding
        if coding is None:
            return False
        name = path.partition("?")[0].lower()
        return not name.endswith(_OWN_ENCODINGS.get(coding, ()))

    def retry_after_seconds(self, now: dt.datetime) -> float | None:
        """How long the source wants to be left alone (RFC 9110 §10.2.3), None if it does not say."""
        text = self.headers.get("retry-after", "").strip()
        if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
            return float(text)
        moment = self._moment("retry-after")
        return None if moment is None else max(0.0, (moment - now).total_seconds())

    def _moment(self, name: str) -> dt.datetime | None:
        try:
            moment = parsedate_to_datetime(self.headers.get(name, ""))
        except (ValueError, IndexError, TypeError, OverflowError):
            return None
        return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def _field_of(validator: str) -> str:
    return "etag" if validator.startswith('"') else "last-modified"
