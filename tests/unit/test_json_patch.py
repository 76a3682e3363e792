"""The two patch languages (API §7.1, §7.2)."""

from __future__ import annotations

from typing import Any

import pytest

from transom.api.json_patch import operations
from transom.errors import InvalidBody, WrongPatchType
from transom.images.update import Operation

NEW = "application/openstack-images-v2.1-json-patch"
OLD = "application/openstack-images-v2.0-json-patch"


def test_both_languages_say_the_same() -> None:
    new = operations(f"{NEW}; charset=utf-8", [{"op": "add", "path": "/a", "value": "x"}])
    old = operations(OLD, [{"add": "/a", "value": "x"}])
    assert new == [Operation(op="add", path=("a",), value="x")]
    assert old == [Operation(op="add", path=("a",), value="x", fresh_only=True)]


def test_escapes_reach_names_with_slashes_and_tildes() -> None:
    patch = [{"op": "remove", "path": "/a~1b~0c~01"}]
    assert operations(NEW, patch)[0].path == ("a/b~c~1",)


@pytest.mark.parametrize("content_type", [None, "", "application/json", "text/plain"])
def test_other_media_types_are_refused(content_type: str | None) -> None:
    with pytest.raises(WrongPatchType):
        operations(content_type, [])


@pytest.mark.parametrize(
    "body",
    [
        {}, [1], [{}], [{"op": "test", "path": "/a", "value": 1}], [{"op": "add", "value": "x"}],
        [{"op": "add", "path": 5, "value": "x"}], [{"op": "add", "path": "/a"}],
        [{"op": "replace", "path": "a", "value": "x"}], [{"op": "remove", "path": "/a/"}],
        [{"op": "remove", "path": "/a//b"}], [{"op": "remove", "path": "//a"}],
        [{"op": "remove", "path": "/a~2"}], [{"op": "remove", "path": "/a~"}],
        [{"op": "remove", "path": "/a/b"}], [{"op": "add", "path": "/tags/-", "value": "x"}],
        [{"op": "add", "path": "/locations", "value": []}],
        [{"op": "replace", "path": "/locations/1", "value": {}}],
        [{"op": "remove", "path": "/locations/1/2"}], [{"op": [], "path": "/a", "value": "x"}],
    ],
)  # fmt: skip
def test_patches_of_the_wrong_shape_are_refused(body: Any) -> None:
    with pytest.raises(InvalidBody):
        operations(NEW, body)


@pytest.mark.parametrize("item", [{"value": 1}, {"add": "/a", "remove": "/b", "value": 1}, 7])
def test_old_patches_name_exactly_one_operation(item: Any) -> None:
    with pytest.raises(InvalidBody):
        operations(OLD, [item])
