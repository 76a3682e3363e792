"""Schemas: /v2/schemas/{image,images,member,members} (API §21)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.api.configs import OWN_FORMATS
from tests.conftest import Actors, MakeImage, ServerWith
from tests.support.server import Client, ServerProcess, told

EXPECTED = Path(__file__).parent / "data"
NAMES = ["image", "images", "member", "members"]
REPRESENTATION_ONLY = {"description"}


def without_descriptions(node: Any) -> Any:
    """The schema apart from its prose, whose wording is free."""
    if isinstance(node, dict):
        return {
            key: without_descriptions(value)
            for key, value in node.items()
            # A property may itself be called `description`; prose is always a string.
            if not (key in REPRESENTATION_ONLY and isinstance(value, str))
        }
    if isinstance(node, list):
        return [without_descriptions(value) for value in node]
    return node


@pytest.mark.parametrize("name", NAMES)
def test_schema_is_exactly_the_published_one(owner: Client, name: str) -> None:
    answer = owner.get(f"/v2/schemas/{name}")
    assert answer.status_code == 200, told(answer)
    assert answer.headers["content-type"].split(";")[0] == "application/json"
    expected = json.loads((EXPECTED / f"{name}.json").read_text())
    assert without_descriptions(answer.json()) == without_descriptions(expected)


@pytest.mark.parametrize("name", NAMES)
def test_every_property_is_described(owner: Client, name: str) -> None:
    schema = owner.get(f"/v2/schemas/{name}").json()
    expected = json.loads((EXPECTED / f"{name}.json").read_text())

    def described(node: Any, path: str = "") -> set[str]:
        found = set()
        if isinstance(node, dict):
            if isinstance(node.get("description"), str) and node["description"]:
                found.add(path)
            for key, value in node.items():
                found |= described(value, f"{path}/{key}")
        return found

    assert described(schema) >= described(expected)


@pytest.mark.parametrize("who", ["owner", "owner_reader", "other", "admin", "service", "norole"])
@pytest.mark.parametrize("name", NAMES)
def test_any_token_may_read_schemas(actors: Actors, who: str, name: str) -> None:
    assert getattr(actors, who).get(f"/v2/schemas/{name}").status_code == 200


@pytest.mark.parametrize("name", NAMES)
def test_schemas_need_a_token(server: ServerProcess, name: str) -> None:
    assert server.client().get(f"/v2/schemas/{name}").status_code == 401


@pytest.mark.parametrize("name", ["nowhere", "Image", "image.json", "..%2Fimage", "%00"])
def test_unknown_schema_is_not_found(owner: Client, name: str) -> None:
    assert owner.get(f"/v2/schemas/{name}").status_code in ({404, 400} if name == "%00" else {404})


@pytest.mark.parametrize("name", NAMES)
def test_body_is_refused(owner: Client, name: str) -> None:
    assert owner.request("GET", f"/v2/schemas/{name}", content=b"{}").status_code == 400


def test_format_enums_follow_the_configuration(server_with: ServerWith) -> None:
    demo = server_with(OWN_FORMATS).demo
    image = demo.get("/v2/schemas/image").json()["properties"]
    images = demo.get("/v2/schemas/images").json()["properties"]["images"]["items"]["properties"]
    for properties in (image, images):
        assert properties["disk_format"]["enum"] == [None, "raw", "gpt", "iso"], "null first"
        assert properties["container_format"]["enum"] == [None, "bare", "docker"]
    for body, status in (
        ({"disk_format": "vmdk"}, 400),
        ({"disk_format": "gpt"}, 201),
        ({"container_format": "ova"}, 400),
        ({"container_format": "docker"}, 201),
    ):
        assert demo.post("/v2/images", json=body).status_code == status, body


def test_real_answers_are_valid_by_the_schemas(actors: Actors, image: MakeImage, mark: str) -> None:
    schemas = {name: actors.owner.get(f"/v2/schemas/{name}").json() for name in NAMES}
    active = image(data=b"x", name="ü", tags=["t"], set=mark, kernel_id=None, os_distro="debian")
    image(set=mark)
    jsonschema.validate(active, schemas["image"])
    jsonschema.validate(
        actors.owner.get("/v2/images", params={"set": mark}).json(), schemas["images"]
    )
    path = f"/v2/images/{active['id']}/members"
    member = actors.owner.post(path, json={"member": actors.member.project_id}).json()
    jsonschema.validate(member, schemas["member"])
    jsonschema.validate(actors.owner.get(path).json(), schemas["members"])
