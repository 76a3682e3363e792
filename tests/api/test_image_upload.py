"""Upload: PUT /v2/images/{id}/file (API §9.1), digests (lifecycle §6)."""

from __future__ import annotations

import hashlib
import random
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.checks import EMPTY, check_still_queued, queued, wait_for_status
from tests.api.configs import MEMORY_STORE
from tests.conftest import Actors, MakeImage, MakeServer, Running, ServerWith
from tests.support.raw_http import RawConnection
from tests.support.server import Client, ServerProcess, told

MIB = 1 << 20


@pytest.fixture(scope="module")
def big() -> bytes:
    """A little more than 5 MiB that compress badly."""
    return random.Random(7).randbytes(5 * MIB + 4321)


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest) -> Running:
    """A server over each kind of store."""
    if request.param == "file":
        running: Running = request.getfixturevalue("default")
        return running
    server_with: ServerWith = request.getfixturevalue("server_with")
    return server_with(MEMORY_STORE)


def test_upload_makes_the_image_active(store: Running, big: bytes) -> None:
    image_id = queued(store.demo)
    answer = store.demo.put_data(image_id, big)
    assert answer.status_code == 204, told(answer)
    assert answer.content == b""
    assert answer.headers["x-openstack-request-id"].startswith("req-")
    shown = store.demo.show(image_id)
    assert shown["status"] == "active"
    assert shown["size"] == len(big)
    assert shown["virtual_size"] == len(big)
    assert shown["checksum"] == hashlib.md5(big).hexdigest()
    assert shown["os_hash_algo"] == "sha512"
    assert shown["os_hash_value"] == hashlib.sha512(big).hexdigest()
    assert store.demo.get(f"/v2/images/{image_id}/file").content == big
    store.demo.delete(f"/v2/images/{image_id}")


def test_chunked_upload_of_unknown_length(store: Running, big: bytes) -> None:
    image_id = queued(store.demo)
    pieces = (big[start : start + 77_777] for start in range(0, len(big), 77_777))
    assert store.demo.put_data(image_id, pieces).status_code == 204
    shown = store.demo.show(image_id)
    assert shown["size"] == len(big)
    assert shown["os_hash_value"] == hashlib.sha512(big).hexdigest()
    assert store.demo.get(f"/v2/images/{image_id}/file").content == big
    store.demo.delete(f"/v2/images/{image_id}")


@pytest.mark.parametrize("chunked", [False, True])
def test_empty_upload_makes_an_active_image_of_no_bytes(store: Running, chunked: bool) -> None:
    image_id = queued(store.demo, disk_format="qcow2")
    answer = store.demo.put_data(image_id, iter([b""]) if chunked else b"")
    assert answer.status_code == 204, told(answer)
    shown = store.demo.show(image_id)
    assert shown["status"] == "active"
    assert shown["size"] == 0
    assert shown["virtual_size"] is None
    assert shown["checksum"] == "d41d8cd98f00b204e9800998ecf8427e"
    assert shown["os_hash_value"] == hashlib.sha512(b"").hexdigest()
    download = store.demo.get(f"/v2/images/{image_id}/file")
    assert download.status_code == 200
    assert download.content == b""
    assert download.headers["content-length"] == "0"


@pytest.mark.parametrize("size", [1, 511, 512, 65_536, MIB - 1, MIB, MIB + 1, 3 * MIB])
def test_sizes_around_the_buffers(owner: Client, image: MakeImage, size: int) -> None:
    data = random.Random(size).randbytes(size)
    shown = image(data=data)
    assert shown["size"] == size
    assert shown["checksum"] == hashlib.md5(data).hexdigest()
    assert owner.get(f"{shown['file']}").content == data


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "application/json",
        "text/plain",
        "application/octet",
        "application/octet-streams",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
        "application/openstack-images-v2.1-json-patch",
    ],
)
def test_other_content_types_are_refused(
    owner: Client, image: MakeImage, content_type: str | None
) -> None:
    image_id = image(disk_format="raw", container_format="bare")["id"]
    answer = owner.put(
        f"/v2/images/{image_id}/file",
        content=b"data",
        headers={} if content_type is None else {"Content-Type": content_type},
    )
    assert answer.status_code == 415, told(answer)
    check_still_queued(owner, image_id)


def test_parameters_of_the_content_type_are_ignored(owner: Client, image: MakeImage) -> None:
    image_id = image(disk_format="raw", container_format="bare")["id"]
    answer = owner.put_data(
        image_id, b"x", {"Content-Type": "application/octet-stream; charset=binary"}
    )
    assert answer.status_code == 204, told(answer)


@pytest.mark.parametrize(
    "formats",
    [{}, {"disk_format": "raw"}, {"container_format": "bare"}, {"disk_format": None}],
)
def test_formats_have_to_be_set_first(
    owner: Client, image: MakeImage, formats: dict[str, str]
) -> None:
    image_id = image(**formats)["id"]
    answer = owner.put_data(image_id, b"data")
    assert answer.status_code == 400, told(answer)
    shown = owner.show(image_id)
    assert {name: shown[name] for name in EMPTY} == EMPTY
    for name, value in (("disk_format", "raw"), ("container_format", "bare")):
        owner.patch(
            f"/v2/images/{image_id}", [{"op": "replace", "path": f"/{name}", "value": value}]
        )
    check_still_queued(owner, image_id)


class TestAnnouncedSize:
    """The header `x-openstack-image-size`."""

    @pytest.mark.parametrize("chunked", [False, True])
    def test_right_size_is_accepted(self, owner: Client, image: MakeImage, chunked: bool) -> None:
        image_id = image(disk_format="raw", container_format="bare")["id"]
        data: Any = iter([b"da", b"ta"]) if chunked else b"data"
        answer = owner.put_data(image_id, data, {"x-openstack-image-size": "4"})
        assert answer.status_code == 204, told(answer)
        assert owner.show(image_id)["size"] == 4

    @pytest.mark.parametrize("chunked", [False, True])
    @pytest.mark.parametrize("announced", ["3", "5", "0", "1000000000"])
    def test_wrong_size_is_refused(
        self, owner: Client, image: MakeImage, announced: str, chunked: bool
    ) -> None:
        image_id = image(disk_format="raw", container_format="bare")["id"]
        data: Any = iter([b"da", b"ta"]) if chunked else b"data"
        answer = owner.put_data(image_id, data, {"x-openstack-image-size": announced})
        assert answer.status_code == 400, told(answer)
        check_still_queued(owner, image_id)

    @pytest.mark.parametrize("announced", ["abc", "4.0", "-4", "0x4", "4 bytes", "\u0664"])
    def test_no_number_is_refused(self, owner: Client, image: MakeImage, announced: str) -> None:
        image_id = image(disk_format="raw", container_format="bare")["id"]
        answer = owner.put(
            f"/v2/images/{image_id}/file",
            content=b"data",
            headers=[
                (b"Content-Type", b"application/octet-stream"),
                (b"x-openstack-image-size", announced.encode()),
            ],
        )
        assert answer.status_code == 400, told(answer)
        check_still_queued(owner, image_id)


def test_store_header_is_ignored_with_one_store(owner: Client, image: MakeImage) -> None:
    image_id = image(disk_format="raw", container_format="bare")["id"]
    answer = owner.put_data(image_id, b"data", {"X-Image-Meta-Store": "no-such-store"})
    assert answer.status_code == 204, told(answer)


class TestWhen:
    """The status decides whether data may come."""

    def test_active_image_takes_no_more_data(self, owner: Client, image: MakeImage) -> None:
        created = image(data=b"first")
        answer = owner.put_data(created["id"], b"second")
        assert answer.status_code == 409, told(answer)
        assert owner.show(created["id"]) == created
        assert owner.get(created["file"]).content == b"first"

    def test_image_that_is_saving_takes_no_other_data(
        self, server: ServerProcess, owner: Client, image: MakeImage
    ) -> None:
        image_id = image(disk_format="raw", container_format="bare")["id"]
        with open_upload(server, owner, image_id) as connection:
            connection.send_chunk(b"first ")
            wait_for_status(owner, image_id, "saving")
            assert owner.put_data(image_id, b"second").status_code == 409
            connection.send_chunk(b"upload")
            connection.end_chunks()
            answer = connection.read_answer()
        assert answer is not None
        assert answer.status == 204
        assert owner.get(f"/v2/images/{image_id}/file").content == b"first upload"

    def test_of_many_at_once_one_wins(
        self, server: ServerProcess, owner: Client, image: MakeImage
    ) -> None:
        image_id = image(disk_format="raw", container_format="bare")["id"]
        bodies = [bytes([65 + number]) * 300_000 for number in range(6)]
        statuses: list[int] = [0] * len(bodies)
        gate = threading.Barrier(len(bodies))

        def upload(number: int) -> None:
            client = server.client(owner.token)
            gate.wait(10)
            statuses[number] = client.put_data(image_id, bodies[number]).status_code

        threads = [threading.Thread(target=upload, args=(n,)) for n in range(len(bodies))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(statuses) == [204] + [409] * (len(bodies) - 1)
        winner = bodies[statuses.index(204)]
        assert owner.get(f"/v2/images/{image_id}/file").content == winner
        assert owner.show(image_id)["checksum"] == hashlib.md5(winner).hexdigest()

    def test_unknown_image_is_not_found(self, owner: Client) -> None:
        assert owner.put_data(str(uuid.uuid4()), b"x").status_code == 404

    def test_upload_needs_a_token(
        self, server: ServerProcess, owner: Client, image: MakeImage
    ) -> None:
        image_id = image(disk_format="raw", container_format="bare")["id"]
        assert server.client().put_data(image_id, b"x").status_code == 401
        check_still_queued(owner, image_id)

    @pytest.mark.parametrize(
        ("visibility", "who", "status"),
        [
            ("private", "owner", 204),
            ("private", "admin", 204),
            ("private", "owner_reader", 403),
            ("private", "other", 404),
            ("community", "other", 403),
            ("community", "service", 404),
            ("shared", "other", 404),
        ],
    )
    def test_hide_rule(
        self, actors: Actors, image: MakeImage, visibility: str, who: str, status: int
    ) -> None:
        image_id = image(
            actors.owner, visibility=visibility, disk_format="raw", container_format="bare"
        )["id"]
        answer = getattr(actors, who).put_data(image_id, b"x")
        assert answer.status_code == status, told(answer)
        expected = "active" if status == 204 else "queued"
        assert actors.owner.show(image_id)["status"] == expected

    def test_member_of_a_shared_image_may_not_upload(
        self, actors: Actors, image: MakeImage
    ) -> None:
        image_id = image(actors.owner, disk_format="raw", container_format="bare")["id"]
        actors.owner.post(
            f"/v2/images/{image_id}/members", json={"member": actors.member.project_id}
        )
        assert actors.member.put_data(image_id, b"x").status_code == 403

    def test_image_deleted_during_the_upload_is_gone(
        self, server: ServerProcess, owner: Client, image: MakeImage, mark: str
    ) -> None:
        image_id = image(disk_format="raw", container_format="bare")["id"]
        with open_upload(server, owner, image_id) as connection:
            connection.send_chunk(mark.encode() * 10_000)
            wait_for_status(owner, image_id, "saving")
            assert owner.delete(f"/v2/images/{image_id}").status_code == 204
            connection.send_chunk(mark.encode() * 10_000)
            connection.end_chunks()
            answer = connection.read_answer()
        assert answer is not None, "the upload has to be answered"
        assert answer.status == 410
        assert answer.headers["content-type"].startswith("text/plain")
        assert owner.get(f"/v2/images/{image_id}").status_code == 404
        leftovers = [path for path in server.stored_files() if mark.encode() in path.read_bytes()]
        assert leftovers == []


def open_upload(server: ServerProcess, client: Client, image_id: str) -> RawConnection:
    """An upload whose head is sent and whose body is up to the test."""
    connection = RawConnection(server.port)
    connection.send_head(
        "PUT",
        f"/v2/images/{image_id}/file",
        {
            "X-Auth-Token": client.token or "",
            "Content-Type": "application/octet-stream",
            "Transfer-Encoding": "chunked",
        },
    )
    return connection


class TestLeavingHalfWay:
    """A client that goes away leaves a queued image and no file."""

    @pytest.fixture
    def half_way(self, store: Running, mark: str) -> Iterator[tuple[Running, str, bytes]]:
        image_id = queued(store.demo)
        yield store, image_id, mark.encode() * 20_000
        store.demo.delete(f"/v2/images/{image_id}")

    @staticmethod
    def check_nothing_left(store: Running, image_id: str, before: list[Any]) -> None:
        wait_for_status(store.demo, image_id, "queued")
        deadline = time.monotonic() + 5
        while store.server.stored_files() != before and time.monotonic() < deadline:
            time.sleep(0.05)
        assert store.server.stored_files() == before, "a partial file stays in the store"
        check_still_queued(store.demo, image_id)

    @pytest.mark.parametrize("end", ["close", "reset"])
    def test_chunked_body_without_its_end(
        self, half_way: tuple[Running, str, bytes], end: str
    ) -> None:
        store, image_id, data = half_way
        before = store.server.stored_files()
        connection = open_upload(store.server, store.demo, image_id)
        connection.send_chunk(data)
        wait_for_status(store.demo, image_id, "saving")
        connection.reset() if end == "reset" else connection.close()
        self.check_nothing_left(store, image_id, before)

    @pytest.mark.parametrize("end", ["close", "reset"])
    def test_content_length_that_promises_too_much(
        self, half_way: tuple[Running, str, bytes], end: str
    ) -> None:
        store, image_id, data = half_way
        before = store.server.stored_files()
        connection = RawConnection(store.server.port)
        connection.send_head(
            "PUT",
            f"/v2/images/{image_id}/file",
            {
                "X-Auth-Token": store.demo.token or "",
                "Content-Type": "application/octet-stream",
                "Content-Length": str(len(data) + 1),
            },
        )
        connection.send(data)
        wait_for_status(store.demo, image_id, "saving")
        connection.reset() if end == "reset" else connection.close()
        self.check_nothing_left(store, image_id, before)

    def test_content_length_that_promises_too_little(
        self, half_way: tuple[Running, str, bytes]
    ) -> None:
        store, image_id, data = half_way
        with RawConnection(store.server.port) as connection:
            connection.send_head(
                "PUT",
                f"/v2/images/{image_id}/file",
                {
                    "X-Auth-Token": store.demo.token or "",
                    "Content-Type": "application/octet-stream",
                    "Content-Length": "1000",
                },
            )
            connection.send(data)
            answer = connection.read_answer()
        assert answer is not None
        assert answer.status == 204, "the promised bytes came, and they are the body"
        shown = store.demo.show(image_id)
        assert shown["size"] == 1000
        assert shown["checksum"] == hashlib.md5(data[:1000]).hexdigest()
        assert store.demo.get(shown["file"]).content == data[:1000]


class TestDigests:
    """The algorithm is the operator's choice at the time of the upload."""

    @pytest.mark.parametrize("algorithm", ["sha256", "md5", "blake2b"])
    def test_configured_algorithm_is_used(self, make_server: MakeServer, algorithm: str) -> None:
        server = make_server({"images": {"hash_algorithm": algorithm}})
        demo = server.log_in_to_cloud("transom-demo")
        shown = demo.upload(queued(demo), b"data")
        assert shown["os_hash_algo"] == algorithm
        assert shown["os_hash_value"] == hashlib.new(algorithm, b"data").hexdigest()
        assert shown["checksum"] == hashlib.md5(b"data").hexdigest()

    def test_changing_the_option_leaves_present_images_alone(self, make_server: MakeServer) -> None:
        server = make_server()
        demo = server.log_in_to_cloud("transom-demo")
        before = demo.upload(queued(demo), b"data")
        server.restart({"images": {"hash_algorithm": "sha256"}})
        demo = server.log_in_to_cloud("transom-demo")
        assert demo.show(before["id"]) == before
        after = demo.upload(queued(demo), b"data")
        assert after["os_hash_algo"] == "sha256"
        assert after["os_hash_value"] == hashlib.sha256(b"data").hexdigest()


def test_images_and_data_survive_a_restart(make_server: MakeServer, big: bytes) -> None:
    server = make_server()
    demo = server.log_in_to_cloud("transom-demo")
    active = demo.upload(queued(demo, name="stays", tags=["t"], custom="v"), big)
    waiting = demo.create(name="waits")
    server.restart()
    demo = server.log_in_to_cloud("transom-demo")
    assert demo.show(active["id"]) == active
    assert demo.show(waiting["id"]) == waiting
    assert demo.get(active["file"]).content == big


def test_many_uploads_at_once_all_arrive(
    server: ServerProcess, owner: Client, image: MakeImage
) -> None:
    ids = [image(disk_format="raw", container_format="bare")["id"] for _ in range(12)]
    bodies = {image_id: random.Random(image_id).randbytes(400_000) for image_id in ids}
    outcomes: dict[str, int] = {}

    def upload(image_id: str) -> None:
        client = server.client(owner.token)
        outcomes[image_id] = client.put_data(image_id, bodies[image_id]).status_code

    threads = [threading.Thread(target=upload, args=(image_id,)) for image_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert outcomes == dict.fromkeys(ids, 204)
    for image_id in ids:
        assert owner.show(image_id)["checksum"] == hashlib.md5(bodies[image_id]).hexdigest()
        assert owner.get(f"/v2/images/{image_id}/file").content == bodies[image_id]
