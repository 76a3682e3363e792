"""A Keystone for the whole run, with the users that the tests need."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from tests.interop.keystone.server import Cloud, KeystoneServer
from transom.auth.backends.keystone import KeystoneAuthenticator
from transom.settings import Identity, Keystone, Settings

SERVICE_PASSWORD = "password of the service user"


def furnish(cloud: Cloud) -> None:
    """Add the service project with Transom's user."""
    service = cloud.project("service")
    user = cloud.user("transom", SERVICE_PASSWORD, project=service, roles=["admin", "service"])
    # For unified limits, which Keystone shows to readers of the system.
    cloud.call("PUT", f"/system/users/{user}/roles/{cloud.roles['reader']}")


def settings_for(url: str, **values: Any) -> Settings:
    """Settings that point at a Keystone."""
    keystone = Keystone(
        **{"auth_url": url, "username": "transom", "password": SERVICE_PASSWORD} | values
    )
    return Settings(identity=Identity(backend="keystone", keystone=keystone))


@pytest.fixture(scope="session")
def keystone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeystoneServer]:
    """A running Keystone with Fernet tokens."""
    server = KeystoneServer(tmp_path_factory.mktemp("keystone")).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def cloud(keystone: KeystoneServer) -> Iterator[Cloud]:
    """Its administrator."""
    admin = Cloud(keystone.url)
    furnish(admin)
    yield admin
    admin.close()


@pytest.fixture(scope="session")
def jws_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """The administrator of another Keystone, which gives out JWS tokens."""
    server = KeystoneServer(tmp_path_factory.mktemp("jws"), provider="jws").start()
    admin = Cloud(server.url)
    furnish(admin)
    yield admin
    admin.close()
    server.stop()


@pytest.fixture(params=["fernet", "jws"])
def any_cloud(request: pytest.FixtureRequest) -> Cloud:
    """The administrator of a Keystone of either kind."""
    admin: Cloud = request.getfixturevalue("cloud" if request.param == "fernet" else "jws_cloud")
    return admin


Opened = Callable[..., KeystoneAuthenticator]


@pytest.fixture
async def opened() -> AsyncIterator[Opened]:
    """Opens authenticators, which are closed after the test."""
    made: list[KeystoneAuthenticator] = []

    def open_one(url: str, **values: Any) -> KeystoneAuthenticator:
        made.append(KeystoneAuthenticator(settings_for(url, **values)))
        return made[-1]

    yield open_one
    for one in made:
        await one.close()
