"""What the S3 store does beyond the contract: its options, TLS, credentials, listings of many pages,
parts that grow, and links, on a real radosgw."""

from __future__ import annotations

import asyncio
import os
import socket
import urllib.request
from pathlib import Path
from typing import Any, cast

import pytest

from tests.contracts.test_store import all_of, get, is_empty, put
from tests.support import ceph, s3
from transom.errors import ConfigurationError, StoreFailed, StoreUnavailable
from transom.settings import StoreSettings, load, shown
from transom.stores import open_store
from transom.stores.buckets import MIB
from transom.stores.drivers.s3 import S3Store
from transom.stores.drivers.s3 import bucket as bucket_module
from transom.stores.drivers.s3.options import read_options
from transom.stores.drivers.s3.parts import PARTS_MAX, Memory, part_size
from transom.stores.measured import MeasuredStore
from transom.stores.store import KeyMissing, LinkingStore

GIB = 1024 * MIB
TIB = 1024 * GIB


def opened(folder: Path, **more: Any) -> S3Store:
    return S3Store("tested", s3.settings(**{"prefix": s3.prefix_of(folder)} | more), folder)


def options(**given: Any) -> StoreSettings:
    return StoreSettings(driver="s3", options=given)


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({}, "bucket: give the name"),
        ({"bucket": "a/b"}, "bucket"),
        ({"bucket": "images", "prefix": "../x"}, "prefix"),
        ({"bucket": "images", "prefix": "a/.hidden"}, "prefix"),
        ({"bucket": "images", "endpoint_url": "localhost:9000"}, "endpoint_url: give http"),
        ({"bucket": "images", "endpoint_url": "http://key:hush@host"}, "endpoint_url: give http"),
        ({"bucket": "images", "access_key": "a"}, "secret_key go together"),
        ({"bucket": "images", "ca_file": "/no/such/file"}, "ca_file.*no such file"),
        ({"bucket": "images", "part_size_bytes": 1024}, "part_size_bytes.*from 5242880"),
        ({"bucket": "images", "parallel_parts": 0}, "parallel_parts.*from 1"),
        ({"bucket": "images", "timeout_seconds": 0}, "timeout_seconds.*above 0"),
        ({"bucket": "images", "retries_max": "many"}, "retries_max"),
        ({"bucket": "images", "addressing": "host"}, "addressing.*auto, path, virtual"),
        ({"bucket": "images", "sign_payload": "maybe"}, "sign_payload.*auto, true, false"),
        ({"bucket": "images", "verify": "perhaps"}, "verify.*true or false"),
        ({"bucket": "images", "redirect_seconds": 10**9}, "redirect_seconds"),
        (
            {"bucket": "images", "redirect_endpoint_url": "https://h"},
            "does nothing without redirect",
        ),
        ({"bucket": "images", "buckit": "c"}, "buckit.*does not know this key"),
    ],
)
def test_wrong_options_are_refused_by_name(given: dict[str, Any], names: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^stores\.tested\.(.*){names}") as refused:
        read_options("tested", options(**given))
    assert "hush" not in str(refused.value)


def test_a_folder_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="use prefix"):
        read_options(
            "tested", StoreSettings(driver="s3", path="/srv", options={"bucket": "images"})
        )


def test_options_come_from_the_environment_and_secrets_are_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "transom.toml"
    file.write_text('[stores.main]\ndriver = "s3"\nbucket = "images"\n')
    environment = {
        f"TRANSOM_STORES__MAIN__{key}": value
        for key, value in {
            "ACCESS_KEY": "AKIA123", "SECRET_KEY": "hush-hush", "SESSION_TOKEN": "silence",
            "PARALLEL_PARTS": "7", "REDIRECT": "true", "TIMEOUT_SECONDS": "1.5",
            "SIGN_PAYLOAD": "false",
        }.items()
    }  # fmt: skip
    settings = load(file, tmp_path, environment)
    found = read_options("main", settings.stores.named["main"])
    assert (found.parallel_parts, found.redirect, found.timeout_seconds) == (7, True, 1.5)
    assert (found.access_key, found.secret_key) == ("AKIA123", "hush-hush")
    assert found.is_payload_signed is False
    text = shown(settings)
    for secret in ("AKIA123", "hush-hush", "silence"):
        assert secret not in text


def test_payloads_are_signed_where_nothing_else_guards_them() -> None:
    plain = read_options("tested", options(bucket="images", endpoint_url="http://h"))
    secure = read_options("tested", options(bucket="images", endpoint_url="https://h"))
    assert plain.is_payload_signed
    assert not secure.is_payload_signed


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({"endpoint_url": "http://H:7480"}, "s3://h:7480/images/p/key"),
        ({"endpoint_url": "https://h/"}, "s3+https://h/images/p/key"),
        ({"region": "eu-west-1"}, "s3+https://s3.eu-west-1.amazonaws.com/images/p/key"),
        ({}, "s3+https://s3.us-east-1.amazonaws.com/images/p/key"),
    ],
)
async def test_urls_are_those_of_glance_without_its_secrets(
    tmp_path: Path, given: dict[str, str], url: str
) -> None:
    store = S3Store(
        "tested",
        options(bucket="images", prefix="p", access_key="AKIA123", secret_key="hush", **given),
        tmp_path,
    )
    assert store.url("key") == url
    await store.close()


# --- parts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("largest", [1 * GIB, 100 * GIB, 1 * TIB, 5 * TIB])
@pytest.mark.parametrize("hint_of", [0, 0.001, 0.5, 1])
def test_as_many_parts_as_servers_take_are_enough_for_the_largest_image(
    largest: int, hint_of: float
) -> None:
    hint = int(largest * hint_of)
    offset = number = 0
    while offset < largest:
        number += 1
        size_bytes = part_size(
            number, offset, part_bytes=8 * MIB, size_bytes_max=largest, size_hint=hint
        )
        assert size_bytes <= 5 * GIB
        offset += size_bytes
    assert number <= PARTS_MAX


def test_parts_stay_small_while_the_object_does() -> None:
    def size_at(number: int, offset: int, hint: int) -> int:
        return part_size(number, offset, part_bytes=8 * MIB, size_bytes_max=TIB, size_hint=hint)

    assert {size_at(number, number * 8 * MIB, 0) for number in range(1, 501)} == {8 * MIB}
    assert size_at(1, 0, 50 * GIB) == 8 * MIB
    assert size_at(1, 0, TIB) == 140 * MIB


def test_buffers_are_used_again_up_to_a_bound() -> None:
    memory = Memory()
    buffers = [memory.take() for _ in range(20)]
    for buffer in buffers:
        buffer.write(b"x" * (8 * MIB))
        memory.give_back(buffer)
    assert len(memory._spare) * 8 * MIB <= 32 * MIB
    again = memory.take()
    assert again in buffers
    again.write(b"short")
    again.truncate(5)
    again.seek(0)
    assert again.read() == b"short"


async def test_an_object_of_many_parts_is_what_was_written(tmp_path: Path) -> None:
    store = opened(tmp_path, part_size_bytes=5 * MIB, parallel_parts=2)
    data = os.urandom(23 * MIB + 1)
    async with store.writer("key", size_hint=len(data)) as writer:
        for at in range(0, len(data), 1_300_000):
            await writer.write(data[at : at + 1_300_000])
        assert len(writer._running) <= 2
        await writer.commit()
    assert await get(store, "key") == data
    assert await get(store, "key", offset=5 * MIB - 1, length=2) == data[5 * MIB - 1 : 5 * MIB + 1]
    assert not store._bucket.memory.running_bytes
    await store.close()


async def test_memory_that_all_writers_share_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transom.stores.drivers.s3.parts._RUNNING_BYTES_MAX", 10 * MIB)
    store = opened(tmp_path, part_size_bytes=5 * MIB)
    most = 0

    async def write(number: int) -> None:
        nonlocal most
        async with store.writer(f"key{number}") as writer:
            for _ in range(11):
                await writer.write(bytes(MIB))
                most = max(most, store._bucket.memory.running_bytes)
            await writer.commit()

    await asyncio.gather(*(write(number) for number in range(6)))
    assert most <= 10 * MIB + 6 * 5 * MIB
    for number in range(6):
        assert (await store.stat(f"key{number}")).size_bytes == 11 * MIB
    await store.close()


async def test_in_a_crowd_objects_begin_with_the_shortest_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transom.stores.drivers.s3.writer.CROWD_BYTES", 8 * MIB)
    store = opened(tmp_path, part_size_bytes=6 * MIB)
    data = os.urandom(13 * MIB)
    async with store.writer("alone") as first:
        await first.write(data[:MIB])
        async with store.writer("crowded") as second:
            await second.write(data)
            # What began alone keeps its parts: some servers want them to be of one length.
            await first.write(data[MIB:])
            await second.commit()
        await first.commit()
        assert [part.size_bytes for part in first._parts] == [6 * MIB, 6 * MIB, MIB]
        assert [part.size_bytes for part in second._parts] == [5 * MIB, 5 * MIB, 3 * MIB]
    for key in ("alone", "crowded"):
        assert await get(store, key) == data
    await store.close()


# --- listings -------------------------------------------------------------------------------------


async def test_listings_of_many_pages_tell_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path)
    pages = store._bucket.pages

    def short_pages(operation: str, **parameters: Any) -> Any:
        name = {"list_objects_v2": "MaxKeys", "list_multipart_uploads": "MaxUploads",
                "list_parts": "MaxParts"}[operation]  # fmt: skip
        return pages(operation, **{name: 2}, **parameters)

    monkeypatch.setattr(store._bucket, "pages", short_pages)
    for number in range(5):
        await put(store, f"whole{number}", b"x")
    path = store._bucket.path
    uploads = {
        f"part{number}": (
            await store._bucket.call("create_multipart_upload", Key=path(f"part{number}"))
        )["UploadId"]
        for number in range(5)
    }
    async with store.writer("tail") as writer:
        await writer.write(b"12345")
        await writer.flush()
        await writer.detach()
    body = bucket_module.Buffer()
    body.write(b"z" * (5 * MIB))
    for number in range(1, 4):
        await store._bucket.call(
            "upload_part",
            Key=path("part0"),
            UploadId=uploads["part0"],
            PartNumber=number,
            body=body,
        )
    assert set(await all_of(store.list())) == {f"whole{number}" for number in range(5)}
    partial = await all_of(store.list_partial())
    assert set(partial) == {*uploads, "tail"}
    assert partial["part0"].size_bytes == 15 * MIB
    assert partial["tail"].size_bytes == 5
    for key in (*uploads, "tail", *(f"whole{number}" for number in range(5))):
        await store.delete(key)
    assert await is_empty(store)
    await store.close()


async def test_stores_with_other_prefixes_in_the_bucket_do_not_see_each_other(
    tmp_path: Path,
) -> None:
    outer, prefix = opened(tmp_path), s3.prefix_of(tmp_path)
    inner = opened(tmp_path, prefix=f"{prefix}/inner")
    for store in (outer, inner):
        await put(store, "whole", store.url("whole").encode())
        async with store.writer("partial") as writer:
            await writer.write(b"x")
            await writer.flush()
            await writer.detach()
    for store in (outer, inner):
        assert set(await all_of(store.list())) == {"whole"}
        assert set(await all_of(store.list_partial())) == {"partial"}
    for key in ("whole", "partial"):
        await inner.delete(key)
    assert await is_empty(inner)
    assert await get(outer, "whole") == outer.url("whole").encode()
    assert set(await all_of(outer.list_partial())) == {"partial"}
    for store in (outer, inner):
        await store.close()


# --- TLS and credentials --------------------------------------------------------------------------


async def test_tls_with_an_authority_of_its_own(tmp_path: Path) -> None:
    gateway = ceph.gateway()
    secure = opened(tmp_path, endpoint_url=gateway.tls_url, ca_file=str(gateway.authority))
    data = os.urandom(9 * MIB)
    await secure.check()
    await put(secure, "key", data)
    assert await get(secure, "key", offset=8 * MIB) == data[8 * MIB :]
    assert secure.url("key").startswith("s3+https://")
    await secure.close()


async def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    strict = opened(tmp_path, endpoint_url=ceph.gateway().tls_url)
    with pytest.raises(StoreUnavailable, match="ca_file"):
        await strict.check()
    await strict.close()
    trusting = opened(tmp_path, endpoint_url=ceph.gateway().tls_url, verify=False)
    await trusting.check()
    await trusting.close()


async def test_credentials_come_from_the_environment_or_the_shared_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = ceph.gateway()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))

    def without_keys(**more: Any) -> S3Store:
        return opened(tmp_path, access_key="", secret_key="", **more)

    store = without_keys()
    with pytest.raises(StoreUnavailable, match="no credentials"):
        await store.check()
    await store.close()

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", gateway.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", gateway.secret_key)
    store = without_keys()
    await store.check()
    await store.close()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    file = tmp_path / "credentials"
    file.write_text(
        f"[images]\naws_access_key_id = {gateway.access_key}\n"
        f"aws_secret_access_key = {gateway.secret_key}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    store = without_keys(profile="images")
    await store.check()
    await store.close()
    store = without_keys(profile="others")
    with pytest.raises(StoreUnavailable, match="others"):
        await store.check()
    await store.close()


async def test_wrong_credentials_and_those_of_others_say_so(tmp_path: Path) -> None:
    gateway = ceph.gateway()
    for wrong, told in (
        ({"access_key": "nobody"}, "refuses the credentials"),
        ({"secret_key": "wrong"}, "refuses the credentials"),
        (dict(zip(("access_key", "secret_key"), gateway.user(), strict=True)), "AccessDenied"),
    ):
        store = opened(tmp_path, **wrong)
        with pytest.raises(StoreUnavailable, match=told) as refused:
            await store.check()
        assert gateway.secret_key not in str(refused.value)
        with pytest.raises(StoreUnavailable, match="credentials"):
            await put(store, "key", b"x")
        await store.close()


async def test_the_bucket_may_stand_before_the_name_of_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: set[str] = set()
    resolve = socket.getaddrinfo

    def resolve_below_localhost(host: str, *arguments: Any, **more: Any) -> Any:
        asked.add(host)
        return resolve("127.0.0.1" if host.endswith(".localhost") else host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_below_localhost)
    elsewhere = ceph.gateway().url.replace("127.0.0.1", "localhost")
    store = opened(tmp_path, endpoint_url=elsewhere, addressing="virtual", redirect=True)
    data = os.urandom(9 * MIB)
    await put(store, "key", data)
    assert await get(store, "key") == data
    assert f"{s3.bucket()}.localhost" in asked
    assert "localhost" not in asked
    assert f"//{s3.bucket()}.localhost:" in await store.link("key")
    assert set(await all_of(store.list())) == {"key"}
    await store.close()


# --- links ----------------------------------------------------------------------------------------


async def test_a_link_gives_the_object_and_its_ranges_without_further_proof(tmp_path: Path) -> None:
    store = opened(tmp_path, redirect=True)
    assert store.features.links
    linking: LinkingStore = store
    data = os.urandom(100_000)
    await put(store, "key", data)
    link = await linking.link("key")
    assert ceph.gateway().secret_key not in link
    measured = cast("LinkingStore", MeasuredStore(store))
    assert (await measured.link("key")).startswith(link.partition("?")[0] + "?")

    def fetch(**headers: str) -> tuple[int, bytes]:
        with urllib.request.urlopen(urllib.request.Request(link, headers=headers)) as answer:
            return answer.status, answer.read()

    assert await asyncio.to_thread(fetch) == (200, data)
    ranged = await asyncio.to_thread(fetch, Range="bytes=5-9")
    assert ranged == (206, data[5:10])
    with pytest.raises(KeyMissing):
        await linking.link("nothing")
    await store.close()


async def test_a_link_ends_and_leads_where_clients_reach_the_server(tmp_path: Path) -> None:
    gateway = ceph.gateway()
    elsewhere = gateway.url.replace("127.0.0.1", "localhost")
    store = opened(tmp_path, redirect=True, redirect_seconds=5, redirect_endpoint_url=elsewhere)
    await put(store, "key", b"x")
    link = await store.link("key")
    assert link.startswith(elsewhere + "/")

    def fetch() -> bytes:
        with urllib.request.urlopen(link) as answer:
            content: bytes = answer.read()
            return content

    assert await asyncio.to_thread(fetch) == b"x"
    await asyncio.sleep(5.1)
    with pytest.raises(OSError, match="403"):
        await asyncio.to_thread(fetch)
    await store.close()


async def test_without_redirect_there_are_no_links(tmp_path: Path) -> None:
    store = opened(tmp_path)
    assert not store.features.links
    await store.close()


async def test_a_location_is_found_by_its_very_url_alone(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await put(store, "key", b"12345")
    url = store.url("key")
    assert (await store.find(url)).size_bytes == 5
    for other in (
        url.replace("s3://", "s3://user:secret@"), url + "?versionId=1", url + "x", url + "/",
        url.replace("s3://", "s3+https://"), url.replace("/key", "/./key"),
        url.replace("/key", "//key"), url.replace("key", "%6bey"), "s3://", "",
    ):  # fmt: skip
        with pytest.raises(KeyMissing):
            await store.find(other)
    await store.close()


async def test_a_key_that_another_process_took_is_in_use(tmp_path: Path) -> None:
    ours, theirs = opened(tmp_path), opened(tmp_path)
    async with ours.writer("key") as writer:
        await writer.write(b"ours")
        await put(theirs, "key", b"theirs")
        with pytest.raises(StoreFailed, match="in use"):
            await writer.commit()
    assert await get(ours, "key") == b"theirs", "what is not ours was removed"
    for store in (ours, theirs):
        await store.close()


def test_a_driver_without_its_library_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    for name in [each for each in sys.modules if each.startswith("transom.stores.drivers.s3")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aiobotocore", None)
    monkeypatch.setitem(sys.modules, "aiobotocore.config", None)
    with pytest.raises(ConfigurationError, match="aiobotocore"):
        open_store("tested", options(bucket="images"), tmp_path)
