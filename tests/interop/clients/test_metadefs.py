"""Metadata definitions through the real clients: openstacksdk, `openstack image metadef …`, and
`glance md-…`."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openstack import exceptions
from openstack.connection import Connection

from tests.interop.clients.commands import Shell
from tests.interop.conftest import Cloud

pytestmark = pytest.mark.interop

DEFINITION = {"title": "Cores", "type": "integer", "minimum": 1, "default": 4}


@pytest.fixture(scope="module")
def admin(cloud: Cloud) -> Connection:
    """The administrator's connection."""
    return cloud.sdk("transom")


@pytest.fixture(scope="module")
def demo(cloud: Cloud) -> Connection:
    """The demo user's connection."""
    return cloud.sdk("transom-demo")


@pytest.fixture(scope="module")
def glance(cloud: Cloud) -> Shell:
    """The administrator's `glance` command line."""
    return cloud.glance("transom")


@pytest.fixture
def name(admin: Connection) -> Iterator[str]:
    """A name prefix of the test's own; all namespaces that begin with it are gone afterwards."""
    prefix = f"md-{uuid.uuid4().hex}"
    yield prefix
    for namespace in list(admin.image.metadef_namespaces()):
        if namespace.namespace.startswith(prefix):
            admin.image.update_metadef_namespace(namespace.namespace, is_protected=False)
            admin.image.delete_metadef_namespace(namespace.namespace)


def facts(answer: str) -> dict[str, str]:
    """A table of two columns that `glance` printed."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in answer.splitlines()
        if line.startswith("|")
    ]
    return {row[0]: row[1] for row in rows[1:]}


# --- openstacksdk ------------------------------------------------------------------------------


def test_sdk_namespaces(admin: Connection, demo: Connection, name: str) -> None:
    made = admin.image.create_metadef_namespace(
        namespace=name, display_name="Shown", visibility="public", is_protected=True
    )
    assert (made.display_name, made.visibility, made.is_protected) == ("Shown", "public", True)
    found = demo.image.get_metadef_namespace(name)
    assert found.created_at == made.created_at
    for number in range(30):
        admin.image.create_metadef_namespace(namespace=f"{name}-{number}")
    # The client follows `next` by itself.
    listed = [one.namespace for one in admin.image.metadef_namespaces()]
    assert sum(one.startswith(name) for one in listed) == 31
    with pytest.raises(exceptions.ForbiddenException):
        admin.image.delete_metadef_namespace(name)
    after = admin.image.update_metadef_namespace(name, is_protected=False, description="About it")
    assert (after.is_protected, after.description) == (False, "About it")
    admin.image.delete_metadef_namespace(name)
    with pytest.raises(exceptions.NotFoundException):
        admin.image.get_metadef_namespace(name)
    with pytest.raises(exceptions.ForbiddenException):
        demo.image.create_metadef_namespace(namespace=name)
    with pytest.raises(exceptions.ConflictException):
        admin.image.create_metadef_namespace(namespace=f"{name}-1")


def test_sdk_objects(admin: Connection, name: str) -> None:
    admin.image.create_metadef_namespace(namespace=name)
    made = admin.image.create_metadef_object(
        name, name="Disk", description="D", properties={"size": DEFINITION}, required=["size"]
    )
    assert made.properties == {"size": DEFINITION}
    found = admin.image.get_metadef_object("Disk", name)
    assert (found.description, found.required) == ("D", ["size"])
    admin.image.update_metadef_object("Disk", name, name="Disk 2")
    assert [one.name for one in admin.image.metadef_objects(name)] == ["Disk 2"]
    admin.image.delete_metadef_object("Disk 2", name)
    admin.image.create_metadef_object(name, name="o")
    admin.image.delete_all_metadef_objects(name)
    assert list(admin.image.metadef_objects(name)) == []


def test_sdk_properties(admin: Connection, name: str) -> None:
    admin.image.create_metadef_namespace(namespace=name)
    made = admin.image.create_metadef_property(name, name="cores", **DEFINITION)
    assert (made.title, made.minimum, made.default) == ("Cores", 1, 4)
    assert admin.image.get_metadef_property("cores", name).default == 4
    after = admin.image.update_metadef_property(
        "cores", name, name="cpus", title="CPUs", type="integer"
    )
    assert after.title == "CPUs"
    assert [one.name for one in admin.image.metadef_properties(name)] == ["cpus"]
    admin.image.delete_metadef_property("cpus", name)
    admin.image.create_metadef_property(name, name="p", title="P", type="string")
    admin.image.delete_all_metadef_properties(name)
    assert list(admin.image.metadef_properties(name)) == []


def test_sdk_resource_types_and_tags(admin: Connection, name: str) -> None:
    admin.image.create_metadef_namespace(namespace=name)
    made = admin.image.create_metadef_resource_type_association(name, name=name, prefix="p:")
    assert made.prefix == "p:"
    assert name in [one.name for one in admin.image.metadef_resource_types()]
    [found] = admin.image.metadef_resource_type_associations(name)
    assert found.name == name
    admin.image.delete_metadef_resource_type_association(name, name)
    assert list(admin.image.metadef_resource_type_associations(name)) == []
    tags = f"/metadefs/namespaces/{name}/tags"
    assert admin.image.post(f"{tags}/one").status_code == 201
    admin.image.remove_tag_from_metadef_namespace(name, "one")
    assert admin.image.get(tags).json() == {"tags": []}
    assert admin.image.post(f"{tags}/two").status_code == 201
    admin.image.remove_tags_from_metadef_namespace(name)
    assert admin.image.get(tags).json() == {"tags": []}


def test_sdk_schemas(demo: Connection) -> None:
    for kind in ("namespace", "object", "property", "resource_type", "tag"):
        schema = getattr(demo.image, f"get_metadef_{kind}_schema")()
        assert schema.properties


# --- openstack ---------------------------------------------------------------------------------


def test_openstack_namespaces(openstack_admin: Shell, openstack_demo: Shell, name: str) -> None:
    metadef = ("image", "metadef", "namespace")
    made = openstack_admin.json(
        *metadef, "create", name, "--display-name", "Shown", "--public", "--protected"
    )
    assert (made["display_name"], made["visibility"]) == ("Shown", "public")
    shown = openstack_demo.json(*metadef, "show", name)
    assert shown["namespace"] == name
    listed = openstack_demo.json(*metadef, "list")
    assert name in [next(iter(row.values())) for row in listed]
    assert "protected" in openstack_admin.fails(*metadef, "delete", name)
    openstack_admin.runs(*metadef, "set", name, "--unprotected", "--description", "About it")
    assert openstack_demo.fails(*metadef, "show", name), "without --public it is private again"
    assert openstack_admin.json(*metadef, "show", name)["description"] == "About it"
    openstack_admin.runs(*metadef, "delete", name)
    openstack_admin.fails(*metadef, "show", name)


def test_openstack_objects(openstack_admin: Shell, name: str) -> None:
    metadef = ("image", "metadef", "object")
    openstack_admin.runs("image", "metadef", "namespace", "create", name)
    made = openstack_admin.json(*metadef, "create", "--namespace", name, "Disk")
    assert made["name"] == "Disk"
    assert openstack_admin.json(*metadef, "show", name, "Disk")["name"] == "Disk"
    openstack_admin.runs(*metadef, "update", name, "Disk", "--name", "Other")
    listed = openstack_admin.json(*metadef, "list", name)
    assert [row["name"] for row in listed] == ["Other"]
    openstack_admin.runs(*metadef, "delete", name, "Other")
    assert openstack_admin.json(*metadef, "list", name) == []


def test_openstack_properties(openstack_admin: Shell, name: str) -> None:
    metadef = ("image", "metadef", "property")
    openstack_admin.runs("image", "metadef", "namespace", "create", name)
    made = openstack_admin.json(
        *(*metadef, "create", "--name", "cores", "--title", "Cores", "--type", "integer"),
        *("--schema", json.dumps({"minimum": 1}), name),
    )
    assert made["title"] == "Cores"
    shown = openstack_admin.json(*metadef, "show", name, "cores")
    assert (shown["type"], shown["minimum"]) == ("integer", 1)
    openstack_admin.runs(*metadef, "set", name, "cores", "--title", "CPUs")
    assert openstack_admin.json(*metadef, "show", name, "cores")["title"] == "CPUs"
    assert len(openstack_admin.json(*metadef, "list", name)) == 1
    openstack_admin.runs(*metadef, "delete", name, "cores")
    assert openstack_admin.json(*metadef, "list", name) == []


def test_openstack_resource_types(openstack_admin: Shell, name: str) -> None:
    metadef = ("image", "metadef", "resource", "type")
    openstack_admin.runs("image", "metadef", "namespace", "create", name)
    openstack_admin.runs(*metadef, "association", "create", name, name)
    listed = openstack_admin.json(*metadef, "list")
    assert name in [next(iter(row.values())) for row in listed]
    assert len(openstack_admin.json(*metadef, "association", "list", name)) == 1
    openstack_admin.runs(*metadef, "association", "delete", name, name)
    assert openstack_admin.json(*metadef, "association", "list", name) == []


# --- glance ------------------------------------------------------------------------------------


def test_glance_namespaces(glance: Shell, name: str, tmp_path: Path) -> None:
    made = glance.runs(
        *("md-namespace-create", name, "--display-name", "Shown", "--visibility", "public"),
        *("--protected", "True"),
    )
    assert facts(made.text)["display_name"] == "Shown"
    assert facts(glance.runs("md-namespace-show", name).text)["protected"] == "True"
    assert name in glance.runs("md-namespace-list", "--page-size", "2").text
    glance.fails("md-namespace-delete", name)
    glance.runs("md-namespace-update", name, "--protected", "False")
    told: dict[str, Any] = {
        "namespace": f"{name}-imported",
        "properties": {"cores": DEFINITION},
        "objects": [{"name": "o", "properties": {"p": DEFINITION}}],
        "tags": [{"name": "t"}],
        "resource_type_associations": [{"name": name, "prefix": "p:"}],
    }
    (tmp_path / "namespace.json").write_text(json.dumps(told))
    imported = glance.runs("md-namespace-import", "--file", str(tmp_path / "namespace.json"))
    assert "cores" in facts(imported.text)["properties"]
    shown = glance.runs(
        *("md-namespace-show", f"{name}-imported", "--resource-type", name),
        *("--max-column-width", "200"),
    )
    assert "p:cores" in facts(shown.text)["properties"]
    glance.runs("md-namespace-delete", name)
    glance.fails("md-namespace-show", name)


def test_glance_objects(glance: Shell, admin: Connection, name: str) -> None:
    admin.image.create_metadef_namespace(namespace=name)
    schema = json.dumps({"description": "D", "properties": {"size": DEFINITION}})
    made = glance.runs("md-object-create", name, "--name", "Disk", "--schema", schema)
    assert facts(made.text)["description"] == "D"
    assert facts(glance.runs("md-object-show", name, "Disk").text)["name"] == "Disk"
    shown = glance.runs("md-object-property-show", name, "Disk", "size")
    assert facts(shown.text)["title"] == "Cores"
    glance.runs("md-object-update", name, "Disk", "--name", "Other")
    assert "Other" in glance.runs("md-object-list", name).text
    glance.runs("md-object-delete", name, "Other")
    glance.runs("md-object-create", name, "--name", "Disk", "--schema", "{}")
    glance.runs("md-namespace-objects-delete", name)
    assert "Disk" not in glance.runs("md-object-list", name).text


def test_glance_properties(glance: Shell, admin: Connection, name: str) -> None:
    admin.image.create_metadef_namespace(namespace=name)
    cores = ("--name", "cores", "--title", "Cores", "--type", "integer")
    made = glance.runs("md-property-create", name, *cores, "--schema", '{"minimum": 1}')
    assert facts(made.text)["minimum"] == "1"
    updated = glance.runs("md-property-update", name, "cores", "--title", "CPUs")
    assert facts(updated.text)["title"] == "CPUs"
    assert facts(glance.runs("md-property-show", name, "cores").text)["type"] == "integer"
    assert "cores" in glance.runs("md-property-list", name).text
    glance.runs("md-property-delete", name, "cores")
    glance.runs("md-property-create", name, *cores, "--schema", "{}")
    glance.runs("md-namespace-properties-delete", name)
    assert "cores" not in glance.runs("md-property-list", name).text


def test_glance_tags(glance: Shell, admin: Connection, name: str) -> None:
    admin.image.create_metadef_namespace(namespace=name)
    glance.runs("md-tag-create", name, "--name", "one")
    glance.runs("md-tag-create-multiple", name, "--names", "two,three")
    assert "one" not in glance.runs("md-tag-list", name).text
    # Not with --append: this client hands its own HTTP library a header that is no text.
    glance.runs("md-tag-create-multiple", name, "--names", "one,two,three")
    listed = glance.runs("md-tag-list", name).text
    assert all(tag in listed for tag in ("one", "two", "three"))
    assert facts(glance.runs("md-tag-show", name, "one").text)["name"] == "one"
    assert facts(glance.runs("md-tag-update", name, "one", "--name", "1").text)["name"] == "1"
    glance.runs("md-tag-delete", name, "1")
    glance.runs("md-namespace-tags-delete", name)
    assert "two" not in glance.runs("md-tag-list", name).text


def test_glance_resource_types(glance: Shell, admin: Connection, name: str) -> None:
    admin.image.create_metadef_namespace(namespace=name)
    made = glance.runs("md-resource-type-associate", name, "--name", name, "--prefix", "p:")
    assert facts(made.text)["prefix"] == "p:"
    assert name in glance.runs("md-resource-type-list").text
    assert name in glance.runs("md-namespace-resource-type-list", name).text
    glance.runs("md-resource-type-deassociate", name, name)
    assert name not in glance.runs("md-namespace-resource-type-list", name).text
