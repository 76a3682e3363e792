"""The files that Glance ships go into the catalog and come out of it as they were."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import configured
from tests.interop.metadefs.shipped import shipped_files
from tests.support.server import Client, ServerProcess

pytestmark = pytest.mark.interop

Told = dict[str, dict[str, Any]]


def told(folder: Path) -> Told:
    """What the files of a folder say, by namespace; what is not said is what it means."""
    found = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    return {
        one["namespace"]: {"visibility": "private", "protected": False, **_said(one)}
        for one in found
    }


def _said(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _said(one) for key, one in value.items() if one not in ({}, [], None)}
    return [_said(one) for one in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def files() -> Path:
    """Glance's own folder."""
    return shipped_files()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, files: Path) -> Iterator[ServerProcess]:
    """A server that runs while the files are loaded."""
    with configured(tmp_path_factory.mktemp("server")) as running:
        running.run(["metadefs", "load", str(files)])
        yield running


@pytest.fixture(scope="module")
def admin(server: ServerProcess) -> Client:
    """Its administrator."""
    return server.log_in_to_cloud("transom")


def test_they_are_many(files: Path) -> None:
    assert len(told(files)) >= 30


def test_what_is_loaded_is_exported_the_same(
    server: ServerProcess, files: Path, tmp_path: Path
) -> None:
    server.run(["metadefs", "export", str(tmp_path)])
    assert told(tmp_path) == told(files)


@pytest.mark.parametrize("mode", [[], ["--merge"], ["--prefer-new"], ["--replace"]], ids=str)
def test_loading_again_is_harmless(
    server: ServerProcess, files: Path, tmp_path: Path, mode: list[str]
) -> None:
    server.run(["metadefs", "load", *mode, str(files)], ["metadefs", "export", str(tmp_path)])
    assert told(tmp_path) == told(files)


def test_the_api_shows_what_the_files_say(admin: Client, files: Path) -> None:
    shown: Told = {}
    path: str | None = "/v2/metadefs/namespaces?limit=7"
    while path:
        page = admin.get(path).json()
        for one in page["namespaces"]:
            shown[one["namespace"]] = admin.get(one["self"]).json()
        path = page.get("next")
    of_the_service = ("created_at", "updated_at", "self", "schema")
    for namespace in shown.values():
        for one in (
            namespace,
            *namespace.get("objects", ()),
            *namespace.get("resource_type_associations", ()),
        ):
            for key in of_the_service:
                one.pop(key, None)
    assert {name: _said(one) for name, one in shown.items()} == told(files)


def test_they_can_be_unloaded(files: Path, tmp_path: Path) -> None:
    with configured(tmp_path / "server") as server:
        server.run(["metadefs", "load", str(files)], ["metadefs", "unload", str(files)])
        admin = server.log_in_to_cloud("transom")
        assert admin.get("/v2/metadefs/namespaces").json()["namespaces"] == []
        assert admin.get("/v2/metadefs/resource_types").json()["resource_types"] == []
