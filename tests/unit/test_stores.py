"""The configured stores, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from transom.errors import ConfigurationError, StoreFull, StoreUnavailable, UnknownStore
from transom.settings import Settings, StoreSettings, load
from transom.settings import Stores as StoresSettings
from transom.stores import DRIVERS, Stores, open_store


def settings(tmp_path: Path, **stores: Any) -> Settings:
    return Settings(data=str(tmp_path / "data"), stores=StoresSettings(**stores))


async def test_the_defaults_are_one_file_store_in_the_data_folder(tmp_path: Path) -> None:
    stores = Stores.open(load(data=tmp_path / "data"))
    assert stores.names == ("main",)
    assert stores.default == "main"
    assert stores.pick(None) is stores.get("main") is stores.pick("main")
    assert (tmp_path / "data/images").is_dir()
    assert str(stores.staging.local_path("key")).startswith(str(tmp_path / "data/staging"))
    await stores.check()
    await stores.close()


async def test_stores_keep_their_configured_order_and_settings(tmp_path: Path) -> None:
    named = {
        "slow": StoreSettings(path="<data>/slow", weight=-1),
        "fast": StoreSettings(driver="memory", weight=10, description="RAM"),
    }
    stores = Stores.open(settings(tmp_path, default="fast", named=named))
    assert stores.names == ("slow", "fast")
    assert stores.pick(None).name == "fast"
    assert stores.get("slow").local_path("key") == tmp_path / "data/slow/ke/key"
    assert [stores.weight(name) for name in ("slow", "fast", "gone")] == [-1, 10, 0]
    assert stores.settings_of("fast").description == "RAM"
    await stores.close()
    await stores.close()


async def test_an_unknown_store_is_refused_with_the_known_names(tmp_path: Path) -> None:
    named = {"one": StoreSettings(driver="memory"), "two": StoreSettings(driver="memory")}
    stores = Stores.open(settings(tmp_path, default="one", named=named))
    for call in (stores.get, stores.pick, stores.settings_of):
        with pytest.raises(UnknownStore, match="use one of: one, two"):
            call("three")
    for name in ("staging", ""):
        with pytest.raises(UnknownStore):
            stores.pick(name)
    await stores.close()


async def test_staging_may_be_one_of_the_stores(tmp_path: Path) -> None:
    named = {"main": StoreSettings(driver="memory"), "spool": StoreSettings(driver="memory")}
    stores = Stores.open(settings(tmp_path, default="main", staging="spool", named=named))
    assert stores.staging is stores.get("spool")
    assert not (tmp_path / "data/staging").exists()
    await stores.close()


async def test_the_check_is_about_the_default_store(tmp_path: Path) -> None:
    named = {
        "main": StoreSettings(path=str(tmp_path / "main")),
        "other": StoreSettings(path=str(tmp_path / "other")),
    }
    stores = Stores.open(settings(tmp_path, default="main", named=named))
    (tmp_path / "other").rename(tmp_path / "gone")
    await stores.check()
    (tmp_path / "main").rename(tmp_path / "gone-too")
    with pytest.raises(StoreUnavailable):
        await stores.check()
    await stores.close()


def test_an_unknown_driver_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"stores\.main\.driver = 'tape'.*file, memory"):
        open_store("main", StoreSettings(driver="tape"), tmp_path)


def test_a_driver_whose_library_is_missing_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DRIVERS, "tape", "a_library_that_is_not_there.store:Store")
    with pytest.raises(ConfigurationError, match="a_library_that_is_not_there is not installed"):
        open_store("main", StoreSettings(driver="tape"), tmp_path)


@pytest.mark.parametrize("value", [-1, "much", 1.5, True, None])
def test_a_size_that_is_none_is_refused(tmp_path: Path, value: object) -> None:
    wrong = StoreSettings(driver="memory", options={"size_bytes_max": value})
    with pytest.raises(ConfigurationError, match=r"stores\.main\.size_bytes_max"):
        open_store("main", wrong, tmp_path)


async def test_a_memory_store_is_full_at_its_size_and_gets_room_back(tmp_path: Path) -> None:
    limit = StoreSettings(driver="memory", options={"size_bytes_max": 1000})
    store = open_store("main", limit, tmp_path)

    async def put(key: str, size_bytes: int, hint: int | None = None) -> None:
        async with store.writer(key, size_hint=hint) as writer:
            for _ in range(size_bytes // 100):
                await writer.write(b"x" * 100)
            await writer.commit()

    await put("first", 600)
    for hint in (500, None):
        with pytest.raises(StoreFull):
            await put("second", 500, hint)
    await put("second", 400)
    await store.delete("first")
    await put("third", 600, 600)
    await store.close()


async def test_a_memory_store_counts_what_other_kinds_of_buffers_hold(tmp_path: Path) -> None:
    limit = StoreSettings(driver="memory", options={"size_bytes_max": "1000"})
    store = open_store("main", limit, tmp_path)
    writer = store.writer("key")
    await writer.write(memoryview(bytearray(800)).cast("I"))
    assert writer.offset == 800
    with pytest.raises(StoreFull):
        await writer.write(bytearray(201))
    await writer.write(bytearray(200))
    assert (await writer.commit()).size_bytes == 1000
    await store.close()
