"""Fixtures of all tests over HTTP: servers, callers, images."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import hypothesis
import pytest
import structlog

from tests.support import orm, postgres
from tests.support.server import Client, Config, ServerProcess, merged

pytest.register_assert_rewrite("tests.api.checks")

# How long an example takes says more of the machine than of the code.
hypothesis.settings.register_profile(
    "transom", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("transom")

SERVERS_KEPT = 8
"""Servers with a configuration of their own that stay up at the same time, per test process."""

DEFAULT_CONFIG: Config = {"imports": {"methods": ["glance-direct", "web-download"]}}


class Actors(NamedTuple):
    """The callers of the truth tables (lifecycle §2), each with a token of its own."""

    owner: Client
    owner_reader: Client
    member: Client
    member_reader: Client
    other: Client
    other_reader: Client
    admin: Client
    service: Client
    norole: Client


class MakeImage(Protocol):
    """Makes an image that is gone after the test."""

    def __call__(
        self, client: Client | None = None, *, data: bytes | None = None, **attributes: Any
    ) -> dict[str, Any]: ...


class MakeServer(Protocol):
    """Starts a server of the test's own; it ends with the test."""

    def __call__(self, config: Config | None = None) -> ServerProcess: ...


class Running(NamedTuple):
    """A server with a configuration of its own, and its two first callers."""

    server: ServerProcess
    admin: Client
    demo: Client


ServerWith = Callable[[Config], Running]


def with_test_database(config: Config) -> Config:
    """The configuration on a new database of the kind that TRANSOM_TEST_DATABASE asks for."""
    if "database" in config or os.environ.get("TRANSOM_TEST_DATABASE", "sqlite") == "sqlite":
        return config
    # Who asks for the server may keep it for other tests, and removes the database with it.
    with postgres.for_many_tests():
        return merged(config, {"database": {"url": postgres.cluster().database()}})


def without_database(server: ServerProcess) -> None:
    """Remove the database that `with_test_database` made for a server that is over."""
    url = server.config.get("database", {}).get("url", "")
    if url.startswith("postgresql:"):
        postgres.cluster().drop(url)


def configured(folder: Path, config: Config | None = None) -> ServerProcess:
    """A server, not started yet, with the tests' defaults below its own configuration."""
    return ServerProcess(folder, with_test_database(merged(DEFAULT_CONFIG, config or {})))


@pytest.fixture(autouse=True)
def _databases_go_with_their_test() -> Iterator[None]:
    """Hundreds of databases, some megabytes each, would fill the disk before the last test."""
    yield
    postgres.end_of_test()


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Iterator[None]:
    """What a module or a session shares must not go with the test that happened to be the first."""
    with contextlib.ExitStack() as stack:
        if fixturedef.scope != "function":
            stack.enter_context(postgres.for_many_tests())
        return (yield)


@pytest.fixture(autouse=True)
def _the_orm_is_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test does in its own process must work in a service that just loads it."""
    orm.never_asked(monkeypatch)


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A command that a test runs in its own process sets up logs; the next test must not hear less."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The server that most tests share: the defaults, one file store."""
    with configured(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="session")
def default(server: ServerProcess) -> Running:
    """The shared server with its two first callers, in the shape of the others."""
    return Running(
        server, server.log_in_to_cloud("transom"), server.log_in_to_cloud("transom-demo")
    )


@pytest.fixture(scope="session")
def actors(server: ServerProcess) -> Actors:
    """Every kind of caller, on three projects and two of the service's own."""
    made = server.provision(
        {
            "owner": ("owners", ["member"]),
            "owner_reader": ("owners", ["reader"]),
            "member": ("members", ["member"]),
            "member_reader": ("members", ["reader"]),
            "other": ("others", ["member"]),
            "other_reader": ("others", ["reader"]),
            "service": ("services", ["service"]),
            # A role that no rule knows: a token on a project that is good for nothing.
            "norole": ("onlookers", ["onlooker"]),
        }
    )
    return Actors(admin=server.log_in_to_cloud("transom"), **made)


@pytest.fixture(scope="session")
def owner(actors: Actors) -> Client:
    """Role `member` on the project that owns the images."""
    return actors.owner


@pytest.fixture(scope="session")
def owner_reader(actors: Actors) -> Client:
    """Role `reader` on the project that owns the images."""
    return actors.owner_reader


@pytest.fixture(scope="session")
def member(actors: Actors) -> Client:
    """Role `member` on the project that images are shared with."""
    return actors.member


@pytest.fixture(scope="session")
def other(actors: Actors) -> Client:
    """Role `member` on a project that has nothing to do with the images."""
    return actors.other


@pytest.fixture(scope="session")
def admin(actors: Actors) -> Client:
    """An administrator."""
    return actors.admin


@pytest.fixture
def image(request: pytest.FixtureRequest) -> Iterator[MakeImage]:
    """Makes images: `image()`, `image(admin, visibility="public")`, `image(data=b"…")`.

    The caller is the owner unless given. With `data` the image becomes active; formats are `raw`
    and `bare` unless given.
    """
    made: list[tuple[Client, str]] = []

    def make(
        client: Client | None = None, *, data: bytes | None = None, **attributes: Any
    ) -> dict[str, Any]:
        caller: Client = client or request.getfixturevalue("owner")
        if data is not None:
            attributes = {"disk_format": "raw", "container_format": "bare", **attributes}
        fresh = caller.create(**attributes)
        made.append((caller, fresh["id"]))
        return fresh if data is None else caller.upload(fresh["id"], data)

    yield make
    for caller, image_id in reversed(made):
        if caller.http.is_closed:
            continue
        if caller.delete(f"/v2/images/{image_id}").status_code == 403:
            caller.patch(
                f"/v2/images/{image_id}", [{"op": "replace", "path": "/protected", "value": False}]
            )
            caller.delete(f"/v2/images/{image_id}")


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[MakeServer]:
    """Servers of the test's own, started: `make_server({"limits": {…}})`."""
    made: list[ServerProcess] = []

    def make(config: Config | None = None) -> ServerProcess:
        fresh = configured(tmp_path / f"server{len(made)}-{uuid.uuid4().hex[:8]}", config)
        made.append(fresh)
        return fresh.start()

    yield make
    for each in made:
        each.kill()
        without_database(each)


@pytest.fixture(scope="session")
def server_with(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerWith]:
    """A server with another configuration, shared by all tests that ask for the same one."""
    kept: OrderedDict[str, Running] = OrderedDict()
    started: list[ServerProcess] = []

    def get(config: Config) -> Running:
        key = json.dumps(config, sort_keys=True)
        if key not in kept:
            while len(kept) >= SERVERS_KEPT:
                _, oldest = kept.popitem(last=False)
                oldest.server.stop()
                without_database(oldest.server)
            fresh = configured(tmp_path_factory.mktemp("server-with"), config)
            started.append(fresh)
            fresh.start()
            kept[key] = Running(
                fresh, fresh.log_in_to_cloud("transom"), fresh.log_in_to_cloud("transom-demo")
            )
        kept.move_to_end(key)
        return kept[key]

    yield get
    for each in started:
        each.stop()
        without_database(each)


@pytest.fixture
def mark() -> str:
    """A value that no other test uses, to find one's own images by."""
    return uuid.uuid4().hex
