"""Rows that were read before: what is remembered of them."""

from __future__ import annotations

import datetime as dt
from typing import Any

from transom.catalog.known import Known
from transom.catalog.rows import COLUMNS, image_of, moment_of, values_of
from transom.model.image import Image

NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)


def a_row(id_: str = "a", **changed: Any) -> tuple[Any, ...]:
    """A row of COLUMNS and no member."""
    values = values_of(
        Image(id=id_, created_at=NOON, updated_at=NOON, properties={"os_distro": "debian"})
    )
    values |= changed
    return (*(values[column.name] for column in COLUMNS), None)


def known(images_max: int = 100) -> Known:
    """A memory for rows of PostgreSQL."""
    return Known(moment_of("postgresql"), images_max)


def test_the_same_row_is_the_same_image() -> None:
    memory = known()
    assert memory.image(a_row()) is memory.image(a_row())


def test_a_row_that_differs_anywhere_is_another_image() -> None:
    memory = known()
    before = memory.image(a_row())
    for name, value in [("name", "b"), ("properties", "{}"), ("revision", 1), ("owner", "o")]:
        row = a_row(**{name: value})
        after = memory.image(row)
        assert after == image_of(row, moment_of("postgresql")) != before
        before = memory.image(a_row())
    assert memory.image((*a_row()[:-1], "a member")).member_id == "a member"


def test_what_was_not_asked_for_the_longest_is_forgotten_first() -> None:
    memory = known(images_max=2)
    first, second = memory.image(a_row("a")), memory.image(a_row("b"))
    assert memory.image(a_row("a")) is first
    memory.image(a_row("c"))
    assert memory.image(a_row("a")) is first
    assert memory.image(a_row("b")) is not second
