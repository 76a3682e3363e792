"""Discovery: which import methods, which stores (API §15), with one store."""

from __future__ import annotations

import pytest

from tests.api.configs import WITHOUT_IMPORTS
from tests.conftest import Actors, ServerWith
from tests.support.server import Client, ServerProcess, told


@pytest.mark.parametrize("who", ["owner", "owner_reader", "other", "admin", "service", "norole"])
def test_any_token_may_ask_for_import_methods(actors: Actors, who: str) -> None:
    answer = getattr(actors, who).get("/v2/info/import")
    assert answer.status_code == 200, told(answer)
    assert set(answer.json()) == {"import-methods"}
    methods = answer.json()["import-methods"]
    assert set(methods) == {"description", "type", "value"}
    assert methods["type"] == "array"
    assert isinstance(methods["value"], list)
    assert isinstance(methods["description"], str)


@pytest.mark.parametrize("methods", [["web-download", "glance-direct"], ["web-download"]])
def test_methods_are_the_configured_ones(server_with: ServerWith, methods: list[str]) -> None:
    demo = server_with({"imports": {"methods": methods}}).demo
    assert demo.get("/v2/info/import").json()["import-methods"]["value"] == methods, "in order"


def test_no_methods_configured_are_none_announced(server_with: ServerWith) -> None:
    demo = server_with(WITHOUT_IMPORTS).demo
    assert demo.get("/v2/info/import").json()["import-methods"]["value"] == []
    created = demo.post("/v2/images", json={})
    assert "openstack-image-import-methods" not in created.headers


@pytest.mark.parametrize("who", ["owner", "owner_reader", "other", "admin", "service", "norole"])
@pytest.mark.parametrize("version", ["v2", "v2.0", "v2.17"])
def test_without_limits_of_keystone_there_is_no_usage_to_tell(
    actors: Actors, who: str, version: str
) -> None:
    answer = getattr(actors, who).get(f"/{version}/info/usage")
    assert answer.status_code == 200, told(answer)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"usage": {}}


def test_header_of_create_and_discovery_agree(owner: Client) -> None:
    methods = owner.get("/v2/info/import").json()["import-methods"]["value"]
    created = owner.post("/v2/images", json={})
    owner.delete(f"/v2/images/{created.json()['id']}")
    announced = created.headers.get("openstack-image-import-methods")
    assert announced == (",".join(methods) or None)


@pytest.mark.parametrize("path", ["/v2/info/stores", "/v2/info/stores/detail"])
@pytest.mark.parametrize("who", ["owner", "admin"])
def test_stores_are_not_told_when_there_is_one(actors: Actors, who: str, path: str) -> None:
    assert getattr(actors, who).get(path).status_code == 404


@pytest.mark.parametrize("path", ["/v2/info/import", "/v2/info/stores", "/v2/info/usage"])
def test_discovery_needs_a_token(server: ServerProcess, path: str) -> None:
    assert server.client().get(path).status_code == 401


@pytest.mark.parametrize("path", ["/v2/info/import", "/v2/info/usage"])
def test_body_is_refused(owner: Client, path: str) -> None:
    assert owner.request("GET", path, content=b"{}").status_code == 400
