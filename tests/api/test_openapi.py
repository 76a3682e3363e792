"""The OpenAPI document: valid, complete against the route table, and true of the answers."""

from __future__ import annotations

import re
from typing import Any

import httpx
import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.conftest import MakeImage, ServerWith
from tests.support.server import PATCH_V20, PATCH_V21, Client, ServerProcess
from transom.api.openapi import operation_ids, statuses_of_failure
from transom.api.route import Route
from transom.api.routes import ROUTES, routes_for
from transom.settings import Settings

DEFAULT_ROUTES = routes_for(Settings())


def _name(route: Route) -> str:
    return f"{route.method} {route.path}"


@pytest.fixture(scope="module")
def document(server: ServerProcess) -> dict[str, Any]:
    """The document as the running service gives it, without a token."""
    answer = httpx.get(f"{server.url}/openapi.json", trust_env=False)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = answer.json()
    return found


def test_the_document_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_the_document_names_the_address_it_was_asked_at(
    document: dict[str, Any], server: ServerProcess
) -> None:
    assert document["servers"] == [{"url": server.url}]


def test_the_document_holds_exactly_the_routes_that_are_on(document: dict[str, Any]) -> None:
    described = {
        f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item
    }
    assert described == {_name(route) for route in DEFAULT_ROUTES}


@pytest.mark.parametrize("route", DEFAULT_ROUTES, ids=_name)
def test_an_operation_says_all_that_its_row_says(route: Route, document: dict[str, Any]) -> None:
    operation = document["paths"][route.path][route.method.lower()]
    assert operation["operationId"] == operation_ids(DEFAULT_ROUTES)[route.method, route.path]
    assert operation["summary"] == route.summary
    assert len(operation["tags"]) == 1
    statuses = {route.success, *route.also, *statuses_of_failure(route)}
    assert set(operation["responses"]) == {str(status) for status in statuses}
    assert ("security" in operation) == route.needs_token
    parameters = operation.get("parameters", [])
    in_path = [each["name"] for each in parameters if each["in"] == "path"]
    assert in_path == re.findall(r"{(\w+)}", route.path)
    named = {(each["name"], each["in"]) for each in parameters}
    assert {(each.name, each.where) for each in route.parameters} <= named
    assert all(each["description"] for each in parameters)
    if route.body is None:
        assert "requestBody" not in operation
    else:
        assert set(operation["requestBody"]["content"]) == set(route.body_types)
        assert operation["requestBody"]["required"] == route.body_required


def test_operation_ids_are_unique(document: dict[str, Any]) -> None:
    names = [each["operationId"] for item in document["paths"].values() for each in item.values()]
    assert len(names) == len(set(names))


def test_every_tag_of_an_operation_is_described(document: dict[str, Any]) -> None:
    described = {tag["name"] for tag in document["tags"] if tag["description"]}
    used = {each["tags"][0] for item in document["paths"].values() for each in item.values()}
    assert described == used


def test_every_failure_offers_the_bodies_that_clients_ask_for(document: dict[str, Any]) -> None:
    for name, response in document["components"]["responses"].items():
        if name.startswith("Head"):
            assert "content" not in response
        elif name.startswith(("Identity", "Compute")):
            assert set(response["content"]) == {"application/json", "application/problem+json"}
        else:
            assert set(response["content"]) == {
                "application/json",
                "application/problem+json",
                "text/html",
                "text/plain",
            }
        assert "x-openstack-request-id" in response["headers"]


def test_nothing_in_the_components_is_unused(document: dict[str, Any]) -> None:
    used = set(re.findall(r"'#/components/([^']+)'", repr(document)))
    unused = [
        f"{kind}/{name}"
        for kind in ("schemas", "responses", "headers")
        for name in document["components"][kind]
        if f"{kind}/{name}" not in used
    ]
    assert not unused


def test_images_may_hold_custom_properties_whose_values_are_strings(
    document: dict[str, Any],
) -> None:
    for name in ("Image", "ImageCreate"):
        schema = document["components"]["schemas"][name]
        assert schema["additionalProperties"]["type"] == "string"
        assert schema["propertyNames"]["maxLength"] == 255


def test_formats_are_those_of_the_deployment(server_with: ServerWith) -> None:
    running = server_with(
        {"images": {"disk_formats": ["raw", "qcow2"], "container_formats": ["bare"]}}
    )
    document = running.admin.get("/openapi.json").json()
    properties = document["components"]["schemas"]["ImageCreate"]["properties"]
    assert properties["disk_format"]["enum"] == ["raw", "qcow2", None]
    assert properties["container_format"]["enum"] == ["bare", None]


def _check(document: dict[str, Any], answer: httpx.Response, path: str) -> None:
    """The answer's status, type and body are what the document says."""
    operation = document["paths"][path][answer.request.method.lower()]
    response = operation["responses"][str(answer.status_code)]
    if "$ref" in response:
        response = document["components"]["responses"][response["$ref"].rpartition("/")[2]]
    content = response.get("content", {})
    if not content:
        assert answer.content == b""
        return
    media_type = answer.headers["content-type"].partition(";")[0]
    assert media_type in content
    if media_type.endswith("json"):
        schema = {**content[media_type]["schema"], "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(answer.json())


def test_real_answers_fit_the_document(
    document: dict[str, Any], owner: Client, image: MakeImage, mark: str
) -> None:
    made = image(
        data=b"x" * 10, name=mark, tags=["a", "b"], os_distro="debian", kernel_id=None, hw="1"
    )
    path = f"/v2/images/{made['id']}"
    one = "/v2/images/{image_id}"
    _check(document, owner.get(path), one)
    _check(document, owner.get("/v2/images", params={"limit": 1}), "/v2/images")
    rename = [{"op": "replace", "path": "/name", "value": f"{mark}2"}]
    _check(document, owner.patch(path, rename, PATCH_V21), one)
    _check(document, owner.patch(path, [{"replace": "/name", "value": mark}], PATCH_V20), one)
    _check(document, owner.patch(path, [], "application/json"), one)
    _check(document, owner.get(f"{path}/file"), f"{one}/file")
    _check(document, owner.get(f"{path}/file", headers={"Range": "bytes=2-3"}), f"{one}/file")
    _check(document, owner.get(f"{path}/file", headers={"Range": "bytes=90-"}), f"{one}/file")
    _check(document, owner.head(f"{path}/file"), f"{one}/file")
    _check(document, owner.post(f"{path}/members", json={"member": mark}), f"{one}/members")
    _check(document, owner.get(f"{path}/members"), f"{one}/members")
    _check(document, owner.get(f"{path}/members/{mark}"), f"{one}/members/{{member_id}}")
    _check(document, owner.get("/v2/images/nothing"), one)
    for name in ("/", "/versions", "/healthcheck", "/readyz", "/openapi.json", "/docs"):
        _check(document, owner.get(name), name)
    _check(document, owner.get("/v2/info/import"), "/v2/info/import")
    _check(document, owner.get("/v2/schemas/image"), "/v2/schemas/{name}")


@pytest.mark.parametrize(
    "accept", ["application/json", "application/problem+json", "text/plain", "*/*"]
)
def test_failures_fit_the_document_in_every_form(
    accept: str, document: dict[str, Any], owner: Client
) -> None:
    answer = owner.get("/v2/images/nothing", headers={"Accept": accept})
    assert answer.status_code == 404
    _check(document, answer, "/v2/images/{image_id}")


def test_the_page_carries_a_policy_that_lets_nothing_from_elsewhere_in(
    server: ServerProcess,
) -> None:
    answer = httpx.get(f"{server.url}/docs", trust_env=False)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; connect-src 'self'")
    assert "unsafe" not in policy
    assert not re.search(r"(?:src|href|url|fetch)\s*[=(]\s*[\"']?(?:https?:)?//", answer.text)


def test_every_route_of_every_configuration_can_be_described() -> None:
    assert {_name(route) for route in DEFAULT_ROUTES} <= {_name(route) for route in ROUTES}
    assert len(operation_ids(ROUTES)) == len(ROUTES)
