"""Limits of the configuration and the room that data takes from its project."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from transom.errors import ConfigurationError, QuotaExceeded
from transom.model.image import Image, Status
from transom.model.limit import BytesLimit, CountLimit
from transom.quotas import Allowance, Limits
from transom.quotas.limits import AHEAD_BYTES_MAX
from transom.quotas.unified import MIB, RESOURCES, UnifiedLimits
from transom.settings import Identity, Keystone, LimitSettings, Settings


def limits(**values: Any) -> Limits:
    return Limits.open(Settings(limits=LimitSettings(**values)))


def image(owner: str | None = "p1", status: Status = Status.SAVING) -> Image:
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    return Image(id="i1", owner=owner, status=status, created_at=now, updated_at=now)


class Ledger:
    """The catalog's side of a reservation, in memory: replaces an intake's total, gives what fits of
    what is wanted, refuses what passes a limit. The real one is exercised by the tests of the catalog."""

    def __init__(self, used_bytes: int = 0) -> None:
        self.images = self
        self.used_bytes = used_bytes
        self.reserved: dict[tuple[str, str], int] = {}
        self.calls: list[tuple[int, int]] = []
        self.limits_asked: list[list[str]] = []
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
        self,
        image_id: str,
        key: str,
        needed_bytes: int,
        wanted_bytes: int,
        *,
        project: str,
        limits: Sequence[BytesLimit],
    ) -> int:
        self.calls.append((needed_bytes, wanted_bytes))
        self.limits_asked.append([limit.name for limit in limits])
        others = sum(size for entry, size in self.reserved.items() if entry != (image_id, key))
        granted = wanted_bytes
        for limit in limits:
            used = self.bytes_staged if limit.counts == "staged" else self.used_bytes
            left = limit.bytes_max - used - others
            if needed_bytes <= left:
                granted = min(granted, left)
            elif limit.is_exact or left < 0:
                raise QuotaExceeded(limit.name, limit.bytes_max, used + others + needed_bytes)
        self.reserved[image_id, key] = max(granted, self.reserved.get((image_id, key), 0))
        return self.reserved[image_id, key]


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
    assert ledger.calls == [(100, 100)]


async def test_an_announced_size_that_cannot_fit_is_refused_before_a_byte_is_sent() -> None:
    ledger: Any = Ledger(used_bytes=50)

    with pytest.raises(QuotaExceeded) as over:
        await limits(project_bytes_max=100).room_for(ledger, image(), "k", 51)

    assert over.value.limit == 100
    assert ledger.reserved == {}


async def test_data_of_unknown_size_takes_room_in_growing_steps() -> None:
    ledger: Any = Ledger()
    room = await limits(project_bytes_max=10_000 * MIB).room_for(ledger, image(), "k", None)

    assert room is not None
    assert room.granted_bytes == 0
    for needed in range(MIB, 1000 * MIB + 1, MIB):
        await room.extend(needed)
        assert needed <= room.granted_bytes <= needed + AHEAD_BYTES_MAX
        assert room.granted_bytes <= needed * 5 // 4 or needed <= 4 * MIB
    # A thousand pieces, and few questions.
    assert len(ledger.calls) < 45


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
    assert 12 <= room.granted_bytes <= 20


async def test_without_a_limit_of_keystone_projects_may_have_any_number_of_images() -> None:
    assert await limits().allowance("p1") == Allowance()
    assert (await limits(project_bytes_max=5).allowance("p1")).images is None


# --- limits of Keystone ---


class Limiter:
    """An identity backend that knows limits."""

    def __init__(self, **limits: int) -> None:
        self.limits = limits
        self.asked = 0

    async def limits_of(self, project_id: str) -> dict[str, int]:
        assert project_id == "p1"
        self.asked += 1
        return self.limits


def unified(own: dict[str, int] | None = None, **values: Any) -> UnifiedLimits:
    plenty = {
        "image_size_total": 10,
        "image_stage_total": 10,
        "image_count_total": 10,
        "image_count_uploading": 10,
    }
    return UnifiedLimits(LimitSettings(**values), Limiter(**plenty | (own or {})))


async def test_counts_are_limited_as_keystone_says() -> None:
    allowance = await unified({"image_count_total": 3, "image_count_uploading": 0}).allowance("p1")

    assert allowance.images == CountLimit("image_count_total", 3)
    assert allowance.uploading == CountLimit("image_count_uploading", 0)


async def test_images_that_belong_to_nobody_are_not_limited() -> None:
    ledger: Any = Ledger()
    none = unified({"image_count_total": 0, "image_size_total": 0})

    assert await none.allowance(None) == Allowance()
    assert await none.room_for(ledger, image(owner=None), "k", 5) is None
    assert await none.usage(ledger, None) == {}


async def test_minus_one_is_unlimited_and_an_unregistered_limit_is_nothing() -> None:
    ledger: Any = Ledger(used_bytes=1000 * MIB)
    everything = UnifiedLimits(LimitSettings(), Limiter(**dict.fromkeys(RESOURCES, -1)))

    assert await everything.allowance("p1") == Allowance()
    assert await everything.room_for(ledger, image(), "k", 5) is None

    nothing = UnifiedLimits(LimitSettings(), Limiter())
    assert (await nothing.allowance("p1")).images == CountLimit("image_count_total", 0)
    with pytest.raises(QuotaExceeded):
        await nothing.room_for(ledger, image(), "k", 5)


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


async def test_staged_data_has_a_limit_of_its_own() -> None:
    ledger: Any = Ledger(used_bytes=1000 * MIB)
    ledger.bytes_staged = 11 * MIB - 1
    staging = image(status=Status.UPLOADING)
    assert await unified().room_for(ledger, staging, "k", None)
    ledger.bytes_staged = 11 * MIB

    with pytest.raises(QuotaExceeded, match="image_stage_total"):
        await unified().room_for(ledger, staging, "k", None)
    assert ledger.limits_asked == [["image_stage_total"]] * 2


async def test_keystone_is_asked_once_for_an_upload() -> None:
    ledger: Any = Ledger()
    limiter = Limiter(**dict.fromkeys(RESOURCES, 10))
    asked = UnifiedLimits(LimitSettings(), limiter)

    allowance = await asked.allowance("p1")
    assert await asked.room_for(ledger, image(), "k", 5, allowance)
    assert limiter.asked == 1


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
