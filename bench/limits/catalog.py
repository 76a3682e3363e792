"""The limit of list, show and create: a raw driver, msgspec and Granian, and nothing between.

    python -m bench.limits.catalog PORT DATABASE THREADS

DATABASE is a PostgreSQL URL or the path of an SQLite file, seeded by `bench.sides.limit`. It knows
the questions of `bench.dataset` and no others, checks nothing, and cannot be wrong about who asks.
"""

from __future__ import annotations

import datetime as dt
import sqlite3
import sys
import threading
import uuid
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import psycopg
from granian import Granian
from granian.constants import Interfaces

from bench.limits.schema import COLUMNS

_Row = tuple[Any, ...]
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_IMAGE = ", ".join(f"image.{column}" for column in COLUMNS)
_OWN = frozenset(COLUMNS) - {"properties"}
_PAGE = "ORDER BY created_at DESC, id DESC LIMIT 25"
_BY_INDEX = (
    f"SELECT {_IMAGE} FROM {{table}} part JOIN image ON image.id = part.image_id "
    "WHERE {where} AND NOT image.os_hidden "
    "ORDER BY part.created_at DESC, part.image_id DESC LIMIT 25"
)
_SEEN = f"SELECT {_IMAGE} FROM image WHERE {{where}} AND NOT os_hidden {_PAGE}"
_QUERIES = {
    "default": f"SELECT {_IMAGE} FROM image WHERE NOT os_hidden AND visibility <> 'community' "
    f"{_PAGE}",
    "page": f"SELECT {_IMAGE} FROM image WHERE (created_at, id) < "
    "((SELECT created_at FROM image WHERE id = ?), ?) "
    f"AND NOT os_hidden AND visibility <> 'community' {_PAGE}",
    "visible": _SEEN.format(where="visibility = ? AND status = ?"),
    "name": _SEEN.format(where="name = ? AND visibility <> 'community'"),
    "tag": _BY_INDEX.format(table="tag", where="part.value = ? AND visibility <> 'community'"),
    "property": _BY_INDEX.format(
        table="property", where="part.name = ? AND part.value = ? AND visibility <> 'community'"
    ),
    "project": "SELECT * FROM ("
    + " UNION ".join(
        f"SELECT * FROM ({part}) AS part_{number}"
        for number, part in enumerate(
            (
                _SEEN.format(where="owner = ?"),
                _SEEN.format(where="visibility = 'public'"),
                _BY_INDEX.format(table="member", where="part.project = ?"),
            )
        )
    )
    + f") AS seen {_PAGE}",
    "show": f"SELECT {_IMAGE} FROM image WHERE id = ?",
    "add_image": f"INSERT INTO image VALUES ({', '.join('?' * len(COLUMNS))})",
    "add_property": "INSERT INTO property VALUES (?, ?, ?, ?)",
    "add_tag": "INSERT INTO tag VALUES (?, ?, ?)",
}


class _Postgres:
    """One connection for each thread."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._local = threading.local()
        self._queries = {key: query.replace("?", "%s") for key, query in _QUERIES.items()}

    def read(self, query: str, values: Iterable[object]) -> list[_Row]:
        return self._connection().execute(self._queries[query], tuple(values)).fetchall()

    def write(self, statements: Iterable[tuple[str, _Row]]) -> None:
        connection = self._connection()
        with connection.transaction(), connection.pipeline():
            for query, values in statements:
                connection.execute(self._queries[query], values)

    def _connection(self) -> psycopg.Connection[_Row]:
        if not hasattr(self._local, "connection"):
            connection = psycopg.connect(self._url, autocommit=True, prepare_threshold=0)
            connection.cursor_factory = _binary_cursor
            self._local.connection = connection
        return self._local.connection  # type: ignore[no-any-return]


class _binary_cursor(psycopg.Cursor[_Row]):  # noqa: N801
    format = psycopg.pq.Format.BINARY


class _Sqlite:
    """One connection for reading in each thread, one for writing in all."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._local = threading.local()
        self._writer = self._connect()
        self._lock = threading.Lock()

    def read(self, query: str, values: Iterable[object]) -> list[_Row]:
        if not hasattr(self._local, "connection"):
            self._local.connection = self._connect()
        return self._local.connection.execute(  # type: ignore[no-any-return]
            _QUERIES[query], tuple(values)
        ).fetchall()

    def write(self, statements: Iterable[tuple[str, _Row]]) -> None:
        with self._lock:
            self._writer.execute("BEGIN IMMEDIATE")
            for query, values in statements:
                self._writer.execute(_QUERIES[query], values)
            self._writer.execute("COMMIT")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA mmap_size = 1073741824")
        return connection


def _shown(row: _Row) -> msgspec.Raw:
    (
        id_, name, status, visibility, owner, disk_format, container_format, size, virtual_size,
        checksum, os_hash_algo, os_hash_value, os_hidden, protected, min_disk, min_ram, created_at,
        updated_at, properties, tags,
    ) = row  # fmt: skip
    path = f"/v2/images/{id_}"
    fields = _encode(
        {
            "name": name,
            "disk_format": disk_format,
            "container_format": container_format,
            "visibility": visibility,
            "size": size,
            "virtual_size": virtual_size,
            "status": status,
            "checksum": checksum,
            "protected": bool(protected),
            "min_ram": min_ram,
            "min_disk": min_disk,
            "owner": owner,
            "os_hidden": bool(os_hidden),
            "os_hash_algo": os_hash_algo,
            "os_hash_value": os_hash_value,
            "id": id_,
            "created_at": created_at,
            "updated_at": updated_at,
            "tags": msgspec.Raw(tags.encode()),
            "self": path,
            "file": path + "/file",
            "schema": "/v2/schemas/image",
        }
    )
    folded = properties.encode()
    return msgspec.Raw(fields if folded == b"{}" else folded[:-1] + b"," + fields[1:])


class Catalog:
    """Answers GET /v2/images, GET /v2/images/ID and POST /v2/images over WSGI."""

    def __init__(self, database: str) -> None:
        self._database = _Postgres(database) if "://" in database else _Sqlite(database)

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., object]
    ) -> tuple[bytes]:
        if environ["REQUEST_METHOD"] == "POST":
            status, body = "201 Created", self._create(_decode(environ["wsgi.input"].read()))
        elif environ["PATH_INFO"] == "/v2/images":
            status, body = "200 OK", self._list(environ)
        else:
            id_ = environ["PATH_INFO"][11:]
            status, body = "200 OK", _encode(_shown(self._database.read("show", (id_,))[0]))
        start_response(
            status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        )
        return (body,)

    def _list(self, environ: dict[str, Any]) -> bytes:
        text = environ["QUERY_STRING"]
        asked = dict(parse_qsl(text))
        project = environ.get("HTTP_X_PROJECT_ID")
        values: tuple[object, ...]
        if project:
            query, values = "project", (project, project)
        elif not asked:
            query, values = "default", ()
        elif "visibility" in asked:
            query, values = "visible", (asked["visibility"], asked["status"])
        elif "marker" in asked:
            query, values = "page", (asked["marker"],) * 2
        elif "name" in asked:
            query, values = "name", (asked["name"],)
        elif "tag" in asked:
            query, values = "tag", (asked["tag"],)
        else:
            query, values = "property", next(iter(asked.items()))
        images = [_shown(row) for row in self._database.read(query, values)]
        first = f"/v2/images?{text}" if text else "/v2/images"
        answer: dict[str, object] = {
            "images": images,
            "first": first,
            "schema": "/v2/schemas/images",
        }
        if len(images) == 25:
            answer["next"] = first
        return _encode(answer)

    def _create(self, given: dict[str, Any]) -> bytes:
        id_ = str(uuid.uuid4())
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        tags = given["tags"]
        properties = {key: value for key, value in given.items() if key not in _OWN}
        row: _Row = (
            id_, given["name"], "queued", given["visibility"], None, given["disk_format"],
            given["container_format"], None, None, None, None, None, False, False, 0, 0, now, now,
            _encode(properties).decode(), _encode(tags).decode(),
        )  # fmt: skip
        self._database.write(
            [
                ("add_image", row),
                *(("add_property", (key, value, now, id_)) for key, value in properties.items()),
                *(("add_tag", (tag, now, id_)) for tag in tags),
            ]
        )
        return _encode(_shown(row))


def _serve() -> None:
    port, database, threads = sys.argv[1:]
    application = Catalog(database)
    server = Granian(
        "bench.limits.catalog",
        address="127.0.0.1",
        port=int(port),
        interface=Interfaces.WSGI,
        blocking_threads=int(threads),
        log_enabled=False,
    )
    server.serve(target_loader=lambda _: application)


if __name__ == "__main__":
    _serve()
