"""Limits of the configuration and the room that data takes from its project."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace
from typing import Any

import pytest

from transom.errors import ConfigurationError, QuotaExceeded
from transom.model.image import Image
from transom.quotas import Limits
from transom.quotas.limits import STEP_BYTES
from transom.quotas.unified import MIB, UnifiedLimits
from transom.settings import Identity, Keystone, LimitSettings, Settings


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
        self.limits_asked: list[int] = []
        self.count = 0
        self.uploading = 1
        self.bytes_staged = 0

    async def usage(self, project: str) -> Any:
        return SimpleNamespace(
            bytes_total=self.used_bytes,
            bytes_staged=self.bytes_staged,
            bytes_reserved=sum(self.reserved.values()),
            images=self.count,
            uploading=self.uploading,
        )

    async def reserve(
        self, image_id: str, key: str, total_bytes: int, *, project: str, limit_bytes: int
    ) -> None:
        self.calls.append(total_bytes)
        self.limits_asked.append(limit_bytes)
        others = sum(size for entry, size in self.reserved.items() if entry != (image_id, key))
        attempted = self.used_bytes + others + total_bytes
        if limit_bytes and attempted > limit_bytes:
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


# --- limits of Keystone ---


class Limiter:
    """An identity backend that knows limits."""

    def __init__(self, **limits: int) -> None:
        self.limits = limits

    async def limits_of(self, project_id: str) -> dict[str, int]:
        assert project_id == "p1"
        return self.limits


def unified(own: dict[str, int] | None = None, **values: Any) -> UnifiedLimits:
    plenty = {
        "image_size_total": 10,
        "image_stage_total": 10,
        "image_count_total": 10,
        "image_count_uploading": 10,
    }
    return UnifiedLimits(LimitSettings(**values), Limiter(**plenty | (own or {})))


async def test_one_more_image_has_to_fit() -> None:
    ledger: Any = Ledger()
    ledger.count = 9
    await unified().images(ledger, "p1")
    ledger.count = 10

    with pytest.raises(QuotaExceeded) as over:
        await unified().images(ledger, "p1")

    assert (over.value.what, over.value.limit, over.value.attempted) == (
        "image_count_total",
        10,
        11,
    )


async def test_images_that_belong_to_nobody_are_not_limited() -> None:
    ledger: Any = Ledger()
    none = unified({"image_count_total": 0, "image_size_total": 0})

    await none.images(ledger, None)
    await none.staging(ledger, image(owner=None))
    assert await none.room_for(ledger, image(owner=None), "k", 5) is None
    assert await none.usage(ledger, None) == {}


async def test_minus_one_is_unlimited_and_an_unregistered_limit_is_nothing() -> None:
    ledger: Any = Ledger(used_bytes=1000 * MIB)
    ledger.count = ledger.uploading = 1000
    everything = UnifiedLimits(
        LimitSettings(),
        Limiter(image_size_total=-1, image_count_total=-1, image_count_uploading=-1),
    )
    await everything.images(ledger, "p1")
    room = await everything.room_for(ledger, image(), "k", 5)
    assert room is not None
    assert ledger.limits_asked == [0]

    with pytest.raises(QuotaExceeded):
        await UnifiedLimits(LimitSettings(), Limiter()).images(ledger, "p1")


async def test_images_being_uploaded_count_with_this_one_among_them() -> None:
    ledger: Any = Ledger()
    one = unified({"image_count_uploading": 1})
    ledger.uploading = 1
    await one.room_for(ledger, image(), "k", 5)
    ledger.uploading = 2

    with pytest.raises(QuotaExceeded, match="image_count_uploading"):
        await one.room_for(ledger, image(), "k", 5)
    with pytest.raises(QuotaExceeded, match="image_count_uploading"):
        await one.staging(ledger, image())


async def test_an_announced_size_has_to_fit_in_whole_mebibytes() -> None:
    ledger: Any = Ledger(used_bytes=9 * MIB)

    assert await unified().room_for(ledger, image(), "k1", 2 * MIB - 1)
    with pytest.raises(QuotaExceeded):
        await unified().room_for(ledger, image(), "k2", 1)


async def test_data_of_unknown_size_is_refused_once_the_limit_is_passed() -> None:
    ledger: Any = Ledger(used_bytes=10 * MIB)
    room = await unified().room_for(ledger, image(), "k1", None)
    assert room is not None
    await room.extend(5 * MIB)

    # What has come in counts against the next one.
    with pytest.raises(QuotaExceeded, match="image_size_total"):
        await unified().room_for(ledger, image(), "k2", None)


async def test_the_configurations_own_limit_counts_besides() -> None:
    ledger: Any = Ledger()
    with pytest.raises(QuotaExceeded):
        await unified(project_bytes_max=MIB).room_for(ledger, image(), "k", 2 * MIB)
    room = await unified(project_bytes_max=MIB).room_for(ledger, image(), "k", None)
    assert room is not None
    with pytest.raises(QuotaExceeded):
        await room.extend(2 * MIB)


async def test_staging_is_refused_once_its_limit_is_passed() -> None:
    ledger: Any = Ledger()
    ledger.bytes_staged = 11 * MIB - 1
    await unified().staging(ledger, image())
    ledger.bytes_staged = 11 * MIB

    with pytest.raises(QuotaExceeded, match="image_stage_total"):
        await unified().staging(ledger, image())
    await limits().staging(ledger, image())


async def test_usage_is_told_with_its_limits() -> None:
    ledger: Any = Ledger(used_bytes=3 * MIB + 5)
    ledger.count, ledger.uploading, ledger.bytes_staged = 4, 2, 2 * MIB - 1

    assert await unified({"image_count_total": -1}).usage(ledger, "p1") == {
        "image_size_total": {"limit": 10, "usage": 3},
        "image_stage_total": {"limit": 10, "usage": 1},
        "image_count_total": {"limit": -1, "usage": 4},
        "image_count_uploading": {"limit": 10, "usage": 2},
    }
    assert await limits().usage(ledger, "p1") == {}


def test_unified_limits_need_a_backend_that_knows_them() -> None:
    asked = Keystone(use_limits=True)

    with pytest.raises(ConfigurationError, match="use_limits"):
        Limits.open(Settings(identity=Identity(backend="local", keystone=asked)), Limiter())
    with pytest.raises(ConfigurationError, match="use_limits"):
        Limits.open(Settings(identity=Identity(backend="keystone", keystone=asked)))
    opened = Limits.open(Settings(identity=Identity(backend="keystone", keystone=asked)), Limiter())
    assert isinstance(opened, UnifiedLimits)
