"""What stores in Google Cloud Storage and Azure owe besides the contract, on the servers of
`tests.support.gcs` and `tests.support.azurite`.

What cannot be had without an account there is the exchange of credentials for tokens: tests go as far
as what is configured, and that nothing but it is used.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import azurite, ceph, gcs
from tests.support.ports import free_port
from tests.support.storing import get, put
from transom.errors import ConfigurationError, StoreFailed, StoreUnavailable
from transom.settings import StoreSettings
from transom.stores import open_store
from transom.stores.store import KeyMissing, Store

MIB = 1024 * 1024
PART = 5 * MIB


@pytest.fixture(params=[gcs, azurite], ids=["gcs", "azure"])
def server(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
async def store(server: Any, tmp_path: Path) -> AsyncIterator[Store]:
    opened = open_store("tested", server.in_folder(tmp_path), tmp_path)
    yield opened
    await opened.close()


@pytest.mark.parametrize("length", [PART - 1, PART, PART + 1, 4 * PART, 4 * PART + 12345])
@pytest.mark.parametrize("is_announced", [True, False], ids=["announced", "unannounced"])
async def test_data_around_the_length_of_parts_is_kept(
    store: Store, length: int, is_announced: bool
) -> None:
    data = os.urandom(length)
    await put(store, "key", data, size_hint=length if is_announced else None)
    assert await get(store, "key") == data
    assert await get(store, "key", offset=PART - 3, length=6) == data[PART - 3 : PART + 3]


async def test_a_key_in_use_is_never_overwritten_by_parts_either(store: Store) -> None:
    await put(store, "key", b"first")
    with pytest.raises(StoreFailed, match="in use"):
        await put(store, "key", os.urandom(3 * PART))
    assert await get(store, "key") == b"first"


async def test_a_location_leads_back_to_its_key(store: Store) -> None:
    url = await put(store, "key", b"x")
    assert url.partition(":")[0] in store.features.schemes
    assert (await store.find(url)).key == "key"
    for other in (url + "2", url + "/x", url.replace("://", "://x"), url.rpartition("/")[0]):
        with pytest.raises(KeyMissing):
            await store.find(other)


async def test_a_cancelled_upload_leaves_no_parts_at_google(tmp_path: Path) -> None:
    store = open_store("tested", gcs.in_folder(tmp_path), tmp_path)

    def uploads() -> list[Any]:
        told = ceph.gateway().client().list_multipart_uploads(Bucket=gcs.bucket())
        found: list[Any] = told.get("Uploads", [])
        return found

    async with store.writer("key", size_hint=8 * PART) as writer:
        for _ in range(20):
            await writer.write(os.urandom(MIB))
        assert len(await asyncio.to_thread(uploads)) == 1
    assert await asyncio.to_thread(uploads) == []
    await store.close()


async def test_an_object_deleted_while_it_is_read_is_told(store: Store) -> None:
    data = os.urandom(30 * MIB)
    await put(store, "key", data, size_hint=len(data))
    reader = await store.read("key")
    pieces = [await anext(aiter(reader))]
    await store.delete("key")
    failure = ""
    try:
        async for piece in reader:
            pieces.append(piece)  # noqa: PERF401 - what came before the error counts
    except StoreFailed as error:
        failure = str(error)
    await reader.close()
    got = b"".join(pieces)
    assert got == data[: len(got)]
    assert len(got) == len(data) or "deleted while it was read" in failure


def wrong_credentials(server: Any) -> dict[str, Any]:
    if server is gcs:
        return {"token": "another"}
    return {"access_key": base64.b64encode(b"another").decode()}


def wrong_place(server: Any) -> dict[str, Any]:
    return {"bucket": "no-such-bucket"} if server is gcs else {"container": "no-such-container"}


@pytest.mark.parametrize("wrong", [wrong_credentials, wrong_place])
async def test_what_an_operator_has_to_mend_is_unavailable(
    server: Any, tmp_path: Path, wrong: Callable[[Any], dict[str, Any]]
) -> None:
    store = open_store("tested", server.settings(**wrong(server), retries_max=0), tmp_path)
    with pytest.raises(StoreUnavailable, match="an operator has to"):
        await store.check()
    with pytest.raises(StoreUnavailable, match="an operator has to"):
        await put(store, "key", b"x")
    with pytest.raises(StoreUnavailable, match="an operator has to"):
        await put(store, "key", os.urandom(2 * PART))


async def test_a_server_that_is_away_is_unavailable_after_its_retries(
    server: Any, tmp_path: Path
) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    store = open_store(
        "tested", server.settings(endpoint_url=away, retries_max=1, timeout_seconds=1), tmp_path
    )
    for call in (store.check(), put(store, "key", b"x"), store.stat("key"), store.delete("key")):
        with pytest.raises(StoreUnavailable):
            await call


async def test_a_server_that_stalls_is_given_up(server: Any, tmp_path: Path) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        address = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        settings = server.settings(endpoint_url=address, retries_max=0, timeout_seconds=1)
        store = open_store("tested", settings, tmp_path)
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await store.check()
        assert time.monotonic() - began < 10


async def test_a_custom_authority_is_trusted_where_it_is_named(tmp_path: Path) -> None:
    gateway = ceph.gateway()
    trusting = gcs.settings(
        endpoint_url=gateway.tls_url, ca_file=str(gateway.authority), retries_max=0
    )
    # The gateway does not know the token, so being refused by it proves that it was reached.
    with pytest.raises((StoreFailed, StoreUnavailable), match=r"answered 4..|an operator has to"):
        await put(open_store("tested", trusting, tmp_path), "key", b"x")
    strict = gcs.settings(endpoint_url=gateway.tls_url, retries_max=0)
    with pytest.raises(StoreUnavailable, match="does not answer as it should"):
        await put(open_store("tested", strict, tmp_path), "key", b"x")
    careless = gcs.settings(endpoint_url=gateway.tls_url, verify=False, retries_max=0)
    with pytest.raises((StoreFailed, StoreUnavailable), match=r"answered 4..|an operator has to"):
        await put(open_store("tested", careless, tmp_path), "key", b"x")


async def test_a_signature_in_a_url_is_not_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = StoreSettings(
        driver="azure",
        options={
            "endpoint_url": f"http://127.0.0.1:{free_port()}/{azurite.ACCOUNT}",
            "account": azurite.ACCOUNT,
            "container": "container",
            "sas_token": "sv=2021-12-02&sig=a-secret-signature",
            "retries_max": 0,
        },
    )
    store = open_store("tested", settings, tmp_path)
    with pytest.raises(StoreUnavailable) as told:
        await store.check()
    shown = capsys.readouterr()
    assert "store.request_failed" in shown.out + shown.err
    assert not re.search("secret-signature", shown.out + shown.err + str(told.value))


ACCOUNT_FILE = {"client_email": "a@b.example", "private_key": "x", "private_key_id": "1"}


@pytest.mark.parametrize(
    ("driver", "options", "says"),
    [
        ("gcs", {}, "bucket"),
        ("gcs", {"bucket": "Upper"}, "bucket = 'Upper'"),
        ("gcs", {"bucket": "images", "container": "x"}, "container.*does not know"),
        ("gcs", {"bucket": "images", "service_account_file": "/nowhere"}, "service_account_file"),
        ("gcs", {"bucket": "images", "service_account_file": "{file}", "token": "x"}, "token"),
        ("gcs", {"bucket": "images", "service_account_file": "{file}"}, "credentials"),
        ("gcs", {"bucket": "images", "token": "x", "prefix": "../x"}, "prefix"),
        ("gcs", {"bucket": "images", "token": "x", "endpoint_url": "ftp://x"}, "endpoint_url"),
        ("gcs", {"bucket": "images", "token": "x", "ca_file": "/nowhere"}, "ca_file"),
        ("gcs", {"bucket": "images", "token": "x", "part_size_bytes": 1}, "part_size_bytes"),
        ("azure", {}, "container"),
        ("azure", {"container": "images"}, "account"),
        ("azure", {"container": "a--b", "account": "images"}, "container = 'a--b'"),
        ("azure", {"container": "images", "account": "images", "access_key": "?"}, "access_key"),
        (
            "azure",
            {"container": "images", "account": "images", "access_key": "eA==", "sas_token": "x"},
            "sas_token",
        ),
        (
            "azure",
            {"container": "images", "account": "images", "client_secret": "x"},
            "client_secret needs",
        ),
    ],
)
def test_a_wrong_configuration_is_told_by_its_key(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    driver: str,
    options: dict[str, Any],
    says: str,
) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    file = tmp_path / "account.json"
    file.write_text(json.dumps(ACCOUNT_FILE))
    filled = {
        key: each.format(file=file) if isinstance(each, str) else each
        for key, each in options.items()
    }
    with pytest.raises(ConfigurationError, match=says):
        open_store("tested", StoreSettings(driver=driver, options=filled), tmp_path)


def test_a_folder_is_refused(server: Any, tmp_path: Path) -> None:
    driver = "gcs" if server is gcs else "azure"
    with pytest.raises(ConfigurationError, match="path"):
        open_store("tested", StoreSettings(driver=driver, path="/srv"), tmp_path)
