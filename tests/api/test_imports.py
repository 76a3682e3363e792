"""Imports: every row of what may be asked, what is refused, and how they end (API §10)."""

from __future__ import annotations

import gzip
import hashlib
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api import disk_images
from tests.api.checks import EMPTY
from tests.api.configs import IMPORTS, IMPORTS_TO_STORES
from tests.conftest import MakeServer, Running, ServerWith
from tests.support.importing import (
    active_image,
    content_of,
    download,
    ended,
    fails,
    imports,
    new_image,
    stage,
    start,
    tasks_of,
)
from tests.support.server import Client, merged, told
from tests.support.waiting import until
from tests.support.web import Web

DATA = b"muntin and mullion, " * 5000
METHODS = ("glance-direct", "web-download", "copy-image", "glance-download")
LISTS = ("os_glance_importing_to_stores", "os_glance_failed_import")
LOCK = "os_glance_import_task"


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    """A web server on this machine, which the servers may read from."""
    with Web() as running:
        yield running


@pytest.fixture
def one(server_with: ServerWith) -> Running:
    """One store."""
    return server_with(IMPORTS)


@pytest.fixture
def several(server_with: ServerWith) -> Running:
    """Three stores that take data, and one that does not."""
    return server_with(IMPORTS_TO_STORES)


def staged(client: Client, data: bytes = DATA, **attributes: Any) -> str:
    """An image whose data waits."""
    image_id = new_image(client, **attributes)
    answer = stage(client, image_id, data)
    assert answer.status_code == 204, told(answer)
    return image_id


def ready(client: Client, method: str) -> str:
    """An image in the status that the method needs."""
    if method == "glance-direct":
        return staged(client)
    return active_image(client, DATA) if method == "copy-image" else new_image(client)


def arguments(method: str, web: Web) -> dict[str, Any]:
    """A method with good arguments."""
    more = {
        "web-download": {"uri": f"{web.url}/nothing-there"},
        "glance-download": {"glance_region": "Elsewhere", "glance_image_id": str(uuid.uuid4())},
    }
    return {"name": method, **more.get(method, {})}


def patch(client: Client, image_id: str, **values: Any) -> None:
    """Replace attributes."""
    answer = client.patch(
        f"/v2/images/{image_id}",
        [{"op": "add", "path": f"/{name}", "value": value} for name, value in values.items()],
    )
    assert answer.status_code == 200, told(answer)


class TestBody:
    """What may be asked (API §10.1)."""

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"no json",
            b"[]",
            b'"web-download"',
            b"{}",
            b'{"method": null}',
            b'{"method": "web-download"}',
            b'{"method": ["web-download"]}',
            b'{"method": {}}',
            b'{"method": {"name": null}}',
            b'{"method": {"name": 7}}',
            b'{"method": {"name": "rsync"}}',
            b'{"method": {"name": ["web-download"]}}',
        ],
    )
    def test_without_a_known_method_400(self, one: Running, body: bytes) -> None:
        image_id = new_image(one.demo)
        answer = one.demo.post(f"/v2/images/{image_id}/import", content=body)
        assert answer.status_code == 400, told(answer)
        assert one.demo.show(image_id)["status"] == "queued"

    def test_method_that_is_off_is_unknown(self, server_with: ServerWith, web: Web) -> None:
        demo = server_with({"imports": {"methods": ["web-download"]}}).demo
        for method in ("glance-direct", "copy-image", "glance-download"):
            answer = start(demo, new_image(demo), arguments(method, web))
            assert answer.status_code == 400, told(answer)
            assert method in answer.text

    @pytest.mark.parametrize("uri", [None, "", 7, [], "/etc/passwd", "disk.raw", "http://"])
    def test_web_download_needs_a_url(self, one: Running, uri: Any) -> None:
        image_id = new_image(one.demo)
        method = {"name": "web-download"} if uri is None else download(uri)
        answer = start(one.demo, image_id, method)
        assert answer.status_code == 400, told(answer)
        assert tasks_of(one.demo, image_id) == []

    @pytest.mark.parametrize(
        "wrong",
        [
            {"mirrors": "http://127.0.0.1/x"},
            {"mirrors": [7]},
            {"mirrors": ["http://127.0.0.1/x"] * 9},
            {"mirrors": ["ftp://127.0.0.1/x"]},
            {"checksums_uri": 7},
            {"checksums_uri": "file:///etc/passwd"},
            {"os_hash_algo": "sha256"},
            {"os_hash_value": "00"},
            {"os_hash_algo": "sha256", "os_hash_value": "00"},
            {"os_hash_algo": "sha256", "os_hash_value": "g" * 64},
            {"os_hash_algo": "shake_128", "os_hash_value": "00" * 16},
            {"os_hash_algo": "rot13", "os_hash_value": "00"},
            {"os_hash_algo": 7, "os_hash_value": "00"},
        ],
        ids=str,
    )
    def test_further_arguments_must_be_right(self, one: Running, web: Web, wrong: Any) -> None:
        image_id = new_image(one.demo)
        answer = start(one.demo, image_id, download(f"{web.url}/disk", **wrong))
        assert answer.status_code == 400, told(answer)
        assert one.demo.show(image_id)["status"] == "queued"

    @pytest.mark.parametrize(
        "more",
        [
            {},
            {"glance_region": "One"},
            {"glance_image_id": str(uuid.UUID(int=1))},
            {"glance_region": "One", "glance_image_id": "no-uuid"},
            {"glance_region": 7, "glance_image_id": str(uuid.UUID(int=1))},
            {
                "glance_region": "One",
                "glance_image_id": str(uuid.UUID(int=1)),
                "glance_service_interface": 7,
            },
        ],
        ids=str,
    )
    def test_glance_download_needs_region_and_image(self, one: Running, more: Any) -> None:
        answer = start(one.demo, new_image(one.demo), {"name": "glance-download", **more})
        assert answer.status_code == 400, told(answer)

    def test_glance_download_needs_a_catalogue(self, one: Running, web: Web) -> None:
        answer = start(one.demo, new_image(one.demo), arguments("glance-download", web))
        assert answer.status_code == 400, told(answer)
        assert "Keystone" in answer.text

    @pytest.mark.parametrize("name", ["all_stores", "all_stores_must_succeed"])
    @pytest.mark.parametrize("value", ["true", 1, None, []])
    def test_flags_are_booleans(self, one: Running, web: Web, name: str, value: Any) -> None:
        body: dict[str, Any] = {name: value}
        answer = start(one.demo, new_image(one.demo), download(f"{web.url}/disk"), **body)
        assert answer.status_code == 400, told(answer)

    def test_one_store_cannot_be_told_that_some_may_fail(self, one: Running, web: Web) -> None:
        answer = start(
            one.demo,
            new_image(one.demo),
            download(f"{web.url}/disk"),
            all_stores_must_succeed=False,
        )
        assert answer.status_code == 400, told(answer)

    def test_one_store_takes_both_flags_at_their_least(self, one: Running, web: Web) -> None:
        # As openstackclient sends them with every import.
        how = {"all_stores": False, "all_stores_must_succeed": False}
        image = imports(one.demo, staged(one.demo), "glance-direct", **how)
        assert image["status"] == "active"
        image_id = new_image(one.demo)
        task = fails(one.demo, image_id, download(f"{web.url}/none"), **how)
        assert one.demo.show(image_id)["last_error"] == task["message"]

    def test_with_one_store_stores_are_not_looked_at(self, one: Running) -> None:
        for how in (
            {"stores": ["nowhere"]},
            {"all_stores": True},
            {"header_store": "nowhere"},
            {"stores": ["nowhere"], "all_stores": True, "header_store": "nowhere"},
        ):
            image = imports(one.demo, staged(one.demo), "glance-direct", **how)
            assert image["status"] == "active"
            assert "stores" not in image

    @pytest.mark.parametrize(
        ("how", "status"),
        [
            ({"stores": ["nowhere"]}, 409),
            ({"stores": ["main", "nowhere"]}, 409),
            ({"stores": ["web"]}, 409),
            ({"stores": ["os_glance_staging_store"]}, 409),
            ({"header_store": "nowhere"}, 409),
            ({"header_store": "web"}, 409),
            ({"stores": "main"}, 400),
            ({"stores": [7]}, 400),
            ({"stores": {"main": True}}, 400),
            ({"stores": ["main"], "header_store": "second"}, 400),
            ({"stores": ["main"], "all_stores": True}, 400),
            ({"all_stores": True, "header_store": "second"}, 400),
        ],
        ids=str,
    )
    def test_stores_must_be_there_and_named_once(
        self, several: Running, how: dict[str, Any], status: int
    ) -> None:
        image_id = staged(several.demo)
        answer = start(several.demo, image_id, "glance-direct", **how)
        assert answer.status_code == status, told(answer)
        assert several.demo.show(image_id)["status"] == "uploading"
        assert tasks_of(several.demo, image_id) == []

    def test_other_methods_are_405(self, one: Running) -> None:
        for method in ("GET", "PUT", "DELETE", "PATCH"):
            answer = one.demo.request(method, f"/v2/images/{new_image(one.demo)}/import")
            assert answer.status_code == 405, told(answer)
            assert answer.headers["allow"] == "POST"


class TestRefusals:
    """What is not possible now, or not for everyone (API §10.3, §23)."""

    @pytest.mark.parametrize("method", METHODS[:3])
    def test_unknown_image_is_404(self, several: Running, web: Web, method: str) -> None:
        for image_id in (str(uuid.uuid4()), "no-uuid"):
            answer = start(several.demo, image_id, arguments(method, web))
            assert answer.status_code == 404, told(answer)

    def test_without_a_token_401(self, one: Running, web: Web) -> None:
        answer = start(one.server.client(), new_image(one.demo), arguments("web-download", web))
        assert answer.status_code == 401, told(answer)

    @pytest.mark.parametrize("method", METHODS[:3])
    @pytest.mark.parametrize("status", ["queued", "uploading", "active", "deactivated"])
    def test_status_decides(self, several: Running, web: Web, method: str, status: str) -> None:
        image_id = ready(
            several.demo,
            {"uploading": "glance-direct", "queued": "web-download"}.get(status, "copy-image"),
        )
        if status == "deactivated":
            several.demo.post(f"/v2/images/{image_id}/actions/deactivate")
        needs = {"glance-direct": "uploading", "web-download": "queued", "copy-image": "active"}
        if needs[method] == status:
            return
        # An administrator, for whom no policy stands before the status.
        before = several.admin.show(image_id)
        answer = start(several.admin, image_id, arguments(method, web), stores=["second"])
        assert answer.status_code == 409, told(answer)
        assert several.admin.show(image_id) == before
        assert tasks_of(several.admin, image_id) == []

    @pytest.mark.parametrize("method", ["glance-direct", "web-download"])
    @pytest.mark.parametrize("unset", ["disk_format", "container_format"])
    def test_formats_must_be_set(self, one: Running, web: Web, method: str, unset: str) -> None:
        image_id = new_image(one.demo, **{unset: None})
        if method == "glance-direct":
            stage(one.demo, image_id)
        answer = start(one.demo, image_id, arguments(method, web))
        assert answer.status_code == 409, told(answer)
        assert "must be set" in answer.text

    def test_copies_are_the_administrators_business(self, several: Running) -> None:
        image_id = active_image(several.demo, DATA)
        answer = start(several.demo, image_id, "copy-image", stores=["second"])
        assert answer.status_code == 403, told(answer)
        assert imports(several.admin, image_id, "copy-image", stores=["second"])

    def test_copy_needs_a_second_store(self, one: Running) -> None:
        image_id = active_image(one.demo, DATA)
        for how in ({}, {"stores": ["main"]}, {"all_stores": True}):
            answer = start(one.admin, image_id, "copy-image", **how)
            assert answer.status_code == 400, told(answer)

    def test_copy_to_a_named_store_that_has_it_is_400(self, several: Running) -> None:
        image_id = active_image(several.demo, DATA)
        for how in ({"stores": ["second", "main"]}, {"header_store": "main"}, {}):
            answer = start(several.admin, image_id, "copy-image", **how)
            assert answer.status_code == 400, told(answer)
            assert "already present" in answer.text
        assert tasks_of(several.admin, image_id) == []

    def test_copy_to_all_stores_when_all_have_it_does_nothing(self, several: Running) -> None:
        image_id = active_image(several.demo, DATA)
        imports(several.admin, image_id, "copy-image", all_stores=True)
        before, tasks = several.admin.show(image_id), tasks_of(several.admin, image_id)
        answer = start(several.admin, image_id, "copy-image", all_stores=True)
        assert answer.status_code == 202, told(answer)
        assert tasks_of(several.admin, image_id) == tasks
        assert several.admin.show(image_id) == before

    def test_image_is_locked_while_a_task_has_it(self, several: Running, web: Web) -> None:
        gate = threading.Event()
        url = web.put(f"{uuid.uuid4()}/disk", DATA, gate=gate)
        image_id = new_image(several.demo)
        try:
            assert start(several.demo, image_id, download(url)).status_code == 202
            task = tasks_of(several.demo, image_id)[0]
            shown = several.demo.show(image_id)
            assert shown["status"] == "importing"
            assert shown[LOCK] == task["id"]
            assert (shown[LISTS[0]], shown[LISTS[1]]) == ("main", "")
            for method in METHODS[:3]:
                answer = start(several.admin, image_id, arguments(method, web), stores=["second"])
                assert answer.status_code == 409, told(answer)
            assert stage(several.demo, image_id).status_code == 409
            assert several.demo.put_data(image_id, b"x").status_code == 409
            assert several.demo.get(f"/v2/images/{image_id}/file").status_code == 204
            for action in ("deactivate", "reactivate"):
                answer = several.demo.post(f"/v2/images/{image_id}/actions/{action}")
                assert answer.status_code == 403, told(answer)
            answer = several.admin.delete(f"/v2/stores/main/{image_id}")
            assert answer.status_code == 409, told(answer)
            patch(several.demo, image_id, anything="goes", name="renamed")
            assert several.demo.put(f"/v2/images/{image_id}/tags/new").status_code == 204
            for path in (LOCK, *LISTS):
                answer = several.admin.patch(
                    f"/v2/images/{image_id}", [{"op": "remove", "path": f"/{path}"}]
                )
                assert answer.status_code == 403, told(answer)
        finally:
            gate.set()
        assert ended(several.demo, image_id)["status"] == "success"
        shown = several.demo.show(image_id)
        assert (shown["status"], shown["anything"], shown["tags"]) == ("active", "goes", ["new"])
        assert LOCK not in shown

    def test_active_image_is_locked_while_it_is_copied(self, several: Running, web: Web) -> None:
        image_id = active_image(several.demo, DATA)
        answers = [
            start(several.admin, image_id, "copy-image", stores=[store]).status_code
            for store in ("second", "quick")
        ]
        assert answers[0] == 202
        # The first may have ended before the second began.
        assert answers[1] in (202, 409)
        ended(several.admin, image_id)
        assert several.demo.show(image_id)["status"] == "active"
        if answers[1] == 409:
            imports(several.admin, image_id, "copy-image", stores=["quick"])
        assert set(several.demo.show(image_id)["stores"].split(",")) == {"main", "second", "quick"}


class TestSuccess:
    """How an import ends well (API §10.5)."""

    def test_staged_data_becomes_the_image(self, one: Running) -> None:
        image_id = staged(one.demo)
        image = imports(one.demo, image_id, "glance-direct")
        assert image["status"] == "active"
        assert image["size"] == image["virtual_size"] == len(DATA)
        assert image["checksum"] == hashlib.md5(DATA).hexdigest()
        assert image["os_hash_algo"] == "sha512"
        assert image["os_hash_value"] == hashlib.sha512(DATA).hexdigest()
        assert (image[LISTS[0]], image[LISTS[1]]) == ("", "")
        assert LOCK not in image
        assert content_of(one.demo, image_id) == DATA
        until(lambda: not list((one.server.data / "staging").rglob(f"*{image_id}*")))
        again = start(one.demo, image_id, "glance-direct")
        assert again.status_code == 409, told(again)

    def test_fetched_data_becomes_the_image(self, several: Running, web: Web) -> None:
        url = web.put(f"{uuid.uuid4()}/disk", DATA)
        image_id = new_image(several.demo)
        image = imports(several.demo, image_id, download(url))
        assert (image["status"], image["stores"]) == ("active", "main")
        assert content_of(several.demo, image_id) == DATA

    @pytest.mark.parametrize(
        ("how", "stores"),
        [
            ({}, ["main"]),
            ({"stores": []}, ["main"]),
            ({"header_store": "second"}, ["second"]),
            ({"stores": ["second"]}, ["second"]),
            ({"stores": ["quick", "second", "quick"]}, ["quick", "second"]),
            ({"all_stores": True}, ["main", "quick", "second"]),
            ({"all_stores": True, "all_stores_must_succeed": False}, ["main", "quick", "second"]),
            ({"stores": ["main", "second"], "all_stores": False}, ["main", "second"]),
        ],
        ids=str,
    )
    def test_stores_are_filled_as_asked(
        self, several: Running, how: dict[str, Any], stores: list[str]
    ) -> None:
        image_id = staged(several.demo)
        image = imports(several.demo, image_id, "glance-direct", **how)
        assert sorted(image["stores"].split(",")) == stores
        assert (image[LISTS[0]], image[LISTS[1]]) == ("", "")
        for store in stores:
            assert content_of(several.demo, image_id, prefer=store) == DATA
        task = tasks_of(several.demo, image_id)[0]
        assert sorted(task["input"]["backend"]) == stores
        assert task["input"]["import_req"]["method"] == {"name": "glance-direct"}

    def test_copies_are_the_same_and_the_image_stays_active(self, several: Running) -> None:
        image_id = active_image(several.demo, DATA, checks="kept")
        before = several.demo.show(image_id)
        image = imports(several.admin, image_id, "copy-image", stores=["quick", "second"])
        assert set(image["stores"].split(",")) == {"main", "second", "quick"}
        for name in ("status", "size", "checksum", "os_hash_value", "checks", "virtual_size"):
            assert image[name] == before[name], name
        # What came in by a task goes as everything else goes.
        answer = several.admin.delete(f"/v2/stores/main/{image_id}")
        assert answer.status_code == 204, told(answer)
        assert content_of(several.demo, image_id) == DATA

    def test_copy_to_all_stores_fills_those_that_lack_it(self, several: Running) -> None:
        image_id = active_image(several.demo, DATA, store="second")
        image = imports(several.admin, image_id, "copy-image", all_stores=True)
        assert set(image["stores"].split(",")) == {"main", "second", "quick"}
        task = tasks_of(several.admin, image_id)[0]
        assert sorted(task["input"]["backend"]) == ["main", "quick"]

    def test_request_and_task_name_each_other(self, one: Running) -> None:
        image_id = staged(one.demo)
        answer = start(one.demo, image_id, "glance-direct")
        request_id = answer.headers["x-openstack-request-id"]
        task = ended(one.demo, image_id)
        assert task["request_id"] == request_id
        assert (task["image_id"], task["type"]) == (image_id, "api_image_import")
        assert (task["owner"], task["user_id"]) == (one.demo.project_id, one.demo.user_id)
        assert task["result"] == {"image_id": image_id}

    def test_task_belongs_to_who_asked(self, several: Running) -> None:
        image_id = active_image(several.demo, DATA)
        imports(several.admin, image_id, "copy-image", stores=["second"])
        assert tasks_of(several.demo, image_id) == [], "it is a task of the admin's project"
        assert tasks_of(several.admin, image_id)[0]["owner"] == several.admin.project_id

    def test_nothing_at_all_is_an_image_too(self, one: Running, web: Web) -> None:
        url = web.put(f"{uuid.uuid4()}/empty", b"")
        image = imports(one.demo, new_image(one.demo), download(url))
        assert (image["size"], image["checksum"]) == (0, hashlib.md5(b"").hexdigest())

    def test_redirects_within_what_is_allowed_are_followed(self, one: Running, web: Web) -> None:
        target = web.put(f"{uuid.uuid4()}/disk", DATA)
        url = web.put(f"{uuid.uuid4()}/moved", b"", status=302, location=target)
        assert imports(one.demo, new_image(one.demo), download(url))["size"] == len(DATA)

    def test_mirror_helps_where_the_first_source_has_nothing(self, one: Running, web: Web) -> None:
        url = web.put(f"{uuid.uuid4()}/disk", DATA)
        method = download(f"{web.url}/gone", mirrors=[f"{web.url}/gone-too", url])
        image = imports(one.demo, new_image(one.demo), method)
        assert image["checksum"] == hashlib.md5(DATA).hexdigest()

    def test_signature_of_the_image_stays_as_it_was_given(self, one: Running) -> None:
        image_id = staged(one.demo, name="named", min_ram=5, tags=["a"])
        image = imports(one.demo, image_id, "glance-direct")
        assert (image["name"], image["min_ram"], image["tags"]) == ("named", 5, ["a"])


class TestExpectedDigests:
    """Digests that the client or a list of checksums names."""

    @pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha3_512", "blake2b"])
    @pytest.mark.parametrize("method", ["glance-direct", "web-download"])
    def test_right_digest_lets_the_data_pass(
        self, one: Running, web: Web, algorithm: str, method: str
    ) -> None:
        value = hashlib.new(algorithm, DATA).hexdigest().upper()
        image_id = ready(one.demo, method)
        source = {"name": method, "os_hash_algo": algorithm, "os_hash_value": value}
        if method == "web-download":
            source["uri"] = web.put(f"{uuid.uuid4()}/disk", DATA)
        image = imports(one.demo, image_id, source)
        assert image["os_hash_value"] == hashlib.sha512(DATA).hexdigest()

    @pytest.mark.parametrize("method", ["glance-direct", "web-download"])
    def test_wrong_digest_fails_with_both_values(self, one: Running, web: Web, method: str) -> None:
        expected = hashlib.sha256(b"something else").hexdigest()
        image_id = ready(one.demo, method)
        source = {"name": method, "os_hash_algo": "sha256", "os_hash_value": expected}
        if method == "web-download":
            source["uri"] = web.put(f"{uuid.uuid4()}/disk", DATA)
        task = fails(one.demo, image_id, source)
        assert expected in task["message"]
        assert hashlib.sha256(DATA).hexdigest() in task["message"]
        image = one.demo.show(image_id)
        assert {name: image[name] for name in EMPTY} == EMPTY
        assert image["last_error"] == task["message"]

    @pytest.mark.parametrize("is_right", [True, False])
    def test_list_of_checksums_decides(self, one: Running, web: Web, is_right: bool) -> None:
        folder = uuid.uuid4()
        url = web.put(f"{folder}/the%20disk.img", DATA)
        value = hashlib.sha256(DATA if is_right else b"another").hexdigest()
        sums = f"{'0' * 64}  other.img\n{value} *the disk.img\n".encode()
        method = download(url, checksums_uri=web.put(f"{folder}/SHA256SUMS", sums))
        if is_right:
            assert imports(one.demo, new_image(one.demo), method)["status"] == "active"
        else:
            assert value in fails(one.demo, new_image(one.demo), method)["message"]

    def test_list_that_does_not_name_the_file_fails(self, one: Running, web: Web) -> None:
        url = web.put(f"{uuid.uuid4()}/disk", DATA)
        sums = web.put(f"{uuid.uuid4()}/SHA256SUMS", f"{'0' * 64}  other.img\n".encode())
        task = fails(one.demo, new_image(one.demo), download(url, checksums_uri=sums))
        assert "checksums_uri" in task["message"]


class TestFailures:
    """How an import ends badly, and what stays (API §10.6)."""

    def check_failed(self, client: Client, image_id: str, stores: str, message: str) -> None:
        """The image is as it was before, and says why."""
        image = client.show(image_id)
        assert {name: image[name] for name in EMPTY} == EMPTY
        assert (image[LISTS[0]], image[LISTS[1]]) == ("", stores)
        assert image["last_error"] == message
        assert LOCK not in image
        assert client.get(f"/v2/images/{image_id}/file").status_code == 204

    def test_source_that_is_not_there(self, several: Running, web: Web) -> None:
        image_id = new_image(several.demo)
        task = fails(several.demo, image_id, download(f"{web.url}/none"), stores=["second", "main"])
        assert "404" in task["message"]
        assert task["result"] is None
        failed = several.demo.show(image_id)[LISTS[1]]
        assert sorted(failed.split(",")) == ["main", "second"]
        self.check_failed(several.demo, image_id, failed, task["message"])

    def test_source_that_nobody_serves(self, one: Running) -> None:
        image_id = new_image(one.demo)
        task = fails(one.demo, image_id, download("http://127.0.0.1:9/disk"))
        self.check_failed(one.demo, image_id, "main", task["message"])

    def test_after_a_failure_success_takes_the_reason_away(self, one: Running, web: Web) -> None:
        image_id = new_image(one.demo)
        fails(one.demo, image_id, download(f"{web.url}/none"))
        image = imports(one.demo, image_id, download(web.put(f"{uuid.uuid4()}/disk", DATA)))
        assert "last_error" not in image
        assert (image[LISTS[0]], image[LISTS[1]]) == ("", "")
        assert [task["status"] for task in tasks_of(one.demo, image_id)] == ["success", "failure"]

    def test_after_a_failure_data_can_be_uploaded(self, one: Running, web: Web) -> None:
        image_id = new_image(one.demo)
        fails(one.demo, image_id, download(f"{web.url}/none"))
        one.demo.upload(image_id, DATA)

    @pytest.mark.parametrize("method", ["glance-direct", "web-download"])
    @pytest.mark.parametrize("content", ["another format", "unsafe"])
    def test_data_that_is_not_as_declared(
        self, one: Running, web: Web, method: str, content: str
    ) -> None:
        data = disk_images.qcow2() if content == "another format" else disk_images.qed()
        disk_format = "vmdk" if content == "another format" else "raw"
        source: dict[str, Any] = {"name": method}
        if method == "web-download":
            image_id = new_image(one.demo, disk_format=disk_format)
            source["uri"] = web.put(f"{uuid.uuid4()}/disk", data)
        else:
            image_id = staged(one.demo, data, disk_format=disk_format)
        task = fails(one.demo, image_id, source)
        self.check_failed(one.demo, image_id, "main", task["message"])
        assert one.demo.show(image_id)["disk_format"] == disk_format

    def test_image_deleted_meanwhile(self, several: Running, web: Web) -> None:
        gate = threading.Event()
        url = web.put(f"{uuid.uuid4()}/disk", DATA, gate=gate)
        image_id = new_image(several.demo)
        assert start(several.demo, image_id, download(url)).status_code == 202
        task_id = tasks_of(several.demo, image_id)[0]["id"]
        assert several.demo.delete(f"/v2/images/{image_id}").status_code == 204
        try:
            task = until(
                lambda: (
                    found
                    if (found := several.admin.get(f"/v2/tasks/{task_id}").json())["status"]
                    == "failure"
                    else None
                )
            )
        finally:
            gate.set()
        assert task["message"]
        assert several.demo.get(f"/v2/images/{image_id}").status_code == 404
        assert not [path for path in several.server.stored_files() if image_id in path.name]

    @pytest.mark.parametrize(
        "url",
        [
            "http://localhost/x",
            "http://[::1]/x",
            "http://2130706433/x",
            "http://0x7f.1/x",
            "http://0177.0.0.1/x",
            "http://127.1/x",
            "http://[::ffff:127.0.0.1]/x",
            "http://169.254.169.254/latest/meta-data",
            "http://[fe80::1]/x",
            "http://10.0.0.1/x",
            "http://192.168.1.1/x",
            "http://0.0.0.0/x",
            "ftp://example.org/x",
            "file:///etc/passwd",
            "gopher://example.org/x",
            "http://user:secret@example.org/x",
            "http://example.org:22/x",
        ],
    )
    def test_addresses_that_are_refused_are_not_told_apart(
        self, default: Running, url: str
    ) -> None:
        image_id = new_image(default.demo)
        for method in (
            download(url),
            download("http://example.org/x", mirrors=[url]),
            download("http://example.org/x", checksums_uri=url),
        ):
            answer = start(default.demo, image_id, method)
            if answer.status_code == 202:
                # Only a name that has to be looked up first gets so far.
                message = ended(default.demo, image_id)["message"]
            else:
                assert answer.status_code == 400, told(answer)
                message = answer.text
            assert "not allowed" in message or "failed" in message
            assert url not in message
            assert "127.0.0.1" not in message

    def test_redirect_to_what_is_refused_fails_without_telling(
        self, one: Running, web: Web
    ) -> None:
        told_of = []
        for target in (
            "http://169.254.169.254/secret",
            "http://10.1.2.3:22/",
            "file:///etc/passwd",
        ):
            url = web.put(f"{uuid.uuid4()}/moved", b"", status=302, location=target)
            told_of.append(fails(one.demo, new_image(one.demo), download(url))["message"])
        assert len(set(told_of)) == 1
        assert "not allowed" in told_of[0]

    def test_what_the_source_answers_is_not_passed_on(self, one: Running, web: Web) -> None:
        url = web.put(f"{uuid.uuid4()}/disk", b"internal secret", status=403)
        message = fails(one.demo, new_image(one.demo), download(url))["message"]
        assert "secret" not in message

    def test_task_and_image_hide_no_path_of_the_server(self, one: Running, web: Web) -> None:
        message = fails(one.demo, new_image(one.demo), download(f"{web.url}/none"))["message"]
        assert str(one.server.data) not in message


class TestLimits:
    """Limits while data is staged and imported (lifecycle §5)."""

    LIMITS = merged(
        IMPORTS_TO_STORES,
        {"limits": {"image_size_bytes_max": 100_000, "project_bytes_max": 150_000}},
    )

    @pytest.fixture
    def limited(self, server_with: ServerWith) -> Iterator[Running]:
        """A server with narrow limits, empty before and after."""
        running = server_with(self.LIMITS)
        yield running
        for image_id in running.demo.list_ids():
            running.demo.delete(f"/v2/images/{image_id}")

    def test_fetched_data_over_the_size_of_an_image(self, limited: Running, web: Web) -> None:
        url = web.put(f"{uuid.uuid4()}/disk", b"x" * 100_001)
        image_id = new_image(limited.demo)
        task = fails(limited.demo, image_id, download(url))
        assert "100000" in task["message"]
        assert limited.demo.show(image_id)["status"] == "queued"

    def test_fetched_data_over_the_room_of_the_project(self, limited: Running, web: Web) -> None:
        active_image(limited.demo, b"x" * 90_000)
        url = web.put(f"{uuid.uuid4()}/disk", b"y" * 70_000)
        image_id = new_image(limited.demo)
        task = fails(limited.demo, image_id, download(url))
        assert "150000" in task["message"]
        assert limited.demo.show(image_id)["status"] == "queued"
        assert limited.demo.show(image_id)[LISTS[1]] == "main"

    def test_every_store_takes_its_share_of_the_room(self, limited: Running) -> None:
        image_id = new_image(limited.demo)
        stage(limited.demo, image_id, b"x" * 80_000)
        answer = start(limited.demo, image_id, "glance-direct", stores=["main", "second"])
        assert answer.status_code == 413, told(answer)
        assert limited.demo.show(image_id)["status"] == "uploading"
        imports(limited.demo, image_id, "glance-direct", stores=["main"])
        answer = start(limited.admin, image_id, "copy-image", stores=["second"])
        assert answer.status_code == 413, told(answer)

    def test_staged_data_counts_once_when_it_is_imported(self, limited: Running) -> None:
        image_id = new_image(limited.demo)
        stage(limited.demo, image_id, b"x" * 70_000)
        image = imports(limited.demo, image_id, "glance-direct", stores=["main", "second"])
        assert image["status"] == "active"


class TestFailingStore:
    """One of two stores takes nothing (API §10.6)."""

    @pytest.fixture(scope="class")
    def half(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
        """Two stores; the disk of one is smaller than an image."""
        import subprocess

        from tests.conftest import configured

        path = tmp_path_factory.mktemp("small")
        try:
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)],
                check=True,
                capture_output=True,
            )
        except (subprocess.CalledProcessError, FileNotFoundError):
            pytest.skip("needs the right to mount a file system; run the tests as root")
        config = merged(
            IMPORTS_TO_STORES,
            {"stores": {"second": {"path": str(path)}, "default": "main"}},
        )
        server = configured(tmp_path_factory.mktemp("half"), config)
        try:
            server.start()
            yield Running(
                server, server.log_in_to_cloud("transom"), server.log_in_to_cloud("transom-demo")
            )
        finally:
            server.kill()
            subprocess.run(["umount", "--lazy", str(path)], check=False, capture_output=True)

    @pytest.mark.parametrize("stores", [["main", "second"], ["second", "main"], ["second"]])
    def test_all_must_succeed_and_do_not(self, half: Running, stores: list[str]) -> None:
        image_id = staged(half.demo)
        task = fails(half.demo, image_id, "glance-direct", stores=stores)
        image = half.demo.show(image_id)
        assert {name: image[name] for name in EMPTY} == EMPTY
        assert image[LISTS[0]] == ""
        assert "second" in image[LISTS[1]].split(",")
        assert image["last_error"] == task["message"]
        until(lambda: not [p for p in half.server.stored_files() if image_id in p.name])
        assert stage(half.demo, image_id).status_code == 204, "all can begin anew"

    @pytest.mark.parametrize("stores", [["main", "second"], ["second", "main"]])
    def test_one_that_succeeds_is_enough(self, half: Running, stores: list[str]) -> None:
        image_id = staged(half.demo)
        image = imports(
            half.demo, image_id, "glance-direct", stores=stores, all_stores_must_succeed=False
        )
        assert (image["status"], image["stores"]) == ("active", "main")
        assert (image[LISTS[0]], image[LISTS[1]]) == ("", "second")
        assert image["last_error"], "why one copy is missing"
        assert content_of(half.demo, image_id) == DATA

    def test_none_that_succeeds_is_not_enough(self, half: Running) -> None:
        image_id = staged(half.demo)
        task = fails(
            half.demo, image_id, "glance-direct", stores=["second"], all_stores_must_succeed=False
        )
        image = half.demo.show(image_id)
        assert {name: image[name] for name in EMPTY} == EMPTY
        assert (image[LISTS[0]], image[LISTS[1]]) == ("", "second")
        assert image["last_error"] == task["message"]

    @pytest.mark.parametrize("must_succeed", [True, False])
    def test_copy_that_fails_leaves_the_image_in_use(
        self, half: Running, must_succeed: bool
    ) -> None:
        image_id = active_image(half.demo, DATA)
        how = {"stores": ["quick", "second"], "all_stores_must_succeed": must_succeed}
        if must_succeed:
            fails(half.admin, image_id, "copy-image", **how)
        else:
            imports(half.admin, image_id, "copy-image", **how)
        image = half.demo.show(image_id)
        assert image["status"] == "active"
        kept = {"main"} if must_succeed else {"main", "quick"}
        assert set(image["stores"].split(",")) == kept
        assert image[LISTS[0]] == ""
        assert "second" in image[LISTS[1]].split(",")
        assert content_of(half.demo, image_id) == DATA


class TestPlugins:
    """What is done to data on its way (lifecycle §9)."""

    UNPACKED = merged(
        IMPORTS,
        {
            "imports": {
                "plugins": ["image_decompression", "image_conversion", "inject_image_metadata"],
                "inject": {"brought_by": "the import", "replaced": "new"},
            }
        },
    )

    @pytest.fixture
    def plugged(self, server_with: ServerWith) -> Running:
        """A server that unpacks, converts to raw, and sets properties."""
        return server_with(self.UNPACKED)

    @pytest.mark.parametrize("method", ["glance-direct", "web-download"])
    def test_packed_qcow2_becomes_raw(
        self, plugged: Running, web: Web, method: str, tmp_path: Path
    ) -> None:
        plain, packed = made_qcow2(tmp_path)
        archive = gzip.compress(packed)
        source: dict[str, Any] = {
            "name": method,
            "os_hash_algo": "sha256",
            "os_hash_value": hashlib.sha256(archive).hexdigest(),
        }
        attributes = {"disk_format": "qcow2", "replaced": "old", "own": "kept"}
        if method == "web-download":
            image_id = new_image(plugged.demo, **attributes)
            source["uri"] = web.put(f"{uuid.uuid4()}/disk.qcow2.gz", archive)
        else:
            image_id = staged(plugged.demo, archive, **attributes)
        image = imports(plugged.demo, image_id, source)
        assert (image["disk_format"], image["container_format"]) == ("raw", "bare")
        assert image["size"] == image["virtual_size"] == len(plain)
        assert image["os_hash_value"] == hashlib.sha512(plain).hexdigest()
        assert image["original_hash_algo"] == "sha512"
        assert image["original_hash_value"] == hashlib.sha512(archive).hexdigest()
        assert image["original_size"] == str(len(archive))
        assert (image["brought_by"], image["replaced"], image["own"]) == (
            "the import",
            "new",
            "kept",
        )
        assert content_of(plugged.demo, image_id) == plain

    def test_data_that_needs_nothing_keeps_its_one_hash(self, plugged: Running) -> None:
        image = imports(plugged.demo, staged(plugged.demo, b"\1" * 4096), "glance-direct")
        assert not [name for name in image if name.startswith("original_")]

    def test_administrators_bring_their_own_properties(self, plugged: Running) -> None:
        image_id = staged(plugged.admin, b"\1" * 4096, replaced="mine")
        image = imports(plugged.admin, image_id, "glance-direct")
        assert image["replaced"] == "mine"
        assert "brought_by" not in image

    def test_archive_that_is_broken(self, plugged: Running) -> None:
        image_id = staged(plugged.demo, gzip.compress(DATA)[:-20], own="kept")
        task = fails(plugged.demo, image_id, "glance-direct")
        image = plugged.demo.show(image_id)
        assert {name: image[name] for name in EMPTY} == EMPTY
        assert (image["disk_format"], image["own"]) == ("raw", "kept")
        assert "brought_by" not in image
        assert task["message"]

    def test_wrong_digest_is_seen_before_anything_is_unpacked(self, plugged: Running) -> None:
        source = {"name": "glance-direct", "os_hash_algo": "md5", "os_hash_value": "0" * 32}
        archive = gzip.compress(DATA)
        task = fails(plugged.demo, staged(plugged.demo, archive), source)
        assert hashlib.md5(archive).hexdigest() in task["message"]


def made_qcow2(folder: Path) -> tuple[bytes, bytes]:
    """A disk as plain bytes and as qcow2, made by qemu-img."""
    import subprocess

    plain = (b"transom" * 1000).ljust(1 << 20, b"\0")
    (folder / "disk.raw").write_bytes(plain)
    subprocess.run(
        ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "disk.raw", "disk.qcow2"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return plain, (folder / "disk.qcow2").read_bytes()


def test_first_import_of_a_service_does_not_wait_for_its_queue(make_server: MakeServer) -> None:
    server = make_server(IMPORTS)
    demo = server.log_in_to_cloud("transom-demo")
    image_id = staged(demo)
    begin = time.monotonic()
    imports(demo, image_id, "glance-direct")
    # Half of it is loading the engine's code. Generous, for machines with much else to do.
    assert time.monotonic() - begin < 10
