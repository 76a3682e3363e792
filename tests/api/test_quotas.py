"""Limits of images and projects (lifecycle §5, API §4, §7.4, §9.1, §11, §12)."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest

from tests.api.checks import check_still_queued, queued
from tests.api.configs import SMALL_LIMITS
from tests.conftest import MakeServer, Running, ServerWith
from tests.support.server import Client, told

UNLIMITED = {"limits": {"image_properties_max": -1, "image_tags_max": -1, "image_members_max": -1}}
NONE = {"limits": {"image_properties_max": 0, "image_tags_max": 0, "image_members_max": 0}}


def properties(count: int) -> dict[str, str]:
    """That many custom properties."""
    return {f"p{number}": "x" for number in range(count)}


def tags(count: int) -> list[str]:
    """That many tags."""
    return [f"t{number}" for number in range(count)]


def patch(client: Client, image_id: str, *operations: dict[str, Any]) -> int:
    """PATCH; the status of the answer."""
    return client.patch(f"/v2/images/{image_id}", list(operations)).status_code


def put(op: str, path: str, value: Any = None) -> dict[str, Any]:
    """One operation."""
    return {"op": op, "path": path, "value": value}


@pytest.fixture
def counted(server_with: ServerWith) -> Running:
    """A server with limits of three."""
    return server_with(SMALL_LIMITS)


class TestCreate:
    """POST /v2/images"""

    def test_as_many_as_allowed(self, counted: Running) -> None:
        counted.demo.create(tags=tags(3), **properties(3))

    @pytest.mark.parametrize("body", [properties(4), {"tags": tags(4)}])
    @pytest.mark.parametrize("who", ["demo", "admin"])
    def test_one_more_is_refused_for_admins_too(
        self, counted: Running, body: dict[str, Any], who: str
    ) -> None:
        image_id = str(uuid.uuid4())
        client: Client = getattr(counted, who)
        answer = client.post("/v2/images", json={"id": image_id, **body})
        assert answer.status_code == 413, told(answer)
        assert answer.headers["content-type"].startswith("text/plain")
        assert client.get(f"/v2/images/{image_id}").status_code == 404

    def test_tags_are_counted_once(self, counted: Running) -> None:
        created = counted.demo.create(tags=[*tags(3), *tags(3)])
        assert sorted(created["tags"]) == tags(3)

    def test_base_attributes_are_no_properties(self, counted: Running) -> None:
        counted.demo.create(
            name="x", min_ram=1, min_disk=1, protected=False, visibility="private", **properties(3)
        )


class TestUpdate:
    """PATCH /v2/images/{id}"""

    def test_adding_up_to_the_limit_and_not_beyond(self, counted: Running) -> None:
        image_id = counted.demo.create(**properties(2))["id"]
        assert patch(counted.demo, image_id, put("add", "/p2", "x")) == 200
        before = counted.demo.show(image_id)
        answer = counted.demo.patch(
            f"/v2/images/{image_id}", [put("replace", "/name", "changed"), put("add", "/p3", "x")]
        )
        assert answer.status_code == 413, told(answer)
        assert answer.headers["content-type"].startswith("text/plain")
        assert counted.demo.show(image_id) == before

    def test_overwriting_and_removing_at_the_limit(self, counted: Running) -> None:
        image_id = counted.demo.create(**properties(3))["id"]
        assert patch(counted.demo, image_id, put("add", "/p0", "new")) == 200
        assert patch(counted.demo, image_id, put("replace", "/p1", "new")) == 200
        assert patch(counted.demo, image_id, put("remove", "/p1")) == 200

    def test_removing_makes_room_in_the_same_request(self, counted: Running) -> None:
        image_id = counted.demo.create(**properties(3))["id"]
        assert patch(counted.demo, image_id, put("remove", "/p0"), put("add", "/q", "x")) == 200

    def test_tags_up_to_the_limit_and_not_beyond(self, counted: Running) -> None:
        image_id = counted.demo.create()["id"]
        assert patch(counted.demo, image_id, put("replace", "/tags", tags(3))) == 200
        assert patch(counted.demo, image_id, put("replace", "/tags", tags(4))) == 413
        assert patch(counted.demo, image_id, put("replace", "/tags", [*tags(3), *tags(3)])) == 200
        assert sorted(counted.demo.show(image_id)["tags"]) == tags(3)


def test_tag_by_tag_up_to_the_limit(counted: Running) -> None:
    image_id = counted.demo.create(tags=tags(2))["id"]
    path = f"/v2/images/{image_id}/tags"
    assert counted.demo.put(f"{path}/t2").status_code == 204
    assert counted.demo.put(f"{path}/t3").status_code == 413
    assert counted.demo.put(f"{path}/t2").status_code == 204, "a tag that is there costs nothing"
    assert counted.demo.delete(f"{path}/t0").status_code == 204
    assert counted.demo.put(f"{path}/t3").status_code == 204


def test_members_up_to_the_limit(counted: Running) -> None:
    image_id = counted.demo.create()["id"]
    path = f"/v2/images/{image_id}/members"
    statuses = [
        counted.demo.post(path, json={"member": f"project-{number}"}).status_code
        for number in range(4)
    ]
    assert statuses == [200, 200, 200, 413]
    assert len(counted.demo.get(path).json()["members"]) == 3
    assert counted.demo.post(path, json={"member": "project-0"}).status_code in (409, 413)
    assert counted.demo.delete(f"{path}/project-1").status_code == 204
    assert counted.demo.post(path, json={"member": "project-3"}).status_code == 200


def test_minus_one_is_unlimited(server_with: ServerWith) -> None:
    demo = server_with(UNLIMITED).demo
    image_id = demo.create(tags=tags(200), **properties(200))["id"]
    assert patch(demo, image_id, put("add", "/one-more", "x")) == 200
    assert demo.put(f"/v2/images/{image_id}/tags/one-more").status_code == 204
    for number in range(130):
        answer = demo.post(f"/v2/images/{image_id}/members", json={"member": f"m{number}"})
        assert answer.status_code == 200, told(answer)


def test_zero_allows_none(server_with: ServerWith) -> None:
    demo = server_with(NONE).demo
    assert demo.post("/v2/images", json=properties(1)).status_code == 413
    assert demo.post("/v2/images", json={"tags": tags(1)}).status_code == 413
    image_id = demo.create()["id"]
    answer = demo.post(f"/v2/images/{image_id}/members", json={"member": "m"})
    assert answer.status_code == 413, told(answer)


def test_image_over_a_lowered_limit_can_shrink_and_change(make_server: MakeServer) -> None:
    server = make_server()
    demo = server.log_in_to_cloud("transom-demo")
    image_id = demo.create(tags=tags(6), **properties(6))["id"]
    server.restart(SMALL_LIMITS)
    demo = server.log_in_to_cloud("transom-demo")
    assert patch(demo, image_id, put("add", "/new", "x")) == 413
    assert patch(demo, image_id, put("replace", "/p0", "new")) == 200
    assert patch(demo, image_id, put("replace", "/name", "new")) == 200
    assert patch(demo, image_id, put("remove", "/p0")) == 200
    assert demo.put(f"/v2/images/{image_id}/tags/new").status_code == 413
    assert demo.delete(f"/v2/images/{image_id}/tags/t0").status_code == 204
    assert len(demo.show(image_id)["tags"]) == 5


def test_default_limits_are_128(owner: Client) -> None:
    assert owner.post("/v2/images", json=properties(129)).status_code == 413
    assert owner.post("/v2/images", json={"tags": tags(129)}).status_code == 413
    created = owner.create(tags=tags(128), **properties(128))
    owner.delete(f"/v2/images/{created['id']}")


class TestImageSize:
    """`limits.image_size_bytes_max`"""

    @pytest.mark.parametrize("chunked", [False, True])
    def test_exactly_the_limit_is_accepted(self, server_with: ServerWith, chunked: bool) -> None:
        demo = server_with(SMALL_LIMITS).demo
        data = b"x" * 100_000
        image_id = queued(demo)
        assert demo.put_data(image_id, iter([data]) if chunked else data).status_code == 204
        assert demo.show(image_id)["size"] == 100_000

    @pytest.mark.parametrize("size", [100_001, 3_000_000])
    @pytest.mark.parametrize("chunked", [False, True])
    def test_more_is_refused_and_leaves_nothing(
        self, server_with: ServerWith, chunked: bool, size: int
    ) -> None:
        running = server_with(SMALL_LIMITS)
        before = running.server.stored_files()
        image_id = queued(running.demo)
        data = b"x" * size
        answer = running.demo.put_data(image_id, iter([data]) if chunked else data)
        assert answer.status_code == 413, told(answer)
        assert running.server.stored_files() == before
        check_still_queued(running.demo, image_id)

    def test_announced_size_over_the_limit_is_refused(self, server_with: ServerWith) -> None:
        demo = server_with(SMALL_LIMITS).demo
        image_id = queued(demo)
        answer = demo.put_data(
            image_id, iter([b"x" * 200_000]), {"x-openstack-image-size": "200000"}
        )
        assert answer.status_code == 413, told(answer)
        check_still_queued(demo, image_id)


class TestProjectBytes:
    """`limits.project_bytes_max`: the sum of a project's images."""

    CONFIG = {"limits": {"project_bytes_max": 1_000_000}}

    @pytest.mark.parametrize("chunked", [False, True])
    def test_sum_is_limited_and_given_back(self, make_server: MakeServer, chunked: bool) -> None:
        server = make_server(self.CONFIG)
        demo = server.log_in_to_cloud("transom-demo")

        def upload(size: int) -> tuple[str, int]:
            image_id = queued(demo)
            data = b"x" * size
            answer = demo.put_data(image_id, iter([data]) if chunked else data)
            return image_id, answer.status_code

        first, status = upload(600_000)
        assert status == 204
        over, status = upload(400_001)
        assert status == 413
        assert demo.show(over)["status"] == "queued"
        assert demo.show(over)["size"] is None
        exact, status = upload(400_000)
        assert status == 204, "the limit itself may be reached"
        _, status = upload(1)
        assert status == 413
        assert demo.delete(f"/v2/images/{first}").status_code == 204
        _, status = upload(600_000)
        assert status == 204, "what is deleted counts no more"
        assert demo.post(f"/v2/images/{exact}/actions/deactivate").status_code == 204
        _, status = upload(1)
        assert status == 413, "deactivated images count"

    def test_limit_is_each_project_s_own(self, make_server: MakeServer) -> None:
        server = make_server(self.CONFIG)
        for cloud in ("transom-demo", "transom"):
            client = server.log_in_to_cloud(cloud)
            client.upload(queued(client), b"x" * 900_000)

    def test_uploads_at_once_never_pass_it_together(self, make_server: MakeServer) -> None:
        server = make_server(self.CONFIG)
        demo = server.log_in_to_cloud("transom-demo")
        ids = [queued(demo) for _ in range(10)]
        statuses: dict[str, int] = {}

        def upload(image_id: str) -> None:
            client = server.client(demo.token)
            statuses[image_id] = client.put_data(image_id, b"x" * 300_000).status_code

        threads = [threading.Thread(target=upload, args=(image_id,)) for image_id in ids]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert set(statuses.values()) <= {204, 413}, statuses
        active = [image_id for image_id, status in statuses.items() if status == 204]
        assert 1 <= len(active) <= 3, f"{len(active)} uploads of 300 kB in 1 MB: {statuses}"
        for image_id, status in statuses.items():
            expected = "active" if status == 204 else "queued"
            assert demo.show(image_id)["status"] == expected
        # Whatever was refused is given back: the rest of the limit can be used.
        room = 1_000_000 - 300_000 * len(active)
        demo.upload(queued(demo), b"x" * room)
