"""The Compute API's image view over HTTP (compute view §1 to §9)."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from tests.conftest import MakeImage, ServerWith
from tests.support.ports import free_port
from tests.support.server import Client, ServerProcess, told

Metadata = dict[str, str]


def detail(client: Client, **query: Any) -> list[dict[str, Any]]:
    answer = client.get(f"/v2/{client.project_id}/images/detail", params=query)
    assert answer.status_code == 200, told(answer)
    images: list[dict[str, Any]] = answer.json()["images"]
    return images


def ids(client: Client, **query: Any) -> set[str]:
    return {image["id"] for image in detail(client, **query)}


def test_an_image_has_the_keys_of_the_compute_api_and_no_others(
    owner: Client, image: MakeImage
) -> None:
    fresh = image(data=b"x" * 1000, name="view", min_ram=512, min_disk=3, os_distro="debian")
    answer = owner.get(f"/v2/{owner.project_id}/images/{fresh['id']}")
    assert answer.status_code == 200, told(answer)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-compute-request-id"] == answer.headers["x-openstack-request-id"]
    project = owner.project_id
    assert answer.json() == {
        "image": {
            "id": fresh["id"],
            "name": "view",
            "minRam": 512,
            "minDisk": 3,
            "metadata": {"os_distro": "debian"},
            "created": fresh["created_at"],
            "updated": fresh["updated_at"],
            "status": "ACTIVE",
            "progress": 100,
            "OS-EXT-IMG-SIZE:size": 1000,
            "links": [
                {"rel": "self", "href": f"{owner.base_url}/v2/{project}/images/{fresh['id']}"},
                {"rel": "bookmark", "href": f"{owner.base_url}/{project}/images/{fresh['id']}"},
                {
                    "rel": "alternate",
                    "type": "application/vnd.openstack.image",
                    "href": f"{owner.base_url}/{project}/images/{fresh['id']}",
                },
            ],
        }
    }


def test_snapshots_name_their_server_and_disk_config(owner: Client, image: MakeImage) -> None:
    server_id = "8d3c2f3c-2b2f-4b3e-9f21-4a2e9f5a9a11"
    fresh = image(instance_uuid=server_id, auto_disk_config="True", mappings='[{"a": 1}]')
    shown = owner.get(f"/v2/{owner.project_id}/images/{fresh['id']}").json()["image"]
    base = f"{owner.base_url}/v2/{owner.project_id}/servers/{server_id}"
    assert shown["server"]["id"] == server_id
    assert shown["server"]["links"][0] == {"rel": "self", "href": base}
    assert shown["OS-DCF:diskConfig"] == "AUTO"
    assert shown["metadata"]["mappings"] == [{"a": 1}]
    assert (shown["status"], shown["progress"]) == ("SAVING", 25)


def test_the_short_list_has_ids_names_and_links_only(owner: Client, image: MakeImage) -> None:
    fresh = image(name="short")
    answer = owner.get(f"/v2/{owner.project_id}/images", params={"name": "short"})
    assert answer.status_code == 200, told(answer)
    (shown,) = (item for item in answer.json()["images"] if item["id"] == fresh["id"])
    assert set(shown) == {"id", "name", "links"}


@pytest.mark.parametrize("version", ["v2", "v2.1"])
def test_the_image_api_wins_where_both_could_match(
    owner: Client, image: MakeImage, version: str
) -> None:
    fresh = image()
    assert "schema" in owner.get(f"/{version}/images").json()
    assert "schema" in owner.get(f"/{version}/images/{fresh['id']}").json()
    assert "name" in owner.get(f"/{version}/schemas/images").json()
    assert owner.get(f"/{version}/images/detail").status_code == 404
    if version == "v2":
        assert owner.get("/v2/").status_code == 404


@pytest.mark.parametrize("prefix", ["/compute/v2", "/compute/v2.1"])
def test_below_its_prefix_the_view_needs_no_project(
    owner: Client, image: MakeImage, prefix: str
) -> None:
    fresh = image()
    for path in ("images", "images/detail", f"images/{fresh['id']}"):
        for base in (prefix, f"{prefix}/{owner.project_id}"):
            answer = owner.get(f"{base}/{path}")
            assert answer.status_code == 200, told(answer)
    link = owner.get(f"{prefix}/images/{fresh['id']}").json()["image"]["links"]
    assert link[0]["href"] == f"{owner.base_url}{prefix}/images/{fresh['id']}"
    assert link[1]["href"] == f"{owner.base_url}/compute/images/{fresh['id']}"
    assert link[2]["href"] == f"{owner.base_url}/images/{fresh['id']}"


def test_the_current_face_keeps_the_project_out_of_the_alternate_link(
    owner: Client, image: MakeImage
) -> None:
    fresh = image()
    shown = owner.get(f"/v2.1/{owner.project_id}/images/{fresh['id']}").json()["image"]
    hrefs = [link["href"] for link in shown["links"]]
    assert hrefs[0] == f"{owner.base_url}/v2.1/{owner.project_id}/images/{fresh['id']}"
    assert hrefs[2] == f"{owner.base_url}/images/{fresh['id']}"


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST", "PUT"])
def test_the_project_of_another_is_malformed(owner: Client, other: Client, method: str) -> None:
    path = f"/v2/{other.project_id}/images/x/metadata"
    if method == "DELETE":
        path = f"/v2/{other.project_id}/images/x"
    answer = owner.request(method, path)
    assert answer.status_code == 400, told(answer)
    assert answer.headers["content-type"] == "application/json; charset=UTF-8"
    assert answer.json() == {
        "badRequest": {
            "message": f"Malformed request URL: URL's project_id '{other.project_id}' doesn't match "
            f"Context's project_id '{owner.project_id}'",
            "code": 400,
        }
    }


def test_filters_are_conjunctive_and_literal(owner: Client, image: MakeImage, mark: str) -> None:
    one = image(name=f"{mark}-1", min_ram=64, image_type="snapshot", instance_uuid=mark)["id"]
    two = image(data=b"2", name="in:a,b", min_disk=7, os_type=mark, image_type="snapshot")["id"]
    assert ids(owner, name=f"{mark}-1") == {one}
    assert ids(owner, name="in:a,b") >= {two}
    assert ids(owner, **{"property-os_type": mark}) == {two}
    assert ids(owner, server=f"http://compute/v2/servers/{mark}") == {one}
    assert ids(owner, server=mark) == {one}
    assert ids(owner, type="snapshot") >= {one, two}
    assert ids(owner, type="snapshot", server=mark) == {one}
    assert one in ids(owner, minRam=64)
    assert one not in ids(owner, minRam=65)
    assert two in ids(owner, minDisk=7)
    assert ids(owner, minRam="much") == set()
    assert ids(owner, name=f"{mark}-1", status="ACTIVE") == set()
    assert ids(owner, name=f"{mark}-1", unknown="ignored") == {one}


@pytest.mark.parametrize(
    ("word", "finds"),
    [("SAVING", True), ("Saving", True), ("queued", True), ("ACTIVE", False), ("saving", False),
     ("UNKNOWN", False), ("ERROR", False), ("DELETED", False), ("nonsense", False)],
)  # fmt: skip
def test_status_is_compared_as_shown_or_as_it_is(
    owner: Client, image: MakeImage, mark: str, word: str, finds: bool
) -> None:
    fresh = image(name=mark)
    assert ids(owner, name=mark, status=word) == ({fresh["id"]} if finds else set())


def test_changes_since_holds_the_deleted_too(
    owner: Client, other: Client, image: MakeImage
) -> None:
    before = dt.datetime.now(dt.UTC).replace(microsecond=0) - dt.timedelta(seconds=1)
    kept, gone = image(name="kept")["id"], image(name="gone", os_type="linux")["id"]
    assert owner.delete(f"/v2/images/{gone}").status_code == 204
    since = before.isoformat()
    found = {item["id"]: item for item in detail(owner, **{"changes-since": since})}
    assert found[kept]["status"] == "SAVING"
    assert (found[gone]["status"], found[gone]["progress"]) == ("DELETED", 0)
    assert found[gone]["metadata"] == {"os_type": "linux"}
    assert gone in ids(owner, status="DELETED", **{"changes-since": since})
    assert kept not in ids(owner, status="deleted", **{"changes-since": since})
    assert gone not in ids(owner)
    assert gone not in ids(other, **{"changes-since": since})
    later = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)).isoformat()
    assert ids(owner, **{"changes-since": later}) == set()


def test_pages_follow_their_links(owner: Client, image: MakeImage, mark: str) -> None:
    made = [image(name=mark)["id"] for _ in range(5)]
    seen: list[str] = []
    path = f"/v2/{owner.project_id}/images/detail?name={mark}&limit=2"
    for _ in range(4):
        body = owner.get(path).json()
        seen += [item["id"] for item in body["images"]]
        if "images_links" not in body:
            break
        (link,) = body["images_links"]
        assert link["rel"] == "next"
        assert link["href"].startswith(f"{owner.base_url}/v2/{owner.project_id}/images/detail?")
        assert "limit=2&marker=" in link["href"]
        path = link["href"].removeprefix(owner.base_url)
    assert sorted(seen) == sorted(made)
    dates = [item["created"] for item in detail(owner, name=mark)]
    assert dates == sorted(dates, reverse=True)
    assert len(detail(owner, name=mark, limit=0)) == 5


@pytest.mark.parametrize(
    "query",
    [{"limit": "-1"}, {"limit": "abc"}, {"marker": "nowhere"}, {"changes-since": "yesterday"},
     {"page_size": "x"}, {"offset": "-1"}],
)  # fmt: skip
def test_wrong_parameters_are_bad_requests(owner: Client, query: dict[str, str]) -> None:
    answer = owner.get(f"/v2/{owner.project_id}/images", params=query)
    assert answer.status_code == 400, told(answer)
    assert answer.json()["badRequest"]["code"] == 400


def test_a_marker_of_somebody_else_is_a_bad_request(
    owner: Client, other: Client, image: MakeImage
) -> None:
    hidden = image(other, visibility="private")["id"]
    answer = owner.get(f"/v2/{owner.project_id}/images", params={"marker": hidden})
    assert answer.status_code == 400, told(answer)


def test_metadata_is_merged_replaced_set_and_removed(owner: Client, image: MakeImage) -> None:
    fresh = image(a="1", b="2")
    base = f"/v2/{owner.project_id}/images/{fresh['id']}/metadata"
    assert owner.get(base).json() == {"metadata": {"a": "1", "b": "2"}}
    merged = owner.post(base, json={"metadata": {"b": "3", "c": "4"}})
    assert merged.json() == {"metadata": {"a": "1", "b": "3", "c": "4"}}
    assert owner.put(f"{base}/d e", json={"meta": {"d e": "5"}}).json() == {"meta": {"d e": "5"}}
    assert owner.get(f"{base}/d e").json() == {"meta": {"d e": "5"}}
    removed = owner.delete(f"{base}/a")
    assert (removed.status_code, removed.content) == (204, b"")
    assert owner.delete(f"{base}/a").status_code == 404
    assert owner.get(f"{base}/a").json()["itemNotFound"]["code"] == 404
    replaced = owner.put(base, json={"metadata": {"only": "this"}})
    assert replaced.json() == {"metadata": {"only": "this"}}
    shown = owner.show(fresh["id"])
    assert shown["only"] == "this"
    assert "b" not in shown
    assert shown["name"] == fresh["name"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "", {"metadata": {"a": 1}}, 400),
        ("POST", "", {"metadata": {"a": None}}, 400),
        ("POST", "", {"metadata": {"a/b": "x"}}, 400),
        ("POST", "", {"metadata": {"": "x"}}, 400),
        ("POST", "", {"metadata": {"a": "x" * 256}}, 400),
        ("POST", "", {"metadata": {"k" * 256: "x"}}, 400),
        ("POST", "", {"metadata": {}, "more": 1}, 400),
        ("POST", "", {"metadata": []}, 400),
        ("POST", "", [], 400),
        ("PUT", "/a", {"meta": {"b": "x"}}, 400),
        ("PUT", "/a", {"meta": {"a": "x", "b": "y"}}, 400),
        ("PUT", "/a", {"metadata": {"a": "x"}}, 400),
        ("POST", "", {"metadata": {"kernel_id": "nokernel"}}, 400),
        ("POST", "", {"metadata": {"name": "x"}}, 403),
        ("POST", "", {"metadata": {"size": "1"}}, 403),
        ("POST", "", {"metadata": {"os_glance_x": "1"}}, 403),
        ("POST", "", {"metadata": {str(number): "x" for number in range(129)}}, 403),
    ],
)
def test_metadata_that_cannot_be_is_refused_and_changes_nothing(
    owner: Client, image: MakeImage, method: str, path: str, body: Any, status: int
) -> None:
    fresh = image(a="1")
    base = f"/v2/{owner.project_id}/images/{fresh['id']}/metadata"
    answer = owner.request(method, f"{base}{path}", json=body)
    assert answer.status_code == status, told(answer)
    assert owner.get(base).json() == {"metadata": {"a": "1"}}


def test_other_content_types_are_refused(owner: Client, image: MakeImage) -> None:
    path = f"/v2/{owner.project_id}/images/{image()['id']}/metadata"
    answer = owner.post(path, content="<a/>", headers={"Content-Type": "application/xml"})
    assert answer.status_code == 415, told(answer)
    assert answer.json()["badMediaType"]["code"] == 415


def test_only_the_owner_writes(
    owner: Client, other: Client, admin: Client, image: MakeImage
) -> None:
    public = image(admin, visibility="public")["id"]
    mine = image(visibility="private")["id"]
    body = {"metadata": {"x": "y"}}
    for image_id, status in ((public, 403), (mine, 404)):
        path = f"/v2/{other.project_id}/images/{image_id}"
        assert other.post(f"{path}/metadata", json=body).status_code == status
        assert other.delete(path).status_code == status
    assert other.get(f"/v2/{other.project_id}/images/{mine}").json()["itemNotFound"]


def test_deleting_deletes_and_protected_is_forbidden(owner: Client, image: MakeImage) -> None:
    fresh = image(protected=True)
    path = f"/v2/{owner.project_id}/images/{fresh['id']}"
    refused = owner.delete(path)
    assert refused.status_code == 403, told(refused)
    assert refused.json()["forbidden"]["code"] == 403
    owner.patch(
        f"/v2/images/{fresh['id']}", [{"op": "replace", "path": "/protected", "value": False}]
    )
    assert owner.delete(path).status_code == 204
    assert owner.get(path).status_code == 404


def test_microversions_are_accepted_and_answered(owner: Client) -> None:
    base = f"/v2.1/{owner.project_id}/images"

    def ask(path: str = base, **headers: str) -> Any:
        return owner.get(path, headers={name.replace("_", "-"): headers[name] for name in headers})

    plain = ask()
    assert plain.headers["openstack-api-version"] == "compute 2.1"
    assert plain.headers["x-openstack-nova-api-version"] == "2.1"
    assert plain.headers["vary"] == "OpenStack-API-Version, X-OpenStack-Nova-API-Version"
    newest = ask(OpenStack_API_Version="compute 2.35")
    assert newest.headers["openstack-api-version"] == "compute 2.35"
    assert (
        ask(X_OpenStack_Nova_API_Version="2.10").headers["x-openstack-nova-api-version"] == "2.10"
    )
    assert ask(OpenStack_API_Version="compute latest").headers["openstack-api-version"] == (
        "compute 2.35"
    )
    assert ask(OpenStack_API_Version="image 9.9").headers["openstack-api-version"] == "compute 2.1"
    gone = ask(OpenStack_API_Version="compute 2.36")
    assert (gone.status_code, list(gone.json())) == (404, ["itemNotFound"])
    assert ask(OpenStack_API_Version="compute 3.0").status_code == 406
    assert ask(OpenStack_API_Version="compute 2.0").status_code == 406
    assert ask(OpenStack_API_Version="compute newest").status_code == 400
    legacy = ask(f"/v2/{owner.project_id}/images", OpenStack_API_Version="compute 2.36")
    assert legacy.status_code == 200
    assert "openstack-api-version" not in legacy.headers


def test_metadata_lived_a_little_longer(owner: Client, image: MakeImage) -> None:
    path = f"/v2.1/{owner.project_id}/images/{image()['id']}/metadata"
    for version, status in (("2.38", 200), ("2.39", 404)):
        answer = owner.get(path, headers={"OpenStack-API-Version": f"compute {version}"})
        assert answer.status_code == status, told(answer)


def test_other_methods_name_the_allowed_ones(owner: Client, image: MakeImage) -> None:
    image_id = image()["id"]
    base = f"/v2/{owner.project_id}/images/{image_id}"
    for path, method, allowed in (
        (base, "PUT", "GET, DELETE"),
        (f"{base}/metadata", "DELETE", "GET, POST, PUT"),
        (f"{base}/metadata/a", "POST", "GET, PUT, DELETE"),
    ):
        answer = owner.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
        assert answer.json()["badMethod"]["code"] == 405


def test_version_documents_need_no_token(server: ServerProcess) -> None:
    nobody = server.client()
    versions = nobody.get("/compute/").json()["versions"]
    assert [(item["id"], item["version"]) for item in versions] == [("v2.0", ""), ("v2.1", "2.35")]
    current = nobody.get("/compute/v2.1/").json()["version"]
    assert current["links"][0]["href"] == f"{nobody.base_url}/compute/v2.1/"
    assert current["media-types"][0]["type"].endswith(";version=2.1")
    redirect = nobody.get("/compute/v2.1")
    assert (redirect.status_code, redirect.headers["location"]) == (
        302,
        f"{nobody.base_url}/compute/v2.1/",
    )
    choices = nobody.get("/compute/v3/images")
    assert (choices.status_code, len(choices.json()["choices"])) == (300, 2)


def test_without_a_token_the_answer_is_that_of_the_token_middleware(server: ServerProcess) -> None:
    answer = server.client().get("/compute/v2.1/images")
    assert answer.status_code == 401, told(answer)
    assert answer.json()["error"]["title"] == "Unauthorized"
    assert answer.headers["www-authenticate"].startswith("Keystone uri=")


def test_at_an_address_of_its_own_the_view_stands_at_the_root(server_with: ServerWith) -> None:
    bind = f"127.0.0.1:{free_port()}"
    running = server_with({"compute": {"bind": bind}})
    demo = running.demo
    at_bind = Client(f"http://{bind}", demo.token)
    try:
        fresh = demo.create(name="own address")
        assert [item["id"] for item in at_bind.get("/").json()["versions"]] == ["v2.0", "v2.1"]
        for path in (f"/v2.1/images/{fresh['id']}", f"/v2/{demo.project_id}/images/{fresh['id']}"):
            answer = at_bind.get(path)
            assert answer.status_code == 200, told(answer)
            hrefs = [link["href"] for link in answer.json()["image"]["links"]]
            assert hrefs[0] == f"http://{bind}{path}"
            assert hrefs[2].startswith(f"{demo.base_url}/")
        assert "schema" not in at_bind.get("/v2/images").json()
        refused = at_bind.get("/v2/images/nowhere")
        assert refused.json()["itemNotFound"]["code"] == 404
        unknown = Client(f"http://{bind}").get("/v2.1/images")
        assert unknown.headers["www-authenticate"] == f'Keystone uri="{demo.base_url}/v3"'
    finally:
        at_bind.close()
