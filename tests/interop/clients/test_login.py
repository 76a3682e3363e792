"""Logging in with `clouds.yaml` alone, and what `openstack` shows of the identity behind it."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.interop.clients import commands
from tests.interop.clients.commands import Answer, Shell
from tests.interop.conftest import Cloud

pytestmark = pytest.mark.interop


def served(cloud: Cloud, name: str) -> Shell:
    """The `openstack` program, told nothing but where the written clouds.yaml is."""

    def run(arguments: list[str], environment: Any, stdin: Path | None = None) -> Answer:
        return commands.run_program("openstack", arguments, environment, stdin)

    environment = commands.environment(cloud.home, OS_CLIENT_CONFIG_FILE=str(cloud.clouds_yaml))
    return Shell(run, environment, "--os-cloud", name)


@pytest.mark.parametrize("name", ["transom", "transom-demo"])
def test_written_clouds_yaml_is_all_that_a_login_takes(cloud: Cloud, name: str) -> None:
    assert served(cloud, name).json("image", "list", "--name", "nothing yet") == []


def test_written_clouds_yaml_is_for_its_owner_alone(cloud: Cloud) -> None:
    assert stat.S_IMODE(cloud.clouds_yaml.stat().st_mode) == 0o600
    document = yaml.safe_load(cloud.clouds_yaml.read_text())
    assert set(document["clouds"]) == {"transom", "transom-demo"}
    passwords = {entry["auth"]["password"] for entry in document["clouds"].values()}
    assert len(passwords) == 2
    assert all(len(password) >= 16 for password in passwords)


def test_wrong_password_is_said_in_one_sentence(cloud: Cloud) -> None:
    said = cloud.openstack("transom-demo").fails("--os-password", "wrong", "image", "list")

    assert "HTTP 401" in said
    assert said.count("\n") <= 2


def test_versions_show_names_image_and_identity(openstack_demo: Shell) -> None:
    rows = openstack_demo.json("versions", "show")

    current = {row["Service Type"]: row for row in rows if row["Status"] == "CURRENT"}
    assert current["image"]["Version"] == "2.17"
    assert current["image"]["Endpoint"].endswith("/v2/")
    assert current["identity"]["Version"].startswith("3.")
    assert {row["Status"] for row in rows} <= {"CURRENT", "SUPPORTED"}


def test_catalog_list_shows_both_services_with_three_interfaces(
    openstack_demo: Shell, cloud: Cloud
) -> None:
    rows = {row["Type"]: row for row in openstack_demo.json("catalog", "list")}

    assert {"image", "identity"} <= set(rows)
    endpoints = rows["image"]["Endpoints"]
    assert {endpoint["interface"] for endpoint in endpoints} == {"public", "internal", "admin"}
    assert all(endpoint["url"].startswith(cloud.server.url) for endpoint in endpoints)
    shown = openstack_demo.json("catalog", "show", "image")
    assert shown["type"] == "image"


def test_issued_token_works_until_it_is_revoked(openstack_demo: Shell, cloud: Cloud) -> None:
    issued = openstack_demo.json("token", "issue")
    client = cloud.server.client(issued["id"])
    assert issued["project_id"] == cloud.project_id("transom-demo")
    assert client.get("/v2/images").status_code == 200

    openstack_demo.runs("token", "revoke", issued["id"])

    assert client.get("/v2/images").status_code == 401


def test_administrator_looks_up_projects_and_users_by_name(
    openstack_admin: Shell, cloud: Cloud
) -> None:
    demo_id = cloud.project_id("transom-demo")

    project = openstack_admin.json("project", "show", "demo")
    assert (project["id"], project["name"], project["enabled"]) == (demo_id, "demo", True)
    user = openstack_admin.json("user", "show", "demo")
    assert (user["name"], user["enabled"]) == ("demo", True)
    projects = {row["Name"] for row in openstack_admin.json("project", "list")}
    assert {"admin", "demo", "neighbours"} <= projects
    users = {row["Name"] for row in openstack_admin.json("user", "list")}
    assert {"admin", "demo", "neighbour", "reader"} <= users
    roles = {row["Name"] for row in openstack_admin.json("role", "list")}
    assert {"admin", "member", "reader"} <= roles
    domains = openstack_admin.json("domain", "list")
    assert [row["Name"] for row in domains] == ["Default"]


def test_user_sees_its_own_projects_and_nobody_elses(openstack_demo: Shell, cloud: Cloud) -> None:
    own = openstack_demo.json("project", "list", "--my-projects")

    assert own == [{"ID": cloud.project_id("transom-demo"), "Name": "demo"}]
    openstack_demo.fails("user", "list")
    openstack_demo.fails("project", "show", "neighbours")


def test_owner_may_be_given_by_the_name_of_its_project(
    openstack_admin: Shell, cloud: Cloud
) -> None:
    created = openstack_admin.json("image", "create", "for-the-demo", "--project", "demo")

    assert created["owner"] == cloud.project_id("transom-demo")
    openstack_admin.runs("image", "delete", created["id"])
