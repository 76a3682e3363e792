"""Endpoints of metadata definitions (API §20)."""

from __future__ import annotations

from typing import Final, cast
from urllib.parse import quote

from starlette.responses import Response

from transom.api import paging
from transom.api.call import Call, empty_response, json_response
from transom.api.metadef_views import (
    association_view,
    namespace_view,
    object_view,
    property_view,
    resource_type_view,
    tag_name_view,
    tag_view,
)
from transom.metadefs.namespaces import (
    create_namespace,
    delete_namespace,
    list_namespaces,
    replace_namespace,
    show_namespace,
)
from transom.metadefs.objects import (
    add_object,
    list_objects,
    remove_all_objects,
    remove_object,
    replace_object,
    show_object,
)
from transom.metadefs.properties import (
    add_property,
    list_properties,
    remove_all_properties,
    remove_property,
    replace_property,
    show_property,
)
from transom.metadefs.resource_types import (
    add_association,
    list_associations,
    list_resource_types,
    remove_association,
)
from transom.metadefs.tags import (
    add_tag,
    add_tags,
    list_tags,
    remove_all_tags,
    remove_tag,
    replace_tag,
    show_tag,
)
from transom.model.metadef import (
    NamespaceKey,
    NamespaceQuery,
    NamespaceVisibility,
    TagKey,
    TagQuery,
)
from transom.model.query import Direction

NAMESPACES: Final = "/v2/metadefs/namespaces"
_TRUE: Final = frozenset({"1", "t", "true", "on", "y", "yes"})
"""What OpenStack's services take for true in a header."""


# --- namespaces --------------------------------------------------------------------------------


async def namespace_list(call: Call) -> Response:
    """`GET /v2/metadefs/namespaces`."""
    await call.refuse_body()
    asked = dict(call.query)
    visibility = paging.choice(asked, "visibility", tuple(NamespaceVisibility))
    types = asked.get("resource_types")
    query = NamespaceQuery(
        limit=paging.page_size(asked.get("limit"), call.registry.settings.limits),
        marker=asked.get("marker"),
        sort_key=cast(
            "NamespaceKey",
            paging.choice(asked, "sort_key", ("namespace", "created_at", "updated_at"))
            or "created_at",
        ),
        sort_dir=_direction(asked),
        visibility=None if visibility is None else NamespaceVisibility(visibility),
        resource_types=None if types is None else tuple(dict.fromkeys(types.split(","))),
    )
    found, is_full = await list_namespaces(call.registry, call.actor, query)
    marker = found[-1].namespace if found and is_full else None
    return json_response(
        {"namespaces": [namespace_view(namespace) for namespace in found]}
        | paging.links(NAMESPACES, call.query, marker)
        | {"schema": "/v2/schemas/metadefs/namespaces"}
    )


async def namespace_create(call: Call) -> Response:
    """`POST /v2/metadefs/namespaces`."""
    made, contents = await create_namespace(call.registry, call.actor, await call.json_object())
    view = namespace_view(made, contents)
    return json_response(view, 201, {"location": f"{call.base_url}{quote(view['self'])}"})


async def namespace_show(call: Call) -> Response:
    """`GET /v2/metadefs/namespaces/{namespace_name}`."""
    await call.refuse_body()
    namespace, contents = await show_namespace(
        call.registry, call.actor, call.params["namespace_name"], _resource_type(call)
    )
    return json_response(namespace_view(namespace, contents))


async def namespace_replace(call: Call) -> Response:
    """`PUT /v2/metadefs/namespaces/{namespace_name}`."""
    namespace, contents = await replace_namespace(
        call.registry, call.actor, call.params["namespace_name"], await call.json_object()
    )
    return json_response(namespace_view(namespace, contents))


async def namespace_delete(call: Call) -> Response:
    """`DELETE /v2/metadefs/namespaces/{namespace_name}`."""
    await call.refuse_body()
    await delete_namespace(call.registry, call.actor, call.params["namespace_name"])
    return empty_response()


# --- objects -----------------------------------------------------------------------------------


async def metadef_object_list(call: Call) -> Response:
    """`GET /v2/metadefs/namespaces/{namespace_name}/objects`."""
    await call.refuse_body()
    name = call.params["namespace_name"]
    # The list is never cut; a limit is only looked at.
    paging.count(dict(call.query).get("limit"), at_least=1)
    found = await list_objects(call.registry, call.actor, name)
    return json_response(
        {
            "objects": [object_view(name, one) for one in found],
            # So it has always been, without the slash.
            "schema": "v2/schemas/metadefs/objects",
        }
    )


async def metadef_object_add(call: Call) -> Response:
    """`POST /v2/metadefs/namespaces/{namespace_name}/objects`."""
    name = call.params["namespace_name"]
    made = await add_object(call.registry, call.actor, name, await call.json_object())
    return json_response(object_view(name, made), 201)


async def metadef_object_show(call: Call) -> Response:
    """`GET /v2/metadefs/namespaces/{namespace_name}/objects/{object_name}`."""
    await call.refuse_body()
    name = call.params["namespace_name"]
    found = await show_object(call.registry, call.actor, name, call.params["object_name"])
    return json_response(object_view(name, found))


async def metadef_object_replace(call: Call) -> Response:
    """`PUT /v2/metadefs/namespaces/{namespace_name}/objects/{object_name}`."""
    name = call.params["namespace_name"]
    made = await replace_object(
        call.registry, call.actor, name, call.params["object_name"], await call.json_object()
    )
    return json_response(object_view(name, made))


async def metadef_object_remove(call: Call) -> Response:
    """`DELETE /v2/metadefs/namespaces/{namespace_name}/objects/{object_name}`."""
    await call.refuse_body()
    params = call.params
    await remove_object(call.registry, call.actor, params["namespace_name"], params["object_name"])
    return empty_response()


async def metadef_object_remove_all(call: Call) -> Response:
    """`DELETE /v2/metadefs/namespaces/{namespace_name}/objects`."""
    await call.refuse_body()
    await remove_all_objects(call.registry, call.actor, call.params["namespace_name"])
    return empty_response()


# --- properties --------------------------------------------------------------------------------


async def metadef_property_list(call: Call) -> Response:
    """`GET /v2/metadefs/namespaces/{namespace_name}/properties`."""
    await call.refuse_body()
    found = await list_properties(call.registry, call.actor, call.params["namespace_name"])
    return json_response({"properties": {one.name: one.definition for one in found}})


async def metadef_property_add(call: Call) -> Response:
    """`POST /v2/metadefs/namespaces/{namespace_name}/properties`."""
    made = await add_property(
        call.registry, call.actor, call.params["namespace_name"], await call.json_object()
    )
    return json_response(property_view(made), 201)


async def metadef_property_show(call: Call) -> Response:
    """`GET /v2/metadefs/namespaces/{namespace_name}/properties/{property_name}`."""
    await call.refuse_body()
    params = call.params
    found = await show_property(
        call.registry,
        call.actor,
        params["namespace_name"],
        params["property_name"],
        _resource_type(call),
    )
    return json_response(property_view(found))


async def metadef_property_replace(call: Call) -> Response:
    """`PUT /v2/metadefs/namespaces/{namespace_name}/properties/{property_name}`."""
    params = call.params
    made = await replace_property(
        call.registry,
        call.actor,
        params["namespace_name"],
        params["property_name"],
        await call.json_object(),
    )
    return json_response(property_view(made))


async def metadef_property_remove(call: Call) -> Response:
    """`DELETE /v2/metadefs/namespaces/{namespace_name}/properties/{property_name}`."""
    await call.refuse_body()
    params = call.params
    await remove_property(
        call.registry, call.actor, params["namespace_name"], params["property_name"]
    )
    return empty_response()


async def metadef_property_remove_all(call: Call) -> Response:
    """`DELETE /v2/metadefs/namespaces/{namespace_name}/properties`."""
    await call.refuse_body()
    await remove_all_properties(call.registry, call.actor, call.params["namespace_name"])
    return empty_response()


# --- tags --------------------------------------------------------------------------------------


async def metadef_tag_list(call: Call) -> Response:
    """`GET /v2/metadefs/namespaces/{namespace_name}/tags`."""
    await call.refuse_body()
    asked = dict(call.query)
    query = TagQuery(
        limit=paging.count(asked.get("limit")),
        marker=asked.get("marker"),
        sort_key=cast(
            "TagKey",
            paging.choice(asked, "sort_key", ("name", "created_at", "updated_at")) or "created_at",
        ),
        sort_dir=_direction(asked),
    )
    found = await list_tags(call.registry, call.actor, call.params["namespace_name"], query)
    return json_response({"tags": [tag_name_view(one) for one in found]})


async def metadef_tag_add_several(call: Call) -> Response:
    """`POST /v2/metadefs/namespaces/{namespace_name}/tags`."""
    header = call.headers.get("x-openstack-append", "")
    made = await add_tags(
        call.registry,
        call.actor,
        call.params["namespace_name"],
        await call.json_object(),
        appending=header.strip().lower() in _TRUE,
    )
    return json_response({"tags": [tag_name_view(one) for one in made]}, 201)


async def metadef_tag_remove_all(call: Call) -> Response:
    """`DELETE /v2/metadefs/namespaces/{namespace_name}/tags`."""
    await call.refuse_body()
    await remove_all_tags(call.registry, call.actor, call.params["namespace_name"])
    return empty_response()


async def metadef_tag_add(call: Call) -> Response:
    """`POST /v2/metadefs/namespaces/{namespace_name}/tags/{tag_name}`."""
    await call.refuse_body()
    params = call.params
    made = await add_tag(call.registry, call.actor, params["namespace_name"], params["tag_name"])
    return json_response(tag_view(made), 201)


async def metadef_tag_show(call: Call) -> Response:
    """`GET /v2/metadefs/namespaces/{namespace_name}/tags/{tag_name}`."""
    await call.refuse_body()
    params = call.params
    found = await show_tag(call.registry, call.actor, params["namespace_name"], params["tag_name"])
    return json_response(tag_view(found))


async def metadef_tag_replace(call: Call) -> Response:
    """`PUT /v2/metadefs/namespaces/{namespace_name}/tags/{tag_name}`."""
    params = call.params
    made = await replace_tag(
        call.registry,
        call.actor,
        params["namespace_name"],
        params["tag_name"],
        await call.json_object(),
    )
    return json_response(tag_view(made))


async def metadef_tag_remove(call: Call) -> Response:
    """`DELETE /v2/metadefs/namespaces/{namespace_name}/tags/{tag_name}`."""
    await call.refuse_body()
    params = call.params
    await remove_tag(call.registry, call.actor, params["namespace_name"], params["tag_name"])
    return empty_response()


# --- resource types ----------------------------------------------------------------------------


async def resource_type_list(call: Call) -> Response:
    """`GET /v2/metadefs/resource_types`."""
    await call.refuse_body()
    found = await list_resource_types(call.registry, call.actor)
    return json_response({"resource_types": [resource_type_view(one) for one in found]})


async def association_list(call: Call) -> Response:
    """`GET /v2/metadefs/namespaces/{namespace_name}/resource_types`."""
    await call.refuse_body()
    found = await list_associations(call.registry, call.actor, call.params["namespace_name"])
    return json_response({"resource_type_associations": [association_view(one) for one in found]})


async def association_add(call: Call) -> Response:
    """`POST /v2/metadefs/namespaces/{namespace_name}/resource_types`."""
    made = await add_association(
        call.registry, call.actor, call.params["namespace_name"], await call.json_object()
    )
    return json_response(association_view(made), 201)


async def association_remove(call: Call) -> Response:
    """`DELETE /v2/metadefs/namespaces/{namespace_name}/resource_types/{resource_type}`."""
    await call.refuse_body()
    params = call.params
    await remove_association(
        call.registry, call.actor, params["namespace_name"], params["resource_type"]
    )
    return empty_response()


def _resource_type(call: Call) -> str | None:
    return dict(call.query).get("resource_type") or None


def _direction(asked: dict[str, str]) -> Direction:
    return cast("Direction", paging.choice(asked, "sort_dir", ("asc", "desc")) or "desc")
