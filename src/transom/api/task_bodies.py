"""Shapes of bodies of imports and tasks, and the parameters of their requests, for the document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from transom.api import bodies
from transom.api.bodies import Closed, Time, Uuid, described, header_parameter, query_parameter
from transom.catalog.tasks import SORT_KEYS

TaskType = Literal["import", "api_image_import", "location_import"]
TaskStatus = Literal["pending", "processing", "success", "failure"]
MethodName = Literal["glance-direct", "web-download", "copy-image", "glance-download"]


class ImportMethod(Struct, kw_only=True):
    """Where the data comes from."""

    name: Annotated[MethodName, described("The import method.")]
    uri: Annotated[str | UnsetType, described("web-download: URL of the data.")] = UNSET
    mirrors: Annotated[
        Annotated[list[str], Meta(max_length=8)] | UnsetType,
        described("web-download: further URLs of the same data."),
    ] = UNSET
    checksums_uri: Annotated[
        str | UnsetType,
        described("web-download: URL of a file such as SHA256SUMS that names the file of `uri`."),
    ] = UNSET
    os_hash_algo: Annotated[
        str | UnsetType, described("Algorithm of the digest that the data must have.", "sha256")
    ] = UNSET
    os_hash_value: Annotated[
        str | UnsetType, described("The digest that the data must have, in hexadecimal.")
    ] = UNSET
    glance_region: Annotated[
        str | UnsetType, described("glance-download: region of the other Glance.")
    ] = UNSET
    glance_image_id: Annotated[
        str | UnsetType, described("glance-download: id of the image there.")
    ] = UNSET
    glance_service_interface: Annotated[
        str | UnsetType, described("glance-download: interface of its endpoint.", "public")
    ] = UNSET


class ImageImport(Struct, kw_only=True):
    """What to import, and into which stores."""

    method: ImportMethod
    stores: Annotated[list[str] | UnsetType, described("Stores to fill; by default one.")] = UNSET
    all_stores: Annotated[bool | UnsetType, described("Fill every store that takes data.")] = UNSET
    all_stores_must_succeed: Annotated[
        bool | UnsetType, described("False: one store that is filled is enough.")
    ] = UNSET


class Progress(Closed):
    """How far a task is."""

    phase: str
    percent: Annotated[int | None, described("Of the present phase; null while not known.")]
    done_bytes: Annotated[int, Meta(ge=0)]
    total_bytes: int | None
    bytes_per_second: Annotated[int, Meta(ge=0)]
    started_at: Time | None
    updated_at: Time


class ImageTask(Closed):
    """A task as the list of an image's tasks has it."""

    id: Uuid
    type: TaskType
    status: TaskStatus
    owner: str | None
    expires_at: Annotated[str | None, described("UTC, to the microsecond, without a zone.")]
    created_at: str
    updated_at: str
    deleted_at: None
    deleted: bool
    image_id: str | None
    request_id: str | None
    user_id: str | None
    input: dict[str, Any]
    result: dict[str, Any] | None
    message: str
    progress: Progress


class ImageTasks(Closed):
    """The tasks of an image."""

    tasks: list[ImageTask]


class TaskStub(Struct, kw_only=True):
    """A task in a list."""

    id: Uuid
    type: TaskType
    status: TaskStatus
    owner: str | None
    created_at: Time
    updated_at: Time
    self: str
    schema: str
    image_id: str | UnsetType = UNSET
    request_id: str | UnsetType = UNSET
    user_id: str | UnsetType = UNSET
    expires_at: Annotated[Time | UnsetType, described("Until when it can be looked up.")] = UNSET


class Task(TaskStub):
    """A task."""

    input: dict[str, Any]
    result: dict[str, Any] | None
    message: str
    progress: Progress


class TaskCreate(Closed):
    """What a task is to do. `import` is the type for clients; its input needs `import_from`,
    `import_from_format` and `image_properties`."""

    type: TaskType
    input: dict[str, Any]


class Tasks(Closed):
    """One page of tasks."""

    tasks: list[TaskStub]
    first: str
    schema: str
    next: str | UnsetType = UNSET


STAGE_PARAMETERS = tuple(
    each for each in bodies.UPLOAD_PARAMETERS if each.name == "x-openstack-image-size"
)
"""The headers of a request to stage (API §9.3)."""

IMPORT_PARAMETERS = (
    header_parameter("x-image-meta-store", "Name of the one store to fill; with several stores."),
)
"""The headers of a request to import (API §10.1)."""

TASK_PARAMETERS = (
    query_parameter("limit", "Length of the page.", type="integer", minimum=0),
    query_parameter("marker", "Id of the last task of the page before."),
    query_parameter("sort_key", "What to sort by.", enum=list(SORT_KEYS)),
    query_parameter("sort_dir", "The direction.", enum=["asc", "desc"]),
    query_parameter(
        "status", "Only tasks in this state.", enum=["pending", "processing", "success", "failure"]
    ),
    query_parameter(
        "type",
        "Only tasks of this type.",
        enum=["import", "api_image_import", "location_import"],
    ),
)
"""The parameters of a list of tasks (API §17)."""
