"""Download: GET and HEAD /v2/images/{id}/file, ranges and conditions (API §9.2, RFC 9110)."""

from __future__ import annotations

import hashlib
import random
import uuid
from typing import NamedTuple

import httpx
import pytest

from tests.api.configs import MEMORY_STORE
from tests.conftest import Actors, MakeImage, Running
from tests.support.server import Client, ServerProcess, told

TEN = b"0123456789"
MIB = 1 << 20
BIG = random.Random(11).randbytes(3 * MIB + 12_345)


class Stored(NamedTuple):
    """Images with data in one kind of store, and who may read them."""

    client: Client
    admin: Client
    ten: str
    big: str
    empty: str
    queued: str

    def get(self, image_id: str, **headers: str) -> httpx.Response:
        """Download with headers; `_` stands for `-` in their names."""
        return self.client.get(
            f"/v2/images/{image_id}/file",
            headers={name.replace("_", "-"): text for name, text in headers.items()},
        )

    def head(self, image_id: str, **headers: str) -> httpx.Response:
        """HEAD with headers."""
        return self.client.head(
            f"/v2/images/{image_id}/file",
            headers={name.replace("_", "-"): text for name, text in headers.items()},
        )


@pytest.fixture(scope="module", params=["file", "memory"])
def store(request: pytest.FixtureRequest) -> Stored:
    """Images over each kind of store."""
    running: Running = (
        request.getfixturevalue("default")
        if request.param == "file"
        else request.getfixturevalue("server_with")(MEMORY_STORE)
    )
    demo = running.demo
    ids = [demo.create(disk_format="raw", container_format="bare")["id"] for _ in range(4)]
    for image_id, data in zip(ids, (TEN, BIG, b""), strict=False):
        demo.upload(image_id, data)
    return Stored(demo, running.admin, *ids)


def etag_of(data: bytes) -> str:
    """The strong validator of image data: its os_hash_value."""
    return f'"{hashlib.sha512(data).hexdigest()}"'


class TestWhole:
    """Without Range."""

    @pytest.mark.parametrize("which", ["ten", "big", "empty"])
    def test_whole_data_with_its_headers(self, store: Stored, which: str) -> None:
        data = {"ten": TEN, "big": BIG, "empty": b""}[which]
        answer = store.get(getattr(store, which))
        assert answer.status_code == 200
        assert answer.content == data
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-length"] == str(len(data))
        assert answer.headers["content-md5"] == hashlib.md5(data).hexdigest(), "hex, not base64"
        assert answer.headers["etag"] == etag_of(data)
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["x-openstack-request-id"].startswith("req-")
        assert "content-range" not in answer.headers
        assert "content-encoding" not in answer.headers

    @pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-4"}, {"Range": "bytes=abc"}])
    def test_image_without_data_is_204(self, store: Stored, headers: dict[str, str]) -> None:
        answer = store.get(store.queued, **headers)
        assert answer.status_code == 204, told(answer)
        assert answer.content == b""

    def test_the_same_data_can_be_read_often(self, store: Stored) -> None:
        assert {store.get(store.ten).content for _ in range(5)} == {TEN}

    def test_body_on_download_is_refused(self, store: Stored) -> None:
        answer = store.client.request("GET", f"/v2/images/{store.ten}/file", content=b"{}")
        assert answer.status_code == 400, told(answer)

    def test_reader_that_leaves_half_way_disturbs_nobody(self, store: Stored) -> None:
        with store.client.http.stream("GET", f"/v2/images/{store.big}/file") as answer:
            next(answer.iter_raw(1000))
        assert store.get(store.big).content == BIG


class TestRange:
    """One range of bytes."""

    @pytest.mark.parametrize(
        ("text", "first", "last"),
        [
            ("bytes=0-4", 0, 4),
            ("bytes=5-", 5, 9),
            ("bytes=-3", 7, 9),
            ("bytes=9-9", 9, 9),
            ("bytes=0-0", 0, 0),
            ("bytes=0-9", 0, 9),
            ("bytes=0-", 0, 9),
            ("bytes=0-100", 0, 9),
            ("bytes=3-18446744073709551616", 3, 9),
            ("bytes=-30", 0, 9),
            ("bytes=-10", 0, 9),
            ("bytes=-1", 9, 9),
            ("bytes=007-008", 7, 8),
        ],
    )
    def test_satisfiable_range_is_206(
        self, store: Stored, text: str, first: int, last: int
    ) -> None:
        answer = store.get(store.ten, Range=text)
        assert answer.status_code == 206, told(answer)
        assert answer.content == TEN[first : last + 1]
        assert answer.headers["content-range"] == f"bytes {first}-{last}/10"
        assert answer.headers["content-length"] == str(last - first + 1)
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-md5"] == hashlib.md5(TEN).hexdigest(), "of the whole"
        assert answer.headers["etag"] == etag_of(TEN)

    @pytest.mark.parametrize(
        "text",
        [
            "bytes=10-",
            "bytes=10-12",
            "bytes=11-",
            "bytes=5-4",
            "bytes=",
            "bytes=-",
            "bytes=-0",
            "bytes=abc-",
            "bytes=0-abc",
            "bytes=0",
            "bytes=--1",
            "bytes=0-4-8",
            "bytes=0x0-0x4",
            "bytes=1.0-2.0",
            "bytes 0-4",
            "lines=0-4",
            "=0-4",
            "0-4",
            "free text",
            "bytes=18446744073709551616-",
        ],
    )
    def test_other_range_is_416_and_tells_the_size(self, store: Stored, text: str) -> None:
        answer = store.get(store.ten, Range=text)
        assert answer.status_code == 416, told(answer)
        assert answer.headers["content-range"] == "bytes */10"

    @pytest.mark.parametrize("text", ["bytes=0-1,3-4", "bytes=0-1, 3-4", "bytes=0-1,-1"])
    def test_several_ranges_are_refused(self, store: Stored, text: str) -> None:
        answer = store.get(store.ten, Range=text)
        assert answer.status_code == 400, told(answer)

    @pytest.mark.parametrize("text", ["bytes=0-", "bytes=0-0", "bytes=1-2"])
    def test_no_range_of_no_bytes_can_be_given(self, store: Stored, text: str) -> None:
        answer = store.get(store.empty, Range=text)
        assert answer.status_code == 416, told(answer)
        assert answer.headers["content-range"] == "bytes */0"

    def test_suffix_of_no_bytes(self, store: Stored) -> None:
        assert store.get(store.empty, Range="bytes=-1").status_code in (206, 416)

    @pytest.mark.parametrize("seed", range(12))
    def test_any_part_of_a_large_image(self, store: Stored, seed: int) -> None:
        dice = random.Random(seed)
        edges = [0, 1, 65_535, 65_536, MIB - 1, MIB, MIB + 1, 2 * MIB, len(BIG) - 1]
        first = dice.choice([*edges, dice.randrange(len(BIG))])
        last = min(first + dice.choice([0, 1, 4095, 65_536, MIB, len(BIG)]), len(BIG) - 1)
        answer = store.get(store.big, Range=f"bytes={first}-{last}")
        assert answer.status_code == 206, told(answer)
        assert answer.content == BIG[first : last + 1]
        assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(BIG)}"

    def test_parts_make_the_whole(self, store: Stored) -> None:
        step = 700_001
        parts = [
            store.get(store.big, Range=f"bytes={start}-{start + step - 1}").content
            for start in range(0, len(BIG), step)
        ]
        assert b"".join(parts) == BIG

    @pytest.mark.parametrize("text", ["bytes 0-4/*", "bytes 0-4/10"])
    def test_content_range_of_old_clients_is_a_range(self, store: Stored, text: str) -> None:
        answer = store.get(store.ten, Content_Range=text)
        assert answer.status_code == 206, told(answer)
        assert answer.content == TEN[:5]
        assert answer.headers["content-range"] == "bytes 0-4/10"

    @pytest.mark.parametrize(
        "text", ["bytes 5-20/*", "bytes 10-12/*", "bytes 0-4", "bytes=0-4", "bytes 4-0/*", "junk"]
    )
    def test_content_range_beyond_the_data_or_malformed_is_416(
        self, store: Stored, text: str
    ) -> None:
        answer = store.get(store.ten, Content_Range=text)
        assert answer.status_code == 416, told(answer)
        assert answer.headers["content-range"] == "bytes */10"

    def test_content_range_is_looked_at_only_without_range(self, store: Stored) -> None:
        answer = store.get(store.ten, Content_Range="bytes 0-4/*", Range="bytes=8-9")
        assert answer.status_code == 206
        assert answer.content == TEN[8:]


class TestConditions:
    """Conditional requests with the strong validator (RFC 9110 §13)."""

    @pytest.mark.parametrize(
        "form",
        ["{etag}", "W/{etag}", "*", '"other", {etag}', '{etag}, "other"', '"a","b" ,{etag}'],
    )
    def test_if_none_match_that_matches_is_304(self, store: Stored, form: str) -> None:
        condition = form.format(etag=etag_of(TEN))
        for answer in (
            store.get(store.ten, If_None_Match=condition),
            store.head(store.ten, If_None_Match=condition),
            store.get(store.ten, If_None_Match=condition, Range="bytes=0-1"),
        ):
            assert answer.status_code == 304, told(answer)
            assert answer.content == b""
            assert answer.headers["etag"] == etag_of(TEN)

    @pytest.mark.parametrize("condition", ['"other"', 'W/"other"', '""', '"a", "b"'])
    def test_if_none_match_of_other_data_gives_it(self, store: Stored, condition: str) -> None:
        answer = store.get(store.ten, If_None_Match=condition)
        assert answer.status_code == 200
        assert answer.content == TEN

    @pytest.mark.parametrize("form", ["{etag}", "*", '"other", {etag}'])
    def test_if_match_that_matches_gives_the_data(self, store: Stored, form: str) -> None:
        condition = form.format(etag=etag_of(TEN))
        assert store.get(store.ten, If_Match=condition).content == TEN
        part = store.get(store.ten, If_Match=condition, Range="bytes=2-3")
        assert part.status_code == 206
        assert part.content == b"23"

    @pytest.mark.parametrize("form", ['"other"', "W/{etag}", '"a", "b"'])
    def test_if_match_of_other_data_is_412(self, store: Stored, form: str) -> None:
        condition = form.format(etag=etag_of(TEN))
        for answer in (
            store.get(store.ten, If_Match=condition),
            store.head(store.ten, If_Match=condition),
            store.get(store.ten, If_Match=condition, Range="bytes=0-1"),
        ):
            assert answer.status_code == 412, told(answer)
            assert answer.content != TEN

    def test_if_range_that_matches_gives_the_part(self, store: Stored) -> None:
        answer = store.get(store.ten, If_Range=etag_of(TEN), Range="bytes=2-3")
        assert answer.status_code == 206, told(answer)
        assert answer.content == b"23"

    @pytest.mark.parametrize(
        "form", ['"other"', "W/{etag}", "Wed, 21 Oct 2015 07:28:00 GMT", "junk"]
    )
    def test_if_range_of_other_data_gives_the_whole(self, store: Stored, form: str) -> None:
        condition = form.format(etag=etag_of(TEN))
        answer = store.get(store.ten, If_Range=condition, Range="bytes=2-3")
        assert answer.status_code == 200, told(answer)
        assert answer.content == TEN
        assert "content-range" not in answer.headers

    def test_if_range_of_other_data_makes_a_wrong_range_harmless(self, store: Stored) -> None:
        answer = store.get(store.ten, If_Range='"other"', Range="bytes=100-")
        assert answer.status_code == 200, told(answer)

    def test_if_range_that_matches_keeps_a_wrong_range_wrong(self, store: Stored) -> None:
        answer = store.get(store.ten, If_Range=etag_of(TEN), Range="bytes=100-")
        assert answer.status_code == 416, told(answer)

    def test_if_range_without_range_is_ignored(self, store: Stored) -> None:
        assert store.get(store.ten, If_Range='"other"').content == TEN


class TestHead:
    """HEAD tells what GET would, without the data."""

    @pytest.mark.parametrize("which", ["ten", "big", "empty"])
    def test_head_has_the_headers_of_get(self, store: Stored, which: str) -> None:
        image_id = getattr(store, which)
        head, get = store.head(image_id), store.get(image_id)
        assert head.status_code == 200
        assert head.content == b""
        for name in ("content-length", "content-type", "content-md5", "etag", "accept-ranges"):
            assert head.headers[name] == get.headers[name], name

    def test_head_ignores_range(self, store: Stored) -> None:
        answer = store.head(store.ten, Range="bytes=0-1")
        assert answer.status_code == 200, "RFC 9110 14.2 defines ranges for GET only"
        assert answer.headers["content-length"] == "10"

    def test_head_without_data_is_204(self, store: Stored) -> None:
        assert store.head(store.queued).status_code == 204

    def test_head_of_an_unknown_image_is_404_without_a_body(self, store: Stored) -> None:
        answer = store.head(str(uuid.uuid4()))
        assert answer.status_code == 404
        assert answer.content == b""


class TestWho:
    """Who may download."""

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.parametrize(
        ("who", "status"),
        [
            ("owner", 200),
            ("admin", 200),
            ("owner_reader", 403),
            ("other", 404),
            ("other_reader", 404),
            ("service", 404),
            ("norole", 404),
        ],
    )
    def test_private_image(
        self, actors: Actors, image: MakeImage, method: str, who: str, status: int
    ) -> None:
        created = image(actors.owner, data=b"secret", visibility="private")
        answer = getattr(actors, who).request(method, created["file"])
        assert answer.status_code == status, told(answer)
        assert (b"secret" in answer.content) == (status == 200 and method == "GET")

    def test_download_needs_a_token(
        self, server: ServerProcess, admin: Client, image: MakeImage
    ) -> None:
        created = image(admin, data=b"x", visibility="public")
        assert server.client().get(created["file"]).status_code == 401
        assert server.client().head(created["file"]).status_code == 401

    def test_unknown_image_is_not_found(self, owner: Client) -> None:
        assert owner.get(f"/v2/images/{uuid.uuid4()}/file").status_code == 404


def test_data_that_is_missing_from_the_store_is_not_found(
    server: ServerProcess, owner: Client, image: MakeImage, mark: str
) -> None:
    content = mark.encode() * 1003
    created = image(data=content)
    for path in server.stored_files():
        if path.stat().st_size == len(content) and path.read_bytes() == content:
            path.unlink()
    answer = owner.get(created["file"])
    assert answer.status_code == 404, told(answer)
    assert owner.show(created["id"])["status"] == "active"
