"""Discovery: which import methods, which stores (API §15), with one store."""

from __future__ import annotations

import pytest

from tests.conftest import Actors, ServerWith
from tests.support.server import Client, ServerProcess, told


@pytest.mark.parametrize("who", ["owner", "owner_reader", "other", "admin", "service", "norole"])
def test_any_token_may_ask_for_import_methods(actors: Actors, who: str) -> None:
    answer = getattr(actors, who).get("/v2/info/import")
    assert answer.status_code == 200, told(answer)
    methods = answer.json()["import-methods"]
    assert set(methods) == {"description", "type", "value"}
    assert methods["type"] == "array"
    assert methods["value"] == ["glance-direct", "web-download"], "in the configured order"
    assert isinstance(methods["description"], str)


@pytest.mark.parametrize("methods", [["web-download", "glance-direct"], ["web-download"], []])
def test_methods_are_the_configured_ones(server_with: ServerWith, methods: list[str]) -> None:
    demo = server_with({"imports": {"methods": methods}}).demo
    assert demo.get("/v2/info/import").json()["import-methods"]["value"] == methods
    created = demo.post("/v2/images", json={})
    if methods:
        assert created.headers["openstack-image-import-methods"] == ",".join(methods)
    else:
        assert "openstack-image-import-methods" not in created.headers


@pytest.mark.parametrize("path", ["/v2/info/stores", "/v2/info/stores/detail"])
@pytest.mark.parametrize("who", ["owner", "admin"])
def test_stores_are_not_told_when_there_is_one(actors: Actors, who: str, path: str) -> None:
    assert getattr(actors, who).get(path).status_code == 404


@pytest.mark.parametrize("path", ["/v2/info/import", "/v2/info/stores"])
def test_discovery_needs_a_token(server: ServerProcess, path: str) -> None:
    assert server.client().get(path).status_code == 401


def test_body_is_refused(owner: Client) -> None:
    assert owner.request("GET", "/v2/info/import", content=b"{}").status_code == 400
