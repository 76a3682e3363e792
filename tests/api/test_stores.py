"""Several stores: discovery, choosing one to read from, deleting from one (API §9.2, §14, §15)."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.checks import queued
from tests.conftest import MakeServer, Running, ServerWith
from tests.support.copies import add_copy, locations_of, with_catalog
from tests.support.server import Client, Config, merged, told

STORES: Config = {
    "stores": {
        "default": "main",
        "main": {"driver": "file", "path": "<data>/images", "description": "The first"},
        "second": {"driver": "file", "path": "<data>/second", "weight": 5},
        "quick": {"driver": "memory", "weight": -1},
    }
}
DELAYED: Config = merged(STORES, {"delete": {"delayed": True, "scrub_after_seconds": 3600}})
SHOWN: Config = merged(STORES, {"images": {"show_multiple_locations": True}})
DATA = b"sash and pane, " * 10_000


@pytest.fixture
def stores(server_with: ServerWith) -> Running:
    """A server with two file stores and one in memory."""
    return server_with(STORES)


def in_two_stores(running: Running, **attributes: Any) -> str:
    """An active image with its data in `main` and, copied, in `second`."""
    image_id = queued(running.demo, **attributes)
    running.demo.upload(image_id, DATA)
    add_copy(running.server, image_id, "second")
    return image_id


def files_of(running: Running, image_id: str) -> dict[str, list[Path]]:
    """The files of an image by store."""
    return {
        name: [path for path in running.server.stored_files(name) if image_id in path.name]
        for name in ("main", "second")
    }


def withdraw(client: Client, store: str, image_id: str, **options: Any) -> httpx.Response:
    """Delete from a store."""
    return client.request("DELETE", f"/v2/stores/{store}/{image_id}", **options)


class TestDiscovery:
    """What is told of the stores, and to whom (API §15)."""

    def test_any_token_may_ask_for_the_stores(self, stores: Running) -> None:
        reader = stores.server.provision({"onlooker": ("onlookers", ["onlooker"])})["onlooker"]
        for client in (stores.demo, stores.admin, reader):
            answer = client.get("/v2/info/stores")
            assert answer.status_code == 200, told(answer)
            assert answer.json() == {
                "stores": [
                    {"id": "main", "description": "The first", "default": "true"},
                    {"id": "second"},
                    {"id": "quick"},
                ]
            }

    def test_administrators_and_services_see_the_details(self, stores: Running) -> None:
        service = stores.server.provision({"robot": ("robots", ["service"])})["robot"]
        for client in (stores.admin, service):
            answer = client.get("/v2/info/stores/detail")
            assert answer.status_code == 200, told(answer)
            found = answer.json()["stores"]
            chunk = found[0]["properties"]["chunk_size"]
            assert isinstance(chunk, int)
            assert chunk > 0
            assert found == [
                {
                    "id": "main",
                    "description": "The first",
                    "default": "true",
                    "type": "file",
                    "weight": 0,
                    "properties": {
                        "data_dir": str(stores.server.data / "images"),
                        "chunk_size": chunk,
                        "thin_provisioning": False,
                    },
                },
                {
                    "id": "second",
                    "type": "file",
                    "weight": 5,
                    "properties": {
                        "data_dir": str(stores.server.data / "second"),
                        "chunk_size": chunk,
                        "thin_provisioning": False,
                    },
                },
                {"id": "quick", "type": "memory", "weight": -1, "properties": {}},
            ]

    def test_details_are_not_for_members(self, stores: Running) -> None:
        assert stores.demo.get("/v2/info/stores/detail").status_code == 403

    @pytest.mark.parametrize("path", ["/v2/info/stores", "/v2/info/stores/detail"])
    def test_other_methods_are_told_the_right_one(self, stores: Running, path: str) -> None:
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            answer = stores.admin.request(method, path)
            assert answer.status_code == 405, told(answer)
            assert answer.headers["allow"] == "GET"
        assert stores.admin.request("GET", path, content=b"{}").status_code == 400
        assert stores.server.client().get(path).status_code == 401

    def test_announcement_can_be_forced_and_forbidden(self, server_with: ServerWith) -> None:
        always = server_with({"stores": {"announce": "always", "main": {"driver": "file"}}})
        assert always.demo.get("/v2/info/stores").json() == {
            "stores": [{"id": "main", "default": "true"}]
        }
        created = always.demo.post("/v2/images", json={})
        assert created.headers["openstack-image-store-ids"] == "main"
        never = server_with(merged(STORES, {"stores": {"announce": "never"}}))
        assert never.admin.get("/v2/info/stores/detail").status_code == 404
        assert never.demo.get("/v2.8/images").status_code == 300
        created = never.demo.post("/v2/images", json={})
        assert "openstack-image-store-ids" not in created.headers
        image_id = queued(never.demo)
        # With one store to be seen the header says nothing (API §9.1).
        answer = never.demo.put_data(image_id, b"x", {"X-Image-Meta-Store": "nowhere"})
        assert answer.status_code == 204, told(answer)
        assert "stores" not in never.demo.show(image_id)
        assert withdraw(never.admin, "main", image_id).status_code == 404
        download = never.demo.get(f"/v2/images/{image_id}/file?prefer=main")
        assert download.status_code == 400, told(download)

    def test_versions_of_several_stores_are_accepted(self, stores: Running) -> None:
        for version in ("v2.8", "v2.9", "v2.10", "v2.11", "v2.12", "v2.13", "v2.15"):
            assert stores.demo.get(f"/{version}/info/stores").status_code == 200, version


class TestPreference:
    """Which store is read from (API §9.2)."""

    def test_the_heaviest_store_is_read_from_and_named_first(self, stores: Running) -> None:
        image_id = in_two_stores(stores)
        assert stores.demo.show(image_id)["stores"] == "second,main"
        for path in files_of(stores, image_id)["main"]:
            path.write_bytes(b"!" * len(DATA))
        assert stores.demo.get(f"/v2/images/{image_id}/file").content == DATA

    @pytest.mark.parametrize(
        ("prefer", "marked"),
        [
            ("main", True),
            ("main,second", True),
            (" main , ", True),
            (",,main", True),
            ("second", False),
            ("second,main", False),
            ("quick", False),
            ("quick,main", True),
            ("", False),
            (" , ", False),
        ],
    )
    def test_the_store_of_choice_is_read_from_first(
        self, stores: Running, prefer: str, marked: bool
    ) -> None:
        image_id = in_two_stores(stores)
        for path in files_of(stores, image_id)["main"]:
            path.write_bytes(b"!" * len(DATA))
        answer = stores.demo.get(f"/v2/images/{image_id}/file", params={"prefer": prefer})
        assert answer.status_code == 200, told(answer)
        assert answer.content == (b"!" * len(DATA) if marked else DATA)

    def test_a_range_comes_from_the_store_of_choice_too(self, stores: Running) -> None:
        image_id = in_two_stores(stores)
        for path in files_of(stores, image_id)["main"]:
            path.write_bytes(b"!" * len(DATA))
        answer = stores.demo.get(
            f"/v2/images/{image_id}/file?prefer=main", headers={"Range": "bytes=5-9"}
        )
        assert (answer.status_code, answer.content) == (206, b"!!!!!")

    def test_unknown_store_is_refused(self, stores: Running) -> None:
        image_id = in_two_stores(stores)
        for prefer in ("nowhere", "main,nowhere"):
            for method in ("GET", "HEAD"):
                answer = stores.demo.request(
                    method, f"/v2/images/{image_id}/file", params={"prefer": prefer}
                )
                assert answer.status_code == 400, told(answer)

    def test_one_store_is_no_choice(self, default: Running) -> None:
        image_id = queued(default.demo)
        default.demo.upload(image_id, b"x")
        answer = default.demo.get(f"/v2/images/{image_id}/file?prefer=main")
        assert answer.status_code == 400, told(answer)

    def test_choosing_needs_its_own_policy(self, make_server: MakeServer, tmp_path: Path) -> None:
        policy = tmp_path / "policy.yaml"
        policy.write_text('download_from_store: "role:admin"\n')
        server = make_server(merged(STORES, {"policy": {"file": str(policy)}}))
        running = Running(
            server, server.log_in_to_cloud("transom"), server.log_in_to_cloud("transom-demo")
        )
        image_id = in_two_stores(running)
        path = f"/v2/images/{image_id}/file"
        assert running.demo.get(path).content == DATA
        assert running.demo.get(f"{path}?prefer=").content == DATA
        answer = running.demo.get(f"{path}?prefer=main")
        assert answer.status_code == 403, told(answer)
        assert running.admin.get(f"{path}?prefer=main").content == DATA

    @pytest.mark.parametrize("damage", ["missing", "unreadable"])
    @pytest.mark.parametrize("prefer", ["", "second", "main"])
    def test_a_store_that_fails_gives_way_before_the_first_byte(
        self, stores: Running, damage: str, prefer: str
    ) -> None:
        image_id = in_two_stores(stores)
        broken = "main" if prefer == "main" else "second"
        for path in files_of(stores, image_id)[broken]:
            path.unlink()
            if damage == "unreadable":
                path.mkdir()
        answer = stores.demo.get(f"/v2/images/{image_id}/file", params={"prefer": prefer})
        assert answer.status_code == 200, told(answer)
        assert answer.content == DATA

    def test_data_that_is_in_no_store_is_missing(self, stores: Running) -> None:
        image_id = in_two_stores(stores)
        for paths in files_of(stores, image_id).values():
            for path in paths:
                path.unlink()
        assert stores.demo.get(f"/v2/images/{image_id}/file").status_code == 404


class TestWithdrawal:
    """DELETE /v2/stores/{store_id}/{image_id} (API §14)."""

    @pytest.mark.parametrize(("store", "other"), [("main", "second"), ("second", "main")])
    def test_data_goes_from_one_store_and_stays_in_the_other(
        self, stores: Running, store: str, other: str
    ) -> None:
        image_id = in_two_stores(stores)
        before = stores.demo.show(image_id)
        answer = withdraw(stores.admin, store, image_id)
        assert (answer.status_code, answer.content) == (204, b""), told(answer)
        after = stores.demo.show(image_id)
        assert after["stores"] == other
        changed = {name for name in before if before[name] != after[name]}
        assert changed <= {"stores", "updated_at"}
        assert {name: len(paths) for name, paths in files_of(stores, image_id).items()} == {
            store: 0,
            other: 1,
        }
        assert stores.demo.get(f"/v2/images/{image_id}/file").content == DATA

    def test_the_last_location_stays(self, stores: Running) -> None:
        image_id = queued(stores.demo)
        stores.demo.upload(image_id, DATA)
        for store in ("main", "second"):
            answer = withdraw(stores.admin, store, image_id)
            assert answer.status_code == 403, told(answer)
        assert stores.demo.get(f"/v2/images/{image_id}/file").content == DATA

    def test_a_store_without_the_data_is_404(self, stores: Running) -> None:
        image_id = in_two_stores(stores)
        answer = withdraw(stores.admin, "quick", image_id)
        assert answer.status_code == 404, told(answer)
        assert stores.demo.show(image_id)["stores"] == "second,main"

    def test_two_locations_in_one_store_go_together(self, stores: Running) -> None:
        image_id = in_two_stores(stores)
        add_copy(stores.server, image_id, "second")
        assert withdraw(stores.admin, "second", image_id).status_code == 204
        assert [location.store for location in locations_of(stores.server, image_id)] == ["main"]
        assert files_of(stores, image_id)["second"] == []

    def test_data_in_one_store_only_stays_however_often_it_is_there(self, stores: Running) -> None:
        image_id = queued(stores.demo)
        stores.demo.upload(image_id, DATA)
        add_copy(stores.server, image_id, "main")
        assert withdraw(stores.admin, "main", image_id).status_code == 403
        assert len(files_of(stores, image_id)["main"]) == 2

    def test_an_unknown_store_is_a_conflict_whatever_the_image(self, stores: Running) -> None:
        image_id = in_two_stores(stores)
        for each in (image_id, "no-such-image"):
            answer = withdraw(stores.admin, "nowhere", each)
            assert answer.status_code == 409, told(answer)

    def test_an_image_that_nobody_sees_is_404(self, stores: Running) -> None:
        assert withdraw(stores.admin, "main", "no-such-image").status_code == 404
        stranger = stores.server.provision({"stranger": ("strangers", ["member"])})["stranger"]
        image_id = in_two_stores(stores, visibility="private")
        assert withdraw(stranger, "main", image_id).status_code == 404

    def test_members_may_not(self, stores: Running) -> None:
        image_id = in_two_stores(stores)
        answer = withdraw(stores.demo, "main", image_id)
        assert answer.status_code == 403, told(answer)
        assert stores.demo.show(image_id)["stores"] == "second,main"
        assert stores.server.client().delete(f"/v2/stores/main/{image_id}").status_code == 401

    def test_a_body_is_refused(self, stores: Running) -> None:
        image_id = in_two_stores(stores)
        answer = withdraw(stores.admin, "main", image_id, content=b"{}")
        assert answer.status_code == 400, told(answer)
        assert stores.demo.show(image_id)["stores"] == "second,main"

    def test_only_active_images_lose_data(self, stores: Running) -> None:
        waiting = queued(stores.demo)
        assert withdraw(stores.admin, "main", waiting).status_code == 409
        image_id = in_two_stores(stores)
        stores.demo.post(f"/v2/images/{image_id}/actions/deactivate")
        assert withdraw(stores.admin, "main", image_id).status_code == 409
        assert len(files_of(stores, image_id)["main"]) == 1

    def test_the_path_takes_no_other_method(self, stores: Running) -> None:
        for method in ("GET", "POST", "PUT", "PATCH"):
            answer = stores.admin.request(method, "/v2/stores/main/x")
            assert answer.status_code == 405, told(answer)
            assert answer.headers["allow"] == "DELETE"

    def test_with_one_store_there_is_no_such_path(self, default: Running) -> None:
        image_id = queued(default.demo)
        default.demo.upload(image_id, b"x")
        assert withdraw(default.admin, "main", image_id).status_code == 404
        assert default.admin.get(f"/v2/stores/main/{image_id}").status_code == 404

    def test_both_rules_decide(self, make_server: MakeServer, tmp_path: Path) -> None:
        policy = tmp_path / "policy.yaml"
        policy.write_text(
            'delete_image_location: "role:member"\nget_image_location: "role:nobody"\n'
        )
        server = make_server(merged(STORES, {"policy": {"file": str(policy)}}))
        running = Running(
            server, server.log_in_to_cloud("transom"), server.log_in_to_cloud("transom-demo")
        )
        image_id = in_two_stores(running)
        assert withdraw(running.demo, "main", image_id).status_code == 403
        policy.write_text('delete_image_location: "role:member"\n')
        server.restart()
        demo = server.log_in_to_cloud("transom-demo")
        assert withdraw(demo, "main", image_id).status_code == 204

    def test_data_that_is_missing_already_is_no_error(self, stores: Running) -> None:
        image_id = in_two_stores(stores)
        for path in files_of(stores, image_id)["second"]:
            path.unlink()
        assert withdraw(stores.admin, "second", image_id).status_code == 204
        assert stores.demo.show(image_id)["stores"] == "main"

    def test_with_delayed_deletion_the_data_waits_for_the_scrubber(
        self, server_with: ServerWith
    ) -> None:
        running = server_with(DELAYED)
        image_id = in_two_stores(running)
        assert withdraw(running.admin, "second", image_id).status_code == 204
        assert running.demo.show(image_id)["stores"] == "main"
        assert len(files_of(running, image_id)["second"]) == 1
        later = dt.datetime.now(dt.UTC) + dt.timedelta(hours=2)
        due = with_catalog(
            running.server,
            lambda catalog: asyncio.run(
                catalog.images.doomed(100, later, scrub_after_seconds=3600)
            ),
        )
        assert (image_id, "second") in [(found, place.store) for found, place in due]


def test_a_location_names_its_store(server_with: ServerWith) -> None:
    running = server_with(SHOWN)
    image_id = in_two_stores(running)
    shown = running.demo.show(image_id)["locations"]
    assert [location["metadata"] for location in shown] == [{"store": "second"}, {"store": "main"}]
