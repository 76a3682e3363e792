"""A real Glance from PyPI, in a virtual environment of its own, under uWSGI as its docs say.

Two processes, as many as our machines have processors; PostgreSQL, because two processes on SQLite
lock each other out; a file store. Authentication is off the way that costs Glance least: its own
`context` filter without the token filter before it believes the `X-Roles` and `X-Project-Id` of
the request, so that it behaves as it does after a token was found in the cache.
"""

from __future__ import annotations

import configparser
import os
import subprocess
import venv
from collections.abc import Iterator
from pathlib import Path

from bench import dataset
from bench.postgres import Postgres
from bench.processes import Server, StartFailed, answers, free_port

_HERE = Path(__file__).resolve().parent.parent
REQUIREMENTS = _HERE / "requirements-glance.txt"
_IDENTITY = {"X-Identity-Status": "Confirmed", "X-User-Id": "5" * 32}
ADMIN = {**_IDENTITY, "X-Project-Id": "6" * 32, "X-Roles": "admin,manager,member,reader"}
"""Headers of a request by an administrator."""

PROCESSES = 2
_UWSGI = """
[uwsgi]
http = 127.0.0.1:{port}
module = glance.wsgi.api:application
home = {home}
env = OS_GLANCE_CONFIG_DIR={folder}
processes = {processes}
master = true
lazy-apps = true
enable-threads = true
thunder-lock = true
http-auto-chunked = true
http-chunked-input = true
http-raw-body = true
socket-timeout = 60
http-timeout = 600
add-header = Connection: close
buffer-size = 65535
exit-on-reload = true
die-on-term = true
disable-logging = true
listen = 128
"""

_CONFIGURATION = """
[DEFAULT]
enabled_backends = main:file
worker_self_reference_url = http://127.0.0.1:{port}
log_file = {folder}/api.log
[glance_store]
default_backend = main
[main]
filesystem_store_datadir = {data}/images
[os_glance_staging_store]
filesystem_store_datadir = {data}/staging
[os_glance_tasks_store]
filesystem_store_datadir = {data}/tasks
[database]
connection = {database}
[paste_deploy]
config_file = {folder}/paste.ini
flavor = bench
"""


def member(project: str) -> dict[str, str]:
    """Headers of a request by a member of `project`."""
    return {**_IDENTITY, "X-Project-Id": project, "X-Roles": "member,reader"}


class Glance:
    """Glance over databases of one PostgreSQL cluster."""

    def __init__(self, environment: Path, work: Path, postgres: Postgres) -> None:
        self._environment = environment
        self._folder = work / f"glance-{os.getpid()}"
        self._postgres = postgres
        self.version = ""

    def install(self) -> None:
        """Create the virtual environment unless it holds what the requirements name."""
        wanted = REQUIREMENTS.read_text()
        stamp = self._environment / "requirements-installed.txt"
        if not stamp.exists() or stamp.read_text() != wanted:
            print(f"installing Glance into {self._environment}", flush=True)
            venv.create(self._environment, with_pip=True, clear=True)
            done = subprocess.run(
                [self._program("python"), "-m", "pip", "install", "-q", "-r", REQUIREMENTS],
                capture_output=True,
                timeout=1200,
                text=True,
                check=False,
            )
            if done.returncode:
                raise StartFailed(f"Glance could not be installed:\n{done.stderr[-3000:]}")
            stamp.write_text(wanted)
        self.version = next(
            line.partition("==")[2] for line in wanted.splitlines() if line.startswith("glance==")
        )

    def seed(self, database: str, count: int) -> None:
        """Glance's own schema in an empty database, and `count` images in it."""
        self._configure(database, 0)
        done = subprocess.run(
            [
                self._program("glance-manage"),
                "--config-file", self._folder / "glance-api.conf", "db_sync",
            ],
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        if done.returncode:
            raise StartFailed(f"glance-manage db_sync failed:\n{done.stderr[-3000:]}")
        with self._postgres.connect(database) as connection:
            connection.execute("SET synchronous_commit = off")
            connection.execute("SET session_replication_role = replica")
            with connection.transaction():
                indexes = connection.execute(_PLAIN_INDEXES).fetchall()
                for name, _ in indexes:
                    connection.execute(f"DROP INDEX {name}".encode())
                for batch in _batches(count):
                    for table, columns, lines in _parts(batch):
                        statement = f"COPY {table} ({columns}) FROM STDIN"
                        with connection.cursor().copy(statement.encode()) as copy:
                            for line in lines:
                                copy.write_row(line)
                for _, definition in indexes:
                    connection.execute(definition.encode())

    def start(self, database: str) -> tuple[str, Server]:
        """Start on `database`; the URL and the server. Raises StartFailed."""
        port = free_port()
        self._configure(database, port)
        url = f"http://127.0.0.1:{port}"
        server = Server(
            [self._program("uwsgi"), "--ini", self._folder / "uwsgi.ini"],
            log=self._folder / "uwsgi.log",
            ready=lambda: answers(f"{url}/v2/images?limit=1", ADMIN),
            env={"PYTHONWARNINGS": "ignore"},
        )
        return url, server.start()

    def _program(self, name: str) -> Path:
        return self._environment / "bin" / name

    def _configure(self, database: str, port: int) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for name in ("images", "staging", "tasks"):
            (self._folder / "data" / name).mkdir(parents=True, exist_ok=True)
        values = {
            "port": port,
            "home": self._environment,
            "folder": self._folder,
            "data": self._folder / "data",
            "database": self._postgres.url(database, "+psycopg2"),
        }
        (self._folder / "glance-api.conf").write_text(_CONFIGURATION.format(**values))
        (self._folder / "uwsgi.ini").write_text(_UWSGI.format(processes=PROCESSES, **values))
        paste = configparser.RawConfigParser()
        paste.optionxform = str  # type: ignore[assignment, method-assign]
        paste.read(self._environment / "etc" / "glance" / "glance-api-paste.ini")
        keystone = paste["composite:api"]["keystone"]
        paste["composite:api"]["bench"] = keystone.replace("authtoken ", "")
        paste["composite:glance-api-bench"] = dict(paste["composite:glance-api-keystone"])
        with (self._folder / "paste.ini").open("w") as file:
            paste.write(file)


_PLAIN_INDEXES = """
SELECT index.relname, pg_get_indexdef(index.oid)
FROM pg_index JOIN pg_class index ON index.oid = pg_index.indexrelid
JOIN pg_namespace ON pg_namespace.oid = index.relnamespace
WHERE nspname = 'public'
AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = index.oid)
AND NOT indisunique
"""

_IMAGE_COLUMNS = (
    "id, name, size, status, created_at, updated_at, deleted, disk_format, container_format, "
    "checksum, owner, min_disk, min_ram, protected, virtual_size, visibility, os_hidden, "
    "os_hash_algo, os_hash_value"
)


def _parts(
    rows: list[dataset.Row],
) -> Iterator[tuple[str, str, Iterator[tuple[object, ...]]]]:
    yield "images", _IMAGE_COLUMNS, (_image(row) for row in rows)
    yield (
        "image_properties",
        "image_id, name, value, created_at, deleted",
        (
            (row.id, name, value, row.created_at.replace(tzinfo=None), False)
            for row in rows
            for name, value in row.properties.items()
        ),
    )
    yield (
        "image_tags",
        "image_id, value, created_at, deleted",
        (
            (row.id, tag, row.created_at.replace(tzinfo=None), False)
            for row in rows
            for tag in row.tags
        ),
    )
    yield (
        "image_locations",
        "image_id, value, meta_data, created_at, deleted, status",
        (
            (
                row.id, f"file:///nowhere/{row.id}", '{"store": "main"}',
                row.created_at.replace(tzinfo=None), False, "active",
            )
            for row in rows
            if row.status != "queued"
        ),
    )  # fmt: skip
    yield (
        "image_members",
        "image_id, member, can_share, created_at, deleted, status",
        (
            (row.id, project, False, row.created_at.replace(tzinfo=None), False, "accepted")
            for row in rows
            for project in row.members
        ),
    )


def _image(row: dataset.Row) -> tuple[object, ...]:
    return (
        row.id, row.name, row.size, row.status, row.created_at.replace(tzinfo=None),
        row.updated_at.replace(tzinfo=None), False, row.disk_format, row.container_format,
        row.checksum, row.owner, row.min_disk, row.min_ram, row.protected, row.virtual_size,
        row.visibility, row.os_hidden, row.os_hash_algo, row.os_hash_value,
    )  # fmt: skip


def _batches(count: int, length: int = 10000) -> Iterator[list[dataset.Row]]:
    batch: list[dataset.Row] = []
    for row in dataset.rows(count):
        batch.append(row)
        if len(batch) == length:
            yield batch
            batch = []
    yield batch
