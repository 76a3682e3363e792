"""The query strings of a list, read as API §5 says."""

from __future__ import annotations

import datetime as dt

import pytest

from transom.api import paging
from transom.errors import InvalidQuery
from transom.model.query import ImageQuery, RangeFilter, TimeFilter
from transom.settings import LimitSettings

LIMITS = LimitSettings(page_size_default=25, page_size_max=100)


def read(*pairs: tuple[str, str]) -> ImageQuery:
    return paging.image_query(list(pairs), LIMITS)


def test_an_empty_query_asks_for_a_default_page_newest_first() -> None:
    query = read()
    assert query.limit == 25
    assert query.sort == (("created_at", "desc"), ("id", "desc"))
    assert not query.os_hidden


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("7", 7), ("100", 100), ("5000", 100)])
def test_limit_is_cut_to_the_longest_page(text: str, size: int) -> None:
    assert read(("limit", text)).limit == size


@pytest.mark.parametrize("text", ["-1", "abc", "", "1.5", "1e3", "٣", "0x10"])
def test_limit_that_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(InvalidQuery, match="limit"):
        read(("limit", text))


@pytest.mark.parametrize(
    ("pairs", "order"),
    [
        ([("sort_key", "name")], ["name desc", "created_at desc", "id desc"]),
        ([("sort_dir", "asc")], ["created_at asc", "id asc"]),
        ([("sort_key", "name"), ("sort_dir", "asc")], ["name asc", "created_at asc", "id asc"]),
        (
            [("sort_key", "name"), ("sort_key", "size"), ("sort_dir", "asc"), ("sort_dir", "desc")],
            ["name asc", "size desc", "created_at desc", "id desc"],
        ),
        (
            [("sort_key", "name"), ("sort_key", "size"), ("sort_dir", "asc")],
            ["name asc", "size asc", "created_at asc", "id asc"],
        ),
        ([("sort", "name:asc, status")], ["name asc", "status desc", "created_at desc", "id desc"]),
        ([("sort", "id:asc,created_at:asc")], ["id asc", "created_at asc"]),
    ],
)
def test_order_is_total(pairs: list[tuple[str, str]], order: list[str]) -> None:
    assert [" ".join(item) for item in read(*pairs).sort] == order


@pytest.mark.parametrize(
    "pairs",
    [
        [("sort_key", "colour")],
        [("sort_dir", "up")],
        [("sort_key", "name"), ("sort_dir", "asc"), ("sort_dir", "asc")],
        [("sort", "name:up")],
        [("sort", "")],
        [("sort", "name,")],
        [("sort", "name"), ("sort_key", "name")],
        [("sort", "name"), ("sort_dir", "asc")],
    ],
)
def test_order_that_cannot_be_is_refused(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(InvalidQuery):
        read(*pairs)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a,b", ["a", "b"]),
        (" a,b ", [" a", "b "]),
        ('"a,b",c', ["a,b", "c"]),
        (r'"say \"hi\"",c', ['say "hi"', "c"]),
        (r'"back\\slash"', ["back\\slash"]),
        ("", []),
        ("a,", ["a", ""]),
        ('""', [""]),
    ],
)
def test_lists_are_split_and_quotes_resolved(text: str, values: list[str]) -> None:
    assert paging.split_list("name", text) == values


@pytest.mark.parametrize("text", ['"a', 'a"b', '"a"b', '"a",b"', r'"a\"'])
def test_lists_with_stray_quotes_are_refused(text: str) -> None:
    with pytest.raises(InvalidQuery):
        paging.split_list("name", text)


def test_text_columns_take_operators_and_quoting() -> None:
    assert read(("name", "eq:in:x")).equals == (("name", "in:x"),)
    assert read(("name", "in:a,b")).one_of == (("name", ("a", "b")),)
    assert read(("name", "a,b")).equals == (("name", "a,b"),)
    with pytest.raises(InvalidQuery):
        read(("name", "gt:a"))
    with pytest.raises(InvalidQuery):
        read(("name", "with:colon"))


def test_a_name_that_is_a_time_is_recognised_before_splitting() -> None:
    assert read(("name", "2026-01-31T08:00:00Z")).equals == (("name", "2026-01-31T08:00:00Z"),)


def test_properties_take_no_operators() -> None:
    assert read(("LIMIT", "in:2")).properties == (("LIMIT", "in:2"),)


@pytest.mark.parametrize(
    ("text", "operator", "moment"),
    [
        ("2026-01-31", "eq", dt.datetime(2026, 1, 31, tzinfo=dt.UTC)),
        ("gt:2026-01-31T08:00:00Z", "gt", dt.datetime(2026, 1, 31, 8, tzinfo=dt.UTC)),
        ("lte:2026-01-31T08:00:00+02:00", "lte", dt.datetime(2026, 1, 31, 6, tzinfo=dt.UTC)),
        ("lte:2026-01-31T08:00:00 02:00", "lte", dt.datetime(2026, 1, 31, 6, tzinfo=dt.UTC)),
        ("neq:20260131T080000Z", "neq", dt.datetime(2026, 1, 31, 8, tzinfo=dt.UTC)),
    ],
)
def test_times_are_compared_in_utc(text: str, operator: str, moment: dt.datetime) -> None:
    assert read(("created_at", text)).times == (TimeFilter("created_at", operator, moment),)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["yesterday", "in:2026-01-31", "near:2026-01-31", "gt:", ""])
def test_times_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InvalidQuery, match="updated_at"):
        read(("updated_at", text))


def test_integer_columns_take_bounds_and_ignore_what_no_size_can_be() -> None:
    assert read(("size_min", "5")).ranges == (RangeFilter("size", "min", 5),)
    assert read(("size", "many")).matches_nothing
    assert read(("size", "9" * 25)).matches_nothing
    assert read(("min_ram", "512")).integers == (("min_ram", 512),)


@pytest.mark.parametrize(
    "pair",
    [
        ("size_min", "x"), ("name_min", "1"), ("colour_max", "1"), ("changes-since", "2026-01-31"),
        ("tags", "a"), ("locations", "x"), ("stores", "x"), ("visibility", "secret"),
        ("visibility", ""), ("member_status", "maybe"), ("os_hidden", "1"), ("protected", "True"),
    ],
)  # fmt: skip
def test_filters_that_do_not_exist_are_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(InvalidQuery):
        read(pair)


def test_tags_repeat_and_lose_their_surrounding_blanks() -> None:
    assert read(("tag", " a "), ("tag", "b"), ("tag", "a")).tags == ("a", "b")


def test_links_keep_repeated_parameters_and_drop_the_marker() -> None:
    pairs = [("tag", "a"), ("marker", "old"), ("tag", "b:c"), ("limit", "2")]
    assert paging.links("/v2/images", pairs, "new") == {
        "first": "/v2/images?tag=a&tag=b%3Ac&limit=2",
        "next": "/v2/images?tag=a&tag=b%3Ac&limit=2&marker=new",
    }
    assert paging.links("/v2/images", [], None) == {"first": "/v2/images"}
