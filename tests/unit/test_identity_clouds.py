"""`clouds.yaml`: what is written, what is followed, what is left alone."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from transom.auth.local import clouds
from transom.settings import load

OLD = "http://127.0.0.1:9292/v3"
NEW = "https://images.example.org/v3"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A written file."""
    found = tmp_path / "clouds.yaml"
    clouds.write(
        found,
        OLD,
        {"transom": ("admin", "Sesame", "admin"), "transom-demo": ("demo", "12345", "demo")},
    )
    return found


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())["clouds"]


def test_it_is_for_its_owner_alone_and_nothing_lies_beside_it(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["clouds.yaml"]


def test_it_holds_all_that_a_client_needs(path: Path) -> None:
    assert read(path)["transom-demo"] == {
        "auth": {
            "auth_url": OLD,
            "username": "demo",
            # A text, although YAML would take the digits for a number.
            "password": "12345",
            "project_name": "demo",
            "user_domain_name": "Default",
            "project_domain_name": "Default",
        },
        "region_name": "RegionOne",
        "identity_api_version": 3,
    }


def test_a_file_that_was_there_is_kept_beside_the_new_one(path: Path) -> None:
    before = path.read_text()
    clouds.write(path, NEW, {"transom": ("admin", "other", "admin")})
    assert path.with_name("clouds.yaml.old").read_text() == before
    assert read(path)["transom"]["auth"]["auth_url"] == NEW


def test_a_new_address_replaces_the_old_one_where_it_was_written_by_us(path: Path) -> None:
    theirs = "http://elsewhere:5000/v3"
    path.write_text(
        path.read_text() + f"  mine:\n    auth:\n      auth_url: {theirs}\n      password: x\n"
    )
    clouds.follow(path, NEW)
    found = read(path)
    assert {name: each["auth"]["auth_url"] for name, each in found.items()} == {
        "transom": NEW,
        "transom-demo": NEW,
        "mine": theirs,
    }
    assert found["transom"]["auth"]["password"] == "Sesame"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    clouds.follow(path, OLD)
    assert read(path)["transom"]["auth"]["auth_url"] == OLD


def test_an_address_that_a_person_wrote_is_left_alone(path: Path) -> None:
    changed = path.read_text().replace(f"auth_url: {OLD}", "auth_url: http://tunnel:1/v3")
    path.write_text(changed)
    clouds.follow(path, NEW)
    assert {each["auth"]["auth_url"] for each in read(path).values()} == {"http://tunnel:1/v3"}


def test_a_file_of_somebody_else_is_never_touched(tmp_path: Path) -> None:
    path = tmp_path / "clouds.yaml"
    text = f"clouds:\n  a:\n    auth:\n      auth_url: {OLD}\n      username: admin\n      password: p\n"
    path.write_text(text)
    clouds.follow(path, NEW)
    assert not clouds.set_password(path, NEW, "admin", "other")
    path.write_bytes(b"\xff\xfe")
    clouds.follow(path, NEW)
    assert path.read_bytes() == b"\xff\xfe"


@pytest.mark.parametrize(
    "password", ["simple0Password1", "no", "1e3", "with: colon # and hash", "quo'te\"s", "ü\\1\\n"]
)
def test_a_new_password_reaches_the_file_as_it_is(path: Path, password: str) -> None:
    assert clouds.set_password(path, OLD, "demo", password)
    found = read(path)
    assert found["transom-demo"]["auth"]["password"] == password
    assert found["transom"]["auth"]["password"] == "Sesame"


def test_a_user_that_the_file_does_not_name_changes_nothing(path: Path) -> None:
    before = path.read_text()
    assert not clouds.set_password(path, OLD, "dem", "other")
    assert path.read_text() == before


def test_a_deleted_file_comes_back_with_the_next_password_of_a_first_user(tmp_path: Path) -> None:
    path = tmp_path / "clouds.yaml"
    assert not clouds.set_password(path, OLD, "somebody", "other")
    assert not path.exists()
    assert clouds.set_password(path, OLD, "admin", "other")
    assert read(path)["transom"]["auth"] | {"password": "other"} == read(path)["transom"]["auth"]


@pytest.mark.parametrize(
    ("flags", "url"),
    [
        ({"server.bind": "127.0.0.1:9292"}, "http://127.0.0.1:9292/v3"),
        ({"server.bind": "0.0.0.0:80"}, "http://127.0.0.1:80/v3"),
        ({"server.bind": "[::]:80"}, "http://[::1]:80/v3"),
        ({"server.bind": "[::1]:80"}, "http://[::1]:80/v3"),
        ({"server.public_url": "https://a.example/images/"}, "https://a.example/images/v3"),
    ],
)
def test_the_address_is_one_that_can_be_reached(
    flags: dict[str, object], url: str, tmp_path: Path
) -> None:
    assert clouds.auth_url_of(load(None, tmp_path, None, flags)) == url


def test_lines_to_paste_survive_a_folder_with_spaces() -> None:
    first, second, third = clouds.lines(Path("/srv/my data/clouds.yaml"))
    assert first == "export OS_CLIENT_CONFIG_FILE='/srv/my data/clouds.yaml'"
    assert (second, third) == ("export OS_CLOUD=transom", "openstack image list")


def test_a_write_that_fails_leaves_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_text()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(clouds.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        clouds.follow(path, NEW)
    assert path.read_text() == before
    assert [each.name for each in path.parent.iterdir()] == ["clouds.yaml"]
