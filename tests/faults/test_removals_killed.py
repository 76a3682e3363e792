"""kill -9 while data is removed: nothing is lost, and after the next run nothing is left.

Every removal is killed in its middle: deletion, deletion from a store, the scrubber, the sweep of
orphans. And a sweep of orphans that runs without a pause, while uploads come and go, must never
touch what lives.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.checks import queued
from tests.conftest import configured
from tests.support.copies import add_copy, with_catalog
from tests.support.operator import command_line, operate
from tests.support.server import Client, Config, ServerProcess, merged

pytestmark = pytest.mark.faults

TWO: Config = {
    "stores": {
        "default": "main",
        "main": {"driver": "file", "path": "<data>/images", "fsync": False},
        "second": {"driver": "file", "path": "<data>/second", "fsync": False},
    }
}
DELAYED: Config = merged(TWO, {"delete": {"delayed": True, "scrub_after_seconds": 0}})
SETTLED_SECONDS = 60.0
IMAGES = 30


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[Config], ServerProcess]]:
    """Starts a server to be killed."""
    started: list[ServerProcess] = []

    def starting(config: Config) -> ServerProcess:
        started.append(configured(tmp_path / "killed", config).start())
        return started[-1]

    yield starting
    for each in started:
        each.kill()


def data_of(image_id: str) -> bytes:
    """The data that an image of these tests has."""
    return random.Random(image_id).randbytes(5_000)


def in_two_stores(server: ServerProcess, client: Client) -> str:
    """An active image in `main` and `second`."""
    image_id = queued(client)
    client.upload(image_id, data_of(image_id))
    add_copy(server, image_id, "second")
    return image_id


def files(server: ServerProcess) -> dict[tuple[str, str], Path]:
    """Every file of both stores by the store and the id of its image."""
    return {
        (name, path.name.partition(".")[0]): path
        for name in ("main", "second")
        for path in server.stored_files(name)
        if not path.name.endswith("~")
    }


def swept(server: ServerProcess, is_done: Callable[[], bool]) -> None:
    """Sweep until it is done; the last deletions are let alone for ten seconds."""
    deadline = time.monotonic() + SETTLED_SECONDS
    while not is_done():
        assert time.monotonic() < deadline, sorted(files(server))
        assert operate(server, "sweep", "--apply").status == 0
        time.sleep(0.5)


def killed_while(
    server: ServerProcess, paths: list[str], token: str, killed_after: int
) -> list[str]:
    """Delete these paths one after the other and kill the server after so many answers; gives the
    paths whose deletion was acknowledged."""
    gone: list[str] = []
    url = server.url

    def delete_all() -> None:
        with httpx.Client(base_url=url, headers={"X-Auth-Token": token}, trust_env=False) as client:
            for path in paths:
                try:
                    answer = client.delete(path)
                except httpx.TransportError:
                    return
                assert answer.status_code == 204, answer.text
                gone.append(path)

    threads = [threading.Thread(target=delete_all, daemon=True)]
    threads[0].start()
    deadline = time.monotonic() + 30
    while len(gone) < killed_after and time.monotonic() < deadline:
        time.sleep(0.0002)
    time.sleep(random.Random(killed_after).uniform(0, 0.01))
    server.kill()
    threads[0].join(30)
    assert killed_after <= len(gone) < len(paths), "the kill hit nothing"
    return gone


def check_data(client: Client, image_id: str) -> None:
    """All of the image's data can be read."""
    assert client.get(f"/v2/images/{image_id}/file").content == data_of(image_id)


@pytest.mark.parametrize("killed_after", [1, 8])
def test_a_killed_deletion_is_whole_or_has_not_happened(
    start: Callable[[Config], ServerProcess], killed_after: int
) -> None:
    server = start(TWO)
    demo = server.log_in_to_cloud("transom-demo")
    ids = [in_two_stores(server, demo) for _ in range(IMAGES)]
    token = demo.token or ""
    gone = killed_while(server, [f"/v2/images/{each}" for each in ids], token, killed_after)
    server.start()
    demo = server.log_in_to_cloud("transom-demo")
    living = [each for each in ids if demo.get(f"/v2/images/{each}").status_code == 200]
    assert not {f"/v2/images/{each}" for each in living} & set(gone)
    expected = {(name, each) for each in living for name in ("main", "second")}
    swept(server, lambda: set(files(server)) == expected)
    for image_id in living:
        check_data(demo, image_id)
    assert operate(server, "doctor", "--grace", "0", "--hashes").status == 0


@pytest.mark.parametrize("killed_after", [1, 8])
def test_a_killed_deletion_from_a_store_loses_no_image(
    start: Callable[[Config], ServerProcess], killed_after: int
) -> None:
    server = start(TWO)
    demo = server.log_in_to_cloud("transom-demo")
    admin = server.log_in_to_cloud("transom")
    ids = [in_two_stores(server, demo) for _ in range(IMAGES)]
    gone = killed_while(
        server, [f"/v2/stores/second/{each}" for each in ids], admin.token or "", killed_after
    )
    server.start()
    demo = server.log_in_to_cloud("transom-demo")
    shown = {each: demo.show(each)["stores"].split(",") for each in ids}
    assert all("main" in stores for stores in shown.values())
    withdrawn = {each for each in ids if "second" not in shown[each]}
    assert {path.rpartition("/")[2] for path in gone} <= withdrawn
    expected = {(name, each) for each in ids for name in shown[each]}
    swept(server, lambda: set(files(server)) == expected)
    for image_id in ids:
        check_data(demo, image_id)
    assert operate(server, "doctor", "--grace", "0", "--hashes").status == 0


def killed_in_the_middle(server: ServerProcess, begin: int, *arguments: str) -> int:
    """Run a command and kill it when it has removed a part of the files; gives how many are left."""
    with subprocess.Popen(
        command_line(server, *arguments),
        stdout=subprocess.DEVNULL,
        env=server.environment(),
    ) as process:
        left = begin
        while process.poll() is None and left >= begin - 5:
            left = len([*server.stored_files("main"), *server.stored_files("second")])
        process.send_signal(signal.SIGKILL)
    left = len([*server.stored_files("main"), *server.stored_files("second")])
    assert 0 < left < begin, "the kill hit nothing"
    return left


def test_a_killed_scrubber_leaves_nothing_behind_at_its_next_run(
    start: Callable[[Config], ServerProcess],
) -> None:
    server = start(DELAYED)
    demo = server.log_in_to_cloud("transom-demo")
    ids = [in_two_stores(server, demo) for _ in range(IMAGES * 2)]
    kept, doomed = ids[:5], ids[5:]
    server.stop()

    async def delete_all(catalog: Any) -> None:
        long_ago = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
        for each in doomed:
            await catalog.images.delete(each, now=long_ago, delayed=True)

    with_catalog(server, lambda catalog: asyncio.run(delete_all(catalog)))
    killed_in_the_middle(server, 2 * len(ids), "sweep", "--apply")
    # What is half gone is not restored; what was not begun with would be.
    before = files(server)
    outcomes = [operate(server, "image", "restore", each).status for each in doomed[:3]]
    for each, status in zip(doomed[:3], outcomes, strict=True):
        if status == 0:
            assert {("main", each), ("second", each)} <= set(before)
            kept.append(each)
    expected = {(name, each) for each in kept for name in ("main", "second")}
    swept(server, lambda: set(files(server)) == expected)
    server.start()
    demo = server.log_in_to_cloud("transom-demo")
    for image_id in kept:
        check_data(demo, image_id)
    assert sorted(demo.list_ids()) == sorted(kept)
    assert operate(server, "image", "deleted", "--json").json() == []
    assert operate(server, "doctor", "--grace", "0", "--hashes").status == 0


def orphans(server: ServerProcess, count: int) -> list[Path]:
    """Files that nobody knows, a tenth of them partial."""
    made = []
    for number in range(count):
        key = secrets.token_hex(10)
        folder = server.store_path("main") / (".partial" if number % 10 == 0 else key[:2])
        folder.mkdir(exist_ok=True)
        made.append(folder / key)
        made[-1].write_bytes(b"orphan")
    return made


def test_a_killed_sweep_of_orphans_goes_on_at_its_next_run(
    start: Callable[[Config], ServerProcess],
) -> None:
    server = start(TWO)
    demo = server.log_in_to_cloud("transom-demo")
    ids = [in_two_stores(server, demo) for _ in range(10)]
    paths = orphans(server, 2_000)
    sweep = ["sweep", "--orphans", "--grace", "0", "--apply", "--force"]
    killed_in_the_middle(server, len(paths) + 2 * len(ids), *sweep)
    done = operate(server, *sweep)
    assert done.status == 0, done
    assert not any(path.exists() for path in paths)
    assert set(files(server)) == {(name, each) for each in ids for name in ("main", "second")}
    for image_id in ids:
        check_data(demo, image_id)
    assert operate(server, "doctor", "--grace", "0", "--hashes").status == 0


_SWEEP_WITHOUT_PAUSE = """
import asyncio, select, sys
from pathlib import Path
from transom import telemetry
from transom.app import open_registry
from transom.images.orphans import remove_orphans, survey
from transom.settings import load

telemetry.configure("error")

async def sweep():
    registry = open_registry(load(Path(sys.argv[1]), Path(sys.argv[2])))
    rounds = removed = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        # No grace at all: even what seems to be from the future.
        for found in await survey(registry, grace_seconds=-60):
            removed += len(await remove_orphans(registry, found))
        rounds += 1
    print(rounds, removed)
    await registry.stores.close()
    await registry.identity.close()
    registry.catalog.close()

asyncio.run(sweep())
"""


def test_an_endless_sweep_without_grace_never_removes_living_data(
    start: Callable[[Config], ServerProcess],
) -> None:
    """Uploads, failed uploads and deletions, against sweeps that follow each other at once."""
    server = start(TWO)
    demo = server.log_in_to_cloud("transom-demo")
    token, url = demo.token or "", server.url
    ends_at = time.monotonic() + 15
    kept: list[str] = []
    failures: list[str] = []
    counts = {"uploaded": 0, "refused": 0, "deleted": 0}

    def work(seed: int) -> None:
        dice = random.Random(seed)
        client = Client(url, token)
        while time.monotonic() < ends_at:
            image_id = queued(client, disk_format=dice.choice(["raw", "raw", "raw", "qcow2"]))
            store = dice.choice(["main", "second"])
            pieces = [data_of(image_id)[start : start + 1_000] for start in range(0, 5_000, 1_000)]

            def body(pieces: list[bytes] = pieces, slow: bool = dice.random() < 0.3) -> Any:
                for piece in pieces:
                    yield piece
                    time.sleep(0.01 if slow else 0)

            answer = client.put_data(image_id, body(), {"X-Image-Meta-Store": store})
            if answer.status_code == 415:
                counts["refused"] += 1
                client.delete(f"/v2/images/{image_id}")
                continue
            if answer.status_code != 204:
                failures.append(f"{image_id}: {answer.status_code} {answer.text}")
                continue
            counts["uploaded"] += 1
            if client.get(f"/v2/images/{image_id}/file").content != data_of(image_id):
                failures.append(f"{image_id}: its data is gone")
            if dice.random() < 0.3:
                counts["deleted"] += 1
                client.delete(f"/v2/images/{image_id}")
            else:
                kept.append(image_id)
        client.close()

    with subprocess.Popen(
        [sys.executable, "-c", _SWEEP_WITHOUT_PAUSE, str(server.config_path), str(server.data)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=server.environment(),
    ) as sweeper:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        seeded = []
        while time.monotonic() < ends_at:
            seeded += orphans(server, 3)
            time.sleep(0.2)
        for thread in threads:
            thread.join(60)
        deadline = time.monotonic() + 60
        while any(path.exists() for path in seeded):
            assert time.monotonic() < deadline, "the sweep removes too little to mean anything"
            time.sleep(0.05)
        out, _ = sweeper.communicate("stop", timeout=60)
    rounds, removed = map(int, out.split())
    assert failures == []
    assert rounds > 10, "the sweep did not run beside the uploads"
    assert removed >= len(seeded)
    assert min(counts.values()) > 3, counts
    for image_id in kept:
        check_data(demo, image_id)
    operate(server, "sweep", "--orphans", "--grace", "0", "--apply", "--force")
    assert {image_id for _, image_id in files(server)} == set(kept)
    assert len(files(server)) == len(kept)
    assert operate(server, "doctor", "--hashes").status == 0
