"""Transom, the way an operator starts it: `transom serve --config FILE --data DIR`."""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from bench import dataset
from bench.processes import Server, answers, free_port

_CONFIGURATION = """
[server]
bind = "127.0.0.1:{port}"
workers = {workers}
[database]
url = "{database}"
[identity]
backend = "{identity}"
[stores.main]
driver = "file"
path = "{images}"
fsync = {fsync}
"""
_CLOUD = "transom-demo"
_TABLES = ("images", "image_properties", "image_tags", "image_members", "image_locations")


class Transom:
    """Transom over any database; each has a data folder of its own under `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def data(self, name: str) -> Path:
        """The data folder of the database `name`."""
        return self._folder / name

    def sqlite(self, name: str) -> str:
        """The URL of the SQLite catalog in the data folder of `name`."""
        return f"sqlite:///{self.data(name) / 'transom.db'}"

    def seed(self, name: str, database: str, count: int) -> None:
        """Let Transom found its catalog, then load `count` images. Its demo project, whose id only
        Transom knows, takes the place of project 0."""
        url, server = self.start(name, database, identity="local")
        with server:
            _, project = self.token(name, url)
        _load(database, count, project)

    def start(
        self, name: str, database: str, *, identity: str, fsync: bool = True, workers: int = 1
    ) -> tuple[str, Server]:
        """Start on `database`; the URL and the server. Raises StartFailed."""
        data = self.data(name)
        data.mkdir(parents=True, exist_ok=True)
        port = free_port()
        configuration = data / f"bench-{identity}.toml"
        configuration.write_text(
            _CONFIGURATION.format(
                port=port,
                workers=workers,
                database=database,
                identity=identity,
                images=data / "images",
                fsync=str(fsync).lower(),
            )
        )
        url = f"http://127.0.0.1:{port}"
        ready = "/v2/images?limit=1" if identity == "none" else "/healthcheck"
        server = Server(
            [
                Path(sys.executable).with_name("transom"),
                "serve", "--config", configuration, "--data", data, "--log-level", "warning",
            ],
            log=data / "transom.log",
            ready=lambda: answers(url + ready),
            env={"PYTHONPYCACHEPREFIX": str(self._folder / "bytecode")},
        )  # fmt: skip
        return url, server.start()

    def token(self, name: str, url: str) -> tuple[str, str]:
        """A token of the demo user, and the id of its project."""
        clouds = yaml.safe_load((self.data(name) / "clouds.yaml").read_text())["clouds"]
        login = clouds[_CLOUD]["auth"]
        domain = {"name": login.get("user_domain_name", "Default")}
        user = {"name": login["username"], "password": login["password"], "domain": domain}
        project = {"name": login["project_name"], "domain": domain}
        body = {
            "auth": {
                "identity": {"methods": ["password"], "password": {"user": user}},
                "scope": {"project": project},
            }
        }
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        try:
            connection.request(
                "POST",
                "/v3/auth/tokens",
                body=json.dumps(body),
                headers={"Content-Type": "application/json"},
            )
            response = connection.getresponse()
            text = response.read()
            if response.status != 201:
                raise OSError(f"log-in got {response.status}: {text[:300]!r}")
            return (
                response.headers["X-Subject-Token"],
                json.loads(text)["token"]["project"]["id"],
            )
        finally:
            connection.close()


def _load(database: str, count: int, project: str) -> None:
    """Load the images, and then who they are shared with."""
    from transom.catalog import Catalog, bulk
    from transom.model.image import Image, Location, Status, Visibility
    from transom.model.member import Member, MemberStatus
    from transom.settings import Database, Settings

    members: list[Member] = []

    def images() -> Iterator[Image]:
        for row in dataset.rows(count, first_project_id=project):
            locations: tuple[Location, ...] = ()
            if row.status != "queued":
                locations = (Location(store="main", key=row.id, url=f"file:///nowhere/{row.id}"),)
            members.extend(
                Member(
                    image_id=row.id,
                    member_id=member,
                    status=MemberStatus.ACCEPTED,
                    created_at=row.created_at,
                    updated_at=row.created_at,
                )
                for member in row.members
            )
            yield Image(
                id=row.id,
                created_at=row.created_at,
                updated_at=row.updated_at,
                name=row.name,
                status=Status(row.status),
                visibility=Visibility(row.visibility),
                owner=row.owner,
                disk_format=row.disk_format,
                container_format=row.container_format,
                size=row.size,
                virtual_size=row.virtual_size,
                checksum=row.checksum,
                os_hash_algo=row.os_hash_algo,
                os_hash_value=row.os_hash_value,
                os_hidden=row.os_hidden,
                protected=row.protected,
                min_disk=row.min_disk,
                min_ram=row.min_ram,
                properties=dict(row.properties),
                tags=row.tags,
                locations=locations,
            )

    catalog = Catalog.open(Settings(database=Database(url=database)))
    try:
        bulk.load(catalog.engine, images(), (member for member in members))
    finally:
        catalog.close()


def schema() -> str:
    """What decides how a seeded catalog looks: the tables around images, as both engines are told
    to make them, and the code that fills them. Other tables come and go by migration at a start."""
    from sqlalchemy.dialects import postgresql, sqlite
    from sqlalchemy.schema import CreateIndex, CreateTable

    from transom.catalog import bulk
    from transom.catalog.schema import metadata

    parts = [Path(bulk.__file__).read_text()]
    for name in _TABLES:
        table = metadata.tables[name]
        for dialect in (postgresql.dialect(), sqlite.dialect()):  # type: ignore[no-untyped-call]
            parts.append(str(CreateTable(table).compile(dialect=dialect)))
            parts += sorted(
                str(CreateIndex(index).compile(dialect=dialect)) for index in table.indexes
            )
    return "\n".join(parts)
