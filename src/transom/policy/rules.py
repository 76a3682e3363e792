"""Who may do what by default: Glance's rules as data.

One row a rule: its name, the default check string, the scope it needs, the calls it guards, and
the older default that counts as well while `policy.enforce_new_defaults` is off. Names and check
strings are those of Glance 33, so that an operator's policy file means the same here (API §22).
"""

from __future__ import annotations

import msgspec

_ADMIN = "rule:context_is_admin"
_METADEF_ADMIN = "rule:metadef_admin"
_OLD = "rule:default"
_OLD_METADEF = "rule:metadef_default"
_OLD_CACHE = "rule:manage_image_cache"

_MEMBER = "role:member and project_id:%(project_id)s"
_READER = "role:reader and project_id:%(project_id)s"
_VISIBLE = (
    "(project_id:%(project_id)s or project_id:%(member_id)s or 'community':%(visibility)s "
    "or 'public':%(visibility)s or 'shared':%(visibility)s)"
)

_ADMIN_OR_MEMBER = f"{_ADMIN} or ({_MEMBER})"
_ADMIN_OR_READER = f"{_ADMIN} or ({_READER})"
_ADMIN_OR_VISIBLE_READER = f"{_ADMIN} or (role:reader and {_VISIBLE})"
_ADMIN_OR_VISIBLE_MEMBER = f"{_ADMIN} or (role:member and {_VISIBLE})"
_ADMIN_OR_READER_OF_EITHER = (
    f"{_ADMIN} or role:reader and (project_id:%(project_id)s or project_id:%(member_id)s)"
)
_ADMIN_OR_NAMESPACE_READER = (
    f"{_ADMIN} or (role:reader and (project_id:%(project_id)s or 'public':%(visibility)s))"
)


class Rule(msgspec.Struct, frozen=True):
    """One rule: what it guards and who passes it unless the operator says otherwise."""

    name: str
    check: str
    """Check string in the policy language."""
    about: str
    """What the rule permits, one sentence."""
    operations: tuple[tuple[str, str], ...] = ()
    """The calls it guards: method and path."""
    scope_types: tuple[str, ...] = ("project",)
    """Scopes of which a token must have one; empty = any."""
    old_check: str | None = None
    """The default before the present one; it counts too while `enforce_new_defaults` is off."""


def _rule(
    name: str, check: str, about: str, *operations: str, old: str | None = None, scoped: bool = True
) -> Rule:
    """A row. Operations are `METHOD /path`."""
    calls = tuple((method, path) for method, path in (text.split(" ") for text in operations))
    return Rule(name, check, about, calls, ("project",) if scoped else (), old)


_IMAGE = "/v2/images/{image_id}"
_SPACE = "/v2/metadefs/namespaces/{namespace_name}"
_OBJECT = f"{_SPACE}/objects/{{object_name}}"
_PROPERTY = f"{_SPACE}/properties/{{property_name}}"
_TAG = f"{_SPACE}/tags/{{tag_name}}"
_TASK = "/v2/tasks/{task_id}"

RULES: tuple[Rule, ...] = (
    _rule("default", "", "Rules that refer to the default.", old=_ADMIN, scoped=False),
    _rule("context_is_admin", "role:admin", "Be an administrator.", scoped=False),
    _rule("service_api", "role:service or role:admin", "Call what is for services.", scoped=False),
    # --- images ---
    _rule(
        "add_image",
        f"{_ADMIN} or ({_MEMBER} and project_id:%(owner)s)",
        "Create an image.",
        "POST /v2/images",
        old=_OLD,
    ),
    _rule("delete_image", _ADMIN_OR_MEMBER, "Delete an image.", f"DELETE {_IMAGE}", old=_OLD),
    _rule("get_image", _ADMIN_OR_VISIBLE_READER, "See an image.", f"GET {_IMAGE}", old=_OLD),
    _rule("get_images", _ADMIN_OR_READER, "List images.", "GET /v2/images", old=_OLD),
    _rule("modify_image", _ADMIN_OR_MEMBER, "Change an image.", f"PATCH {_IMAGE}", old=_OLD),
    _rule("publicize_image", _ADMIN, "Make an image public.", f"PATCH {_IMAGE}"),
    _rule(
        "communitize_image",
        _ADMIN_OR_MEMBER,
        "Make an image a community image.",
        f"PATCH {_IMAGE}",
        old=_OLD,
    ),
    _rule(
        "download_image",
        _ADMIN_OR_VISIBLE_MEMBER,
        "Download the data of an image.",
        f"GET {_IMAGE}/file",
        old=_OLD,
    ),
    _rule(
        "download_from_store",
        _ADMIN_OR_VISIBLE_MEMBER,
        "Download the data of an image from a store of choice.",
        f"GET {_IMAGE}/file",
    ),
    _rule(
        "upload_image",
        _ADMIN_OR_MEMBER,
        "Upload the data of an image.",
        f"PUT {_IMAGE}/file",
        old=_OLD,
    ),
    _rule(
        "delete_image_location",
        _ADMIN,
        "Remove a location from an image.",
        f"PATCH {_IMAGE}",
        old=_OLD,
    ),
    _rule(
        "get_image_location",
        _ADMIN_OR_READER,
        "See the locations of an image.",
        f"GET {_IMAGE}",
        old=_OLD,
    ),
    _rule(
        "set_image_location",
        _ADMIN_OR_MEMBER,
        "Set the locations of an image.",
        f"PATCH {_IMAGE}",
        old=_OLD,
    ),
    _rule(
        "add_image_location",
        f"rule:service_api or ({_MEMBER} and project_id:%(owner)s)",
        "Add a location to an image.",
        f"POST {_IMAGE}/locations",
    ),
    _rule(
        "fetch_image_location",
        "rule:service_api",
        "Read the locations of an image.",
        f"GET {_IMAGE}/locations",
    ),
    # --- members ---
    _rule("add_member", _ADMIN_OR_MEMBER, "Share an image.", f"POST {_IMAGE}/members", old=_OLD),
    _rule(
        "delete_member",
        _ADMIN_OR_MEMBER,
        "Take a member off an image.",
        f"DELETE {_IMAGE}/members/{{member_id}}",
        old=_OLD,
    ),
    _rule(
        "get_member",
        _ADMIN_OR_READER_OF_EITHER,
        "See a member of an image.",
        f"GET {_IMAGE}/members/{{member_id}}",
        old=_OLD,
    ),
    _rule(
        "get_members",
        _ADMIN_OR_READER_OF_EITHER,
        "List the members of an image.",
        f"GET {_IMAGE}/members",
        old=_OLD,
    ),
    _rule(
        "modify_member",
        f"{_ADMIN} or (role:member and project_id:%(member_id)s)",
        "Accept or reject a shared image.",
        f"PUT {_IMAGE}/members/{{member_id}}",
        old=_OLD,
    ),
    _rule("manage_image_cache", _ADMIN, "Manage the cache."),
    # --- actions and imports ---
    _rule(
        "deactivate",
        _ADMIN_OR_MEMBER,
        "Deactivate an image.",
        f"POST {_IMAGE}/actions/deactivate",
        old=_OLD,
    ),
    _rule(
        "reactivate",
        _ADMIN_OR_MEMBER,
        "Reactivate an image.",
        f"POST {_IMAGE}/actions/reactivate",
        old=_OLD,
    ),
    _rule("copy_image", _ADMIN, "Copy an image to further stores.", f"POST {_IMAGE}/import"),
    _rule(
        "list_cached_nodes",
        _ADMIN,
        "See which nodes cache an image.",
        "GET /v2/cache/nodes/{image_id}",
    ),
    # --- tasks ---
    _rule("get_task", _OLD, "See a task.", f"GET {_TASK}", old=_OLD),
    _rule("get_tasks", _OLD, "List tasks.", "GET /v2/tasks", old=_OLD),
    _rule("add_task", _OLD, "Create a task.", "POST /v2/tasks", old=_OLD),
    _rule("modify_task", _OLD, "Change a task.", f"DELETE {_TASK}"),
    _rule(
        "tasks_api_access",
        _ADMIN,
        "Use the tasks API at all.",
        f"GET {_TASK}",
        "GET /v2/tasks",
        "POST /v2/tasks",
        f"DELETE {_TASK}",
    ),
    # --- metadata definitions ---
    _rule("metadef_default", "", "The older default of metadata definitions.", scoped=False),
    _rule("metadef_admin", _ADMIN, "Administer metadata definitions.", scoped=False),
    _rule(
        "get_metadef_namespace",
        _ADMIN_OR_NAMESPACE_READER,
        "See a namespace.",
        f"GET {_SPACE}",
        old=_OLD_METADEF,
    ),
    _rule(
        "get_metadef_namespaces",
        _ADMIN_OR_READER,
        "List namespaces.",
        "GET /v2/metadefs/namespaces",
        old=_OLD_METADEF,
    ),
    _rule("modify_metadef_namespace", _METADEF_ADMIN, "Change a namespace.", f"PUT {_SPACE}"),
    _rule(
        "add_metadef_namespace",
        _METADEF_ADMIN,
        "Create a namespace.",
        "POST /v2/metadefs/namespaces",
    ),
    _rule("delete_metadef_namespace", _METADEF_ADMIN, "Delete a namespace.", f"DELETE {_SPACE}"),
    _rule(
        "get_metadef_object",
        _ADMIN_OR_NAMESPACE_READER,
        "See an object of a namespace.",
        f"GET {_OBJECT}",
        old=_OLD_METADEF,
    ),
    _rule(
        "get_metadef_objects",
        _ADMIN_OR_NAMESPACE_READER,
        "List the objects of a namespace.",
        f"GET {_SPACE}/objects",
        old=_OLD_METADEF,
    ),
    _rule("modify_metadef_object", _METADEF_ADMIN, "Change an object.", f"PUT {_OBJECT}"),
    _rule("add_metadef_object", _METADEF_ADMIN, "Create an object.", f"POST {_SPACE}/objects"),
    _rule("delete_metadef_object", _METADEF_ADMIN, "Delete an object.", f"DELETE {_OBJECT}"),
    _rule(
        "list_metadef_resource_types",
        _ADMIN_OR_NAMESPACE_READER,
        "List resource types.",
        "GET /v2/metadefs/resource_types",
        old=_OLD_METADEF,
    ),
    _rule(
        "get_metadef_resource_type",
        _ADMIN_OR_NAMESPACE_READER,
        "See the resource types of a namespace.",
        f"GET {_SPACE}/resource_types",
        old=_OLD_METADEF,
    ),
    _rule(
        "add_metadef_resource_type_association",
        _METADEF_ADMIN,
        "Associate a resource type with a namespace.",
        f"POST {_SPACE}/resource_types",
    ),
    _rule(
        "remove_metadef_resource_type_association",
        _METADEF_ADMIN,
        "Take a resource type off a namespace.",
        # The path parameter is called `name` here and nowhere else.
        f"DELETE {_SPACE}/resource_types/{{name}}",
    ),
    _rule(
        "get_metadef_property",
        _ADMIN_OR_NAMESPACE_READER,
        "See a property of a namespace.",
        f"GET {_PROPERTY}",
        old=_OLD_METADEF,
    ),
    _rule(
        "get_metadef_properties",
        _ADMIN_OR_NAMESPACE_READER,
        "List the properties of a namespace.",
        f"GET {_SPACE}/properties",
        old=_OLD_METADEF,
    ),
    _rule("modify_metadef_property", _METADEF_ADMIN, "Change a property.", f"PUT {_PROPERTY}"),
    _rule(
        "add_metadef_property", _METADEF_ADMIN, "Create a property.", f"POST {_SPACE}/properties"
    ),
    _rule("remove_metadef_property", _METADEF_ADMIN, "Delete a property.", f"DELETE {_PROPERTY}"),
    _rule(
        "get_metadef_tag",
        _ADMIN_OR_NAMESPACE_READER,
        "See a tag of a namespace.",
        f"GET {_TAG}",
        old=_OLD_METADEF,
    ),
    _rule(
        "get_metadef_tags",
        _ADMIN_OR_NAMESPACE_READER,
        "List the tags of a namespace.",
        f"GET {_SPACE}/tags",
        old=_OLD_METADEF,
    ),
    _rule("modify_metadef_tag", _METADEF_ADMIN, "Change a tag.", f"PUT {_TAG}"),
    _rule("add_metadef_tag", _METADEF_ADMIN, "Create a tag.", f"POST {_TAG}"),
    _rule("add_metadef_tags", _METADEF_ADMIN, "Create several tags.", f"POST {_SPACE}/tags"),
    _rule("delete_metadef_tag", _METADEF_ADMIN, "Delete a tag.", f"DELETE {_TAG}"),
    _rule("delete_metadef_tags", _METADEF_ADMIN, "Delete all tags.", f"DELETE {_SPACE}/tags"),
    # --- cache and stores ---
    _rule(
        "cache_image",
        _ADMIN,
        "Queue an image for caching.",
        "PUT /v2/cache/{image_id}",
        old=_OLD_CACHE,
    ),
    _rule("cache_list", _ADMIN, "See what is cached.", "GET /v2/cache", old=_OLD_CACHE),
    _rule(
        "cache_delete",
        _ADMIN,
        "Take images out of the cache.",
        "DELETE /v2/cache",
        "DELETE /v2/cache/{image_id}",
        old=_OLD_CACHE,
    ),
    _rule("cache_clean", _ADMIN, "Drop invalid cache entries.", "POST /v2/cache/clean"),
    _rule("cache_prune", _ADMIN, "Shrink the cache to its size.", "POST /v2/cache/prune"),
    _rule(
        "stores_info_detail",
        f"{_ADMIN} or rule:service_api",
        "See the details of stores.",
        "GET /v2/info/stores/detail",
        old=_ADMIN,
    ),
)
"""Every rule there is; a name that is not here can only be an operator's own helper rule."""

BY_NAME: dict[str, Rule] = {rule.name: rule for rule in RULES}

PROJECT_RULES = frozenset(rule.name for rule in RULES if rule.scope_types == ("project",))
"""Rules that serve project-scoped tokens alone."""

MUTATING = frozenset(
    {
        "modify_image",
        "delete_image",
        "upload_image",
        "set_image_location",
        "delete_image_location",
        "add_member",
        "delete_member",
        "deactivate",
        "reactivate",
    }
)
"""Rules of calls that change an image. While `enforce_new_defaults` is off their check strings
open them to everyone, and the owner or an administrator must be asking besides (API §22)."""
