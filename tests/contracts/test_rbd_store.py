"""What a store in RBD owes to clouds and operators besides the contract, on a real Ceph."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support import ceph, rbd
from tests.support.storing import get, put
from transom.errors import ConfigurationError, ImageInUse, StoreFailed, StoreUnavailable
from transom.settings import StoreSettings
from transom.stores import open_store
from transom.stores.store import KeyMissing, Store

MIB = 1024 * 1024


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = open_store("tested", rbd.in_folder(tmp_path), tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
def other() -> Iterator[Any]:
    """A client of the cluster that is not Transom: rbd's own module."""
    rbd.modules()
    import rados

    client = rados.Rados(conffile=str(ceph.node().conf), rados_id="admin")
    client.connect()
    with client.open_ioctx(rbd.pool()) as ioctx:
        yield ioctx
    client.shutdown()


def name_in(url: str) -> str:
    return url.split("/")[-2]


async def test_the_url_is_the_one_that_nova_and_cinder_take_apart(store: Store) -> None:
    url = await put(store, "key", b"x")
    scheme, _, fsid, pool, image, snapshot = url.split("/")
    assert (scheme, pool, snapshot) == ("rbd:", rbd.pool(), "snap")
    assert fsid == ceph.node().fsid
    told = ceph.node().rbd("snap", "ls", "--format", "json", f"{pool}/{image}")
    assert [(each["name"], each["protected"]) for each in json.loads(told)] == [("snap", "true")]
    assert store.properties() == {
        "chunk_size": 8 * MIB,
        "pool": pool,
        "thin_provisioning": False,
        "fsid": fsid,
    }


async def test_an_image_that_volumes_are_cloned_from_is_in_use_and_stays_whole(
    store: Store, other: Any
) -> None:
    import rbd as librbd

    data = os.urandom(MIB)
    image = name_in(await put(store, "key", data))
    volume = f"volume-{uuid.uuid4()}"
    librbd.RBD().clone(other, image, "snap", other, volume, features=1)
    with pytest.raises(ImageInUse):
        await store.delete("key")
    assert await get(store, "key") == data
    librbd.RBD().remove(other, volume)
    await store.delete("key")
    with pytest.raises(KeyMissing):
        await store.stat("key")


async def test_an_image_that_others_write_to_is_in_use_and_stays_whole(
    store: Store, other: Any
) -> None:
    import rbd as librbd

    image = name_in(await put(store, "key", b"data"))
    with librbd.Image(other, image) as opened:
        opened.lock_exclusive("elsewhere")
        with pytest.raises(ImageInUse):
            await store.delete("key")
        opened.unlock("elsewhere")
    assert await get(store, "key") == b"data"
    await store.delete("key")


async def test_what_glance_stored_is_found_read_and_deleted_by_its_url(
    store: Store, other: Any
) -> None:
    import rbd as librbd

    image, data = str(uuid.uuid4()), os.urandom(3 * MIB)
    librbd.RBD().create(other, image, len(data), 23, old_format=False, features=61)
    with librbd.Image(other, image) as made:
        made.write(data, 0)
        made.create_snap("snap")
        made.protect_snap("snap")
    url = f"rbd://{ceph.node().fsid}/{rbd.pool()}/{image}/snap"
    entry = await store.find(url)
    assert entry.size_bytes == len(data)
    assert store.url(entry.key) == url
    assert await get(store, entry.key, offset=MIB, length=5) == data[MIB : MIB + 5]
    # Others' images are nobody's orphans.
    assert [each async for each in store.list()] == []
    await store.delete(entry.key)
    with pytest.raises(KeyMissing):
        await store.find(url)


async def test_our_own_urls_lead_back_to_their_keys(store: Store) -> None:
    url = await put(store, "key", b"x")
    assert (await store.find(url)).key == "key"


@pytest.mark.parametrize(
    "form",
    [
        "rbd://{image}", "rbd://{fsid}/{pool}/{image}", "rbd://{fsid}/{pool}/{image}/other",
        "rbd://{other}/{pool}/{image}/snap", "rbd://{fsid}/{pool}//snap", "rbd://", "rbd:",
        "rbd://{fsid}/nowhere/{image}/snap", "rbd://{fsid}/{pool}/{image}/snap/more",
        "http://{fsid}/{pool}/{image}/snap",
    ],
)  # fmt: skip
async def test_other_urls_lead_nowhere(store: Store, form: str) -> None:
    image = name_in(await put(store, "key", b"x"))
    url = form.format(image=image, fsid=ceph.node().fsid, pool=rbd.pool(), other=uuid.uuid4())
    with pytest.raises(KeyMissing):
        await store.find(url)


async def test_data_of_any_length_grows_into_place_side_by_side(store: Store) -> None:
    # The library keeps the size of a growing image in its driver: writes must not share that.
    lengths = [0, 1, 7 * MIB, 17 * MIB + 3, 8 * MIB, 24 * MIB]
    data = {f"key{index}": os.urandom(length) for index, length in enumerate(lengths)}
    await asyncio.gather(*(put(store, key, each) for key, each in data.items()))
    again = {f"again{key}": each for key, each in data.items()}
    for key, each in again.items():
        await put(store, key, each, size_hint=1)
    for key, each in (data | again).items():
        assert (await store.stat(key)).size_bytes == len(each)
        assert await get(store, key) == each


async def test_an_image_deleted_while_it_is_read_never_reads_as_zeros(store: Store) -> None:
    data = os.urandom(40 * MIB)
    await put(store, "key", data)
    reader = await store.read("key")
    pieces = [await anext(aiter(reader))]
    await store.delete("key")
    failure = None
    try:
        async for piece in reader:
            pieces.append(piece)  # noqa: PERF401 - what came before the error counts
    except StoreFailed as error:
        failure = str(error)
    await reader.close()
    assert failure == "Store 'tested' failed: an object was deleted while it was read."
    got = b"".join(pieces)
    assert got == data[: len(got)]


WRITE_AND_DIE = """
import asyncio, os, signal, sys
from pathlib import Path
import msgspec
from transom.settings import StoreSettings
from transom.stores import open_store

async def main():
    settings = msgspec.json.decode(sys.argv[1], type=StoreSettings)
    writer = open_store("tested", settings, Path(sys.argv[2])).writer("key")
    for _ in range(20):
        await writer.write(b"a" * 1_000_000)
    await asyncio.sleep(1)
    print("half", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_what_a_dead_process_left_is_no_image_and_goes_by_its_key(
    store: Store, tmp_path: Path
) -> None:
    configured = msgspec.json.encode(rbd.in_folder(tmp_path)).decode()
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITE_AND_DIE, configured, str(tmp_path),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(rbd.modules())},
    )  # fmt: skip
    assert child.stdout is not None
    assert await child.stdout.readline() == b"half\n"
    # While the other process lives, nobody takes its data away.
    with pytest.raises(ImageInUse):
        await store.delete("key")
    child.send_signal(signal.SIGKILL)
    await child.wait()
    with pytest.raises(KeyMissing):
        await store.stat("key")
    assert [each async for each in store.list()] == []
    assert [each.key async for each in store.list_partial()] == ["key"]
    deadline = time.monotonic() + 60
    while True:
        # Ceph takes a while to be sure that a client is dead.
        try:
            await store.delete("key")
        except ImageInUse:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.5)
        else:
            break
    assert [each async for each in store.list_partial()] == []


# --- configuration ------------------------------------------------------------------------------------


def opened(tmp_path: Path, **options: Any) -> Store:
    return open_store("tested", StoreSettings(driver="glance_store", options=options), tmp_path)


async def test_a_cluster_that_is_away_is_unavailable_and_not_waited_for_long(
    tmp_path: Path,
) -> None:
    rbd.modules()
    conf = tmp_path / "ceph.conf"
    conf.write_text(
        f"[global]\nfsid = {uuid.uuid4()}\nmon host = [v2:127.0.0.1:9,v1:127.0.0.1:9]\n"
        f"keyring = {ceph.node().folder}/keyring\nlog file =\n"
    )
    store = opened(
        tmp_path,
        kind="rbd",
        rbd_store_ceph_conf=str(conf),
        rbd_store_user="admin",
        rados_connect_timeout=1,
    )
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await store.check()
    with pytest.raises(StoreUnavailable):
        await put(store, "key", b"x")
    with pytest.raises(StoreUnavailable):
        await store.delete("key")
    assert time.monotonic() - began < 15
    await store.close()


async def test_a_pool_or_a_user_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    for wrong in ({"rbd_store_pool": "nowhere"}, {"rbd_store_user": "nobody"}):
        store = open_store("tested", rbd.settings(**wrong), tmp_path)
        with pytest.raises(StoreUnavailable):
            await store.check()
        await store.close()


async def test_the_rights_that_the_documentation_gives_are_enough(tmp_path: Path) -> None:
    user = f"transom{uuid.uuid4().hex[:8]}"
    keyring = tmp_path / "keyring"
    ceph.node().ceph(
        "auth", "get-or-create", f"client.{user}", "mon", "profile rbd",
        "osd", f"profile rbd pool={rbd.pool()}", "-o", str(keyring),
    )  # fmt: skip
    conf = tmp_path / "ceph.conf"
    conf.write_text(f"{ceph.node().conf.read_text()}\n[client.{user}]\nkeyring = {keyring}\n")
    options = {"rbd_store_ceph_conf": str(conf), "rbd_store_user": user, "prefix": f"{user}-"}
    store = open_store("tested", rbd.settings(**options), tmp_path)
    await store.check()
    data = os.urandom(9 * MIB)
    url = await put(store, "key", data)
    assert await get(store, "key") == data
    assert [each.key async for each in store.list()] == ["key"]
    assert (await store.find(url)).key == "key"
    await store.delete("key")
    assert [each async for each in store.list_partial()] == []
    await store.close()


async def test_without_a_prefix_the_store_does_not_list(tmp_path: Path) -> None:
    store = open_store("tested", rbd.settings(prefix=""), tmp_path)
    assert not store.features.lists
    await put(store, "key-without-prefix", b"x")
    assert [each async for each in store.list()] == []
    assert await get(store, "key-without-prefix") == b"x"
    await store.delete("key-without-prefix")
    await store.close()


def test_without_the_distributions_modules_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rados", None)
    with pytest.raises(ConfigurationError, match="python3-rbd"):
        opened(tmp_path, kind="rbd")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "kind: use one of rbd, swift, cinder"),
        ({"kind": "tape"}, "kind = 'tape'"),
        ({"kind": "rbd", "rbd_store_pol": "x"}, "rbd_store_pol.*it has .*rbd_store_pool"),
        ({"kind": "rbd", "rbd_store_chunk_size": "much"}, "rbd_store_chunk_size.*this value"),
        ({"kind": "rbd", "rbd_store_chunk_size": 0}, "rbd_store_chunk_size.*this value"),
        ({"kind": "rbd", "weight": 5}, "weight"),
        ({"kind": "rbd", "prefix": "a/b"}, "prefix"),
        ({"kind": "swift"}, "swift_store_config_file"),
        ({"kind": "swift", "swift_store_multi_tenant": True}, "swift_store_multi_tenant"),
        ({"kind": "cinder"}, "os-brick"),
    ],
)
def test_a_wrong_configuration_is_told_by_its_key(
    tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    rbd.modules()
    with pytest.raises(ConfigurationError, match=says):
        opened(tmp_path, **options)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    settings = StoreSettings(driver="glance_store", path="/srv", options={"kind": "rbd"})
    with pytest.raises(ConfigurationError, match="path"):
        open_store("tested", settings, tmp_path)
