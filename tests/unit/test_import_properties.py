"""Properties that are set on imported images (lifecycle §9), and the plugin that does nothing."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.support.workbench import Bench
from transom.errors import ConfigurationError
from transom.imports.plugins import open_plugins
from transom.settings import load


def configured(tmp_path: Path, inject: str, more: str = "") -> Path:
    file = tmp_path / "transom.toml"
    text = f'[imports]\nplugins = ["inject_image_metadata"]\n{more}\n[imports.inject]\n{inject}\n'
    file.write_text(text, encoding="utf-8")
    return file


async def injected(
    tmp_path: Path, roles: set[str], inject: str, more: str = "", **before: str
) -> dict[str, str]:
    bench = Bench(tmp_path, roles=frozenset(roles))
    [plugin] = open_plugins(load(configured(tmp_path, inject, more), tmp_path))
    material = msgspec.structs.replace(await bench.stage(b"data"), properties=before)
    result = await plugin.run(bench, material)
    assert msgspec.structs.replace(result, properties=before) == material
    await bench.close()
    return result.properties


async def test_properties_are_set_over_those_that_are_there(tmp_path: Path) -> None:
    found = await injected(
        tmp_path, {"member"}, 'from = "import"\n"os type" = "linux"', note="kept", **{"from": "?"}
    )
    assert found == {"from": "import", "os type": "linux", "note": "kept"}


@pytest.mark.parametrize("role", ["admin", "Admin"])
async def test_an_administrators_import_is_left_alone(tmp_path: Path, role: str) -> None:
    assert await injected(tmp_path, {"member", role}, 'from = "import"', note="kept") == {
        "note": "kept"
    }


async def test_which_roles_are_left_alone_can_be_chosen(tmp_path: Path) -> None:
    more = 'inject_ignore_roles = ["operator"]'
    assert await injected(tmp_path, {"admin"}, 'a = "b"', more) == {"a": "b"}
    assert await injected(tmp_path, {"Operator"}, 'a = "b"', more) == {}


@pytest.mark.parametrize(
    "inject",
    [
        'os_glance_x = "y"',
        'name = "y"',
        'size = "1"',
        'os_hash_value = "y"',
        'id = "y"',
        'locations = "y"',
        f'{"n" * 256} = "y"',
        'kernel_id = "no uuid"',
        '"" = "y"',
    ],
)
def test_a_property_that_no_image_can_have_is_refused_at_start(tmp_path: Path, inject: str) -> None:
    with pytest.raises(ConfigurationError, match=r"imports\.inject"):
        open_plugins(load(configured(tmp_path, inject), tmp_path))


def test_a_value_that_is_no_text_is_refused_at_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"imports\.inject"):
        load(configured(tmp_path, "count = 3"), tmp_path)


async def test_no_op_changes_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, IMPORTS__PLUGINS="no_op")
    [plugin] = open_plugins(bench.settings)
    material = await bench.stage(b"data")
    assert await plugin.run(bench, material) is material
    await bench.close()
