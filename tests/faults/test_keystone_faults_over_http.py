"""What clients are told while Keystone misbehaves: known tokens go on, others come back later."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from tests.faults.fake_keystone import PASSWORD, USER, FakeKeystone
from tests.support.server import ServerProcess

pytestmark = pytest.mark.faults

MANNERS = [
    "hang",
    "close",
    "garbage",
    "cut short",
    "kept html 200",
    "kept html 404",
    "kept html 500",
    "kept json 500",
    "kept other json",
    "kept empty 200",
    "kept 503",
]


class Cloud:
    """A Keystone that can misbehave, and a Transom that trusts it."""

    def __init__(self, keystone: FakeKeystone, server: ServerProcess) -> None:
        self.keystone = keystone
        self.server = server
        self._http = httpx.AsyncClient(base_url=server.url, timeout=60, trust_env=False)

    async def get(self, path: str, token: str | None) -> httpx.Response:
        """GET with a token."""
        return await self._http.get(path, headers={"X-Auth-Token": token} if token else {})

    async def close(self) -> None:
        """Free connections."""
        await self._http.aclose()


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    async with FakeKeystone() as keystone:
        server = ServerProcess(
            tmp_path / "transom",
            {
                "identity": {
                    "backend": "keystone",
                    "keystone": {
                        "auth_url": keystone.url,
                        "username": USER,
                        "password": PASSWORD,
                    },
                }
            },
        )
        await asyncio.to_thread(server.start)
        made = Cloud(keystone, server)
        yield made
        await made.close()
        await asyncio.to_thread(server.kill)


def check_later(answer: httpx.Response) -> None:
    """503, when to come back, and no word about the token."""
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) > 0
    assert "www-authenticate" not in answer.headers


@pytest.mark.parametrize("manners", MANNERS)
async def test_known_tokens_go_on_and_others_are_asked_to_come_back(
    cloud: Cloud, manners: str
) -> None:
    assert (await cloud.get("/v2/images", "good-known")).status_code == 200
    cloud.keystone.validate = manners
    for number in range(3):
        check_later(await cloud.get("/v2/images", f"good-new-{number}"))
        assert (await cloud.get("/v2/images", "good-known")).status_code == 200
    assert (await cloud.get("/healthcheck", None)).status_code == 200
    assert (await cloud.get("/v2/images", None)).status_code == 401

    cloud.keystone.validate = "well"
    deadline = time.monotonic() + 20
    while (answer := await cloud.get("/v2/images", "good-new-0")).status_code == 503:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)
    assert answer.status_code == 200


async def test_a_keystone_that_is_away_at_the_start_is_waited_for(cloud: Cloud) -> None:
    await cloud.keystone.stop()
    check_later(await cloud.get("/v2/images", "good-1"))
    await cloud.keystone.start()
    deadline = time.monotonic() + 20
    while (await cloud.get("/v2/images", "good-1")).status_code != 200:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)


async def test_a_hundred_new_tokens_do_not_pile_up_while_it_hangs(cloud: Cloud) -> None:
    assert (await cloud.get("/v2/images", "good-known")).status_code == 200
    cloud.keystone.validate = "hang"
    check_later(await cloud.get("/v2/images", "good-first"))

    begin = time.monotonic()
    answers = await asyncio.gather(
        *(cloud.get("/v2/images", f"good-{number}") for number in range(100)),
        *(cloud.get("/v2/images", "good-known") for _ in range(20)),
    )

    for answer in answers[:100]:
        check_later(answer)
    assert {answer.status_code for answer in answers[100:]} == {200}
    # One of them tries again, at most as long as Keystone may take.
    assert time.monotonic() - begin < 15
    assert sum(cloud.keystone.asked.values()) <= 5


@pytest.mark.parametrize(
    ("token", "statuses"),
    [
        ("revoked", (401, 401, 401)),
        # Valid, in a project, and with no role there: nothing is listed, and nothing exists.
        ("bare-1", (403, 404, 403)),
    ],
)
async def test_a_token_that_is_good_for_nothing_is_told_so(
    cloud: Cloud, token: str, statuses: tuple[int, int, int]
) -> None:
    image = "/v2/images/00000000-0000-4000-8000-00000000dead"
    listed, shown = (await cloud.get("/v2/images", token)), (await cloud.get(image, token))
    made = await cloud._http.post("/v2/images", json={}, headers={"X-Auth-Token": token})
    assert (listed.status_code, shown.status_code, made.status_code) == statuses
    if statuses[0] == 401:
        assert listed.headers["www-authenticate"] == f'Keystone uri="{cloud.keystone.url}"'
    else:
        assert (await cloud.get("/v2/schemas/image", token)).status_code == 200


@pytest.mark.parametrize("ahead", [-7200.0, 7200.0])
async def test_a_clock_that_differs_from_keystones_changes_nothing(
    cloud: Cloud, ahead: float
) -> None:
    cloud.keystone.clock_ahead_seconds = ahead
    for _ in range(3):
        assert (await cloud.get("/v2/images", "good-1")).status_code == 200
    assert cloud.keystone.asked == {"good-1": 1}


async def test_neither_tokens_nor_the_password_reach_the_log(
    cloud: Cloud, wait_for_log: Callable[[ServerProcess], str]
) -> None:
    for token in ("good-secret-token", "unknown-secret-token", "service-secret-token"):
        await cloud.get("/v2/images", token)
    cloud.keystone.validate = "kept html 500"
    await cloud.get("/v2/images", "good-other-secret-token")
    cloud.keystone.login = "close"
    cloud.keystone.own_tokens.clear()
    await cloud.get("/v2/images", "good-third-secret-token")
    log = wait_for_log(cloud.server)
    for secret in ("secret-token", PASSWORD, "own1"):
        assert secret not in log


@pytest.fixture
def wait_for_log() -> Callable[[ServerProcess], str]:
    """The log, once it has something to say."""

    def wait(server: ServerProcess) -> str:
        deadline = time.monotonic() + 10
        while not (log := server.log()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return log

    return wait
