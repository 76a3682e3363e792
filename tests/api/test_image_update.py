"""Update image: PATCH /v2/images/{id} (API §7)."""

from __future__ import annotations

import json
import threading
import time
import uuid
from typing import Any

import httpx
import pytest

from tests.conftest import Actors, MakeImage
from tests.support.server import PATCH_V20, PATCH_V21, Client, ServerProcess, told

FOUR_BYTES = "\U0001f427"
BASE = {
    "name": "new name",
    "visibility": "private",
    "protected": True,
    "min_ram": 5,
    "min_disk": 6,
    "os_hidden": True,
    "disk_format": "vmdk",
    "container_format": "ova",
    "tags": ["x", "y"],
}
READ_ONLY = [
    "id", "created_at", "updated_at", "status", "checksum", "size", "virtual_size",
    "os_hash_algo", "os_hash_value", "direct_url", "self", "file", "schema", "stores",
]  # fmt: skip
RESERVED = ["location", "deleted", "deleted_at", "os_glance_import_task", "os_glance", "os_glancex"]


def operation(version: str, op: str, path: str, value: Any = None) -> dict[str, Any]:
    """One element of a patch, in the form of its media type."""
    element: dict[str, Any] = {"op": op, "path": path} if version == "2.1" else {op: path}
    if op != "remove":
        element["value"] = value
    return element


def patch(client: Client, image_id: str, operations: Any, version: str = "2.1") -> httpx.Response:
    """PATCH an image."""
    return client.patch(
        f"/v2/images/{image_id}", operations, PATCH_V21 if version == "2.1" else PATCH_V20
    )


def apply(client: Client, image_id: str, *operations: Any, version: str = "2.1") -> dict[str, Any]:
    """PATCH that has to succeed; gives the image."""
    answer = patch(client, image_id, list(operations), version)
    assert answer.status_code == 200, told(answer)
    changed: dict[str, Any] = answer.json()
    return changed


def without_time(image: dict[str, Any]) -> dict[str, Any]:
    """The image apart from `updated_at`, tags in order."""
    rest = {key: value for key, value in image.items() if key != "updated_at"}
    rest["tags"] = sorted(rest["tags"])
    return rest


both_versions = pytest.mark.parametrize("version", ["2.1", "2.0"])


class TestMediaTypes:
    """§7.1"""

    @both_versions
    def test_both_media_types_are_served(
        self, owner: Client, image: MakeImage, version: str
    ) -> None:
        created = image()
        changed = apply(
            owner, created["id"], operation(version, "replace", "/name", "x"), version=version
        )
        assert changed["name"] == "x"
        assert without_time(changed) == without_time({**created, "name": "x"})
        assert owner.show(created["id"]) == changed

    @pytest.mark.parametrize(
        "content_type",
        [
            None,
            "",
            "application/json",
            "application/json-patch+json",
            "application/openstack-images-v2.2-json-patch",
            "application/openstack-images-v2-json-patch",
            "text/plain",
            "application/openstack-images-v2.1-json-patchx",
        ],
    )
    @pytest.mark.parametrize("exists", [True, False])
    def test_other_media_types_are_refused_even_for_unknown_images(
        self, owner: Client, image: MakeImage, content_type: str | None, exists: bool
    ) -> None:
        image_id = image(name="same")["id"] if exists else str(uuid.uuid4())
        answer = owner.request(
            "PATCH",
            f"/v2/images/{image_id}",
            content=json.dumps([{"op": "replace", "path": "/name", "value": "x"}]),
            headers={} if content_type is None else {"Content-Type": content_type},
        )
        assert answer.status_code == 415, told(answer)
        accepted = {kind.strip() for kind in answer.headers["accept-patch"].split(",")}
        assert accepted == {PATCH_V20, PATCH_V21}
        if exists:
            assert owner.show(image_id)["name"] == "same"

    def test_parameters_of_the_content_type_are_ignored(
        self, owner: Client, image: MakeImage
    ) -> None:
        answer = owner.patch(
            f"/v2/images/{image()['id']}",
            [{"op": "replace", "path": "/name", "value": "x"}],
            f"{PATCH_V21}; charset=utf-8",
        )
        assert answer.status_code == 200, told(answer)

    @both_versions
    def test_empty_patch_changes_nothing_not_even_the_time(
        self, owner: Client, image: MakeImage, version: str
    ) -> None:
        created = image()
        time.sleep(1.1)
        answer = patch(owner, created["id"], [], version)
        assert answer.status_code == 200, told(answer)
        assert answer.json() == created
        assert owner.show(created["id"]) == created

    def test_a_change_moves_updated_at_only(self, owner: Client, image: MakeImage) -> None:
        created = image()
        time.sleep(1.1)
        changed = apply(owner, created["id"], operation("2.1", "add", "/a", "b"))
        assert changed["updated_at"] > created["updated_at"]
        assert changed["created_at"] == created["created_at"]

    def test_forms_of_one_media_type_are_refused_by_the_other(
        self, owner: Client, image: MakeImage
    ) -> None:
        image_id = image(name="same")["id"]
        old_form = patch(owner, image_id, [operation("2.0", "replace", "/name", "x")], "2.1")
        new_form = patch(owner, image_id, [operation("2.1", "replace", "/name", "x")], "2.0")
        assert [old_form.status_code, new_form.status_code] == [400, 400]
        assert owner.show(image_id)["name"] == "same"


class TestStructure:
    """§7.2: every structural error is 400 and changes nothing."""

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"null",
            b"{}",
            b'"text"',
            b"1",
            b'{"op": "replace", "path": "/name", "value": "x"}',
            b"[1]",
            b"[null]",
            b'["replace"]',
            b"[[]]",
            b"[{}]",
            b'[{"path": "/name", "value": "x"}]',
            b'[{"op": "test", "path": "/name", "value": "x"}]',
            b'[{"op": "move", "from": "/name", "path": "/other"}]',
            b'[{"op": "copy", "from": "/name", "path": "/other"}]',
            b'[{"op": "REPLACE", "path": "/name", "value": "x"}]',
            b'[{"op": null, "path": "/name", "value": "x"}]',
            b'[{"op": ["add"], "path": "/name", "value": "x"}]',
            b'[{"op": "replace", "value": "x"}]',
            b'[{"op": "replace", "path": null, "value": "x"}]',
            b'[{"op": "replace", "path": 1, "value": "x"}]',
            b'[{"op": "replace", "path": ["/name"], "value": "x"}]',
            b'[{"op": "replace", "path": {"a": "b"}, "value": "x"}]',
            b'[{"op": "replace", "path": "/name"}]',
            b'[{"op": "add", "path": "/name"}]',
            b'[{"op": "add", "path": "name", "value": "x"}]',
            b'[{"op": "add", "path": "", "value": "x"}]',
            b'[{"op": "add", "path": "/name/", "value": "x"}]',
            b'[{"op": "add", "path": "/a//b", "value": "x"}]',
            b'[{"op": "add", "path": "/a/b", "value": "x"}]',
            b'[{"op": "replace", "path": "/name/0", "value": "x"}]',
            b'[{"op": "remove", "path": "/custom/x"}]',
            b'[{"op": "add", "path": "/a~", "value": "x"}]',
            b'[{"op": "add", "path": "/a~2", "value": "x"}]',
            b'[{"op": "add", "path": "/~x", "value": "x"}]',
            b'[{"op": "add", "path": "/tags/-", "value": "x"}]',
            b'[{"op": "add", "path": "/tags/0", "value": "x"}]',
            b'[{"op": "replace", "path": "/tags/0", "value": "x"}]',
            b'[{"op": "remove", "path": "/tags/0"}]',
            b'[{"op": "replace", "path": "/name", "value": "x"}, {"op": "bogus", "path": "/a"}]',
            b'[{"op": "replace", "path": "/name", "value": "x"}, 7]',
            b"[" * 100_000,
            b'[{"op": "replace", "path": "/name", "value": "\xff"}]',
        ],
        ids=lambda body: repr(body[:50]),
    )
    def test_wrong_v21_document(self, owner: Client, image: MakeImage, body: bytes) -> None:
        self.refused(owner, image, body, PATCH_V21)

    @pytest.mark.parametrize(
        "body",
        [
            b"{}",
            b"[{}]",
            b'[{"value": "x"}]',
            b'[{"add": "/a", "replace": "/name", "value": "x"}]',
            b'[{"add": "/a", "remove": "/name", "value": "x"}]',
            b'[{"test": "/name", "value": "x"}]',
            b'[{"replace": "/name"}]',
            b'[{"add": "/a"}]',
            b'[{"replace": "name", "value": "x"}]',
            b'[{"replace": 1, "value": "x"}]',
            b'[{"replace": null, "value": "x"}]',
            b'[{"add": "/a/b", "value": "x"}]',
            b'[{"add": "/a~3", "value": "x"}]',
        ],
        ids=lambda body: repr(body[:50]),
    )
    def test_wrong_v20_document(self, owner: Client, image: MakeImage, body: bytes) -> None:
        self.refused(owner, image, body, PATCH_V20)

    @staticmethod
    def refused(owner: Client, image: MakeImage, body: bytes, kind: str) -> None:
        created = image(name="same", custom="value", tags=["one"])
        answer = owner.request(
            "PATCH",
            f"/v2/images/{created['id']}",
            content=body,
            headers={"Content-Type": kind},
        )
        assert answer.status_code == 400, told(answer)
        assert owner.show(created["id"]) == created

    def test_missing_body(self, owner: Client, image: MakeImage) -> None:
        answer = owner.request(
            "PATCH", f"/v2/images/{image()['id']}", headers={"Content-Type": PATCH_V21}
        )
        assert answer.status_code == 400, told(answer)

    def test_doubled_leading_slash_is_one_or_refused(self, owner: Client, image: MakeImage) -> None:
        created = image()
        answer = patch(owner, created["id"], [operation("2.1", "replace", "//name", "x")])
        assert answer.status_code in (200, 400), told(answer)
        assert owner.show(created["id"])["name"] == ("x" if answer.status_code == 200 else None)

    @both_versions
    def test_escapes_reach_names_with_slash_and_tilde(
        self, owner: Client, image: MakeImage, version: str
    ) -> None:
        image_id = image()["id"]
        changed = apply(
            owner,
            image_id,
            operation(version, "add", "/a~1b", "slash"),
            operation(version, "add", "/a~0b", "tilde"),
            operation(version, "add", "/a~01", "tilde one"),
            operation(version, "add", "/trait:HW", "colon"),
            operation(version, "add", "/with blank", "blank"),
            operation(version, "add", "/größe", "umlaut"),
            version=version,
        )
        assert changed["a/b"] == "slash"
        assert changed["a~b"] == "tilde"
        assert changed["a~1"] == "tilde one", "~01 is a tilde and a one, not a slash"
        assert changed["trait:HW"] == "colon"
        assert changed["with blank"] == "blank"
        assert changed["größe"] == "umlaut"
        changed = apply(
            owner,
            image_id,
            operation(version, "remove", "/a~1b"),
            operation(version, "replace", "/a~0b", "new"),
            version=version,
        )
        assert "a/b" not in changed
        assert changed["a~b"] == "new"


class TestAttributes:
    """§7.3"""

    @both_versions
    @pytest.mark.parametrize("op", ["add", "replace", "remove"])
    @pytest.mark.parametrize("name", [*READ_ONLY, *RESERVED])
    def test_read_only_and_reserved(
        self, owner: Client, image: MakeImage, name: str, op: str, version: str
    ) -> None:
        created = image(name="same")
        answer = patch(
            owner,
            created["id"],
            [
                operation(version, "replace", "/name", "changed"),
                operation(version, op, f"/{name}", "x"),
            ],
            version,
        )
        assert answer.status_code == 403, told(answer)
        assert name in answer.text, f"the error has to name {name}: {told(answer)}"
        assert owner.show(created["id"]) == created

    @both_versions
    @pytest.mark.parametrize("name", BASE)
    def test_base_attribute_is_replaced(
        self, owner: Client, image: MakeImage, name: str, version: str
    ) -> None:
        created = image()
        changed = apply(
            owner,
            created["id"],
            operation(version, "replace", f"/{name}", BASE[name]),
            version=version,
        )
        assert without_time(changed) == without_time({**created, name: BASE[name]})
        assert owner.show(created["id"]) == changed

    @pytest.mark.parametrize("name", BASE)
    def test_adding_a_base_attribute_sets_it_in_v21(
        self, owner: Client, image: MakeImage, name: str
    ) -> None:
        changed = apply(owner, image()["id"], operation("2.1", "add", f"/{name}", BASE[name]))
        value = sorted(changed[name]) if name == "tags" else changed[name]
        assert value == BASE[name]

    @pytest.mark.parametrize("name", [*BASE, "owner"])
    def test_adding_a_base_attribute_conflicts_in_v20(
        self, owner: Client, image: MakeImage, name: str
    ) -> None:
        created = image()
        value = BASE.get(name, owner.project_id)
        answer = patch(owner, created["id"], [operation("2.0", "add", f"/{name}", value)], "2.0")
        assert answer.status_code == 409, told(answer)
        assert owner.show(created["id"]) == created

    @both_versions
    @pytest.mark.parametrize("name", [*BASE, "owner"])
    def test_base_attribute_is_never_removed(
        self, owner: Client, image: MakeImage, name: str, version: str
    ) -> None:
        created = image()
        answer = patch(owner, created["id"], [operation(version, "remove", f"/{name}")], version)
        assert answer.status_code == 403, told(answer)
        assert owner.show(created["id"]) == created

    @both_versions
    def test_custom_property_is_added_replaced_and_removed(
        self, owner: Client, image: MakeImage, version: str
    ) -> None:
        image_id = image()["id"]
        added = apply(owner, image_id, operation(version, "add", "/p", "1"), version=version)
        assert added["p"] == "1"
        replaced = apply(owner, image_id, operation(version, "replace", "/p", "2"), version=version)
        assert replaced["p"] == "2"
        removed = apply(owner, image_id, operation(version, "remove", "/p"), version=version)
        assert "p" not in removed
        assert "p" not in owner.show(image_id)

    def test_adding_an_existing_custom_property_overwrites_in_v21(
        self, owner: Client, image: MakeImage
    ) -> None:
        changed = apply(owner, image(p="old")["id"], operation("2.1", "add", "/p", "new"))
        assert changed["p"] == "new"

    def test_adding_an_existing_custom_property_conflicts_in_v20(
        self, owner: Client, image: MakeImage
    ) -> None:
        image_id = image(p="old")["id"]
        answer = patch(owner, image_id, [operation("2.0", "add", "/p", "new")], "2.0")
        assert answer.status_code == 409, told(answer)
        assert owner.show(image_id)["p"] == "old"

    @both_versions
    @pytest.mark.parametrize("op", ["replace", "remove"])
    @pytest.mark.parametrize("name", ["missing", "kernel_id", "os_distro"])
    def test_missing_custom_property_conflicts(
        self, owner: Client, image: MakeImage, name: str, op: str, version: str
    ) -> None:
        created = image()
        answer = patch(
            owner, created["id"], [operation(version, op, f"/{name}", str(uuid.uuid4()))], version
        )
        assert answer.status_code == 409, told(answer)
        assert owner.show(created["id"]) == created

    @both_versions
    @pytest.mark.parametrize(
        ("op", "path"),
        [
            ("add", "/locations/0"),
            ("add", "/locations/-"),
            ("replace", "/locations"),
            ("remove", "/locations/0"),
        ],
    )
    def test_locations_are_closed_by_default(
        self, owner: Client, image: MakeImage, path: str, op: str, version: str
    ) -> None:
        created = image()
        location = {"url": "http://example.org/x", "metadata": {}}
        value = [location] if op == "replace" else location
        answer = patch(owner, created["id"], [operation(version, op, path, value)], version)
        assert answer.status_code == 403, told(answer)
        assert owner.show(created["id"]) == created

    def test_adding_locations_without_a_position_is_refused(
        self, owner: Client, image: MakeImage
    ) -> None:
        answer = patch(owner, image()["id"], [operation("2.1", "add", "/locations", [])])
        assert answer.status_code in (400, 403), told(answer)

    @pytest.mark.parametrize(
        "name",
        ["is_public", "image_id", "member", "extra_properties", "delete", "properties", "revision"],
    )
    def test_other_names_are_custom_properties(
        self, owner: Client, image: MakeImage, name: str
    ) -> None:
        image_id = image()["id"]
        apply(owner, image_id, operation("2.1", "add", f"/{name}", "x"))
        assert owner.show(image_id)[name] == "x"
        assert name not in apply(owner, image_id, operation("2.1", "remove", f"/{name}"))

    def test_operations_apply_in_order(self, owner: Client, image: MakeImage) -> None:
        image_id = image(a="1")["id"]
        changed = apply(
            owner,
            image_id,
            operation("2.1", "replace", "/a", "2"),
            operation("2.1", "remove", "/a"),
            operation("2.1", "add", "/a", "3"),
            operation("2.1", "add", "/b", "1"),
            operation("2.1", "remove", "/b"),
            operation("2.1", "replace", "/name", "first"),
            operation("2.1", "replace", "/name", "second"),
        )
        assert changed["a"] == "3"
        assert "b" not in changed
        assert changed["name"] == "second"

    @pytest.mark.parametrize(
        ("last", "status"),
        [
            (operation("2.1", "remove", "/missing"), 409),
            (operation("2.1", "replace", "/missing", "x"), 409),
            (operation("2.1", "replace", "/status", "active"), 403),
            (operation("2.1", "remove", "/name"), 403),
            (operation("2.1", "replace", "/min_ram", "x"), 400),
            (operation("2.1", "replace", "/visibility", "public"), 403),
            (operation("2.1", "replace", "/tags", ["x" * 256]), 400),
        ],
    )
    def test_all_operations_apply_or_none(
        self, owner: Client, image: MakeImage, last: dict[str, Any], status: int
    ) -> None:
        created = image(name="same", p="1", tags=["one"])
        answer = patch(
            owner,
            created["id"],
            [
                operation("2.1", "replace", "/name", "changed"),
                operation("2.1", "remove", "/p"),
                operation("2.1", "add", "/q", "new"),
                operation("2.1", "replace", "/tags", ["two"]),
                last,
            ],
        )
        assert answer.status_code == status, told(answer)
        assert owner.show(created["id"]) == created


class TestValues:
    """§7.4"""

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("name", 1), ("name", "x" * 256), ("name", []), ("name", False),
            ("visibility", "secret"), ("visibility", None), ("visibility", 1),
            ("protected", "true"), ("protected", None), ("protected", 1),
            ("os_hidden", "false"), ("os_hidden", 0), ("os_hidden", None),
            ("min_ram", "1"), ("min_ram", -1), ("min_ram", 2147483648), ("min_ram", None),
            ("min_ram", True), ("min_ram", 0.5),
            ("min_disk", "1"), ("min_disk", -1), ("min_disk", 2147483648), ("min_disk", {}),
            ("disk_format", "floppy"), ("disk_format", 1), ("disk_format", ""),
            ("container_format", "box"), ("container_format", []),
            ("tags", "x"), ("tags", None), ("tags", [1]), ("tags", ["x" * 256]), ("tags", {}),
            ("name", FOUR_BYTES), ("tags", [FOUR_BYTES]), ("custom", FOUR_BYTES),
            ("name", "nul\x00"), ("custom", "nul\x00"), ("tags", ["nul\x00"]),
            ("custom", 1), ("custom", None), ("custom", True), ("custom", []), ("custom", {}),
            ("kernel_id", "nokernel"), ("ramdisk_id", 1), ("ramdisk_id", ""),
            ("os_distro", None), ("instance_uuid", 5),
            ("cinder_encryption_key_deletion_policy", "maybe"),
        ],
        ids=lambda value: ascii(value)[:30],
    )  # fmt: skip
    @pytest.mark.parametrize("op", ["add", "replace"])
    def test_value_that_breaks_the_schema_is_refused(
        self, owner: Client, image: MakeImage, name: str, value: Any, op: str
    ) -> None:
        created = image(
            name="same",
            custom="value",
            kernel_id=None,
            ramdisk_id=None,
            os_distro="debian",
            instance_uuid="x",
            cinder_encryption_key_deletion_policy="do_not_delete",
        )
        answer = patch(owner, created["id"], [operation("2.1", op, f"/{name}", value)])
        assert answer.status_code == 400, told(answer)
        assert owner.show(created["id"]) == created

    @pytest.mark.parametrize("name", ["k" * 256, f"a{FOUR_BYTES}", "nul\x00"])
    def test_name_that_cannot_be_kept_is_refused(
        self, owner: Client, image: MakeImage, name: str
    ) -> None:
        answer = patch(owner, image()["id"], [operation("2.1", "add", f"/{name}", "x")])
        assert answer.status_code == 400, told(answer)

    def test_lone_surrogate_is_refused(self, owner: Client, image: MakeImage) -> None:
        answer = owner.request(
            "PATCH",
            f"/v2/images/{image()['id']}",
            content=b'[{"op": "replace", "path": "/name", "value": "\\ud800"}]',
            headers={"Content-Type": PATCH_V21},
        )
        assert answer.status_code == 400, told(answer)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("name", None), ("name", ""), ("name", "n" * 255),
            ("min_ram", 0), ("min_ram", 2147483647), ("min_disk", 2147483647),
            ("disk_format", None), ("container_format", None),
            ("tags", []), ("kernel_id", None), ("visibility", "community"),
            ("kernel_id", "B2173DD3-7AD6-4362-BAA6-A68BCE3565CB"), ("long", "v" * 65535),
            ("k" * 255, "x"), ("empty", ""),
        ],
        ids=lambda value: ascii(value)[:30],
    )  # fmt: skip
    def test_value_at_the_edge_is_accepted(
        self, owner: Client, image: MakeImage, name: str, value: Any
    ) -> None:
        image_id = image(name="x", tags=["x"], disk_format="raw", container_format="bare")["id"]
        apply(owner, image_id, operation("2.1", "add", f"/{name}", value))
        assert owner.show(image_id)[name] == value

    @pytest.mark.parametrize("deactivated", [False, True])
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("disk_format", "qcow2"),
            ("disk_format", "raw"),
            ("container_format", "ovf"),
            ("container_format", "bare"),
            ("disk_format", None),
        ],
    )
    def test_formats_are_frozen_once_there_is_data(
        self,
        owner: Client,
        image: MakeImage,
        name: str,
        value: str | None,
        deactivated: bool,
    ) -> None:
        created = image(data=b"x")
        if deactivated:
            owner.post(f"/v2/images/{created['id']}/actions/deactivate")
            created = owner.show(created["id"])
        answer = patch(owner, created["id"], [operation("2.1", "replace", f"/{name}", value)])
        assert answer.status_code == 403, told(answer)
        assert owner.show(created["id"]) == created

    def test_all_else_may_change_once_there_is_data(self, owner: Client, image: MakeImage) -> None:
        created = image(data=b"x")
        rest = {key: value for key, value in BASE.items() if not key.endswith("_format")}
        changed = apply(
            owner,
            created["id"],
            *(operation("2.1", "replace", f"/{key}", value) for key, value in rest.items()),
            operation("2.1", "add", "/custom", "x"),
        )
        assert without_time(changed) == without_time({**created, **rest, "custom": "x"})

    def test_visibility_public_is_for_admins(self, actors: Actors, image: MakeImage) -> None:
        created = image(actors.owner)
        to_public = [operation("2.1", "replace", "/visibility", "public")]
        assert patch(actors.owner, created["id"], to_public).status_code == 403
        assert actors.owner.show(created["id"])["visibility"] == "shared"
        assert patch(actors.admin, created["id"], to_public).status_code == 200
        assert actors.other.show(created["id"])["visibility"] == "public"

    def test_visibility_of_an_invisible_image_is_hidden(
        self, actors: Actors, image: MakeImage
    ) -> None:
        created = image(actors.owner, visibility="private")
        for value in ("public", "community"):
            answer = patch(
                actors.other, created["id"], [operation("2.1", "replace", "/visibility", value)]
            )
            assert answer.status_code == 404, told(answer)

    @pytest.mark.parametrize("value", ["somebody", None])
    def test_owner_is_replaced_by_admins_only(
        self, actors: Actors, image: MakeImage, value: str | None
    ) -> None:
        created = image(actors.owner)
        change = [operation("2.1", "replace", "/owner", value)]
        assert patch(actors.owner, created["id"], change).status_code == 403
        answer = patch(actors.admin, created["id"], change)
        assert answer.status_code == 200, told(answer)
        assert answer.json()["owner"] == value
        actors.admin.delete(f"/v2/images/{created['id']}")

    def test_even_the_present_owner_is_not_replaced_by_a_member(
        self, owner: Client, image: MakeImage
    ) -> None:
        answer = patch(
            owner, image()["id"], [operation("2.1", "replace", "/owner", owner.project_id)]
        )
        assert answer.status_code == 403, told(answer)

    @pytest.mark.parametrize("value", [1, "x" * 256])
    def test_wrong_owner_of_an_admin_is_refused(
        self, admin: Client, image: MakeImage, value: Any
    ) -> None:
        created = image(admin)
        answer = patch(admin, created["id"], [operation("2.1", "replace", "/owner", value)])
        assert answer.status_code == 400, told(answer)

    def test_tags_are_replaced_whole_and_as_a_set(self, owner: Client, image: MakeImage) -> None:
        image_id = image(tags=["a", "b"])["id"]
        changed = apply(owner, image_id, operation("2.1", "replace", "/tags", ["c", "b", "c"]))
        assert sorted(changed["tags"]) == ["b", "c"]
        assert sorted(owner.show(image_id)["tags"]) == ["b", "c"]

    def test_protected_image_may_be_changed(self, owner: Client, image: MakeImage) -> None:
        image_id = image(protected=True)["id"]
        changed = apply(owner, image_id, operation("2.1", "replace", "/name", "x"))
        assert changed["name"] == "x"


class TestWho:
    """Who may update, and what others see."""

    @pytest.mark.parametrize(
        ("visibility", "who", "status"),
        [
            ("private", "owner", 200),
            ("private", "admin", 200),
            ("private", "owner_reader", 403),
            ("private", "other", 404),
            ("community", "other", 403),
            ("community", "norole", 404),
            ("shared", "other", 404),
        ],
    )
    def test_hide_rule(
        self, actors: Actors, image: MakeImage, visibility: str, who: str, status: int
    ) -> None:
        created = image(actors.owner, visibility=visibility)
        answer = patch(
            getattr(actors, who), created["id"], [operation("2.1", "replace", "/name", "x")]
        )
        assert answer.status_code == status, told(answer)
        assert actors.owner.show(created["id"])["name"] == ("x" if status == 200 else None)

    def test_unknown_image_is_not_found(self, owner: Client) -> None:
        assert patch(owner, str(uuid.uuid4()), []).status_code == 404

    def test_update_needs_a_token(self, server: ServerProcess, image: MakeImage) -> None:
        answer = patch(server.client(), image()["id"], [])
        assert answer.status_code == 401, told(answer)


def test_updates_at_the_same_time_lose_nothing(
    server: ServerProcess, owner: Client, image: MakeImage
) -> None:
    image_id = image()["id"]
    outcomes: dict[str, int] = {}

    def update(number: int) -> None:
        client = server.client(owner.token)
        for round_number in range(5):
            name = f"p{number}-{round_number}"
            answer = patch(client, image_id, [operation("2.1", "add", f"/{name}", name)])
            outcomes[name] = answer.status_code

    threads = [threading.Thread(target=update, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(outcomes) == 30, "a client did not get its answers"
    assert set(outcomes.values()) <= {200, 409}, outcomes
    shown = owner.show(image_id)
    kept = {name for name in outcomes if name in shown}
    assert kept == {name for name, status in outcomes.items() if status == 200}
    assert len(kept) >= 5, "at least one update of each round has to win"
