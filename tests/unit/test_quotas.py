"""Limits of the configuration and the room that data takes from its project."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from transom.errors import QuotaExceeded
from transom.model.image import Image
from transom.quotas import Limits
from transom.quotas.limits import STEP_BYTES
from transom.settings import LimitSettings, Settings

MIB = 1024 * 1024


def limits(**values: Any) -> Limits:
    return Limits.open(Settings(limits=LimitSettings(**values)))


def image(owner: str | None = "p1") -> Image:
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    return Image(id="i1", owner=owner, created_at=now, updated_at=now)


class Ledger:
    """The catalog's side of a reservation, in memory: replaces an intake's total, refuses what
    passes the limit. The real one is exercised by the tests of the catalog."""

    def __init__(self, used_bytes: int = 0) -> None:
        self.images = self
        self.used_bytes = used_bytes
        self.reserved: dict[tuple[str, str], int] = {}
        self.calls: list[int] = []

    async def reserve(
        self, image_id: str, key: str, total_bytes: int, *, project: str, limit_bytes: int
    ) -> None:
        self.calls.append(total_bytes)
        others = sum(size for entry, size in self.reserved.items() if entry != (image_id, key))
        attempted = self.used_bytes + others + total_bytes
        if attempted > limit_bytes:
            raise QuotaExceeded(f"bytes of project {project}", limit_bytes, attempted)
        self.reserved[image_id, key] = total_bytes


# --- counts ---


@pytest.mark.parametrize("kind", ["properties", "tags", "members", "locations"])
def test_a_count_may_reach_its_limit_and_not_pass_it(kind: str) -> None:
    few = limits(**{f"image_{kind}_max": 2})
    values: Any = ["a", "b", "c"] if kind in {"properties", "tags"} else 3
    fitting: Any = ["a", "b"] if kind in {"properties", "tags"} else 2

    getattr(few, kind)(fitting)
    with pytest.raises(QuotaExceeded) as over:
        getattr(few, kind)(values)

    assert over.value.limit == 2
    assert over.value.attempted == 3


@pytest.mark.parametrize("kind", ["properties", "tags", "members", "locations"])
def test_minus_one_is_no_limit_and_zero_is_none_at_all(kind: str) -> None:
    value: Any = ["a"] if kind in {"properties", "tags"} else 1

    getattr(limits(**{f"image_{kind}_max": -1}), kind)(value)
    with pytest.raises(QuotaExceeded):
        getattr(limits(**{f"image_{kind}_max": 0}), kind)(value)


def test_properties_of_the_service_itself_do_not_count() -> None:
    few = limits(image_properties_max=1)

    few.properties({"colour": "red", "os_glance_import_task": "t", "os_glance_x": ""})
    with pytest.raises(QuotaExceeded):
        few.properties({"colour": "red", "os_type": "linux"})


def test_tags_count_once_each() -> None:
    limits(image_tags_max=2).tags(["a", "b", "a"])


def test_the_largest_image_is_a_number_or_unlimited() -> None:
    assert limits(image_size_bytes_max=7).image_size_bytes_max == 7
    assert limits(image_size_bytes_max=0).image_size_bytes_max is None


# --- room ---


async def test_without_a_limit_there_is_no_room_to_keep_account_of() -> None:
    ledger: Any = Ledger()

    assert await limits().room_for(ledger, image(), "k", 5) is None
    assert await limits(project_bytes_max=10).room_for(ledger, image(owner=None), "k", 5) is None


async def test_an_announced_size_is_reserved_at_once() -> None:
    ledger: Any = Ledger()
    room = await limits(project_bytes_max=100).room_for(ledger, image(), "k", 100)

    assert room is not None
    assert room.granted_bytes == 100
    await room.extend(100)
    assert ledger.calls == [100]


async def test_an_announced_size_that_cannot_fit_is_refused_before_a_byte_is_sent() -> None:
    ledger: Any = Ledger(used_bytes=50)

    with pytest.raises(QuotaExceeded) as over:
        await limits(project_bytes_max=100).room_for(ledger, image(), "k", 51)

    assert over.value.limit == 100
    assert ledger.reserved == {}


async def test_data_of_unknown_size_takes_room_in_steps() -> None:
    ledger: Any = Ledger()
    room = await limits(project_bytes_max=1000 * MIB).room_for(ledger, image(), "k", None)

    assert room is not None
    assert room.granted_bytes == 0
    for needed in range(MIB, 100 * MIB + 1, MIB):
        await room.extend(needed)
    assert ledger.calls == [STEP_BYTES, 2 * STEP_BYTES]
    assert room.granted_bytes == 2 * STEP_BYTES


async def test_the_last_bytes_are_granted_one_by_one_and_the_next_is_refused() -> None:
    ledger: Any = Ledger(used_bytes=10)
    room = await limits(project_bytes_max=20).room_for(ledger, image(), "k", None)

    assert room is not None
    await room.extend(3)
    await room.extend(10)
    assert room.granted_bytes == 10
    with pytest.raises(QuotaExceeded):
        await room.extend(11)
    assert room.granted_bytes == 10


async def test_more_data_than_announced_asks_for_more_room() -> None:
    ledger: Any = Ledger()
    room = await limits(project_bytes_max=20).room_for(ledger, image(), "k", 5)

    assert room is not None
    await room.extend(12)
    assert room.granted_bytes == 12
