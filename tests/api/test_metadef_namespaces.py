"""Namespaces of metadata definitions (API §20.1)."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import quote

import pytest

from tests.api.configs import SMALL_LIMITS
from tests.api.metadefs import (
    NAMESPACES,
    PROPERTY,
    TIME,
    MakeNamespace,
    make_namespace,
    path_of,
    refused,
    right,
)
from tests.conftest import Actors, ServerWith
from tests.support.server import Client, ServerProcess

__all__ = ["make_namespace"]

FULL: dict[str, Any] = {
    "display_name": "Shown",
    "description": "About it",
    "visibility": "public",
    "protected": True,
    "resource_type_associations": [
        {"name": "OS::Nova::Flavor", "prefix": "hw:", "properties_target": "extra_specs"},
        {"name": "OS::Glance::Image"},
    ],
    "properties": {"cores": {**PROPERTY, "type": "integer", "default": 4}},
    "objects": [
        {"name": "Disk", "description": "D", "required": ["size"], "properties": {"size": PROPERTY}}
    ],
    "tags": [{"name": "one"}, {"name": "Two"}],
}


class TestCreate:
    """POST /v2/metadefs/namespaces"""

    def test_a_name_is_enough(
        self, admin: Client, make_namespace: MakeNamespace, server: ServerProcess
    ) -> None:
        name = f"ünïcode {uuid.uuid4().hex}"
        answer = admin.post(NAMESPACES, json={"namespace": name})
        view = right(answer, 201)
        assert answer.headers["location"] == server.url + path_of(name)
        assert TIME.fullmatch(view["created_at"])
        assert view == {
            "namespace": name,
            "visibility": "private",
            "protected": False,
            "owner": admin.project_id,
            "created_at": view["created_at"],
            "updated_at": view["created_at"],
            "self": f"/v2/metadefs/namespaces/{name}",
            "schema": "/v2/schemas/metadefs/namespace",
        }
        assert right(admin.get(path_of(name))) == view
        assert admin.delete(path_of(name)).status_code == 204

    def test_all_that_it_shall_hold_comes_in_one_step(
        self, admin: Client, make_namespace: MakeNamespace
    ) -> None:
        name = make_namespace(**FULL)
        view = right(admin.get(path_of(name)))
        times = {key: view[key] for key in ("created_at", "updated_at")}
        assert view == FULL | times | {
            "namespace": name,
            "owner": admin.project_id,
            "self": f"/v2/metadefs/namespaces/{name}",
            "schema": "/v2/schemas/metadefs/namespace",
            "resource_type_associations": [
                one | times for one in FULL["resource_type_associations"]
            ],
            "objects": [
                FULL["objects"][0]
                | times
                | {
                    "self": f"/v2/metadefs/namespaces/{name}/objects/Disk",
                    "schema": "/v2/schemas/metadefs/object",
                }
            ],
        }

    def test_what_was_shown_can_be_created_again(
        self, admin: Client, make_namespace: MakeNamespace
    ) -> None:
        view = right(admin.get(path_of(make_namespace(**FULL))))
        for key in ("self", "schema", "created_at", "updated_at", "namespace"):
            del view[key]
        copy = right(admin.get(path_of(make_namespace(**view))))
        assert copy["tags"] == view["tags"]
        assert [one["name"] for one in copy["objects"]] == ["Disk"]

    def test_a_name_is_given_once(self, admin: Client, make_namespace: MakeNamespace) -> None:
        name = make_namespace()
        refused(admin.post(NAMESPACES, json={"namespace": name}), 409)
        right(admin.post(NAMESPACES, json={"namespace": name.upper()}), 201)
        assert admin.delete(path_of(name.upper())).status_code == 204

    @pytest.mark.parametrize(
        "twice",
        [
            {"tags": [{"name": "t"}, {"name": "t"}]},
            {"objects": [{"name": "o"}, {"name": "o"}]},
            {"resource_type_associations": [{"name": "T"}, {"name": "T"}]},
        ],
        ids=lambda twice: next(iter(twice)),
    )
    def test_a_name_twice_in_it_makes_nothing(
        self, admin: Client, mark: str, twice: dict[str, Any]
    ) -> None:
        refused(admin.post(NAMESPACES, json={"namespace": mark, **twice}), 409)
        refused(admin.get(path_of(mark)), 404)

    @pytest.mark.parametrize("key", ["self", "schema", "created_at", "updated_at"])
    def test_what_the_service_sets_is_forbidden(self, admin: Client, mark: str, key: str) -> None:
        refused(admin.post(NAMESPACES, json={"namespace": mark, key: "x"}), 403)

    @pytest.mark.parametrize(
        "body",
        [
            b"", b"{", b"[]", b"null", b"{}", b'{"namespace": ""}', b'{"namespace": 1}',
            b'{"namespace": null}', b'{"namespace": "x", "colour": "red"}',
            b'{"namespace": "x", "protected": "yes"}', b'{"namespace": "x", "display_name": null}',
            b'{"namespace": "x", "visibility": "shared"}', b'{"namespace": "a\\u0000"}',
            b'{"namespace": "\\ud83d\\udc27"}', b'{"namespace": "x", "tags": ["t"]}',
            b'{"namespace": "x", "objects": [{"description": "nameless"}]}',
            b'{"namespace": "x", "properties": {"p": {"title": "no type"}}}',
            b'{"namespace": "x", "properties": {"p": {"title": "P", "type": "strange"}}}',
        ],
    )  # fmt: skip
    def test_a_body_that_does_not_fit_is_refused(self, admin: Client, body: bytes) -> None:
        refused(admin.post(NAMESPACES, content=body), 400)

    @pytest.mark.parametrize(
        ("key", "length"),
        [("namespace", 80), ("display_name", 80), ("description", 500), ("owner", 255)],
    )
    def test_texts_have_a_length(
        self, admin: Client, make_namespace: MakeNamespace, mark: str, key: str, length: int
    ) -> None:
        text = (mark + "ü" * length)[:length]
        make_namespace(**{key: text})
        refused(admin.post(NAMESPACES, json={"namespace": mark, key: text + "x"}), 400)

    def test_an_owner_can_be_chosen(self, actors: Actors, make_namespace: MakeNamespace) -> None:
        name = make_namespace(owner=actors.owner.project_id)
        assert right(actors.owner.get(path_of(name)))["owner"] == actors.owner.project_id


class TestShow:
    """GET /v2/metadefs/namespaces/{namespace}"""

    def test_names_of_properties_get_the_prefix_of_a_resource_type(
        self, owner: Client, make_namespace: MakeNamespace
    ) -> None:
        path = path_of(make_namespace(**FULL))
        view = right(owner.get(path, params={"resource_type": "OS::Nova::Flavor"}))
        assert list(view["properties"]) == ["hw:cores"]
        assert list(view["objects"][0]["properties"]) == ["hw:size"]
        assert view["objects"][0]["required"] == ["hw:size"]
        assert view["objects"][0]["name"] == "Disk"

    @pytest.mark.parametrize(
        "query",
        [
            "resource_type=OS::Glance::Image", "resource_type=None", "resource_type=",
            "colour=red", "limit=x&marker=none", "visibility=odd", "%00=%00",
        ],
    )  # fmt: skip
    def test_other_queries_change_nothing(
        self, owner: Client, make_namespace: MakeNamespace, query: str
    ) -> None:
        path = path_of(make_namespace(**FULL))
        assert right(owner.get(f"{path}?{query}")) == right(owner.get(path))

    def test_what_is_not_there_is_not_found(
        self, admin: Client, make_namespace: MakeNamespace
    ) -> None:
        name = make_namespace()
        for other in (name.upper(), name + "x", "none"):
            for method in ("GET", "DELETE"):
                refused(admin.request(method, path_of(other)), 404)
            refused(admin.put(path_of(other), json={"namespace": other}), 404)


class TestReplace:
    """PUT /v2/metadefs/namespaces/{namespace}"""

    def test_what_is_left_out_is_as_in_a_new_one(
        self, actors: Actors, make_namespace: MakeNamespace
    ) -> None:
        admin = actors.admin
        name = make_namespace(**FULL, owner=actors.owner.project_id)
        before = right(admin.get(path_of(name)))
        view = right(admin.put(path_of(name), json={"namespace": name}))
        assert "display_name" not in view
        assert "description" not in view
        assert (view["visibility"], view["protected"]) == ("private", False)
        assert view["owner"] == actors.owner.project_id
        after = right(admin.get(path_of(name)))
        for kept in ("created_at", "objects", "properties", "tags", "resource_type_associations"):
            assert after[kept] == before[kept]

    def test_contents_that_are_sent_change_nothing(
        self, admin: Client, make_namespace: MakeNamespace
    ) -> None:
        name = make_namespace(**FULL)
        before = right(admin.get(path_of(name)))
        body = {
            "namespace": name,
            "tags": [{"name": "new"}],
            "objects": [],
            "properties": {},
            "resource_type_associations": [],
        }
        right(admin.put(path_of(name), json=body))
        after = right(admin.get(path_of(name)))
        for kept in ("objects", "properties", "tags", "resource_type_associations"):
            assert after[kept] == before[kept]

    def test_it_may_get_another_name(
        self, admin: Client, make_namespace: MakeNamespace, mark: str
    ) -> None:
        name = make_namespace(tags=[{"name": "kept"}])
        view = right(admin.put(path_of(name), json={"namespace": mark}))
        assert view["self"] == f"/v2/metadefs/namespaces/{mark}"
        refused(admin.get(path_of(name)), 404)
        assert right(admin.get(path_of(mark)))["tags"] == [{"name": "kept"}]
        assert admin.delete(path_of(mark)).status_code == 204

    def test_it_gets_no_name_that_is_taken(
        self, admin: Client, make_namespace: MakeNamespace
    ) -> None:
        name, other = make_namespace(), make_namespace()
        refused(admin.put(path_of(name), json={"namespace": other}), 409)
        right(admin.get(path_of(name)))

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ({}, 400), ({"namespace": "x" * 81}, 400), ({"namespace": "x", "colour": 1}, 400),
            ({"namespace": "x", "self": "/x"}, 403), ({"namespace": "x", "created_at": "now"}, 403),
        ],
    )  # fmt: skip
    def test_a_wrong_body_is_refused(
        self, admin: Client, make_namespace: MakeNamespace, body: Any, status: int
    ) -> None:
        refused(admin.put(path_of(make_namespace()), json=body), status)


class TestDelete:
    """DELETE /v2/metadefs/namespaces/{namespace}"""

    def test_it_goes_with_all_that_it_holds(
        self, admin: Client, make_namespace: MakeNamespace
    ) -> None:
        name = make_namespace(**FULL | {"protected": False})
        answer = admin.delete(path_of(name))
        assert (answer.status_code, answer.content) == (204, b"")
        refused(admin.get(path_of(name)), 404)
        refused(admin.get(path_of(name, "objects", "Disk")), 404)
        make_namespace(namespace=name)
        assert right(admin.get(path_of(name, "tags"))) == {"tags": []}

    def test_a_protected_one_stays_until_it_is_not(
        self, admin: Client, make_namespace: MakeNamespace
    ) -> None:
        name = make_namespace(protected=True)
        refused(admin.delete(path_of(name)), 403)
        right(admin.put(path_of(name), json={"namespace": name}))
        assert admin.delete(path_of(name)).status_code == 204


class TestList:
    """GET /v2/metadefs/namespaces"""

    def names(self, client: Client, mark: str, query: str = "") -> list[str]:
        view = right(client.get(f"{NAMESPACES}?limit=1000&{query}"))
        return [one["namespace"] for one in view["namespaces"] if one["namespace"].startswith(mark)]

    def test_items_have_their_associations_and_nothing_of_what_they_hold(
        self, admin: Client, make_namespace: MakeNamespace
    ) -> None:
        name = make_namespace(**FULL)
        whole = right(admin.get(path_of(name)))
        for key in ("objects", "properties", "tags"):
            del whole[key]
        view = right(admin.get(f"{NAMESPACES}?limit=1"))
        assert view["namespaces"] == [whole]
        assert view["schema"] == "/v2/schemas/metadefs/namespaces"
        assert view["first"] == f"{NAMESPACES}?limit=1"

    def test_the_newest_comes_first_and_pages_join(
        self, admin: Client, make_namespace: MakeNamespace, mark: str
    ) -> None:
        made = [make_namespace(namespace=f"{mark} & {number}") for number in range(3)]
        assert self.names(admin, mark) == made[::-1]
        assert self.names(admin, mark, "sort_dir=asc") == made
        first = right(admin.get(f"{NAMESPACES}?sort_key=created_at&limit=2"))
        assert [one["namespace"] for one in first["namespaces"]] == made[:0:-1]
        assert first["next"] == (
            f"{NAMESPACES}?sort_key=created_at&limit=2&marker={quote(made[1], safe='').replace('%20', '+')}"
        )
        second = right(admin.get(first["next"]))
        assert second["namespaces"][0]["namespace"] == made[0]
        assert second["first"] == first["first"]

    def test_the_last_page_has_no_next(self, admin: Client, make_namespace: MakeNamespace) -> None:
        make_namespace()
        view = right(admin.get(f"{NAMESPACES}?limit=1000"))
        assert len(view["namespaces"]) < 1000
        assert "next" not in view

    def test_it_can_be_sorted_by_name(
        self, admin: Client, make_namespace: MakeNamespace, mark: str
    ) -> None:
        for letter in "bca":
            make_namespace(namespace=mark + letter)
        for direction, letters in (("asc", "abc"), ("desc", "cba")):
            found = self.names(admin, mark, f"sort_key=namespace&sort_dir={direction}")
            assert found == [mark + letter for letter in letters]

    def test_it_can_be_sorted_by_the_last_change(
        self, admin: Client, make_namespace: MakeNamespace, mark: str
    ) -> None:
        made = [make_namespace(namespace=f"{mark}{number}") for number in range(2)]
        right(admin.put(path_of(made[0]), json={"namespace": made[0]}))
        assert self.names(admin, mark, "sort_key=updated_at") == made
        assert self.names(admin, mark, "sort_key=created_at") == made[::-1]

    def test_it_is_filtered_by_visibility_and_by_resource_type(
        self, admin: Client, make_namespace: MakeNamespace, mark: str
    ) -> None:
        make_namespace(namespace=f"{mark} none")
        flavor, image = ([{"name": mark + one}] for one in ("Flavor", "Image"))
        make_namespace(
            namespace=f"{mark} both",
            resource_type_associations=flavor + image,
            visibility="public",
        )
        make_namespace(namespace=f"{mark} image", resource_type_associations=image)

        def found(query: str) -> set[str]:
            return {name.split()[1] for name in self.names(admin, mark, query)}

        assert found("") == {"none", "both", "image"}
        assert found("visibility=public") == {"both"}
        assert found("visibility=private") == {"none", "image"}
        assert found(f"resource_types={mark}Flavor") == {"both"}
        assert found(f"resource_types={mark}Flavor,{mark}Image") == {"both", "image"}
        assert found(f"resource_types={mark}Image&visibility=private") == {"image"}
        assert found("resource_types=unknown") == set()
        assert found("resource_types=%00") == set()
        assert found("colour=red&namespace=x") == {"none", "both", "image"}

    def test_no_length_no_items(self, admin: Client, make_namespace: MakeNamespace) -> None:
        make_namespace()
        view = right(admin.get(f"{NAMESPACES}?limit=0"))
        assert view["namespaces"] == []
        assert "next" not in view

    @pytest.mark.parametrize(
        "query",
        [
            "limit=-1", "limit=x", "limit=1.5", "limit=", "sort_key=id", "sort_key=name",
            "sort_dir=up", "visibility=shared", "visibility=", "%ff=1",
        ],
    )  # fmt: skip
    def test_a_wrong_query_is_refused(self, admin: Client, query: str) -> None:
        refused(admin.get(f"{NAMESPACES}?{query}"), 400)

    def test_an_unknown_marker_is_not_found(
        self, owner: Client, admin: Client, make_namespace: MakeNamespace
    ) -> None:
        private = make_namespace()
        refused(admin.get(f"{NAMESPACES}?marker=none"), 404)
        refused(admin.get(f"{NAMESPACES}?marker=%00"), 404)
        refused(owner.get(NAMESPACES, params={"marker": private}), 404)

    def test_the_configuration_says_how_long_pages_are(self, server_with: ServerWith) -> None:
        admin = server_with(SMALL_LIMITS).admin
        names = [f"space {number}" for number in range(4)]
        for name in names:
            right(admin.post(NAMESPACES, json={"namespace": name}), 201)
        assert len(right(admin.get(NAMESPACES))["namespaces"]) == 2
        assert len(right(admin.get(f"{NAMESPACES}?limit=100"))["namespaces"]) == 3
        for name in names:
            assert admin.delete(path_of(name)).status_code == 204
