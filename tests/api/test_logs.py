"""What a running service logs: as configured, with the ids of requests, and nothing secret."""

from __future__ import annotations

import json

import pytest

from tests.conftest import MakeServer
from tests.support.server import ServerProcess, told


def logged(server: ServerProcess) -> list[dict[str, object]]:
    """The lines of the log; what a first start prints for people stands before them."""
    text = server.log()
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_the_lines_of_a_request_carry_its_id(make_server: MakeServer) -> None:
    server = make_server()
    demo = server.log_in_to_cloud("transom-demo")
    made = demo.create(disk_format="raw", container_format="bare")
    answer = demo.put_data(made["id"], b"data")
    assert answer.status_code == 204, told(answer)

    [line] = [line for line in logged(server) if line["event"] == "image.uploaded"]

    assert line["request_id"] == answer.headers["x-openstack-request-id"]
    assert line["image_id"] == made["id"]
    assert line["level"] == "info"


def test_no_secret_is_logged_at_any_level(make_server: MakeServer) -> None:
    server = make_server({"logging": {"level": "debug", "format": "json"}})
    auth = server.cloud("transom-demo")
    demo = server.log_in_to_cloud("transom-demo")
    demo.get("/v2/images")
    server.client("a-token-that-is-none").get("/v2/images")
    wrong = {"auth": {"identity": {"methods": ["password"], "password": {"user": {
        "name": "demo", "domain": {"name": "Default"}, "password": "wrong words"}}}}}  # fmt: skip
    assert server.client().post("/v3/auth/tokens", json=wrong).status_code == 401
    server.stop()

    log = server.log()
    for secret in (auth["password"], str(demo.token), "a-token-that-is-none", "wrong words"):
        assert secret not in log


@pytest.mark.parametrize("workers", [1, 2])
def test_the_configuration_says_form_and_level(make_server: MakeServer, workers: int) -> None:
    server = make_server(
        {"server": {"workers": workers}, "logging": {"level": "warning", "format": "text"}}
    )
    server.stop()

    assert logged(server) == []
    assert "serving" not in server.log()
