"""kill -9 during uploads: after the restart everything is whole or as if it had never begun.

An image is `queued` without data, or wholly `active`; what the client saw acknowledged is true;
no file stays that no image owns. The points of the kill are random, seeded, and some are chosen:
before the first byte, in the middle, with every byte sent, and the moment the answer arrives.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.api.checks import EMPTY, queued
from tests.conftest import configured
from tests.support.raw_http import RawConnection
from tests.support.server import Client, ServerProcess

pytestmark = pytest.mark.faults
SWEEP_SECONDS = 60.0
"""Data of an image that was deleted in the moment of the kill is left to the second sweep: at the first one it
is not ten seconds old."""
MIB = 1 << 20


@dataclass
class Upload:
    """One upload: what is sent, and what the client knows of its fate."""

    image_id: str
    data: bytes
    acknowledged: bool = False
    refused: int = 0
    sent_all: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server to be killed."""
    running = configured(tmp_path / "killed").start()
    yield running
    running.kill()


def send(port: int, token: str, upload: Upload, pause_seconds: float = 0.0) -> None:
    """Upload in pieces, with pauses; notes the answer if one comes."""
    try:
        with RawConnection(port) as connection:
            connection.send_head(
                "PUT",
                f"/v2/images/{upload.image_id}/file",
                {
                    "X-Auth-Token": token,
                    "Content-Type": "application/octet-stream",
                    "Content-Length": str(len(upload.data)),
                },
            )
            for start in range(0, len(upload.data), 65_536):
                connection.send(upload.data[start : start + 65_536])
                if pause_seconds:
                    time.sleep(pause_seconds)
            upload.sent_all.set()
            answer = connection.read_answer()
    except OSError:
        return
    if answer is None:
        return
    if answer.status == 204:
        upload.acknowledged = True
    else:
        upload.refused = answer.status


def started(
    server: ServerProcess, uploads: list[Upload], token: str, pauses: list[float]
) -> list[threading.Thread]:
    """Threads that upload."""
    threads = [
        threading.Thread(target=send, args=(server.port, token, upload, pause), daemon=True)
        for upload, pause in zip(uploads, pauses, strict=True)
    ]
    for thread in threads:
        thread.start()
    return threads


def data_files(server: ServerProcess) -> list[Path]:
    """Every file of the data folder that may hold bytes of images, partial ones too."""
    own = {"transom.db", "transom.db-wal", "transom.db-shm", "clouds.yaml"}
    images = server.store_path()
    staging = server.data / "staging"
    return [
        path
        for folder in (images, staging)
        for path in folder.rglob("*")
        if path.is_file() and path.name not in own
    ]


def check_whole(server: ServerProcess, client: Client, uploads: list[Upload]) -> dict[str, int]:
    """Every image is queued or wholly active, and the store holds nothing else.

    Gives how many there are of each, so that a caller can see that the kill hit something.
    """
    deadline = time.monotonic() + SWEEP_SECONDS
    while True:
        images = {upload.image_id: client.show(upload.image_id) for upload in uploads}
        active = [image for image in images.values() if image["status"] == "active"]
        settled = all(image["status"] in ("queued", "active") for image in images.values())
        files = data_files(server)
        if settled and len(files) == len(active):
            break
        assert time.monotonic() < deadline, (
            f"after {SWEEP_SECONDS} s: states {[image['status'] for image in images.values()]}, "
            f"files {[(path.name, path.stat().st_size) for path in files]}"
        )
        time.sleep(0.1)
    for upload in uploads:
        image = images[upload.image_id]
        if upload.acknowledged:
            assert image["status"] == "active", f"204 was sent, and now it is {image['status']}"
        if image["status"] == "active":
            assert image["size"] == len(upload.data)
            assert image["checksum"] == hashlib.md5(upload.data).hexdigest()
            assert image["os_hash_value"] == hashlib.sha512(upload.data).hexdigest()
            answer = client.get(f"/v2/images/{upload.image_id}/file")
            assert answer.content == upload.data, "an active image without its data"
        else:
            assert {name: image[name] for name in EMPTY} == EMPTY
    assert sorted(path.stat().st_size for path in files) == sorted(
        image["size"] for image in active
    ), "a file in the store belongs to no image"
    return {"active": len(active), "queued": len(uploads) - len(active)}


@pytest.mark.parametrize("seed", range(8))
def test_kill_at_random_points_of_many_uploads(server: ServerProcess, seed: int) -> None:
    dice = random.Random(seed)
    demo = server.log_in_to_cloud("transom-demo")
    finished = Upload(queued(demo), dice.randbytes(MIB))
    demo.upload(finished.image_id, finished.data)
    finished.acknowledged = True
    uploads = [
        Upload(queued(demo), dice.randbytes(dice.choice([1, 70_000, MIB, 4 * MIB])))
        for _ in range(8)
    ]
    pauses = [dice.choice([0.0, 0.0, 0.002, 0.02]) for _ in uploads]
    threads = started(server, uploads, demo.token or "", pauses)
    time.sleep(dice.uniform(0.0, 0.5))
    server.kill()
    for thread in threads:
        thread.join(30)
    server.start()
    demo = server.log_in_to_cloud("transom-demo")
    counts = check_whole(server, demo, [finished, *uploads])
    assert counts["active"] >= 1 + sum(upload.acknowledged for upload in uploads)
    # What went back to the queue takes its data now.
    for upload in uploads:
        if demo.show(upload.image_id)["status"] == "queued":
            assert demo.upload(upload.image_id, upload.data)["size"] == len(upload.data)
    assert check_whole(server, demo, [finished, *uploads])["queued"] == 0


def test_kill_between_the_phases_of_an_upload(server: ServerProcess) -> None:
    """Kills as soon as each phase can be seen from outside, one upload per phase."""
    demo = server.log_in_to_cloud("transom-demo")
    uploads: list[Upload] = []
    phases = ["head sent", "saving", "half written", "all sent", "file complete", "answered"]
    for phase in phases:
        upload = Upload(queued(demo), random.Random(phase).randbytes(6 * MIB))
        before = {path: path.stat().st_size for path in data_files(server)}
        uploads.append(upload)
        if phase in ("head sent", "saving"):
            thread = hold(server, demo, upload, 0 if phase == "head sent" else 100)
        elif phase == "half written":
            thread = hold(server, demo, upload, 4 * MIB)
        else:
            (thread,) = started(server, [upload], demo.token or "", [0.0])
        reached = wait_for_phase(server, demo, upload, phase, before, thread)
        server.kill()
        thread.join(30)
        server.start()
        demo = server.log_in_to_cloud("transom-demo")
        check_whole(server, demo, uploads)
        status = demo.show(upload.image_id)["status"]
        if phase in ("head sent", "saving", "half written"):
            assert status == "queued", f"{phase}: an image with part of its data is {status}"
        if phase == "answered":
            assert reached
            assert status == "active", "the answer was 204"
    for upload in uploads:
        if demo.show(upload.image_id)["status"] == "queued":
            demo.upload(upload.image_id, upload.data)
    assert check_whole(server, demo, uploads) == {"active": len(phases), "queued": 0}


def hold(server: ServerProcess, client: Client, upload: Upload, size: int) -> threading.Thread:
    """Send the head and `size` bytes, then keep the connection open until the server is gone."""
    ready = threading.Event()
    port, token = server.port, client.token or ""

    def work() -> None:
        try:
            with RawConnection(port, timeout_seconds=60) as connection:
                connection.send_head(
                    "PUT",
                    f"/v2/images/{upload.image_id}/file",
                    {
                        "X-Auth-Token": token,
                        "Content-Type": "application/octet-stream",
                        "Content-Length": str(len(upload.data)),
                    },
                )
                connection.send(upload.data[:size])
                ready.set()
                connection.read_answer()
        except OSError:
            ready.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert ready.wait(30)
    return thread


def size_of(path: Path) -> int:
    """In bytes; -1 for a file that has just got another name."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def wait_for_phase(
    server: ServerProcess,
    client: Client,
    upload: Upload,
    phase: str,
    before: dict[Path, int],
    thread: threading.Thread,
) -> bool:
    """Wait until the phase can be seen; False when the upload was faster than the look."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        if phase == "head sent":
            return True
        if phase == "saving" and client.show(upload.image_id)["status"] == "saving":
            return True
        if phase == "half written" and any(
            path not in before and size_of(path) >= MIB for path in existing(server)
        ):
            return True
        if phase == "all sent" and upload.sent_all.is_set():
            return True
        if phase == "file complete" and any(
            path not in before and size_of(path) == len(upload.data) for path in existing(server)
        ):
            return True
        if phase == "answered" and upload.acknowledged:
            return True
        if phase not in ("answered", "saving") and not thread.is_alive():
            return False
        time.sleep(0.0005)
    raise AssertionError(f"phase {phase!r} was not reached within 15 s\n{server.log()[-2000:]}")


def existing(server: ServerProcess) -> list[Path]:
    """Files that still exist when they are looked at."""
    return [path for path in data_files(server) if path.exists()]


@pytest.mark.parametrize("seed", range(4))
def test_kill_around_the_answer_never_loses_an_acknowledged_upload(
    server: ServerProcess, seed: int
) -> None:
    """Kills within a few milliseconds of the first answer, while other uploads end as well."""
    dice = random.Random(100 + seed)
    demo = server.log_in_to_cloud("transom-demo")
    uploads = [Upload(queued(demo), dice.randbytes(300_000)) for _ in range(12)]
    threads = started(server, uploads, demo.token or "", [0.0] * len(uploads))
    deadline = time.monotonic() + 20
    while not any(upload.acknowledged for upload in uploads) and time.monotonic() < deadline:
        time.sleep(0.0002)
    time.sleep(dice.uniform(0, 0.01))
    server.kill()
    for thread in threads:
        thread.join(30)
    assert any(upload.acknowledged for upload in uploads)
    server.start()
    check_whole(server, server.log_in_to_cloud("transom-demo"), uploads)


def test_deleted_images_stay_deleted(server: ServerProcess) -> None:
    demo = server.log_in_to_cloud("transom-demo")
    kept = Upload(queued(demo), b"kept" * 50_000)
    demo.upload(kept.image_id, kept.data)
    doomed = [Upload(queued(demo), random.Random(n).randbytes(400_000)) for n in range(10)]
    for upload in doomed:
        demo.upload(upload.image_id, upload.data)
    gone: list[str] = []
    url, token = server.url, demo.token or ""

    def delete_all() -> None:
        with httpx.Client(base_url=url, headers={"X-Auth-Token": token}, trust_env=False) as client:
            for upload in doomed:
                try:
                    answer = client.delete(f"/v2/images/{upload.image_id}")
                except httpx.TransportError:
                    return
                if answer.status_code == 204:
                    gone.append(upload.image_id)

    thread = threading.Thread(target=delete_all, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while len(gone) < 4 and time.monotonic() < deadline:
        time.sleep(0.0005)
    server.kill()
    thread.join(30)
    assert len(gone) >= 4
    server.start()
    demo = server.log_in_to_cloud("transom-demo")
    for image_id in gone:
        assert demo.get(f"/v2/images/{image_id}").status_code == 404
        assert demo.post("/v2/images", json={"id": image_id}).status_code == 409
    # A delete that the kill cut short is repeated until it is through.
    for upload in doomed:
        if upload.image_id not in gone:
            status = demo.get(f"/v2/images/{upload.image_id}").status_code
            assert status in (200, 404)
            answer = demo.delete(f"/v2/images/{upload.image_id}")
            assert answer.status_code == (204 if status == 200 else 404)
    check_whole(server, demo, [kept])


def test_kill_while_an_image_is_deleted_under_its_upload(server: ServerProcess) -> None:
    demo = server.log_in_to_cloud("transom-demo")
    upload = Upload(queued(demo), random.Random(5).randbytes(3 * MIB))
    thread = hold(server, demo, upload, 2 * MIB)
    wait_for_phase(server, demo, upload, "saving", {}, thread)
    assert demo.delete(f"/v2/images/{upload.image_id}").status_code == 204
    server.kill()
    thread.join(30)
    server.start()
    demo = server.log_in_to_cloud("transom-demo")
    assert demo.get(f"/v2/images/{upload.image_id}").status_code == 404
    check_whole(server, demo, [])


def test_orphans_of_several_kills_do_not_add_up(server: ServerProcess) -> None:
    """The server dies again before it had time to clean up after the last death."""
    demo = server.log_in_to_cloud("transom-demo")
    upload = Upload(queued(demo), random.Random(6).randbytes(3 * MIB))
    threads = []
    for _ in range(3):
        threads.append(hold(server, demo, upload, 2 * MIB))
        time.sleep(0.2)
        server.kill()
        server.start()
        demo = server.log_in_to_cloud("transom-demo")
    for thread in threads:
        thread.join(30)
    check_whole(server, demo, [upload])
    demo.upload(upload.image_id, upload.data)
    assert check_whole(server, demo, [upload]) == {"active": 1, "queued": 0}


def test_graceful_stop_ends_uploads_cleanly(server: ServerProcess) -> None:
    demo = server.log_in_to_cloud("transom-demo")
    upload = Upload(queued(demo), random.Random(7).randbytes(3 * MIB))
    thread = hold(server, demo, upload, MIB)
    wait_for_phase(server, demo, upload, "saving", {}, thread)
    server.stop()
    thread.join(30)
    server.start()
    check_whole(server, server.log_in_to_cloud("transom-demo"), [upload])
