"""What tests of metadata definitions share: namespaces that are gone afterwards."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.support.server import Client, told

NAMESPACES = "/v2/metadefs/namespaces"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
PROPERTY: dict[str, Any] = {"title": "Title", "type": "string"}

MakeNamespace = Callable[..., str]


def path_of(name: str, *segments: str) -> str:
    """The path of a namespace, or of something in it."""
    return "/".join([NAMESPACES, *(quote(one, safe="") for one in (name, *segments))])


def right(answer: httpx.Response, status: int = 200) -> Any:
    """The JSON of an answer that must have the status."""
    assert answer.status_code == status, told(answer)
    return answer.json() if answer.content else None


def refused(answer: httpx.Response, status: int) -> None:
    """An answer that must be an error of the status."""
    assert answer.status_code == status, told(answer)


@pytest.fixture
def make_namespace(admin: Client) -> Iterator[MakeNamespace]:
    """Makes namespaces of the administrator's, under names that no other test uses; gives the name.
    They are gone after the test."""
    made: list[str] = []

    def make(**fields: Any) -> str:
        name: str = fields.pop("namespace", f"space {uuid.uuid4().hex[:8]}")
        made.append(name)
        right(admin.post(NAMESPACES, json={"namespace": name, **fields}), 201)
        return name

    yield make
    for name in made:
        if admin.delete(path_of(name)).status_code == 403:
            right(admin.put(path_of(name), json={"namespace": name}))
            admin.delete(path_of(name))
