"""Questions that many ask at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.support.waiting import until_so
from transom.auth.keystone.rounds import Rounds


class Peer:
    """Answers with the value of the moment at which it was asked, a little later."""

    def __init__(self) -> None:
        self.value = 0
        self.asked: list[str] = []
        self.fails = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def answer(self, key: str) -> int:
        value = self.value
        self.asked.append(key)
        await asyncio.sleep(0.02)
        await self.may_answer.wait()
        if self.fails:
            raise ConnectionError(key)
        return value

    async def is_asked(self, number: int = 1) -> None:
        """Come back when it was asked so often."""
        await until_so(lambda: len(self.asked) >= number)


@pytest.fixture
def peer() -> Peer:
    return Peer()


@pytest.fixture
async def rounds(peer: Peer) -> AsyncIterator[Rounds[int]]:
    made = Rounds(peer.answer)
    yield made
    await made.close()


async def test_who_asks_at_the_same_time_shares_a_question(peer: Peer, rounds: Rounds[int]) -> None:
    assert await asyncio.gather(*(rounds.ask("a") for _ in range(50))) == [0] * 50
    assert peer.asked == ["a"]


async def test_who_comes_while_a_question_is_under_way_gets_a_newer_answer(
    peer: Peer, rounds: Rounds[int]
) -> None:
    peer.may_answer.clear()
    first = asyncio.create_task(rounds.ask("a"))
    await peer.is_asked()
    peer.value = 1
    later = [asyncio.create_task(rounds.ask("a")) for _ in range(50)]
    await asyncio.sleep(0)
    peer.may_answer.set()

    assert await first == 0
    assert set(await asyncio.gather(*later)) == {1}
    assert peer.asked == ["a", "a"]
    peer.value = 2
    assert await rounds.ask("a") == 2


async def test_different_questions_wait_for_nobody(peer: Peer, rounds: Rounds[int]) -> None:
    peer.may_answer.clear()
    asking = asyncio.gather(*(rounds.ask(f"k{number}") for number in range(100)))
    await peer.is_asked(100)
    peer.may_answer.set()
    assert await asking == [0] * 100


async def test_all_who_share_a_question_are_told_that_it_failed(
    peer: Peer, rounds: Rounds[int]
) -> None:
    peer.fails = True
    answers = await asyncio.gather(*(rounds.ask("a") for _ in range(5)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ConnectionError] * 5
    peer.fails = False
    assert await rounds.ask("a") == 0


async def test_who_goes_away_takes_the_answer_from_nobody(peer: Peer, rounds: Rounds[int]) -> None:
    peer.may_answer.clear()
    leaving, staying = (asyncio.create_task(rounds.ask("a")) for _ in range(2))
    await peer.is_asked()
    leaving.cancel()
    peer.may_answer.set()
    assert await staying == 0


async def test_closing_ends_questions_that_are_under_way(peer: Peer, rounds: Rounds[int]) -> None:
    peer.may_answer.clear()
    first = asyncio.create_task(rounds.ask("a"))
    await peer.is_asked()
    second = asyncio.create_task(rounds.ask("a"))
    await asyncio.sleep(0)
    await rounds.close()
    for task in (first, second):
        with pytest.raises(asyncio.CancelledError):
            await task
