"""`transom metadefs load|export|unload`: files in, files out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.catalogs import fresh_url
from transom.catalog import Catalog
from transom.catalog.engine import Engine
from transom.cli.main import main

Run = Callable[..., list[str]]

SPACE: dict[str, Any] = {
    "namespace": "OS::Compute::Quota",
    "display_name": "Flavor Quota",
    "description": "What flavors may use.",
    "visibility": "public",
    "protected": True,
    "resource_type_associations": [{"name": "OS::Nova::Flavor", "prefix": "quota:"}],
    "properties": {"cpu": {"title": "CPU", "type": "integer", "default": 4, "minimum": 0}},
    "objects": [
        {"name": "Disk", "required": ["iops"],
         "properties": {"iops": {"title": "IOPS", "type": "integer"}}},
    ],
    "tags": [{"name": "slow"}],
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for files."""
    made = tmp_path / "metadefs"
    made.mkdir()
    return made


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A catalog that the commands find by environment variables."""
    made = fresh_url("sqlite", tmp_path)
    monkeypatch.setenv("TRANSOM_DATABASE__URL", made)
    monkeypatch.setenv("TRANSOM_DATA", str(tmp_path))
    return made


@pytest.fixture
def run(url: str, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command, which must succeed, and gives the lines that it prints."""

    def running(*arguments: object) -> list[str]:
        assert main(["metadefs", *map(str, arguments)]) == 0, capsys.readouterr().err
        return capsys.readouterr().out.splitlines()

    return running


@pytest.fixture
def refuse(url: str, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command, which must fail with one line, and gives the line."""

    def refused(*arguments: object) -> str:
        assert main(["metadefs", *map(str, arguments)]) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        [line] = printed.err.splitlines()
        return line

    return refused


def put(path: Path, told: Any) -> Path:
    path.write_text(told if isinstance(told, str) else json.dumps(told))
    return path


def exported(run: Run, tmp_path: Path) -> list[Any]:
    out = tmp_path / "out"
    return [json.loads(Path(path).read_text()) for path in run("export", out)]


def test_what_is_loaded_is_exported_the_same(run: Run, folder: Path, tmp_path: Path) -> None:
    put(folder / "one.json", SPACE)
    put(folder / "two.json", {"namespace": "a", "visibility": "private", "protected": False})
    put(folder / "README", "no definitions")
    assert run("load", folder) == ["OS::Compute::Quota: loaded", "a: loaded"]
    assert exported(run, tmp_path) == [
        SPACE,
        {"namespace": "a", "visibility": "private", "protected": False},
    ]


def test_loading_again_leaves_all_as_it_is(run: Run, folder: Path, tmp_path: Path) -> None:
    put(folder / "one.json", SPACE)
    run("load", folder)
    put(folder / "one.json", SPACE | {"display_name": "Other", "tags": [{"name": "new"}]})
    assert run("load", folder) == ["OS::Compute::Quota: left as it is"]
    assert exported(run, tmp_path) == [SPACE]


@pytest.mark.parametrize(
    ("mode", "told", "name", "tags"),
    [
        ("--merge", "1 added, 0 changed", "Flavor Quota", ["slow", "new"]),
        ("--prefer-new", "1 added, 1 changed", "Other", ["slow", "new"]),
        ("--replace", "replaced", "Other", ["new"]),
    ],
)
def test_how_to_treat_what_is_there_can_be_said(
    run: Run, folder: Path, tmp_path: Path, mode: str, told: str, name: str, tags: list[str]
) -> None:
    path = put(folder / "one.json", SPACE)
    run("load", path)
    put(path, SPACE | {"display_name": "Other", "tags": [{"name": "new"}]})
    assert run("load", path, mode) == [f"OS::Compute::Quota: {told}"]
    assert exported(run, tmp_path) == [
        SPACE | {"display_name": name, "tags": [{"name": one} for one in tags]}
    ]


def test_only_one_mode_can_be_given(
    url: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as misused:
        main(["metadefs", "load", str(folder), "--merge", "--replace"])
    assert misused.value.code == 2
    assert "not allowed with" in capsys.readouterr().err


def test_an_owner_is_given_to_what_names_none(run: Run, folder: Path, tmp_path: Path) -> None:
    put(folder / "one.json", SPACE)
    put(folder / "two.json", {"namespace": "a", "owner": "mine"})
    run("load", folder, "--owner", "theirs")
    assert [one["owner"] for one in exported(run, tmp_path)] == ["theirs", "mine"]


def test_unloading_takes_what_the_files_name_and_no_more(
    run: Run, folder: Path, tmp_path: Path, url: str
) -> None:
    path = put(folder / "one.json", SPACE)
    put(folder / "two.json", {"namespace": "a", "resource_type_associations": [{"name": "T"}]})
    run("load", folder)
    assert run("unload", path) == ["OS::Compute::Quota: deleted"]
    assert run("unload", path) == []
    assert [one["namespace"] for one in exported(run, tmp_path)] == ["a"]


def test_names_that_look_alike_get_files_of_their_own(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    names = ["A::b", "a-b", "a b", "../../x", "::", "ü", "x" * 80]
    for number, name in enumerate(names):
        put(folder / f"{number}.json", {"namespace": name})
    run("load", folder)
    assert sorted(one["namespace"] for one in exported(run, tmp_path)) == sorted(names)
    found = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len(found) == len(names)
    assert all(name.endswith(".json") and not name.startswith(".") for name in found)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ("{", "not valid JSON"),
        ("[]", "a JSON object"),
        ({}, "namespace"),
        ({"namespace": "x", "colour": 1}, "colour"),
        ({"namespace": "x", "self": "/x"}, "read-only"),
        ({"namespace": "x", "properties": {"p": {"type": "string"}}}, "title"),
    ],
)
def test_a_wrong_file_is_named_and_nothing_is_loaded(
    refuse: Callable[..., str], run: Run, folder: Path, tmp_path: Path, told: Any, why: str
) -> None:
    put(folder / "a.json", SPACE)
    wrong = put(folder / "b.json", told)
    line = refuse("load", folder)
    assert str(wrong) in line
    assert why in line
    assert exported(run, tmp_path) == []


def test_a_namespace_in_two_files_is_refused(refuse: Callable[..., str], folder: Path) -> None:
    first, second = put(folder / "a.json", SPACE), put(folder / "b.json", SPACE)
    line = refuse("load", folder)
    assert str(first) in line
    assert str(second) in line


def test_a_name_twice_in_a_file_is_refused(
    refuse: Callable[..., str], run: Run, folder: Path, tmp_path: Path
) -> None:
    put(folder / "a.json", SPACE | {"tags": [{"name": "t"}, {"name": "t"}]})
    assert "tag t" in refuse("load", folder)
    assert exported(run, tmp_path) == []


def test_a_folder_without_files_is_refused(refuse: Callable[..., str], folder: Path) -> None:
    assert ".json" in refuse("load", folder)
    assert "No such file" in refuse("load", folder / "none")
    assert "Not a directory" in refuse("export", put(folder / "a.json", SPACE) / "below")


def test_a_database_without_tables_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRANSOM_DATABASE__URL", f"sqlite:///{tmp_path}/new.db")
    monkeypatch.setenv("TRANSOM_DATA", str(tmp_path))
    assert main(["metadefs", "export", str(tmp_path / "out")]) == 1
    assert "transom db upgrade" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


async def test_loaded_namespaces_without_owner_are_nobodys(
    run: Run, url: str, folder: Path
) -> None:
    put(folder / "one.json", SPACE)
    run("load", folder)
    catalog = Catalog(Engine(url))
    assert (await catalog.metadefs.get(SPACE["namespace"], seen_by=None)).owner is None
    catalog.close()
