"""Reads from the event loop: the same rows as through a thread, or none and then a thread's."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
import uvloop
from sqlalchemy import Connection

from tests.support.catalogs import NOON, an_image, fresh_url
from tests.support.postgres import Cluster
from transom.catalog import Catalog, pipeline
from transom.catalog.engine import Engine, Patience
from transom.catalog.pipeline import Pipeline
from transom.catalog.statements import Prepared
from transom.errors import CatalogUnavailable, ImageNotFound
from transom.model.actor import Actor
from transom.model.query import ImageQuery

ME = Actor(project_id="mine")


@pytest.fixture(params=[asyncio.DefaultEventLoopPolicy, uvloop.EventLoopPolicy])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    """Python's own loop, and the one that serves: they tell of sockets differently."""
    made: asyncio.AbstractEventLoopPolicy = request.param()
    return made


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """PostgreSQL, with the schema and nothing in it."""
    opened = Engine(fresh_url("postgresql", tmp_path))
    yield opened
    opened.close()


@pytest.fixture
def nothing_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the machine takes, statements are asked behind others on their way."""
    monkeypatch.setattr(pipeline, "SLOW_SECONDS", 60.0)


def text(statement: str, *, brief: bool = False) -> Prepared:
    """A statement, ready to run."""
    return Prepared(sa.text(statement), "postgresql", stable=True, brief=brief)


async def answered(
    asked: Engine | Pipeline, statement: Prepared, values: dict[str, Any] | None = None
) -> list[tuple[Any, ...]]:
    """The rows, from the loop: as soon as there is a connection."""
    for _ in range(1000):
        rows = await at_once(asked, statement, values)
        if rows is not None:
            return rows
        await asyncio.sleep(0.01)
    raise AssertionError("the loop never answered")


async def at_once(
    asked: Engine | Pipeline, statement: Prepared, values: dict[str, Any] | None = None
) -> list[tuple[Any, ...]] | None:
    """The rows, from the loop, or None."""
    if isinstance(asked, Engine):
        return await asked.ahead(statement, values or {})
    answer = asked.ask(statement, values or {})
    return None if answer is None else await answer


def through_a_thread(
    engine: Engine, statement: Prepared, values: dict[str, Any]
) -> list[tuple[Any, ...]]:
    """The rows, from a lane."""
    return engine.read_now(lambda connection: statement.rows(connection, values))


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(value, id=name)
        for name, value in {
            "text": "Ünïcode 🚀",
            "empty": "",
            "small": 7,
            "middle": 2**20,
            "large": 2**62,
            "negative": -1,
            "moment": NOON + dt.timedelta(microseconds=1),
            "null": None,
            "yes": True,
            "bytes": b"\0\xff",
            "texts": ["a", "", "ß"],
            "no texts": [],
        }.items()
    ],
)
async def test_values_come_back_as_through_a_thread(engine: Engine, value: object) -> None:
    kinds = {str: "text", int: "bigint", dt.datetime: "timestamptz", bool: "boolean"}
    kind = kinds.get(type(value), "text")
    if isinstance(value, bytes):
        kind = "bytea"
    elif isinstance(value, list):
        kind = "text[]"
    given: sa.BindParameter[Any] = sa.bindparam("value", required=True)
    statement = Prepared(
        sa.select(sa.type_coerce(given, sa.Text).op("::")(sa.text(kind)), sa.text("'beside'")),
        "postgresql",
        stable=True,
    )
    rows = await answered(engine, statement, {"value": value})
    assert rows == through_a_thread(engine, statement, {"value": value})
    assert rows == [(value, "beside")]
    assert await answered(engine, statement, {"value": value}) == rows


async def test_types_may_differ_from_one_call_to_the_next(engine: Engine) -> None:
    given: sa.BindParameter[Any] = sa.bindparam("value", required=True)
    statement = Prepared(sa.select(given.op("+")(sa.text("1"))), "postgresql", stable=True)
    for value in (1, 2**20, 2**40, 1):
        assert await answered(engine, statement, {"value": value}) == [(value + 1,)]


async def test_many_at_once_each_get_their_own_rows(engine: Engine) -> None:
    catalog = Catalog(engine)
    made = [an_image(name=f"image {number}") for number in range(20)]
    for each in made:
        await catalog.images.create(each)
    wanted = [made[number % len(made)] for number in range(500)]
    pages = [catalog.images.list(ImageQuery(limit=1000), seen_by=ME) for _ in range(20)]
    gets = [catalog.images.get(each.id, seen_by=ME) for each in wanted]
    found, listed = await asyncio.gather(asyncio.gather(*gets), asyncio.gather(*pages))
    assert found == wanted
    assert all({each.id for each in page} == {each.id for each in made} for page in listed)


async def test_an_answer_of_many_rows_comes_whole(engine: Engine) -> None:
    statement = text("SELECT n, repeat('x', 1000) FROM generate_series(1, 20000) AS n")
    rows = await answered(engine, statement)
    assert [row[0] for row in rows] == list(range(1, 20001))
    assert all(row[1] == "x" * 1000 for row in rows)


@pytest.mark.usefixtures("nothing_is_slow")
async def test_an_argument_larger_than_the_sockets_buffers_is_sent_whole(engine: Engine) -> None:
    given: sa.BindParameter[Any] = sa.bindparam("value", required=True)
    statement = Prepared(
        sa.select(sa.func.length(sa.cast(given, sa.Text))), "postgresql", stable=True
    )
    await answered(engine, statement, {"value": "x"})
    sizes = [5_000_000, 3, 4_000_000, 5]
    answers = [engine.ahead(statement, {"value": "x" * size}) for size in sizes]
    assert await asyncio.gather(*answers) == [[(size,)] for size in sizes]


async def test_what_was_written_before_is_read(engine: Engine) -> None:
    catalog = Catalog(engine)
    await answered(engine, text("SELECT 1"))
    for _ in range(50):
        there = an_image()
        await catalog.images.create(there)
        assert await catalog.images.get(there.id, seen_by=ME) == there
        gone = await catalog.images.delete(there.id, now=NOON, delayed=False)
        assert gone.id == there.id
        with pytest.raises(ImageNotFound):
            await catalog.images.get(there.id, seen_by=ME)


@pytest.mark.usefixtures("nothing_is_slow")
async def test_a_statement_that_fails_has_no_answer_and_harms_no_other(engine: Engine) -> None:
    good = text("SELECT 'good'")
    await answered(engine, good)
    number: sa.BindParameter[Any] = sa.bindparam("value", required=True)
    bad = Prepared(sa.select(1 / sa.cast(number, sa.Integer)), "postgresql", stable=True)
    wrong = text("SELECT nothing FROM nowhere")
    found = await asyncio.gather(
        engine.ahead(good, {}),
        engine.ahead(bad, {"value": 0}),
        engine.ahead(good, {}),
        engine.ahead(wrong, {}),
        engine.ahead(good, {}),
    )
    assert [*found] == [[("good",)], None, [("good",)], None, [("good",)]]
    assert await answered(engine, bad, {"value": 1}) == [(1,)]
    with pytest.raises(psycopg.errors.UndefinedTable):
        await engine.rows(wrong, {})


@pytest.mark.usefixtures("nothing_is_slow")
async def test_brief_statements_of_one_round_go_together(engine: Engine) -> None:
    # All that PostgreSQL does between two syncs is one transaction, which has one time.
    brief, other = text("SELECT now()", brief=True), text("SELECT now(), 'alone'")
    await answered(engine, other)
    together = [await answered(engine, brief)]
    for _ in range(3):
        found = await asyncio.gather(*(engine.ahead(brief, {}) for _ in range(6)))
        assert found[0] is not None
        assert found == [found[0]] * 6
        together.append(found[0])
    assert len({rows[0] for rows in together}) == 4
    alone = await asyncio.gather(*(engine.ahead(other, {}) for _ in range(6)))
    assert len({rows[0] for rows in alone if rows is not None}) == 6


async def test_brief_statements_that_go_together_each_get_their_own_rows(engine: Engine) -> None:
    given: sa.BindParameter[Any] = sa.bindparam("value", required=True)
    kinds: list[Any] = [sa.Integer, sa.Text, sa.Date]
    statements = [
        Prepared(
            sa.select(sa.cast(given, sa.Text), sa.cast(None, kind)),
            "postgresql",
            stable=True,
            brief=True,
        )
        for kind in kinds
    ]
    await answered(engine, text("SELECT 1"))
    asked = [(statements[number % 3], f"value {number}") for number in range(30)]
    for _ in range(2):
        # The first time they are prepared on the way.
        found = await asyncio.gather(
            *(engine.rows(statement, {"value": value}) for statement, value in asked)
        )
        assert [*found] == [[(value, None)] for _, value in asked]


@pytest.mark.usefixtures("nothing_is_slow")
async def test_who_went_together_with_a_failure_reads_through_a_thread(engine: Engine) -> None:
    number: sa.BindParameter[Any] = sa.bindparam("value", required=True)
    divided = Prepared(
        sa.select(8 / sa.cast(number, sa.Integer)), "postgresql", stable=True, brief=True
    )
    assert await answered(engine, divided, {"value": 4}) == [(2,)]
    before = engine.ahead(text("SELECT 'before'"), {})
    values = [4, 2, 0, 1]
    results = await asyncio.gather(
        before, *(engine.ahead(divided, {"value": value}) for value in values)
    )
    assert [*results] == [[("before",)], [(2,)], [(4,)], None, None]
    found = await asyncio.gather(
        *(engine.rows(divided, {"value": value}) for value in values), return_exceptions=True
    )
    assert found[:2] + found[3:] == [[(2,)], [(4,)], [(8,)]]
    assert isinstance(found[2], psycopg.errors.DivisionByZero)
    assert await answered(engine, divided, {"value": 8}) == [(1,)]
    # One that cannot even be prepared takes those with it that wait for the same preparation.
    wrong, good = text("SELECT nothing FROM nowhere", brief=True), text("SELECT 'good'", brief=True)
    assert await asyncio.gather(
        engine.ahead(wrong, {}), engine.ahead(good, {}), engine.ahead(wrong, {})
    ) == [None, None, None]
    assert await engine.rows(good, {}) == [("good",)]
    assert await answered(engine, good) == [("good",)]


async def test_brief_statements_do_not_wait_for_others_of_their_round(engine: Engine) -> None:
    brief, slow = text("SELECT 'brief'", brief=True), text("SELECT pg_sleep(3)")
    await answered(engine, brief)
    first = asyncio.ensure_future(engine.ahead(brief, {}))
    waiting = asyncio.ensure_future(engine.ahead(slow, {}))
    assert await first == [("brief",)]
    assert not waiting.done()
    await waiting


async def test_nobody_waits_behind_a_slow_statement(engine: Engine) -> None:
    quick, slow = text("SELECT 'quick'"), text("SELECT pg_sleep(3)")
    await answered(engine, quick)
    waiting = asyncio.create_task(engine.rows(slow, {}))
    await asyncio.sleep(0.1)
    assert await engine.rows(quick, {}) == [("quick",)]
    assert not waiting.done()
    assert len(await waiting) == 1


async def test_a_cancelled_caller_leaves_the_others_their_rows(engine: Engine) -> None:
    number: sa.BindParameter[Any] = sa.bindparam("value", required=True)
    statement = Prepared(sa.select(sa.cast(number, sa.Integer)), "postgresql", stable=True)
    await answered(engine, statement, {"value": 0})
    tasks = [asyncio.create_task(engine.rows(statement, {"value": number})) for number in range(8)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in found[::2])
    assert found[1::2] == [[(number,)] for number in range(1, 8, 2)]


async def test_the_loop_answers_again_after_the_server_restarted(tmp_path: Path) -> None:
    cluster = Cluster.start()
    engine = Engine(cluster.database(), patience=Patience(outage_seconds=2.0))
    catalog = Catalog(engine)
    try:
        await asyncio.to_thread(catalog.upgrade)
        there = an_image()
        await catalog.images.create(there)
        one = text("SELECT 1")
        await answered(engine, one)
        on_its_way = asyncio.create_task(engine.ahead(text("SELECT pg_sleep(30)"), {}))
        await asyncio.sleep(0.1)
        await asyncio.to_thread(cluster.down)
        assert await on_its_way is None
        with pytest.raises(CatalogUnavailable):
            await catalog.images.get(there.id, seen_by=ME)
        await asyncio.to_thread(cluster.up)
        assert await catalog.images.get(there.id, seen_by=ME) == there
        assert await answered(engine, one) == [(1,)]
    finally:
        catalog.close()
        cluster.remove()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_who_waits_is_told_when_the_server_ends_with_requests_unread(
    how: signal.Signals,
) -> None:
    """The socket tells of an error and has an answer at the same time then."""
    cluster = Cluster.start()
    engine = Engine(cluster.database(), patience=Patience(outage_seconds=0.2))
    try:
        [(pid,)] = await answered(engine, text("SELECT pg_backend_pid()"))
        large = text("SELECT repeat('x', 60000)")
        assert await engine.ahead(large, {}) is not None
        first = asyncio.ensure_future(engine.ahead(large, {}))
        await asyncio.sleep(0)
        # The answer is there; the loop does not look at it before the server is gone.
        time.sleep(0.3)  # noqa: ASYNC251 - the loop itself is held up
        os.kill(pid, signal.SIGSTOP)
        second = asyncio.ensure_future(engine.ahead(large, {}))
        await asyncio.sleep(0)
        os.kill(pid, how)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        time.sleep(0.3)  # noqa: ASYNC251 - the loop itself is held up

        began = time.monotonic()
        assert await second is None
        assert await first in (None, [("x" * 60000,)])
        assert time.monotonic() - began < 5
    finally:
        engine.close()
        cluster.remove()


async def test_a_server_that_says_nothing_is_given_up(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "GRACE_SECONDS", 0.0)
    ahead = Pipeline(engine._reading.connect, 0.3)
    try:
        await answered(ahead, text("SELECT 1"))
        began = time.monotonic()
        assert await at_once(ahead, text("SELECT pg_sleep(20)")) is None
        assert 0.2 < time.monotonic() - began < 5
    finally:
        ahead.close()


async def test_more_connections_are_opened_for_a_crowd_and_no_more_than_allowed(
    engine: Engine,
) -> None:
    opened: list[Connection] = []

    def connect() -> Connection:
        opened.append(engine._reading.connect())
        return opened[-1]

    ahead = Pipeline(connect, 30.0)
    quick = text("SELECT 1")
    try:
        for _ in range(200):
            answers = await asyncio.gather(*(at_once(ahead, quick) for _ in range(200)))
            assert all(answer in (None, [(1,)]) for answer in answers)
            if len(opened) == pipeline.CHANNELS_MAX:
                break
            await asyncio.sleep(0.01)
        assert len(opened) == pipeline.CHANNELS_MAX
    finally:
        ahead.close()


async def test_a_database_that_is_not_there_is_not_knocked_at_all_the_time(engine: Engine) -> None:
    tried: list[float] = []

    def connect() -> Connection:
        tried.append(time.monotonic())
        raise OSError("not there")

    ahead = Pipeline(connect, 30.0)
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        assert await at_once(ahead, text("SELECT 1")) is None
        await asyncio.sleep(0.01)
    ahead.close()
    assert len(tried) == 1


async def test_a_connection_that_has_learnt_too_much_is_replaced(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "KNOWN_MAX", 3)
    found = [await answered(engine, text(f"SELECT {number}")) for number in range(10)]
    assert found == [[(number,)] for number in range(10)]


def test_one_loop_after_the_other_is_served(tmp_path: Path) -> None:
    engine = Engine(fresh_url("postgresql", tmp_path))
    try:
        for _ in range(3):
            assert asyncio.run(answered(engine, text("SELECT 1"))) == [(1,)]
    finally:
        engine.close()


async def test_a_second_loop_beside_the_first_is_sent_to_the_threads(engine: Engine) -> None:
    one = text("SELECT 1")
    await answered(engine, one)
    found: list[Any] = []

    def elsewhere() -> None:
        async def both() -> tuple[Any, Any]:
            return await engine.ahead(one, {}), await engine.rows(one, {})

        found.append(asyncio.run(both()))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert found == [(None, [(1,)])]
    assert await engine.ahead(one, {}) == [(1,)]


async def test_closing_sends_those_who_wait_away(tmp_path: Path) -> None:
    engine = Engine(fresh_url("postgresql", tmp_path))
    await answered(engine, text("SELECT 1"))
    waiting = asyncio.create_task(engine.ahead(text("SELECT pg_sleep(20)"), {}))
    await asyncio.sleep(0.05)
    began = time.monotonic()
    engine.close()
    assert await waiting is None
    assert await engine.ahead(text("SELECT 1"), {}) is None
    assert time.monotonic() - began < 5


async def test_sqlite_has_its_threads_alone(tmp_path: Path) -> None:
    engine = Engine(fresh_url("sqlite", tmp_path))
    statement = Prepared(sa.text("SELECT 1"), "sqlite", stable=True)
    assert await engine.ahead(statement, {}) is None
    assert await engine.rows(statement, {}) == [(1,)]
    engine.close()
