"""Versions: the document, the prefixes, negotiation by Accept, the health check (API §2)."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.api.configs import TWO_STORES
from tests.conftest import Actors, MakeServer, ServerWith
from tests.support.server import Client, ServerProcess

ONE_STORE = ["v2.17", "v2.15", "v2.9", *(f"v2.{minor}" for minor in range(7, -1, -1))]
SEVERAL_STORES = [
    "v2.17", "v2.15", "v2.13", "v2.12", "v2.11", "v2.10", "v2.9", "v2.8",
    *(f"v2.{minor}" for minor in range(7, -1, -1)),
]  # fmt: skip


@pytest.fixture
def anyone(server: ServerProcess) -> Client:
    """A caller without a token."""
    return server.client()


def check_document(answer: httpx.Response, base: str, ids: list[str]) -> None:
    """The answer is the version document of a deployment with these versions."""
    assert answer.headers["content-type"].split(";")[0] == "application/json"
    document = answer.json()
    assert list(document) == ["versions"]
    by_id = {entry["id"]: entry for entry in document["versions"]}
    assert sorted(by_id) == sorted(ids)
    assert len(document["versions"]) == len(ids), "an id is listed twice"
    for version, entry in by_id.items():
        assert entry == {
            "id": version,
            "status": "CURRENT" if version == ids[0] else "SUPPORTED",
            "links": [{"rel": "self", "href": f"{base}/v2/"}],
        }


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 300),
        ("/versions", 200),
        ("/versions/", 200),
        ("/v1/images", 300),
        ("/v1", 300),
        ("/v4", 300),
        ("/images", 300),
        ("/v2.99/x", 300),
        ("/v2.99/images", 300),
        ("/nonsense", 300),
    ],
)
def test_version_document_is_given_without_a_token(
    anyone: Client, server: ServerProcess, path: str, status: int
) -> None:
    answer = anyone.get(path)
    assert answer.status_code == status
    check_document(answer, server.url, ONE_STORE)


@pytest.mark.parametrize("accept", ["text/html", "text/plain", "application/json", "*/*"])
def test_version_document_is_never_negotiated(
    anyone: Client, server: ServerProcess, accept: str
) -> None:
    answer = anyone.get("/", headers={"Accept": accept})
    assert answer.status_code == 300
    check_document(answer, server.url, ONE_STORE)


def test_version_document_names_the_host_that_was_asked(anyone: Client) -> None:
    answer = anyone.get("/versions", headers={"Host": "images.example.org:9292"})
    check_document(answer, "http://images.example.org:9292", ONE_STORE)


def test_public_url_is_the_base_of_all_absolute_links(server_with: ServerWith) -> None:
    running = server_with({"server": {"public_url": "https://images.example.org/image"}})
    answer = running.server.client().get("/versions")
    check_document(answer, "https://images.example.org/image", ONE_STORE)
    created = running.demo.post("/v2/images", json={})
    image_id = created.json()["id"]
    assert (
        created.headers["location"] == f"https://images.example.org/image/v2/images/{image_id}"
    ), "Location has to start with public_url"


FORWARDED = {
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "cloud.example.org",
    "X-Forwarded-For": "203.0.113.7",
}


def test_forwarded_headers_of_strangers_are_not_believed(
    anyone: Client, server: ServerProcess
) -> None:
    check_document(anyone.get("/versions", headers=FORWARDED), server.url, ONE_STORE)


def test_forwarded_headers_of_a_named_proxy_are_believed(make_server: MakeServer) -> None:
    client = make_server({"server": {"trusted_proxies": ["127.0.0.0/8"]}}).client()
    answer = client.get("/versions", headers=FORWARDED)
    check_document(answer, "https://cloud.example.org", ONE_STORE)


def test_several_stores_announce_more_versions(server_with: ServerWith) -> None:
    running = server_with(TWO_STORES)
    answer = running.server.client().get("/versions")
    check_document(answer, running.server.url, SEVERAL_STORES)
    for version in SEVERAL_STORES:
        assert running.demo.get(f"/{version}/images").status_code == 200, version


@pytest.mark.parametrize("prefix", ["v2", *ONE_STORE])
def test_every_announced_prefix_leads_to_the_same_api(owner: Client, prefix: str) -> None:
    answer = owner.get(f"/{prefix}/images", params={"limit": 1})
    assert answer.status_code == 200
    assert answer.json()["first"] == "/v2/images?limit=1"
    assert answer.json()["schema"] == "/v2/schemas/images"


def test_links_of_an_image_start_with_v2_whatever_the_prefix(owner: Client) -> None:
    answer = owner.post("/v2.5/images", json={})
    created = answer.json()
    assert created["self"] == f"/v2/images/{created['id']}"
    assert created["file"] == f"/v2/images/{created['id']}/file"
    assert answer.headers["location"].endswith(f"/v2/images/{created['id']}")
    owner.delete(f"/v2.0/images/{created['id']}")


@pytest.mark.parametrize(
    "prefix", ["v2.8", "v2.10", "v2.11", "v2.12", "v2.13", "v2.14", "v2.16", "v2.18"]
)
def test_versions_of_features_that_are_off_are_unknown(
    owner: Client, server: ServerProcess, prefix: str
) -> None:
    answer = owner.get(f"/{prefix}/images")
    assert answer.status_code == 300
    check_document(answer, server.url, ONE_STORE)


@pytest.mark.parametrize("prefix", ["v2", "v2.0", "v2.7", "v2.17"])
def test_a_prefix_without_slash_redirects(anyone: Client, owner: Client, prefix: str) -> None:
    answer = owner.get(f"/{prefix}")
    assert answer.status_code == 302
    assert answer.headers["location"].endswith(f"/{prefix}/")


def test_a_prefix_with_slash_alone_is_not_found(owner: Client) -> None:
    assert owner.get("/v2/").status_code == 404


@pytest.mark.parametrize(
    "path", ["/v2/images/", "/v2/schemas/image/", "/v2/schemas/", "/v2/info/import/"]
)
def test_trailing_slash_on_a_resource_is_not_found(owner: Client, path: str) -> None:
    assert owner.get(path).status_code == 404


@pytest.mark.parametrize("version", ["v2.0", "v2.5", "v2.17"])
def test_accept_names_the_version_of_an_unversioned_path(owner: Client, version: str) -> None:
    answer = owner.get(
        "/images",
        params={"limit": 1},
        headers={"Accept": f"application/vnd.openstack.images-{version}"},
    )
    assert answer.status_code == 200
    assert answer.json()["first"] == "/v2/images?limit=1"


@pytest.mark.parametrize("version", ["v2.99", "v1", "v3"])
def test_accept_with_an_unknown_version_gives_the_document(
    owner: Client, server: ServerProcess, version: str
) -> None:
    answer = owner.get("/images", headers={"Accept": f"application/vnd.openstack.images-{version}"})
    assert answer.status_code == 300
    check_document(answer, server.url, ONE_STORE)


def test_accept_version_reaches_a_single_image(actors: Actors) -> None:
    created = actors.owner.create(name="negotiated")
    answer = actors.owner.get(
        f"/images/{created['id']}",
        headers={"Accept": "application/vnd.openstack.images-v2.3"},
    )
    assert answer.status_code == 200
    assert answer.json()["name"] == "negotiated"
    actors.owner.delete(f"/v2/images/{created['id']}")


def test_microversion_headers_are_ignored(owner: Client) -> None:
    answer = owner.get("/v2/images", headers={"OpenStack-API-Version": "image 2.99"})
    assert answer.status_code == 200


def test_healthcheck_needs_no_token(anyone: Client) -> None:
    answer = anyone.get("/healthcheck")
    assert answer.status_code == 200
    assert answer.text.strip() == "OK"
    assert answer.headers["content-type"].startswith("text/plain")


def test_healthcheck_drains_while_the_disable_file_exists(
    make_server: MakeServer, tmp_path: Path
) -> None:
    flag = tmp_path / "disabled"
    client = make_server({"server": {"healthcheck_disable_file": str(flag)}}).client()
    assert client.get("/healthcheck").status_code == 200
    flag.touch()
    assert client.get("/healthcheck").status_code == 503
    flag.unlink()
    assert client.get("/healthcheck").status_code == 200
