"""Replicas: any request to any of them, and any of them may be killed at any moment.

Real processes on one PostgreSQL and one store, behind a real nginx. Clients write down what they are
told, and a checker decides whether that can be true (tests/support/history.py).

`TRANSOM_TEST_KILLS_SECONDS` says for how long processes are killed (40 unless given; 600 for the long
run), `TRANSOM_TEST_KILLS_SEED` which random sequence everything follows.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support import postgres
from tests.support.crowd import MIB, Crowd, Source, by_verb
from tests.support.history import DONE, UNKNOWN, History, violations
from tests.support.importing import ended, events, new_image, stage, start, tasks_of
from tests.support.replicas import IMPORTS, ROOT, Deployment, Replica, buckets, shared_folders
from tests.support.resting import at_rest, check_store
from tests.support.server import Client, told
from tests.support.waiting import until
from tests.support.web import Web

pytestmark = pytest.mark.faults

JSON = "application/json"
KILLS_SECONDS = float(os.environ.get("TRANSOM_TEST_KILLS_SECONDS", "40"))
SEED = int(os.environ.get("TRANSOM_TEST_KILLS_SEED", "20260211"))


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Deployment]:
    """Three replicas that serve and two that work, on PostgreSQL and S3."""
    # A copy: who works on the sources while this runs does not change what is started again.
    source = shutil.copytree(ROOT / "src", tmp_path / "src")
    shared = buckets(database={"url": postgres.cluster().database()}, **IMPORTS)
    with Deployment(tmp_path, shared, source=source) as running:
        yield running


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The same, for the tests that kill nobody."""
    folder = tmp_path_factory.mktemp("steady")
    shared = buckets(database={"url": postgres.cluster().database()}, **IMPORTS)
    with Deployment(folder, shared) as running:
        yield running


@pytest.fixture
def at(steady: Deployment) -> list[Client]:
    """One caller at each of the three replicas, past the proxy, with one token."""
    demo = steady.log_in(at=steady.serving[0])
    others = [replica.client(demo.token, demo.who) for replica in steady.serving[1:]]
    for other in others:
        other.project_id, other.user_id = demo.project_id, demo.user_id
    return [demo, *others]


# --- any request to any replica ----------------------------------------------------------------------


def test_what_one_replica_writes_all_others_read(at: list[Client]) -> None:
    first, second, third = at
    data = random.Random(1).randbytes(300_000)
    image_id = new_image(first, name="one")
    assert second.show(image_id)["name"] == "one"
    assert image_id in third.list_ids()
    for number, (writer, reader) in enumerate([(first, second), (second, third), (third, first)]):
        operations = [{"op": "replace", "path": "/name", "value": f"name {number}"}]
        assert writer.patch(f"/v2/images/{image_id}", operations).status_code == 200
        assert reader.show(image_id)["name"] == f"name {number}"
        assert reader.list_ids(name=f"name {number}") == [image_id]
        assert writer.put(f"/v2/images/{image_id}/tags/tag{number}").status_code == 204
        assert f"tag{number}" in reader.show(image_id)["tags"]
    second.upload(image_id, data)
    answers = [client.get(f"/v2/images/{image_id}/file") for client in at]
    assert [answer.content for answer in answers] == [data] * 3
    assert len({answer.headers["etag"] for answer in answers}) == 1
    part = third.get(f"/v2/images/{image_id}/file", headers={"Range": "bytes=1000-1999"})
    assert part.content == data[1000:2000]
    members = f"/v2/images/{image_id}/members"
    assert first.post(members, json={"member": "other"}).status_code == 200
    assert [each["member_id"] for each in third.get(members).json()["members"]] == ["other"]
    assert second.delete(f"{members}/other").status_code == 204
    assert first.get(members).json()["members"] == []
    assert third.delete(f"/v2/images/{image_id}").status_code == 204
    for client in at:
        assert client.get(f"/v2/images/{image_id}").status_code == 404
        assert image_id not in client.list_ids()


def test_definitions_of_one_replica_are_those_of_all(steady: Deployment) -> None:
    first = steady.log_in("transom", steady.serving[0])
    second = steady.serving[1].client(first.token)
    path = "/v2/metadefs/namespaces"
    assert first.post(path, json={"namespace": "Shared"}).status_code == 201
    assert second.post(path, json={"namespace": "Shared"}).status_code == 409
    made = second.post(f"{path}/Shared/objects", json={"name": "Thing"})
    assert made.status_code == 201, told(made)
    assert first.get(f"{path}/Shared/objects/Thing").status_code == 200
    assert second.delete(f"{path}/Shared").status_code == 204
    assert first.get(f"{path}/Shared").status_code == 404


def test_accounts_that_change_at_one_replica_change_at_all_within_a_second(
    steady: Deployment,
) -> None:
    first, second, third = steady.serving
    admin = steady.log_in("transom", first)
    user = admin.post("/v3/users", json={"user": {"name": "moving", "password": "first word"}})
    user_id = user.json()["user"]["id"]
    project = admin.post("/v3/projects", json={"project": {"name": "moving"}}).json()["project"]
    role = admin.get("/v3/roles?name=member").json()["roles"][0]
    grant = f"/v3/projects/{project['id']}/users/{user_id}/roles/{role['id']}"
    assert admin.put(grant).status_code == 204
    # A user that is new there, with a role that is new, logs in anywhere at once.
    callers = [each.log_in("moving", "first word", "moving") for each in (second, third)]
    everywhere = [replica.client(callers[0].token) for replica in steady.serving]

    def verdicts() -> list[int]:
        return [client.get("/v2/images?limit=1").status_code for client in everywhere]

    def became(wanted: int) -> bool:
        # A second (`tests/unit/test_identity_login.py`), and what a busy machine adds.
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            if verdicts() == [wanted] * 3:
                return True
        return False

    assert verdicts() == [200] * 3
    # A new password ends the tokens of the old one, whoever changed it, wherever they were given.
    word = {"user": {"password": "second word"}}
    assert third.client(admin.token).patch(f"/v3/users/{user_id}", word, JSON).status_code == 200
    assert became(401)
    everywhere = [first.log_in("moving", "second word", "moving") for first in steady.serving]
    assert verdicts() == [200] * 3
    # So does the loss of the role; and one token that is revoked is revoked for all.
    for client in everywhere[:2]:
        gone = admin.delete("/v3/auth/tokens", headers={"X-Subject-Token": str(client.token)})
        assert gone.status_code == 204
        other = third.client(client.token)
        until(lambda other=other: other.get("/v2/images").status_code == 401, 30)
    assert admin.delete(grant).status_code == 204
    until(lambda: everywhere[2].get("/v2/images").status_code == 401, 30)


# --- at the same time at several ---------------------------------------------------------------------


def in_pieces(data: bytes, begun: threading.Event, go_on: threading.Event) -> Iterator[bytes]:
    """The data: half of it, and the rest when it may go on."""
    yield data[: len(data) // 2]
    begun.set()
    assert go_on.wait(60)
    yield data[len(data) // 2 :]


def send_together(client: Client, image_id: str, data: bytes, gate: threading.Barrier) -> int:
    """The status of an upload that begins when all others begin."""
    gate.wait()
    return client.put_data(image_id, data).status_code


def test_of_uploads_through_several_replicas_one_wins(steady: Deployment, at: list[Client]) -> None:
    choose = random.Random(2)
    for size_bytes in (1, 100_000, 6 * MIB):
        image_id = new_image(at[0])
        pieces = [choose.randbytes(size_bytes) for _ in at]
        together = threading.Barrier(len(at))

        with ThreadPoolExecutor(len(at)) as threads:
            sending = [
                threads.submit(send_together, client, image_id, data, together)
                for client, data in zip(at, pieces, strict=True)
            ]
            codes = [each.result() for each in sending]
        assert sorted(codes) == [204, 409, 409]
        winner = pieces[codes.index(204)]
        for client in at:
            image = client.show(image_id)
            assert image["os_hash_value"] == hashlib.sha512(winner).hexdigest()
            assert client.get(f"/v2/images/{image_id}/file").content == winner
        assert at[1].delete(f"/v2/images/{image_id}").status_code == 204
    check_store(steady, at[0])


def test_a_deletion_through_another_replica_ends_an_upload(
    steady: Deployment, at: list[Client]
) -> None:
    data = random.Random(3).randbytes(12 * MIB)
    for path in ("file", "stage"):
        image_id = new_image(at[0])
        begun, go_on = threading.Event(), threading.Event()
        with ThreadPoolExecutor(1) as threads:
            sending = threads.submit(
                at[0].put,
                f"/v2/images/{image_id}/{path}",
                content=in_pieces(data, begun, go_on),
                headers={"Content-Type": "application/octet-stream"},
            )
            assert begun.wait(30)
            busy = ("saving", "uploading")
            until(lambda: at[1].show(image_id)["status"] in busy, 30)  # noqa: B023
            assert at[2].put_data(image_id, b"too late").status_code == 409
            assert at[1].delete(f"/v2/images/{image_id}").status_code == 204
            go_on.set()
            assert sending.result().status_code in (404, 410), told(sending.result())
        assert at[2].get(f"/v2/images/{image_id}").status_code == 404
    check_store(steady, at[0])


# --- imports -----------------------------------------------------------------------------------------


def test_an_import_is_staged_started_done_and_followed_at_different_processes(
    steady: Deployment, at: list[Client]
) -> None:
    data = random.Random(4).randbytes(7 * MIB)
    image_id = new_image(at[0])
    assert stage(at[0], image_id, data).status_code == 204
    assert at[1].show(image_id)["status"] == "uploading"
    seen: list[str] = []
    following = threading.Event()

    def follow() -> None:
        for kind, event in events(at[2], image_id):
            following.set()
            if kind == "image":
                seen.append(event["status"])
                if event["status"] == "active":
                    return

    with ThreadPoolExecutor(1) as threads:
        done = threads.submit(follow)
        assert following.wait(30)
        assert start(at[1], image_id, "glance-direct").status_code == 202
        done.result(60)
    assert (seen[0], seen[-1]) == ("uploading", "active")
    (task,) = tasks_of(at[0], image_id)
    assert task["status"] == "success"
    until(lambda: any(task["id"] in worker.log() for worker in steady.working), 30)
    assert not any(f'"{task["id"]}"' in line for line in taken_up(steady.serving))
    assert at[0].get(f"/v2/images/{image_id}/file").content == data
    assert at[0].delete(f"/v2/images/{image_id}").status_code == 204
    check_store(steady, at[0])


def taken_up(replicas: Sequence[Replica]) -> list[str]:
    """The lines in which these processes tell of work that they took up."""
    return [
        line
        for replica in replicas
        for line in replica.log().splitlines()
        if "task.taken_up" in line
    ]


def test_an_import_is_cancelled_through_another_replica(
    steady: Deployment, at: list[Client]
) -> None:
    data = random.Random(5).randbytes(8 * MIB)
    gate = threading.Event()
    with Web() as web:
        url = web.put("slow", data, gate=gate, takes_ranges=False)
        for way in ("cancel", "delete"):
            image_id = new_image(at[0])
            assert start(at[0], image_id, {"name": "web-download", "uri": url}).status_code == 202
            until(
                lambda image_id=image_id: tasks_of(at[1], image_id)[0]["progress"]["done_bytes"], 30
            )
            (task,) = tasks_of(at[2], image_id)
            if way == "cancel":
                path = f"/v2/images/{image_id}/tasks/{task['id']}/cancel"
                assert at[1].post(path).status_code == 202
                assert ended(at[2], image_id)["status"] == "failure"
                assert at[0].show(image_id)["status"] == "queued"
                assert at[2].delete(f"/v2/images/{image_id}").status_code == 204
            else:
                assert at[1].delete(f"/v2/images/{image_id}").status_code == 204
                assert at[2].get(f"/v2/images/{image_id}").status_code == 404
        gate.set()
        check_store(steady, at[0])


# --- kills -------------------------------------------------------------------------------------------


def test_no_acknowledged_image_is_lost_or_torn_whoever_is_killed(
    cloud: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    choose = random.Random(SEED)
    # Copies to further stores are the administrator's, by the default policy.
    client = cloud.log_in("transom")
    kills = 0
    with Source() as source:
        crowd = Crowd(
            cloud.url, str(client.token), source, seed=SEED, clients=6, second_store="second"
        )
        crowd.start()
        began = time.monotonic()
        try:
            while time.monotonic() - began < KILLS_SECONDS:
                time.sleep(choose.uniform(0.1, 1.2))
                victim = choose.choice(cloud.every)
                victim.kill()
                kills += 1
                time.sleep(choose.uniform(0.0, 1.0))
                victim.launch()
                if choose.random() < 0.2:
                    victim.wait()
            for replica in cloud.every:
                replica.wait()
        finally:
            crowd.stop()
        end = at_rest(cloud, client, crowd)
    history = History(crowd.calls, end)
    found = violations(history)
    with capsys.disabled():
        print(
            f"\nseed {SEED}: {len(history.calls)} calls in {time.monotonic() - began:.0f} s, "
            f"{kills} kills, {history.count(UNKNOWN)} unknown outcomes, "
            f"{len(end.statuses)} images left, {len(found)} violations\n{by_verb(history.calls)}"
        )
    assert not found, "\n".join([*(each[:600] for each in found[:12]), cloud.log_ends(1500)])
    assert kills >= KILLS_SECONDS / 12
    assert history.count(DONE) > 3 * KILLS_SECONDS, "too little was done to tell anything"


def test_clients_find_a_service_out_that_lies(tmp_path: Path) -> None:
    """Otherwise the test above could pass for want of looking."""
    database = {"url": postgres.cluster().database()}
    shared = shared_folders(tmp_path / "stores", database=database, **IMPORTS)
    cloud = Deployment(tmp_path, shared, serving=1, working=0)
    cloud.serving[0].module = "tests.support.lying"
    with cloud, Source() as source:
        crowd = Crowd(cloud.url, str(cloud.log_in("transom").token), source, seed=3, clients=4)
        crowd.start()
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            time.sleep(1)
            found = "\n".join(violations(History(list(crowd.calls))))
            if all(lie in found for lie in LIES):
                break
        crowd.stop()
    missing = [lie for lie in LIES if lie not in found]
    assert not missing, f"{by_verb(crowd.calls)}\n{found[:5000]}"


LIES = (
    "a download gave bytes that are not the image's",
    "was found again",
    "which had been overwritten before",
    "it was active",
)
