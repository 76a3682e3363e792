"""Fixtures of the tests that drive Transom with real clients: one server, its users, their shells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import glanceclient
import pytest
import yaml
from openstack.config import OpenStackConfig
from openstack.connection import Connection

from tests.conftest import configured
from tests.interop.clients import commands
from tests.interop.clients.commands import Preloaded, Shell
from tests.interop.images import corpus
from tests.interop.images.corpus import BootableImage
from tests.support.server import ServerProcess

NEIGHBOUR = "neighbour"
READER = "reader"
_NEIGHBOURS = "neighbours"


class Cloud:
    """A running Transom and everybody who has an account there.

    `clouds_yaml` is the file that `transom serve` wrote, untouched: clouds `transom` and
    `transom-demo`. `all_clouds_yaml` knows two users more, made with Transom's own commands:
    `neighbour`, a member of another project, and `reader`, who may only read in the demo project.
    """

    def __init__(self, server: ServerProcess, home: Path, preloaded: Preloaded) -> None:
        self.server = server
        self.home = home
        self.preloaded = preloaded
        self.clouds_yaml = server.data / "clouds.yaml"
        self.all_clouds_yaml = home / "clouds.yaml"
        self._write_all_clouds()

    def _write_all_clouds(self) -> None:
        demo = self.server.cloud("transom-demo")
        made = self.server.provision(
            {
                NEIGHBOUR: (_NEIGHBOURS, ["member"]),
                READER: (f"{READER}s", ["reader"]),
            }
        )
        for client in made.values():
            client.close()
        self.server.run(
            ["role", "add", "--user", READER, "--project", demo["project_name"], "reader"]
        )
        document = yaml.safe_load(self.clouds_yaml.read_text())
        for user, project in ((NEIGHBOUR, _NEIGHBOURS), (READER, demo["project_name"])):
            own = {"username": user, "password": f"{user}-secret", "project_name": project}
            document["clouds"][user] = {
                **document["clouds"]["transom-demo"],
                "auth": {**demo, **own},
            }
        self.all_clouds_yaml.write_text(yaml.safe_dump(document))

    def openstack(self, cloud: str) -> Shell:
        """The openstack command line of a user."""
        where = commands.environment(self.home, OS_CLIENT_CONFIG_FILE=str(self.all_clouds_yaml))
        return Shell(self.preloaded, where, "--os-cloud", cloud)

    def glance(self, cloud: str) -> Shell:
        """The glance command line of a user; it reads no clouds.yaml, only OS_* variables."""
        entry = yaml.safe_load(self.all_clouds_yaml.read_text())["clouds"][cloud]
        named = {f"OS_{key.upper()}": str(value) for key, value in entry["auth"].items()}
        if "region_name" in entry:
            named["OS_REGION_NAME"] = entry["region_name"]
        where = commands.environment(self.home, **named)

        def run(
            arguments: list[str], environment: Any, stdin: Path | None = None
        ) -> commands.Answer:
            return commands.run_program("glance", arguments, environment, stdin)

        return Shell(run, where)

    def sdk(self, cloud: str) -> Connection:
        """An openstacksdk connection of a user."""
        known = OpenStackConfig(
            config_files=[str(self.all_clouds_yaml)],
            secure_files=[],
            vendor_files=[],
            load_envvars=False,
        )
        return Connection(config=known.get_one(cloud))

    def glance_library(self, cloud: str) -> glanceclient.v2.client.Client:
        """A glanceclient of a user, on a keystoneauth session."""
        connection = self.sdk(cloud)
        return glanceclient.Client(
            "2", session=connection.session, region_name=connection.config.get_region_name()
        )

    def project_id(self, cloud: str) -> str:
        """Id of the project that a cloud's entry logs in to."""
        found = self.sdk(cloud).current_project_id
        assert found
        return str(found)


@pytest.fixture(scope="session")
def bootable() -> dict[str, BootableImage]:
    """The corpus of real images, by name."""
    return corpus.build()


@pytest.fixture(scope="session")
def preloaded() -> Iterator[Preloaded]:
    """The openstack command line, its plug-ins loaded."""
    with Preloaded() as runner:
        yield runner


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory, preloaded: Preloaded) -> Iterator[Cloud]:
    """A server of its own with users."""
    folder = tmp_path_factory.mktemp("cloud")
    home = tmp_path_factory.mktemp("home")
    with configured(folder) as server:
        yield Cloud(server, home, preloaded)


@pytest.fixture(scope="session")
def openstack_admin(cloud: Cloud) -> Shell:
    """`openstack --os-cloud transom`: the administrator."""
    return cloud.openstack("transom")


@pytest.fixture(scope="session")
def openstack_demo(cloud: Cloud) -> Shell:
    """`openstack --os-cloud transom-demo`: a member of the demo project."""
    return cloud.openstack("transom-demo")


@pytest.fixture(scope="session")
def openstack_neighbour(cloud: Cloud) -> Shell:
    """A member of another project."""
    return cloud.openstack(NEIGHBOUR)
