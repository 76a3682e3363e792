"""Ranges and conditions of a download, as API §9.2 and RFC 9110 say."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from transom.api.ranges import Span, is_unchanged, requested_span
from transom.errors import InvalidHeader, PreconditionFailed, RangeNotSatisfiable

ETAG = '"abc"'


def span(value: str, size: int = 10, **more: str) -> Span | None:
    return requested_span(Headers({"range": value, **more}), size, ETAG)


@pytest.mark.parametrize(
    ("value", "first", "last"),
    [
        ("bytes=0-4", 0, 4), ("bytes=5-", 5, 9), ("bytes=-3", 7, 9), ("bytes=9-9", 9, 9),
        ("bytes=0-100", 0, 9), ("bytes=-30", 0, 9), ("BYTES=0-0", 0, 0),
    ],
)  # fmt: skip
def test_one_satisfiable_range(value: str, first: int, last: int) -> None:
    assert span(value) == Span(first, last)


@pytest.mark.parametrize(
    "value",
    ["bytes=10-", "bytes=5-4", "bytes=", "bytes=abc-", "bytes=-", "items=0-1", "free text",
     "bytes=-0", "bytes=0-4-5",],
)  # fmt: skip
def test_ranges_that_hold_no_byte(value: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        span(value)


def test_no_range_fits_empty_data() -> None:
    for value in ("bytes=0-", "bytes=-1", "bytes=0-0"):
        with pytest.raises(RangeNotSatisfiable):
            span(value, size=0)


def test_several_ranges_are_refused() -> None:
    with pytest.raises(InvalidHeader):
        span("bytes=0-1,3-4")


def test_if_range_with_other_data_asks_for_all_of_it() -> None:
    assert span("bytes=0-4", **{"if-range": ETAG}) == Span(0, 4)
    assert span("bytes=0-4", **{"if-range": '"other"'}) is None
    assert span("bytes=0-4", **{"if-range": 'W/"abc"'}) is None
    assert span("bytes=0-4", **{"if-range": "Sun, 06 Nov 1994 08:49:37 GMT"}) is None


def test_content_range_of_old_clients_counts_without_range() -> None:
    def old(value: str) -> Span | None:
        return requested_span(Headers({"content-range": value}), 10, ETAG)

    assert old("bytes 0-4/*") == Span(0, 4)
    assert old("bytes 0-4/10") == Span(0, 4)
    for value in ("bytes 0-10/*", "bytes 5-4/10", "nonsense"):
        with pytest.raises(RangeNotSatisfiable):
            old(value)


def test_if_none_match_spares_the_transfer() -> None:
    for value in (ETAG, "*", '"x", "abc"', 'W/"abc"'):
        assert is_unchanged(Headers({"if-none-match": value}), ETAG)
    assert not is_unchanged(Headers({"if-none-match": '"x"'}), ETAG)
    assert not is_unchanged(Headers({}), ETAG)


def test_if_match_insists_on_the_data() -> None:
    assert not is_unchanged(Headers({"if-match": ETAG}), ETAG)
    assert not is_unchanged(Headers({"if-match": "*"}), ETAG)
    for value in ('"x"', 'W/"abc"'):
        with pytest.raises(PreconditionFailed):
            is_unchanged(Headers({"if-match": value}), ETAG)
