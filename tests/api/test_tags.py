"""Tags: PUT and DELETE /v2/images/{id}/tags/{tag} (API §12)."""

from __future__ import annotations

import time
import uuid

import pytest

from tests.conftest import Actors, MakeImage
from tests.support.server import Client, ServerProcess, told

FOUR_BYTES = "%F0%9F%90%A7"


def test_put_adds_and_delete_removes(owner: Client, image: MakeImage) -> None:
    image_id = image(tags=["old"])["id"]
    added = owner.put(f"/v2/images/{image_id}/tags/new")
    assert added.status_code == 204, told(added)
    assert added.content == b""
    assert sorted(owner.show(image_id)["tags"]) == ["new", "old"]
    removed = owner.delete(f"/v2/images/{image_id}/tags/old")
    assert removed.status_code == 204, told(removed)
    assert owner.show(image_id)["tags"] == ["new"]


def test_put_is_idempotent(owner: Client, image: MakeImage) -> None:
    image_id = image()["id"]
    for _ in range(2):
        assert owner.put(f"/v2/images/{image_id}/tags/same").status_code == 204
    assert owner.show(image_id)["tags"] == ["same"]


@pytest.mark.parametrize(
    ("segment", "tag"),
    [
        ("plain", "plain"),
        ("two%20words", "two words"),
        ("UPPER", "UPPER"),
        ("%C3%BC", "ü"),
        ("%E6%BC%A2%E5%AD%97", "漢字"),
        ("a%2Bb", "a+b"),
        ("a+b", "a+b"),
        ("a%25b", "a%b"),
        ("a%3Fb", "a?b"),
        ("a%23b", "a#b"),
        ("a:b,c;d", "a:b,c;d"),
        ("%22quoted%22", '"quoted"'),
        ("x" * 255, "x" * 255),
    ],
)
def test_segment_is_percent_decoded_utf8(
    owner: Client, image: MakeImage, segment: str, tag: str
) -> None:
    image_id = image()["id"]
    answer = owner.put(f"/v2/images/{image_id}/tags/{segment}")
    assert answer.status_code == 204, told(answer)
    assert owner.show(image_id)["tags"] == [tag]
    answer = owner.delete(f"/v2/images/{image_id}/tags/{segment}")
    assert answer.status_code == 204, told(answer)
    assert owner.show(image_id)["tags"] == []


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_tag_with_a_slash_cannot_be_addressed(owner: Client, image: MakeImage, method: str) -> None:
    image_id = image(tags=["a/b"])["id"]
    answer = owner.request(method, f"/v2/images/{image_id}/tags/a%2Fb")
    assert answer.status_code == 404, told(answer)
    assert owner.show(image_id)["tags"] == ["a/b"]


@pytest.mark.parametrize("segment", ["x" * 256, FOUR_BYTES, "%00"])
def test_tag_that_cannot_be_kept_is_refused(owner: Client, image: MakeImage, segment: str) -> None:
    image_id = image()["id"]
    answer = owner.put(f"/v2/images/{image_id}/tags/{segment}")
    assert answer.status_code == 400, told(answer)
    assert owner.show(image_id)["tags"] == []


def test_segment_that_is_no_utf8_is_refused(owner: Client, image: MakeImage) -> None:
    image_id = image()["id"]
    answer = owner.put(f"/v2/images/{image_id}/tags/%ff%fe")
    assert answer.status_code == 400, told(answer)
    assert owner.show(image_id)["tags"] == []


def test_missing_tag_is_not_found(owner: Client, image: MakeImage) -> None:
    image_id = image(tags=["Case"])["id"]
    for tag in ("none", "case", "Cas"):
        assert owner.delete(f"/v2/images/{image_id}/tags/{tag}").status_code == 404
    assert owner.show(image_id)["tags"] == ["Case"]


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_body_is_refused(owner: Client, image: MakeImage, method: str) -> None:
    image_id = image(tags=["kept"])["id"]
    answer = owner.request(method, f"/v2/images/{image_id}/tags/kept", content=b"{}")
    assert answer.status_code == 400, told(answer)
    assert owner.show(image_id)["tags"] == ["kept"]


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize(
    ("visibility", "who", "status"),
    [
        ("private", "admin", 204),
        ("private", "owner_reader", 403),
        ("private", "other", 404),
        ("community", "other", 403),
        ("community", "service", 404),
        ("shared", "other", 404),
        ("shared", "norole", 404),
    ],
)
def test_hide_rule(
    actors: Actors, image: MakeImage, method: str, visibility: str, who: str, status: int
) -> None:
    image_id = image(actors.owner, visibility=visibility, tags=["there"])["id"]
    tag = "new" if method == "PUT" else "there"
    answer = getattr(actors, who).request(method, f"/v2/images/{image_id}/tags/{tag}")
    assert answer.status_code == status, told(answer)
    changed = actors.owner.show(image_id)["tags"] != ["there"]
    assert changed == (status == 204)


def test_unknown_image_is_not_found(owner: Client) -> None:
    assert owner.put(f"/v2/images/{uuid.uuid4()}/tags/x").status_code == 404
    assert owner.delete(f"/v2/images/{uuid.uuid4()}/tags/x").status_code == 404


def test_tags_need_a_token(server: ServerProcess, image: MakeImage) -> None:
    assert server.client().put(f"/v2/images/{image()['id']}/tags/x").status_code == 401


def test_tagging_moves_updated_at(owner: Client, image: MakeImage) -> None:
    created = image()
    time.sleep(1.1)
    owner.put(f"/v2/images/{created['id']}/tags/x")
    tagged = owner.show(created["id"])
    assert tagged["updated_at"] > created["updated_at"]
    time.sleep(1.1)
    owner.delete(f"/v2/images/{created['id']}/tags/x")
    assert owner.show(created["id"])["updated_at"] > tagged["updated_at"]


def test_active_and_deactivated_images_take_tags(owner: Client, image: MakeImage) -> None:
    image_id = image(data=b"x")["id"]
    assert owner.put(f"/v2/images/{image_id}/tags/a").status_code == 204
    owner.post(f"/v2/images/{image_id}/actions/deactivate")
    assert owner.put(f"/v2/images/{image_id}/tags/b").status_code == 204
    assert owner.delete(f"/v2/images/{image_id}/tags/a").status_code == 204
    assert owner.show(image_id)["tags"] == ["b"]
