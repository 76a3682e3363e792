"""What a process cannot share with others, by its configuration alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.support.server import merged, to_toml
from transom.app import open_registry
from transom.catalog import Catalog
from transom.images.neighbours import unshared, warn_of_neighbours
from transom.images.sweep import join
from transom.settings import Settings, load

SHARED = {
    "database": {"url": "postgresql://db.example/transom"},
    "stores": {
        "staging": "main",
        "main": {"driver": "s3", "bucket": "images", "region": "here"},
        "old": {"driver": "file", "path": "/mnt/images"},
    },
}


def settings_of(folder: Path, config: dict[str, Any]) -> Settings:
    """The settings of a file."""
    file = folder / "transom.toml"
    file.write_text(to_toml(config))
    return load(file, folder / "data")


def test_what_all_can_reach_is_no_matter(tmp_path: Path) -> None:
    assert list(unshared(settings_of(tmp_path, SHARED))) == []


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"database": {"url": "sqlite:///<data>/transom.db"}}, "database.url"),
        ({"stores": {"staging": ""}}, "stores.staging"),
        ({"stores": {"old": {"path": "<data>/old"}}}, "stores.old.path"),
        ({"stores": {"quick": {"driver": "memory"}}}, "stores.quick"),
        (
            {"cache": {"enabled": True}, "server": {"public_url": "https://images.example"}},
            "server.self_url",
        ),
    ],
)
def test_what_stays_on_this_machine_is_named(
    tmp_path: Path, change: dict[str, Any], key: str
) -> None:
    (reason,) = unshared(settings_of(tmp_path, merged(SHARED, change)))
    assert reason.startswith(key)


def test_an_own_name_for_the_cache_is_enough(tmp_path: Path) -> None:
    server = {"public_url": "https://images.example", "self_url": "http://node1:9292"}
    config = merged(SHARED, {"cache": {"enabled": True}, "server": server})
    assert list(unshared(settings_of(tmp_path, config))) == []


def test_the_defaults_are_for_one_machine(tmp_path: Path) -> None:
    keys = [reason.partition(" ")[0] for reason in unshared(settings_of(tmp_path, {}))]
    assert keys == ["database.url", "stores.staging", "stores.main.path"]


@pytest.mark.parametrize("host", ["elsewhere#1", None])
async def test_only_who_finds_others_on_another_machine_is_warned(
    tmp_path: Path, host: str | None
) -> None:
    settings = settings_of(tmp_path, {})
    settings.data_path.mkdir()
    catalog = Catalog.open(settings)
    catalog.upgrade()
    catalog.close()
    registry = open_registry(settings)
    try:
        await join(registry)
        if host is not None:
            await registry.catalog.processes.join("other", host=host, pid=1, started="?")
        with structlog.testing.capture_logs() as lines:
            await warn_of_neighbours(registry)
        warned = [line for line in lines if line["event"] == "replicas.not_shared"]
        assert len(warned) == (0 if host is None else 3)
        assert all(line["others"] == ["elsewhere"] for line in warned)
    finally:
        await registry.stores.close()
        await registry.identity.close()
        registry.catalog.close()
