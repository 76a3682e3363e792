"""Stores whose writers cannot be re-opened, over HTTP: RBD, Google Cloud Storage and Azure, as the
place of images and as the place where data waits for its import."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from tests.conftest import Running, configured
from tests.support import azurite, ceph, gcs, rbd
from tests.support.counting import CountingServer
from tests.support.importing import (
    FROM_LOOPBACK,
    active_image,
    fails,
    imports,
    new_image,
    stage,
)
from tests.support.server import Config, ServerProcess, merged, told
from tests.support.waiting import until
from transom.settings import StoreSettings
from transom.stores import open_store

MIB = 1 << 20
DATA = os.urandom(12 * MIB + 345)


class Remote(NamedTuple):
    """A store on a real server, and a look behind Transom's back."""

    options: dict[str, Any]
    driver: str

    def keys(self) -> list[str]:
        """All that lies in it, complete or not."""
        import asyncio

        async def look() -> list[str]:
            settings = StoreSettings(driver=self.driver, options=self.options)
            store = open_store("looked", settings, Path())
            found = [each.key async for each in store.list()]
            found += [each.key async for each in store.list_partial()]
            await store.close()
            return found

        return asyncio.run(look())

    @property
    def config(self) -> dict[str, Any]:
        """`[stores.NAME]`."""
        return {"driver": self.driver, **self.options}


REMOTES: dict[str, Callable[[], Remote]] = {
    "glance_store": lambda: Remote(rbd.options(prefix=f"{uuid.uuid4().hex[:8]}-"), "glance_store"),
    "gcs": lambda: Remote(gcs.options(prefix=uuid.uuid4().hex[:8]), "gcs"),
    "azure": lambda: Remote(azurite.options(prefix=uuid.uuid4().hex[:8]), "azure"),
}


@pytest.fixture(scope="module", params=REMOTES)
def remote(request: pytest.FixtureRequest) -> Remote:
    return REMOTES[request.param]()


@pytest.fixture(scope="module")
def running(remote: Remote, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server whose default store and whose staging store are the remote one."""
    server = served(tmp_path_factory.mktemp("remote"), remote).start()
    yield Running(server, server.log_in_to_cloud("transom"), server.log_in_to_cloud("transom-demo"))
    server.stop()


def served(folder: Path, remote: Remote, config: Config | None = None) -> ServerProcess:
    """A server, not started yet."""
    stores: Config = {
        "stores": {
            "default": "remote",
            "staging": "waiting",
            "remote": remote.config,
            "waiting": remote.config,
            "local": {"driver": "file", "path": "<data>/images"},
        },
        "images": {"show_direct_url": True, "show_multiple_locations": True},
    }
    server = configured(folder, merged(merged(FROM_LOOPBACK, stores), config or {}))
    if remote.driver == "glance_store":
        server.module_folders.append(rbd.modules())
    return server


def data_of(running: Running, image_id: str, **headers: str) -> bytes:
    answer = running.demo.get(f"/v2/images/{image_id}/file", headers=headers)
    assert answer.status_code in (200, 206), told(answer)
    return answer.content


def is_empty(remote: Remote, seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while remote.keys():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


@pytest.mark.parametrize("length", [0, 1, len(DATA)])
@pytest.mark.parametrize("is_announced", [True, False], ids=["announced", "chunked"])
def test_an_image_comes_goes_in_parts_and_is_gone(
    running: Running, remote: Remote, length: int, is_announced: bool
) -> None:
    data = DATA[:length]
    body: Any = data if is_announced else iter([data[: 5 * MIB], data[5 * MIB :]])
    image_id = new_image(running.demo)
    answer = running.demo.put(
        f"/v2/images/{image_id}/file",
        content=body,
        headers={"Content-Type": "application/octet-stream"},
    )
    assert answer.status_code == 204, told(answer)
    image = running.demo.show(image_id)
    assert image["os_hash_value"] == hashlib.sha512(data).hexdigest()
    assert image["size"] == length
    assert running.admin.show(image_id)["direct_url"].startswith(("rbd://", "gs://", "azure://"))
    assert data_of(running, image_id) == data
    if length > 1:
        got = data_of(running, image_id, Range=f"bytes={5 * MIB - 3}-{5 * MIB + 3}")
        assert got == data[5 * MIB - 3 : 5 * MIB + 4]
    assert len(remote.keys()) == 1
    assert running.demo.delete(f"/v2/images/{image_id}").status_code == 204
    assert remote.keys() == []


def test_an_upload_that_is_refused_leaves_nothing(running: Running, remote: Remote) -> None:
    image_id = new_image(running.demo, disk_format="qcow2")
    answer = running.demo.put(
        f"/v2/images/{image_id}/file",
        content=DATA,
        headers={"Content-Type": "application/octet-stream"},
    )
    assert answer.status_code == 415, told(answer)
    assert remote.keys() == []
    assert running.demo.show(image_id)["status"] == "queued"


def test_staged_data_waits_there_and_is_imported(running: Running, remote: Remote) -> None:
    image_id = new_image(running.demo)
    answer = stage(running.demo, image_id, DATA)
    assert answer.status_code == 204, told(answer)
    assert len(remote.keys()) == 1
    image = imports(running.demo, image_id, "glance-direct")
    assert image["stores"] == "remote"
    assert data_of(running, image_id) == DATA
    # What was staged goes after the task has said that it is done.
    until(lambda: len(remote.keys()) == 1, 60)
    running.demo.delete(f"/v2/images/{image_id}")
    assert remote.keys() == []


def test_an_import_that_fails_leaves_nothing_there(running: Running, remote: Remote) -> None:
    image_id = new_image(running.demo, disk_format="qcow2")
    assert stage(running.demo, image_id, DATA).status_code == 204
    fails(running.demo, image_id, "glance-direct")
    assert is_empty(remote)


def test_data_is_copied_there_and_back(running: Running, remote: Remote) -> None:
    image_id = active_image(running.demo, DATA, store="local")
    image = imports(running.admin, image_id, "copy-image", stores=["remote"])
    assert set(image["stores"].split(",")) == {"local", "remote"}
    answer = running.admin.delete(f"/v2/stores/local/{image_id}")
    assert answer.status_code == 204, told(answer)
    assert data_of(running, image_id) == DATA
    running.demo.delete(f"/v2/images/{image_id}")
    assert remote.keys() == []


def test_a_client_that_leaves_in_the_middle_leaves_nothing(
    running: Running, remote: Remote
) -> None:
    image_id = new_image(running.demo)

    def half() -> Iterator[bytes]:
        yield DATA[: 10 * MIB]
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        running.demo.put(
            f"/v2/images/{image_id}/file",
            content=half(),
            headers={"Content-Type": "application/octet-stream"},
        )
    deadline = time.monotonic() + 60
    while running.demo.show(image_id)["status"] != "queued":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert remote.keys() == []


def test_an_import_outlives_the_process_that_was_killed_in_it(
    remote: Remote, tmp_path: Path
) -> None:
    if remote.driver == "azure":
        pytest.skip("the same code as for gcs, on a slower server")
    data = DATA * 3
    server = served(tmp_path, remote)
    server.module = "tests.support.hasty"
    server.start()
    try:
        with CountingServer(data) as source:
            source.rate_bytes = 16 * MIB
            demo = server.log_in_to_cloud("transom-demo")
            image_id = new_image(demo)
            answer = demo.post(
                f"/v2/images/{image_id}/import",
                json={"method": {"name": "web-download", "uri": source.url}},
            )
            assert answer.status_code == 202, told(answer)
            deadline = time.monotonic() + 30
            while source.sent_bytes < 14 * MIB and time.monotonic() < deadline:
                time.sleep(0.01)
            server.kill()
            source.rate_bytes = 0
            server.start()
            demo = server.log_in_to_cloud("transom-demo")
            wait = partial(demo.show, image_id)
            while wait()["status"] != "active":
                assert time.monotonic() < deadline + 60, server.log()[-3000:]
                time.sleep(0.1)
        answer = demo.get(f"/v2/images/{image_id}/file")
        assert hashlib.sha256(answer.content).digest() == hashlib.sha256(data).digest()
        # What the dead process was writing is removed as soon as its server lets go of it.
        while len(remote.keys()) > 1:
            assert time.monotonic() < deadline + 120, (remote.keys(), server.log()[-3000:])
            time.sleep(0.5)
        demo.delete(f"/v2/images/{image_id}")
        assert is_empty(remote)
    finally:
        server.kill()


def test_uploads_at_the_same_time_keep_apart(running: Running, remote: Remote) -> None:
    from concurrent.futures import ThreadPoolExecutor

    data = [os.urandom(7 * MIB + number) for number in range(6)]
    with ThreadPoolExecutor(6) as threads:
        made = list(threads.map(partial(active_image, running.demo), data))
    for image_id, each in zip(made, data, strict=True):
        assert data_of(running, image_id) == each
        running.demo.delete(f"/v2/images/{image_id}")
    assert remote.keys() == []


# --- RBD: what clouds do with it -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def in_rbd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server on RBD alone."""
    remote = REMOTES["glance_store"]()
    server = served(tmp_path_factory.mktemp("in-rbd"), remote).start()
    yield Running(server, server.log_in_to_cloud("transom"), server.log_in_to_cloud("transom-demo"))
    server.stop()


@pytest.fixture
def pool() -> Iterator[Any]:
    """The pool, as Nova and Cinder open it."""
    rbd.modules()
    import rados

    client = rados.Rados(conffile=str(ceph.node().conf), rados_id="admin")
    client.connect()
    with client.open_ioctx(rbd.pool()) as ioctx:
        yield ioctx
    client.shutdown()


def test_an_image_with_volumes_cloned_from_it_is_in_use_and_stays_active(
    in_rbd: Running, pool: Any
) -> None:
    import rbd as librbd

    image_id = active_image(in_rbd.demo, DATA)
    _, _, _, _, name, snapshot = in_rbd.admin.show(image_id)["direct_url"].split("/")
    volume = f"volume-{uuid.uuid4()}"
    librbd.RBD().clone(pool, name, snapshot, pool, volume, features=1)
    answer = in_rbd.demo.delete(f"/v2/images/{image_id}")
    assert answer.status_code == 409, told(answer)
    assert in_rbd.demo.show(image_id)["status"] == "active"
    assert data_of(in_rbd, image_id) == DATA
    librbd.RBD().remove(pool, volume)
    assert in_rbd.demo.delete(f"/v2/images/{image_id}").status_code == 204


def test_what_nova_or_glance_put_into_the_pool_becomes_an_image_and_goes_with_it(
    in_rbd: Running, pool: Any
) -> None:
    import rbd as librbd

    name = str(uuid.uuid4())
    librbd.RBD().create(pool, name, len(DATA), 23, old_format=False, features=61)
    with librbd.Image(pool, name) as made:
        made.write(DATA, 0)
        made.create_snap("snap")
        made.protect_snap("snap")
    nova = in_rbd.server.provision({"nova": ("compute", ["service", "admin"])})["nova"]
    image_id = new_image(in_rbd.demo)
    url = f"rbd://{ceph.node().fsid}/{rbd.pool()}/{name}/snap"
    answer = nova.post(f"/v2/images/{image_id}/locations", json={"url": url})
    assert answer.status_code == 202, told(answer)
    deadline = time.monotonic() + 30
    while in_rbd.demo.show(image_id)["status"] != "active":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert data_of(in_rbd, image_id) == DATA
    assert in_rbd.admin.show(image_id)["direct_url"] == url
    assert in_rbd.demo.delete(f"/v2/images/{image_id}").status_code == 204
    assert name not in librbd.RBD().list(pool)


def test_administrators_see_what_glance_tells_of_a_pool(in_rbd: Running) -> None:
    found = in_rbd.admin.get("/v2/info/stores/detail").json()["stores"]
    (store,) = [each for each in found if each["id"] == "remote"]
    assert store["properties"]["pool"] == rbd.pool()
    assert msgspec.json.encode(store["properties"])
