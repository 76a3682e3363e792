"""The cache of a node: filled once for all who wait, bounded, verified, never a way around policy
(API §19, lifecycle §15)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeServer, Running, ServerWith
from tests.support.server import Client, Config, ServerProcess, merged, told
from tests.support.waiting import until

CACHING: Config = {"cache": {"enabled": True}}
SMALL: Config = {"cache": {"enabled": True, "size_bytes_max": 250_000}}


@pytest.fixture
def caching(server_with: ServerWith) -> Running:
    """A server that caches."""
    return server_with(CACHING)


@pytest.fixture
def image(caching: Running) -> Iterator[tuple[str, bytes]]:
    """An active image of demo, and its data."""
    data = os.urandom(100_000)
    image_id = active(caching.demo, data)
    yield image_id, data
    caching.admin.delete(f"/v2/images/{image_id}")


def active(client: Client, data: bytes, **attributes: Any) -> str:
    """The id of an active image with this data."""
    made = client.create(disk_format="raw", container_format="bare", **attributes)
    return str(client.upload(made["id"], data)["id"])


def cached(admin: Client) -> dict[str, dict[str, Any]]:
    """What the cache holds, by image."""
    answer = admin.get("/v2/cache")
    assert answer.status_code == 200, told(answer)
    return {each["image_id"]: each for each in answer.json()["cached_images"]}


def seen(found: Callable[[], Any], server: ServerProcess) -> Any:
    """What `found` gives, as soon as it gives something."""
    return until(found, 20, lambda: server.log()[-3000:])


def files(server: ServerProcess) -> list[Path]:
    """The copies in the cache's folder."""
    return [path for path in (Path(server.data) / "cache").iterdir() if path.is_file()]


def test_a_whole_download_fills_the_cache_and_the_next_one_reads_it(
    caching: Running, image: tuple[str, bytes]
) -> None:
    image_id, data = image
    assert image_id not in cached(caching.admin)
    first = caching.demo.get(f"/v2/images/{image_id}/file")
    entry = seen(lambda: cached(caching.admin).get(image_id), caching.server)
    assert (entry["size"], entry["hits"]) == (len(data), 0)
    # Whatever happens to the store now, the image can be read.
    [stored] = [path for path in caching.server.stored_files() if path.name.startswith(image_id)]
    stored.rename(stored.with_name("aside"))
    second = caching.demo.get(f"/v2/images/{image_id}/file")
    part = caching.demo.get(f"/v2/images/{image_id}/file", headers={"Range": "bytes=10-19"})
    stored.with_name("aside").rename(stored)
    assert first.content == second.content == data
    assert part.status_code == 206
    assert part.content == data[10:20]
    told_headers = {"content-md5", "etag", "content-length", "content-type", "accept-ranges"}
    assert {name: first.headers[name] for name in told_headers} == {
        name: second.headers[name] for name in told_headers
    }
    entry = cached(caching.admin)[image_id]
    assert entry["hits"] == 2
    assert entry["last_accessed"] >= entry["last_modified"]


def test_a_range_of_an_image_that_is_not_cached_does_not_fill_it(
    caching: Running, image: tuple[str, bytes]
) -> None:
    image_id, data = image
    part = caching.demo.get(f"/v2/images/{image_id}/file", headers={"Range": "bytes=0-9"})
    assert part.content == data[:10]
    time.sleep(0.3)
    assert image_id not in cached(caching.admin)


def test_an_image_is_fetched_when_it_is_asked_for(
    caching: Running, image: tuple[str, bytes]
) -> None:
    image_id, _ = image
    for _ in range(2):
        answer = caching.admin.put(f"/v2/cache/{image_id}")
        assert (answer.status_code, answer.content) == (202, b"")
        seen(lambda: image_id in cached(caching.admin), caching.server)
    nodes = caching.admin.get(f"/v2/cache/nodes/{image_id}").json()
    assert len(nodes) == 1
    assert nodes[0].startswith("http://")
    assert caching.admin.delete(f"/v2/cache/{image_id}").status_code == 204
    assert image_id not in cached(caching.admin)
    assert caching.admin.get(f"/v2/cache/nodes/{image_id}").json() == []
    assert caching.admin.delete(f"/v2/cache/{image_id}").status_code == 204


@pytest.mark.parametrize(
    ("target", "left"), [("queue", True), ("QUEUE", True), ("cache", False), ("", False)]
)
def test_the_cache_is_emptied_as_far_as_asked(
    caching: Running, image: tuple[str, bytes], target: str, left: bool
) -> None:
    image_id, _ = image
    caching.admin.put(f"/v2/cache/{image_id}")
    seen(lambda: image_id in cached(caching.admin), caching.server)
    headers = {"x-image-cache-clear-target": target} if target else {}
    assert caching.admin.delete("/v2/cache", headers=headers).status_code == 204
    assert (image_id in cached(caching.admin)) is left


def test_a_wrong_target_is_refused(caching: Running) -> None:
    headers = {"x-image-cache-clear-target": "everything"}
    assert caching.admin.delete("/v2/cache", headers=headers).status_code == 400


def test_only_active_images_are_fetched(caching: Running) -> None:
    queued = caching.demo.create()["id"]
    assert caching.admin.put(f"/v2/cache/{queued}").status_code == 400


def test_an_unknown_image_is_not_found(caching: Running) -> None:
    path = "/v2/cache/00000000-0000-4000-8000-000000000000"
    assert caching.admin.put(path).status_code == 404
    assert caching.admin.delete(path).status_code == 404
    assert caching.admin.get(path.replace("cache/", "cache/nodes/")).status_code == 404


CALLS = [
    ("GET", "/v2/cache"),
    ("DELETE", "/v2/cache"),
    ("POST", "/v2/cache/clean"),
    ("POST", "/v2/cache/prune"),
    ("PUT", "/v2/cache/{id}"),
    ("DELETE", "/v2/cache/{id}"),
    ("GET", "/v2/cache/nodes/{id}"),
]


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_the_cache_is_for_administrators(
    caching: Running, image: tuple[str, bytes], method: str, path: str
) -> None:
    answer = caching.demo.request(method, path.format(id=image[0]))
    assert answer.status_code == 403, told(answer)


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_without_a_cache_its_api_is_not_found(default: Running, method: str, path: str) -> None:
    image_id = active(default.demo, b"x")
    assert default.admin.request(method, path.format(id=image_id)).status_code == 404
    assert default.demo.request(method, path.format(id=image_id)).status_code == 403
    default.demo.delete(f"/v2/images/{image_id}")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v2/cache", {"GET", "DELETE"}),
        ("GET", "/v2/cache/some-image", {"DELETE", "PUT"}),
        ("GET", "/v2/cache/clean", {"POST"}),
        ("DELETE", "/v2/cache/prune", {"POST"}),
    ],
)
def test_other_methods_are_told(
    caching: Running, method: str, path: str, allowed: set[str]
) -> None:
    answer = caching.admin.request(method, path)
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == allowed


def test_the_versions_announce_the_cache(caching: Running) -> None:
    ids = [each["id"] for each in caching.demo.get("/versions").json()["versions"]]
    assert ids[0] == "v2.18"
    assert {"v2.14", "v2.16"} <= set(ids)


# --- policy applies to what is cached as to what is not ----------------------------------------


def test_a_cached_image_is_no_more_visible_than_another(
    caching: Running, image: tuple[str, bytes]
) -> None:
    image_id, _ = image
    caching.admin.put(f"/v2/cache/{image_id}")
    seen(lambda: image_id in cached(caching.admin), caching.server)
    foreign = active(caching.admin, b"secret", visibility="private")
    caching.admin.put(f"/v2/cache/{foreign}")
    seen(lambda: foreign in cached(caching.admin), caching.server)
    assert caching.demo.get(f"/v2/images/{foreign}/file").status_code == 404
    assert caching.demo.post(f"/v2/images/{image_id}/actions/deactivate").status_code == 204
    assert caching.demo.get(f"/v2/images/{image_id}/file").status_code == 403
    assert caching.demo.post(f"/v2/images/{image_id}/actions/reactivate").status_code == 204
    assert caching.demo.get(f"/v2/images/{image_id}/file").status_code == 200


def test_deletion_takes_the_copy_along(caching: Running) -> None:
    image_id = active(caching.demo, os.urandom(5000))
    caching.demo.get(f"/v2/images/{image_id}/file")
    seen(lambda: image_id in cached(caching.admin), caching.server)
    assert caching.demo.delete(f"/v2/images/{image_id}").status_code == 204
    assert image_id not in cached(caching.admin)
    assert image_id not in {path.name for path in files(caching.server)}


# --- size, damage, death -----------------------------------------------------------------------


def test_the_cache_never_grows_beyond_its_size_and_keeps_what_is_used(
    make_server: MakeServer,
) -> None:
    server = make_server(SMALL)
    admin = server.log_in_to_cloud("transom")
    first, second, third = (active(admin, os.urandom(100_000)) for _ in range(3))
    for image_id in (first, second):
        admin.get(f"/v2/images/{image_id}/file")
        seen(lambda: image_id in cached(admin), server)  # noqa: B023
    time.sleep(0.02)
    # The older one is used again, so the other one gives way.
    admin.get(f"/v2/images/{first}/file")
    admin.get(f"/v2/images/{third}/file")
    seen(lambda: third in cached(admin), server)
    assert set(cached(admin)) == {first, third}
    assert sum(path.stat().st_size for path in files(server)) <= 250_000
    large = active(admin, os.urandom(300_000))
    assert len(admin.get(f"/v2/images/{large}/file").content) == 300_000
    assert large not in cached(admin)
    assert admin.post("/v2/cache/prune").json() == {
        "total_files_pruned": 0,
        "total_bytes_pruned": 0,
    }
    server.restart(merged(SMALL, {"cache": {"size_bytes_max": 150_000}}))
    admin = server.log_in_to_cloud("transom")
    assert admin.post("/v2/cache/prune").json() == {
        "total_files_pruned": 1,
        "total_bytes_pruned": 100_000,
    }
    assert len(cached(admin)) == 1


def test_damaged_data_never_becomes_a_copy_and_is_never_served_whole(
    caching: Running, image: tuple[str, bytes]
) -> None:
    image_id, data = image
    [stored] = [path for path in caching.server.stored_files() if path.name.startswith(image_id)]
    stored.chmod(0o600)
    stored.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    import httpx

    with pytest.raises(httpx.RemoteProtocolError):
        caching.demo.get(f"/v2/images/{image_id}/file")
    assert image_id not in cached(caching.admin)
    assert image_id not in {path.name for path in files(caching.server)}
    stored.write_bytes(data)
    assert caching.demo.get(f"/v2/images/{image_id}/file").content == data


def test_a_copy_of_the_wrong_length_is_dropped(caching: Running, image: tuple[str, bytes]) -> None:
    image_id, data = image
    caching.demo.get(f"/v2/images/{image_id}/file")
    seen(lambda: image_id in cached(caching.admin), caching.server)
    [copy] = [path for path in files(caching.server) if path.name == image_id]
    copy.write_bytes(data[:50])
    assert caching.demo.get(f"/v2/images/{image_id}/file").content == data


def test_copies_survive_a_restart_and_leftovers_do_not(make_server: MakeServer) -> None:
    server = make_server(CACHING)
    admin = server.log_in_to_cloud("transom")
    image_id = active(admin, os.urandom(5000))
    admin.get(f"/v2/images/{image_id}/file")
    seen(lambda: image_id in cached(admin), server)
    server.kill()
    (Path(server.data) / "cache" / ".filling" / "half").write_bytes(b"half")
    (Path(server.data) / "cache" / "11111111-1111-4111-8111-111111111111").write_bytes(b"gone")
    server.start()
    admin = server.log_in_to_cloud("transom")
    assert image_id in cached(admin)
    seen(lambda: [path.name for path in files(server)] == [image_id], server)
    assert not list((Path(server.data) / "cache" / ".filling").iterdir())


def test_hundreds_of_cold_readers_cost_one_fetch(make_server: MakeServer) -> None:
    server = make_server(CACHING)
    admin = server.log_in_to_cloud("transom")
    data = os.urandom(3_000_000)
    image_id = active(admin, data)

    def read(_: int) -> bool:
        return bool(admin.get(f"/v2/images/{image_id}/file").content == data)

    with ThreadPoolExecutor(50) as readers:
        assert all(readers.map(read, range(300)))
    entry = seen(lambda: cached(admin).get(image_id), server)
    # Whoever came while it was filled is no hit, and there was one filling.
    assert entry["hits"] < 300
    assert server.log().count('"cache.filled"') == 1
