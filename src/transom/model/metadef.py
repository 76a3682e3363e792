"""Metadata definitions: what properties things in a cloud may carry, and what they mean."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum
from typing import Any, Literal

import msgspec

from transom.model.query import Direction

Definition = dict[str, Any]
"""What a property may hold, in the words of JSON Schema; without the property's name."""


class NamespaceVisibility(StrEnum):
    """Who may see a namespace besides its owner."""

    PUBLIC = "public"
    PRIVATE = "private"


class ResourceType(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of thing that definitions are for, such as `OS::Nova::Flavor`."""

    name: str
    created_at: dt.datetime
    updated_at: dt.datetime


class Association(msgspec.Struct, frozen=True, kw_only=True):
    """That the definitions of a namespace are for things of a resource type."""

    name: str
    """Name of the resource type."""
    prefix: str | None = None
    """What stands before the names of properties on things of this type, separator included."""
    properties_target: str | None = None
    """Which of several sets of properties of the thing is meant."""
    created_at: dt.datetime
    updated_at: dt.datetime


class MetadefProperty(msgspec.Struct, frozen=True, kw_only=True):
    """A property that stands in a namespace by itself."""

    name: str
    definition: Definition
    created_at: dt.datetime
    updated_at: dt.datetime


class MetadefObject(msgspec.Struct, frozen=True, kw_only=True):
    """Properties that belong together."""

    name: str
    description: str | None = None
    required: tuple[str, ...] = ()
    properties: dict[str, Definition] = {}
    created_at: dt.datetime
    updated_at: dt.datetime


class MetadefTag(msgspec.Struct, frozen=True, kw_only=True):
    """A word that things may be tagged with."""

    name: str
    created_at: dt.datetime
    updated_at: dt.datetime


class Namespace(msgspec.Struct, frozen=True, kw_only=True):
    """A room for definitions, with the resource types that they are for."""

    id: int = 0
    """The catalog's own number of it, the same after it got another name; 0 = not yet stored."""
    namespace: str
    """Its name, unique in the deployment."""
    display_name: str | None = None
    description: str | None = None
    visibility: NamespaceVisibility = NamespaceVisibility.PRIVATE
    protected: bool = False
    """While true, nothing is taken out of it, nor is it deleted."""
    owner: str | None = None
    """Id of the project that it belongs to."""
    created_at: dt.datetime
    updated_at: dt.datetime
    associations: tuple[Association, ...] = ()


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in a namespace, each kind in the order in which it was made."""

    properties: tuple[MetadefProperty, ...] = ()
    objects: tuple[MetadefObject, ...] = ()
    tags: tuple[MetadefTag, ...] = ()


NamespaceKey = Literal["namespace", "created_at", "updated_at"]
TagKey = Literal["name", "created_at", "updated_at"]


class NamespaceQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which namespaces, in what order, how many (API §20.1)."""

    limit: int
    marker: str | None = None
    """Name of the last namespace of the page before."""
    sort_key: NamespaceKey = "created_at"
    sort_dir: Direction = "desc"
    visibility: NamespaceVisibility | None = None
    resource_types: tuple[str, ...] | None = None
    """Associated with any of these."""


class TagQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which tags of a namespace, in what order, how many (API §20.4)."""

    limit: int | None = None
    """None = all."""
    marker: str | None = None
    """Name of the last tag of the page before."""
    sort_key: TagKey = "created_at"
    sort_dir: Direction = "desc"


class LoadMode(StrEnum):
    """What loading does where the catalog has a namespace of the name already."""

    SKIP = "skip"
    """Leave the namespace alone."""
    MERGE = "merge"
    """Add what the namespace does not have; what it has stays as it is."""
    PREFER_NEW = "prefer-new"
    """Add what the namespace does not have, and change what it has otherwise."""
    REPLACE = "replace"
    """Put the new namespace, as it is, in the place of the old one."""


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """What loading one namespace came to."""

    is_new: bool = False
    is_replaced: bool = False
    added: int = 0
    """How many associations and definitions were added to a namespace that was there."""
    changed: int = 0
    """How many of those that were there were changed, the namespace's own fields counting as
    one."""
