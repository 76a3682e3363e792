"""What the head of a source's answer says."""

from __future__ import annotations

import datetime as dt

import pytest

from transom.remote.head import ContentRange, Head

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
MODIFIED = "Tue, 01 Jul 2025 10:00:00 GMT"


def head(**fields: str) -> Head:
    return Head(200, {name.replace("_", "-"): text for name, text in fields.items()})


@pytest.mark.parametrize(
    ("fields", "validator"),
    [
        ({"etag": '"a"'}, '"a"'), ({"etag": '""'}, '""'), ({"etag": 'W/"a"'}, None),
        ({"etag": "a"}, None), ({"etag": '"\xe9"'}, None), ({"etag": '"a"b"'}, None), ({}, None),
        ({"last_modified": MODIFIED}, None),
        ({"last_modified": MODIFIED, "date": "Tue, 01 Jul 2025 10:00:59 GMT"}, None),
        ({"last_modified": MODIFIED, "date": "Tue, 01 Jul 2025 10:01:00 GMT"}, MODIFIED),
        ({"last_modified": MODIFIED, "date": "soon"}, None),
        ({"last_modified": "long ago", "date": MODIFIED}, None),
        ({"etag": 'W/"a"', "last_modified": MODIFIED, "date": "Wed, 02 Jul 2025 10:00:00 GMT"},
         MODIFIED),
    ],
)  # fmt: skip
def test_only_what_stands_for_every_byte_is_a_validator(
    fields: dict[str, str], validator: str | None
) -> None:
    assert head(**fields).validator == validator


def test_an_answer_names_contradicts_or_leaves_open_what_it_is_of() -> None:
    assert head(etag='"a"').names('"a"')
    assert head(etag='"b"').contradicts('"a"')
    assert head(etag='W/"a"').contradicts('"a"')
    assert head(last_modified=MODIFIED).names(MODIFIED)
    silent = head(last_modified=MODIFIED)
    assert not silent.names('"a"')
    assert not silent.contradicts('"a"')
    assert not head(etag='"a"').contradicts(None)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("bytes 0-9/10", ContentRange(0, 9, 10)), ("bytes 5-9/*", ContentRange(5, 9, None)),
        ("bytes 9-5/10", None), ("bytes 0-10/10", None), ("bytes */10", None), ("items 0-1/2", None),
        ("bytes 0-9", None), ("", None), ("bytes -1-9/10", None), ("bytes 0-9/" + "9" * 19, None),
    ],
)  # fmt: skip
def test_a_content_range_is_one_part_or_nothing(text: str, found: ContentRange | None) -> None:
    assert head(content_range=text).content_range == found


@pytest.mark.parametrize(
    ("coding", "path", "packed"),
    [
        ("", "/a", False), ("identity", "/a", False), ("gzip", "/a.raw", True), ("br", "/a.br", True),
        ("gzip", "/a.raw.gz", False), ("x-gzip", "/a.TGZ?x=y", False), ("gzip", "/a.raw?n=a.gz", True),
        ("gzip, gzip", "/a.gz", True), ("zstd", "/a.zst", False), ("xz", "/a.gz", True),
    ],
)  # fmt: skip
def test_an_encoding_is_the_files_own_when_its_name_says_so(
    coding: str, path: str, packed: bool
) -> None:
    assert head(content_encoding=coding).is_packed_on_the_way(path) is packed


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0), ("120", 120.0), ("Thu, 01 Jan 2026 00:01:30 GMT", 90.0),
        ("Tue, 01 Jul 2025 10:00:00 GMT", 0.0), ("", None), ("-5", None), ("soon", None),
        ("1.5", None),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(text: str, seconds: float | None) -> None:
    assert head(retry_after=text).retry_after_seconds(NOW) == seconds


@pytest.mark.parametrize(
    ("fields", "length"),
    [
        ({"content_length": "7"}, 7), ({"content_length": "-7"}, None), ({}, None),
        ({"content_length": "7", "transfer_encoding": "chunked"}, None),
    ],
)  # fmt: skip
def test_a_length_counts_unless_the_body_is_in_chunks(
    fields: dict[str, str], length: int | None
) -> None:
    assert head(**fields).length_bytes == length


def test_the_phrase_is_ours_and_not_the_servers() -> None:
    assert Head(404, {}).phrase == "404 Not Found"
    assert Head(799, {}).phrase == "799"
