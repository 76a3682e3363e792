"""What goes over the wire: the shapes of bodies, and the parameters of requests, for the document.

The types describe; they take no part in serving a request. msgspec turns them into JSON schemas for
`api/openapi.py`. Field order and meaning follow API §3 to §15.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from transom.api.route import Parameter
from transom.model.query import SORT_KEYS


def described(text: str, example: Any = None) -> Meta:
    """What a value is, and one that it could have."""
    return Meta(description=text, examples=None if example is None else [example])


_UUID = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
# What no text of the API may hold: NUL, and characters outside the Basic Multilingual Plane.
_PLAIN = "^[\\u0001-\\uFFFF]*$"
_ID = "b2173dd3-7ad6-4362-baa6-a68bce3565cb"

Text = Annotated[str, Meta(pattern=_PLAIN)]
Name = Annotated[str, Meta(max_length=255, pattern=_PLAIN)]
Uuid = Annotated[str, Meta(pattern=_UUID)]
Time = Annotated[dt.datetime, described("UTC, in whole seconds.", "2026-01-31T08:00:00Z")]
Visibility = Literal["private", "shared", "community", "public"]
MemberStatus = Literal["pending", "accepted", "rejected"]
Size = Annotated[int, Meta(ge=0)]
Requirement = Annotated[int, Meta(ge=0, le=2**31 - 1)]

CUSTOM_PROPERTIES = {
    "additionalProperties": {
        "type": "string",
        "pattern": _PLAIN,
        "description": "Custom properties stand beside the others; their values are strings.",
    },
    "propertyNames": {"minLength": 1, "maxLength": 255, "pattern": _PLAIN},
}
"""What the schema of an image says of the keys that it does not name."""


class Open(Struct, kw_only=True):
    """A document whose further keys are custom properties."""


class Closed(Struct, kw_only=True, forbid_unknown_fields=True):
    """A document without further keys."""


@dataclass(frozen=True, slots=True)
class PerType:
    """A body whose shape depends on its media type."""

    shapes: dict[str, Any]


class Location(Closed):
    """One place that holds the data of an image."""

    url: Annotated[str, described("Where the data is.")]
    metadata: Annotated[dict[str, Any], described("What the store notes about it.")]


class Image(Open):
    """An image as it is shown."""

    name: Annotated[Name | None, described("What people call it; need not be unique.", "debian-12")]
    disk_format: Annotated[str | None, described("Format of the disk in the data.", "qcow2")]
    container_format: Annotated[str | None, described("What is wrapped around the disk.", "bare")]
    visibility: Annotated[Visibility, described("Who may see it.")]
    size: Annotated[Size | None, described("Length of the data, in bytes; null without data.")]
    virtual_size: Annotated[
        Size | None, described("Length of the disk in the data, in bytes, if known.")
    ]
    status: Annotated[
        Literal[
            "queued", "saving", "uploading", "importing", "active", "deactivated", "killed",
            "pending_delete", "deleted",
        ],
        described("Where it is in its life."),
    ]  # fmt: skip
    checksum: Annotated[str | None, described("MD5 of the data, in hexadecimal.")]
    protected: Annotated[bool, described("While true, it cannot be deleted.")]
    min_ram: Annotated[int, Meta(ge=0), described("Memory that it needs to run, in MiB.")]
    min_disk: Annotated[int, Meta(ge=0), described("Disk that it needs to run, in GiB.")]
    owner: Annotated[str | None, described("Id of the project that owns it.")]
    os_hidden: Annotated[bool, described("While true, lists leave it out unless asked for it.")]
    os_hash_algo: Annotated[str | None, described("Algorithm of `os_hash_value`.", "sha512")]
    os_hash_value: Annotated[str | None, described("Digest of the data, in hexadecimal.")]
    id: Annotated[Uuid, described("Its id; never used again.", _ID)]
    created_at: Time
    updated_at: Time
    tags: Annotated[list[Name], described("Short words for finding it.")]
    self_: Annotated[str, described("Path of this image.")] = msgspec.field(name="self")
    file: Annotated[str, described("Path of its data.")]
    schema: Annotated[str, described("Path of the schema that it follows.")]
    direct_url: Annotated[
        str | UnsetType, described("Where the data is; only with `[images] show_direct_url`.")
    ] = UNSET
    locations: Annotated[
        list[Location] | UnsetType,
        described("All places of the data; only with `[images] show_multiple_locations`."),
    ] = UNSET
    stores: Annotated[
        str | UnsetType, described("Names of the stores that hold it; only with several stores.")
    ] = UNSET
    kernel_id: Annotated[str | UnsetType | None, described("Image of the kernel to boot with.")] = (
        UNSET
    )
    ramdisk_id: Annotated[
        str | UnsetType | None, described("Image of the ramdisk to boot with.")
    ] = UNSET


class ValidationData(Closed):
    """A digest that the data has to have; an empty object stands for none."""

    os_hash_algo: Annotated[
        Literal["sha1", "sha256", "sha512", "md5"] | UnsetType, described("Its algorithm.")
    ] = UNSET
    os_hash_value: Annotated[str | UnsetType, described("The digest, in hexadecimal.")] = UNSET


class LocationAdd(Closed):
    """Where the data of an image is already."""

    url: Annotated[
        str,
        Meta(max_length=255, pattern=_PLAIN),
        described("URL of the data.", "https://mirror.example.org/debian-12.qcow2"),
    ]
    validation_data: Annotated[
        ValidationData | UnsetType, described("What the data is checked by before it is used.")
    ] = UNSET


class Images(Closed):
    """A page of images."""

    images: list[Image]
    schema: Annotated[str, described("Path of the schema that the page follows.")]
    first: Annotated[str, described("Path and query of the first page.")]
    next: Annotated[
        str | UnsetType, described("Path and query of the next page, if there is one.")
    ] = UNSET


class ImageCreate(Open):
    """What a new image shall be. Everything is optional."""

    id: Annotated[Uuid | UnsetType, described("An id of your own choice.", _ID)] = UNSET
    name: Annotated[Name | UnsetType | None, described("What people call it.", "debian-12")] = UNSET
    visibility: Annotated[Visibility | UnsetType, described("Who may see it.")] = UNSET
    disk_format: Annotated[
        str | UnsetType | None, described("Format of the disk in the data.", "qcow2")
    ] = UNSET
    container_format: Annotated[
        str | UnsetType | None, described("What is wrapped around the disk.", "bare")
    ] = UNSET
    tags: Annotated[list[Name] | UnsetType, described("Short words for finding it.")] = UNSET
    protected: Annotated[bool | UnsetType, described("Refuse to delete it.")] = UNSET
    min_ram: Annotated[Requirement | UnsetType, described("Memory that it needs, in MiB.")] = UNSET
    min_disk: Annotated[Requirement | UnsetType, described("Disk that it needs, in GiB.")] = UNSET
    owner: Annotated[
        Name | UnsetType | None,
        described("Project that owns it; only administrators choose another."),
    ] = UNSET
    os_hidden: Annotated[bool | UnsetType, described("Leave it out of lists.")] = UNSET
    kernel_id: Annotated[
        Uuid | UnsetType | None, described("Image of the kernel to boot with.")
    ] = UNSET
    ramdisk_id: Annotated[
        Uuid | UnsetType | None, described("Image of the ramdisk to boot with.")
    ] = UNSET


class PatchOperation(Struct, kw_only=True):
    """One change of an image."""

    op: Literal["add", "replace", "remove"]
    path: Annotated[
        str,
        Meta(pattern="^/"),
        described("The attribute: `/` and its name (`~1` for /, `~0` for ~)."),
    ]
    value: Annotated[Any, described("The new value; not with `remove`.")] = UNSET


_DRAFT_4 = {
    "type": "array",
    "items": {
        "type": "object",
        "description": "One change: the operation's name with the path, and the value.",
        "properties": {
            **{op: {"type": "string", "pattern": "^/"} for op in ("add", "replace", "remove")},
            "value": {"description": "The new value; not with `remove`."},
        },
        "oneOf": [{"required": [op]} for op in ("add", "replace", "remove")],
    },
}

Patch = PerType(
    {
        "application/openstack-images-v2.1-json-patch": list[PatchOperation],
        "application/openstack-images-v2.0-json-patch": _DRAFT_4,
    }
)
"""Changes of an image, applied together or not at all."""


class Member(Closed):
    """A project that an image is shared with."""

    member_id: Annotated[str, described("Id of the project.")]
    image_id: Annotated[str, described("Id of the image.", _ID)]
    status: Annotated[MemberStatus, described("What the project made of the offer.")]
    created_at: Time
    updated_at: Time
    schema: Annotated[str, described("Path of the schema that it follows.")]


class Members(Closed):
    """The projects that an image is shared with."""

    members: list[Member]
    schema: Annotated[str, described("Path of the schema that it follows.")]


class MemberAdd(Struct, kw_only=True):
    """Whom to share an image with."""

    member: Annotated[
        str,
        Meta(min_length=1, max_length=255, pattern=_PLAIN),
        described("Id of the project.", "8989447062e04a818baf9e073fd04fa7"),
    ]


class MemberUpdate(Struct, kw_only=True):
    """The project's answer to the offer."""

    status: MemberStatus


class Link(Closed):
    """Where to go from here."""

    rel: str
    href: str


class Version(Closed):
    """A version of the API."""

    id: Annotated[str, described("Its name.", "v2.17")]
    status: Literal["CURRENT", "SUPPORTED"]
    links: list[Link]


class Versions(Closed):
    """The versions of the API."""

    versions: list[Version]


class Readiness(Closed):
    """Whether the parts answer: `ok`, or what is wrong. While the process ends, `process` alone."""

    catalog: str | UnsetType = UNSET
    stores: str | UnsetType = UNSET
    process: str | UnsetType = UNSET


class ImportMethods(Closed):
    """The import methods that are on."""

    description: str
    type: str
    value: list[str]


class ImportInfo(Closed):
    """What imports this deployment offers."""

    import_methods: ImportMethods = msgspec.field(name="import-methods")


class StoreInfo(Struct, kw_only=True):
    """A store that data can be put into."""

    id: Annotated[str, described("Its name.", "fast")]
    description: str | UnsetType = UNSET
    default: Annotated[
        Literal["true"] | UnsetType, described("Takes uploads that name no store.")
    ] = UNSET
    read_only: Annotated[Literal["true"] | UnsetType, described("Takes no data.")] = msgspec.field(
        name="read-only", default=UNSET
    )


class StoresInfo(Closed):
    """The stores of this deployment, in configured order."""

    stores: list[StoreInfo]


class StoreDetail(StoreInfo, kw_only=True):
    """A store, as administrators see it."""

    type: Annotated[str, described("Its driver.", "file")]
    weight: Annotated[int, described("Data in stores of higher weight is read first.")]
    properties: Annotated[dict[str, Any], described("What its driver tells of it.")]


class StoresDetail(Closed):
    """The stores of this deployment, as administrators see them."""

    stores: list[StoreDetail]


class ResourceUsage(Closed):
    """How much of a resource a project may have, and has."""

    limit: Annotated[int, described("The most that the project may have; -1 = unlimited.", 1000)]
    usage: Annotated[int, described("What it has.", 12)]


class Usage(Closed):
    """The resources that Keystone limits; nothing when `use_limits` is off."""

    image_size_total: Annotated[
        ResourceUsage | UnsetType, described("Size of all data, in MiB, rounded down.")
    ] = UNSET
    image_stage_total: Annotated[
        ResourceUsage | UnsetType,
        described("Size of what waits for its import, in MiB, rounded down."),
    ] = UNSET
    image_count_total: Annotated[ResourceUsage | UnsetType, described("Number of images.")] = UNSET
    image_count_uploading: Annotated[
        ResourceUsage | UnsetType, described("Number of images that data is coming in for.")
    ] = UNSET


class CachedImage(Closed):
    """A copy in the cache of this node."""

    image_id: Uuid
    hits: Annotated[int, Meta(ge=0), described("Reads from it.")]
    last_accessed: Annotated[float, described("Seconds since the epoch.")]
    last_modified: Annotated[float, described("Seconds since the epoch.")]
    size: Size


class CacheList(Closed):
    """What the cache of this node has, and what it waits for."""

    cached_images: list[CachedImage]
    queued_images: list[Uuid]


class CachePruned(Closed):
    """What was dropped."""

    total_files_pruned: Annotated[int, Meta(ge=0)]
    total_bytes_pruned: Annotated[int, Meta(ge=0)]


class UsageInfo(Closed):
    """What the project of the caller uses."""

    usage: Usage


class Schema(Struct, kw_only=True):
    """A JSON schema, with the links that the older drafts knew."""

    name: str
    properties: dict[str, Any]


class Problem(Struct, kw_only=True):
    """What went wrong (RFC 9457), with the facts of the error as further keys."""

    type: Annotated[str, described("The kind of error.", "urn:transom:error:ImageNotFound")]
    title: Annotated[str, described("The reason phrase.", "Not Found")]
    status: Annotated[int, described("The HTTP status.", 404)]
    detail: Annotated[str, described("What went wrong and what to do next.")]
    instance: Annotated[str, described("The request's id.")]
    retryable: Annotated[bool, described("Whether the same request may succeed later.")]


class Failure(Closed):
    """What went wrong, in the form that clients of the Image API know."""

    message: Annotated[str, described("What went wrong and what to do next.")]
    code: Annotated[str, described("Status and reason phrase.", "404 Not Found")]
    title: Annotated[str, described("The reason phrase.", "Not Found")]


class IdentityFault(Closed):
    """What went wrong."""

    code: Annotated[int, described("The HTTP status.", 401)]
    message: Annotated[str, described("What went wrong and what to do next.")]
    title: Annotated[str, described("The reason phrase.", "Unauthorized")]


class IdentityFailure(Closed):
    """What went wrong, in the form that clients of the Identity API know."""

    error: IdentityFault


def query_parameter(name: str, text: str, repeats: bool = False, **schema: Any) -> Parameter:
    """A parameter of the query."""
    return Parameter(name, text, {"type": "string"} | schema, repeats=repeats)


def header_parameter(name: str, text: str, **schema: Any) -> Parameter:
    """A header of the request."""
    return Parameter(name, text, {"type": "string"} | schema, where="header")


_EQUAL_OR_IN = "Plain value, `eq:<value>` or `in:<value>,<value>`."
_LISTED = r'("(\\["\\]|[^"\\])*"|[^",]*)'
_VALUES = rf"^([^:]*|eq:[\s\S]*|in:{_LISTED}(,{_LISTED})*)$"
_TIMES = "A time in ISO 8601, or `eq: neq: gt: gte: lt: lte:` and a time."
_DAY = (
    r"[12][0-9]{3}-(02-(0[1-9]|1[0-9]|2[0-8])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|"
    r"(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01]))"
)
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
_MOMENT = rf"{_DAY}(T{_CLOCK}(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])?)?"
_TIME_PATTERN = f"^((eq|neq|gt|gte|lt|lte):)?{_MOMENT}$"

LIST_PARAMETERS = (
    query_parameter(
        "limit", "Length of the page; cut to the longest allowed.", type="integer", minimum=0
    ),
    query_parameter("marker", "Id of the last image of the page before."),
    query_parameter(
        "sort",
        "Keys in order, separated by commas, each with `:asc` or `:desc`.",
        pattern="^({keys})(:(asc|desc))?(,({keys})(:(asc|desc))?)*$".format(
            keys="|".join(SORT_KEYS)
        ),
        examples=["name:asc,created_at:desc"],
    ),
    query_parameter(
        "sort_key", "The older form of `sort`: the keys.", repeats=True, enum=list(SORT_KEYS)
    ),
    query_parameter(
        "sort_dir",
        "The directions of `sort_key`: one for all, or one for each.",
        repeats=True,
        enum=["asc", "desc"],
    ),
    query_parameter("name", f"Name of the image. {_EQUAL_OR_IN}", pattern=_VALUES),
    query_parameter("status", f"State of the image. {_EQUAL_OR_IN}", pattern=_VALUES),
    query_parameter("id", f"Id of the image. {_EQUAL_OR_IN}", pattern=_VALUES),
    query_parameter("disk_format", f"Disk format. {_EQUAL_OR_IN}", pattern=_VALUES),
    query_parameter("container_format", f"Container format. {_EQUAL_OR_IN}", pattern=_VALUES),
    query_parameter("owner", "Id of the project that owns the image."),
    query_parameter("checksum", "MD5 of the data."),
    query_parameter("os_hash_algo", "Algorithm of the secure hash."),
    query_parameter("os_hash_value", "Secure hash of the data."),
    query_parameter("tag", "A tag that the image carries; repeat it for several.", repeats=True),
    query_parameter(
        "visibility",
        "Images of this visibility only.",
        enum=["public", "community", "shared", "private", "all"],
    ),
    query_parameter(
        "member_status",
        "Which images shared with you: by your answer to the offer.",
        enum=["pending", "accepted", "rejected", "all"],
        default="accepted",
    ),
    query_parameter(
        "os_hidden", "`true`: hidden images only.", enum=["true", "false"], default="false"
    ),
    query_parameter("protected", "Protected images, or the others.", enum=["true", "false"]),
    query_parameter(
        "created_at", _TIMES, pattern=_TIME_PATTERN, examples=["gte:2026-01-31T08:00:00Z"]
    ),
    query_parameter("updated_at", _TIMES, pattern=_TIME_PATTERN, examples=["lt:2026-01-31"]),
    *(
        query_parameter(f"{name}{bound}", text.format(unit), type=kind)
        for name, unit in (
            ("size", "bytes of data"),
            ("virtual_size", "bytes of disk"),
            ("min_ram", "MiB of memory"),
            ("min_disk", "GiB of disk"),
        )
        for bound, kind, text in (
            ("", ["integer", "string"], "Exactly that many {}; what is no number matches nothing."),
            ("_min", "integer", "At least that many {}."),
            ("_max", "integer", "At most that many {}."),
        )
    ),
)
"""The query of a list (API §5); any further parameter filters by a custom property."""

UPLOAD_PARAMETERS = (
    header_parameter(
        "x-image-meta-store", "Name of the store to put the data in; with several stores."
    ),
    header_parameter(
        "x-openstack-image-size",
        "Length of the data, in bytes; other data is refused.",
        type="integer",
        minimum=0,
    ),
)
"""The headers of an upload (API §9.1)."""

CACHE_CLEAR_PARAMETERS = (
    header_parameter(
        "x-image-cache-clear-target",
        "What to empty; both without it.",
        pattern="^([Cc][Aa][Cc][Hh][Ee]|[Qq][Uu][Ee][Uu][Ee])?$",
    ),
)
"""The header of a request to empty the cache (API §19)."""

DOWNLOAD_PARAMETERS = (
    query_parameter(
        "prefer", "Stores to read from first, separated by commas; with several stores."
    ),
    header_parameter(
        "range",
        "The bytes that are wanted; one range at a time.",
        examples=["bytes=0-1023", "bytes=-512"],
    ),
    header_parameter("if-range", "Apply `range` only while this is the `etag`."),
    header_parameter("if-none-match", "Answer 304 when the `etag` is one of these."),
    header_parameter("if-match", "Answer 412 when the `etag` is none of these."),
    header_parameter("content-range", "What old clients send instead of `range`: `bytes 0-4/*`."),
)
"""The parameters of a download (API §9.2; RFC 9110 §13, §14)."""
