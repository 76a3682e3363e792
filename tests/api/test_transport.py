"""How answers travel: TLS and its renewal, compression, pages of other origins (errors.md §3)."""

from __future__ import annotations

import gzip
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import MakeServer, Running, ServerWith
from tests.support.server import ServerProcess, told

ORIGIN = "https://horizon.example.org"


def make_certificate(folder: Path, serial: int) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    certificate, key = folder / "tls.pem", folder / "tls.key"
    fresh = folder / "new.pem", folder / "new.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-set_serial", str(serial)),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", fresh[1], "-out", fresh[0]),
        ],
        check=True,
        capture_output=True,
    )
    fresh[1].replace(key)
    fresh[0].replace(certificate)
    return certificate, key


def serial_of(port: int, trusted: Path) -> int:
    """The serial number of the certificate that a server shows now, verified."""
    context = ssl.create_default_context(cafile=str(trusted))
    with httpx.Client(verify=context) as client:
        answer = client.get(f"https://127.0.0.1:{port}/healthcheck")
        assert answer.text == "OK"
        shown = answer.extensions["network_stream"].get_extra_info("ssl_object").getpeercert()
    return int(shown["serialNumber"], 16)


@pytest.fixture
def secure(make_server: MakeServer, tmp_path: Path) -> tuple[ServerProcess, int, Path]:
    """A server that speaks TLS, its port, and the folder of its certificate."""
    certificate, key = make_certificate(tmp_path, 1001)
    server = make_server({"server": {"tls_certificate": str(certificate), "tls_key": str(key)}})
    return server, server.port, tmp_path


def test_certificate_is_renewed_while_an_upload_goes_on(
    secure: tuple[ServerProcess, int, Path],
) -> None:
    server, port, folder = secure
    assert serial_of(port, folder / "tls.pem") == 1001
    assert server.cloud()["auth_url"] == f"https://127.0.0.1:{port}/v3"
    old = ssl.create_default_context(cafile=str(folder / "tls.pem"))

    def data() -> Iterator[bytes]:
        yield b"a" * 100_000
        make_certificate(folder, 1002)
        deadline = time.monotonic() + 20
        # For some seconds both certificates are shown, now the one and now the other.
        while any(shown(port, folder / "tls.pem") != 1002 for _ in range(40)):
            assert time.monotonic() < deadline, server.log()
            time.sleep(0.2)
        yield b"b" * 100_000

    with httpx.Client(verify=old, base_url=server.url, timeout=30) as client:
        cloud = server.cloud()
        identity = {
            "methods": ["password"],
            "password": {
                "user": {
                    "name": cloud["username"],
                    "domain": {"name": "Default"},
                    "password": cloud["password"],
                }
            },
        }
        scope = {"project": {"name": cloud["project_name"], "domain": {"name": "Default"}}}
        login = client.post(
            "/v3/auth/tokens", json={"auth": {"identity": identity, "scope": scope}}
        )
        client.headers["X-Auth-Token"] = login.headers["x-subject-token"]
        made = client.post("/v2/images", json={"disk_format": "raw", "container_format": "bare"})
        assert made.headers["location"].startswith(f"https://127.0.0.1:{port}/v2/images/")
        path = made.headers["location"] + "/file"
        octets = {"Content-Type": "application/octet-stream"}
        assert client.put(path, content=data(), headers=octets).status_code == 204
        client.close()
    new = ssl.create_default_context(cafile=str(folder / "tls.pem"))
    with httpx.Client(verify=new, headers=client.headers) as client:
        assert client.get(path).content == b"a" * 100_000 + b"b" * 100_000


def shown(port: int, trusted: Path) -> int | None:
    """The serial number of the certificate, None while it is not the trusted one."""
    try:
        return serial_of(port, trusted)
    except httpx.ConnectError:
        return None


def test_certificate_that_cannot_be_used_changes_nothing(
    secure: tuple[ServerProcess, int, Path],
) -> None:
    server, port, folder = secure
    trusted = folder / "trusted.pem"
    trusted.write_bytes((folder / "tls.pem").read_bytes())
    (folder / "tls.pem").write_text("no certificate")
    deadline = time.monotonic() + 20
    while "tls.not_renewed" not in server.log():
        assert time.monotonic() < deadline, server.log()
        time.sleep(0.2)
    assert serial_of(port, trusted) == 1001


def test_service_refuses_to_start_with_half_of_a_certificate(
    make_server: MakeServer, tmp_path: Path
) -> None:
    certificate, _ = make_certificate(tmp_path, 1)
    with pytest.raises(AssertionError, match="tls_key"):
        make_server({"server": {"tls_certificate": str(certificate)}})


# --- compression -----------------------------------------------------------------------------------


@pytest.fixture
def compressing(server_with: ServerWith) -> Running:
    """A server that compresses what is longer than 2000 bytes."""
    return server_with({"server": {"gzip_bytes_min": 2000}})


def raw(running: Running, path: str, accept: str | None) -> httpx.Response:
    """An answer with its body as it travelled."""
    headers = {"X-Auth-Token": running.demo.token or ""}
    if accept is not None:
        headers["Accept-Encoding"] = accept
    with httpx.Client(base_url=running.server.url) as client:
        if accept is None:
            del client.headers["accept-encoding"]
        request = client.build_request("GET", path, headers=headers)
        answer = client.send(request, stream=True)
        answer.extensions["raw"] = b"".join(answer.iter_raw())
        answer.close()
        return answer


def test_long_json_is_compressed_for_who_takes_it(compressing: Running) -> None:
    plain = raw(compressing, "/v2/schemas/images", None)
    assert "content-encoding" not in plain.headers
    assert plain.headers["vary"] == "Accept-Encoding"
    small = raw(compressing, "/v2/schemas/images", "br, gzip;q=0.5")
    assert small.headers["content-encoding"] == "gzip"
    assert int(small.headers["content-length"]) == len(small.extensions["raw"])
    assert len(small.extensions["raw"]) < len(plain.extensions["raw"]) / 3
    assert gzip.decompress(small.extensions["raw"]) == plain.extensions["raw"]


@pytest.mark.parametrize("accept", ["identity", "gzip;q=0", "br", ""])
def test_others_get_it_plain(compressing: Running, accept: str) -> None:
    assert "content-encoding" not in raw(compressing, "/v2/schemas/images", accept).headers


def test_short_answers_and_image_data_are_never_compressed(compressing: Running) -> None:
    assert "content-encoding" not in raw(compressing, "/v2/schemas/member", "gzip").headers
    image_id = compressing.demo.create(disk_format="raw", container_format="bare")["id"]
    assert compressing.demo.put_data(image_id, b"z" * 10_000).status_code == 204
    answer = raw(compressing, f"/v2/images/{image_id}/file", "gzip")
    assert answer.extensions["raw"] == b"z" * 10_000


# --- other origins ---------------------------------------------------------------------------------


@pytest.fixture
def for_browsers(server_with: ServerWith) -> Running:
    """A server that pages of one origin may call."""
    return server_with({"server": {"cors_allowed_origins": [ORIGIN]}})


def test_page_of_an_allowed_origin_may_upload(for_browsers: Running) -> None:
    asked = for_browsers.demo.request(
        "OPTIONS",
        "/v2/images/1/file",
        headers={
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "PUT",
            "Access-Control-Request-Headers": "x-auth-token, content-type",
        },
    )
    assert asked.status_code == 200, told(asked)
    assert asked.headers["access-control-allow-origin"] == ORIGIN
    assert "PUT" in asked.headers["access-control-allow-methods"]
    assert asked.headers["access-control-max-age"] == "3600"
    answer = for_browsers.demo.get("/v2/images", headers={"Origin": ORIGIN})
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "X-OpenStack-Request-ID" in answer.headers["access-control-expose-headers"]
    missing = for_browsers.demo.get("/v2/images/1", headers={"Origin": ORIGIN})
    assert missing.status_code == 404
    assert missing.headers["access-control-allow-origin"] == ORIGIN


def test_page_of_another_origin_may_not(for_browsers: Running) -> None:
    asked = for_browsers.demo.request(
        "OPTIONS",
        "/v2/images",
        headers={"Origin": "https://evil.example.com", "Access-Control-Request-Method": "POST"},
    )
    assert asked.status_code == 400
    answer = for_browsers.demo.get("/v2/images", headers={"Origin": "https://evil.example.com"})
    assert "access-control-allow-origin" not in answer.headers


def test_without_the_setting_nothing_is_said(default: Running) -> None:
    answer = default.demo.get("/v2/images", headers={"Origin": ORIGIN})
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("origin", ["horizon.example.org", "https://a.example/path", "null"])
def test_something_that_is_no_origin_is_refused_at_start(
    make_server: MakeServer, origin: str
) -> None:
    with pytest.raises(AssertionError, match="cors_allowed_origins"):
        make_server({"server": {"cors_allowed_origins": [origin]}})
