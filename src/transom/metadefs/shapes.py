"""What clients and files may say of metadata definitions: shapes, and the way from them to the model.

The shapes are those of the schemas that the API publishes (API §21), and a test holds the two
together. Keys that a shape does not name are refused, because nobody would read them; an embedded
thing may repeat what an answer told of it, its times and links, which is ignored.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from transom.errors import InvalidBody, ReadOnlyAttribute
from transom.model.metadef import (
    Association,
    Contents,
    Definition,
    MetadefObject,
    MetadefProperty,
    MetadefTag,
    Namespace,
    NamespaceVisibility,
)

S = TypeVar("S", bound=Struct)


def _is(text: str, example: Any = None) -> Meta:
    return Meta(description=text, examples=None if example is None else [example])


# What no text of the API may hold: NUL, and characters outside the Basic Multilingual Plane.
_PLAIN = "^[\\u0001-\\uFFFF]*$"

Text = Annotated[str, Meta(pattern=_PLAIN)]
Name = Annotated[str, Meta(min_length=1, max_length=80, pattern=_PLAIN)]
Label = Annotated[str, Meta(max_length=80, pattern=_PLAIN)]
LongText = Annotated[str, Meta(max_length=500, pattern=_PLAIN)]
ProjectId = Annotated[str, Meta(max_length=255, pattern=_PLAIN)]
Names = Annotated[list[Text], Meta(extra_json_schema={"uniqueItems": True})]
SomeNames = Annotated[list[Text], Meta(min_length=1, extra_json_schema={"uniqueItems": True})]
Count = Annotated[int, Meta(ge=0)]
Ignored = Annotated[Any, _is("What an answer told of it; ignored.")]
ValueType = Literal["array", "boolean", "integer", "number", "object", "string"]


class _Closed(Struct, kw_only=True, forbid_unknown_fields=True):
    """A document without further keys."""


class Items(_Closed):
    """What the items of an array are."""

    type: Annotated[ValueType | UnsetType, _is("Type of an item.")] = UNSET
    enum: Annotated[list[Any] | UnsetType, _is("The items that may be there.")] = UNSET


class _Defined(_Closed):
    title: Annotated[Text, _is("What people call the property.", "CPU cores")]
    type: Annotated[ValueType, _is("Type of its value.", "integer")]
    description: Annotated[Text | UnsetType, _is("What the property means.")] = UNSET
    operators: Annotated[
        list[Text] | UnsetType, _is("Operators that may stand before a value.", ["<or>"])
    ] = UNSET
    minimum: Annotated[int | float | UnsetType, _is("The least number.")] = UNSET
    maximum: Annotated[int | float | UnsetType, _is("The greatest number.")] = UNSET
    maxLength: Annotated[Count | UnsetType, _is("Most characters of a text.")] = UNSET  # noqa: N815
    minLength: Annotated[Count | UnsetType, _is("Fewest characters of a text.")] = UNSET  # noqa: N815
    pattern: Annotated[Text | UnsetType, _is("Regular expression that a text fits.")] = UNSET
    enum: Annotated[list[Any] | UnsetType, _is("All values that there are.")] = UNSET
    readonly: Annotated[bool | UnsetType, _is("Whether users may only look at it.")] = UNSET
    default: Annotated[Any, _is("The value when none is given; any JSON.")] = UNSET
    items: Annotated[Items | UnsetType, _is("What the items of an array are.")] = UNSET
    maxItems: Annotated[Count | UnsetType, _is("Most items of an array.")] = UNSET  # noqa: N815
    minItems: Annotated[Count | UnsetType, _is("Fewest items of an array.")] = UNSET  # noqa: N815
    uniqueItems: Annotated[  # noqa: N815
        bool | UnsetType, _is("Whether no item may be there twice.")
    ] = UNSET
    additionalItems: Annotated[  # noqa: N815
        bool | UnsetType, _is("Whether an array may hold further items.")
    ] = UNSET


class EmbeddedProperty(_Defined):
    """What a property may hold, under its name."""

    name: Annotated[Label | UnsetType, _is("Ignored; the key is the name.")] = UNSET
    required: Annotated[list[Text] | UnsetType, Meta(extra_json_schema={"uniqueItems": True})] = (
        UNSET
    )


class PropertyBody(_Defined, kw_only=True):
    """A property and what it may hold."""

    name: Annotated[Name, _is("Its name, unique in the namespace.", "hw_cpu_cores")]
    required: Annotated[SomeNames | UnsetType, _is("Names of what must be there.")] = UNSET


Properties = dict[Text, EmbeddedProperty]


class ObjectBody(_Closed):
    """Properties that belong together."""

    name: Annotated[Name, _is("Its name, unique in the namespace.", "CPU Limits")]
    description: Annotated[Text | UnsetType, _is("What the object is for.")] = UNSET
    required: Annotated[Names | UnsetType, _is("Names of properties that must be there.")] = UNSET
    properties: Annotated[Properties | UnsetType, _is("Its properties, by name.")] = UNSET


class EmbeddedObject(ObjectBody):
    """An object of a namespace."""

    created_at: Ignored = UNSET
    updated_at: Ignored = UNSET
    self_: Ignored = msgspec.field(name="self", default=UNSET)
    schema: Ignored = UNSET


class TagBody(_Closed):
    """A tag."""

    name: Annotated[Name, _is("Its name, unique in the namespace.", "production")]


class EmbeddedTag(TagBody):
    """A tag of a namespace."""

    created_at: Ignored = UNSET
    updated_at: Ignored = UNSET


class TagsBody(_Closed):
    """Tags."""

    tags: Annotated[list[TagBody], _is("The tags; no name twice.")]


class AssociationBody(_Closed):
    """A resource type that the definitions of a namespace are for."""

    name: Annotated[Name, _is("The resource type.", "OS::Nova::Flavor")]
    prefix: Annotated[
        Label | UnsetType, _is("What stands before names of properties there.", "hw:")
    ] = UNSET
    properties_target: Annotated[
        Label | UnsetType, _is("Which set of properties is meant.", "metadata")
    ] = UNSET


class EmbeddedAssociation(AssociationBody):
    """A resource type of a namespace."""

    created_at: Ignored = UNSET
    updated_at: Ignored = UNSET


class NamespaceBody(_Closed):
    """A namespace, with what it shall hold."""

    namespace: Annotated[Name, _is("Its name, unique in the deployment.", "OS::Compute::Quota")]
    display_name: Annotated[Label | UnsetType, _is("What people call it.")] = UNSET
    description: Annotated[LongText | UnsetType, _is("What it is for.")] = UNSET
    visibility: Annotated[
        Literal["public", "private"] | UnsetType, _is("Who may see it; private if not given.")
    ] = UNSET
    protected: Annotated[bool | UnsetType, _is("Refuse to delete it and what it holds.")] = UNSET
    owner: Annotated[ProjectId | UnsetType, _is("Id of the project that owns it.")] = UNSET
    resource_type_associations: Annotated[
        list[EmbeddedAssociation] | UnsetType, _is("What its definitions are for.")
    ] = UNSET
    properties: Annotated[
        dict[Name, EmbeddedProperty] | UnsetType, _is("Its properties, by name.")
    ] = UNSET
    objects: Annotated[list[EmbeddedObject] | UnsetType, _is("Its objects.")] = UNSET
    tags: Annotated[list[EmbeddedTag] | UnsetType, _is("Its tags.")] = UNSET


_TIMES = frozenset({"created_at", "updated_at"})
_LINKS = frozenset({"self", "schema"})
READ_ONLY: Final[dict[type[Struct], frozenset[str]]] = {
    NamespaceBody: _TIMES | _LINKS,
    ObjectBody: _TIMES | _LINKS,
    PropertyBody: _TIMES,
    TagBody: _TIMES,
    AssociationBody: _TIMES,
}
"""Keys that the service sets; who sends one is told that, not that the key is unknown."""

_COUNTS = ("maxLength", "minLength", "maxItems", "minItems")


def shaped(kind: type[S], body: dict[str, Any]) -> S:
    """The body as a shape. Raises ReadOnlyAttribute for a key that the service sets, InvalidBody
    that names place and rule for what else does not fit."""
    for name in READ_ONLY.get(kind, ()):
        if name in body:
            raise ReadOnlyAttribute(name)
    _settle_counts(body)
    try:
        found = msgspec.convert(body, kind)
    except msgspec.ValidationError as wrong:
        raise InvalidBody(f"The body does not fit its schema: {wrong}.") from wrong
    _check_unique(found)
    return found


def _settle_counts(body: dict[str, Any]) -> None:
    # JSON Schema takes 4.0 for an integer, and so does Glance.
    objects = body.get("objects")
    for holder in (body, *(objects if isinstance(objects, list) else ())):
        inner = holder.get("properties") if isinstance(holder, dict) else None
        if isinstance(inner, dict):
            for definition in inner.values():
                _settle(definition)
    _settle(body)


def _settle(definition: Any) -> None:
    if isinstance(definition, dict):
        for name in _COUNTS:
            value = definition.get(name)
            if isinstance(value, float) and value.is_integer():
                definition[name] = int(value)


def _check_unique(found: Struct) -> None:
    match found:
        case NamespaceBody():
            for one in found.objects or ():
                _check_unique(one)
            _check_properties(found.properties)
        case ObjectBody():
            _once(found.required, f"{found.name}.required")
            _check_properties(found.properties)
        case PropertyBody():
            _once(found.required, "required")


def _check_properties(properties: Mapping[str, EmbeddedProperty] | UnsetType) -> None:
    for name, definition in (properties or {}).items():
        _once(definition.required, f"{name}.required")


def _once(names: list[str] | UnsetType, where: str) -> None:
    given = names or []
    if len(set(given)) < len(given):
        raise InvalidBody(f"The body does not fit its schema: a name is in {where} twice.")


# --- from shapes to the model ----------------------------------------------------------------------


def _given(value: Any) -> Any:
    return None if value is UNSET else value


def definition_of(body: _Defined) -> Definition:
    """A definition as it is kept: without its name, and without what says nothing."""
    told: Definition = msgspec.to_builtins(body)
    told.pop("name", None)
    if not told.get("required", True):
        del told["required"]
    return {name: value for name, value in told.items() if value is not None}


def property_of(body: PropertyBody, now: dt.datetime) -> MetadefProperty:
    """The property that a body describes."""
    return MetadefProperty(
        name=body.name, definition=definition_of(body), created_at=now, updated_at=now
    )


def object_of(body: ObjectBody, now: dt.datetime) -> MetadefObject:
    """The object that a body describes."""
    return MetadefObject(
        name=body.name,
        description=_given(body.description),
        required=tuple(body.required or ()),
        properties={
            name: definition_of(definition) for name, definition in (body.properties or {}).items()
        },
        created_at=now,
        updated_at=now,
    )


def tag_of(body: TagBody, now: dt.datetime) -> MetadefTag:
    """The tag that a body describes."""
    return MetadefTag(name=body.name, created_at=now, updated_at=now)


def association_of(body: AssociationBody, now: dt.datetime) -> Association:
    """The association that a body describes."""
    return Association(
        name=body.name,
        prefix=_given(body.prefix),
        properties_target=_given(body.properties_target),
        created_at=now,
        updated_at=now,
    )


def namespace_of(body: NamespaceBody, now: dt.datetime) -> Namespace:
    """The namespace that a body describes, with its associations."""
    return Namespace(
        namespace=body.namespace,
        display_name=_given(body.display_name),
        description=_given(body.description),
        visibility=NamespaceVisibility(body.visibility or NamespaceVisibility.PRIVATE),
        protected=body.protected or False,
        owner=_given(body.owner),
        created_at=now,
        updated_at=now,
        associations=tuple(
            association_of(one, now) for one in body.resource_type_associations or ()
        ),
    )


def contents_of(body: NamespaceBody, now: dt.datetime) -> Contents:
    """What the namespace that a body describes shall hold."""
    return Contents(
        properties=tuple(
            MetadefProperty(
                name=name, definition=definition_of(definition), created_at=now, updated_at=now
            )
            for name, definition in (body.properties or {}).items()
        ),
        objects=tuple(object_of(one, now) for one in body.objects or ()),
        tags=tuple(tag_of(one, now) for one in body.tags or ()),
    )
