"""An operator's policy file under a running service: in force, re-read, and never half in force."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.conftest import MakeServer
from tests.support.server import Client, ServerFailed, ServerProcess, told

PATIENCE_SECONDS = 15.0


def rewrite(path: Path, text: str) -> None:
    """Put a new file in place of the old, as editors and configuration tools do."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


def eventually(client: Client, path: str, status: int) -> None:
    """The answer becomes this one within seconds, without a restart."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (answer := client.get(path)).status_code != status:
        assert time.monotonic() < deadline, told(answer)
        time.sleep(0.2)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """The policy file."""
    path = tmp_path / "policy.yaml"
    path.write_text('get_images: "role:admin"\n')
    return path


@pytest.fixture
def server(make_server: MakeServer, policy: Path) -> ServerProcess:
    """A server that reads it."""
    return make_server({"policy": {"file": str(policy)}})


def test_it_is_in_force_and_read_again_when_it_changes(server: ServerProcess, policy: Path) -> None:
    demo, admin = server.log_in_to_cloud("transom-demo"), server.log_in_to_cloud()
    assert demo.get("/v2/images").status_code == 403
    assert admin.get("/v2/images").status_code == 200
    rewrite(policy, 'get_images: "role:member"\nadd_image: "!"\n')
    eventually(demo, "/v2/images", 200)
    assert demo.post("/v2/images", json={}).status_code == 403
    rewrite(policy, "{}\n")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while demo.post("/v2/images", json={}).status_code != 201:
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("get_images: '@\n", "policy.yaml"),
        ("- a list\n", "policy.yaml"),
        ("get_images: 'rule:nobody_wrote_it'\n", "nobody_wrote_it"),
        ("get_images: 'rule:a_rule'\na_rule: 'rule:get_images'\n", "a_rule"),
        ("get_images: 'role:admin or'\n", "get_images"),
        ("", None),
        (None, "policy.yaml"),
    ],
    ids=["no yaml", "no table", "missing rule", "circle", "half a check", "empty", "no file"],
)
def test_a_file_that_cannot_be_used_leaves_the_last_good_rules_in_force(
    server: ServerProcess, policy: Path, text: str | None, reason: str | None
) -> None:
    demo = server.log_in_to_cloud("transom-demo")
    assert demo.get("/v2/images").status_code == 403
    if text is None:
        policy.unlink()
    else:
        rewrite(policy, text)
    if reason is None:
        # A file without rules is a good one.
        eventually(demo, "/v2/images", 200)
        return
    deadline = time.monotonic() + PATIENCE_SECONDS
    while "policy file refused" not in server.log():
        assert demo.get("/v2/images").status_code == 403
        assert time.monotonic() < deadline, server.log()[-2000:]
        time.sleep(0.2)
    line = next(line for line in server.log().splitlines() if "policy file refused" in line)
    assert reason in line
    assert "stay in force" in line
    assert demo.get("/v2/images").status_code == 403
    assert server.is_alive()
    rewrite(policy, "{}\n")
    eventually(demo, "/v2/images", 200)


@pytest.mark.parametrize("text", ["get_images: '@\n", "get_images: 'rule:nobody_wrote_it'\n"])
def test_it_does_not_start_with_one_and_says_why(
    make_server: MakeServer, policy: Path, text: str
) -> None:
    policy.write_text(text)
    with pytest.raises(ServerFailed) as failed:
        make_server({"policy": {"file": str(policy)}})
    assert f"policy.file: {policy}" in str(failed.value)
    assert "Traceback" not in str(failed.value)


def test_a_role_that_nobody_has_lets_nobody_in_and_breaks_nothing(
    server: ServerProcess, policy: Path
) -> None:
    rewrite(policy, 'get_images: "role:unheard-of"\n')
    admin = server.log_in_to_cloud()
    eventually(admin, "/v2/images", 403)
    # Whoever is given the role afterwards is let in.
    knows = server.provision({"a-listener": ("listeners", ["unheard-of", "reader"])})["a-listener"]
    assert knows.get("/v2/images").status_code == 200
    assert admin.post("/v2/images", json={}).status_code == 201


def test_a_file_that_may_not_be_read_is_refused_like_any_other(
    server: ServerProcess, policy: Path
) -> None:
    if os.geteuid() == 0:
        # Nothing is closed to root; a folder in its place is as unreadable.
        policy.unlink()
        policy.mkdir()
    else:
        policy.chmod(0)
    demo = server.log_in_to_cloud("transom-demo")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while "policy file refused" not in server.log():
        assert demo.get("/v2/images").status_code == 403
        assert time.monotonic() < deadline, server.log()[-2000:]
        time.sleep(0.2)
    assert demo.get("/v2/images").status_code == 403
