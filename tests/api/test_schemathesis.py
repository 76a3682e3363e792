"""schemathesis reads the OpenAPI document and tries what it allows and what it forbids.

It must find no fault of the server, no status, content type, header or body that the document does
not know, no refusal of what the document allows, and no success for what it forbids. The examples
follow from a fixed seed, so a failure can be repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig

from tests.conftest import configured
from tests.support.server import Client
from transom.api.openapi import document
from transom.api.routes import routes_for
from transom.settings import Settings

QUEUED = "11111111-1111-4111-8111-111111111111"
ACTIVE = "22222222-2222-4222-8222-222222222222"
PROJECT = "33333333333343338333333333333333"

SETTINGS = Settings()
CONFIG = SchemathesisConfig.from_dict(
    {
        "generation": {"max-examples": 20, "deterministic": True, "database": "none"},
        "phases": {"stateful": {"enabled": False}},
    }
)

schema = schemathesis.openapi.from_dict(
    msgspec.to_builtins(
        document(
            routes_for(SETTINGS), SETTINGS.images.disk_formats, SETTINGS.images.container_formats
        )
    ),
    config=CONFIG,
)


@schema.hook
def map_path_parameters(_context: Any, path_parameters: dict[str, Any]) -> dict[str, Any]:
    """Let two of three cases meet an image that exists; the rest meet what nobody made."""
    if path_parameters and isinstance(text := path_parameters.get("image_id"), str):
        choice = sum(text.encode(errors="replace")) % 3
        if choice:
            path_parameters["image_id"] = (QUEUED, ACTIVE)[choice - 1]
            if "member_id" in path_parameters and choice == 1:
                path_parameters["member_id"] = PROJECT
    return path_parameters


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
        yield client


@schema.parametrize()
def test_the_service_does_what_its_document_says(case: schemathesis.Case, caller: Client) -> None:
    case.call_and_validate(base_url=caller.base_url, headers={"X-Auth-Token": caller.token})
