"""What clients are told while PostgreSQL restarts, is away, or keeps others waiting: over HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.conftest import configured
from tests.support.postgres import Cluster
from tests.support.server import Client, ServerProcess, told

pytestmark = pytest.mark.faults

DATA = b"bytes of an image" * 10_000


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL that nobody else uses."""
    made = Cluster.start()
    yield made
    made.remove()


@pytest.fixture
def served(cluster: Cluster, tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Servers on databases of their own, with settings of `[database]`."""
    made: list[ServerProcess] = []

    def get(**database: Any) -> ServerProcess:
        url = cluster.database()
        server = configured(tmp_path / f"server{len(made)}", {"database": {"url": url, **database}})
        made.append(server)
        return server.start()

    yield get
    for each in made:
        each.kill()
        cluster.drop(each.config["database"]["url"])


def away(answer: httpx.Response, words: str) -> bool:
    """True for the answer that tells to come again."""
    if answer.status_code != 503:
        return False
    assert int(answer.headers["retry-after"]) > 0
    assert words in answer.text
    assert "postgres" not in answer.text.lower()
    return True


def test_a_restart_in_the_middle_of_requests_is_not_noticed(
    served: Callable[..., ServerProcess], cluster: Cluster
) -> None:
    server = served(outage_seconds=20.0)
    admin = server.log_in_to_cloud()
    there = admin.create(name="there")
    ends = threading.Event()
    created: list[str] = []
    wrong: list[str] = []
    counts = {"read": 0, "written": 0, "unsure": 0}

    def client() -> Client:
        return server.client(admin.token, "admin")

    def read(mine: Client) -> None:
        while not ends.is_set():
            for path in (
                f"/v2/images/{there['id']}",
                "/v2/images?limit=5",
                "/v2/images?name=there",
            ):
                answer = mine.get(path)
                counts["read"] += 1
                if answer.status_code != 200:
                    wrong.append(told(answer))

    def write(mine: Client) -> None:
        while not ends.is_set():
            answer = mine.post(
                "/v2/images", json={"disk_format": "raw", "container_format": "bare"}
            )
            if away(answer, "not available"):
                # The connection broke while PostgreSQL was asked to commit.
                counts["unsure"] += 1
                continue
            if answer.status_code != 201:
                wrong.append(told(answer))
                continue
            image_id = answer.json()["id"]
            created.append(image_id)
            counts["written"] += 1
            answer = mine.put_data(image_id, DATA)
            if answer.status_code != 204 and not away(answer, "not available"):
                wrong.append(told(answer))

    threads = [
        threading.Thread(target=work, args=(client(),)) for work in (read, read, read, write, write)
    ]
    for thread in threads:
        thread.start()
    for _ in range(3):
        time.sleep(0.7)
        cluster.restart()
    time.sleep(0.7)
    ends.set()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert counts["read"] > 50
    assert counts["written"] > 5
    # Two writers, three restarts.
    assert counts["unsure"] <= 6
    assert set(created) <= set(admin.list_ids())
    states = [admin.show(each)["status"] for each in created]
    assert set(states) <= {"active", "queued"}, states
    assert states.count("active") >= len(created) - 6


def test_a_server_that_stays_away_is_told_at_once_and_used_again_when_it_is_back(
    served: Callable[..., ServerProcess], cluster: Cluster
) -> None:
    server = served(outage_seconds=0.5)
    admin = server.log_in_to_cloud()
    image = admin.create(name="there", disk_format="raw", container_format="bare")
    cluster.down()
    try:
        began = time.monotonic()
        assert away(admin.get(f"/v2/images/{image['id']}"), "not available")
        assert time.monotonic() - began < 5
        for request in (
            lambda: admin.get("/v2/images"),
            lambda: admin.get(f"/v2/images/{image['id']}"),
            lambda: admin.post("/v2/images", json={"name": "new"}),
            lambda: admin.put_data(image["id"], DATA),
            lambda: admin.delete(f"/v2/images/{image['id']}"),
        ):
            began = time.monotonic()
            answer = request()
            assert away(answer, "not available"), told(answer)
            assert time.monotonic() - began < 1
        problem = admin.get("/v2/images", headers={"Accept": "application/problem+json"}).json()
        # Whichever of the two needed the database first.
        assert problem["type"] in (
            "urn:transom:error:CatalogUnavailable",
            "urn:transom:error:IdentityUnavailable",
        )
        assert problem["retryable"] is True
        assert admin.get("/healthcheck").status_code == 200
        assert admin.get("/readyz").status_code == 503
    finally:
        cluster.up()
    assert admin.show(image["id"])["status"] == "queued"
    assert admin.upload(image["id"], DATA)["size"] == len(DATA)
    assert admin.get("/readyz").status_code == 200
    assert server.is_alive()


@pytest.mark.parametrize(
    "setting", [{"lock_timeout_seconds": 0.5}, {"statement_timeout_seconds": 0.5}], ids=str
)
def test_who_is_kept_waiting_too_long_is_told_to_come_again(
    served: Callable[..., ServerProcess], cluster: Cluster, setting: dict[str, float]
) -> None:
    server = served(**setting)
    admin = server.log_in_to_cloud()
    image = admin.create(name="there")
    with psycopg.connect(server.config["database"]["url"]) as other:
        other.execute("SELECT 1 FROM images WHERE id = %s FOR UPDATE", (image["id"],))
        began = time.monotonic()
        answer = admin.patch(
            f"/v2/images/{image['id']}", [{"op": "replace", "path": "/name", "value": "new"}]
        )
        assert away(answer, "too busy"), told(answer)
        assert 0.4 < time.monotonic() - began < 5
        problem = admin.delete(
            f"/v2/images/{image['id']}", headers={"Accept": "application/problem+json"}
        ).json()
        assert problem["type"] == "urn:transom:error:CatalogBusy"
        # Reading waits for nobody.
        assert admin.show(image["id"])["name"] == "there"
        other.rollback()
    answer = admin.patch(
        f"/v2/images/{image['id']}", [{"op": "replace", "path": "/name", "value": "new"}]
    )
    assert answer.json()["name"] == "new"


def test_a_start_waits_for_a_database_that_is_starting(
    served: Callable[..., ServerProcess], cluster: Cluster
) -> None:
    server = served(outage_seconds=20.0)
    server.stop()
    cluster.down()
    late = threading.Timer(1.0, cluster.up)
    late.start()
    try:
        server.start()
    finally:
        late.join()
    assert server.is_alive()
