"""The route table: every endpoint, one row each.

An endpoint is a handler in `api/<resource>.py` and one row here. The app, the OpenAPI document, the
405 answers, the reference pages and the coverage tests are made from these rows.
"""

from __future__ import annotations

from transom.api import bodies, task_bodies
from transom.api.cache import (
    cache_clean,
    cache_clear,
    cache_drop,
    cache_list,
    cache_nodes,
    cache_prune,
    cache_queue,
)
from transom.api.compute.routes import COMPUTE_ROUTES
from transom.api.discovery import (
    health,
    import_info,
    readiness,
    stores_info,
    stores_info_detail,
    usage_info,
    version_choices,
    version_list,
)
from transom.api.docs_page import docs
from transom.api.identity import IDENTITY_ROUTES
from transom.api.image_data import data_download, data_upload
from transom.api.images import (
    image_create,
    image_deactivate,
    image_delete,
    image_list,
    image_reactivate,
    image_show,
    image_update,
    image_withdraw,
)
from transom.api.imports import (
    data_stage,
    image_events,
    image_import,
    image_task_cancel,
    image_task_list,
)
from transom.api.locations import location_add, location_list
from transom.api.members import (
    member_add,
    member_list,
    member_remove,
    member_show,
    member_update,
)
from transom.api.metadef_routes import METADEF_ROUTES
from transom.api.openapi import openapi
from transom.api.problems import PATCH_TYPES
from transom.api.route import Route
from transom.api.schemas import metadef_schema_show, schema_show
from transom.api.tags import tag_add, tag_remove
from transom.api.tasks import task_create, task_delete, task_list, task_show
from transom.settings import Settings

IMAGE = "/v2/images/{image_id}"
OCTETS = ("application/octet-stream",)

ROUTES: tuple[Route, ...] = (
    # versions, health, documents
    Route("GET", "/", version_choices, "List the API versions", 300, face="service",
          needs_token=False, answer=bodies.Versions),
    Route("GET", "/versions", version_list, "List the API versions", face="service",
          needs_token=False, answer=bodies.Versions),
    Route("GET", "/versions/", version_list, "List the API versions", face="service",
          needs_token=False, answer=bodies.Versions),
    Route("GET", "/healthcheck", health, "Tell whether the service serves", face="service",
          needs_token=False, answer=str, answer_type="text/plain", errors=(503,)),
    Route("GET", "/readyz", readiness, "Tell whether database and store answer", face="service",
          needs_token=False, answer=bodies.Readiness, errors=(503,)),
    Route("GET", "/openapi.json", openapi, "This API as an OpenAPI 3.1 document", face="service",
          needs_token=False, answer=dict),
    Route("GET", "/docs", docs, "This API as a page", face="service", needs_token=False,
          answer=str, answer_type="text/html"),
    # images
    Route("POST", "/v2/images", image_create, "Create an image", 201, action="add_image",
          body=bodies.ImageCreate, answer=bodies.Image,
          answer_headers=("location", "openstack-image-import-methods",
                          "openstack-image-store-ids"),
          errors=(400, 403, 409, 413)),
    Route("GET", "/v2/images", image_list, "List images", action="get_images",
          parameters=bodies.LIST_PARAMETERS, open_query=True, answer=bodies.Images,
          errors=(400, 403)),
    Route("GET", IMAGE, image_show, "Show an image", action="get_image", answer=bodies.Image,
          errors=(400, 404)),
    Route("PATCH", IMAGE, image_update, "Change an image", action="modify_image",
          body=bodies.Patch, body_types=PATCH_TYPES, answer=bodies.Image,
          errors=(400, 403, 404, 409, 413, 415)),
    Route("DELETE", IMAGE, image_delete, "Delete an image", 204, action="delete_image",
          errors=(400, 403, 404, 409, 500, 503)),
    Route("POST", f"{IMAGE}/actions/deactivate", image_deactivate,
          "Refuse downloads to all but administrators", 204, since="2.3", action="deactivate",
          errors=(400, 403, 404, 409)),
    Route("POST", f"{IMAGE}/actions/reactivate", image_reactivate, "Allow downloads again", 204,
          since="2.3", action="reactivate", errors=(400, 403, 404, 409)),
    # image data
    Route("PUT", f"{IMAGE}/file", data_upload, "Upload the data of an image", 204,
          action="upload_image", parameters=bodies.UPLOAD_PARAMETERS, body=bytes,
          body_types=OCTETS, errors=(400, 403, 404, 409, 410, 413, 415, 500, 503)),
    Route("GET", f"{IMAGE}/file", data_download, "Download the data of an image",
          also=(204, 206, 304, 307), action="download_image", parameters=bodies.DOWNLOAD_PARAMETERS,
          answer=bytes, answer_type=OCTETS[0],
          answer_headers=("content-md5", "etag", "accept-ranges", "content-range", "location"),
          errors=(400, 403, 404, 412, 416, 503)),
    Route("HEAD", f"{IMAGE}/file", data_download, "Show the headers of a download",
          also=(204, 206, 304), action="download_image", parameters=bodies.DOWNLOAD_PARAMETERS,
          answer_headers=("content-md5", "etag", "accept-ranges", "content-range"),
          errors=(400, 403, 404, 412, 416, 503)),
    Route("PUT", f"{IMAGE}/stage", data_stage, "Stage the data of an image for an import", 204,
          since="2.6", action="modify_image", parameters=task_bodies.STAGE_PARAMETERS, body=bytes,
          body_types=OCTETS, errors=(400, 403, 404, 409, 410, 413, 415, 500, 503)),
    Route("POST", f"{IMAGE}/import", image_import, "Import the data of an image", 202,
          since="2.6", action="modify_image", parameters=task_bodies.IMPORT_PARAMETERS,
          body=task_bodies.ImageImport, errors=(400, 403, 404, 409, 413)),
    Route("GET", f"{IMAGE}/tasks", image_task_list, "List the tasks of an image", since="2.12",
          action="get_image", answer=task_bodies.ImageTasks, errors=(400, 404), tells_methods=False),
    Route("POST", f"{IMAGE}/tasks/{{task_id}}/cancel", image_task_cancel,
          "End a task of an image", 202, since="2.17", action="modify_image",
          errors=(400, 403, 404)),
    Route("GET", f"{IMAGE}/events", image_events, "Follow an image and its tasks", since="2.17",
          action="get_image", answer=str, answer_type="text/event-stream", errors=(400, 404)),
    Route("POST", f"{IMAGE}/locations", location_add, "Give an image data that is elsewhere", 202,
          since="2.17", action="add_image_location", body=bodies.LocationAdd,
          errors=(400, 403, 404, 409)),
    Route("GET", f"{IMAGE}/locations", location_list, "List the locations of an image",
          since="2.17", action="fetch_image_location", answer=list[bodies.Location],
          errors=(400, 403, 404)),
    # tasks
    Route("POST", "/v2/tasks", task_create, "Make an image from a URL", 201, since="2.2",
          action="tasks_api_access", body=task_bodies.TaskCreate, answer=task_bodies.Task,
          answer_headers=("location",), errors=(400, 403)),
    Route("GET", "/v2/tasks", task_list, "List tasks", since="2.2", action="tasks_api_access",
          parameters=task_bodies.TASK_PARAMETERS, open_query=True, answer=task_bodies.Tasks,
          errors=(400, 403)),
    Route("GET", "/v2/tasks/{task_id}", task_show, "Show a task", since="2.2",
          action="tasks_api_access", answer=task_bodies.Task, errors=(400, 403, 404)),
    Route("DELETE", "/v2/tasks/{task_id}", task_delete, "Refused: tasks expire by themselves", 204,
          since="2.2", action="tasks_api_access", errors=(403, 405)),
    # the cache of this node
    Route("GET", "/v2/cache", cache_list, "List what is cached", since="2.14",
          action="cache_list", answer=bodies.CacheList, errors=(400, 403, 404)),
    Route("DELETE", "/v2/cache", cache_clear, "Empty the cache", 204, since="2.14",
          action="cache_delete", parameters=bodies.CACHE_CLEAR_PARAMETERS,
          errors=(400, 403, 404)),
    Route("POST", "/v2/cache/clean", cache_clean, "Drop what is left of broken fillings", 200,
          since="2.18", action="cache_clean", errors=(400, 403, 404)),
    Route("POST", "/v2/cache/prune", cache_prune, "Shrink the cache to its size", since="2.18",
          action="cache_prune", answer=bodies.CachePruned, errors=(400, 403, 404)),
    Route("GET", "/v2/cache/nodes/{image_id}", cache_nodes, "List the nodes that cache an image",
          since="2.16", action="list_cached_nodes", answer=list[str], errors=(400, 403, 404)),
    Route("PUT", "/v2/cache/{image_id}", cache_queue, "Fetch an image into the cache", 202,
          since="2.14", action="cache_image", errors=(400, 403, 404)),
    Route("DELETE", "/v2/cache/{image_id}", cache_drop, "Drop an image from the cache", 204,
          since="2.14", action="cache_delete", errors=(400, 403, 404)),
    # tags
    Route("PUT", f"{IMAGE}/tags/{{tag}}", tag_add, "Put a tag on an image", 204,
          action="modify_image", errors=(400, 403, 404, 409, 413)),
    Route("DELETE", f"{IMAGE}/tags/{{tag}}", tag_remove, "Take a tag off an image", 204,
          action="modify_image", errors=(400, 403, 404, 409)),
    # members
    Route("POST", f"{IMAGE}/members", member_add, "Share an image with a project", since="2.1",
          action="add_member", body=bodies.MemberAdd, answer=bodies.Member,
          errors=(400, 403, 404, 409, 413)),
    Route("GET", f"{IMAGE}/members", member_list, "List the members of an image", since="2.1",
          action="get_members", answer=bodies.Members, errors=(400, 403, 404)),
    Route("GET", f"{IMAGE}/members/{{member_id}}", member_show, "Show a member of an image",
          since="2.1", action="get_member", answer=bodies.Member, errors=(400, 403, 404)),
    Route("PUT", f"{IMAGE}/members/{{member_id}}", member_update, "Accept or reject a share",
          since="2.1", action="modify_member", body=bodies.MemberUpdate, answer=bodies.Member,
          errors=(400, 403, 404)),
    Route("DELETE", f"{IMAGE}/members/{{member_id}}", member_remove,
          "Withdraw an image from a project", 204, since="2.1", action="delete_member",
          errors=(400, 403, 404)),
    # stores
    Route("DELETE", "/v2/stores/{store_id}/{image_id}", image_withdraw,
          "Delete the data of an image from one store", 204, since="2.10",
          action="delete_image_location", errors=(400, 403, 404, 409, 500, 503),
          when=Settings.announces_stores),
    # discovery
    Route("GET", "/v2/info/import", import_info, "List the import methods", since="2.6",
          answer=bodies.ImportInfo, errors=(400,)),
    Route("GET", "/v2/info/usage", usage_info, "Show what your project uses of its limits",
          since="2.13", answer=bodies.UsageInfo, errors=(400,), tells_methods=False),
    Route("GET", "/v2/info/stores", stores_info, "List the stores", since="2.8",
          answer=bodies.StoresInfo, errors=(400,), when=Settings.announces_stores),
    Route("GET", "/v2/info/stores/detail", stores_info_detail, "List the stores with details",
          since="2.15", action="stores_info_detail", answer=bodies.StoresDetail,
          errors=(400, 403), when=Settings.announces_stores),
    Route("GET", "/v2/schemas/{name}", schema_show, "Show a schema", answer=bodies.Schema,
          errors=(400, 404)),
    Route("GET", "/v2/schemas/metadefs/{name}", metadef_schema_show,
          "Show a schema of metadata definitions", since="2.2", answer=bodies.Schema,
          errors=(400, 404)),
    *METADEF_ROUTES,
    *IDENTITY_ROUTES,
    *COMPUTE_ROUTES,
)  # fmt: skip
"""Every endpoint of every configuration."""


def routes_for(settings: Settings) -> tuple[Route, ...]:
    """The rows that are switched on in a configuration."""
    return tuple(route for route in ROUTES if route.when is None or route.when(settings))
