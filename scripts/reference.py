"""Writes docs/reference from the code: configuration, endpoints, errors, metrics, command line.

python scripts/reference.py            write the pages, and the list of decisions
python scripts/reference.py --check    only tell which pages differ; exit 1 if any does
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
import typing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from transom import errors, settings
from transom.api import problems
from transom.api.openapi import document
from transom.api.routes import ROUTES
from transom.cli.main import parser
from transom.metrics.table import METRICS
from transom.settings import CONTAINER_FORMATS, DISK_FORMATS

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
GENERATED = "<!-- Written by `make docs` from the code; edit that instead. -->\n\n"
NOT_YET: frozenset[str] = frozenset()
"""Keys that are accepted and checked, and that nothing reads yet."""
COMMON = frozenset({"--config", "--data", "--json"})
"""Options that many commands take, explained once."""
LIST_BEGINS = "<!-- decisions, listed by `make docs` -->\n"


def cell(text: object) -> str:
    """Text that can stand in a cell of a table."""
    return str(text).replace("|", "\\|").replace("\n", " ")


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A table in Markdown."""
    head = list(head)
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(cell(value) for value in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


# --- configuration --------------------------------------------------------------------------------


def configuration() -> str:
    """Every key of the configuration."""
    page = GENERATED + (
        "# Configuration\n\n"
        "Values come from one TOML file (`--config FILE`), the environment over it, and flags over "
        "that. A key's variable is `TRANSOM_`, then its parts in capitals with two underscores "
        "between them: `limits.page_size_max` is `TRANSOM_LIMITS__PAGE_SIZE_MAX`; lists are "
        "separated by commas. `<data>` in a value stands for the data folder (`--data DIR`). Sizes "
        "are bytes and times are seconds.\n\n"
        "`transom config show` prints the effective values, `transom config check` says what is "
        "wrong with them. A key that does not exist is an error.\n"
    )
    groups: dict[str, list[tuple[str, str, object, str, bool]]] = {}
    for name, kind, default, text, secret in settings.options():
        group, _, key = name.rpartition(".")
        groups.setdefault(group, []).append((key, kind, default, text, secret))
    for group, keys in groups.items():
        page += f"\n## `[{group}]`\n\n{_group_words(group)}\n\n"
        page += table(
            ("Key", "Type", "Default", "Meaning"),
            (
                (
                    f"`{key}`",
                    kind,
                    _shown(default),
                    text
                    + (" Secret." if secret else "")
                    + (" *Without effect in this version.*" if f"{group}.{key}" in NOT_YET else ""),
                )
                for key, kind, default, text, secret in keys
            ),
        )
    return page


def _named_below(kind: Any) -> Any:
    """The group under each name of a table, for `stores` and for a table of groups alike."""
    if kind is settings.Stores:
        return settings.StoreSettings
    return typing.get_args(kind)[1] if typing.get_origin(kind) is dict else None


def _group_words(group: str) -> str:
    kind: Any = settings.Settings
    above: Any = None
    for part in group.split("."):
        if part == "NAME":
            kind = above
            break
        field = next(field for field in msgspec.structs.fields(kind) if field.name == part)
        above = _named_below(field.type)
        kind = field.type.__origin__ if hasattr(field.type, "__origin__") else field.type
    return inspect.getdoc(kind) or ""


def _shown(default: object) -> str:
    if default in ("", (), {}):
        return "empty"
    if isinstance(default, tuple):
        default = list(default)
    return f"`{json.dumps(default)}`"


# --- endpoints ------------------------------------------------------------------------------------


def endpoints() -> str:
    """Every endpoint, from the OpenAPI document."""
    api = msgspec.to_builtins(document(ROUTES, DISK_FORMATS, CONTAINER_FORMATS))
    page = GENERATED + (
        "# Endpoints\n\n"
        "A running service shows the same at `/docs` and as OpenAPI 3.1 at `/openapi.json`, with "
        "the fields of every body. Paths under `/v2` are served under every announced version, "
        "such as `/v2.9`, too.\n"
    )
    operations = [
        (path, method, operation)
        for path, item in api["paths"].items()
        for method, operation in item.items()
    ]
    for tag in api["tags"]:
        page += f"\n## {tag['name'].capitalize()}\n\n{tag['description']}\n"
        for path, method, operation in operations:
            if operation["tags"] == [tag["name"]]:
                page += _endpoint(api, path, method, operation)
    return page


def _endpoint(api: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> str:
    text = f"\n### {method.upper()} {path}\n\n{operation['summary']}."
    if "description" in operation:
        text += f" {operation['description']}"
    text += "" if "security" in operation else " Needs no token."
    text += "\n"
    rows = [
        (
            f"`{parameter['name']}`"
            if parameter["schema"].get("type") != "object"
            else "any other",
            parameter["in"] + (", required" if parameter.get("required") else ""),
            _kind(parameter["schema"]),
            parameter["description"],
        )
        for parameter in operation.get("parameters", ())
    ]
    if rows:
        text += "\n" + table(("Parameter", "In", "Value", "Meaning"), rows)
    body = operation.get("requestBody")
    if body:
        kinds = (f"`{name}` ({_kind(media['schema'])})" for name, media in body["content"].items())
        text += f"\nBody: {' or '.join(kinds)}.\n"
    good, bad = [], []
    for status, answer in operation["responses"].items():
        if "$ref" in answer:
            bad.append(status)
        else:
            content = (
                f"`{name}` ({_kind(media['schema'])})"
                for name, media in answer.get("content", {}).items()
            )
            good.append(f"**{status}** {', '.join(content) or 'without a body'}")
    text += f"\nAnswers: {'; '.join(good)}.\n"
    if bad:
        text += f"\nFailures: {', '.join(bad)}.\n"
    return text


def _kind(schema: dict[str, Any]) -> str:
    match schema:
        case {"$ref": name}:
            return str(name).rpartition("/")[2]
        case {"enum": values}:
            return ", ".join(f"`{value}`" for value in values)
        case {"type": "array", "items": items}:
            return f"list of {_kind(items)}"
        case {"type": "string", "format": "binary"}:
            return "bytes"
        case {"type": [*kinds]}:
            return " or ".join(kinds)
        case {"type": kind}:
            return str(kind)
        case _:
            return "any"


# --- errors ---------------------------------------------------------------------------------------


def failures() -> str:
    """Every error with its status."""
    page = GENERATED + (
        "# Errors\n\n"
        "Ask for `application/problem+json` to get the error's name in `type` "
        "(`urn:transom:error:ImageNotFound`), its facts as keys, and in `retryable` whether the "
        "same request may succeed later. Without that, the body follows the `Accept` header as "
        "clients of the Image API expect: HTML, JSON or text.\n\n"
        "Every answer carries `x-openstack-request-id`; the log lines of the request carry the "
        "same id.\n\n"
    )
    kinds = sorted(
        (problems.status_of(kind.__new__(kind)), line, kind)
        for line, kind in enumerate(_kinds(errors.TransomError))
        if kind is not errors.ConfigurationError
    )
    return page + table(
        ("Status", "Error", "When", "Retry"),
        (
            (status, f"`{kind.__name__}`", _first_line(kind), "yes" if kind.retryable else "")
            for status, _, kind in kinds
        ),
    )


def _kinds(base: type[errors.TransomError]) -> Iterator[type[errors.TransomError]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _kinds(kind)


def _first_line(kind: type) -> str:
    return " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())


# --- command line ---------------------------------------------------------------------------------


def commands() -> str:
    """Every command with its arguments."""
    page = GENERATED + "# Command line\n\n"
    page += "`transom --help` and `transom COMMAND --help` print the same.\n"
    found = list(_commands(parser(), "transom"))
    page += "\nWhere a command lists them, these mean the same everywhere:\n\n"
    common: dict[str, tuple[str, str, str]] = {}
    for _, _, command in found:
        for action in command._actions:
            if set(action.option_strings) & COMMON:
                option = action.option_strings[0]
                common[option] = (f"`{option}`", _value(action), action.help or "")
    page += table(("Option", "Value", "Meaning"), common.values())
    for name, words, command in found:
        page += f"\n## `{name}`\n\n{words[:1].upper()}{words[1:]}.\n"
        rows = [
            (
                ", ".join(f"`{option}`" for option in action.option_strings)
                or f"`{action.metavar or action.dest}`",
                _value(action),
                action.help or "",
            )
            for action in command._actions
            if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
            and not set(action.option_strings) & COMMON
        ]
        shared = [
            f"`{option}`"
            for action in command._actions
            for option in action.option_strings
            if option in COMMON
        ]
        if shared:
            page += f"\nTakes {', '.join(shared)}.\n"
        if rows:
            page += "\n" + table(("Argument", "Value", "Meaning"), rows)
    return page


def _value(action: argparse.Action) -> str:
    if action.choices is not None:
        return ", ".join(f"`{choice}`" for choice in action.choices)
    if action.nargs == 0:
        return ""
    return f"`{action.metavar}`" if action.option_strings and action.metavar else ""


def _commands(
    command: argparse.ArgumentParser, name: str, words: str = ""
) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    groups = [item for item in command._actions if isinstance(item, argparse._SubParsersAction)]
    if not groups:
        yield name, words, command
    for group in groups:
        helps = {choice.dest: choice.help or "" for choice in group._choices_actions}
        for verb, below in group.choices.items():
            yield from _commands(below, f"{name} {verb}", helps.get(verb, ""))


# --- metrics --------------------------------------------------------------------------------------


def metrics() -> str:
    """Every metric, from the table that declares them."""
    page = GENERATED + (
        "# Metrics\n\n"
        "Served at `/metrics` on the address `[metrics] bind`, in Prometheus' text format or as "
        "OpenMetrics, by `transom serve` and `transom worker` alike. [Watch "
        "Transom](../howto/watch-transom.md) tells how to scrape, show and alert.\n\n"
        "Of `[server] workers` the numbers are those of all processes together, and of those that "
        "have ended too; *together* says where that is not the sum. Of several replicas add up with "
        "`sum()`; what is said of the whole deployment every replica says, so take `max()`.\n\n"
        "A histogram has `_bucket`, `_count` and `_sum`.\n\n"
    )
    words = {"sum": "", "max": " (together: the largest)", "min": " (together: the smallest)"}
    return page + table(
        ("Metric", "Kind", "Labels", "Meaning"),
        (
            (
                f"`{metric.name}`",
                metric.kind,
                ", ".join(f"`{label}`" for label in metric.labels),
                metric.text + words[metric.merge],
            )
            for metric in METRICS.values()
        ),
    )


# --- decisions ------------------------------------------------------------------------------------


def decisions() -> str:
    """The introduction of the decisions, with the list of them."""
    introduction = (DOCS / "decisions/README.md").read_text().partition(LIST_BEGINS)[0]
    lines = [
        f"- [{page.name[:4]} {_title(page)}]({page.name})"
        for page in sorted((DOCS / "decisions").glob("[0-9]*.md"))
    ]
    return introduction.rstrip() + "\n\n" + LIST_BEGINS + "\n".join(lines) + "\n"


def _title(page: Path) -> str:
    heading = page.read_text().partition("\n")[0]
    return re.sub(r"^#\s*(\d+\s*[.:-]?\s*)?", "", heading)


PAGES: dict[str, Callable[[], str]] = {
    "reference/configuration.md": configuration,
    "reference/endpoints.md": endpoints,
    "reference/errors.md": failures,
    "reference/cli.md": commands,
    "reference/metrics.md": metrics,
    "decisions/README.md": decisions,
}
"""Every page that is made from the code, by its path below docs."""


def stale() -> list[str]:
    """The pages that differ from what the code says now."""
    return [
        name
        for name, make in PAGES.items()
        if not (DOCS / name).exists() or (DOCS / name).read_text() != make()
    ]


def main() -> int:
    """Write the pages, or with `--check` compare them."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--check", action="store_true", help="compare, write nothing")
    if arguments.parse_args().check:
        found = stale()
        for name in found:
            print(f"docs/{name} is out of date; run make docs")
        return 1 if found else 0
    for name, make in PAGES.items():
        (DOCS / name).parent.mkdir(parents=True, exist_ok=True)
        (DOCS / name).write_text(make())
        print(f"wrote docs/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
