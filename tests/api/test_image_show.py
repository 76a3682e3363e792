"""Show image: GET /v2/images/{id} (API §3, §6)."""

from __future__ import annotations

import uuid

import pytest

from tests.api.configs import LOCATIONS
from tests.conftest import Actors, MakeImage, ServerWith
from tests.support.server import Client, ServerProcess, told


def test_show_gives_the_same_as_create(owner: Client, image: MakeImage) -> None:
    created = image(name="shown", tags=["x"], custom="value", kernel_id=None)
    assert owner.show(created["id"]) == created


def test_show_is_json(owner: Client, image: MakeImage) -> None:
    answer = owner.get(f"/v2/images/{image()['id']}")
    assert answer.headers["content-type"].split(";")[0] == "application/json"
    assert answer.headers["content-length"] == str(len(answer.content))
    assert answer.headers["x-openstack-request-id"].startswith("req-")


def test_kernel_id_null_is_emitted(owner: Client, image: MakeImage) -> None:
    shown = owner.show(image(kernel_id=None, ramdisk_id=None)["id"])
    assert shown["kernel_id"] is None
    assert shown["ramdisk_id"] is None


def test_absent_properties_are_not_emitted(owner: Client, image: MakeImage) -> None:
    shown = owner.show(image()["id"])
    for name in (
        "locations",
        "direct_url",
        "stores",
        "kernel_id",
        "os_distro",
        "deleted",
        "deleted_at",
        "os_glance_stage_host",
    ):
        assert name not in shown, name


def test_active_image_shows_no_locations_by_default(owner: Client, image: MakeImage) -> None:
    shown = image(data=b"data")
    for name in ("locations", "direct_url", "stores"):
        assert name not in shown, name


@pytest.mark.parametrize(
    "image_id",
    [
        str(uuid.UUID(int=0)),
        "nonsense",
        "detail",
        "a" * 300,
        "%00",
        "%0a",
        "é",
        "%F0%9F%90%A7",
        "'; DROP TABLE images; --",
        "<script>",
    ],
)
def test_unknown_id_is_not_found(owner: Client, image_id: str) -> None:
    # Four-byte characters in a path segment may be refused as such (API §1.2).
    allowed = {404, 400} if image_id == "%F0%9F%90%A7" else {404}
    if image_id == "%00":
        allowed = {404, 400}
    answer = owner.get(f"/v2/images/{image_id}")
    assert answer.status_code in allowed, told(answer)


def test_unknown_id_is_repeated_in_the_error(owner: Client) -> None:
    unknown = str(uuid.uuid4())
    assert unknown in owner.get(f"/v2/images/{unknown}").text


def test_deleted_image_is_gone_for_everybody(actors: Actors, image: MakeImage) -> None:
    created = image(actors.owner)
    actors.owner.delete(f"/v2/images/{created['id']}")
    for caller in (actors.owner, actors.admin):
        assert caller.get(f"/v2/images/{created['id']}").status_code == 404


def test_invisible_image_looks_like_a_missing_one(actors: Actors, image: MakeImage) -> None:
    hidden = image(actors.owner, visibility="private")["id"]
    missing = str(uuid.uuid4())
    there = actors.other.get(f"/v2/images/{hidden}")
    nowhere = actors.other.get(f"/v2/images/{missing}")
    assert there.status_code == nowhere.status_code == 404
    assert there.text.replace(hidden, "ID") == nowhere.text.replace(missing, "ID")
    assert set(there.headers) == set(nowhere.headers)


def test_body_on_show_is_refused(owner: Client, image: MakeImage) -> None:
    path = f"/v2/images/{image()['id']}"
    assert owner.request("GET", path, content=b"{}").status_code == 400
    empty = owner.request("GET", path, headers={"Content-Length": "0"})
    assert empty.status_code == 200, "a body of no bytes is none"
    typed = owner.get(path, headers={"Content-Type": "application/json"})
    assert typed.status_code == 200, "a Content-Type without a body is ignored"


def test_show_needs_a_token(server: ServerProcess, image: MakeImage) -> None:
    assert server.client().get(f"/v2/images/{image()['id']}").status_code == 401


def test_head_of_an_image_is_not_allowed(owner: Client, image: MakeImage) -> None:
    answer = owner.head(f"/v2/images/{image()['id']}")
    assert answer.status_code == 405
    assert answer.content == b""


class TestLocations:
    """`locations` and `direct_url` stand behind their options (API §3)."""

    def test_queued_image_has_an_empty_list(self, server_with: ServerWith) -> None:
        running = server_with(LOCATIONS)
        created = running.demo.create()
        assert created["locations"] == []
        assert "direct_url" not in created
        assert "stores" not in created

    def test_active_image_shows_where_its_data_is(self, server_with: ServerWith) -> None:
        running = server_with(LOCATIONS)
        created = running.demo.create(disk_format="raw", container_format="bare")
        shown = running.demo.upload(created["id"], b"located")
        assert len(shown["locations"]) == 1
        location = shown["locations"][0]
        assert set(location) == {"url", "metadata"}
        assert location["url"].startswith("file:///")
        assert shown["direct_url"] == location["url"]
        assert "stores" not in shown, "there is one store only"
        listed = running.demo.get("/v2/images", params={"id": created["id"]}).json()["images"]
        assert listed == [shown]

    def test_deactivated_image_hides_them_from_all_but_admins(
        self, server_with: ServerWith
    ) -> None:
        running = server_with(LOCATIONS)
        created = running.demo.create(disk_format="raw", container_format="bare")
        active = running.demo.upload(created["id"], b"located")
        running.demo.post(f"/v2/images/{created['id']}/actions/deactivate")
        for_demo = running.demo.show(created["id"])
        assert for_demo["locations"] == []
        assert "direct_url" not in for_demo
        for_admin = running.admin.show(created["id"])
        assert for_admin["locations"] == active["locations"]
        assert for_admin["direct_url"] == active["direct_url"]

    def test_each_option_shows_its_own_attribute_only(self, server_with: ServerWith) -> None:
        for option, present, absent in (
            ("show_multiple_locations", "locations", "direct_url"),
            ("show_direct_url", "direct_url", "locations"),
        ):
            running = server_with({"images": {option: True}})
            created = running.demo.create(disk_format="raw", container_format="bare")
            shown = running.demo.upload(created["id"], b"located")
            assert present in shown
            assert absent not in shown
