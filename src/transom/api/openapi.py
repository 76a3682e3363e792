"""The OpenAPI 3.1 document, made from the route table.

Every row becomes one operation: its parameters, its bodies, the statuses that it lists and those that
every endpoint of its face shares. `tests/api/test_openapi.py` compares the document with the table.
"""

from __future__ import annotations

import inspect
import re
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final

import msgspec
from starlette.responses import Response

import transom
from transom.api import bodies
from transom.api.call import Call, json_response
from transom.api.compute.bodies import ComputeFault
from transom.api.route import Face, Route
from transom.settings import Settings

PROBLEM: Final = "application/problem+json"
OCTETS: Final = "application/octet-stream"

_GROUPS: Final = {
    "images": ("images", "Create, find, show, change and delete images."),
    "image_data": ("image data", "Upload and download the bytes of images."),
    "locations": ("locations", "Data that is elsewhere already, and where that is."),
    "imports": ("imports", "Stage data, import it, and follow the tasks that do."),
    "tasks": ("tasks", "Long work, as an administrator sees it."),
    "cache": ("cache", "Copies of images on the disk of this node."),
    "members": ("members", "Share images with other projects."),
    "tags": ("tags", "Short words on images, for finding them."),
    "metadefs": (
        "metadata definitions",
        "What properties things in a cloud may carry, and what they mean.",
    ),
    "discovery": ("discovery", "What this service offers, and how it is."),
    "schemas": ("schemas", "JSON schemas of the documents, as clients fetch them."),
    "openapi": ("documents", "This API, described."),
    "docs_page": ("documents", "This API, described."),
}
"""The tag of each module of handlers, and what the tag says."""

_FACES: Final = {
    "identity": ("identity", "The built-in identity: log in and look around."),
    "compute": ("compute", "The Compute API's view of images, for older clients."),
}
"""The tag of a face whose endpoints belong together."""

_PATH_WORDS: Final = {
    "image_id": "Id of the image.",
    "key": "Name of the metadata item.",
    "namespace_name": "Name of the namespace, percent-encoded UTF-8.",
    "object_name": "Name of the object, percent-encoded UTF-8.",
    "property_name": "Name of the property, percent-encoded UTF-8.",
    "resource_type": "Name of the resource type, percent-encoded UTF-8.",
    "tag_name": "The tag, percent-encoded UTF-8.",
    "member_id": "Id of the project that the image is shared with.",
    "project_id": "Id of the project of the token.",
    "tag": "The tag, percent-encoded UTF-8.",
    "name": "Name of the schema.",
}

_SEGMENT: Final = r"^[\u0001-\u002E\u0030-\uFFFF]+$"
"""A segment of a path: no slash, no NUL, nothing outside the Basic Multilingual Plane."""

_SHARED: Final[dict[Face, tuple[int, ...]]] = {
    "image": (400, 431, 500, 503),
    "identity": (400, 431, 500, 503),
    "compute": (400, 431, 500, 503),
    "service": (431, 500),
}
"""Statuses that every endpoint of a face can answer, besides 401 where a token is needed."""

_HEADERS: Final = {
    "accept-patch": "The media types that PATCH takes.",
    "accept-ranges": "`bytes`: parts of the data can be asked for.",
    "content-md5": "MD5 of the whole data, in hexadecimal.",
    "content-range": "Which bytes these are, and of how many; of how many alone with 416.",
    "etag": "The secure hash of the data: a strong validator.",
    "location": "Absolute URL of what was created.",
    "openstack-image-import-methods": "The import methods that are on, separated by commas.",
    "openstack-image-store-ids": "The names of all stores, separated by commas.",
    "retry-after": "Seconds after which to try again.",
    "www-authenticate": "Where to log in.",
    "x-openstack-request-id": "Id of the request; every log line about it carries the same.",
    "x-subject-token": "The token that was made.",
}


async def openapi(call: Call) -> Response:
    """`GET /openapi.json`: the document of this deployment."""
    # The route table holds this handler, so it can be imported only now.
    from transom.api.routes import routes_for

    settings = call.registry.settings
    found = _cached(routes_for(settings), settings)
    return json_response(found | {"servers": [{"url": call.base_url}]})


def _cached(routes: tuple[Route, ...], settings: Settings) -> dict[str, Any]:
    names = tuple((route.method, route.path) for route in routes)
    return _by_names(names, settings.images.disk_formats, settings.images.container_formats)


@lru_cache(maxsize=4)
def _by_names(
    names: tuple[tuple[str, str], ...], disk_formats: tuple[str, ...], containers: tuple[str, ...]
) -> dict[str, Any]:
    from transom.api.routes import ROUTES

    kept = frozenset(names)
    routes = tuple(route for route in ROUTES if (route.method, route.path) in kept)
    return document(routes, disk_formats, containers)


def document(
    routes: tuple[Route, ...], disk_formats: tuple[str, ...], container_formats: tuple[str, ...]
) -> dict[str, Any]:
    """The OpenAPI document of these routes, without `servers`.

    The formats are those that the deployment allows for new images.
    """
    schemas = _Schemas(routes)
    properties = schemas.components["ImageCreate"]["properties"]
    properties["disk_format"]["enum"] = [*disk_formats, None]
    properties["container_format"]["enum"] = [*container_formats, None]
    names = operation_ids(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        operation = _operation(route, names[route.method, route.path], schemas)
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    faces = {route.face for route in routes}
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Transom",
            "version": transom.__version__,
            "summary": "An image registry for clouds.",
            "description": (
                "The OpenStack Image API v2, and beside it the identity service that is built in. "
                "Paths under `/v2` are served under every announced version, such as `/v2.9`, too. "
                "Errors follow the `Accept` header; `application/problem+json` tells most."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "headers": _header_components(),
            "responses": _failure_components(faces, routes),
            "securitySchemes": {
                "token": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-Auth-Token",
                    "description": "A token of the identity service.",
                }
            },
        },
        "tags": _tags(routes),
    }


def operation_ids(routes: tuple[Route, ...]) -> dict[tuple[str, str], str]:
    """The unique name of each operation, by method and path: that of its handler."""
    found: dict[tuple[str, str], str] = {}
    for route in routes:
        name = _base_name(route)
        twin = "slash" if route.path.endswith("/") else route.method.lower()
        for candidate in (name, f"{name}_{twin}", f"{name}_{_slug(route.path)}"):
            if candidate not in found.values():
                found[route.method, route.path] = candidate
                break
        else:
            raise ValueError(f"{route.method} {route.path}: no name is left for the operation")
    return found


def tag_of(route: Route) -> tuple[str, str]:
    """The group that an operation belongs to: its name and what it says."""
    if route.face in _FACES:
        return _FACES[route.face]
    module = inspect.unwrap(route.handler).__module__
    return _GROUPS[module.rpartition(".")[2]]


def _base_name(route: Route) -> str:
    name = str(getattr(inspect.unwrap(route.handler), "__name__", "operation"))
    if route.face != "compute":
        return name
    # The same handlers answer below two versions, with and without a project in the path.
    version = re.match(r"/compute/(v[0-9.]+)", route.path)
    words = ["compute", name, version[1].replace(".", "") if version else ""]
    return "_".join(filter(None, [*words, "in_project" if "{project_id}" in route.path else ""]))


def _slug(path: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", path.lower()).strip("_") or "root"


class _Schemas:
    """The component schemas, and where each type of the table is found among them."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self._types = list(_types(routes))
        self._found, self.components = msgspec.json.schema_components(
            self._types, ref_template="#/components/schemas/{name}"
        )
        for kind in self._types:
            if isinstance(kind, type) and issubclass(kind, bodies.Open):
                self.components[kind.__name__] |= bodies.CUSTOM_PROPERTIES

    def of(self, kind: Any, media_type: str = "application/json") -> dict[str, Any]:
        """The schema of a type as the table names it."""
        if isinstance(kind, bodies.PerType):
            kind = kind.shapes[media_type]
        if isinstance(kind, dict):
            return kind
        if kind is bytes:
            return {"type": "string", "format": "binary"}
        return next(
            schema
            for known, schema in zip(self._types, self._found, strict=True)
            if known is kind or known == kind
        )


def _types(routes: tuple[Route, ...]) -> list[Any]:
    found: list[Any] = [bodies.Failure, bodies.Problem, bodies.ImageCreate, bodies.Image]
    faces = {route.face for route in routes}
    if faces & {"identity", "compute"}:
        found.append(bodies.IdentityFailure)
    if "compute" in faces:
        found.append(ComputeFault)
    for route in routes:
        for kind in (route.body, route.answer):
            shapes = kind.shapes.values() if isinstance(kind, bodies.PerType) else (kind,)
            found.extend(
                shape
                for shape in shapes
                if shape is not None
                and shape is not bytes
                and not isinstance(shape, dict)
                and shape not in found
            )
    return found


def _operation(route: Route, name: str, schemas: _Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": name,
        "tags": [tag_of(route)[0]],
        "summary": route.summary,
    }
    words = _words(route)
    if words:
        operation["description"] = words
    parameters = _parameters(route)
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {
            "required": route.body_required,
            "content": {
                media_type: {"schema": schemas.of(route.body, media_type)}
                for media_type in route.body_types
            },
        }
    operation["responses"] = _responses(route, schemas)
    if route.needs_token:
        operation["security"] = [{"token": []}]
    return operation


def _words(route: Route) -> str:
    words = []
    if route.face == "image" and route.since != "2.0":
        words.append(f"Since version {route.since}.")
    if route.action:
        words.append(f"Decided by policy rule `{route.action}`.")
    return " ".join(words)


def _parameters(route: Route) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PATH_WORDS.get(name, f"The {name.replace('_', ' ')}."),
            "schema": {"type": "string", "minLength": 1, "pattern": _SEGMENT},
        }
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    for parameter in route.parameters:
        schema = {"type": "array", "items": parameter.schema}
        found.append(
            {
                "name": parameter.name,
                "in": parameter.where,
                "description": parameter.description,
                "schema": schema if parameter.repeats else parameter.schema,
            }
            | ({"style": "form", "explode": True} if parameter.repeats else {})
        )
    if route.open_query:
        found.append(
            {
                "name": "properties",
                "in": "query",
                "description": "Any other parameter: a custom property that must have the value.",
                "style": "form",
                "explode": True,
                "schema": {"type": "object", "additionalProperties": {"type": "string"}},
            }
        )
    return found


def _responses(route: Route, schemas: _Schemas) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status in (route.success, *route.also):
        responses[str(status)] = _success(route, status, schemas)
    for status in statuses_of_failure(route):
        responses[str(status)] = {"$ref": f"#/components/responses/{_failure_name(route, status)}"}
    return dict(sorted(responses.items()))


def statuses_of_failure(route: Route) -> tuple[int, ...]:
    """Every status of failure that an endpoint can answer, in order."""
    shared = _SHARED[route.face] + ((401,) if route.needs_token else ())
    return tuple(sorted({*route.errors, *shared}))


def _success(route: Route, status: int, schemas: _Schemas) -> dict[str, Any]:
    names = _headers_of(route, status)
    answer: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if names:
        answer["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    carries_body = status not in (204, 304, 307) and route.method != "HEAD"
    if route.answer is not None and carries_body:
        answer["content"] = {route.answer_type: {"schema": schemas.of(route.answer)}}
    return answer


def _headers_of(route: Route, status: int) -> list[str]:
    own = (
        () if status == HTTPStatus.NO_CONTENT and route.success != status else route.answer_headers
    )
    names = [
        name
        for name in own
        if (name != "content-range" or status == HTTPStatus.PARTIAL_CONTENT)
        and (name != "location" or status not in (200, 206, 304))
    ]
    return names if route.face == "service" else [*names, "x-openstack-request-id"]


_MEANINGS: Final = {
    400: "the request breaks a rule of the API; the message names it.",
    401: "there is no token, or it is not valid (any more).",
    403: "you may not do this, or it may not be done to this.",
    404: "it does not exist, or you may not know that it does.",
    405: "the path exists, the method does not.",
    406: "the version that is asked for is not known.",
    409: "it does not fit the present state.",
    410: "the image was deleted meanwhile.",
    412: "`if-match` names other data.",
    413: "a limit would be passed, or a store is full.",
    415: "the content is not of the kind it has to be, or not safe.",
    416: "no byte of the data lies in the range.",
    429: "too many attempts; wait a while.",
    431: "the request id is too long.",
    500: "something broke here; the log tells what, under the request's id.",
    503: "something that is needed does not answer; try again later.",
}

_FAILURE_HEADERS: Final = {
    401: ("www-authenticate",),
    416: ("content-range",),
    503: ("retry-after",),
}


def _failure_name(route: Route, status: int) -> str:
    phrase = HTTPStatus(status).phrase.title().replace(" ", "").replace("-", "")
    if route.method == "HEAD":
        return f"Head{phrase}"
    if status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE and route.method == "PATCH":
        return f"Patch{phrase}"
    return phrase if route.face == "image" else f"{route.face.title()}{phrase}"


def _failure_components(faces: set[Face], routes: tuple[Route, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for route in routes:
        for status in statuses_of_failure(route):
            found.setdefault(_failure_name(route, status), _failure(route, status))
    return dict(sorted(found.items()))


def _failure(route: Route, status: int) -> dict[str, Any]:
    names = [*_FAILURE_HEADERS.get(status, ()), "x-openstack-request-id"]
    if route.method == "PATCH" and status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
        names.insert(0, "accept-patch")
    failure: dict[str, Any] = {
        "description": f"{HTTPStatus(status).phrase}: {_MEANINGS[status]}",
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
    }
    if route.method == "HEAD":
        return failure
    failure["content"] = _failure_bodies(route.face, status)
    return failure


def _failure_bodies(face: Face, status: int) -> dict[str, Any]:
    problem = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    # The Compute API leaves a missing token to the identity service's middleware (errors.md, B).
    if face == "identity" or (face == "compute" and status == HTTPStatus.UNAUTHORIZED):
        shape: dict[str, Any] = {"$ref": "#/components/schemas/IdentityFailure"}
        return {"application/json": {"schema": shape}} | problem
    if face == "compute":
        shape = {
            "type": "object",
            "description": "One key, which names the kind of fault.",
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": {"$ref": "#/components/schemas/ComputeFault"},
        }
        return {"application/json": {"schema": shape}} | problem
    shape = {"$ref": "#/components/schemas/Failure"}
    texts = {name: {"schema": {"type": "string"}} for name in ("text/html", "text/plain")}
    return {"application/json": {"schema": shape}} | problem | texts


def _header_components() -> dict[str, Any]:
    return {
        name: {"description": words, "schema": {"type": "string"}}
        for name, words in sorted(_HEADERS.items())
    }


def _tags(routes: tuple[Route, ...]) -> list[dict[str, str]]:
    used = {tag_of(route) for route in routes}
    order = dict.fromkeys((*_GROUPS.values(), *_FACES.values()))
    return [{"name": name, "description": words} for name, words in order if (name, words) in used]
