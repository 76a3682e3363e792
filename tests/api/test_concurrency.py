"""Many callers at once: exactly one wins where one may, and no limit is passed."""

from __future__ import annotations

import random
import threading
import uuid
from collections import Counter
from collections.abc import Callable

import httpx
import pytest

from tests.api.configs import SMALL_LIMITS
from tests.conftest import MakeImage, ServerWith
from tests.support.server import Client, ServerProcess, told

CALLERS = 8


def at_once(
    server: ServerProcess, client: Client, call: Callable[[Client, int], httpx.Response]
) -> list[int]:
    """The statuses of calls made by several threads at the same moment."""
    gate = threading.Barrier(CALLERS)
    statuses = [0] * CALLERS

    def work(number: int) -> None:
        own = server.client(client.token)
        # Connected before the start, so that all requests leave together.
        own.get("/healthcheck")
        gate.wait(30)
        statuses[number] = call(own, number).status_code

    threads = [threading.Thread(target=work, args=(number,)) for number in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return statuses


@pytest.mark.parametrize("attempt", range(3))
def test_one_of_many_creates_an_id(server: ServerProcess, owner: Client, attempt: int) -> None:
    image_id = str(uuid.uuid4())
    statuses = at_once(
        server,
        owner,
        lambda client, number: client.post(
            "/v2/images", json={"id": image_id, "name": str(number), "tags": ["t"], "p": "x"}
        ),
    )
    assert Counter(statuses) == {201: 1, 409: CALLERS - 1}
    assert owner.show(image_id)["name"] == str(statuses.index(201))
    owner.delete(f"/v2/images/{image_id}")


@pytest.mark.parametrize("attempt", range(3))
def test_one_of_many_deletes(
    server: ServerProcess, owner: Client, image: MakeImage, attempt: int
) -> None:
    image_id = image(data=b"x" * 100_000)["id"]
    statuses = at_once(server, owner, lambda client, _: client.delete(f"/v2/images/{image_id}"))
    assert Counter(statuses) == {204: 1, 404: CALLERS - 1}


def test_one_of_many_adds_a_member(server: ServerProcess, owner: Client, image: MakeImage) -> None:
    path = f"/v2/images/{image()['id']}/members"
    statuses = at_once(
        server, owner, lambda client, _: client.post(path, json={"member": "project"})
    )
    assert Counter(statuses) == {200: 1, 409: CALLERS - 1}
    assert len(owner.get(path).json()["members"]) == 1


def test_one_of_many_removes_a_member(
    server: ServerProcess, owner: Client, image: MakeImage
) -> None:
    path = f"/v2/images/{image()['id']}/members"
    owner.post(path, json={"member": "project"})
    statuses = at_once(server, owner, lambda client, _: client.delete(f"{path}/project"))
    assert Counter(statuses) == {204: 1, 404: CALLERS - 1}


def test_the_same_tag_may_be_put_by_many(
    server: ServerProcess, owner: Client, image: MakeImage
) -> None:
    image_id = image()["id"]
    statuses = at_once(
        server, owner, lambda client, _: client.put(f"/v2/images/{image_id}/tags/same")
    )
    assert set(statuses) <= {204, 409}
    assert 204 in statuses
    assert owner.show(image_id)["tags"] == ["same"]


def test_tags_put_at_once_never_pass_the_limit(server_with: ServerWith) -> None:
    running = server_with(SMALL_LIMITS)
    image_id = running.demo.create()["id"]
    statuses = at_once(
        running.server,
        running.demo,
        lambda client, number: client.put(f"/v2/images/{image_id}/tags/t{number}"),
    )
    assert set(statuses) <= {204, 409, 413}, statuses
    tags = running.demo.show(image_id)["tags"]
    assert len(tags) == statuses.count(204) <= 3


def test_members_added_at_once_never_pass_the_limit(server_with: ServerWith) -> None:
    running = server_with(SMALL_LIMITS)
    path = f"/v2/images/{running.demo.create()['id']}/members"
    statuses = at_once(
        running.server,
        running.demo,
        lambda client, number: client.post(path, json={"member": f"m{number}"}),
    )
    assert set(statuses) <= {200, 409, 413}, statuses
    members = running.demo.get(path).json()["members"]
    assert len(members) == statuses.count(200) <= 3


def test_properties_added_at_once_never_pass_the_limit(server_with: ServerWith) -> None:
    running = server_with(SMALL_LIMITS)
    image_id = running.demo.create()["id"]
    statuses = at_once(
        running.server,
        running.demo,
        lambda client, number: client.patch(
            f"/v2/images/{image_id}", [{"op": "add", "path": f"/p{number}", "value": "x"}]
        ),
    )
    assert set(statuses) <= {200, 409, 413}, statuses
    shown = running.demo.show(image_id)
    kept = [number for number in range(CALLERS) if f"p{number}" in shown]
    assert len(kept) == statuses.count(200) <= 3


def test_deactivating_and_reactivating_at_once_ends_in_one_of_the_two(
    server: ServerProcess, owner: Client, image: MakeImage
) -> None:
    image_id = image(data=b"x")["id"]
    actions = ("deactivate", "reactivate")
    statuses = at_once(
        server,
        owner,
        lambda client, number: client.post(f"/v2/images/{image_id}/actions/{actions[number % 2]}"),
    )
    assert set(statuses) <= {204, 409}, statuses
    assert owner.show(image_id)["status"] in ("active", "deactivated")


def test_deleting_and_uploading_at_once_leaves_no_data(
    server: ServerProcess, owner: Client, image: MakeImage, mark: str
) -> None:
    for _ in range(5):
        image_id = image(disk_format="raw", container_format="bare")["id"]
        data = (mark * 5_000).encode()
        statuses = at_once(
            server,
            owner,
            lambda client, number: (
                client.put_data(image_id, data)  # noqa: B023 - used before the next round
                if number % 2
                else client.delete(f"/v2/images/{image_id}")  # noqa: B023
            ),
        )
        deletes, uploads = statuses[::2], statuses[1::2]
        assert Counter(deletes) == {204: 1, 404: len(deletes) - 1}
        assert set(uploads) <= {204, 404, 409, 410}, uploads
        assert owner.get(f"/v2/images/{image_id}").status_code == 404
    leftovers = [path for path in server.stored_files() if path.read_bytes() == data]
    assert leftovers == [], "data of a deleted image stays in the store"


def test_image_deleted_under_a_reader_is_never_cut_short_unnoticed(
    server: ServerProcess, owner: Client, image: MakeImage
) -> None:
    data = random.Random(3).randbytes(12 << 20)
    created = image(data=data)
    received = b""
    broken = False
    with owner.http.stream("GET", created["file"]) as answer:
        pieces = answer.iter_raw(65_536)
        received += next(pieces)
        assert server.client(owner.token).delete(f"/v2/images/{created['id']}").status_code == 204
        try:
            for piece in pieces:
                received += piece
        except httpx.TransportError:
            broken = True
    assert broken or received == data
    assert data.startswith(received)
    again = owner.get(created["file"])
    assert again.status_code == 404, told(again)
