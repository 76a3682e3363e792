"""The documentation says what the code says, and its links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest

from tests.house.tree import ROOT, texts
from transom import settings
from transom.api.routes import ROUTES
from transom.cli.main import COMMANDS
from transom.stores import DRIVERS

DOCS = ROOT / "docs"


def _reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "scripts/reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = _reference()


@pytest.mark.parametrize("page", reference.PAGES)
def test_generated_page_is_what_the_code_says_now(page: str) -> None:
    written = DOCS / page
    assert written.exists(), f"docs/{page} is missing; run make docs"
    assert written.read_text() == reference.PAGES[page](), f"docs/{page} is old; run make docs"


def test_every_setting_has_a_meaning_and_a_row() -> None:
    page = (DOCS / "reference/configuration.md").read_text()
    for name, _, _, meaning, _ in settings.options():
        group, _, key = name.rpartition(".")
        section = page.partition(f"\n## `[{group}]`\n")[2].partition("\n## ")[0]
        assert f"| `{key}` |" in section, f"{name} has no row"
        assert meaning.endswith("."), f"{name} has no meaning that ends like a sentence"


def _is_read(name: str) -> bool:
    """True when the code asks a settings object for the key, by the names they go by."""
    group, _, key = name.rpartition(".")
    same = [other for other, *_ in settings.options() if other.endswith(f".{key}")]
    holders = [group.rpartition(".")[2]]
    # A group is often handed on as `settings`, which tells whose key it is only where one has it.
    holders += ["settings", "_settings"] if len(same) == 1 else []
    source = ROOT / "src/transom"
    places = [source]
    if group == "stores.NAME":
        holders, places = ["settings", "known"], [source / "stores", source / "imports/plugins"]
    if group == "notifications.webhooks.NAME":
        holders, places = ["webhook"], [source / "events"]
    read = re.compile(rf"(?<!\w)(?:{'|'.join(holders)})\.{key}\b")
    return any(
        read.search(text)
        for path, text in texts(".py").items()
        if any(below in path.parents for below in places)
        and (path.name != "settings.py" or re.search(rf"\bself\.{group}\.{key}\b", text))
    )


def test_a_setting_that_nothing_reads_is_said_to_have_no_effect() -> None:
    unread = {name for name, *_ in settings.options() if not _is_read(name)}
    assert sorted(unread) == sorted(reference.NOT_YET)


def test_every_route_has_a_section() -> None:
    page = (DOCS / "reference/endpoints.md").read_text()
    missing = [
        f"{route.method} {route.path}"
        for route in ROUTES
        if f"\n### {route.method} {route.path}\n" not in page
    ]
    assert not missing


def test_every_command_has_a_section() -> None:
    page = (DOCS / "reference/cli.md").read_text()
    missing = [name for name in COMMANDS if f"\n## `transom {name}" not in page]
    assert not missing


def test_every_store_driver_has_a_page_that_names_it() -> None:
    pages = "".join(text for path, text in texts(".md").items() if DOCS in path.parents)
    missing = [name for name in DRIVERS if f'driver = "{name}"' not in pages]
    assert not missing


_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


def _anchors(page: str) -> set[str]:
    found = set()
    for heading in re.findall(r"^#+\s+(.*)$", page, re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(plain.replace(" ", "-"))
    return found


def test_every_link_in_the_documentation_leads_somewhere() -> None:
    pages = texts(".md")
    broken = []
    for path, text in pages.items():
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        for match in _LINK.finditer(prose):
            target = unquote(match[1] or match[2])
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            there = (path.parent / name).resolve() if name else path
            if not there.exists() or (
                anchor and there.suffix == ".md" and anchor not in _anchors(there.read_text())
            ):
                broken.append(f"{path.relative_to(ROOT)}: {target}")
    assert not broken


def test_every_page_can_be_reached_from_the_first_one() -> None:
    reached: set[Path] = set()
    ahead = [DOCS / "index.md"]
    while ahead:
        path = ahead.pop()
        if path in reached or not path.exists():
            continue
        reached.add(path)
        if path.suffix == ".md":
            for match in _LINK.finditer(path.read_text()):
                name = (match[1] or match[2]).partition("#")[0]
                if name and ":" not in name:
                    ahead.append((path.parent / name).resolve())
    pages = {path for path in texts() if DOCS in path.parents}
    assert {str(path.relative_to(ROOT)) for path in pages - reached} == set()


def test_every_decision_says_context_decision_and_consequences() -> None:
    for path, text in texts(".md").items():
        if path.parent == DOCS / "decisions" and path.name != "README.md":
            assert re.match(r"\d{4}-[a-z0-9-]+\.md$", path.name), path.name
            headings = re.findall(r"^## (\w+)", text, re.MULTILINE)
            assert {"Context", "Decision", "Consequences"} <= set(headings), path.name


def test_no_two_decisions_have_the_same_number() -> None:
    numbers = [path.name[:4] for path in (DOCS / "decisions").glob("[0-9]*.md")]
    assert sorted(numbers) == sorted(set(numbers))


def test_what_is_said_of_faults_is_tested_and_measured() -> None:
    """Each row of the table names a test that there is, and metrics that there are."""
    page = (DOCS / "explanation/faults.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 10
    tests = {
        name
        for path in (ROOT / "tests/faults").glob("test_*.py")
        for name in re.findall(r"def (test_\w+)\(", path.read_text())
    }
    known = (DOCS / "reference/metrics.md").read_text()
    for row in rows:
        *_, shown, named = row.strip("| ").split(" | ")
        assert named.strip("` ") in tests, named
        metrics = re.findall(r"transom_\w+", shown)
        assert metrics, f"{row} shows nowhere"
        for metric in metrics:
            assert f"`{metric}`" in known, metric
