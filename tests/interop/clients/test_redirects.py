"""Downloads that Transom sends to the object store: every client follows, and checks what it gets."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import glanceclient
import pytest
import requests

from tests.conftest import configured
from tests.interop.clients.commands import Preloaded
from tests.interop.conftest import Cloud
from tests.support import ceph, s3
from tests.support.faulty import FaultyServer

pytestmark = pytest.mark.interop

DATA = os.urandom(3_000_000)


@pytest.fixture(scope="module")
def bucket_server() -> Iterator[FaultyServer]:
    """The way to the object store that clients are sent: it tells who came."""
    with FaultyServer(ceph.gateway().url) as server:
        yield server


@pytest.fixture(scope="module")
def redirecting(
    tmp_path_factory: pytest.TempPathFactory, preloaded: Preloaded, bucket_server: FaultyServer
) -> Iterator[Cloud]:
    """A deployment on a bucket whose downloads come from there."""
    keys = s3.options(prefix="interop", redirect=True, redirect_endpoint_url=bucket_server.url)
    stores = {"stores": {"main": {"driver": "s3", **keys}}}
    with configured(tmp_path_factory.mktemp("redirecting"), stores) as server:
        yield Cloud(server, tmp_path_factory.mktemp("home"), preloaded)


@pytest.fixture(scope="module")
def image_id(redirecting: Cloud) -> str:
    demo = redirecting.server.log_in_to_cloud("transom-demo")
    made = demo.create(
        name=f"redirected-{uuid.uuid4().hex}", disk_format="raw", container_format="bare"
    )
    demo.upload(made["id"], DATA)
    return str(made["id"])


@pytest.fixture(autouse=True)
def _the_bucket_was_asked(bucket_server: FaultyServer) -> Iterator[None]:
    before = len(bucket_server.requests("GET", "X-Amz-Signature"))
    yield
    assert len(bucket_server.requests("GET", "X-Amz-Signature")) > before, "nobody was sent there"


def test_openstack_image_save(redirecting: Cloud, image_id: str, tmp_path: Path) -> None:
    target = tmp_path / "image"
    answer = redirecting.openstack("transom-demo").tries(
        "image", "save", "--file", str(target), image_id
    )
    assert answer.status == 0, answer
    assert target.read_bytes() == DATA


def test_glance_image_download(redirecting: Cloud, image_id: str, tmp_path: Path) -> None:
    target = tmp_path / "image"
    answer = redirecting.glance("transom-demo").tries(
        "image-download", "--file", str(target), image_id
    )
    assert answer.status == 0, answer
    assert target.read_bytes() == DATA


def test_openstacksdk_streams_and_checks(redirecting: Cloud, image_id: str, tmp_path: Path) -> None:
    connection = redirecting.sdk("transom-demo")
    target = tmp_path / "image"
    connection.image.download_image(image_id, output=str(target))
    assert target.read_bytes() == DATA
    streamed = connection.image.download_image(image_id, stream=True)
    assert b"".join(streamed.iter_content(65536)) == DATA


def test_glanceclient_on_a_session_as_nova_and_cinder_use_it(
    redirecting: Cloud, image_id: str
) -> None:
    glance: Any = redirecting.glance_library("transom-demo")
    assert b"".join(glance.images.data(image_id)) == DATA


def test_glanceclient_with_a_token_of_its_own(redirecting: Cloud, image_id: str) -> None:
    demo = redirecting.server.log_in_to_cloud("transom-demo")
    glance: Any = glanceclient.Client("2", endpoint=redirecting.server.url, token=demo.token)
    assert (
        hashlib.md5(b"".join(glance.images.data(image_id))).digest() == hashlib.md5(DATA).digest()
    )


def test_requests_keeps_the_range(redirecting: Cloud, image_id: str) -> None:
    demo = redirecting.server.log_in_to_cloud("transom-demo")
    answer = requests.get(
        f"{redirecting.server.url}/v2/images/{image_id}/file",
        headers={"X-Auth-Token": str(demo.token), "Range": "bytes=1000-1999"},
        timeout=30,
    )
    assert (answer.status_code, answer.content) == (206, DATA[1000:2000])
