"""schemathesis reads the OpenAPI document and tries what it allows and what it forbids.

It must find no fault of the server, no status, content type, header or body that the document does
not know, no refusal of what the document allows, and no success for what it forbids. The examples
follow from a fixed seed, so a failure can be repeated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig

from tests.conftest import configured
from tests.support.server import Client
from transom.api.openapi import document
from transom.api.problems import PATCH_TYPES
from transom.api.routes import routes_for
from transom.settings import Settings

QUEUED = "11111111-1111-4111-8111-111111111111"
ACTIVE = "22222222-2222-4222-8222-222222222222"
PROJECT = "33333333333343338333333333333333"

SPACE = {
    "namespace_name": "space",
    "object_name": "object",
    "property_name": "property",
    "tag_name": "tag",
    "resource_type": "type",
}
"""A namespace and what stands in it, by the names of the path's parameters."""

SEGMENT = re.compile("[\u0001-\u002e\u0030-\uffff]+")

SETTINGS = Settings()
CONFIG = SchemathesisConfig.from_dict(
    {
        # How fast a busy machine draws examples of large bodies says nothing of the service.
        "suppress-health-check": ["too_slow"],
        "generation": {
            "max-examples": 10,
            "deterministic": True,
            "database": "none",
            "with-security-parameters": False,
        },
        "phases": {"stateful": {"enabled": False}},
        "checks": {
            # A condition of a header that the data does not meet is no fault of the request's form.
            "positive_data_acceptance": {
                "expected-statuses": ["2xx", "3xx", 401, 403, 404, 409, 412, 413, 415, 416, 429]
            },
        },
        "operations": [
            {
                # Which value fits which path of a patch is beyond what a schema can say.
                "include-operation-id": "image_update",
                "checks": {"positive_data_acceptance": {"enabled": False}},
            },
            {
                # Which URLs a deployment reads from, neither.
                "include-operation-id": "location_add",
                "checks": {"positive_data_acceptance": {"enabled": False}},
            },
            {
                # Which keys fit which path, and whose project it is, neither.
                "include-tag": "compute",
                "checks": {"positive_data_acceptance": {"enabled": False}},
            },
        ],
    }
)

# Each endpoint of the Compute view stands at four paths; two of them are enough to try.
ROUTES = tuple(
    route
    for route in routes_for(SETTINGS)
    if not re.match(r"/compute/(v2/(?!{project_id})|v2\.1/{project_id})", route.path)
)

schema = schemathesis.openapi.from_dict(
    msgspec.to_builtins(
        document(ROUTES, SETTINGS.images.disk_formats, SETTINGS.images.container_formats)
    ),
    config=CONFIG,
)


@schemathesis.serializer(*PATCH_TYPES)
def patch(_context: schemathesis.SerializationContext, value: Any) -> Any:
    """A patch is JSON under a name of its own."""
    return msgspec.json.encode(value)


class Login:
    """Puts the caller's token where the document says; schemathesis leaves it out where it wants."""

    token = ""
    admin_token = ""

    def get(self, _case: schemathesis.Case, _context: schemathesis.AuthContext) -> str:
        """The token."""
        return self.token

    def set(self, case: schemathesis.Case, data: str, _context: schemathesis.AuthContext) -> None:
        """Put it into the case. Only an administrator gets far with metadata definitions."""
        is_metadef = case.path.startswith("/v2/metadefs")
        case.headers["X-Auth-Token"] = self.admin_token if is_metadef else data


schema.auth(refresh_interval=None)(Login)


@schema.hook
def map_case(_context: Any, case: schemathesis.Case) -> schemathesis.Case:
    """Let most cases meet an image that exists; the rest meet what nobody made.

    Where a case means to be right, take care of what a document cannot say: that a marker names an
    image, that two parameters exclude each other, that an announced length is the body's.
    """
    path = case.path_parameters or {}
    text = path.get("image_id")
    choice = sum(text.encode(errors="replace")) % 4 if isinstance(text, str) else 0
    if choice:
        path["image_id"] = (QUEUED, ACTIVE, ACTIVE)[choice - 1]
        if "member_id" in path and choice == 1:
            path["member_id"] = PROJECT
    _meet_namespace(path)
    if case.meta is not None and case.meta.generation.mode.is_positive:
        _keep_right(case, path)
    return case


def _meet_namespace(path: dict[str, Any]) -> None:
    for name, there in SPACE.items():
        text = path.get(name)
        if isinstance(text, str) and SEGMENT.fullmatch(unquote(text)):
            # What the document forbids stays as it is: it has to be refused.
            path[name] = there if sum(text.encode()) % 4 else text


def _keep_right(case: schemathesis.Case, path: dict[str, Any]) -> None:
    query, headers = case.query or {}, case.headers or {}
    for name, value in path.items():
        if any(character > "\uffff" for character in unquote(str(value))):
            # schemathesis makes some values without regard to the pattern of a segment.
            path[name] = "plain"
    if "marker" in query:
        query["marker"] = SPACE["tag_name"] if "namespace_name" in path else ACTIVE
    if "sort" in query:
        query.pop("sort_key", None)
    if "sort_key" not in query:
        query.pop("sort_dir", None)
    if "," in str(headers.get("range", "")):
        headers.pop("range")
    headers.pop("x-openstack-image-size", None)


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A member of a project with two images, on a server of its own.

    The images are protected, so that a DELETE does not end them half-way through the examples.
    """
    with configured(tmp_path_factory.mktemp("schemathesis")) as server:
        client = server.log_in_to_cloud("transom-demo")
        for image_id in (QUEUED, ACTIVE):
            client.create(
                id=image_id,
                name="schemathesis",
                disk_format="raw",
                container_format="bare",
                protected=True,
                tags=["here"],
                os_distro="debian",
            )
            client.post(f"/v2/images/{image_id}/members", json={"member": PROJECT})
        client.upload(ACTIVE, bytes(range(256)) * 64)
        admin = server.log_in_to_cloud("transom")
        definition = {"title": "Title", "type": "string"}
        made = admin.post(
            "/v2/metadefs/namespaces",
            json={
                "namespace": SPACE["namespace_name"],
                "protected": True,
                "objects": [{"name": SPACE["object_name"], "properties": {"p": definition}}],
                "properties": {SPACE["property_name"]: definition},
                "tags": [{"name": SPACE["tag_name"]}],
                "resource_type_associations": [{"name": SPACE["resource_type"]}],
            },
        )
        assert made.status_code == 201
        assert client.token
        assert admin.token
        Login.token, Login.admin_token = client.token, admin.token
        yield client


@schema.parametrize()
def test_the_service_does_what_its_document_says(case: schemathesis.Case, caller: Client) -> None:
    case.call_and_validate(base_url=caller.base_url)
