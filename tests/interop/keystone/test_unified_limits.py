"""Limits that a real Keystone keeps."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.interop.keystone.conftest import Opened
from tests.interop.keystone.server import Cloud, KeystoneServer
from transom.errors import IdentityUnavailable

pytestmark = pytest.mark.interop

DEFAULTS = {
    "image_size_total": 1000,
    "image_stage_total": 1000,
    "image_count_total": 100,
    "image_count_uploading": 50,
}


@pytest.fixture
def service(cloud: Cloud) -> Iterator[str]:
    """The image service, with limits registered for it; gone after the test."""
    made = cloud.call("POST", "/services", {"service": {"type": "image", "name": "image"}}).json()
    service_id = str(made["service"]["id"])
    registered = cloud.call(
        "POST",
        "/registered_limits",
        {
            "registered_limits": [
                {"service_id": service_id, "resource_name": name, "default_limit": limit}
                for name, limit in DEFAULTS.items()
            ]
        },
    ).json()["registered_limits"]
    yield service_id
    for limit in registered:
        cloud.call("DELETE", f"/registered_limits/{limit['id']}")
    cloud.call("DELETE", f"/services/{service_id}")


def limit(cloud: Cloud, service: str, project: str, name: str, value: int) -> str:
    made = cloud.call(
        "POST",
        "/limits",
        {
            "limits": [
                {
                    "service_id": service,
                    "project_id": project,
                    "resource_name": name,
                    "resource_limit": value,
                }
            ]
        },
    ).json()
    return str(made["limits"][0]["id"])


async def test_a_project_has_its_own_limits_over_the_registered_ones(
    keystone: KeystoneServer, cloud: Cloud, opened: Opened, service: str
) -> None:
    own, other = (cloud.project(f"limited-{uuid.uuid4().hex[:6]}") for _ in range(2))
    limit_id = limit(cloud, service, own, "image_count_total", 3)
    authenticator = opened(keystone.url)

    assert await authenticator.limits_of(own) == DEFAULTS | {"image_count_total": 3}
    assert await authenticator.limits_of(other) == DEFAULTS

    cloud.call("PATCH", f"/limits/{limit_id}", {"limit": {"resource_limit": 4}})
    assert (await authenticator.limits_of(own))["image_count_total"] == 4
    cloud.call("DELETE", f"/limits/{limit_id}")
    assert await authenticator.limits_of(own) == DEFAULTS


async def test_without_a_role_on_the_system_limits_cannot_be_known(
    keystone: KeystoneServer, cloud: Cloud, opened: Opened, service: str
) -> None:
    name = f"weak-{uuid.uuid4().hex[:6]}"
    project = cloud.project(name)
    cloud.user(name, "a password", project=project, roles=["admin"])
    authenticator = opened(keystone.url, username=name, password="a password", project_name=name)

    with pytest.raises(IdentityUnavailable):
        await authenticator.limits_of(project)
    # Tokens are another matter.
    assert await authenticator.authenticate(cloud.token(name, "a password", project=name))


async def test_without_an_image_service_limits_cannot_be_known(
    keystone: KeystoneServer, cloud: Cloud, opened: Opened
) -> None:
    with pytest.raises(IdentityUnavailable, match="no service of type image"):
        await opened(keystone.url).limits_of("a project")
