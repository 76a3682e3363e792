"""What namespaces of metadata definitions hold: objects, properties, tags, resource types
(API §20.2 to §20.5)."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.api.metadefs import (
    PROPERTY,
    TIME,
    MakeNamespace,
    make_namespace,
    path_of,
    refused,
    right,
)
from tests.support.server import Client

__all__ = ["make_namespace"]

EVERYTHING: dict[str, Any] = {
    "title": "All that a property can say",
    "type": "array",
    "description": "D",
    "operators": ["<or>", "<in>"],
    "minimum": -1,
    "maximum": 10.5,
    "minLength": 0,
    "maxLength": 255,
    "pattern": "^(a|b)$",
    "enum": ["a", 1, None, {"b": []}],
    "readonly": False,
    "default": ["any", {"json": 1}],
    "items": {"type": "string", "enum": ["a", 1]},
    "minItems": 1,
    "maxItems": 2,
    "uniqueItems": True,
    "additionalItems": False,
    "required": ["a"],
}
KINDS = {"objects": {}, "properties": PROPERTY}


@pytest.fixture
def space(make_namespace: MakeNamespace) -> str:
    """The name of an empty, public namespace."""
    return make_namespace(visibility="public")


@pytest.mark.parametrize("kind", KINDS)
class TestBoth:
    """What holds for objects and properties alike."""

    def body(self, kind: str, name: str, **more: Any) -> dict[str, Any]:
        return {"name": name, **KINDS[kind], **more}

    def names(self, client: Client, space: str, kind: str) -> list[str]:
        found = right(client.get(path_of(space, kind)))[kind]
        return list(found) if kind == "properties" else [one["name"] for one in found]

    def test_one_is_made_shown_replaced_renamed_and_removed(
        self, admin: Client, owner: Client, space: str, kind: str
    ) -> None:
        path = path_of(space, kind)
        made = admin.post(path, json=self.body(kind, "Ünï: 1", description="first"))
        view = right(made, 201)
        assert "location" not in made.headers
        one = path_of(space, kind, "Ünï: 1")
        assert right(owner.get(one)) == view
        replaced = right(admin.put(one, json=self.body(kind, "Ünï: 1")))
        assert "description" not in replaced
        right(admin.put(one, json=self.body(kind, "other")))
        refused(owner.get(one), 404)
        right(owner.get(path_of(space, kind, "other")))
        answer = admin.delete(path_of(space, kind, "other"))
        assert (answer.status_code, answer.content) == (204, b"")
        assert self.names(owner, space, kind) == []

    def test_all_are_listed_and_removed_together(
        self, admin: Client, owner: Client, space: str, kind: str
    ) -> None:
        for name in ("b", "B", "a"):
            right(admin.post(path_of(space, kind), json=self.body(kind, name)), 201)
        assert self.names(owner, space, kind) == ["b", "B", "a"]
        answer = admin.delete(path_of(space, kind))
        assert (answer.status_code, answer.content) == (204, b"")
        assert self.names(owner, space, kind) == []
        assert admin.delete(path_of(space, kind)).status_code == 204

    def test_a_name_is_given_once(self, admin: Client, space: str, kind: str) -> None:
        for name in ("a", "b"):
            right(admin.post(path_of(space, kind), json=self.body(kind, name)), 201)
        refused(admin.post(path_of(space, kind), json=self.body(kind, "a")), 409)
        refused(admin.put(path_of(space, kind, "a"), json=self.body(kind, "b")), 409)
        assert self.names(admin, space, kind) == ["a", "b"]

    def test_what_is_not_there_is_not_found(self, admin: Client, space: str, kind: str) -> None:
        right(admin.post(path_of(space, kind), json=self.body(kind, "a")), 201)
        for path in (path_of(space, kind, "A"), path_of("none", kind, "a")):
            refused(admin.get(path), 404)
            refused(admin.put(path, json=self.body(kind, "b")), 404)
            refused(admin.delete(path), 404)
        for method in ("GET", "DELETE"):
            refused(admin.request(method, path_of("none", kind)), 404)
        refused(admin.post(path_of("none", kind), json=self.body(kind, "a")), 404)

    @pytest.mark.parametrize(
        "more",
        [
            {"name": ""}, {"name": "x" * 81}, {"name": 1}, {"name": None}, {"name": "a\0"},
            {"name": "\U0001f427"}, {"description": 1}, {"colour": "red"}, {"required": ["a", "a"]},
            {"required": "a"},
        ],
        ids=str,
    )  # fmt: skip
    def test_a_body_that_does_not_fit_is_refused(
        self, admin: Client, space: str, kind: str, more: dict[str, Any]
    ) -> None:
        right(admin.post(path_of(space, kind), json=self.body(kind, "a")), 201)
        body = self.body(kind, "a") | more
        refused(admin.post(path_of(space, kind), json=body), 400)
        refused(admin.put(path_of(space, kind, "a"), json=body), 400)

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"{}"])
    def test_no_body_of_use_is_refused(
        self, admin: Client, space: str, kind: str, body: bytes
    ) -> None:
        refused(admin.post(path_of(space, kind), content=body), 400)
        refused(admin.put(path_of(space, kind, "a"), content=body), 400)

    def test_what_the_service_sets_is_forbidden(self, admin: Client, space: str, kind: str) -> None:
        body = self.body(kind, "a", created_at="2026-01-01T00:00:00Z")
        refused(admin.post(path_of(space, kind), json=body), 403)

    def test_a_body_where_none_belongs_is_refused(
        self, admin: Client, space: str, kind: str
    ) -> None:
        for method in ("GET", "DELETE"):
            for path in (path_of(space, kind), path_of(space, kind, "a")):
                refused(admin.request(method, path, content=b"{}"), 400)

    def test_a_protected_namespace_keeps_all_and_takes_more(
        self, admin: Client, make_namespace: MakeNamespace, kind: str
    ) -> None:
        space = make_namespace(protected=True)
        right(admin.post(path_of(space, kind), json=self.body(kind, "a")), 201)
        right(admin.put(path_of(space, kind, "a"), json=self.body(kind, "b")))
        refused(admin.delete(path_of(space, kind, "b")), 403)
        refused(admin.delete(path_of(space, kind)), 403)
        assert self.names(admin, space, kind) == ["b"]


class TestObjects:
    """…/objects"""

    def test_an_object_is_shown_with_its_links_and_times(self, admin: Client, space: str) -> None:
        body = {
            "name": "Disk",
            "description": "D",
            "required": ["b", "a"],
            "properties": {"b": EVERYTHING, "a": PROPERTY},
        }
        view = right(admin.post(path_of(space, "objects"), json=body), 201)
        assert TIME.fullmatch(view["created_at"])
        assert view == body | {
            "created_at": view["created_at"],
            "updated_at": view["created_at"],
            "self": f"/v2/metadefs/namespaces/{space}/objects/Disk",
            "schema": "/v2/schemas/metadefs/object",
        }
        assert right(admin.get(path_of(space, "objects"))) == {
            "objects": [view],
            "schema": "v2/schemas/metadefs/objects",
        }

    def test_the_time_of_creation_stays(self, admin: Client, space: str) -> None:
        made = right(admin.post(path_of(space, "objects"), json={"name": "o"}), 201)
        time.sleep(1.1)
        after = right(admin.put(path_of(space, "objects", "o"), json={"name": "o"}))
        assert after["created_at"] == made["created_at"]
        assert after["updated_at"] > made["updated_at"]

    @pytest.mark.parametrize("limit", ["0", "-1", "x", "", "1.5"])
    def test_a_wrong_limit_is_refused(self, admin: Client, space: str, limit: str) -> None:
        refused(admin.get(f"{path_of(space, 'objects')}?limit={limit}"), 400)

    def test_the_list_is_never_cut(self, admin: Client, space: str) -> None:
        for name in "abc":
            right(admin.post(path_of(space, "objects"), json={"name": name}), 201)
        view = right(admin.get(f"{path_of(space, 'objects')}?limit=1&marker=b"))
        assert len(view["objects"]) == 3


class TestProperties:
    """…/properties"""

    def test_a_property_says_all_that_it_was_given(self, admin: Client, space: str) -> None:
        body = {"name": "p", **EVERYTHING}
        answer = admin.post(path_of(space, "properties"), json=body)
        assert right(answer, 201) == body
        assert right(admin.get(path_of(space, "properties", "p"))) == body
        assert right(admin.get(path_of(space, "properties"))) == {"properties": {"p": EVERYTHING}}
        assert right(admin.get(path_of(space)))["properties"] == {"p": EVERYTHING}

    @pytest.mark.parametrize("default", [0, 1.5, True, "text", [1], {"a": None}])
    def test_a_default_is_any_json(self, admin: Client, space: str, default: Any) -> None:
        body = {"name": "p", **PROPERTY, "default": default}
        assert right(admin.post(path_of(space, "properties"), json=body), 201) == body

    @pytest.mark.parametrize(
        "wrong",
        [
            {"type": None}, {"type": "null"}, {"title": None}, {"minimum": "1"}, {"maxLength": -1},
            {"maxLength": 0.5}, {"enum": "a"}, {"items": {"type": "odd"}}, {"readonly": 1},
            {"uniqueItems": "no"}, {"operators": [1]}, {"required": []}, {"confidential": True},
        ],
        ids=str,
    )  # fmt: skip
    def test_a_definition_that_does_not_fit_is_refused(
        self, admin: Client, space: str, wrong: dict[str, Any]
    ) -> None:
        body = {"name": "p", **PROPERTY, **wrong}
        refused(admin.post(path_of(space, "properties"), json=body), 400)

    def test_a_property_is_found_under_the_name_that_a_resource_type_gives_it(
        self, owner: Client, make_namespace: MakeNamespace
    ) -> None:
        space = make_namespace(
            visibility="public",
            resource_type_associations=[{"name": "Flavor", "prefix": "hw:"}, {"name": "Image"}],
            properties={"cores": PROPERTY},
        )

        def status(name: str, resource_type: str) -> int:
            path = path_of(space, "properties", name)
            return owner.get(path, params={"resource_type": resource_type}).status_code

        found = owner.get(
            path_of(space, "properties", "hw:cores"), params={"resource_type": "Flavor"}
        )
        assert right(found) == {"name": "cores", **PROPERTY}
        assert status("cores", "Flavor") == 404
        assert status("hw:none", "Flavor") == 404
        assert status("hw:cores", "Other") == 404
        assert status("cores", "Image") == 200
        assert status("hw:cores", "Image") == 404
        assert status("cores", "") == 200


class TestTags:
    """…/tags and …/tags/{tag}"""

    def put_all(self, admin: Client, space: str, *names: str, append: str | None = None) -> Any:
        return admin.post(
            path_of(space, "tags"),
            json={"tags": [{"name": name} for name in names]},
            headers={} if append is None else {"X-Openstack-Append": append},
        )

    def names(self, client: Client, space: str, query: str = "sort_key=name&sort_dir=asc") -> Any:
        view = right(client.get(f"{path_of(space, 'tags')}?{query}"))
        assert set(view) == {"tags"}
        return [tag["name"] for tag in view["tags"]]

    def test_one_is_made_shown_renamed_and_removed(
        self, admin: Client, owner: Client, space: str
    ) -> None:
        path = path_of(space, "tags", "Ünï 1")
        view = right(admin.post(path), 201)
        assert TIME.fullmatch(view["created_at"])
        assert view == {
            "name": "Ünï 1",
            "created_at": view["created_at"],
            "updated_at": view["created_at"],
        }
        assert right(owner.get(path)) == view
        renamed = right(admin.put(path, json={"name": "two"}))
        assert renamed["name"] == "two"
        assert renamed["created_at"] == view["created_at"]
        refused(owner.get(path), 404)
        answer = admin.delete(path_of(space, "tags", "two"))
        assert (answer.status_code, answer.content) == (204, b"")
        refused(admin.delete(path_of(space, "tags", "two")), 404)

    def test_names_keep_their_case_and_are_given_once(self, admin: Client, space: str) -> None:
        for name in ("tag", "Tag"):
            right(admin.post(path_of(space, "tags", name)), 201)
        refused(admin.post(path_of(space, "tags", "tag")), 409)
        refused(admin.put(path_of(space, "tags", "tag"), json={"name": "Tag"}), 409)
        right(admin.put(path_of(space, "tags", "tag"), json={"name": "tag"}))
        assert self.names(admin, space) == ["Tag", "tag"]

    def test_several_take_the_place_of_those_there_are(self, admin: Client, space: str) -> None:
        view = right(self.put_all(admin, space, "b", "a"), 201)
        assert view == {"tags": [{"name": "b"}, {"name": "a"}]}
        right(self.put_all(admin, space, "c", "a"), 201)
        assert self.names(admin, space) == ["a", "c"]
        right(self.put_all(admin, space), 201)
        assert self.names(admin, space) == []

    @pytest.mark.parametrize("append", ["True", "true", "1", "yes"])
    def test_several_are_added_when_told_so(self, admin: Client, space: str, append: str) -> None:
        right(self.put_all(admin, space, "a", append=append), 201)
        right(self.put_all(admin, space, "b", append=append), 201)
        assert self.names(admin, space) == ["a", "b"]
        refused(self.put_all(admin, space, "c", "b", append=append), 409)
        assert self.names(admin, space) == ["a", "b"]

    @pytest.mark.parametrize("append", ["False", "0", "", "odd"])
    def test_other_words_do_not_mean_to_add(self, admin: Client, space: str, append: str) -> None:
        right(self.put_all(admin, space, "a"), 201)
        right(self.put_all(admin, space, "b", append=append), 201)
        assert self.names(admin, space) == ["b"]

    def test_a_name_twice_changes_nothing(self, admin: Client, space: str) -> None:
        right(self.put_all(admin, space, "kept"), 201)
        refused(self.put_all(admin, space, "a", "a"), 409)
        assert self.names(admin, space) == ["kept"]

    @pytest.mark.parametrize(
        "body",
        [
            b"", b"{", b"[]", b"{}", b'{"tags": null}', b'{"tags": "a"}', b'{"tags": ["a"]}',
            b'{"tags": [{}]}', b'{"tags": [{"name": ""}]}', b'{"tags": [{"name": "a", "x": 1}]}',
            b'{"tags": [], "colour": 1}', b'{"tags": [{"name": "\\u0000"}]}',
        ],
    )  # fmt: skip
    def test_a_body_that_does_not_fit_is_refused(
        self, admin: Client, space: str, body: bytes
    ) -> None:
        refused(admin.post(path_of(space, "tags"), content=body), 400)

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"", 400), (b"[]", 400), (b"{}", 400), (b'{"name": ""}', 400), (b'{"name": 1}', 400),
            (b'{"name": "a", "colour": 1}', 400), (b'{"name": "a", "created_at": "now"}', 403),
        ],
    )  # fmt: skip
    def test_a_wrong_new_name_is_refused(
        self, admin: Client, space: str, body: bytes, status: int
    ) -> None:
        right(admin.post(path_of(space, "tags", "a")), 201)
        refused(admin.put(path_of(space, "tags", "a"), content=body), status)

    def test_a_tag_has_a_length_and_no_body(self, admin: Client, space: str) -> None:
        right(admin.post(path_of(space, "tags", "x" * 80)), 201)
        refused(admin.post(path_of(space, "tags", "x" * 81)), 400)
        refused(admin.post(path_of(space, "tags", "y"), content=b"{}"), 400)

    def test_what_is_not_there_is_not_found(self, admin: Client, space: str) -> None:
        for path in (path_of(space, "tags", "none"), path_of("none", "tags", "none")):
            refused(admin.get(path), 404)
            refused(admin.put(path, json={"name": "b"}), 404)
            refused(admin.delete(path), 404)
        refused(admin.post(path_of("none", "tags", "a")), 404)
        refused(admin.get(path_of("none", "tags")), 404)
        refused(admin.delete(path_of("none", "tags")), 404)
        refused(self.put_all(admin, "none", "a"), 404)

    def test_all_are_removed_together(self, admin: Client, space: str) -> None:
        right(self.put_all(admin, space, "a", "b"), 201)
        answer = admin.delete(path_of(space, "tags"))
        assert (answer.status_code, answer.content) == (204, b"")
        assert self.names(admin, space) == []

    def test_the_newest_comes_first_and_pages_join(self, admin: Client, space: str) -> None:
        made = ["b", "d", "a", "c"]
        for name in made:
            right(admin.post(path_of(space, "tags", name)), 201)
        assert self.names(admin, space, "") == made[::-1]
        assert self.names(admin, space, "sort_dir=asc") == made
        assert self.names(admin, space, "sort_key=name") == ["d", "c", "b", "a"]
        assert self.names(admin, space, "limit=2") == ["c", "a"]
        assert self.names(admin, space, "limit=2&marker=a") == ["d", "b"]
        assert self.names(admin, space, "sort_key=name&sort_dir=asc&marker=b") == ["c", "d"]
        assert self.names(admin, space, "limit=0") == []
        assert self.names(admin, space, f"limit={10**29}") == made[::-1]
        right(admin.put(path_of(space, "tags", "b"), json={"name": "b"}))
        assert self.names(admin, space, "sort_key=updated_at&limit=1") == ["b"]

    @pytest.mark.parametrize(
        ("query", "status"),
        [
            ("limit=-1", 400), ("limit=x", 400), ("limit=", 400), ("sort_key=id", 400),
            ("sort_key=namespace", 400), ("sort_dir=up", 400), ("marker=none", 404),
            ("marker=%00", 404),
        ],
    )  # fmt: skip
    def test_a_wrong_query_is_refused(
        self, admin: Client, space: str, query: str, status: int
    ) -> None:
        refused(admin.get(f"{path_of(space, 'tags')}?{query}"), status)

    def test_a_protected_namespace_keeps_all_and_takes_more(
        self, admin: Client, make_namespace: MakeNamespace
    ) -> None:
        space = make_namespace(protected=True)
        right(admin.post(path_of(space, "tags", "a")), 201)
        right(self.put_all(admin, space, "b", append="True"), 201)
        right(admin.put(path_of(space, "tags", "a"), json={"name": "c"}))
        refused(admin.delete(path_of(space, "tags", "b")), 403)
        refused(admin.delete(path_of(space, "tags")), 403)
        assert self.names(admin, space) == ["b", "c"]


class TestResourceTypes:
    """…/resource_types and /v2/metadefs/resource_types"""

    TYPES = "/v2/metadefs/resource_types"

    def test_one_is_associated_listed_and_taken_off(
        self, admin: Client, owner: Client, space: str, mark: str
    ) -> None:
        body = {"name": f"OS::{mark}", "prefix": "p:", "properties_target": "t"}
        answer = admin.post(path_of(space, "resource_types"), json=body)
        view = right(answer, 201)
        assert "location" not in answer.headers
        assert view == body | {"created_at": view["created_at"], "updated_at": view["created_at"]}
        assert TIME.fullmatch(view["created_at"])
        listed = right(owner.get(path_of(space, "resource_types")))
        assert listed == {"resource_type_associations": [view]}
        removed = admin.delete(path_of(space, "resource_types", f"OS::{mark}"))
        assert (removed.status_code, removed.content) == (204, b"")
        listed = right(owner.get(path_of(space, "resource_types")))
        assert listed == {"resource_type_associations": []}
        refused(admin.delete(path_of(space, "resource_types", f"OS::{mark}")), 404)

    def test_every_type_that_was_ever_associated_is_listed(
        self, admin: Client, owner: Client, space: str, mark: str
    ) -> None:
        right(admin.post(path_of(space, "resource_types"), json={"name": mark}), 201)
        right(admin.get(path_of(space, "resource_types")))
        admin.delete(path_of(space, "resource_types", mark))
        view = right(owner.get(self.TYPES))
        assert set(view) == {"resource_types"}
        [found] = [one for one in view["resource_types"] if one["name"] == mark]
        assert set(found) == {"name", "created_at", "updated_at"}

    def test_what_is_not_given_is_left_out(self, admin: Client, space: str, mark: str) -> None:
        view = right(admin.post(path_of(space, "resource_types"), json={"name": mark}), 201)
        assert set(view) == {"name", "created_at", "updated_at"}
        refused(admin.post(path_of(space, "resource_types"), json={"name": mark}), 409)

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"", 400), (b"[]", 400), (b"{}", 400), (b'{"name": ""}', 400),
            (b'{"name": "a", "colour": 1}', 400), (b'{"name": "a", "prefix": 1}', 400),
            (b'{"name": "a", "prefix": null}', 400), (b'{"name": "a", "updated_at": "now"}', 403),
            (b'{"name": "%s"}' % (b"x" * 81), 400), (b'{"name": "a", "prefix": "%s"}' % (b"x" * 81), 400),
            (b'{"name": "a", "properties_target": "%s"}' % (b"x" * 81), 400),
        ],
    )  # fmt: skip
    def test_a_body_that_does_not_fit_is_refused(
        self, admin: Client, space: str, body: bytes, status: int
    ) -> None:
        refused(admin.post(path_of(space, "resource_types"), content=body), status)

    def test_a_protected_namespace_keeps_its_types(
        self, admin: Client, make_namespace: MakeNamespace, mark: str
    ) -> None:
        space = make_namespace(protected=True)
        right(admin.post(path_of(space, "resource_types"), json={"name": mark}), 201)
        refused(admin.delete(path_of(space, "resource_types", mark)), 403)

    def test_an_unknown_namespace_is_not_found(self, admin: Client) -> None:
        refused(admin.get(path_of("none", "resource_types")), 404)
        refused(admin.post(path_of("none", "resource_types"), json={"name": "a"}), 404)
        refused(admin.delete(path_of("none", "resource_types", "a")), 404)
