"""What may be said of metadata definitions: the shapes accept what the published schemas accept."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.catalogs import NOON
from transom.api.schemas import schema
from transom.errors import InvalidBody, ReadOnlyAttribute
from transom.metadefs.files import text_of
from transom.metadefs.shapes import (
    READ_ONLY,
    AssociationBody,
    NamespaceBody,
    ObjectBody,
    PropertyBody,
    TagBody,
    TagsBody,
    contents_of,
    namespace_of,
    property_of,
    shaped,
)
from transom.settings import Settings

PUBLISHED: dict[type[msgspec.Struct], str] = {
    NamespaceBody: "namespace",
    ObjectBody: "object",
    PropertyBody: "property",
    TagBody: "tag",
    AssociationBody: "resource_type",
}


def published(kind: type[msgspec.Struct]) -> Any:
    return schema(f"metadefs-{PUBLISHED[kind]}", Settings())


def accepted_as_published(kind: type[msgspec.Struct], body: dict[str, Any]) -> bool:
    try:
        jsonschema.validate(body, published(kind))
    except jsonschema.ValidationError:
        return False
    return True


def accepted(kind: type[msgspec.Struct], body: dict[str, Any]) -> bool:
    try:
        shaped(kind, json.loads(json.dumps(body)))
    except InvalidBody:
        return False
    return True


ODD = st.sampled_from(
    [None, True, False, 0, -1, 4.0, 0.5, 10**20, "", "x", "x" * 80, "x" * 81, [], ["a"], ["a", "a"],
     [1], {}, {"a": 1}, "string", "array", "private", {"type": "string"}, {"enum": [1]}]
)  # fmt: skip
KEYS: dict[type[msgspec.Struct], list[str]] = {
    kind: sorted(set(published(kind)["properties"]) - READ_ONLY[kind]) for kind in PUBLISHED
}
DEFINITION_KEYS = sorted(set(KEYS[PropertyBody]) - {"name"})


@st.composite
def definitions(draw: st.DrawFn) -> dict[str, Any]:
    right: dict[str, Any] = {"title": "Title", "type": "string"}
    keys = draw(st.lists(st.sampled_from(DEFINITION_KEYS), max_size=2))
    return right | {key: draw(ODD) for key in keys}


@st.composite
def bodies(draw: st.DrawFn) -> tuple[type[msgspec.Struct], dict[str, Any]]:
    kind = draw(st.sampled_from(list(PUBLISHED)))
    body: dict[str, Any] = {"namespace" if kind is NamespaceBody else "name": "named"}
    if kind is PropertyBody:
        body |= draw(definitions())
    if kind in (NamespaceBody, ObjectBody) and draw(st.booleans()):
        body["properties"] = {"p": draw(definitions())}
    for key in draw(st.lists(st.sampled_from([*KEYS[kind], "unknown"]), max_size=2)):
        if draw(st.booleans()):
            body.pop(key, None)
        else:
            body[key] = draw(ODD)
    return kind, body


@given(bodies())
def test_shapes_accept_what_the_published_schemas_accept(
    case: tuple[type[msgspec.Struct], dict[str, Any]],
) -> None:
    kind, body = case
    ours, theirs = accepted(kind, body), accepted_as_published(kind, body)
    assert ours <= theirs
    if theirs and not ours:
        # What we refuse besides: a nameless thing, and keys or values that nobody would read.
        assert body.get("name") == "" or body.get("namespace") == "" or _goes_beyond(body)


def _goes_beyond(body: dict[str, Any]) -> bool:
    inner = body.get("properties") if isinstance(body.get("properties"), dict) else {}
    held = [value for value in (inner or {}).values() if isinstance(value, dict)]
    items = [one["items"] for one in (body, *held) if isinstance(one.get("items"), dict)]
    unknown = any(set(one) - {"type", "enum"} for one in items)
    lists = [body.get(key) for key in ("objects", "tags", "resource_type_associations")]
    without_name = any(
        isinstance(one, dict) and "name" not in one
        for several in lists
        if isinstance(several, list)
        for one in several
    )
    return unknown or without_name


@pytest.mark.parametrize("kind", PUBLISHED, ids=PUBLISHED.values())
def test_what_the_service_sets_is_refused_as_such(kind: type[msgspec.Struct]) -> None:
    for name in READ_ONLY[kind]:
        with pytest.raises(ReadOnlyAttribute) as refused:
            shaped(kind, {name: "2026-01-01T00:00:00Z"})
        assert refused.value.name == name


@pytest.mark.parametrize(
    ("kind", "body", "told"),
    [
        (NamespaceBody, {}, "namespace"),
        (NamespaceBody, {"namespace": "x" * 81}, "80"),
        (NamespaceBody, {"namespace": "x", "description": "x" * 501}, "500"),
        (NamespaceBody, {"namespace": "x", "owner": "x" * 256}, "255"),
        (NamespaceBody, {"namespace": "x", "visibility": "shared"}, "shared"),
        (NamespaceBody, {"namespace": "x", "colour": "red"}, "colour"),
        (NamespaceBody, {"namespace": "nul\0"}, "namespace"),
        (NamespaceBody, {"namespace": "\U0001f427"}, "namespace"),
        (NamespaceBody, {"namespace": "x", "tags": [{"name": "x", "colour": 1}]}, "colour"),
        (NamespaceBody, {"namespace": "x", "objects": [{}]}, "name"),
        (NamespaceBody, {"namespace": "x", "properties": {"": {"title": "", "type": "string"}}},
         "length"),
        (ObjectBody, {"name": "x", "required": ["a", "b", "a"]}, "twice"),
        (ObjectBody, {"name": "x", "properties": {"a": {"title": "A"}}}, "type"),
        (PropertyBody, {"name": "x", "title": "X", "type": None}, "type"),
        (PropertyBody, {"name": "x", "title": "X", "type": "string", "required": []}, "required"),
        (PropertyBody, {"name": "x", "title": "X", "type": "string", "maxLength": 0.5}, "int"),
        (PropertyBody, {"name": "x", "title": "X", "type": "string", "confidential": True},
         "confidential"),
        (TagsBody, {}, "tags"),
        (TagsBody, {"tags": [{}]}, "name"),
        (TagsBody, {"tags": [{"name": "x", "created_at": "now"}]}, "created_at"),
    ],
)  # fmt: skip
def test_a_refusal_names_what_is_wrong(
    kind: type[msgspec.Struct], body: dict[str, Any], told: str
) -> None:
    with pytest.raises(InvalidBody, match=told):
        shaped(kind, body)


def test_an_embedded_thing_may_repeat_what_an_answer_told() -> None:
    times = {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}
    body = shaped(
        NamespaceBody,
        {
            "namespace": "x",
            "resource_type_associations": [{"name": "T", "prefix": "p:", **times}],
            "objects": [{"name": "o", "self": "/o", "schema": "/s", **times}],
            "tags": [{"name": "t", **times}],
        },
    )
    assert [one.name for one in namespace_of(body, NOON).associations] == ["T"]
    contents = contents_of(body, NOON)
    assert [one.name for one in (*contents.objects, *contents.tags)] == ["o", "t"]


def test_a_definition_is_kept_without_what_says_nothing() -> None:
    body = shaped(
        NamespaceBody,
        {
            "namespace": "x",
            "properties": {
                "p": {"name": "p", "title": "P", "type": "string", "default": None, "required": []}
            },
        },
    )
    assert contents_of(body, NOON).properties[0].definition == {"title": "P", "type": "string"}


@pytest.mark.parametrize(
    "default", [0, 0.5, False, "", "text", [], [1, "a"], {}, {"deep": [{"er": None}]}, 10**30]
)
def test_a_default_is_any_json(default: Any) -> None:
    body = shaped(PropertyBody, {"name": "p", "title": "P", "type": "string", "default": default})
    assert property_of(body, NOON).definition["default"] == default


def test_a_whole_number_with_a_point_is_an_integer() -> None:
    body = shaped(
        ObjectBody,
        {"name": "o", "properties": {"p": {"title": "P", "type": "string", "maxLength": 4.0}}},
    )
    assert body.properties
    assert repr(body.properties["p"].maxLength) == "4"


NAMES = st.text(st.characters(min_codepoint=1, max_codepoint=0xD7FF), min_size=1, max_size=20)
DEFINITIONS = st.fixed_dictionaries(
    {"title": NAMES, "type": st.sampled_from(["string", "integer", "array"])},
    optional={
        "description": NAMES,
        "default": st.one_of(st.integers(), st.booleans(), NAMES, st.lists(NAMES, max_size=2)),
        "enum": st.lists(NAMES, min_size=1, max_size=3),
        "minimum": st.integers(),
        "items": st.fixed_dictionaries({"type": st.just("string")}),
        "required": st.lists(NAMES, min_size=1, max_size=3, unique=True),
    },
)
NAMESPACES = st.fixed_dictionaries(
    {"namespace": NAMES, "visibility": st.sampled_from(["public", "private"]),
     "protected": st.booleans()},
    optional={
        "display_name": NAMES,
        "description": NAMES,
        "owner": NAMES,
        "resource_type_associations": st.lists(
            st.fixed_dictionaries({"name": NAMES}, optional={"prefix": NAMES}),
            min_size=1, max_size=3, unique_by=lambda one: one["name"],
        ),
        "properties": st.dictionaries(NAMES, DEFINITIONS, min_size=1, max_size=3),
        "objects": st.lists(
            st.fixed_dictionaries(
                {"name": NAMES},
                optional={
                    "description": NAMES,
                    "required": st.lists(NAMES, min_size=1, max_size=3, unique=True),
                    "properties": st.dictionaries(NAMES, DEFINITIONS, min_size=1, max_size=2),
                },
            ),
            min_size=1, max_size=3, unique_by=lambda one: one["name"],
        ),
        "tags": st.lists(
            st.fixed_dictionaries({"name": NAMES}), min_size=1, max_size=3,
            unique_by=lambda one: one["name"],
        ),
    },
)  # fmt: skip


@given(NAMESPACES)
def test_a_file_says_what_was_read(told: dict[str, Any]) -> None:
    body = shaped(NamespaceBody, json.loads(json.dumps(told)))
    moment = dt.datetime.now(dt.UTC)
    assert json.loads(text_of(namespace_of(body, moment), contents_of(body, moment))) == told
