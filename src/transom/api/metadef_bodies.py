"""What goes over the wire of metadata definitions, for the document (API §20).

What clients send is described by the shapes that the verbs check it with; here are the answers, and
the parameters of requests.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType, field

from transom.api.bodies import Closed, Time
from transom.api.route import Parameter
from transom.metadefs.shapes import AssociationBody, EmbeddedProperty, PropertyBody


def _is(text: str) -> Meta:
    return Meta(description=text)


class MetadefAssociation(AssociationBody, kw_only=True):
    """A resource type that the definitions of a namespace are for."""

    created_at: Time
    updated_at: Time


class MetadefAssociations(Closed):
    """What the definitions of a namespace are for."""

    resource_type_associations: list[MetadefAssociation]


class MetadefResourceType(Closed):
    """A kind of thing that definitions are for."""

    name: Annotated[str, _is("Its name.")]
    created_at: Time
    updated_at: Time


class MetadefResourceTypes(Closed):
    """Every resource type that was ever associated."""

    resource_types: list[MetadefResourceType]


class MetadefProperties(Closed):
    """The properties of a namespace, by name."""

    properties: dict[str, EmbeddedProperty]


class MetadefObjectShown(Closed, kw_only=True):
    """An object of a namespace."""

    name: Annotated[str, _is("Its name.")]
    description: Annotated[str | UnsetType, _is("What it is for.")] = UNSET
    required: Annotated[list[str], _is("Names of the properties that must be there.")]
    properties: Annotated[dict[str, EmbeddedProperty], _is("Its properties, by name.")]
    created_at: Time
    updated_at: Time
    self_: Annotated[str, _is("Path of the object.")] = field(name="self")
    schema: Annotated[str, _is("Path of the schema that it follows.")]


class MetadefObjects(Closed):
    """The objects of a namespace."""

    objects: list[MetadefObjectShown]
    schema: Annotated[str, _is("Path of the schema that the list follows, without its slash.")]


class MetadefTagName(Closed):
    """A tag among others."""

    name: Annotated[str, _is("Its name.")]


class MetadefTagShown(Closed):
    """A tag of a namespace."""

    name: Annotated[str, _is("Its name.")]
    created_at: Time
    updated_at: Time


class MetadefTags(Closed):
    """Tags of a namespace."""

    tags: list[MetadefTagName]


class MetadefNamespaceListed(Closed, kw_only=True):
    """A namespace without what it holds."""

    namespace: Annotated[str, _is("Its name.")]
    display_name: Annotated[str | UnsetType, _is("What people call it.")] = UNSET
    description: Annotated[str | UnsetType, _is("What it is for.")] = UNSET
    visibility: Annotated[Literal["public", "private"], _is("Who may see it.")]
    protected: Annotated[bool, _is("While true, neither it nor what it holds is deleted.")]
    owner: Annotated[str | UnsetType, _is("Id of the project that owns it.")] = UNSET
    created_at: Time
    updated_at: Time
    self_: Annotated[str, _is("Path of the namespace.")] = field(name="self")
    schema: Annotated[str, _is("Path of the schema that it follows.")]
    resource_type_associations: Annotated[
        list[MetadefAssociation] | UnsetType, _is("What its definitions are for.")
    ] = UNSET


class MetadefNamespace(MetadefNamespaceListed):
    """A namespace with what it holds; what is empty is left out."""

    properties: Annotated[
        dict[str, EmbeddedProperty] | UnsetType, _is("Its properties, by name.")
    ] = UNSET
    objects: Annotated[list[MetadefObjectShown] | UnsetType, _is("Its objects.")] = UNSET
    tags: Annotated[list[MetadefTagName] | UnsetType, _is("Its tags.")] = UNSET


class MetadefNamespaces(Closed):
    """A page of namespaces."""

    namespaces: list[MetadefNamespaceListed]
    schema: Annotated[str, _is("Path of the schema that the page follows.")]
    first: Annotated[str, _is("Path and query of the first page.")]
    next: Annotated[str | UnsetType, _is("Path and query of the next page, if there is one.")] = (
        UNSET
    )


MetadefProperty = PropertyBody
"""A property is shown as it was given."""


def _query(name: str, text: str, **schema: Any) -> Parameter:
    return Parameter(name, text, {"type": "string"} | schema)


_SORT_DIR = _query("sort_dir", "The direction.", enum=["asc", "desc"], default="desc")
_RESOURCE_TYPE = "Give names of properties as things of this resource type carry them."

NAMESPACE_LIST = (
    _query("limit", "Length of the page; cut to the longest allowed.", type="integer", minimum=0),
    _query("marker", "Name of the last namespace of the page before."),
    _query(
        "sort_key",
        "What to sort by.",
        enum=["namespace", "created_at", "updated_at"],
        default="created_at",
    ),
    _SORT_DIR,
    _query("visibility", "Namespaces of this visibility only.", enum=["public", "private"]),
    _query(
        "resource_types",
        "Namespaces that are associated with any of these types, separated by commas.",
        examples=["OS::Nova::Flavor,OS::Glance::Image"],
    ),
)
"""The query of a list of namespaces."""

NAMESPACE_SHOW = (_query("resource_type", _RESOURCE_TYPE),)
PROPERTY_SHOW = (
    _query("resource_type", "The name is the one that things of this resource type carry."),
)
OBJECT_LIST = (_query("limit", "Looked at, and without effect.", type="integer", minimum=1),)
TAG_LIST = (
    _query("limit", "Most tags to give.", type="integer", minimum=0),
    _query("marker", "Name of the last tag of the page before."),
    _query(
        "sort_key",
        "What to sort by.",
        enum=["name", "created_at", "updated_at"],
        default="created_at",
    ),
    _SORT_DIR,
)
"""The query of a list of tags."""

TAGS_ADD = (
    Parameter(
        "x-openstack-append",
        "`True`: keep the tags that there are; else these take their place.",
        where="header",
    ),
)
"""The header of a request for several tags."""
