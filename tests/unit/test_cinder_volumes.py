"""How volumes of Cinder are found and judged; writing and reading them needs a cloud."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from transom.errors import ConfigurationError
from transom.stores.drivers.glance.backend import Trouble
from transom.stores.drivers.glance.cinder import CinderBackend

CREDENTIALS = {
    "cinder_store_auth_address": "https://keystone.example.org/v3",
    "cinder_store_user_name": "transom",
    "cinder_store_password": "secret",
    "cinder_store_project_name": "service",
}


class Volumes:
    """The part of cinderclient that lists and shows."""

    def __init__(self, *volumes: SimpleNamespace) -> None:
        self._volumes = volumes

    def list(
        self, search_opts: dict[str, str] | None = None, limit: int | None = None
    ) -> list[SimpleNamespace]:
        wanted = (search_opts or {}).get("name")
        return [each for each in self._volumes if wanted is None or wanted in each.name]

    def get(self, volume_id: str) -> SimpleNamespace:
        return next(each for each in self._volumes if each.id == volume_id)


class Library:
    """A store's options, and a driver with volumes."""

    name = "volumes"

    def __init__(self, options: dict[str, Any], *volumes: SimpleNamespace) -> None:
        self._options = options
        self._volumes = Volumes(*volumes)

    def option(self, key: str) -> Any:
        return self._options.get(key)

    def driver(self) -> Any:
        return SimpleNamespace(
            get_cinderclient=lambda context: SimpleNamespace(volumes=self._volumes)
        )

    def location(self, url: str) -> Any:
        return SimpleNamespace(store_location=SimpleNamespace(volume_id=url.rpartition("/")[2]))


def volume(number: int, name: str, *, is_complete: bool = True, **metadata: str) -> SimpleNamespace:
    return SimpleNamespace(
        id=f"id{number}",
        name=name,
        size=2,
        created_at="2026-01-02T03:04:05.000000",
        metadata=metadata | ({"readonly": "True"} if is_complete else {}),
    )


@pytest.fixture(autouse=True)
def _libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if cinderclient and os-brick were installed."""
    for name in ("cinderclient", "os_brick"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))


def backend(*volumes: SimpleNamespace) -> CinderBackend:
    return CinderBackend(Library(CREDENTIALS, *volumes))  # type: ignore[arg-type]


def test_a_name_leads_to_the_volume_of_exactly_that_name() -> None:
    found = backend(volume(1, "image-transom-ab"), volume(2, "image-transom-a"))
    assert found.url("transom-a") == "cinder://volumes/id2"
    with pytest.raises(FileNotFoundError):
        found.url("transom-")


def test_a_volume_is_complete_when_it_is_read_only_and_as_long_as_its_image() -> None:
    found = backend(
        volume(1, "image-transom-a", image_size="5"),
        volume(2, "image-transom-b", is_complete=False),
        volume(3, "image-of-somebody"),
        volume(4, ""),
    )
    listed = {each.name: (each.size_bytes, each.is_complete) for each in found.list("transom-")}
    assert listed == {"transom-a": (5, True), "transom-b": (2 * 1024**3, False)}
    assert found.stat("cinder://volumes/id1").modified_at == 1767323045.0
    with pytest.raises(FileNotFoundError):
        found.stat("cinder://volumes/id2")


def test_every_other_url_is_of_a_volume_that_others_made() -> None:
    assert backend().name_of("cinder://volumes/id1") is None


class ClientException(Exception):
    """Named as cinderclient's."""

    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(text)
        self.code = code


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (ClientException(404), Trouble.MISSING),
        (ClientException(403), Trouble.REFUSED),
        (ClientException(413), Trouble.FULL),
        (ClientException(503), Trouble.AWAY),
        (ClientException(400, "must not be in-use"), Trouble.BUSY),
        (ClientException(400, "something else"), Trouble.BROKEN),
        (FileNotFoundError(), Trouble.MISSING),
        (ZeroDivisionError(), None),
    ],
    ids=lambda value: str(value),
)
def test_what_cinder_answers_has_a_meaning(error: Exception, meaning: Trouble | None) -> None:
    assert backend().trouble(error) is meaning
    wrapped = RuntimeError("the library's")
    wrapped.__cause__ = error
    assert backend().trouble(wrapped) is meaning


@pytest.mark.parametrize("missing", CREDENTIALS)
def test_volumes_need_an_account_of_the_services_own(missing: str) -> None:
    options = {key: value for key, value in CREDENTIALS.items() if key != missing}
    with pytest.raises(ConfigurationError, match=missing):
        CinderBackend(Library(options))  # type: ignore[arg-type]
