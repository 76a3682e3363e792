"""What stands in the files of the project, and what must not."""

from __future__ import annotations

import ast
import re
import tomllib

import transom
from tests.house.tree import ROOT, files, texts

# Put together here, so that this file does not hold what it looks for.
_HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("deb", "debian", "org"),
        ("security", "debian", "org"),
        ("archive", "ubuntu", "com"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("crates", "io"),
    )
]
_HOME = re.compile(r"(?<![\w.~$}])/" + r"(?:work|root|home/\w+)/")


def test_no_file_names_a_package_registry() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {host}"
        for path, text in texts().items()
        for host in _HOSTS
        if host in text
    ]
    assert not found


def test_no_file_holds_a_path_of_a_developers_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path, text in texts().items()
        for match in _HOME.finditer(text)
    ]
    assert not found


def test_every_module_and_everything_public_in_it_has_a_docstring() -> None:
    without = []
    for path, text in texts(".py").items():
        if ROOT / "src" not in path.parents:
            continue
        module = ast.parse(text)
        name = str(path.relative_to(ROOT / "src"))
        if text.strip() and not ast.get_docstring(module):
            without.append(name)
        without += [f"{name}: {where}" for where in _undocumented(module, "")]
    assert not without


def _undocumented(node: ast.Module | ast.ClassDef, prefix: str) -> list[str]:
    found = []
    for item in node.body:
        if not isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if item.name.startswith("_") or _is_overload(item):
            continue
        where = f"{prefix}{item.name}"
        if not ast.get_docstring(item):
            found.append(where)
        if isinstance(item, ast.ClassDef):
            found += _undocumented(item, f"{where}.")
    return found


def _is_overload(item: ast.stmt) -> bool:
    # A setter, and an overload, say again what stands at their first appearance.
    names = {ast.unparse(decorator) for decorator in getattr(item, "decorator_list", ())}
    return any(name.endswith((".setter", "overload")) for name in names)


def test_every_test_file_and_script_says_what_it_is_for() -> None:
    without = []
    for path, text in texts(".py").items():
        if ROOT / "src" not in path.parents and not ast.get_docstring(ast.parse(text)):
            without.append(str(path.relative_to(ROOT)))
    for path in files():
        if path.parent in (ROOT / "scripts", ROOT / ".ci") and path.suffix == "":
            lines = path.read_text().splitlines()
            if not lines[0].startswith("#!") or not lines[1].startswith("# "):
                without.append(str(path.relative_to(ROOT)))
    assert not without


def _locked(name: str) -> dict[str, str]:
    text = (ROOT / f"requirements/{name}.lock").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))


def _wanted(requirements: list[str]) -> set[str]:
    names = (re.match(r"[A-Za-z0-9._-]+", text) for text in requirements)
    return {re.sub(r"[-_.]+", "-", match[0]).lower() for match in names if match}


def test_the_locks_hold_everything_that_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    serve, dev = _locked("serve"), _locked("dev")
    needed = _wanted(project["project"]["dependencies"] + groups["build"])
    assert needed <= set(serve), "run make lock"
    assert needed | _wanted(groups["test"] + groups["lint"]) <= set(dev), "run make lock"
    extras = project["project"]["optional-dependencies"]
    brought = _wanted(
        [each for name in ("s3", "tracing", "notifications") for each in extras[name]]
    )
    assert needed | brought <= set(_locked("deploy")), "run make lock"


def test_a_package_has_the_same_version_in_all_locks() -> None:
    serve, dev, deploy = _locked("serve"), _locked("dev"), _locked("deploy")
    assert serve.items() <= dev.items()
    assert serve.items() <= deploy.items()
    assert deploy.items() <= dev.items()


def test_every_locked_package_has_hashes() -> None:
    for name in ("serve", "dev", "deploy"):
        entries = re.split(
            r"^(?=\S)", (ROOT / f"requirements/{name}.lock").read_text(), flags=re.MULTILINE
        )
        without = [entry for entry in entries if "==" in entry and "--hash=sha256:" not in entry]
        assert not without


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert transom.__version__ == project["version"]


def test_the_changelog_has_a_place_for_what_comes_next() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert "\n## [Unreleased]\n" in changelog
    kinds = set(re.findall(r"^### (.*)$", changelog, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
