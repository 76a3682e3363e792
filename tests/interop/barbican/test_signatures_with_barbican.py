"""Signed images whose certificates lie in a real Barbican, fetched with the caller's token."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.api.test_signatures import DATA, certificate_of, make_key, properties, sign
from tests.interop.barbican.server import BarbicanServer
from tests.interop.keystone.conftest import SERVICE_PASSWORD, furnish
from tests.interop.keystone.server import Cloud, KeystoneServer
from tests.support.server import Client, ServerProcess, told

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def signing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, Cloud, str]]:
    """Transom, Keystone's administrator, and where Barbican is."""
    folder = tmp_path_factory.mktemp("signing")
    keystone = KeystoneServer(folder / "keystone").start()
    cloud = Cloud(keystone.url)
    furnish(cloud)
    # Barbican finds Keystone in Keystone's own catalogue.
    service = cloud.call("POST", "/services", {"service": {"type": "identity"}}).json()["service"]
    endpoint = {"service_id": service["id"], "interface": "public", "url": keystone.url}
    for interface in ("public", "internal", "admin"):
        cloud.call("POST", "/endpoints", {"endpoint": endpoint | {"interface": interface}})
    barbican = BarbicanServer(folder / "barbican", keystone.url).start()
    config = {
        "identity": {
            "backend": "keystone",
            "keystone": {
                "auth_url": keystone.url,
                "username": "transom",
                "password": SERVICE_PASSWORD,
            },
        },
        "signatures": {"certificates": "barbican", "barbican_url": barbican.url},
    }
    server = ServerProcess(folder / "transom", config).start()
    yield server, cloud, barbican.url
    server.stop()
    barbican.stop()
    cloud.close()
    keystone.stop()


def keep(url: str, token: str, certificate: bytes) -> str:
    """Lay a certificate into Barbican; its id."""
    answer = httpx.post(
        f"{url}/v1/secrets",
        headers={"X-Auth-Token": token},
        json={
            "name": "signer",
            "secret_type": "certificate",
            "payload": base64.b64encode(certificate).decode(),
            "payload_content_type": "application/octet-stream",
            "payload_content_encoding": "base64",
        },
        timeout=60,
        trust_env=False,
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["secret_ref"]).rpartition("/")[2]


def put(client: Client, said: dict[str, str], data: bytes) -> httpx.Response:
    """Upload to a new image that is signed so."""
    made = client.create(disk_format="raw", container_format="bare", **said)
    return client.put_data(made["id"], data)


def test_certificates_come_from_barbican(
    signing: tuple[ServerProcess, Cloud, str], tmp_path: Path
) -> None:
    server, cloud, barbican = signing
    key = make_key("RSA-PSS")
    certificate_id = keep(barbican, cloud.admin_token, certificate_of(key))
    said = properties(certificate_id, "RSA-PSS", "SHA-256", sign(key, DATA, "SHA-256"))
    admin = server.client(cloud.admin_token, "admin")
    answer = put(admin, said, DATA)
    assert answer.status_code == 204, told(answer)
    answer = put(admin, said, DATA + b"x")
    assert answer.status_code == 400
    assert "not the signature of this data" in answer.text
    nowhere = said | {"img_signature_certificate_uuid": "00000000-0000-4000-8000-000000000000"}
    answer = put(admin, nowhere, DATA)
    assert answer.status_code == 400
    assert "Signature verification for the image failed" in answer.text


def test_a_certificate_of_another_project_is_none(
    signing: tuple[ServerProcess, Cloud, str],
) -> None:
    server, cloud, barbican = signing
    key = make_key("ECC_SECP384R1")
    certificate_id = keep(barbican, cloud.admin_token, certificate_of(key))
    project = cloud.project("stranger")
    cloud.user("stranger", "password of a stranger", project=project, roles=["member"])
    token = cloud.token("stranger", "password of a stranger", project="stranger")
    said = properties(certificate_id, "ECC_SECP384R1", "SHA-384", sign(key, DATA, "SHA-384"))
    answer = put(server.client(token, "stranger"), said, DATA)
    assert answer.status_code == 400, told(answer)
    assert "fetched from Barbican" in answer.text
