"""The rows of metadata definitions in the route table (API §20)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.responses import Response

from transom.api import metadef_bodies as bodies
from transom.api import metadefs as api
from transom.api.call import Call
from transom.api.route import Parameter, Route
from transom.metadefs import shapes

NAMESPACES = "/v2/metadefs/namespaces"
NAMESPACE = f"{NAMESPACES}/{{namespace_name}}"
OBJECTS = f"{NAMESPACE}/objects"
OBJECT = f"{OBJECTS}/{{object_name}}"
PROPERTIES = f"{NAMESPACE}/properties"
PROPERTY = f"{PROPERTIES}/{{property_name}}"
TAGS = f"{NAMESPACE}/tags"
TAG = f"{TAGS}/{{tag_name}}"
TYPES = f"{NAMESPACE}/resource_types"
TYPE = f"{TYPES}/{{resource_type}}"

READING = (400, 403, 404)
ADDING = (400, 403, 404, 409, 413)
REMOVING = (400, 403, 404)


def _row(
    method: str,
    path: str,
    handler: Callable[[Call], Awaitable[Response]],
    summary: str,
    action: str,
    errors: tuple[int, ...],
    success: int = 200,
    *,
    body: Any = None,
    answer: Any = None,
    parameters: tuple[Parameter, ...] = (),
    answer_headers: tuple[str, ...] = (),
) -> Route:
    return Route(
        method,
        path,
        handler,
        summary,
        success,
        since="2.2",
        action=action,
        errors=errors,
        body=body,
        answer=answer,
        parameters=parameters,
        answer_headers=answer_headers,
    )


METADEF_ROUTES: tuple[Route, ...] = (
    # namespaces
    _row("GET", NAMESPACES, api.namespace_list, "List namespaces", "get_metadef_namespaces",
         READING, answer=bodies.MetadefNamespaces, parameters=bodies.NAMESPACE_LIST),
    _row("POST", NAMESPACES, api.namespace_create, "Create a namespace with what it shall hold",
         "add_metadef_namespace", (400, 403, 409, 413), 201, body=shapes.NamespaceBody,
         answer=bodies.MetadefNamespace, answer_headers=("location",)),
    _row("GET", NAMESPACE, api.namespace_show, "Show a namespace and what it holds",
         "get_metadef_namespace", READING, answer=bodies.MetadefNamespace,
         parameters=bodies.NAMESPACE_SHOW),
    _row("PUT", NAMESPACE, api.namespace_replace, "Give a namespace its own fields anew",
         "modify_metadef_namespace", ADDING, body=shapes.NamespaceBody,
         answer=bodies.MetadefNamespace),
    _row("DELETE", NAMESPACE, api.namespace_delete, "Delete a namespace and what it holds",
         "delete_metadef_namespace", REMOVING, 204),
    # objects
    _row("GET", OBJECTS, api.metadef_object_list, "List the objects of a namespace",
         "get_metadef_objects", READING, answer=bodies.MetadefObjects,
         parameters=bodies.OBJECT_LIST),
    _row("POST", OBJECTS, api.metadef_object_add, "Put an object into a namespace",
         "add_metadef_object", ADDING, 201, body=shapes.ObjectBody,
         answer=bodies.MetadefObjectShown),
    _row("DELETE", OBJECTS, api.metadef_object_remove_all, "Take all objects out of a namespace",
         "delete_metadef_namespace", REMOVING, 204),
    _row("GET", OBJECT, api.metadef_object_show, "Show an object of a namespace",
         "get_metadef_object", READING, answer=bodies.MetadefObjectShown),
    _row("PUT", OBJECT, api.metadef_object_replace, "Replace an object of a namespace",
         "modify_metadef_object", ADDING, body=shapes.ObjectBody,
         answer=bodies.MetadefObjectShown),
    _row("DELETE", OBJECT, api.metadef_object_remove, "Take an object out of a namespace",
         "delete_metadef_object", REMOVING, 204),
    # properties
    _row("GET", PROPERTIES, api.metadef_property_list, "List the properties of a namespace",
         "get_metadef_properties", READING, answer=bodies.MetadefProperties),
    _row("POST", PROPERTIES, api.metadef_property_add, "Put a property into a namespace",
         "add_metadef_property", ADDING, 201, body=shapes.PropertyBody,
         answer=bodies.MetadefProperty),
    _row("DELETE", PROPERTIES, api.metadef_property_remove_all,
         "Take all properties out of a namespace", "delete_metadef_namespace", REMOVING, 204),
    _row("GET", PROPERTY, api.metadef_property_show, "Show a property of a namespace",
         "get_metadef_property", READING, answer=bodies.MetadefProperty,
         parameters=bodies.PROPERTY_SHOW),
    _row("PUT", PROPERTY, api.metadef_property_replace, "Replace a property of a namespace",
         "modify_metadef_property", ADDING, body=shapes.PropertyBody,
         answer=bodies.MetadefProperty),
    _row("DELETE", PROPERTY, api.metadef_property_remove, "Take a property out of a namespace",
         "remove_metadef_property", REMOVING, 204),
    # tags
    _row("GET", TAGS, api.metadef_tag_list, "List the tags of a namespace", "get_metadef_tags",
         READING, answer=bodies.MetadefTags, parameters=bodies.TAG_LIST),
    _row("POST", TAGS, api.metadef_tag_add_several, "Put several tags into a namespace",
         "add_metadef_tags", ADDING, 201, body=shapes.TagsBody, answer=bodies.MetadefTags,
         parameters=bodies.TAGS_ADD),
    _row("DELETE", TAGS, api.metadef_tag_remove_all, "Take all tags out of a namespace",
         "delete_metadef_tags", REMOVING, 204),
    _row("GET", TAG, api.metadef_tag_show, "Show a tag of a namespace", "get_metadef_tag", READING,
         answer=bodies.MetadefTagShown),
    _row("POST", TAG, api.metadef_tag_add, "Put a tag into a namespace", "add_metadef_tag", ADDING,
         201, answer=bodies.MetadefTagShown),
    _row("PUT", TAG, api.metadef_tag_replace, "Give a tag of a namespace another name",
         "modify_metadef_tag", ADDING, body=shapes.TagBody, answer=bodies.MetadefTagShown),
    _row("DELETE", TAG, api.metadef_tag_remove, "Take a tag out of a namespace",
         "delete_metadef_tag", REMOVING, 204),
    # resource types
    _row("GET", "/v2/metadefs/resource_types", api.resource_type_list, "List all resource types",
         "list_metadef_resource_types", (400, 403), answer=bodies.MetadefResourceTypes),
    _row("GET", TYPES, api.association_list, "List what the definitions of a namespace are for",
         "list_metadef_resource_types", READING, answer=bodies.MetadefAssociations),
    _row("POST", TYPES, api.association_add, "Associate a namespace with a resource type",
         "add_metadef_resource_type_association", ADDING, 201, body=shapes.AssociationBody,
         answer=bodies.MetadefAssociation),
    _row("DELETE", TYPE, api.association_remove, "Take a resource type off a namespace",
         "remove_metadef_resource_type_association", REMOVING, 204),
)  # fmt: skip
"""Every endpoint of metadata definitions."""
