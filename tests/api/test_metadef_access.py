"""Who may do what with metadata definitions, and which methods their paths have (API §20, §24)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.metadefs import (
    NAMESPACES,
    PROPERTY,
    MakeNamespace,
    make_namespace,
    path_of,
    refused,
    right,
)
from tests.conftest import Actors, MakeServer
from tests.support.server import Client, ServerProcess
from transom.api.metadef_routes import METADEF_ROUTES

__all__ = ["make_namespace"]

READS: list[tuple[str, ...]] = [
    (),
    ("objects",),
    ("objects", "o"),
    ("properties",),
    ("properties", "p"),
    ("tags",),
    ("tags", "t"),
    ("resource_types",),
]
WRITES: list[tuple[str, tuple[str, ...], Any]] = [
    ("PUT", (), {"namespace": "x"}),
    ("DELETE", (), None),
    ("POST", ("objects",), {"name": "new"}),
    ("DELETE", ("objects",), None),
    ("PUT", ("objects", "o"), {"name": "new"}),
    ("DELETE", ("objects", "o"), None),
    ("POST", ("properties",), {"name": "new", **PROPERTY}),
    ("DELETE", ("properties",), None),
    ("PUT", ("properties", "p"), {"name": "new", **PROPERTY}),
    ("DELETE", ("properties", "p"), None),
    ("POST", ("tags",), {"tags": []}),
    ("DELETE", ("tags",), None),
    ("POST", ("tags", "new"), None),
    ("PUT", ("tags", "t"), {"name": "new"}),
    ("DELETE", ("tags", "t"), None),
    ("POST", ("resource_types",), {"name": "new"}),
    ("DELETE", ("resource_types", "T"), None),
]
HELD: dict[str, Any] = {
    "objects": [{"name": "o"}],
    "properties": {"p": PROPERTY},
    "tags": [{"name": "t"}],
    "resource_type_associations": [{"name": "T"}],
}
SEES_PRIVATE = {"owner", "owner_reader", "admin"}
SEES_NOTHING = {"service", "norole"}
CALLERS = (
    "owner", "owner_reader", "member", "other", "other_reader", "service", "norole",
)  # fmt: skip


def ask(client: Client, method: str, path: str, body: Any = None) -> int:
    return client.request(method, path, **({} if body is None else {"json": body})).status_code


def test_the_tables_of_this_file_know_every_endpoint() -> None:
    def general(segments: tuple[str, ...]) -> str:
        return "/".join([NAMESPACES, "{}", *(segments[:1]), *("{}" for _ in segments[1:])])

    listed = {("GET", general(segments)) for segments in READS}
    listed |= {(method, general(segments)) for method, segments, _ in WRITES}
    listed |= {("GET", NAMESPACES), ("POST", NAMESPACES), ("GET", "/v2/metadefs/resource_types")}

    def bare(path: str) -> str:
        return "/".join("{}" if one.startswith("{") else one for one in path.split("/"))

    assert listed == {(route.method, bare(route.path)) for route in METADEF_ROUTES}


@pytest.mark.parametrize("visibility", ["public", "private"])
@pytest.mark.parametrize("who", [*CALLERS, "admin"])
def test_readers_see_public_namespaces_and_those_of_their_project(
    actors: Actors, make_namespace: MakeNamespace, who: str, visibility: str
) -> None:
    name = make_namespace(owner=actors.owner.project_id, visibility=visibility, **HELD)
    caller: Client = getattr(actors, who)
    sees = who not in SEES_NOTHING and (visibility == "public" or who in SEES_PRIVATE)
    for segments in READS:
        assert ask(caller, "GET", path_of(name, *segments)) == (200 if sees else 404), segments
    listed = caller.get(f"{NAMESPACES}?limit=1000")
    if who in SEES_NOTHING:
        refused(listed, 403)
    else:
        assert (name in [one["namespace"] for one in right(listed)["namespaces"]]) == sees


@pytest.mark.parametrize("visibility", ["public", "private"])
@pytest.mark.parametrize("who", CALLERS)
def test_only_administrators_write_and_who_may_not_see_is_told_404(
    actors: Actors, make_namespace: MakeNamespace, who: str, visibility: str
) -> None:
    name = make_namespace(owner=actors.owner.project_id, visibility=visibility, **HELD)
    before = right(actors.admin.get(path_of(name)))
    caller: Client = getattr(actors, who)
    sees = who not in SEES_NOTHING and (visibility == "public" or who in SEES_PRIVATE)
    for method, segments, body in WRITES:
        told = ask(caller, method, path_of(name, *segments), body)
        assert told == (403 if sees else 404), (method, segments)
    assert ask(caller, "POST", NAMESPACES, {"namespace": "mine"}) == 403
    assert right(actors.admin.get(path_of(name))) == before


@pytest.mark.parametrize("who", [*CALLERS, "admin"])
def test_who_lists_resource_types(actors: Actors, who: str) -> None:
    told = ask(getattr(actors, who), "GET", "/v2/metadefs/resource_types")
    assert told == (403 if who in SEES_NOTHING else 200)


def test_without_a_token_nothing_is_told(server: ServerProcess) -> None:
    nobody = server.client()
    for route in METADEF_ROUTES:
        path = "/".join(
            "x" if segment.startswith("{") else segment for segment in route.path.split("/")
        )
        assert nobody.request(route.method, path).status_code == 401, route


ALLOWED = {
    NAMESPACES: "GET, POST",
    f"{NAMESPACES}/x": "GET, PUT, DELETE",
    **{f"{NAMESPACES}/x/{kind}": "GET, POST, DELETE" for kind in ("objects", "properties", "tags")},
    f"{NAMESPACES}/x/objects/x": "GET, PUT, DELETE",
    f"{NAMESPACES}/x/properties/x": "GET, PUT, DELETE",
    f"{NAMESPACES}/x/tags/x": "GET, POST, PUT, DELETE",
    "/v2/metadefs/resource_types": "GET",
    f"{NAMESPACES}/x/resource_types": "GET, POST",
    f"{NAMESPACES}/x/resource_types/x": "DELETE",
}


@pytest.mark.parametrize("path", ALLOWED)
def test_another_method_is_told_which_there_are(admin: Client, path: str) -> None:
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        answer = admin.request(method, path)
        if method in ALLOWED[path].split(", "):
            assert answer.status_code != 405
        else:
            refused(answer, 405)
            assert answer.headers["allow"] == ALLOWED[path]


@pytest.mark.parametrize("path", ["/v2/metadefs", "/v2/metadefs/x", f"{NAMESPACES}/x/colours"])
def test_there_are_no_other_paths(admin: Client, path: str) -> None:
    refused(admin.get(path), 404)


# --- an operator's policy ------------------------------------------------------------------------


@pytest.fixture
def strict(make_server: MakeServer, tmp_path: Any) -> ServerProcess:
    """A server whose members write namespaces of their project, and whose tags nobody sees."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        'metadef_admin: "rule:context_is_admin or role:member and project_id:%(project_id)s"\n'
        'delete_metadef_tags: "!"\n'
        'get_metadef_tag: "rule:context_is_admin"\n'
        'get_metadef_object: "rule:context_is_admin"\n'
        'get_metadef_resource_type: "rule:context_is_admin"\n'
        "get_metadef_namespace: \"rule:context_is_admin or not 'hidden':%(namespace)s\"\n"
    )
    return make_server({"policy": {"file": str(policy)}})


def test_rules_see_owner_visibility_and_name(strict: ServerProcess) -> None:
    admin, member = strict.log_in_to_cloud("transom"), strict.log_in_to_cloud("transom-demo")
    held = {**HELD, "visibility": "public"}
    right(member.post(NAMESPACES, json={"namespace": "mine", **held}), 201)
    right(admin.post(NAMESPACES, json={"namespace": "theirs", **held}), 201)
    right(admin.post(NAMESPACES, json={"namespace": "hidden", **held}), 201)

    right(member.put(path_of("mine"), json={"namespace": "mine", "visibility": "public"}))
    refused(member.put(path_of("theirs"), json={"namespace": "theirs"}), 403)
    refused(member.put(path_of("hidden"), json={"namespace": "hidden"}), 404)
    refused(member.get(path_of("hidden")), 404)
    listed = right(member.get(NAMESPACES))["namespaces"]
    assert {one["namespace"] for one in listed} == {"mine", "theirs"}

    refused(member.get(path_of("mine", "tags", "t")), 403)
    refused(admin.delete(path_of("mine", "tags")), 403)
    refused(member.get(path_of("mine", "objects", "o")), 403)
    assert right(member.get(path_of("mine", "objects")))["objects"] == []
    assert right(member.get(path_of("mine", "resource_types"))) == {
        "resource_type_associations": []
    }
    path = path_of("mine", "properties", "p")
    right(member.get(path))
    refused(member.get(path, params={"resource_type": "T"}), 403)


def test_what_a_new_namespace_shall_hold_needs_its_rules_too(
    make_server: MakeServer, tmp_path: Any
) -> None:
    rules = {
        "resource_type_associations": "add_metadef_resource_type_association",
        "objects": "add_metadef_object",
        "properties": "add_metadef_property",
        "tags": "add_metadef_tag",
    }
    policy = tmp_path / "policy.yaml"
    policy.write_text("".join(f'{rule}: "!"\n' for rule in rules.values()))
    admin = make_server({"policy": {"file": str(policy)}}).log_in_to_cloud("transom")
    for kind in rules:
        refused(admin.post(NAMESPACES, json={"namespace": kind, kind: HELD[kind]}), 403)
        refused(admin.get(path_of(kind)), 404)
    right(admin.post(NAMESPACES, json={"namespace": "empty", "tags": []}), 201)


def test_callers_without_identity_read_nothing_and_write_nothing(make_server: MakeServer) -> None:
    server = make_server({"identity": {"allow_anonymous": True}})
    admin, nobody = server.log_in_to_cloud("transom"), server.client()
    right(admin.post(NAMESPACES, json={"namespace": "space", "visibility": "public"}), 201)
    refused(nobody.get(NAMESPACES), 403)
    refused(nobody.get(path_of("space")), 404)
    refused(nobody.post(NAMESPACES, json={"namespace": "x"}), 403)
    refused(nobody.put(path_of("space"), json={"namespace": "x"}), 403)
    refused(nobody.delete(path_of("space")), 403)
    refused(nobody.post(path_of("space", "tags", "t")), 403)
