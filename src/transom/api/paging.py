"""From a query string to an ImageQuery, and the links of a page (API §5)."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any, Final, Literal, cast
from urllib.parse import quote_plus, urlencode

from transom.errors import InvalidQuery
from transom.model.query import (
    SORT_KEYS,
    Direction,
    ImageQuery,
    RangeFilter,
    TimeFilter,
    TimeOperator,
)
from transom.settings import LimitSettings

_LISTS: Final = frozenset({"name", "status", "id", "container_format", "disk_format"})
_PLAIN: Final = frozenset({"owner", "checksum", "os_hash_algo", "os_hash_value"})
_INTEGERS: Final = frozenset({"size", "virtual_size", "min_ram", "min_disk"})
_TIMES: Final = frozenset({"created_at", "updated_at"})
_TIME_OPERATORS: Final = ("eq", "neq", "gt", "gte", "lt", "lte")
_COMPARISONS: Final = frozenset({*_TIME_OPERATORS, "in"})
_NO_FILTER: Final = frozenset(
    {
        "locations", "members", "properties", "tags", "direct_url", "self", "file", "schema",
        "stores", "changes-since",
    }
)  # fmt: skip
_NO_EFFECT: Final = frozenset({"deleted", "deleted_at"})
_PAGE: Final = frozenset({"limit", "marker", "sort", "sort_key", "sort_dir", "tag"})
_BIGINT: Final = 2**63
_DIGITS_MAX: Final = 30
_ISO_8601: Final = re.compile(r"\d{4}-?\d{2}-?\d{2}([T ].*)?$")

Pairs = list[tuple[str, str]]


def image_query(pairs: Pairs, limits: LimitSettings) -> ImageQuery:
    """The question that a query string asks. Raises InvalidQuery."""
    last = dict(pairs)
    parts: dict[str, Any] = {}
    filters = _Filters()
    for name, value in last.items():
        if name not in _PAGE:
            filters.read(name, value)
    parts |= filters.parts()
    if "visibility" in last:
        parts["visibility"] = _choice(
            last, "visibility", ("public", "community", "shared", "private", "all")
        )
    if "member_status" in last:
        parts["member_status"] = _choice(
            last, "member_status", ("pending", "accepted", "rejected", "all")
        )
    if "os_hidden" in last:
        parts["os_hidden"] = _choice(last, "os_hidden", ("true", "false"), folded=True) == "true"
    if "protected" in last:
        parts["protected"] = _choice(last, "protected", ("true", "false")) == "true"
    return ImageQuery(
        limit=page_size(last.get("limit"), limits),
        marker=last.get("marker"),
        sort=sort_order(pairs),
        tags=tuple(dict.fromkeys(value.strip() for name, value in pairs if name == "tag")),
        **parts,
    )


def page_size(text: str | None, limits: LimitSettings) -> int:
    """The length of the page that `limit` asks for. Raises InvalidQuery."""
    number = count(text)
    return limits.page_size_default if number is None else min(number, limits.page_size_max)


def count(text: str | None, *, at_least: int = 0) -> int | None:
    """The number that `limit` gives; None when it is not given. Raises InvalidQuery."""
    if text is None:
        return None
    if not re.fullmatch(r"\s*[+-]?[0-9]{1,30}\s*", text, re.ASCII):
        raise InvalidQuery("limit", f"'{text:.40}' is not an integer")
    number = int(text)
    if number < at_least:
        raise InvalidQuery("limit", f"it must be {at_least} or more")
    return min(number, _BIGINT - 1)


def choice(asked: dict[str, str], name: str, allowed: tuple[str, ...]) -> str | None:
    """One of the words that a parameter may be; None when it is not given. Raises InvalidQuery."""
    return _choice(asked, name, allowed) if name in asked else None


def links(path: str, pairs: Pairs, next_marker: str | None) -> dict[str, str]:
    """`first` and, when there is a next page, `next`; repeated parameters survive in both."""
    kept = [(name, value) for name, value in pairs if name != "marker"]
    query = urlencode(kept) if kept else ""
    found = {"first": f"{path}?{query}" if query else path}
    if next_marker is not None:
        marker = f"marker={quote_plus(next_marker)}"
        found["next"] = f"{path}?{query}&{marker}" if query else f"{path}?{marker}"
    return found


def sort_order(pairs: Pairs) -> tuple[tuple[str, Direction], ...]:
    """The total order that `sort`, or `sort_key` and `sort_dir`, ask for. Raises InvalidQuery."""
    keys = [value for name, value in pairs if name == "sort_key"]
    directions = [value for name, value in pairs if name == "sort_dir"]
    sorts = [value for name, value in pairs if name == "sort"]
    if sorts and (keys or directions):
        raise InvalidQuery("sort", "use either sort, or sort_key and sort_dir")
    tail: Direction = "desc"
    if sorts:
        order = [_sort_item(item) for item in sorts[-1].split(",")]
    else:
        for direction in directions:
            if direction not in ("asc", "desc"):
                raise InvalidQuery("sort_dir", f"'{direction:.40}' is neither asc nor desc")
        given = keys or ["created_at"]
        if len(directions) > 1 and len(directions) != len(given):
            raise InvalidQuery("sort_dir", "give it once, or once for each sort_key")
        if len(directions) == 1:
            tail = cast("Direction", directions[0])
        spread = directions if len(directions) == len(given) else [tail] * len(given)
        order = [
            (_sort_key(key), cast("Direction", way)) for key, way in zip(given, spread, strict=True)
        ]
    unique: dict[str, Direction] = {}
    for key, way in order:
        unique.setdefault(key, way)
    for key in ("created_at", "id"):
        unique.setdefault(key, tail)
    return tuple(unique.items())


def _sort_item(item: str) -> tuple[str, Direction]:
    key, separator, direction = item.partition(":")
    direction = direction.strip() if separator else "desc"
    if direction not in ("asc", "desc"):
        raise InvalidQuery("sort", f"'{direction:.40}' is neither asc nor desc")
    return _sort_key(key.strip(), "sort"), cast("Direction", direction)


def _sort_key(key: str, parameter: str = "sort_key") -> str:
    if key not in SORT_KEYS:
        raise InvalidQuery(parameter, f"'{key:.40}' is not one of: {', '.join(SORT_KEYS)}")
    return key


def _choice(
    last: dict[str, str], name: str, allowed: tuple[str, ...], *, folded: bool = False
) -> str:
    value = last[name].lower() if folded else last[name]
    if value not in allowed:
        raise InvalidQuery(name, f"'{value:.40}' is not one of: {', '.join(allowed)}")
    return value


class _Filters:
    def __init__(self) -> None:
        self.equals: Pairs = []
        self.integers: list[tuple[str, int]] = []
        self.one_of: list[tuple[str, tuple[str, ...]]] = []
        self.ranges: list[RangeFilter] = []
        self.times: list[TimeFilter] = []
        self.properties: Pairs = []
        self.matches_nothing = False

    def parts(self) -> dict[str, Any]:
        return {
            "equals": tuple(self.equals),
            "integers": tuple(self.integers),
            "one_of": tuple(self.one_of),
            "ranges": tuple(self.ranges),
            "times": tuple(self.times),
            "properties": tuple(self.properties),
            "matches_nothing": self.matches_nothing,
        }

    def read(self, name: str, value: str) -> None:
        if name in _LISTS:
            self._text(name, value)
        elif name in _PLAIN:
            self.equals.append((name, value))
        elif name in _INTEGERS:
            self._integer(name, value)
        elif name in _TIMES:
            self.times.append(time_filter(name, value))
        elif name.endswith(("_min", "_max")):
            self._range(name, value)
        elif name in _NO_FILTER:
            raise InvalidQuery(name, "images cannot be filtered by it")
        elif (
            name in ("visibility", "member_status", "os_hidden", "protected") or name in _NO_EFFECT
        ):
            return
        else:
            self.properties.append((name, value))

    def _text(self, name: str, value: str) -> None:
        operator, separator, rest = value.partition(":")
        if not separator:
            self.equals.append((name, value))
        elif operator == "eq":
            self.equals.append((name, rest))
        elif operator == "in":
            self.one_of.append((name, tuple(dict.fromkeys(split_list(name, rest)))))
        elif _is_time(value):
            self.equals.append((name, value))
        else:
            raise InvalidQuery(
                name,
                f"operator '{operator:.40}' is not known here; use eq: or in: "
                "before a value that holds a colon",
            )

    def _integer(self, name: str, value: str) -> None:
        if re.fullmatch(r"[+-]?[0-9]{1,30}", value, re.ASCII) and abs(int(value)) < _BIGINT:
            self.integers.append((name, int(value)))
        else:
            self.matches_nothing = True

    def _range(self, name: str, value: str) -> None:
        column, _, bound = name.rpartition("_")
        if column not in _INTEGERS:
            raise InvalidQuery(name, f"bounds exist for: {', '.join(sorted(_INTEGERS))}")
        if not re.fullmatch(r"[+-]?[0-9]+", value, re.ASCII) or len(value) > _DIGITS_MAX:
            raise InvalidQuery(name, f"'{value:.40}' is not an integer")
        number = min(max(int(value), -_BIGINT), _BIGINT - 1)
        self.ranges.append(
            RangeFilter(
                cast("Literal['size', 'virtual_size', 'min_ram', 'min_disk']", column),
                cast("Literal['min', 'max']", bound),
                number,
            )
        )


def time_filter(name: str, value: str) -> TimeFilter:
    """A comparison of times: `<time>` or `<operator>:<time>`. Raises InvalidQuery."""
    operator, text = "eq", value
    if not _is_time(value):
        operator, separator, text = value.partition(":")
        if separator and operator not in _TIME_OPERATORS:
            known = ", ".join(_TIME_OPERATORS)
            raise InvalidQuery(name, f"operator '{operator:.40}' is not one of: {known}")
    return TimeFilter(
        cast("Literal['created_at', 'updated_at']", name),
        cast("TimeOperator", operator),
        moment(name, text),
    )


def moment(name: str, text: str) -> dt.datetime:
    """A time in ISO 8601, UTC when it names no offset. Raises InvalidQuery."""
    try:
        # In a query string an unescaped `+` arrives as a blank.
        parsed = dt.datetime.fromisoformat(re.sub(r" (\d\d:?\d\d)$", r"+\1", text.strip()))
        return parsed.replace(tzinfo=dt.UTC) if parsed.tzinfo is None else parsed.astimezone(dt.UTC)
    except (ValueError, OverflowError) as wrong:
        raise InvalidQuery(
            name, f"'{text:.40}' is not a time in ISO 8601, like 2026-01-31T08:00:00Z"
        ) from wrong


def _is_time(value: str) -> bool:
    return _ISO_8601.match(value) is not None


def split_list(name: str, text: str) -> list[str]:
    """The values of an `in:` list (API §5.3). Raises InvalidQuery.

    A value that holds a comma stands in double quotes; inside, a backslash escapes a quote and a
    backslash.
    """
    values: list[str] = []
    if not text:
        return values
    position, length = 0, len(text)
    while True:
        if position < length and text[position] == '"':
            value, position = _quoted(name, text, position + 1)
        else:
            end = text.find(",", position)
            end = length if end < 0 else end
            value = text[position:end]
            if '"' in value:
                raise InvalidQuery(name, "a quote must stand at both ends of a value")
            position = end
        values.append(value)
        if position == length:
            return values
        position += 1


def _quoted(name: str, text: str, position: int) -> tuple[str, int]:
    value: list[str] = []
    while position < len(text):
        character = text[position]
        if character == "\\" and text[position + 1 : position + 2] in ('"', "\\"):
            value.append(text[position + 1])
            position += 2
        elif character == '"':
            if text[position + 1 : position + 2] not in ("", ","):
                raise InvalidQuery(name, "a closing quote must be followed by a comma or the end")
            return "".join(value), position + 1
        else:
            value.append(character)
            position += 1
    raise InvalidQuery(name, "a quote is not closed")
