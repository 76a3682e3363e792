"""Imports broken at every effect, in every way: what is left is always whole, and nothing else.

One process works on the import and is killed, or fails, at the n-th thing that it does to the world
(tests/support/breaking.py); another goes on where it ended.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.counting import CountingServer
from tests.support.server import Config, merged, to_toml

pytestmark = pytest.mark.faults
ROOT = Path(__file__).parents[2]
DATA = random.Random(1).randbytes(5000)
SHA256 = hashlib.sha256(DATA).hexdigest()
STORES: Config = {
    "stores": {
        "default": "main",
        "main": {"driver": "file", "fsync": False},
        "second": {"driver": "file", "fsync": False},
        "third": {"driver": "file", "fsync": False},
    },
    "imports": {
        "allowed_hosts": ["127.0.0.1"],
        "allowed_ports": [],
        "retries_max": 1,
        "retry_seconds": 0.01,
    },
}
PLUGINS: Config = {
    "imports": {
        "plugins": ["image_decompression", "inject_image_metadata"],
        "inject": {"brought": "by the plugin"},
        "inject_ignore_roles": [],
    }
}
VARIANTS: dict[str, dict[str, Any]] = {
    "glance-direct": {"method": "glance-direct"},
    "plugins": {"method": "glance-direct", "config": PLUGINS, "data": gzip.compress(DATA)},
    "web-download": {"method": "web-download", "stores": ["main", "second"]},
    "any-store": {"method": "web-download", "stores": ["main", "second"], "must": False},
    "copy-image": {"method": "copy-image", "stores": ["second", "third"]},
    "copy-any": {"method": "copy-image", "stores": ["second", "third"], "must": False},
}


TEMPLATE_KEYS: set[str] = set()
"""What lies in the store of every scenario from its beginning."""
EXHAUSTIVE = bool(os.environ.get("TRANSOM_TEST_EVERY_BREAK"))
"""Break everything in every way, which takes a quarter of an hour: for releases, and after a change
of the engine. Otherwise each kind of effect is broken at least once in each way."""


class Forks:
    """Plays scenarios, each in processes of its own, on a copy of a prepared data folder."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self._url = url
        self._numbers = itertools.count()
        self._program = subprocess.Popen(
            [sys.executable, "-m", "tests.support.breaking"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._template: Path | None = None

    def close(self) -> None:
        """End the program."""
        assert self._program.stdin is not None
        self._program.stdin.close()
        self._program.wait(30)

    def one(self, folder: Path, **scenario: Any) -> dict[str, Any]:
        """What one process tells at its end: `exit`, and `result` unless it was killed."""
        asked = {
            "folder": str(folder / "data"),
            "config": str(folder / "transom.toml"),
            "trace": str(folder / "trace"),
            "log": str(folder / "log"),
            **scenario,
        }
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(json.dumps(asked) + "\n")
        self._program.stdin.flush()
        answer: dict[str, Any] = json.loads(self._program.stdout.readline())
        return answer

    def begin(self, variant: str, **plan: Any) -> tuple[Path, dict[str, Any]]:
        """A process that begins an import, and breaks as planned."""
        asked = VARIANTS[variant]
        folder = self._fresh(asked.get("config", {}))
        method: dict[str, Any] = {"name": asked["method"]}
        if asked["method"] == "web-download":
            method["uri"] = self._url
        body: dict[str, Any] = {
            "method": method,
            "stores": asked.get("stores", ["main"]),
            "all_stores_must_succeed": asked.get("must", True),
        }
        work = {"body": body, "data": asked.get("data", DATA).hex()}
        return folder, self.one(folder, work=work, **({"break": plan} if plan else {}))

    def _fresh(self, config: Config) -> Path:
        if self._template is None:
            template = self.folder / "template"
            (template / "data").mkdir(parents=True)
            (template / "transom.toml").write_text(to_toml(STORES))
            work = {"body": {"method": {"name": "glance-direct"}}, "data": DATA.hex()}
            first = self.one(template, work=work, prepare=True)
            assert first["exit"] == 0, (template / "log").read_text()[-3000:]
            self._template = template
            # Only the schema is wanted, without the image that brought it about.
            TEMPLATE_KEYS.update(first["result"]["stores"]["main"]["complete"])
            for left in ("trace", "log"):
                (template / left).unlink()
        folder = self.folder / str(next(self._numbers))
        shutil.copytree(self._template, folder)
        (folder / "transom.toml").write_text(to_toml(merged(STORES, config)))
        return folder


@pytest.fixture(scope="module")
def source() -> Iterator[CountingServer]:
    """Where web-downloads come from."""
    with CountingServer(DATA) as server:
        yield server


@pytest.fixture(scope="module")
def forks(source: CountingServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """One program that plays all scenarios of this module."""
    made = Forks(tmp_path_factory.mktemp("forks"), source.url)
    yield made
    made.close()


def effects(folder: Path) -> list[str]:
    """What happened, in order: `3 catalog note`, `3 catalog note done`."""
    return (folder / "trace").read_text().splitlines()


def numbered(folder: Path) -> list[str]:
    """The effects of one process, in order."""
    return [line.partition(" ")[2] for line in effects(folder) if not line.endswith(" done")]


def check_left(left: dict[str, Any], folder: Path) -> None:
    """Nothing lies anywhere that is not the image's data, and the task has ended."""
    told = f"{folder}\n" + "\n".join(effects(folder)[-60:])
    assert left["task"]["status"] in ("success", "failure"), told
    assert left["rows"] == {"task_objects": 0, "staged": 0, "intakes": 0}, told
    assert left["scratch"] == 0, told
    image = left["image"]
    placed: dict[str, list[str]] = {}
    for each in image["locations"] if image else ():
        placed.setdefault(each["store"], []).append(each["key"])
    for name, store in left["stores"].items():
        assert store["partial"] == [], f"{name} {told}"
        own = [key for key in store["complete"] if key not in TEMPLATE_KEYS]
        assert own == sorted(placed.get(name, [])), f"{name} {told}"


def check_whole(left: dict[str, Any], variant: str, folder: Path) -> None:
    """The import is a success in every respect."""
    asked = VARIANTS[variant]
    check_left(left, folder)
    assert left["task"]["status"] == "success", left["task"]["message"]
    image = left["image"]
    assert image["status"] == "active"
    assert left["content"] == [SHA256]
    wanted = set(asked.get("stores", ["main"])) | (
        {"main"} if asked["method"] == "copy-image" else set()
    )
    assert {each["store"] for each in image["locations"]} == wanted
    assert len(image["locations"]) == len(wanted)
    assert image["size"] == len(DATA)
    assert image["os_hash_value"] == hashlib.sha512(DATA).hexdigest()
    properties = image["properties"]
    assert properties["os_glance_importing_to_stores"] == ""
    assert properties["os_glance_failed_import"] == ""
    assert "os_glance_import_task" not in properties
    assert "os_glance_last_error" not in properties
    assert left["task"]["result"] == {"image_id": image["id"]}
    if variant == "plugins":
        assert properties["brought"] == "by the plugin"
        came = asked["data"]
        assert properties["original_hash_value"] == hashlib.sha512(came).hexdigest()
        assert properties["original_size"] == str(len(came))


# --- what is broken ----------------------------------------------------------------------------------

_broken: dict[str, set[str]] = {}
_labels: dict[str, list[str]] = {}


def points(forks: Forks, variant: str, how: str) -> list[tuple[int, str]]:
    """The effects to break: in the order of the variants, those that no other one had before, and
    some more."""
    labels = _labels.get(variant)
    if labels is None:
        folder, whole = forks.begin(variant)
        assert whole["exit"] == 0, (folder / "log").read_text()[-3000:]
        check_whole(whole["result"], variant, folder)
        labels = _labels[variant] = numbered(folder)
    if EXHAUSTIVE:
        return list(enumerate(labels, 1))
    known = _broken.setdefault(how, set())
    chosen = []
    for number, label in enumerate(labels, 1):
        is_news = label not in known and how in ("kill", "fail")
        known.add(label)
        if is_news or number % 13 == (len(variant) + len(how)) % 13:
            chosen.append((number, label))
    return chosen


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_killed_import_goes_on_where_it_was(
    forks: Forks, source: CountingServer, variant: str
) -> None:
    for number, label in points(forks, variant, "kill"):
        before = len(source.requests)
        folder, killed = forks.begin(variant, at=number, how="kill")
        assert killed["exit"] == -9, f"{number} {label}"
        done = forks.one(folder)
        assert done["exit"] == 0, (folder / "log").read_text()[-3000:]
        check_whole(done["result"], variant, folder)
        check_once(effects(folder))
        if any("step place" in line for line in effects(folder)[: number * 2 - 1]):
            assert len(source.requests) - before <= 1, "it was fetched again"


def check_once(trace: list[str]) -> None:
    """What is complete in a store is not written there again; a step that was recorded is not taken
    again."""
    committed: set[str] = set()
    recorded: set[str] = set()
    step = ""
    for line in trace:
        _, _, label = line.partition(" ")
        word, _, rest = label.partition(" ")
        if word == "step" and not label.endswith(" done"):
            assert label not in recorded, f"{label} was taken again"
            step = label
        if label == "engine record_operation_result done":
            recorded.add(step)
        if word == "write" and rest != "staging" and not label.endswith(" done"):
            assert rest not in committed, f"{rest} was written again"
        if word == "commit" and label.endswith(" done"):
            committed.add(rest.removesuffix(" done"))


def test_an_import_that_is_killed_again_and_again_comes_to_its_end(forks: Forks) -> None:
    """Each attempt dies one effect later than the one before it, until one does not die."""
    folder, killed = forks.begin("any-store", at=1, how="kill")
    deaths = 1
    while killed["exit"] == -9:
        deaths += 1
        killed = forks.one(folder, **{"break": {"at": deaths, "how": "kill"}})
    assert deaths > 8
    check_whole(killed["result"], "any-store", folder)
    assert killed["result"]["task"]["attempt"] >= deaths - 3


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_import_of_which_a_part_fails_is_whole_or_as_if_it_had_never_begun(
    forks: Forks, variant: str
) -> None:
    for number, label in points(forks, variant, "fail"):
        folder, done = forks.begin(variant, at=number, how="fail")
        assert done["exit"] == 0, f"{number} {label}\n{(folder / 'log').read_text()[-3000:]}"
        check_after_failure(done["result"], variant, folder)


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_import_whose_database_is_away_for_a_moment_succeeds(forks: Forks, variant: str) -> None:
    for number, label in points(forks, variant, "away"):
        folder, done = forks.begin(variant, at=number, how="away")
        assert done["exit"] == 0, f"{number} {label}"
        check_whole(done["result"], variant, folder)


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_import_that_does_not_hear_of_its_success_does_nothing_twice(
    forks: Forks, variant: str
) -> None:
    for number, label in points(forks, variant, "lost"):
        folder, done = forks.begin(variant, at=number, how="lost")
        assert done["exit"] == 0, f"{number} {label}"
        if label.startswith(("catalog", "step", "engine")):
            check_whole(done["result"], variant, folder)
        else:
            # A store that says that it failed is believed.
            check_after_failure(done["result"], variant, folder)


@pytest.mark.parametrize("how", ["cancel", "delete"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_an_import_that_is_to_end_leaves_nothing(forks: Forks, variant: str, how: str) -> None:
    for number, label in points(forks, variant, how):
        folder, done = forks.begin(variant, at=number, how=how)
        assert done["exit"] == 0, f"{number} {label}\n{(folder / 'log').read_text()[-3000:]}"
        left = done["result"]
        if how == "delete":
            check_left(left, folder)
            assert left["image"] is None
        elif left["task"]["status"] == "failure":
            check_after_failure(left, variant, folder)
            assert left["task"]["message"] == "The task was cancelled."
        else:
            check_whole(left, variant, folder)


def check_after_failure(left: dict[str, Any], variant: str, folder: Path) -> None:
    """As many stores as said are filled, and the image tells of the others."""
    check_left(left, folder)
    asked = VARIANTS[variant]
    image, task = left["image"], left["task"]
    properties = image["properties"]
    assert "os_glance_import_task" not in properties
    assert properties["os_glance_importing_to_stores"] == ""
    targets = set(asked.get("stores", ["main"]))
    filled = {each["store"] for each in image["locations"]} & targets
    failed = {name for name in properties["os_glance_failed_import"].split(",") if name}
    if task["status"] == "success":
        assert filled
        assert failed == targets - filled
        assert not failed or not asked.get("must", True)
    else:
        assert task["message"]
        assert properties["os_glance_last_error"] == task["message"]
        assert failed == targets - filled
        assert not filled or not asked.get("must", True)
    is_active = bool(filled) or asked["method"] == "copy-image"
    assert image["status"] == ("active" if is_active else "queued")
    if is_active:
        assert left["content"] == [SHA256]
        assert image["size"] == len(DATA)
    else:
        assert image["size"] is None
        assert image["checksum"] is None
        assert "brought" not in properties
        assert "original_size" not in properties
