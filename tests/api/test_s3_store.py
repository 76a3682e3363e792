"""The API on an S3 store, which stages too: a real radosgw behind a real server."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.checks import check_still_queued, queued, wait_for_status
from tests.conftest import Running, ServerWith, configured
from tests.support import ceph, s3
from tests.support.faulty import FaultyServer, refuse, stall_body
from tests.support.importing import content_of, download, imports, new_image, stage
from tests.support.operator import operate
from tests.support.server import Config, merged, told
from tests.support.waiting import until
from tests.support.web import Web

MIB = 1024 * 1024


def held(image_id: str) -> list[str]:
    """The objects in the bucket that are named after the image."""
    return [name for name in s3.names_below("api") if image_id in name]


def config(prefix: str, **more: Any) -> Config:
    return {
        "stores": {
            "default": "main",
            "staging": "main",
            "announce": "always",
            "main": {"driver": "s3", **s3.options(prefix=prefix, **more)},
        },
        "imports": {
            "methods": ["glance-direct", "web-download"],
            "allowed_hosts": ["127.0.0.1"],
            "allowed_ports": [],
        },
        "images": {"show_direct_url": True},
    }


@pytest.fixture
def bucket(server_with: ServerWith) -> Running:
    """A server whose images lie in a bucket."""
    return server_with(config("api"))


@pytest.mark.parametrize("size_bytes", [0, 1, 3 * MIB, 17 * MIB + 5])
def test_what_is_uploaded_is_downloaded_whole_and_in_parts(
    bucket: Running, size_bytes: int
) -> None:
    data = os.urandom(size_bytes)
    image_id = queued(bucket.demo)
    bucket.demo.upload(image_id, data)
    image = bucket.demo.show(image_id)
    assert image["size"] == size_bytes
    assert image["checksum"] == hashlib.md5(data).hexdigest()
    url = urllib.parse.urlsplit(image["direct_url"])
    assert (url.scheme, url.username, url.password) == ("s3", None, None)
    answer = bucket.demo.get(f"/v2/images/{image_id}/file")
    assert answer.content == data
    if size_bytes > 10:
        for first, last in ((0, 0), (5, 9), (size_bytes - 3, size_bytes - 1)):
            part = bucket.demo.get(
                f"/v2/images/{image_id}/file", headers={"Range": f"bytes={first}-{last}"}
            )
            assert part.status_code == 206, told(part)
            assert part.content == data[first : last + 1]
    assert bucket.demo.delete(f"/v2/images/{image_id}").status_code == 204
    assert held(image_id) == []


def test_staged_data_is_imported_from_bucket_to_bucket(bucket: Running) -> None:
    data = os.urandom(9 * MIB)
    image_id = new_image(bucket.demo)
    assert stage(bucket.demo, image_id, data).status_code == 204
    assert bucket.demo.show(image_id)["status"] == "uploading"
    image = imports(bucket.demo, image_id, "glance-direct")
    assert image["status"] == "active"
    assert content_of(bucket.demo, image_id) == data
    # The staged copy goes after the task has said that it is done.
    until(lambda: len(held(image_id)) == 1, 30)


def test_data_from_the_web_goes_through_the_bucket(bucket: Running) -> None:
    data = os.urandom(12 * MIB + 77)
    with Web() as web:
        image_id = new_image(bucket.demo)
        imports(bucket.demo, image_id, download(web.put("image.raw", data)))
    assert content_of(bucket.demo, image_id) == data
    until(lambda: len(held(image_id)) == 1, 30)


def test_an_upload_that_breaks_off_leaves_a_queued_image_and_nothing_else(
    bucket: Running,
) -> None:
    image_id = queued(bucket.demo)

    def half() -> Iterator[bytes]:
        yield os.urandom(11 * MIB)
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        bucket.demo.put_data(image_id, half())
    wait_for_status(bucket.demo, image_id, "queued")
    deadline = time.monotonic() + 10
    while [name for name in s3.names_below("api") if image_id in name]:
        assert time.monotonic() < deadline, s3.names_below("api")
        time.sleep(0.1)


def test_details_of_the_store_have_the_names_of_glance(bucket: Running) -> None:
    answer = bucket.admin.get("/v2/info/stores/detail")
    assert answer.status_code == 200, told(answer)
    (store,) = answer.json()["stores"]
    assert store["type"] == "s3"
    assert store["properties"] == {
        "s3_store_large_object_size": 8 * MIB,
        "s3_store_large_object_chunk_size": 8 * MIB,
        "s3_store_thread_pools": 4,
    }
    assert "secret" not in answer.text


def test_while_the_server_is_away_uploads_are_503_and_images_go_back_to_queued(
    tmp_path: Path,
) -> None:
    with FaultyServer(ceph.gateway().url) as faulty:
        quick = config("faulty", endpoint_url=faulty.url, timeout_seconds=1, retries_max=1)
        with configured(tmp_path, quick) as server:
            demo = server.log_in_to_cloud("transom-demo")
            kept = demo.create(disk_format="raw", container_format="bare")["id"]
            demo.upload(kept, b"kept")
            assert demo.get("/readyz").status_code == 200
            faulty.go_away()
            refused = queued(demo)
            answer = demo.put_data(refused, os.urandom(100_000))
            assert answer.status_code == 503, told(answer)
            assert demo.show(refused)["status"] == "queued"
            assert demo.get("/readyz").status_code == 503
            assert demo.get(f"/v2/images/{kept}/file").status_code == 503
            faulty.clear()
            assert operate(server, "sweep", "--apply").status == 0
            demo.upload(refused, b"now")
            assert demo.get(f"/v2/images/{kept}/file").content == b"kept"
            stalled = queued(demo)
            faulty.add(stall_body(MIB), method="PUT", path="partNumber")
            answer = demo.put_data(stalled, os.urandom(9 * MIB))
            assert answer.status_code == 503, told(answer)
            check_still_queued(demo, stalled)
            faulty.clear()
            full = queued(demo)
            faulty.add(refuse(403, "QuotaExceeded"), method="PUT")
            answer = demo.put_data(full, b"x")
            assert answer.status_code == 413, told(answer)
            faulty.clear()
            assert demo.get("/readyz").status_code == 200
            log = server.log()
    assert ceph.gateway().secret_key not in log
    left = [name for name in s3.names_below("faulty") if stalled in name]
    assert len(left) == 1, "more than the data of the last upload"


def test_an_upload_whose_server_was_killed_is_cleaned_up_by_the_next_one(tmp_path: Path) -> None:
    with configured(tmp_path, config("killed")) as server:
        demo = server.log_in_to_cloud("transom-demo")
        image_id = queued(demo)

        def slowly() -> Iterator[bytes]:
            yield os.urandom(20 * MIB)
            deadline = time.monotonic() + 15
            while not s3.names_below("killed") and time.monotonic() < deadline:
                time.sleep(0.1)
            assert s3.names_below("killed"), "no part was sent"
            server.kill()
            yield b"never"

        with pytest.raises(httpx.TransportError):
            demo.put_data(image_id, slowly())
        server.start()
        demo = server.log_in_to_cloud("transom-demo")
        wait_for_status(demo, image_id, "queued", seconds=20)
        assert s3.names_below("killed") == []
        demo.upload(image_id, b"again")


def test_a_large_upload_leaves_memory_as_it_was(tmp_path: Path) -> None:
    size_bytes = int(os.environ.get("TRANSOM_TEST_S3_BYTES", 192 * MIB))
    block = os.urandom(MIB)
    with configured(tmp_path, config("large")) as server:
        demo = server.log_in_to_cloud("transom-demo")
        demo.upload(queued(demo), block)
        before = server.rss_bytes()
        most = before
        digest = hashlib.md5()

        def data() -> Iterator[bytes]:
            nonlocal most
            for number in range(size_bytes // MIB):
                digest.update(block)
                if number % 16 == 0:
                    most = max(most, server.rss_bytes())
                yield block

        image_id = queued(demo)
        begun = time.monotonic()
        demo.put_data(image_id, data())
        up = time.monotonic() - begun
        assert demo.show(image_id)["checksum"] == digest.hexdigest()
        got, begun = 0, time.monotonic()
        with demo.http.stream("GET", f"/v2/images/{image_id}/file") as answer:
            for piece in answer.iter_bytes():
                got += len(piece)
                most = max(most, server.rss_bytes()) if got % (16 * MIB) < len(piece) else most
        down = time.monotonic() - begun
        assert got == size_bytes
        assert demo.delete(f"/v2/images/{image_id}").status_code == 204
    print(
        f"{size_bytes // MIB} MiB: up {size_bytes / up / 1e6:.0f} MB/s, "
        f"down {size_bytes / down / 1e6:.0f} MB/s, memory +{(most - before) // MIB} MiB"
    )
    assert most - before < 120 * MIB


# --- sending clients to the bucket ----------------------------------------------------------------


@pytest.fixture
def redirecting(server_with: ServerWith) -> Running:
    """A server that sends downloads to the bucket."""
    return server_with(config("redirect", redirect=True))


def test_a_download_is_sent_to_the_bucket_and_ranges_with_it(redirecting: Running) -> None:
    data = os.urandom(200_000)
    image_id = queued(redirecting.demo)
    redirecting.demo.upload(image_id, data)
    path = f"/v2/images/{image_id}/file"
    answer = redirecting.demo.get(path)
    assert answer.status_code == 307, told(answer)
    assert answer.content == b""
    assert answer.headers["cache-control"] == "no-store"
    location = answer.headers["location"]
    assert location.startswith(s3.options()["endpoint_url"])
    assert httpx.get(location, trust_env=False).content == data
    part = httpx.get(location, headers={"Range": "bytes=10-19"}, trust_env=False)
    assert (part.status_code, part.content) == (206, data[10:20])

    head = redirecting.demo.head(path)
    assert head.status_code == 200
    assert head.headers["content-length"] == str(len(data))
    etag = head.headers["etag"]
    # What speaks of our ETag is answered here.
    assert redirecting.demo.get(path, headers={"If-None-Match": etag}).status_code == 304
    ours = redirecting.demo.get(path, headers={"If-Range": etag, "Range": "bytes=0-4"})
    assert (ours.status_code, ours.content) == (206, data[:5])
    assert redirecting.demo.get(path, headers={"If-Match": '"other"'}).status_code == 412
    assert redirecting.demo.get(path, headers={"Range": "bytes=999999-"}).status_code == 416
    assert redirecting.demo.get(path, headers={"Range": "bytes=0-4"}).status_code == 307
    old = redirecting.demo.get(path, headers={"Content-Range": "bytes 0-4/200000"})
    assert (old.status_code, old.content) == (206, data[:5])


def test_who_may_not_download_is_sent_nowhere(redirecting: Running) -> None:
    image_id = queued(redirecting.demo)
    redirecting.demo.upload(image_id, b"x" * 100)
    other = redirecting.server.client()
    assert other.get(f"/v2/images/{image_id}/file").status_code == 401
    assert redirecting.demo.post(f"/v2/images/{image_id}/actions/deactivate").status_code == 204
    assert redirecting.demo.get(f"/v2/images/{image_id}/file").status_code == 403


def test_an_empty_image_and_lost_data_are_answered_here(redirecting: Running) -> None:
    empty = queued(redirecting.demo)
    redirecting.demo.upload(empty, b"")
    assert redirecting.demo.get(f"/v2/images/{empty}/file").content == b""
    lost = queued(redirecting.demo)
    redirecting.demo.upload(lost, b"x")
    (name,) = [name for name in s3.names_below("redirect") if lost in name]
    ceph.gateway().client().delete_object(Bucket=s3.bucket(), Key=name)
    answer = redirecting.demo.get(f"/v2/images/{lost}/file")
    assert answer.status_code == 404, told(answer)


def test_with_a_cache_nobody_is_sent_away(server_with: ServerWith) -> None:
    running = server_with(merged(config("cached", redirect=True), {"cache": {"enabled": True}}))
    image_id = queued(running.demo)
    running.demo.upload(image_id, b"x" * 1000)
    for _ in range(2):
        answer = running.demo.get(f"/v2/images/{image_id}/file")
        assert (answer.status_code, answer.content) == (200, b"x" * 1000)


def test_curl_follows_with_its_range(redirecting: Running, tmp_path: Path) -> None:
    data = os.urandom(100_000)
    image_id = queued(redirecting.demo)
    redirecting.demo.upload(image_id, data)
    for extra, expected in (([], data), (["-r", "100-199"], data[100:200])):
        done = subprocess.run(
            ["curl", "-sSfL", "--noproxy", "*", "-H", f"X-Auth-Token: {redirecting.demo.token}",
             *extra, f"{redirecting.server.url}/v2/images/{image_id}/file"],
            capture_output=True, check=True,
        )  # fmt: skip
        assert done.stdout == expected
