"""What is registered in a table exists, and what exists is registered."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType

import pytest

import transom.auth.backends
import transom.cli
import transom.imports.plugins
import transom.stores.drivers
from transom import errors
from transom.api import problems
from transom.api.openapi import operation_ids, tag_of
from transom.api.route import Route
from transom.api.routes import ROUTES
from transom.auth import BACKENDS
from transom.cli.main import COMMANDS
from transom.imports.plugins import PLUGINS
from transom.policy.rules import RULES
from transom.stores import DRIVERS


def _modules(package: ModuleType) -> set[str]:
    return {
        f"{package.__name__}.{info.name}"
        for info in pkgutil.iter_modules(package.__path__)
        if not info.name.startswith("_")
    }


def _all_errors(kind: type = errors.TransomError) -> Iterator[type[errors.TransomError]]:
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield below
            yield from _all_errors(below)


@pytest.mark.parametrize(
    ("table", "package"),
    [
        (DRIVERS, transom.stores.drivers),
        (BACKENDS, transom.auth.backends),
        (PLUGINS, transom.imports.plugins),
    ],
    ids=["stores", "identity backends", "import plugins"],
)
def test_every_driver_is_in_its_table_and_can_be_loaded(
    table: dict[str, str], package: ModuleType
) -> None:
    for dotted in table.values():
        module, _, name = dotted.partition(":")
        assert inspect.isclass(getattr(importlib.import_module(module), name)), dotted
    listed = {dotted.partition(":")[0] for dotted in table.values()}
    assert _modules(package) <= listed


def test_every_command_is_in_the_table() -> None:
    adding = {
        name for name in _modules(transom.cli) if hasattr(importlib.import_module(name), "add")
    }
    assert set(COMMANDS.values()) == adding


def test_every_error_has_a_status_of_its_own_or_of_a_class_above_it() -> None:
    without = [
        kind.__name__
        for kind in _all_errors()
        if kind is not errors.ConfigurationError
        and not any(above in problems.STATUS for above in kind.__mro__)
    ]
    assert not without


def test_every_status_row_belongs_to_an_error() -> None:
    assert set(problems.STATUS) <= set(_all_errors())


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__ or "")
    assert sorted(drawn) == sorted(kind.__name__ for kind in _all_errors())


def test_every_error_says_in_its_docstring_what_it_stands_for() -> None:
    assert [kind.__name__ for kind in _all_errors() if not kind.__dict__.get("__doc__")] == []


def test_no_two_routes_share_method_and_path() -> None:
    seen = [(route.method, route.path) for route in ROUTES]
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_a_route_is_complete(route: Route) -> None:
    assert inspect.iscoroutinefunction(inspect.unwrap(route.handler))
    assert route.summary
    assert not route.summary.endswith(".")
    assert route.action is None or route.action in {rule.name for rule in RULES}
    assert (route.action is not None) <= route.needs_token
    assert route.method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
    assert not set(route.errors) & {route.success, *route.also}
    assert tag_of(route)[0]
    if route.method in {"GET", "HEAD", "DELETE"}:
        assert route.body is None


def test_operations_have_unique_names() -> None:
    names = list(operation_ids(ROUTES).values())
    assert len(names) == len(set(names)) == len(ROUTES)
