"""Settings: one file, the environment over it, flags over that; messages that name the key."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from transom import settings
from transom.errors import ConfigurationError


def load(tmp_path: Path, text: str = "", **environment: str) -> settings.Settings:
    file = tmp_path / "transom.toml"
    file.write_text(text, encoding="utf-8")
    return settings.load(file, tmp_path / "data", environment)


def test_defaults_are_one_process_sqlite_and_one_folder(tmp_path: Path) -> None:
    found = load(tmp_path)
    assert found.database.url == f"sqlite:///{tmp_path}/data/transom.db"
    assert found.stores.named["main"].path == f"{tmp_path}/data/images"
    assert found.server.bind == "127.0.0.1:9292"
    assert not found.announces_stores()


def test_environment_wins_over_the_file_and_flags_over_both(tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_text("[limits]\npage_size_default = 5\nimage_tags_max = 5\npage_size_max = 50")
    environment = {
        "TRANSOM_LIMITS__PAGE_SIZE_DEFAULT": "6",
        "TRANSOM_LIMITS__IMAGE_TAGS_MAX": "6",
        "TRANSOM_IMPORTS__ALLOWED_PORTS": "80, 8080",
        "TRANSOM_IMAGES__VERIFY_FORMATS": "false",
        "TRANSOM_STORES__MAIN__WEIGHT": "7",
        "TRANSOM_DATA": "ignored",
    }
    found = settings.load(file, tmp_path, environment, {"limits.image_tags_max": 7})
    assert found.limits.page_size_default == 6
    assert found.limits.image_tags_max == 7
    assert found.limits.page_size_max == 50
    assert found.imports.allowed_ports == (80, 8080)
    assert found.images.verify_formats is False
    assert found.stores.named["main"].weight == 7


def test_every_table_below_stores_is_a_store(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        '[stores]\ndefault = "fast"\n[stores.fast]\nweight = 3\n'
        '[stores.ram]\ndriver = "memory"\nsize_bytes_max = 9',
    )
    assert list(found.stores.named) == ["fast", "ram"]
    assert found.stores.named["ram"].options == {"size_bytes_max": 9}
    assert found.stores.named["fast"].path.endswith("/data/images-fast")
    assert found.announces_stores()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[server]\nworkers = 0", "server.workers = 0"),
        ("[server]\nworkerz = 1", "server.workerz: there is no such key"),
        ("[serer]\nbind = ''", "serer"),
        ('[server]\nbind = "9292"', "server.bind = '9292'"),
        ('[server]\nbind = "localhost:99999"', "server.bind"),
        ('[server]\npublic_url = "example.org"', "server.public_url"),
        ('[server]\ntrusted_proxies = ["here"]', "server.trusted_proxies: 'here'"),
        ('[database]\nurl = "mysql://x"', "database.url: scheme 'mysql'"),
        ('[identity]\nbackend = "ldap"', "identity.backend = 'ldap'"),
        ('[server]\nbind = "0.0.0.0:1"\n[identity]\nbackend = "none"', "loopback"),
        ('[stores]\ndefault = "x"', "stores.default = 'x'"),
        ('[stores]\nstaging = "x"', "stores.staging = 'x'"),
        ("[stores.os_glance_x]\nweight = 1", "stores.os_glance_x"),
        ('[images]\nhash_algorithm = "md55"', "images.hash_algorithm = 'md55'"),
        ('[images]\nhash_algorithm = "shake_128"', "fixed length"),
        ("[limits]\npage_size_default = 9\npage_size_max = 8", "limits.page_size_default = 9"),
        ("[limits]\nimage_tags_max = -2", "limits.image_tags_max = -2"),
        ("not toml", "not valid TOML"),
    ],
)
def test_wrong_values_are_refused_by_name(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(tmp_path, text)
    assert told in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml"):
        settings.load(tmp_path / "nowhere.toml", tmp_path)


def test_shown_settings_are_toml_without_secrets(tmp_path: Path) -> None:
    text = (
        '[database]\nurl = "postgresql://me:hunter2@db/t"\n[identity.keystone]\npassword = "hunter2"'
        '\n[stores.main]\ndriver = "memory"\nsecret_key = "hunter2"'
    )
    shown = settings.shown(load(tmp_path, text))
    assert "hunter2" not in shown
    tree = tomllib.loads(shown)
    assert tree["database"]["url"] == "postgresql://me:***@db/t"
    assert tree["stores"]["main"]["secret_key"] == "***"
    assert tree["limits"]["page_size_default"] == 25


def test_what_is_shown_can_be_read_again(tmp_path: Path) -> None:
    first = load(tmp_path)
    file = tmp_path / "again.toml"
    file.write_text(settings.shown(first), encoding="utf-8")
    assert settings.load(file, tmp_path / "data") == first


def test_a_table_of_properties_is_shown_so_that_it_can_be_read_again(tmp_path: Path) -> None:
    first = load(tmp_path, '[imports.inject]\n"os type" = "linux"\nnote = "a \\"b\\""\n')
    file = tmp_path / "again.toml"
    file.write_text(settings.shown(first), encoding="utf-8")
    assert settings.load(file, tmp_path / "data") == first
    assert first.imports.inject == {"os type": "linux", "note": 'a "b"'}


def test_every_key_says_what_it_means() -> None:
    for name, kind, _default, text, _secret in settings.options():
        assert text, name
        assert kind != "table" or name == "stores.NAME.options", name
