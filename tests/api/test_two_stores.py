"""Uploads with several stores: the header, the property, where the data goes (API §3, §4, §9.1)."""

from __future__ import annotations

import pytest

from tests.api.checks import check_still_queued, queued
from tests.api.configs import TWO_STORES
from tests.conftest import Running, ServerWith
from tests.support.server import told


@pytest.fixture
def stores(server_with: ServerWith) -> Running:
    """A server with two file stores."""
    return server_with(TWO_STORES)


def test_create_names_the_stores(stores: Running) -> None:
    answer = stores.demo.post("/v2/images", json={})
    assert answer.headers["openstack-image-store-ids"] == "main,second"
    assert "stores" not in answer.json(), "there is no location yet"


@pytest.mark.parametrize(
    ("header", "store"), [({}, "main"), ({"X-Image-Meta-Store": "second"}, "second")]
)
def test_data_goes_to_the_store_that_is_asked_for(
    stores: Running, header: dict[str, str], store: str, mark: str
) -> None:
    content = mark.encode() * 1004
    image_id = queued(stores.demo)
    answer = stores.demo.put_data(image_id, content, header)
    assert answer.status_code == 204, told(answer)
    assert stores.demo.show(image_id)["stores"] == store
    held = {
        name: [
            path
            for path in stores.server.stored_files(name)
            if path.stat().st_size == len(content) and path.read_bytes() == content
        ]
        for name in ("main", "second")
    }
    assert {name: len(paths) for name, paths in held.items()} == {
        "main": int(store == "main"),
        "second": int(store == "second"),
    }
    assert stores.demo.get(f"/v2/images/{image_id}/file").content == content
    assert stores.demo.delete(f"/v2/images/{image_id}").status_code == 204
    assert not held[store][0].exists()


def test_unknown_store_is_refused(stores: Running) -> None:
    image_id = queued(stores.demo)
    answer = stores.demo.put_data(image_id, b"x", {"X-Image-Meta-Store": "nowhere"})
    assert answer.status_code == 400, told(answer)
    assert answer.headers["content-type"].startswith("text/plain")
    check_still_queued(stores.demo, image_id)


def test_stores_are_hidden_while_deactivated_from_all_but_admins(stores: Running) -> None:
    image_id = queued(stores.demo)
    stores.demo.upload(image_id, b"x")
    stores.demo.post(f"/v2/images/{image_id}/actions/deactivate")
    assert "stores" not in stores.demo.show(image_id)
    assert stores.admin.show(image_id)["stores"] == "main"
