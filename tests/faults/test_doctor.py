"""`transom doctor` and `transom sweep`, on deployments that are damaged in every way they know."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from tests.support.catalogs import a_location, an_image
from transom.app import open_registry
from transom.catalog import Catalog
from transom.catalog.schema import (
    image_locations,
    image_properties,
    image_tags,
    intakes,
    processes,
)
from transom.catalog.schema import images as images_table
from transom.cli.main import main
from transom.images.clock import now
from transom.images.orphans import SUSPICIOUS_FROM
from transom.images.sweep import dead_processes, machine
from transom.model.image import Image, Location, Status
from transom.registry import Registry
from transom.settings import Settings, load
from transom.stores.store import Store

pytestmark = pytest.mark.faults

DATA = b"stile and rail " * 1_000
CONFIG = """
[stores]
default = "main"
[stores.main]
driver = "file"
path = "<data>/images"
fsync = false
[stores.second]
driver = "file"
path = "<data>/second"
fsync = false
"""


class Deployment:
    """A catalog and two stores in a folder, without a service."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir()
        self.config = folder / "transom.toml"
        self.config.write_text(CONFIG)
        self._capsys = capsys
        catalog = Catalog.open(self.settings)
        catalog.upgrade()
        catalog.close()

    @property
    def settings(self) -> Settings:
        """The settings as they are in the file now."""
        return load(self.config, self.data)

    def transom(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command: exit code, output, errors."""
        code = main([*arguments, "--config", str(self.config), "--data", str(self.data)])
        printed = self._capsys.readouterr()
        return code, printed.out, printed.err

    def doctor(self, *arguments: str) -> list[dict[str, Any]]:
        """Findings; the exit code fits them."""
        code, out, _ = self.transom("doctor", "--json", *arguments)
        report = json.loads(out)
        found: list[dict[str, Any]] = report["findings"]
        problems = [each for each in found if each.get("level", "problem") == "problem"]
        still_open = [each for each in problems if not each.get("is_mended")]
        assert report["problems"] == len(problems)
        assert report["mended"] == len(problems) - len(still_open)
        assert code == (1 if still_open else 0)
        return found

    def sweep(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Exit code and report."""
        code, out, _ = self.transom("sweep", "--json", *arguments)
        return code, json.loads(out)

    def use(self, work: Callable[[Registry], Any]) -> Any:
        """What the coroutine gives on an open registry."""

        async def using() -> Any:
            registry = open_registry(self.settings)
            try:
                return await work(registry)
            finally:
                await registry.stores.close()
                await registry.identity.close()
                registry.catalog.close()

        return asyncio.run(using())

    def write(self, *statements: Any) -> None:
        """Change the tables behind the catalog's back."""

        async def work(registry: Registry) -> None:
            def change(connection: sa.Connection) -> None:
                for statement in statements:
                    connection.execute(statement)

            await registry.catalog.engine.write(change)

        self.use(work)

    def image(self, *stores: str, **attributes: Any) -> Image:
        """An active image with its data in each store."""

        async def work(registry: Registry) -> Image:
            image_id = attributes.pop("id", None) or an_image().id
            places = [
                await _put(registry.stores.get(name), f"{image_id}.{secrets.token_hex(4)}")
                for name in stores or ("main",)
            ]
            image = an_image(
                id=image_id,
                status=attributes.pop("status", Status.ACTIVE),
                size=len(DATA),
                checksum=hashlib.md5(DATA).hexdigest(),
                os_hash_algo="sha512",
                os_hash_value=hashlib.sha512(DATA).hexdigest(),
                locations=tuple(places),
                **attributes,
            )
            await registry.catalog.images.create(image)
            return image

        made: Image = self.use(work)
        return made

    def get(self, image: Image) -> Image:
        """The image as it is now."""
        got: Image = self.use(lambda registry: registry.catalog.images.get(image.id, seen_by=None))
        return got

    def path(self, location: Location) -> Path:
        """The file of a location."""
        return (
            self.data / location.store.replace("main", "images") / location.key[:2] / location.key
        )

    def orphan(self, store: str = "main", age_seconds: float = 0.0) -> Path:
        """A file that nobody knows."""
        key = secrets.token_hex(8)
        path = self.path(a_location(key, store))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"orphan")
        os.utime(path, (time.time() - age_seconds,) * 2)
        return path


async def _put(store: Store, key: str, data: bytes = DATA) -> Location:
    async with store.writer(key) as writer:
        await writer.write(data)
        stored = await writer.commit()
    return Location(store=store.name, key=key, url=stored.url)


@pytest.fixture
def deployment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Deployment:
    """A healthy deployment."""
    for name in [name for name in os.environ if name.startswith("TRANSOM_")]:
        monkeypatch.delenv(name)
    return Deployment(tmp_path, capsys)


def checks(found: list[dict[str, Any]]) -> list[tuple[str, str, bool]]:
    """The findings in short: check, image, mended."""
    return [
        (each["check"], each.get("image_id", ""), each.get("is_mended", False)) for each in found
    ]


# --- doctor ----------------------------------------------------------------------------------------


def test_a_healthy_deployment_has_no_findings(deployment: Deployment) -> None:
    deployment.image("main", "second", tags=("t",), properties={"a": "b"})
    deployment.image(status=Status.DEACTIVATED)
    deployment.use(lambda registry: registry.catalog.images.create(an_image()))
    assert deployment.doctor() == []
    assert deployment.doctor("--repair", "--grace", "0") == []
    code, out, err = deployment.transom("doctor")
    assert (code, out, err) == (0, "Nothing is wrong.\n", "")


@pytest.mark.parametrize("damage", ["settings", "schema", "no catalog", "policy"])
def test_what_keeps_the_service_from_starting_is_told(deployment: Deployment, damage: str) -> None:
    match damage:
        case "settings":
            deployment.config.write_text("[limits]\npage_size_max = 0\n")
        case "schema":
            deployment.write(sa.text("UPDATE alembic_version SET version_num = '0001'"))
        case "no catalog":
            shutil.rmtree(deployment.data)
        case "policy":
            deployment.config.write_text(CONFIG + '[policy]\nfile = "nowhere.yaml"\n')
    [finding] = deployment.doctor("--repair")
    assert finding["check"] == "configuration"
    assert {
        "settings": "page_size_max",
        "schema": "0001",
        "no catalog": str(deployment.data),
        "policy": "nowhere.yaml",
    }[damage] in finding["says"]
    code, out, _ = deployment.transom("doctor")
    assert code == 1
    assert out.startswith("problem  configuration  ")


def test_a_store_that_cannot_be_written_is_told(deployment: Deployment) -> None:
    shutil.rmtree(deployment.data / "second", ignore_errors=True)
    folder = deployment.data / "second" / ".partial"
    folder.parent.mkdir()
    folder.write_text("not a folder")
    found = deployment.doctor()
    assert [each["store"] for each in found if each["check"] == "stores"] == ["second"]


def test_objects_in_a_store_that_is_not_configured_are_told(deployment: Deployment) -> None:
    image = deployment.image("second")
    deployment.config.write_text(CONFIG.partition("[stores.second]")[0])
    found = deployment.doctor("--repair", "--grace", "0")
    assert [(each["check"], each["store"]) for each in found] == [("stores", "second")]
    assert deployment.path(image.locations[0]).exists()


DAMAGES: dict[str, Any] = {
    "tags": sa.delete(image_tags),
    "properties": sa.update(image_properties).values(digest=b"0" * 16),
    "copies": sa.update(images_table).values(copies=3),
}


@pytest.mark.parametrize("part", DAMAGES)
def test_rows_that_disagree_are_told_and_mended(deployment: Deployment, part: str) -> None:
    image = deployment.image(tags=("t",), properties={"a": "b"})
    deployment.write(DAMAGES[part])
    assert checks(deployment.doctor()) == [("rows", image.id, False)]
    assert checks(deployment.doctor("--repair")) == [("rows", image.id, True)]
    assert deployment.doctor() == []
    assert deployment.get(image) == image


@pytest.mark.parametrize("lost", ["row", "folded"])
def test_a_location_that_one_side_lost_is_mended_when_its_data_is_whole(
    deployment: Deployment, lost: str
) -> None:
    image = deployment.image("main", "second")
    if lost == "row":
        deployment.write(sa.delete(image_locations).where(image_locations.c.store == "second"))
    else:
        deployment.write(sa.update(images_table).values(locations="[]", copies=0))
    assert ("rows", image.id, False) in checks(deployment.doctor())
    repaired = deployment.doctor("--repair", "--grace", "0")
    assert ("rows", image.id, True) in checks(repaired)
    assert deployment.doctor("--grace", "0") == []
    places = sorted(deployment.get(image).locations, key=lambda place: place.store)
    assert places == list(image.locations)
    assert all(deployment.path(place).read_bytes() == DATA for place in image.locations)


def test_locations_that_disagree_are_left_alone_when_data_is_missing(
    deployment: Deployment,
) -> None:
    image = deployment.image("main", "second")
    deployment.path(image.locations[0]).unlink()
    deployment.write(sa.delete(image_locations).where(image_locations.c.store == "second"))
    found = checks(deployment.doctor("--repair", "--grace", "0"))
    assert ("rows", image.id, False) in found
    assert ("orphans", "", True) not in found
    assert deployment.sweep("--orphans", "--grace", "0", "--apply")[0] == 0
    assert deployment.get(image).locations == image.locations
    # The last of its data, of which only the image itself tells.
    assert deployment.path(image.locations[1]).read_bytes() == DATA


@pytest.mark.parametrize("damage", ["missing", "shorter", "longer", "a folder"])
def test_an_object_that_is_not_there_as_it_should_be_is_told_and_never_mended(
    deployment: Deployment, damage: str
) -> None:
    image = deployment.image("main", "second")
    healthy = deployment.image()
    path = deployment.path(image.locations[1])
    match damage:
        case "missing":
            path.unlink()
        case "shorter":
            path.write_bytes(DATA[:-1])
        case "longer":
            path.write_bytes(DATA + b"!")
        case _:
            path.unlink()
            path.mkdir()
    for arguments in ([], ["--repair", "--grace", "0"]):
        [finding] = deployment.doctor(*arguments)
        assert (finding["check"], finding["image_id"]) == ("locations", image.id)
        assert (finding["store"], finding["key"]) == ("second", image.locations[1].key)
    assert deployment.get(image) == image
    assert deployment.get(healthy) == healthy


def test_an_unmounted_store_loses_nothing_to_a_repair(deployment: Deployment) -> None:
    images = [deployment.image("second") for _ in range(3)]
    shutil.move(deployment.data / "second", deployment.folder / "elsewhere")
    found = deployment.doctor("--repair", "--grace", "0")
    assert [each["check"] for each in found] == ["locations"] * 3
    shutil.rmtree(deployment.data / "second")
    shutil.move(deployment.folder / "elsewhere", deployment.data / "second")
    assert deployment.doctor() == []
    assert [deployment.get(image) for image in images] == images


def test_a_store_in_memory_is_not_looked_at_from_outside(deployment: Deployment) -> None:
    deployment.config.write_text(CONFIG + '[stores.quick]\ndriver = "memory"\n')
    image = deployment.image()
    moved = msgspec.structs.replace(image, locations=(a_location("key", "quick"),))
    deployment.use(lambda registry: registry.catalog.images.replace(image, moved))
    deployment.path(image.locations[0]).unlink()
    found = deployment.doctor("--repair", "--hashes", "--grace", "0")
    assert {each["level"] for each in found} == {"note"}
    assert {each["store"] for each in found if "store" in each} == {"quick"}


def test_a_process_that_this_machine_does_not_see_lives_by_its_lease(
    deployment: Deployment,
) -> None:
    """In a container beside this one, or on another machine that has the same name."""
    name = machine().partition("#")[0]
    for number, host in enumerate([name, f"{name}#other", machine()]):

        async def join(registry: Registry, process: str = f"p{number}", host: str = host) -> None:
            await registry.catalog.processes.join(process, host=host, pid=1, started="?")

        deployment.use(join)
    assert deployment.use(lambda registry: dead_processes(registry)) == ["p2"]


def test_what_a_dead_process_left_is_told_and_mended(deployment: Deployment) -> None:
    fresh = an_image()
    deployment.use(lambda registry: registry.catalog.images.create(fresh))

    async def die(registry: Registry) -> None:
        # A lease of a process of this machine that is not there.
        await registry.catalog.processes.join("ghost", host=machine(), pid=1, started="?")
        await registry.catalog.images.begin_intake(
            fresh.id, kind="saving", store="main", key="half", token="half", process_id="ghost"
        )
        await (await _started(registry.stores.get("main"), "half")).detach()

    deployment.use(die)
    stuck = deployment.image(status=Status.IMPORTING)
    told = deployment.doctor()
    assert [(each["check"], each.get("image_id", "")) for each in told] == [
        ("leftovers", ""),
        ("leftovers", fresh.id),
        ("leftovers", stuck.id),
    ]
    assert all(each["is_mended"] for each in deployment.doctor("--repair"))
    assert deployment.get(fresh).status == deployment.get(stuck).status == Status.QUEUED
    assert not list((deployment.data / "images/.partial").iterdir())
    found = deployment.doctor()
    assert found == []


async def _started(store: Store, key: str) -> Any:
    writer = await store.writer(key).__aenter__()
    await writer.write(b"half")
    return writer


def test_data_that_should_be_gone_is_told_and_mended(deployment: Deployment) -> None:
    image = deployment.image()
    long_ago = now().replace(year=2020)
    deployment.use(
        lambda registry: registry.catalog.images.delete(image.id, now=long_ago, delayed=False)
    )
    assert checks(deployment.doctor()) == [("leftovers", image.id, False)]
    assert checks(deployment.doctor("--repair")) == [("leftovers", image.id, True)]
    assert not deployment.path(image.locations[0]).exists()
    assert deployment.doctor() == []


def test_what_was_deleted_a_moment_ago_is_no_finding(deployment: Deployment) -> None:
    image = deployment.image()
    deployment.use(
        lambda registry: registry.catalog.images.delete(image.id, now=now(), delayed=False)
    )
    assert deployment.doctor() == []


# --- digests ---------------------------------------------------------------------------------------


def test_data_that_changed_is_found_by_its_digests_alone(deployment: Deployment) -> None:
    image = deployment.image("main", "second")
    path = deployment.path(image.locations[1])
    path.write_bytes(DATA[:-1] + b"!")
    assert deployment.doctor() == []
    found = deployment.doctor("--hashes", "--repair")
    assert [each["check"] for each in found] == ["hashes", "hashes"]
    assert (found[0]["image_id"], found[0]["store"]) == (image.id, "second")
    assert "md5" in found[0]["says"]
    assert f"2 objects with {2 * len(DATA)} bytes" in found[1]["says"]
    assert path.exists()


def test_digests_are_read_in_portions(deployment: Deployment) -> None:
    images = [deployment.image() for _ in range(4)]
    bad = deployment.path(images[3].locations[0])
    bad.write_bytes(DATA[:-1] + b"!")
    after, portions, found = 0, 0, []
    while True:
        told = deployment.doctor("--hashes", "--seconds", "0.000001", "--after", str(after))
        found += [each for each in told if each.get("level") != "note"]
        note = told[-1]
        if "number" not in note:
            break
        assert note["number"] >= after
        # A time that is over at once still has to come forward.
        portions += 1
        assert portions < 10
        after = note["number"]
    assert [each["image_id"] for each in found] == [images[3].id]
    assert portions > 1


# --- orphans ---------------------------------------------------------------------------------------


def test_orphans_are_found_in_every_store_and_removed_when_told_to(
    deployment: Deployment,
) -> None:
    image = deployment.image("main", "second")
    orphans = [deployment.orphan("main", 100), deployment.orphan("second", 100)]
    staged = deployment.data / "staging/.partial/half"
    staged.parent.mkdir(parents=True, exist_ok=True)
    staged.write_bytes(b"half")
    code, report = deployment.sweep("--orphans", "--grace", "50")
    assert code == 0
    assert {each["store"]: len(each["orphans"]) for each in report["stores"]} == {
        "main": 1,
        "second": 1,
        "staging": 0,
    }
    assert report["stores"][2]["young_unknown"] == 1
    assert all(path.exists() for path in [*orphans, staged])
    code, report = deployment.sweep("--orphans", "--grace", "0", "--apply")
    assert code == 0
    assert all(orphan["removed"] for each in report["stores"] for orphan in each["orphans"])
    assert not any(path.exists() for path in [*orphans, staged])
    assert all(deployment.path(place).read_bytes() == DATA for place in image.locations)
    assert deployment.sweep("--orphans", "--grace", "0")[1]["stores"][0]["orphans"] == []


def test_young_orphans_are_left_alone(deployment: Deployment) -> None:
    path = deployment.orphan(age_seconds=3600)
    for arguments in (["sweep", "--orphans", "--apply"], ["doctor", "--repair"]):
        assert deployment.transom(*arguments)[0] == 0
    assert path.exists()
    old = deployment.orphan(age_seconds=90_000)
    assert checks(deployment.doctor()) == [("orphans", "", False)]
    assert checks(deployment.doctor("--repair")) == [("orphans", "", True)]
    assert (path.exists(), old.exists()) == (True, False)


def test_without_being_asked_nothing_is_looked_for_or_changed(deployment: Deployment) -> None:
    path = deployment.orphan(age_seconds=1e6)
    stuck = deployment.image(status=Status.SAVING)
    assert deployment.sweep("--apply")[1]["stores"] == []
    assert path.exists()
    stuck = deployment.image(status=Status.SAVING)
    code, out, _ = deployment.transom("sweep")
    assert code == 0
    assert stuck.id in out
    assert "--apply" in out
    assert deployment.get(stuck).status == Status.SAVING


def test_a_catalog_that_knows_less_than_half_of_a_store_removes_nothing(
    deployment: Deployment,
) -> None:
    deployment.image()
    paths = [deployment.orphan(age_seconds=1e6) for _ in range(SUSPICIOUS_FROM + 1)]
    code, _, err = deployment.transom("sweep", "--orphans", "--apply")
    assert code == 1
    assert "--force" in err
    found = deployment.doctor("--repair", "--grace", "0")
    assert checks(found) == [("orphans", "", False)]
    assert all(path.exists() for path in paths)
    assert deployment.transom("sweep", "--orphans", "--apply", "--force")[0] == 0
    assert not any(path.exists() for path in paths)
    assert deployment.doctor() == []


def test_data_that_the_catalog_knows_for_any_reason_is_no_orphan(deployment: Deployment) -> None:
    waits = deployment.image()
    deployment.use(
        lambda registry: registry.catalog.images.delete(waits.id, now=now(), delayed=True)
    )
    coming = an_image()
    deployment.use(lambda registry: registry.catalog.images.create(coming))

    async def begin(registry: Registry) -> None:
        await registry.catalog.processes.join("alive", host="elsewhere", pid=1, started="?")
        await registry.catalog.images.begin_intake(
            coming.id, kind="saving", store="main", key="half", token="half", process_id="alive"
        )
        await (await _started(registry.stores.get("main"), "half")).detach()

    deployment.use(begin)
    deployment.transom("sweep", "--orphans", "--grace", "0", "--apply")
    assert deployment.path(waits.locations[0]).exists()
    assert (deployment.data / "images/.partial/half").exists()
    deployment.write(sa.delete(intakes), sa.delete(processes))
    assert deployment.sweep("--orphans", "--grace", "0", "--apply")[0] == 0
    assert not (deployment.data / "images/.partial/half").exists()


@pytest.mark.parametrize("grace", ["-1", "soon", "nan", "inf"])
def test_a_grace_time_is_a_number_of_seconds(deployment: Deployment, grace: str) -> None:
    with pytest.raises(SystemExit) as ended:
        deployment.transom("sweep", f"--grace={grace}")
    assert ended.value.code == 2
