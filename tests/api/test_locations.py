"""Locations by POST and GET: every row of API §16, and what becomes of the task."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.api.test_locations_by_patch import FORMATS, STORES, data_of, operation, patch, queued
from tests.conftest import Running, ServerWith
from tests.support.server import Client, merged, told
from tests.support.web import Web, allowing

DATA = os.urandom(300_000)
OTHER = os.urandom(len(DATA))
HASHED = allowing()
UNHASHED = allowing(hash_locations=False)
WAIT_SECONDS = 60.0


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with Web() as running:
        yield running


@pytest.fixture
def running(server_with: ServerWith) -> Running:
    return server_with(HASHED)


@pytest.fixture
def url(web: Web, mark: str) -> str:
    """A URL of the test's own with DATA behind it."""
    return web.put(mark, DATA)


@pytest.fixture(scope="module")
def services(server_with: ServerWith) -> dict[str, Client]:
    """A service without any other role, and one that is a member as well, by name."""
    return server_with(HASHED).server.provision(
        {
            "nova": ("compute", ["service"]),
            "cinder": ("volumes", ["service", "member"]),
            "reader": ("volumes", ["reader"]),
        }
    )


def validation(data: bytes, algorithm: str = "sha256") -> dict[str, str]:
    return {
        "os_hash_algo": algorithm,
        "os_hash_value": hashlib.new(algorithm, data).hexdigest(),
    }


def post(
    client: Client, image_id: str, url: str, values: dict[str, Any] | None = None
) -> httpx.Response:
    body: dict[str, Any] = {"url": url}
    if values is not None:
        body["validation_data"] = values
    return client.post(f"/v2/images/{image_id}/locations", json=body)


def tasks(client: Client, image_id: str) -> list[dict[str, Any]]:
    answer = client.get(f"/v2/images/{image_id}/tasks")
    assert answer.status_code == 200, told(answer)
    found: list[dict[str, Any]] = answer.json()["tasks"]
    return found


def ended(client: Client, image_id: str) -> dict[str, Any]:
    """The image's task, once it has ended."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        (task,) = tasks(client, image_id)
        if task["status"] in ("success", "failure"):
            return task
        time.sleep(0.05)
    raise AssertionError(f"the task did not end: {task}")


def until(client: Client, image_id: str, **state: Any) -> dict[str, Any]:
    """The image, once it is in this state."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        image = client.show(image_id)
        if all(image.get(name) == value for name, value in state.items()):
            return image
        time.sleep(0.02)
    raise AssertionError(f"never {state}: {image}")


def digests(image: dict[str, Any]) -> tuple[Any, Any, Any]:
    return image["checksum"], image["os_hash_algo"], image["os_hash_value"]


MD5 = hashlib.md5(DATA).hexdigest()
SHA512 = hashlib.sha512(DATA).hexdigest()
NOTHING = (None, None, None)

# --- the table of hash_locations and validation_data -------------------------------------------------


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512", "md5"])
def test_with_a_digest_the_data_is_checked_before_the_image_is_active(
    running: Running, url: str, algorithm: str
) -> None:
    values = validation(DATA, algorithm)
    image_id = queued(running.demo)
    answer = post(running.demo, image_id, url, values)
    assert (answer.status_code, answer.content) == (202, b""), told(answer)
    assert ended(running.demo, image_id)["status"] == "success"
    image = running.demo.show(image_id)
    assert (image["status"], image["size"], image["virtual_size"]) == ("active", len(DATA), None)
    assert digests(image) == (MD5, algorithm, values["os_hash_value"])
    assert image["locations"] == [{"url": url, "metadata": {}}]
    assert "os_glance_import_task" not in image
    assert data_of(running.demo, image_id) == DATA


def test_data_with_another_digest_leaves_the_image_queued_without_location(
    running: Running, url: str
) -> None:
    image_id = queued(running.demo)
    assert post(running.demo, image_id, url, validation(OTHER)).status_code == 202
    task = ended(running.demo, image_id)
    assert task["status"] == "failure"
    assert hashlib.sha256(DATA).hexdigest() in task["message"], "the reason is told"
    image = running.demo.show(image_id)
    assert (image["status"], image["size"]) == ("queued", None)
    assert digests(image) == NOTHING
    assert image["locations"] == []
    assert "sha256" in image["last_error"]
    assert running.demo.get(f"/v2/images/{image_id}/file").status_code == 204
    assert post(running.demo, image_id, url, validation(DATA)).status_code == 202
    image = until(running.demo, image_id, status="active")
    assert "last_error" not in image


def test_without_a_digest_the_image_is_active_and_hashed_afterwards(
    running: Running, web: Web, mark: str
) -> None:
    url = web.put(mark, DATA, rate_bytes=len(DATA))
    image_id = queued(running.demo)
    assert post(running.demo, image_id, url).status_code == 202
    image = until(running.demo, image_id, status="active")
    assert (image["checksum"], image["os_hash_value"]) == (None, None)
    assert image["os_hash_algo"] == "sha512", "what is to come is told"
    assert "os_glance_import_task" not in image
    assert ended(running.demo, image_id)["status"] == "success"
    assert digests(running.demo.show(image_id)) == (MD5, "sha512", SHA512)
    assert data_of(running.demo, image_id) == DATA


def test_an_empty_validation_data_is_none(running: Running, url: str) -> None:
    image_id = queued(running.demo)
    assert post(running.demo, image_id, url, {}).status_code == 202
    assert ended(running.demo, image_id)["status"] == "success"
    assert digests(running.demo.show(image_id)) == (MD5, "sha512", SHA512)


def test_data_that_cannot_be_hashed_afterwards_stays_active_without_digests(
    running: Running, web: Web, mark: str
) -> None:
    url = web.put(mark, DATA, rate_bytes=len(DATA) // 2)
    image_id = queued(running.demo)
    assert post(running.demo, image_id, url).status_code == 202
    until(running.demo, image_id, status="active")
    web[mark].is_cut, web[mark].status = True, 404
    task = ended(running.demo, image_id)
    assert task["status"] == "failure"
    assert "missing" in task["message"], "the reason is told"
    image = running.demo.show(image_id)
    assert (image["status"], image["size"]) == ("active", len(DATA))
    assert digests(image) == NOTHING
    assert [each["url"] for each in image["locations"]] == [url]
    web[mark].is_cut, web[mark].status = False, 200
    assert data_of(running.demo, image_id) == DATA


def test_hashing_is_tried_again(running: Running, web: Web, mark: str) -> None:
    url = web.put(mark, DATA, rate_bytes=len(DATA) // 2)
    image_id = queued(running.demo)
    assert post(running.demo, image_id, url).status_code == 202
    until(running.demo, image_id, status="active")
    began = len(web.asked)
    web[mark].is_cut, web[mark].status = True, 404
    while len(web.asked) == began:
        time.sleep(0.01)
    web[mark].is_cut, web[mark].status, web[mark].rate_bytes = False, 200, 0
    assert ended(running.demo, image_id)["status"] == "success"
    assert digests(running.demo.show(image_id)) == (MD5, "sha512", SHA512)


def test_unhashed_with_a_digest_the_values_are_taken_as_given(
    server_with: ServerWith, url: str
) -> None:
    running = server_with(UNHASHED)
    values = validation(DATA)
    image_id = queued(running.demo)
    assert post(running.demo, image_id, url, values).status_code == 202
    assert ended(running.demo, image_id)["status"] == "success"
    image = running.demo.show(image_id)
    assert image["status"] == "active"
    assert digests(image) == (None, "sha256", values["os_hash_value"])
    assert data_of(running.demo, image_id) == DATA


def test_unhashed_with_a_wrong_digest_the_data_is_never_given_whole(
    server_with: ServerWith, url: str
) -> None:
    running = server_with(UNHASHED)
    image_id = queued(running.demo)
    assert post(running.demo, image_id, url, validation(OTHER)).status_code == 202
    assert ended(running.demo, image_id)["status"] == "success"
    with pytest.raises((httpx.RemoteProtocolError, AssertionError)):
        data_of(running.demo, image_id)


@pytest.mark.parametrize("etag", ['"one"', None], ids=["validator", "no validator"])
def test_unhashed_without_a_digest_there_are_none(
    server_with: ServerWith, web: Web, mark: str, etag: str | None
) -> None:
    running = server_with(UNHASHED)
    image_id = queued(running.demo)
    assert post(running.demo, image_id, web.put(mark, DATA, etag=etag)).status_code == 202
    assert ended(running.demo, image_id)["status"] == "success"
    image = running.demo.show(image_id)
    assert image["status"] == "active"
    assert digests(image) == NOTHING
    assert data_of(running.demo, image_id) == DATA
    web[mark].data = OTHER
    with pytest.raises((httpx.RemoteProtocolError, AssertionError)) as refused:
        data_of(running.demo, image_id) if etag is None else _other(running, web, mark, image_id)
    assert refused.value


def _other(running: Running, web: Web, mark: str, image_id: str) -> None:
    web[mark].etag = '"two"'
    data_of(running.demo, image_id)


@pytest.mark.parametrize("config", [HASHED, UNHASHED], ids=["hashed", "unhashed"])
@pytest.mark.parametrize("values", [None, validation(DATA)], ids=["absent", "given"])
def test_a_url_that_gives_nothing_leaves_the_image_queued(
    server_with: ServerWith, web: Web, mark: str, config: Any, values: dict[str, str] | None
) -> None:
    running = server_with(config)
    for bad in (f"{web.url}/missing", web.put(mark, b""), web.put(f"{mark}-2", DATA, status=403)):
        image_id = queued(running.demo)
        assert post(running.demo, image_id, bad, values).status_code == 202
        task = ended(running.demo, image_id)
        assert task["status"] == "failure"
        assert task["message"]
        image = running.demo.show(image_id)
        assert (image["status"], image["size"]) == ("queued", None)
        assert digests(image) == NOTHING
        assert image["locations"] == []
        assert image["last_error"] == task["message"]
        for name in ("os_glance_import_task", "os_glance_failed_import"):
            assert name not in image


@pytest.mark.parametrize("missing", list(FORMATS))
def test_an_image_without_formats_stays_queued(running: Running, url: str, missing: str) -> None:
    image_id = queued(running.demo, **{missing: None})
    assert post(running.demo, image_id, url, validation(DATA)).status_code == 202
    task = ended(running.demo, image_id)
    assert task["status"] == "failure"
    assert missing in task["message"]
    assert running.demo.show(image_id)["status"] == "queued"


def test_a_task_that_adds_a_location_is_shown(running: Running, url: str) -> None:
    image_id = queued(running.demo)
    answer = post(running.demo, image_id, url)
    task = ended(running.demo, image_id)
    assert task["type"] == "location_import"
    assert task["image_id"] == image_id
    assert task["result"] == {"image_id": image_id}
    assert task["input"] == {"image_id": image_id, "loc_url": url, "validation_data": {}}
    assert task["request_id"] == answer.headers["x-openstack-request-id"]
    listed = running.admin.get("/v2/tasks", params={"type": "location_import"}).json()["tasks"]
    assert task["id"] in [each["id"] for each in listed]


# --- refusals -----------------------------------------------------------------------------------------

WEB = "http://93.184.215.14/x"
BODIES: dict[str, Any] = {
    "nothing": {},
    "no url": {"validation_data": {}},
    "null": {"url": None},
    "number": {"url": 1},
    "long": {"url": WEB + "x" * 255},
    "NUL": {"url": f"{WEB}\0"},
    "unknown key": {"url": WEB, "metadata": {}},
    "validation null": {"url": WEB, "validation_data": None},
    "validation text": {"url": WEB, "validation_data": "x"},
    "algorithm alone": {"url": WEB, "validation_data": {"os_hash_algo": "sha256"}},
    "value alone": {"url": WEB, "validation_data": {"os_hash_value": "0" * 64}},
    "checksum": {"url": WEB, "validation_data": validation(DATA) | {"checksum": MD5}},
    "unknown algorithm": {
        "url": WEB, "validation_data": validation(DATA) | {"os_hash_algo": "sha123"},
    },
    "wrong length": {
        "url": WEB, "validation_data": validation(DATA) | {"os_hash_algo": "sha512"},
    },
    "no hex": {
        "url": WEB, "validation_data": {"os_hash_algo": "sha256", "os_hash_value": "x" * 64},
    },
    "value a list": {
        "url": WEB, "validation_data": {"os_hash_algo": "sha256", "os_hash_value": []},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_a_body_of_the_wrong_shape_is_refused(running: Running, name: str) -> None:
    image_id = queued(running.demo)
    answer = running.demo.post(f"/v2/images/{image_id}/locations", json=BODIES[name])
    assert answer.status_code == 400, told(answer)
    assert running.demo.show(image_id)["status"] == "queued"
    assert tasks(running.demo, image_id) == []


@pytest.mark.parametrize(
    "bad",
    [
        "file:///etc/passwd", "filesystem:///etc/passwd", "swift+config://ref/x/y",
        "s3://x/y", "rbd://a/b/c/d", "gopher://info.cern.ch", "memory://main/x", "", "x", "http:",
        "http://user:secret@example.org/x", "http://169.254.169.254/latest", "http://[::1]/x",
        "http://2130706433/x", "http://127.1/x", "http://10.0.0.1/x",
    ],
)  # fmt: skip
@pytest.mark.parametrize("who", ["demo", "admin", "nova"])
def test_urls_that_nobody_may_use_are_refused_at_once(
    running: Running, services: dict[str, Client], who: str, bad: str
) -> None:
    client = {"demo": running.demo, "admin": running.admin}.get(who) or services[who]
    owner = running.admin if who == "nova" else client
    image_id = queued(owner, visibility="public" if who != "demo" else "shared")
    answer = post(client, image_id, bad)
    assert answer.status_code == 400, told(answer)
    assert running.admin.show(image_id)["status"] == "queued"


def test_only_a_queued_image_takes_one(running: Running, web: Web, url: str, mark: str) -> None:
    slow = web.put(f"{mark}-slow", DATA, rate_bytes=len(DATA))
    image_id = queued(running.demo)
    assert post(running.demo, image_id, slow, validation(DATA)).status_code == 202
    assert running.demo.show(image_id)["status"] == "importing"
    assert post(running.demo, image_id, url).status_code == 409
    assert running.demo.get(f"/v2/images/{image_id}/file").status_code == 204
    assert ended(running.demo, image_id)["status"] == "success"
    assert post(running.demo, image_id, url).status_code == 409
    running.demo.post(f"/v2/images/{image_id}/actions/deactivate")
    assert post(running.demo, image_id, url).status_code == 409


def test_an_unknown_or_deleted_image_is_not_found(running: Running, url: str) -> None:
    image_id = queued(running.demo)
    running.demo.delete(f"/v2/images/{image_id}")
    for unknown in (image_id, "11111111-2222-4333-8444-555555555555", "x"):
        assert post(running.demo, unknown, url).status_code == 404
        assert running.admin.get(f"/v2/images/{unknown}/locations").status_code == 404


def test_other_methods_are_not_allowed(running: Running) -> None:
    image_id = queued(running.demo)
    for method in ("PUT", "DELETE", "PATCH"):
        answer = running.demo.request(method, f"/v2/images/{image_id}/locations")
        assert answer.status_code == 405, told(answer)
        assert answer.headers["allow"] in ("GET, POST", "POST, GET")


def test_without_an_http_store_only_services_and_administrators_come_so_far(
    default: Running, url: str
) -> None:
    image_id = queued(default.demo)
    assert post(default.demo, image_id, url).status_code == 403
    assert post(default.admin, image_id, url).status_code == 400, "no store takes the scheme"


# --- who --------------------------------------------------------------------------------------------


def test_who_may_add_and_who_may_read(
    running: Running, services: dict[str, Client], url: str
) -> None:
    public = queued(running.admin, visibility="public")
    private = queued(running.demo)
    nova, member, reader = services["nova"], services["cinder"], services["reader"]
    for client in (reader, running.demo):
        assert post(client, public, url).status_code == 403
        assert client.get(f"/v2/images/{public}/locations").status_code == 403
    for client in (reader, nova, member):
        assert post(client, private, url).status_code == 404
        assert client.get(f"/v2/images/{private}/locations").status_code == 404
    assert running.demo.get(f"/v2/images/{private}/locations").status_code == 403
    assert post(nova, public, url).status_code == 202
    until(running.admin, public, status="active")
    assert nova.get(f"/v2/images/{public}").status_code == 404, "it may not read images"
    for client in (nova, member, running.admin):
        answer = client.get(f"/v2/images/{public}/locations")
        assert answer.status_code == 200, told(answer)
        assert answer.json() == [{"url": url, "metadata": {}}]


def test_without_data_there_is_nothing_to_list(running: Running) -> None:
    image_id = queued(running.admin)
    answer = running.admin.get(f"/v2/images/{image_id}/locations")
    assert (answer.status_code, answer.json()) == (200, [])
    refused = running.admin.request("GET", f"/v2/images/{image_id}/locations", content=b"{}")
    assert refused.status_code == 400


def test_it_works_without_the_option_for_patches(server_with: ServerWith, url: str) -> None:
    running = server_with(merged(HASHED, {"images": {"show_multiple_locations": False}}))
    image_id = queued(running.demo)
    assert post(running.demo, image_id, url).status_code == 202
    image = until(running.demo, image_id, status="active")
    assert "locations" not in image
    assert len(running.admin.get(f"/v2/images/{image_id}/locations").json()) == 1


def test_with_several_stores_the_location_names_its_own(server_with: ServerWith, url: str) -> None:
    running = server_with(STORES)
    image_id = queued(running.demo)
    assert post(running.demo, image_id, url).status_code == 202
    assert until(running.demo, image_id, status="active")["stores"] == "web"
    listed = running.admin.get(f"/v2/images/{image_id}/locations").json()
    assert listed == [{"url": url, "metadata": {"store": "web"}}]


# --- objects in stores of our own --------------------------------------------------------------------


def test_a_service_hands_over_an_object_that_it_put_into_a_store(
    running: Running, services: dict[str, Client], mark: str
) -> None:
    folder = running.server.store_path()
    own = folder / mark[:2] / mark
    own.parent.mkdir(exist_ok=True)
    own.write_bytes(DATA)
    image_id = queued(running.admin, visibility="public")
    for client in (running.admin, running.demo):
        other = queued(client)
        assert post(client, other, own.as_uri()).status_code == 400
    answer = post(services["nova"], image_id, own.as_uri(), validation(DATA))
    assert answer.status_code == 202, told(answer)
    image = until(running.admin, image_id, status="active")
    assert digests(image)[0] == MD5
    assert data_of(running.admin, image_id) == DATA
    again = queued(running.admin, visibility="public")
    assert post(services["nova"], again, own.as_uri()).status_code == 202
    failed = until(running.admin, again, status="queued")
    assert "belongs to an image" in failed["last_error"]
    assert running.admin.delete(f"/v2/images/{image_id}").status_code == 204
    assert not own.exists()


def test_a_service_reaches_nothing_outside_the_store(
    running: Running, services: dict[str, Client], mark: str
) -> None:
    folder = running.server.store_path()
    inside = folder / mark[:2]
    inside.mkdir(exist_ok=True)
    secret = running.server.folder / f"secret-{mark}"
    secret.write_bytes(DATA)
    link = inside / f"{mark}-link"
    link.symlink_to(secret)
    (inside / f"{mark}-folder").mkdir()
    elsewhere = folder / "zz"
    elsewhere.mkdir(exist_ok=True)
    (elsewhere / mark).write_bytes(DATA)
    partial = folder / ".partial" / mark
    partial.write_bytes(DATA)
    image_id = queued(running.admin, visibility="public")
    for path in (
        str(secret),
        str(link),
        str(inside / f"{mark}-folder"),
        str(elsewhere / mark),
        str(partial),
        str(inside / f"{mark}-missing"),
        f"{folder}/{mark[:2]}/../{mark[:2]}/{mark}",
        f"{folder}/{mark[:2]}/%2e%2e/{mark}",
        f"{folder}",
        "/etc/passwd",
        "/dev/zero",
        "/proc/self/environ",
    ):
        for scheme in ("file://", "filesystem://", "file://localhost", "FILE://"):
            answer = post(services["nova"], image_id, f"{scheme}{path}"[:255])
            assert answer.status_code == 400, told(answer)
    assert running.admin.show(image_id)["status"] == "queued"


# --- while it goes on --------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [None, validation(DATA)], ids=["active", "importing"])
def test_deleting_the_image_ends_the_hashing(
    running: Running, web: Web, mark: str, values: dict[str, str] | None
) -> None:
    url = web.put(mark, DATA, rate_bytes=len(DATA) // 10)
    image_id = queued(running.demo)
    assert post(running.demo, image_id, url, values).status_code == 202
    until(running.demo, image_id, status="active" if values is None else "importing")
    time.sleep(0.3)
    task_id = tasks(running.demo, image_id)[0]["id"]
    began = time.monotonic()
    assert running.demo.delete(f"/v2/images/{image_id}").status_code == 204
    while True:
        task = running.admin.get(f"/v2/tasks/{task_id}").json()
        if task["status"] == "failure":
            break
        assert time.monotonic() - began < 9, "reading all of it would take ten seconds"
        time.sleep(0.05)


def test_other_changes_go_on_meanwhile(running: Running, web: Web, url: str, mark: str) -> None:
    slow = web.put(f"{mark}-slow", DATA, rate_bytes=len(DATA))
    image_id = queued(running.demo)
    assert post(running.demo, image_id, slow).status_code == 202
    until(running.demo, image_id, status="active")
    assert patch(running.demo, image_id, operation("replace", "/name", "new")).status_code == 200
    answer = patch(
        running.demo, image_id, operation("add", "/locations/-", {"url": url, "metadata": {}})
    )
    assert answer.status_code == 200, told(answer)
    assert ended(running.demo, image_id)["status"] == "success"
    image = running.demo.show(image_id)
    assert (image["name"], len(image["locations"])) == ("new", 2)
    assert digests(image) == (MD5, "sha512", SHA512)


def test_a_project_over_its_limit_gets_no_location(server_with: ServerWith, url: str) -> None:
    running = server_with(merged(HASHED, {"limits": {"project_bytes_max": len(DATA) + 10}}))
    first, second = queued(running.demo), queued(running.demo)
    assert post(running.demo, first, url).status_code == 202
    assert ended(running.demo, first)["status"] == "success"
    assert post(running.demo, second, url).status_code == 202
    task = ended(running.demo, second)
    assert (task["status"], "limit" in task["message"]) == ("failure", True)
    assert running.demo.show(second)["status"] == "queued"


def test_a_copy_of_data_elsewhere_is_the_image(
    server_with: ServerWith, web: Web, mark: str
) -> None:
    running = server_with(merged(STORES, {"imports": {"methods": ["copy-image", "web-download"]}}))
    url = web.put(mark, DATA)
    image_id = queued(running.admin)
    assert post(running.admin, image_id, url).status_code == 202
    assert ended(running.admin, image_id)["status"] == "success"
    answer = running.admin.post(
        f"/v2/images/{image_id}/import",
        json={"method": {"name": "copy-image"}, "all_stores": True},
    )
    assert answer.status_code == 202, told(answer)
    image = until(running.admin, image_id, os_glance_importing_to_stores="")
    assert set(image["stores"].split(",")) == {"main", "second", "web"}
    web.files.pop(f"/{mark}")
    assert data_of(running.admin, image_id) == DATA


# --- reading ------------------------------------------------------------------------------------------


def test_ranges_are_read_where_the_server_has_them(running: Running, web: Web, mark: str) -> None:
    image_id = queued(running.demo)
    assert post(running.demo, image_id, web.put(mark, DATA)).status_code == 202
    assert ended(running.demo, image_id)["status"] == "success"
    path, headers = f"/v2/images/{image_id}/file", {"Range": "bytes=1000-1999"}
    answer = running.demo.get(path, headers=headers)
    assert (answer.status_code, answer.content) == (206, DATA[1000:2000])
    web[mark].takes_ranges = False
    answer = running.demo.get(path, headers=headers)
    assert answer.status_code == 400, told(answer)
    assert running.demo.get(path, headers={"Range": "bytes=0-9"}).content == DATA[:10]
    assert data_of(running.demo, image_id) == DATA
    web[mark].etag = '"other"'
    web[mark].takes_ranges = True
    assert running.demo.get(path, headers=headers).status_code == 404
    assert running.demo.get(path).status_code == 404


def test_a_server_without_validators_gives_the_whole_and_no_part(
    running: Running, web: Web, mark: str
) -> None:
    image_id = queued(running.demo)
    assert post(running.demo, image_id, web.put(mark, DATA, etag=None)).status_code == 202
    assert ended(running.demo, image_id)["status"] == "success"
    path = f"/v2/images/{image_id}/file"
    assert data_of(running.demo, image_id) == DATA
    answer = running.demo.get(path, headers={"Range": "bytes=1-2"})
    assert answer.status_code == 400, told(answer)
    web[mark].data = OTHER
    with pytest.raises((httpx.RemoteProtocolError, AssertionError)):
        data_of(running.demo, image_id)


def test_what_nothing_can_prove_yet_is_not_given(running: Running, web: Web, mark: str) -> None:
    url = web.put(mark, DATA, etag=None, rate_bytes=len(DATA))
    image_id = queued(running.demo)
    assert post(running.demo, image_id, url).status_code == 202
    until(running.demo, image_id, status="active")
    answer = running.demo.get(f"/v2/images/{image_id}/file")
    if answer.status_code != 503:
        assert running.demo.show(image_id)["checksum"] == MD5, told(answer)
    assert ended(running.demo, image_id)["status"] == "success"
    assert data_of(running.demo, image_id) == DATA


def test_a_source_that_is_away_is_unavailable(running: Running, web: Web, mark: str) -> None:
    image_id = queued(running.demo)
    assert post(running.demo, image_id, web.put(mark, DATA)).status_code == 202
    assert ended(running.demo, image_id)["status"] == "success"
    web[mark].status = 503
    answer = running.demo.get(f"/v2/images/{image_id}/file")
    assert answer.status_code == 503, told(answer)
    web[mark].status = 200
    assert data_of(running.demo, image_id) == DATA
