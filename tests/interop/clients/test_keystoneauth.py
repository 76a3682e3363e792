"""keystoneauth: version discovery and every way to log in that the clients above it use."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from keystoneauth1 import adapter, discover, exceptions, session
from keystoneauth1.identity import generic, v3

from tests.interop.clients.gophercloud import base_endpoint
from tests.interop.conftest import Cloud

pytestmark = pytest.mark.interop


@pytest.fixture
def auth(cloud: Cloud) -> dict[str, str]:
    """What clouds.yaml says about the demo user."""
    return cloud.server.cloud("transom-demo")


@pytest.fixture
def login(auth: dict[str, str]) -> Iterator[session.Session]:
    """A session of the demo user, through the plug-in that clients choose by default."""
    with_password = generic.Password(**auth)
    made = session.Session(auth=with_password)
    yield made
    made.session.close()


def test_image_endpoint_is_discovered_from_the_catalog(
    login: session.Session, cloud: Cloud
) -> None:
    data = login.auth.get_endpoint_data(login, service_type="image", interface="public")

    assert data.url.rstrip("/") == f"{cloud.server.url}/v2"
    assert data.api_version[0] == 2
    assert data.catalog_url.startswith(cloud.server.url)
    assert data.service_type == "image"


@pytest.mark.parametrize("interface", ["public", "internal", "admin"])
def test_every_interface_of_the_image_service_is_in_the_catalog(
    login: session.Session, cloud: Cloud, interface: str
) -> None:
    url = login.get_endpoint(service_type="image", interface=interface)

    assert url is not None
    assert url.startswith(cloud.server.url)


@pytest.mark.parametrize(
    "wanted",
    [
        {"version": "2"},
        {"version": "2.latest"},
        {"min_version": "2", "max_version": "2.latest"},
        {"min_version": (2, 0), "max_version": (2, discover.LATEST)},
    ],
)
def test_any_way_of_asking_for_version_two_finds_it(
    login: session.Session, cloud: Cloud, wanted: dict[str, Any]
) -> None:
    image = adapter.Adapter(login, service_type="image", interface="public", **wanted)

    assert image.get_endpoint().rstrip("/") == f"{cloud.server.url}/v2"
    assert image.get("/images", params={"limit": 1}).status_code == 200


def test_version_one_and_three_of_the_image_api_do_not_exist(login: session.Session) -> None:
    for version in ("1", "3"):
        image = adapter.Adapter(login, service_type="image", version=version)
        assert image.get_endpoint() is None


def test_all_versions_of_all_services_can_be_listed(login: session.Session) -> None:
    found = login.get_all_version_data(interface="public")

    (by_region,) = found.values()
    (image,) = by_region["public"]["image"][-1:]
    assert image["status"] == "CURRENT"
    assert image["version"] == "2.17"
    (identity,) = by_region["public"]["identity"]
    assert identity["version"].startswith("3.")
    assert identity["status"] == "CURRENT"


def test_version_document_normalises_for_the_discovery_class(
    login: session.Session, cloud: Cloud
) -> None:
    found = discover.Discover(login, f"{cloud.server.url}/versions", authenticated=False)

    assert found.url_for("2").rstrip("/") == f"{cloud.server.url}/v2"
    assert found.version_data(reverse=True)[0]["version"] == (2, 17)


def test_password_login_works_from_the_versioned_and_the_unversioned_url(
    auth: dict[str, str],
) -> None:
    for url in (auth["auth_url"], f"{base_endpoint(auth['auth_url'])}identity"):
        made = session.Session(auth=generic.Password(**{**auth, "auth_url": url}))
        assert made.get_token()
        assert made.get_project_id()
        assert made.get_user_id()


def test_password_login_by_ids(auth: dict[str, str], login: session.Session) -> None:
    access = login.auth.get_access(login)

    by_ids = v3.Password(
        auth_url=auth["auth_url"],
        user_id=access.user_id,
        password=auth["password"],
        project_id=access.project_id,
    )
    again = by_ids.get_access(session.Session())

    assert again.username == auth["username"]
    assert again.project_name == auth["project_name"]
    by_domain_id = v3.Password(
        auth_url=auth["auth_url"],
        username=auth["username"],
        user_domain_id=access.user_domain_id,
        password=auth["password"],
        project_name=auth["project_name"],
        project_domain_id=access.project_domain_id,
    )
    assert by_domain_id.get_access(session.Session()).user_id == access.user_id


def test_access_tells_who_where_with_which_roles_and_until_when(
    auth: dict[str, str], login: session.Session
) -> None:
    access = login.auth.get_access(login)

    assert (access.username, access.project_name) == (auth["username"], auth["project_name"])
    assert (access.user_domain_name, access.project_domain_name) == ("Default", "Default")
    assert {"member", "reader"} <= set(access.role_names)
    assert access.project_scoped
    assert not access.domain_scoped
    assert not access.will_expire_soon(stale_duration=3600)
    assert access.issued < access.expires
    assert access.version == "v3"
    assert access.audit_id


def test_unscoped_login_then_a_project_by_token(auth: dict[str, str]) -> None:
    unscoped = v3.Password(
        auth_url=auth["auth_url"],
        username=auth["username"],
        user_domain_name=auth["user_domain_name"],
        password=auth["password"],
        unscoped=True,
    )
    made = session.Session(auth=unscoped)
    access = unscoped.get_access(made)
    assert not access.scoped
    assert not access.has_service_catalog()

    scoped = v3.Token(
        auth_url=auth["auth_url"],
        token=access.auth_token,
        project_name=auth["project_name"],
        project_domain_name=auth["project_domain_name"],
    )

    assert scoped.get_access(made).project_name == auth["project_name"]
    listed = session.Session(auth=scoped).get(
        "/v2/images", endpoint_filter={"service_type": "image", "version": None}
    )
    assert listed.status_code == 200


def test_application_credential_logs_in_without_a_password(
    auth: dict[str, str], login: session.Session
) -> None:
    user = login.get_user_id()
    identity = adapter.Adapter(login, service_type="identity", version="3")
    made = identity.post(
        f"/users/{user}/application_credentials",
        json={"application_credential": {"name": f"ci-{uuid.uuid4().hex}"}},
    ).json()["application_credential"]

    for given in (
        {"application_credential_id": made["id"]},
        {
            "application_credential_name": made["name"],
            "username": auth["username"],
            "user_domain_name": auth["user_domain_name"],
        },
    ):
        plugin = v3.ApplicationCredential(
            auth_url=auth["auth_url"], application_credential_secret=made["secret"], **given
        )
        access = plugin.get_access(session.Session())
        assert access.project_name == auth["project_name"]
        assert access.application_credential_id == made["id"]
    wrong = v3.ApplicationCredential(
        auth_url=auth["auth_url"],
        application_credential_id=made["id"],
        application_credential_secret="wrong",
    )
    with pytest.raises(exceptions.Unauthorized):
        wrong.get_access(session.Session())
    identity.delete(f"/users/{user}/application_credentials/{made['id']}")
    gone = v3.ApplicationCredential(
        auth_url=auth["auth_url"],
        application_credential_id=made["id"],
        application_credential_secret=made["secret"],
    )
    with pytest.raises(exceptions.Unauthorized):
        gone.get_access(session.Session())


@pytest.mark.parametrize(
    "change",
    [
        {"password": "wrong"},
        {"username": "nobody"},
        {"project_name": "nowhere"},
        {"user_domain_name": "Elsewhere"},
        {"project_name": "neighbours"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_wrong_login_is_unauthorized_and_tells_nothing(
    auth: dict[str, str], change: dict[str, str], cloud: Cloud
) -> None:
    assert cloud.project_id("neighbour")
    plugin = generic.Password(**{**auth, **change})

    with pytest.raises(exceptions.Unauthorized) as refused:
        plugin.get_access(session.Session())

    assert refused.value.http_status == 401
    assert auth["password"] not in str(refused.value)


def test_revoked_token_is_refused_and_the_session_logs_in_anew(login: session.Session) -> None:
    old = login.get_token()
    identity = adapter.Adapter(login, service_type="identity", version="3")
    assert identity.delete("/auth/tokens", headers={"X-Subject-Token": old}).status_code == 204

    answer = login.get("/v2/images", endpoint_filter={"service_type": "image"})

    assert answer.status_code == 200
    assert login.get_token() != old
    stale = session.Session().get(
        f"{login.get_endpoint(service_type='image').rstrip('/').removesuffix('/v2')}/v2/images",
        headers={"X-Auth-Token": old},
        raise_exc=False,
    )
    assert stale.status_code == 401
    assert stale.headers["WWW-Authenticate"].startswith("Keystone uri=")


def test_request_ids_given_to_the_session_travel_through(login: session.Session) -> None:
    image = adapter.Adapter(login, service_type="image", global_request_id=f"req-{uuid.uuid4()}")

    answer = image.get("/v2/images?limit=0" if "/v2" not in image.get_endpoint() else "/images")

    assert answer.headers["x-openstack-request-id"].startswith("req-")
