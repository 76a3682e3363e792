"""The first start, the second one, and opening the backend that the settings name."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
import structlog
import yaml

from tests.support.identity import World, cheap_passwords, settings_in
from transom.auth import BACKENDS, bootstrap, open_authenticator
from transom.auth.backends.none import NoAuthenticator
from transom.catalog import Catalog
from transom.errors import ConfigurationError
from transom.settings import Settings


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_passwords(monkeypatch)


def start(settings: Settings) -> list[str]:
    """What `transom serve` does before it serves."""
    catalog = Catalog.open(settings)
    try:
        catalog.upgrade()
        return bootstrap(settings, catalog)
    finally:
        catalog.close()


def clouds(folder: Path) -> Any:
    return yaml.safe_load((folder / "clouds.yaml").read_text())["clouds"]


async def test_the_first_start_makes_accounts_that_log_in(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    start(settings)
    world = World.__new__(World)
    catalog = Catalog.open(settings)
    world.catalog, world.accounts = catalog, catalog.identity
    authenticator: Any = open_authenticator(settings, catalog)
    world.identity = authenticator.identity
    roles = {}
    for cloud in clouds(tmp_path).values():
        auth = cloud["auth"]
        verdict = await world.log_in(auth["username"], auth["project_name"], auth["password"])
        roles[auth["username"]] = sorted(verdict.actor.roles)
        assert await authenticator.authenticate(verdict.token) == verdict.actor
    assert roles == {
        "admin": ["admin", "manager", "member", "reader"],
        "demo": ["member", "reader"],
    }
    assert {grant.role.name for grant in await catalog.identity.grants()} == {"admin", "member"}
    await authenticator.close()
    catalog.close()


def test_the_first_start_prints_three_lines_to_paste(tmp_path: Path) -> None:
    lines = [line for line in start(settings_in(tmp_path)) if line]
    assert lines[1:] == [
        f"export OS_CLIENT_CONFIG_FILE={tmp_path}/clouds.yaml",
        "export OS_CLOUD=transom",
        "openstack image list",
    ]
    assert not any(
        cloud["auth"]["password"] in line for cloud in clouds(tmp_path).values() for line in lines
    )
    assert stat.S_IMODE((tmp_path / "clouds.yaml").stat().st_mode) == 0o600


def test_a_second_start_reuses_everything(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    first = start(settings)
    before = (tmp_path / "clouds.yaml").read_bytes()
    second = start(settings)
    assert (tmp_path / "clouds.yaml").read_bytes() == before
    assert [line for line in second if line][1:] == [line for line in first if line][1:]


def test_a_start_at_a_new_address_follows_it(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    start(settings)
    passwords = [cloud["auth"]["password"] for cloud in clouds(tmp_path).values()]
    moved = settings_in(
        tmp_path, database__url=settings.database.url, server__bind="127.0.0.1:9393"
    )
    if settings.database.url.startswith("sqlite:"):
        start(moved)
        found = clouds(tmp_path)
        assert {cloud["auth"]["auth_url"] for cloud in found.values()} == {
            "http://127.0.0.1:9393/v3"
        }
        assert [cloud["auth"]["password"] for cloud in found.values()] == passwords


def test_a_lost_clouds_yaml_is_not_made_up(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    start(settings)
    (tmp_path / "clouds.yaml").unlink()
    told = "\n".join(start(settings))
    assert f"transom user password admin --data {tmp_path}" in told
    assert not (tmp_path / "clouds.yaml").exists()


def test_a_start_that_cannot_write_says_so_and_can_be_repeated(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    (tmp_path / "clouds.yaml.old").mkdir()
    (tmp_path / "clouds.yaml.old" / "in the way").touch()
    (tmp_path / "clouds.yaml").mkdir()
    with pytest.raises(ConfigurationError, match=r"Cannot write .*clouds\.yaml"):
        start(settings)
    (tmp_path / "clouds.yaml").rmdir()
    assert "First start" in start(settings)[0]


def test_other_backends_need_no_first_start(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, identity__backend="none")
    catalog = Catalog.open(settings)
    assert bootstrap(settings, catalog) == []
    catalog.close()
    assert not (tmp_path / "clouds.yaml").exists()


# --- backend none -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bind", ["127.0.0.1:9292", "[::1]:9292", "localhost:9292", "127.1.2.3:1"])
def test_without_identity_only_loopback_is_served_and_loudly(tmp_path: Path, bind: str) -> None:
    settings = settings_in(tmp_path, identity__backend="none", server__bind=bind)
    with structlog.testing.capture_logs() as logs:
        assert isinstance(open_authenticator(settings, None), NoAuthenticator)
    (line,) = logs
    assert line["log_level"] == "warning"
    assert "ADMINISTRATOR" in line["warning"]


@pytest.mark.parametrize("key", ["server__bind", "compute__bind"])
@pytest.mark.parametrize("bind", ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "images.example.org:1"])
def test_without_identity_no_other_address_is_served(tmp_path: Path, key: str, bind: str) -> None:
    with pytest.raises(ConfigurationError, match="loopback"):
        open_authenticator(settings_in(tmp_path, identity__backend="none", **{key: bind}), None)


async def test_without_identity_everybody_is_an_administrator_of_no_project(
    tmp_path: Path,
) -> None:
    backend = open_authenticator(settings_in(tmp_path, identity__backend="none"), None)
    for token in (None, "", "anything"):
        actor = await backend.authenticate(token)
        assert actor == backend.authenticate_now(token)
        assert actor.roles == {"admin", "manager", "member", "reader"}
        assert (actor.user_id, actor.project_id, actor.is_anonymous) == (None, None, False)
    await backend.close()


def test_every_backend_of_the_settings_is_in_the_table() -> None:
    assert set(BACKENDS) == {"local", "keystone", "none"}
