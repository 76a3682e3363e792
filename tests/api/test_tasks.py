"""Tasks: those of the tasks API, and those of an image (API §17, §18)."""

from __future__ import annotations

import datetime as dt
import re
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.configs import IMPORTS
from tests.conftest import MakeServer, Running, ServerWith
from tests.support.importing import (
    ENDED,
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

DATA = b"lintel and sill, " * 4000
SECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
MICROSECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}")


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    """A web server on this machine, which the servers may read from."""
    with Web() as running:
        yield running


@pytest.fixture
def one(server_with: ServerWith) -> Running:
    """One store."""
    return server_with(IMPORTS)


def imported(client: Client, **attributes: Any) -> str:
    """An image whose data was staged and imported."""
    image_id = new_image(client, **attributes)
    assert stage(client, image_id, DATA).status_code == 204
    imports(client, image_id, "glance-direct")
    return image_id


def asked(web: Web, **changes: Any) -> dict[str, Any]:
    """The body of a task that can succeed."""
    given = {
        "import_from": web.put(f"{uuid.uuid4()}/disk", DATA),
        "import_from_format": "raw",
        "image_properties": {"name": "from a task", "disk_format": "raw", "own": "value"},
    }
    return {"type": "import", "input": {**given, **changes}}


def finished(client: Client, task_id: str) -> dict[str, Any]:
    """A task of the tasks API, as soon as it has ended."""

    def look() -> dict[str, Any] | None:
        task: dict[str, Any] = client.get(f"/v2/tasks/{task_id}").json()
        return task if task["status"] in ENDED else None

    found: dict[str, Any] = until(look, 30)
    return found


class TestTasksOfAnImage:
    """`GET /v2/images/{id}/tasks`."""

    def test_image_without_tasks_has_an_empty_list(self, one: Running) -> None:
        assert tasks_of(one.demo, new_image(one.demo)) == []
        assert tasks_of(one.demo, active_image(one.demo, DATA)) == []

    def test_task_has_all_that_clients_read(self, one: Running) -> None:
        image_id = imported(one.demo)
        task = tasks_of(one.demo, image_id)[0]
        assert set(task) == {
            "id", "type", "status", "owner", "expires_at", "created_at", "updated_at", "deleted_at",
            "deleted", "image_id", "request_id", "user_id", "input", "result", "message", "progress",
        }  # fmt: skip
        assert (task["type"], task["status"]) == ("api_image_import", "success")
        assert (task["deleted"], task["deleted_at"]) == (False, None)
        assert task["input"] == {
            "image_id": image_id,
            "import_req": {"method": {"name": "glance-direct"}},
            "backend": ["main"],
        }
        assert task["message"] == "Copied 0 MiB"
        for name in ("expires_at", "created_at", "updated_at"):
            assert MICROSECONDS.fullmatch(task[name]), name

    def test_task_can_be_looked_up_for_two_days(self, one: Running) -> None:
        task = tasks_of(one.demo, imported(one.demo))[0]
        end, expiry = (dt.datetime.fromisoformat(task[n]) for n in ("updated_at", "expires_at"))
        assert abs((expiry - end) - dt.timedelta(hours=48)) < dt.timedelta(seconds=5)

    def test_task_that_works_says_how_far_it_is(self, one: Running, web: Web) -> None:
        gate = threading.Event()
        data = b"x" * (4 << 20)
        image_id = new_image(one.demo)
        url = web.put(f"{uuid.uuid4()}/disk", data, gate=gate, takes_ranges=False)
        assert start(one.demo, image_id, download(url)).status_code == 202
        try:
            task = until(
                lambda: next(
                    (
                        task
                        for task in tasks_of(one.demo, image_id)
                        if task["progress"]["done_bytes"] > (1 << 20)
                    ),
                    None,
                )
            )
            assert (task["status"], task["result"], task["expires_at"]) == (
                "processing",
                None,
                None,
            )
            assert re.fullmatch(r"Copied \d MiB", task["message"])
            progress = task["progress"]
            assert set(progress) == {
                "phase", "percent", "done_bytes", "total_bytes", "bytes_per_second", "started_at",
                "updated_at",
            }  # fmt: skip
            assert progress["phase"] == "downloading"
            assert progress["total_bytes"] == len(data)
            assert 0 < progress["done_bytes"] <= len(data) // 2
            assert progress["percent"] == progress["done_bytes"] * 100 // len(data)
            assert progress["bytes_per_second"] >= 0
            for name in ("started_at", "updated_at"):
                assert SECONDS.fullmatch(progress[name])
        finally:
            gate.set()
        task = ended(one.demo, image_id)
        assert (task["status"], task["progress"]["percent"]) == ("success", 100)
        assert task["message"] == "Copied 4 MiB"

    def test_failed_task_says_why(self, one: Running, web: Web) -> None:
        image_id = new_image(one.demo)
        task = fails(one.demo, image_id, download(f"{web.url}/none"))
        assert task["result"] is None
        assert task["message"].endswith(".")
        assert "404" in task["message"]
        assert MICROSECONDS.fullmatch(task["expires_at"])

    def test_tasks_are_for_their_project_and_for_administrators(
        self, server_with: ServerWith
    ) -> None:
        running = server_with(IMPORTS)
        others = running.server.provision({"stranger": ("strangers", ["member"])})["stranger"]
        image_id = imported(running.demo, visibility="community")
        assert len(tasks_of(running.demo, image_id)) == 1
        assert len(tasks_of(running.admin, image_id)) == 1
        assert tasks_of(others, image_id) == [], "it sees the image, and not the tasks"
        hidden = imported(running.demo, visibility="private")
        answer = others.get(f"/v2/images/{hidden}/tasks")
        assert answer.status_code == 404, told(answer)

    def test_image_that_is_not_there_is_404(self, one: Running) -> None:
        image_id = imported(one.demo)
        one.demo.delete(f"/v2/images/{image_id}")
        for gone in (image_id, str(uuid.uuid4()), "no-uuid"):
            assert one.admin.get(f"/v2/images/{gone}/tasks").status_code == 404

    def test_other_methods_are_404(self, one: Running) -> None:
        image_id = new_image(one.demo)
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            answer = one.demo.request(method, f"/v2/images/{image_id}/tasks")
            assert answer.status_code == 404, told(answer)
            assert "allow" not in answer.headers

    def test_body_is_refused(self, one: Running) -> None:
        answer = one.demo.request("GET", f"/v2/images/{new_image(one.demo)}/tasks", content=b"{}")
        assert answer.status_code == 400, told(answer)

    def test_waiting_task_can_be_cancelled_by_its_project_alone(
        self, one: Running, web: Web
    ) -> None:
        gate = threading.Event()
        image_id = new_image(one.demo, visibility="community")
        url = web.put(f"{uuid.uuid4()}/disk", DATA, gate=gate)
        stranger = one.server.provision({"canceller": ("cancellers", ["member"])})["canceller"]
        assert start(one.demo, image_id, download(url)).status_code == 202
        task_id = tasks_of(one.demo, image_id)[0]["id"]
        path = f"/v2/images/{image_id}/tasks/{task_id}/cancel"
        try:
            assert stranger.post(path).status_code == 403
            unknown = f"/v2/images/{image_id}/tasks/{uuid.uuid4()}/cancel"
            assert one.demo.post(unknown).status_code == 404
            elsewhere = f"/v2/images/{new_image(one.demo)}/tasks/{task_id}/cancel"
            assert one.demo.post(elsewhere).status_code == 404
            assert one.demo.post(path, content=b"{}").status_code == 400
            assert one.demo.post(path).status_code == 202
            task = ended(one.demo, image_id)
        finally:
            gate.set()
        assert (task["status"], task["message"]) == ("failure", "The task was cancelled.")
        image = one.demo.show(image_id)
        assert (image["status"], image["last_error"]) == ("queued", "The task was cancelled.")
        assert one.demo.post(path).status_code == 202, "what has ended stays as it is"
        assert ended(one.demo, image_id) == task


class TestTasksApi:
    """`/v2/tasks`: legacy, and for administrators."""

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_it_is_for_administrators(self, one: Running, web: Web, method: str) -> None:
        answer = one.demo.request(
            method, "/v2/tasks", json=asked(web) if method == "POST" else None
        )
        assert answer.status_code == 403, told(answer)
        assert one.server.client().request(method, "/v2/tasks").status_code == 401

    def test_single_task_is_for_administrators(self, one: Running) -> None:
        task_id = tasks_of(one.demo, imported(one.demo))[0]["id"]
        assert one.demo.get(f"/v2/tasks/{task_id}").status_code == 403
        assert one.demo.delete(f"/v2/tasks/{task_id}").status_code == 403
        assert one.admin.get(f"/v2/tasks/{task_id}").status_code == 200

    def test_task_makes_an_image(self, one: Running, web: Web) -> None:
        body = asked(web)
        answer = one.admin.post("/v2/tasks", json=body)
        assert answer.status_code == 201, told(answer)
        task = answer.json()
        assert answer.headers["location"] == f"{one.server.url}/v2/tasks/{task['id']}"
        assert set(task) == {
            "id", "type", "status", "owner", "input", "result", "message", "user_id", "request_id",
            "created_at", "updated_at", "self", "schema", "progress",
        }  # fmt: skip
        assert (task["type"], task["status"], task["result"]) == ("import", "pending", None)
        assert (task["input"], task["message"]) == (body["input"], "")
        assert (task["self"], task["schema"]) == (f"/v2/tasks/{task['id']}", "/v2/schemas/task")
        assert task["owner"] == one.admin.project_id
        done = finished(one.admin, task["id"])
        assert done["status"] == "success", done
        image_id = done["result"]["image_id"]
        assert done["image_id"] == image_id
        assert SECONDS.fullmatch(done["expires_at"])
        image = one.admin.show(image_id)
        assert (image["status"], image["name"], image["own"]) == ("active", "from a task", "value")
        assert (image["disk_format"], image["container_format"]) == ("raw", "bare")
        assert image["owner"] == one.admin.project_id
        assert content_of(one.admin, image_id) == DATA
        assert tasks_of(one.admin, image_id)[0]["id"] == task["id"]

    def test_task_whose_source_is_not_there_leaves_a_queued_image(
        self, one: Running, web: Web
    ) -> None:
        answer = one.admin.post("/v2/tasks", json=asked(web, import_from=f"{web.url}/none"))
        task = finished(one.admin, answer.json()["id"])
        assert (task["status"], task["result"]) == ("failure", None)
        assert "404" in task["message"]
        assert one.admin.show(task["image_id"])["status"] == "queued"

    def test_task_whose_image_cannot_be_fails(self, one: Running, web: Web) -> None:
        answer = one.admin.post("/v2/tasks", json=asked(web, image_properties={"min_ram": "much"}))
        task = finished(one.admin, answer.json()["id"])
        assert task["status"] == "failure"
        assert "min_ram" in task["message"]

    @pytest.mark.parametrize(
        "body",
        [
            b"", b"[]", b"no json", b"{}", b'{"type": "import"}', b'{"input": {}}',
            b'{"type": "export", "input": {}}', b'{"type": 7, "input": {}}',
            b'{"type": "import", "input": []}', b'{"type": "import", "input": {}}',
            b'{"type": "import", "input": {"import_from": "http://example.org/x"}}',
        ],
    )  # fmt: skip
    def test_bodies_that_are_no_task(self, one: Running, body: bytes) -> None:
        answer = one.admin.post("/v2/tasks", content=body)
        assert answer.status_code == 400, told(answer)

    @pytest.mark.parametrize(
        "changes",
        [
            {"import_from": "file:///etc/passwd"},
            {"import_from": "filesystem:///etc/passwd"},
            {"import_from": "swift://container/object"},
            {"import_from": "/etc/passwd"},
            {"import_from": "http://169.254.169.254/"},
            {"import_from": 7},
            {"import_from_format": 7},
            {"image_properties": "name=x"},
        ],
        ids=str,
    )
    def test_input_that_cannot_be(self, one: Running, web: Web, changes: dict[str, Any]) -> None:
        answer = one.admin.post("/v2/tasks", json=asked(web, **changes))
        assert answer.status_code == 400, told(answer)

    @pytest.mark.parametrize("missing", ["import_from", "import_from_format", "image_properties"])
    def test_all_of_the_input_is_required(self, one: Running, web: Web, missing: str) -> None:
        body = asked(web)
        del body["input"][missing]
        answer = one.admin.post("/v2/tasks", json=body)
        assert answer.status_code == 400, told(answer)
        assert missing in answer.text

    def test_further_keys_are_refused(self, one: Running, web: Web) -> None:
        answer = one.admin.post("/v2/tasks", json={**asked(web), "status": "success"})
        assert answer.status_code == 400, told(answer)

    @pytest.mark.parametrize("kind", ["api_image_import", "location_import"])
    def test_types_of_the_service_are_taken_and_fail(self, one: Running, kind: str) -> None:
        answer = one.admin.post("/v2/tasks", json={"type": kind, "input": {}})
        assert answer.status_code == 201, told(answer)
        task = one.admin.get(f"/v2/tasks/{answer.json()['id']}").json()
        assert task["status"] == "failure"
        assert task["message"]

    def test_unknown_task_is_404(self, one: Running) -> None:
        for task_id in (str(uuid.uuid4()), "no-uuid"):
            assert one.admin.get(f"/v2/tasks/{task_id}").status_code == 404

    def test_methods_that_are_not_there(self, one: Running) -> None:
        path = f"/v2/tasks/{tasks_of(one.demo, imported(one.demo))[0]['id']}"
        assert one.admin.delete(path).status_code == 405
        assert one.admin.delete(path).headers["allow"] == "GET"
        for method in ("PUT", "PATCH"):
            answer = one.admin.request(method, path)
            assert (answer.status_code, answer.headers["allow"]) == (405, "GET, DELETE")
        for method in ("PUT", "PATCH", "DELETE"):
            answer = one.admin.request(method, "/v2/tasks")
            assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")


class TestList:
    """`GET /v2/tasks`: pages, orders, filters."""

    @pytest.fixture
    def many(self, one: Running, web: Web) -> list[str]:
        """Ids of tasks of both kinds, in the order of their making."""
        made = []
        for _ in range(2):
            made.append(tasks_of(one.demo, imported(one.demo))[0]["id"])
            image_id = new_image(one.demo)
            made.append(fails(one.demo, image_id, download(f"{web.url}/none"))["id"])
        return made

    def listed(self, client: Client, **query: Any) -> list[str]:
        """Ids of a page."""
        answer = client.get("/v2/tasks", params=query)
        assert answer.status_code == 200, told(answer)
        return [task["id"] for task in answer.json()["tasks"]]

    def test_tasks_of_all_projects_newest_first(self, one: Running, many: list[str]) -> None:
        assert self.listed(one.admin, limit=4) == many[::-1]

    def test_stub_leaves_out_what_is_long(self, one: Running, many: list[str]) -> None:
        answer = one.admin.get("/v2/tasks", params={"limit": 1}).json()
        assert answer["schema"] == "/v2/schemas/tasks"
        assert answer["first"] == "/v2/tasks?limit=1"
        assert answer["next"] == f"/v2/tasks?limit=1&marker={many[-1]}"
        assert set(answer["tasks"][0]) == {
            "id", "type", "status", "owner", "created_at", "updated_at", "expires_at", "self",
            "schema", "image_id", "request_id", "user_id",
        }  # fmt: skip

    @pytest.mark.parametrize("sort_key", ["id", "created_at", "status", "owner", "expires_at"])
    @pytest.mark.parametrize("sort_dir", ["asc", "desc"])
    def test_pages_walk_through_all_once(
        self, one: Running, many: list[str], sort_key: str, sort_dir: str
    ) -> None:
        query = {"sort_key": sort_key, "sort_dir": sort_dir}
        everything = self.listed(one.admin, limit=1000, **query)
        assert set(many) <= set(everything)
        walked: list[str] = []
        path: str | None = f"/v2/tasks?limit=3&sort_key={sort_key}&sort_dir={sort_dir}"
        while path:
            page = one.admin.get(path).json()
            walked += [task["id"] for task in page["tasks"]]
            path = page.get("next")
        assert walked == everything

    def test_filters(self, one: Running, many: list[str]) -> None:
        assert many[0] in self.listed(one.admin, status="success", limit=1000)
        assert many[0] not in self.listed(one.admin, status="failure", limit=1000)
        assert many[1] in self.listed(one.admin, status="failure", limit=1000)
        assert set(many) <= set(self.listed(one.admin, type="api_image_import", limit=1000))
        assert not set(many) & set(self.listed(one.admin, type="import", limit=1000))
        assert self.listed(one.admin, colour="blue", limit=4) == many[::-1]

    @pytest.mark.parametrize(
        "query",
        [
            {"status": "done"}, {"type": "export"}, {"sort_key": "message"}, {"sort_dir": "up"},
            {"limit": "-1"}, {"limit": "many"}, {"marker": "no-uuid"},
            {"marker": str(uuid.UUID(int=7))},
        ],
        ids=str,
    )  # fmt: skip
    def test_what_cannot_be_asked_is_400(self, one: Running, query: dict[str, str]) -> None:
        answer = one.admin.get("/v2/tasks", params=query)
        assert answer.status_code == 400, told(answer)

    def test_limit_of_zero_lists_nothing(self, one: Running, many: list[str]) -> None:
        assert self.listed(one.admin, limit=0) == []


def test_policy_may_open_tasks_and_copies_to_others(
    make_server: MakeServer, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        'tasks_api_access: "role:member"\n'
        'copy_image: "role:member"\n'
        'modify_image: "role:admin"\n'
        'get_image: "role:admin or project_id:%(project_id)s"\n'
    )
    stores = {"second": {"driver": "file", "path": "<data>/second"}, "main": {"driver": "file"}}
    server = make_server(merged(IMPORTS, {"policy": {"file": str(policy)}, "stores": stores}))
    demo, admin = server.log_in_to_cloud("transom-demo"), server.log_in_to_cloud("transom")
    image_id = active_image(demo, DATA)
    image = imports(demo, image_id, "copy-image", stores=["second"])
    assert set(image["stores"].split(",")) == {"main", "second"}
    waiting = new_image(demo)
    for answer in (
        stage(demo, waiting),
        start(demo, waiting, download("http://127.0.0.1:9/x")),
        demo.post(f"/v2/images/{image_id}/tasks/{tasks_of(demo, image_id)[0]['id']}/cancel"),
    ):
        assert answer.status_code == 403, told(answer)
    assert stage(admin, waiting).status_code == 204
    mine = demo.get("/v2/tasks").json()["tasks"]
    assert [task["image_id"] for task in mine] == [image_id]
    imports(admin, waiting, "glance-direct")
    assert len(demo.get("/v2/tasks").json()["tasks"]) == 1, "its own project's"
    assert len(admin.get("/v2/tasks").json()["tasks"]) == 2
    public = active_image(admin, DATA, visibility="public")
    assert demo.get(f"/v2/images/{public}/tasks").status_code == 404, "get_image refuses"


def test_tasks_are_forgotten_when_their_time_is_over(make_server: MakeServer) -> None:
    server = make_server(merged(IMPORTS, {"imports": {"task_hours": 2 / 3600}}))
    demo, admin = server.log_in_to_cloud("transom-demo"), server.log_in_to_cloud("transom")
    image_id = new_image(demo)
    stage(demo, image_id)
    assert start(demo, image_id, "glance-direct").status_code == 202
    # Its time begins with its end.
    task_id = tasks_of(demo, image_id)[0]["id"]
    until(lambda: tasks_of(demo, image_id) == [], 30)
    assert admin.get("/v2/tasks").json()["tasks"] == []
    assert demo.show(image_id)["status"] == "active"
    assert admin.get(f"/v2/tasks/{task_id}").status_code == 404
