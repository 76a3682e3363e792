"""A running service whose disk is full, read-only, slow or hangs, whose PostgreSQL, S3 or Keystone is
away, and whose clock is set: what its callers are told, what still works, what the metrics show, and
that nothing is lost. docs/explanation/faults.md tells it to operators."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.checks import queued, wait_for_status
from tests.faults.fake_keystone import PASSWORD, USER, FakeKeystone
from tests.support import ceph, s3
from tests.support.disks import Disks, mounting, run, unmount
from tests.support.faulty import Act, FaultyServer, refuse, stall_answer
from tests.support.ports import free_port
from tests.support.postgres import Cluster
from tests.support.scraping import Metrics, with_metrics
from tests.support.server import Client, Config, ServerProcess, merged, told
from tests.support.slow_disk import SlowDisk

pytestmark = pytest.mark.faults

KIB = 1024
MIB = 1024 * KIB
ERRORS = "transom_store_errors_total"
CATALOG_ERRORS = "transom_catalog_errors_total"
FAKETIME = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


class Service(ServerProcess):
    """A server with metrics and two callers, in an environment of its own."""

    def __init__(
        self, folder: Path, config: Config, variables: dict[str, str] | None = None
    ) -> None:
        super().__init__(folder, with_metrics(config))
        self.variables = variables or {}

    def environment(self) -> dict[str, str]:
        """The variables that the test adds, beside the usual ones."""
        return super().environment() | self.variables

    @property
    def metrics(self) -> Metrics:
        """What it counts."""
        return Metrics.of(self.config)

    @property
    def demo(self) -> Client:
        """A member of a project."""
        return self.log_in_to_cloud("transom-demo")

    def ready(self) -> httpx.Response:
        """`GET /readyz`."""
        return httpx.get(f"{self.url}/readyz", timeout=15, trust_env=False)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disks]:
    """Makes disks of so many bytes."""
    made = Disks(tmp_path)
    yield made
    made.unmount()


@pytest.fixture
def slow_disk(tmp_path: Path) -> Iterator[SlowDisk]:
    """A disk that can be slow, and hang."""
    try:
        with SlowDisk(tmp_path) as made:
            yield made
    except OSError as error:
        pytest.skip(f"needs FUSE and the right to mount: {error}")


@contextmanager
def serving(folder: Path, config: Config, **variables: str) -> Iterator[Service]:
    """A service, which is killed at the end: a disk that hangs would not let it end."""
    service = Service(folder, config, variables)
    try:
        service.start()
        yield service
    finally:
        service.kill()


def on(path: Path) -> dict[str, Any]:
    """A configuration whose store lies there."""
    return {"stores": {"main": {"driver": "file", "path": str(path)}}}


def active(client: Client, data: bytes) -> str:
    """The id of an active image."""
    return str(client.upload(queued(client), data)["id"])


# --- full ---------------------------------------------------------------------------------------------


def test_a_full_store_is_told_counted_and_over_when_there_is_room(
    disk: Disks, tmp_path: Path
) -> None:
    small = disk("3m")
    with serving(tmp_path / "service", on(small.path)) as service:
        demo = service.demo
        kept = active(demo, b"kept" * KIB)
        ballast = small.fill()
        image_id = queued(demo)
        answer = demo.put_data(image_id, os.urandom(500 * KIB))
        assert answer.status_code == 413, told(answer)
        assert demo.show(image_id)["status"] == "queued"
        assert service.ready().status_code == 503
        assert demo.get(f"/v2/images/{kept}/file").content == b"kept" * KIB
        service.metrics.wait_for(lambda value: value > 0, ERRORS, store="main", kind="full")
        ballast.unlink()
        assert service.ready().status_code == 200
        demo.upload(image_id, os.urandom(500 * KIB))


def test_a_catalog_on_a_full_disk_refuses_changes_reads_on_and_recovers(
    disk: Disks, tmp_path: Path
) -> None:
    small = disk("8m")
    database = {"database": {"url": f"sqlite:///{small.path}/transom.db"}}
    with serving(tmp_path / "service", database) as service:
        demo = service.demo
        kept = active(demo, b"kept")
        ballast = small.fill()
        refused = None
        made = []
        # What SQLite has room for within its file is still taken.
        for _ in range(2000):
            answer = demo.post("/v2/images", json={"name": "x" * 255, "note": "y" * 3000})
            if answer.status_code != 201:
                refused = answer
                break
            made.append(answer.json()["id"])
        assert refused is not None, "the disk never was full"
        assert refused.status_code == 503, told(refused)
        assert int(refused.headers["Retry-After"]) > 0
        service.metrics.wait_for(lambda value: value > 0, CATALOG_ERRORS, kind="full")
        assert demo.get(f"/v2/images/{kept}/file").content == b"kept"
        assert kept in {image["id"] for image in _all(demo)}
        ballast.unlink()
        fresh = demo.create(name="fresh")
        # What was acknowledged is there, also after a crash; what was refused is not.
        service.kill()
        service.start()
        demo = service.demo
        seen = {image["id"] for image in _all(demo)}
        assert seen == {kept, fresh["id"], *made}


def _all(client: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    path: str | None = "/v2/images?limit=500"
    while path:
        page = client.get(path).json()
        found += page["images"]
        path = page.get("next")
    return found


# --- read-only ----------------------------------------------------------------------------------------


def test_a_store_that_turned_read_only_is_told_counted_and_still_read(
    disk: Disks, tmp_path: Path
) -> None:
    small = disk("4m")
    with serving(tmp_path / "service", on(small.path)) as service:
        demo = service.demo
        kept = active(demo, b"kept")
        small.make_read_only()
        image_id = queued(demo)
        answer = demo.put_data(image_id, b"x" * 100_000)
        assert answer.status_code == 503, told(answer)
        assert demo.show(image_id)["status"] == "queued"
        assert demo.get(f"/v2/images/{kept}/file").content == b"kept"
        assert service.ready().status_code == 503
        service.metrics.wait_for(lambda value: value > 0, ERRORS, store="main", kind="unavailable")
        small.make_writable()
        assert service.ready().status_code == 200
        demo.upload(image_id, b"x" * 100_000)


class Loop:
    """An ext4 of its own in a file, that turns read-only at an error as real disks do."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "loop"
        self._file = folder / "loop.img"
        self.path.mkdir()
        with self._file.open("wb") as file:
            file.truncate(32 * MIB)
        run("mkfs.ext4", "-q", str(self._file))
        self.mount()

    def mount(self) -> None:
        """Mount it, writable."""
        run("mount", "-o", "loop,errors=remount-ro", str(self._file), str(self.path))

    def fail(self) -> None:
        """What the kernel does when the disk gave an error."""
        source = subprocess.run(
            ["findmnt", "-n", "-o", "SOURCE", str(self.path)],
            check=True, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip
        Path("/sys/fs/ext4", Path(source).name, "trigger_fs_error").write_text("a test")

    def mend(self) -> None:
        """What the operator does: unmount it, check it, mount it."""
        run("umount", str(self.path))
        # 1: errors were found and corrected.
        done = subprocess.run(["e2fsck", "-fy", str(self._file)], check=False, capture_output=True)
        assert done.returncode in (0, 1), done.stdout
        self.mount()


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    """An ext4 of the test's own."""
    with mounting():
        made = Loop(tmp_path)
    yield made
    unmount(made.path)


def test_a_catalog_whose_disk_turned_read_only_refuses_changes_reads_on_and_loses_nothing(
    loop: Loop, tmp_path: Path
) -> None:
    database = {"database": {"url": f"sqlite:///{loop.path}/transom.db"}}
    with serving(tmp_path / "service", database) as service:
        demo = service.demo
        kept = active(demo, b"kept")
        os.sync()
        loop.fail()
        refused = demo.post("/v2/images", json={"name": "refused"})
        assert refused.status_code == 503, told(refused)
        assert int(refused.headers["Retry-After"]) > 0
        assert demo.get(f"/v2/images/{kept}/file").content == b"kept"
        assert demo.list_ids() == [kept]
        # It answers, and what only reads is better off with it.
        assert service.ready().status_code == 200
        service.metrics.wait_for(lambda value: value > 0, CATALOG_ERRORS)
        service.kill()
        loop.mend()
        service.start()
        demo = service.demo
        assert demo.list_ids() == [kept]
        assert demo.get(f"/v2/images/{kept}/file").content == b"kept"
        assert service.ready().status_code == 200
        demo.create(name="taken")


# --- slow, and hanging --------------------------------------------------------------------------------


def test_a_slow_disk_slows_its_own_clients_and_nobody_else(
    slow_disk: SlowDisk, tmp_path: Path
) -> None:
    with serving(tmp_path / "service", on(slow_disk.path)) as service:
        demo = service.demo
        data = os.urandom(24 * MIB)
        before = service.rss_bytes()
        # Writes of 128 KiB: about 6 MiB a second.
        slow_disk.delay_seconds = 0.02
        ids = [queued(demo) for _ in range(2)]
        answers: list[httpx.Response] = []

        def upload(image_id: str) -> None:
            client = service.log_in_to_cloud("transom-demo")
            client.http.timeout = 120
            answers.append(client.put_data(image_id, data))

        uploads = [threading.Thread(target=upload, args=[image_id]) for image_id in ids]
        for each in uploads:
            each.start()
        waits, memory, running = [], [], []
        while any(each.is_alive() for each in uploads):
            began = time.monotonic()
            assert demo.get("/v2/images").status_code == 200
            waits.append(time.monotonic() - began)
            memory.append(service.rss_bytes())
            running.append(service.metrics.value("transom_store_operations_running", store="main"))
            time.sleep(0.2)
        for each in uploads:
            each.join()
        assert [answer.status_code for answer in answers] == [204, 204]
        assert len(waits) > 10, "the disk was not slow"
        assert sorted(waits)[len(waits) // 2] < 0.5
        assert max(memory) - before < 64 * MIB, "what the disk does not take yet is kept in memory"
        assert max(running) > 0
        slow_disk.delay_seconds = 0.0
        assert demo.get(f"/v2/images/{ids[0]}/file").content == data
        took = "transom_store_operation_duration_seconds_sum"
        assert service.metrics.value(took, store="main", operation="write") > 3


def test_a_disk_that_hangs_holds_up_its_own_clients_and_nobody_else(
    slow_disk: SlowDisk, tmp_path: Path
) -> None:
    other = {"stores": {"default": "main", "other": {"driver": "file", "path": "<data>/other"}}}
    with serving(tmp_path / "service", merged(on(slow_disk.path), other)) as service:
        demo = service.demo
        beside = queued(demo)
        demo.upload(beside, b"beside", headers={"X-Image-Meta-Store": "other"})
        image_id = queued(demo)
        data = os.urandom(3 * MIB)
        answers: list[httpx.Response] = []

        def upload() -> None:
            client = service.log_in_to_cloud("transom-demo")
            client.http.timeout = 120
            answers.append(client.put_data(image_id, data))

        assert service.ready().status_code == 200
        slow_disk.hang()
        thread = threading.Thread(target=upload)
        thread.start()
        service.metrics.wait_for(
            lambda value: value > 0, "transom_store_operations_running", store="main"
        )
        # Whoever asks whether it is ready, and asks again and again, is answered.
        for _ in range(3):
            began = time.monotonic()
            answer = service.ready()
            assert answer.status_code == 503, told(answer)
            assert "no answer" in answer.json()["stores"]
            assert time.monotonic() - began < 10
        assert httpx.get(f"{service.url}/healthcheck", trust_env=False).status_code == 200
        assert demo.show(image_id)["status"] == "saving"
        assert demo.get(f"/v2/images/{beside}/file").content == b"beside"
        fresh = queued(demo)
        demo.upload(fresh, b"fresh", headers={"X-Image-Meta-Store": "other"})
        assert thread.is_alive()
        slow_disk.go_on()
        thread.join(60)
        assert not thread.is_alive()
        assert [answer.status_code for answer in answers] == [204]
        assert demo.get(f"/v2/images/{image_id}/file").content == data
        until = time.monotonic() + 15
        while service.ready().status_code != 200:
            assert time.monotonic() < until, "it never became ready again"


# --- other servers ------------------------------------------------------------------------------------


def test_a_postgresql_that_is_away_is_told_counted_and_found_again(tmp_path: Path) -> None:
    cluster = Cluster.start()
    try:
        url = cluster.database()
        database = {"database": {"url": url, "outage_seconds": 0.2}}
        with serving(tmp_path / "service", database) as service:
            demo = service.demo
            kept = active(demo, b"kept")
            cluster.down()
            for answer in (
                demo.get("/v2/images"),
                demo.post("/v2/images", json={}),
                demo.get(f"/v2/images/{kept}/file"),
            ):
                assert answer.status_code == 503, told(answer)
                assert int(answer.headers["Retry-After"]) > 0
            assert service.ready().status_code == 503
            service.metrics.wait_for(lambda value: value > 0, CATALOG_ERRORS, kind="connection")
            cluster.up()
            until = time.monotonic() + 20
            while demo.post("/v2/images", json={}).status_code != 201:
                assert time.monotonic() < until, "it is never used again"
                time.sleep(0.1)
            assert demo.get(f"/v2/images/{kept}/file").content == b"kept"
            assert service.ready().status_code == 200
            service.metrics.wait_for(lambda value: value > 0, "transom_catalog_reconnections_total")
    finally:
        cluster.remove()


@pytest.mark.parametrize(
    "fault", [refuse(500, "InternalError"), stall_answer()], ids=["refuses", "stalls"]
)
def test_an_s3_that_refuses_or_stalls_is_told_counted_and_over_when_it_is(
    tmp_path: Path, fault: Act
) -> None:
    with FaultyServer(ceph.gateway().url) as proxy:
        main = s3.options(
            endpoint_url=proxy.url,
            prefix=s3.prefix_of(tmp_path),
            timeout_seconds=0.7,
            retries_max=2,
        )
        with serving(
            tmp_path / "service", {"stores": {"main": {"driver": "s3", **main}}}
        ) as service:
            demo = service.demo
            kept = active(demo, b"kept")
            image_id = queued(demo)
            proxy.add(fault)
            answer = demo.put_data(image_id, b"x" * 100_000)
            assert answer.status_code == 503, told(answer)
            assert demo.show(image_id)["status"] == "queued"
            broken = demo.get(f"/v2/images/{kept}/file")
            assert broken.status_code == 503, told(broken)
            assert service.ready().status_code == 503
            # What needs no store goes on.
            assert demo.create(name="fresh")["status"] == "queued"
            service.metrics.wait_for(
                lambda value: value > 1, ERRORS, store="main", kind="unavailable"
            )
            proxy.clear()
            assert demo.get(f"/v2/images/{kept}/file").content == b"kept"
            demo.upload(image_id, b"x" * 100_000)
            assert service.ready().status_code == 200
            # What could not be removed then goes with a sweep.
            mended = "transom_sweep_mended_total"
            service.metrics.wait_for(lambda value: value > 0, mended, seconds=60, kind="data")
            assert len(s3.names_below(s3.prefix_of(tmp_path))) == 2


async def test_a_keystone_that_is_away_is_told_counted_and_asked_again(tmp_path: Path) -> None:
    async with FakeKeystone() as keystone:
        named = {"auth_url": keystone.url, "username": USER, "password": PASSWORD}
        config = {"identity": {"backend": "keystone", "keystone": named}}

        def work() -> None:
            with serving(tmp_path / "service", config) as service:
                known = service.client("good-known", "known")
                assert known.get("/v2/images").status_code == 200
                assert service.metrics.value("transom_keystone_up") == 1
                keystone.validate = "kept json 500"
                new = service.client("good-new", "new")
                answer = new.get("/v2/images")
                assert answer.status_code == 503, told(answer)
                assert known.get("/v2/images").status_code == 200
                service.metrics.wait_for(lambda value: value == 0, "transom_keystone_up")
                failed = "transom_keystone_request_duration_seconds_count"
                assert service.metrics.value(failed, outcome="failed") > 0
                keystone.validate = "well"
                until = time.monotonic() + 20
                while new.get("/v2/images").status_code != 200:
                    assert time.monotonic() < until, "it is never asked again"
                    time.sleep(0.1)
                service.metrics.wait_for(lambda value: value == 1, "transom_keystone_up")

        await asyncio.to_thread(work)


# --- the clock ----------------------------------------------------------------------------------------


class Clock:
    """The wall clock of a service; its other clocks stay as they are."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set(0)

    @property
    def variables(self) -> dict[str, str]:
        """What the service needs to have this clock."""
        return {
            "LD_PRELOAD": str(FAKETIME[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_RESET": "1",
        }

    def set(self, seconds: int) -> None:
        """So many seconds ahead of the machine's."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}s\n")
        fresh.replace(self._file)


@pytest.mark.skipif(not FAKETIME, reason="needs libfaketime (Debian: faketime)")
@pytest.mark.parametrize("seconds", [7200, -7200], ids=["forward", "backward"])
def test_a_clock_that_is_set_harms_nothing_that_is_under_way(
    slow_disk: SlowDisk, tmp_path: Path, seconds: int
) -> None:
    clock = Clock(tmp_path)
    config = merged(on(slow_disk.path), {"identity": {"token_seconds": 100_000}})
    with serving(tmp_path / "service", config, **clock.variables) as service:
        demo = service.demo
        kept = active(demo, b"kept")
        # A second process on the same catalog: each must go on taking the other for alive.
        data, port = service.data, free_port()
        beside = Service(tmp_path / "beside", service.config, clock.variables)
        beside.config = merged(service.config, {"metrics": {"bind": f"127.0.0.1:{port}"}})
        beside.data = data
        with beside:
            slow_disk.delay_seconds = 0.1
            image_id = queued(demo)
            answers: list[httpx.Response] = []
            body = os.urandom(20 * MIB)

            def upload() -> None:
                client = service.log_in_to_cloud("transom-demo")
                client.http.timeout = 180
                answers.append(client.put_data(image_id, body))

            thread = threading.Thread(target=upload)
            thread.start()
            wait_for_status(demo, image_id, "saving", seconds=60)
            clock.set(seconds)
            direction = "forward" if seconds > 0 else "backward"
            for each in (service, beside):
                each.metrics.wait_for(
                    lambda value: value == 1, "transom_clock_jumps_total", direction=direction
                )
            # Longer than a sweep's pause.
            until = time.monotonic() + 14
            while time.monotonic() < until:
                status = demo.show(image_id)["status"]
                if status == "active":
                    break
                assert status == "saving"
                assert beside.metrics.value("transom_sweep_mended_total") == 0
                time.sleep(0.5)
            slow_disk.delay_seconds = 0.0
            thread.join(120)
            assert [answer.status_code for answer in answers] == [204], answers[0].text
            assert demo.get(f"/v2/images/{image_id}/file").content == body
            assert demo.get(f"/v2/images/{kept}/file").content == b"kept"
            fresh = active(demo, b"fresh")
            assert {kept, image_id, fresh} <= set(demo.list_ids())
            demo.patch(
                f"/v2/images/{kept}", [{"op": "add", "path": "/name", "value": str(uuid.uuid4())}]
            )
            assert service.is_alive()
            assert beside.is_alive()
