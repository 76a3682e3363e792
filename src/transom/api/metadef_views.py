"""How metadata definitions look in JSON (API §20); what is null is left out."""

from __future__ import annotations

import datetime as dt
from typing import Any

from transom.api.views import time_view
from transom.model.metadef import (
    Association,
    Contents,
    MetadefObject,
    MetadefProperty,
    MetadefTag,
    Namespace,
    ResourceType,
)


def _times(created_at: dt.datetime, updated_at: dt.datetime) -> dict[str, dt.datetime]:
    return {"created_at": time_view(created_at), "updated_at": time_view(updated_at)}


def _without_nulls(view: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in view.items() if value is not None}


def association_view(association: Association) -> dict[str, Any]:
    """An association as the API shows it."""
    return _without_nulls(
        {
            "name": association.name,
            "prefix": association.prefix,
            "properties_target": association.properties_target,
        }
        | _times(association.created_at, association.updated_at)
    )


def resource_type_view(resource_type: ResourceType) -> dict[str, Any]:
    """A resource type as the API shows it."""
    return {"name": resource_type.name} | _times(resource_type.created_at, resource_type.updated_at)


def property_view(one: MetadefProperty) -> dict[str, Any]:
    """A property as the API shows it by itself."""
    return {"name": one.name, **one.definition}


def object_view(namespace: str, one: MetadefObject) -> dict[str, Any]:
    """An object of a namespace as the API shows it."""
    return _without_nulls(
        {
            "name": one.name,
            "description": one.description,
            "required": one.required,
            "properties": one.properties,
        }
        | _times(one.created_at, one.updated_at)
        | {
            "self": f"/v2/metadefs/namespaces/{namespace}/objects/{one.name}",
            "schema": "/v2/schemas/metadefs/object",
        }
    )


def tag_view(tag: MetadefTag) -> dict[str, Any]:
    """A tag as the API shows it by itself."""
    return {"name": tag.name} | _times(tag.created_at, tag.updated_at)


def tag_name_view(tag: MetadefTag) -> dict[str, str]:
    """A tag as the API shows it among others."""
    return {"name": tag.name}


def namespace_view(namespace: Namespace, contents: Contents | None = None) -> dict[str, Any]:
    """A namespace as the API shows it, with what it holds of the contents."""
    view = _without_nulls(
        {
            "namespace": namespace.namespace,
            "display_name": namespace.display_name,
            "description": namespace.description,
            "visibility": namespace.visibility,
            "protected": namespace.protected,
            "owner": namespace.owner,
        }
        | _times(namespace.created_at, namespace.updated_at)
        | {
            "self": f"/v2/metadefs/namespaces/{namespace.namespace}",
            "schema": "/v2/schemas/metadefs/namespace",
        }
    )
    held: dict[str, Any] = {
        "resource_type_associations": [association_view(one) for one in namespace.associations]
    }
    if contents is not None:
        held |= {
            "properties": {one.name: one.definition for one in contents.properties},
            "objects": [object_view(namespace.namespace, one) for one in contents.objects],
            "tags": [tag_name_view(one) for one in contents.tags],
        }
    return view | {name: value for name, value in held.items() if value}
