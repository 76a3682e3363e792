"""What the catalog makes of a PostgreSQL that restarts, stays away, changes its mind or takes long."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from tests.support.catalogs import an_image
from tests.support.postgres import Cluster
from transom.catalog import Catalog
from transom.catalog.engine import Engine, Patience
from transom.catalog.images import insert
from transom.catalog.schema import images
from transom.errors import CatalogBusy, CatalogUnavailable
from transom.model.actor import Actor
from transom.model.image import Image
from transom.model.query import ImageQuery

ME = Actor(project_id="mine")
Opened = Callable[..., Catalog]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A server that nobody else uses."""
    made = Cluster.start()
    yield made
    made.remove()


@pytest.fixture
def opened(cluster: Cluster) -> Iterator[Opened]:
    """Opens catalogs over one database, with what they put up with."""
    url = cluster.database()
    made: list[Catalog] = []

    def get(**patience: float) -> Catalog:
        made.append(Catalog(Engine(url, patience=Patience(**patience))))
        made[-1].upgrade()
        return made[-1]

    yield get
    for each in made:
        each.close()
    cluster.drop(url)


def touch(image: Image) -> Callable[[Connection], int]:
    """Work that writes the image's row."""
    statement = (
        sa.update(images).where(images.c.id == image.id).values(revision=images.c.revision + 1)
    )
    return lambda connection: connection.execute(statement).rowcount


# --- away ------------------------------------------------------------------------------------------


async def test_a_restart_is_waited_for(opened: Opened, cluster: Cluster) -> None:
    catalog = opened(outage_seconds=20.0)
    there = an_image()
    await catalog.images.create(there)
    cluster.down()
    asked = [
        asyncio.create_task(catalog.images.get(there.id, seen_by=ME)),
        asyncio.create_task(catalog.images.list(ImageQuery(limit=5), seen_by=ME)),
        asyncio.create_task(catalog.images.create(an_image(owner="other"))),
    ]
    await asyncio.sleep(0.3)
    assert not any(each.done() for each in asked)
    await asyncio.to_thread(cluster.up)
    shown, listed, _ = await asyncio.gather(*asked)
    assert shown == there
    assert listed == [there]


async def test_nobody_waits_for_a_server_that_stays_away(opened: Opened, cluster: Cluster) -> None:
    catalog = opened(outage_seconds=3.0)
    await catalog.images.create(an_image())
    cluster.down()
    try:
        began = time.monotonic()
        with pytest.raises(CatalogUnavailable) as first:
            await catalog.check()
        assert time.monotonic() - began >= 2.9
        assert not isinstance(first.value, CatalogBusy)
        began = time.monotonic()
        outcomes = await asyncio.gather(
            *(catalog.check() for _ in range(20)),
            *(catalog.images.create(an_image()) for _ in range(20)),
            return_exceptions=True,
        )
        assert {type(each) for each in outcomes} == {CatalogUnavailable}
        assert time.monotonic() - began < 3
    finally:
        cluster.up()
    await catalog.check()
    await catalog.images.create(an_image())


async def test_a_write_is_done_once_when_its_connection_breaks_before_the_commit(
    opened: Opened, cluster: Cluster
) -> None:
    catalog = opened()
    image = an_image()
    tries: list[int] = []

    def work(connection: Connection) -> None:
        tries.append(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())
        insert(connection, image)
        if len(tries) == 1:
            cluster.sql(f"SELECT pg_terminate_backend({tries[0]})")
            time.sleep(0.1)
            connection.exec_driver_sql("SELECT 1")

    await catalog.engine.write(work)
    assert len(set(tries)) == len(tries) == 2
    assert (await catalog.images.get(image.id, seen_by=ME)) == image


async def test_nobody_repeats_a_commit_whose_answer_was_lost(
    opened: Opened, cluster: Cluster
) -> None:
    """It may have been done: to do it again would be to do it twice."""
    catalog = opened()
    image = an_image()
    await catalog.images.create(image)
    runs: list[str] = []
    # Commits are held up by a trigger that waits for its connection to be ended.
    wait = (
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$"
    )
    trigger = (
        "CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON images DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION wait()"
    )
    name = str(catalog.engine.url.database)
    cluster.sql(wait, trigger, database=name)

    def work(connection: Connection) -> None:
        runs.append(str(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()))
        touch(image)(connection)

    writing = asyncio.create_task(catalog.engine.write(work))
    while not cluster.sql(
        "SELECT 1 FROM pg_stat_activity WHERE query = 'COMMIT' AND state = 'active' "
        f"AND datname = '{name}'"
    ):
        assert not writing.done()
        await asyncio.sleep(0.02)
    cluster.sql(f"SELECT pg_terminate_backend({runs[0]})")
    with pytest.raises(CatalogUnavailable):
        await writing
    assert len(runs) == 1
    cluster.sql("DROP TRIGGER slow ON images", database=name)
    assert (await catalog.images.get(image.id, seen_by=ME)).revision == 0


async def test_a_server_that_only_reads_is_left_for_the_one_that_writes(
    opened: Opened, cluster: Cluster
) -> None:
    """After a failover the old connections lead to a server that is second now."""
    catalog = opened(outage_seconds=20.0)
    await catalog.images.create(an_image())
    name = str(catalog.engine.url.database)
    cluster.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    cluster.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    )
    writing = asyncio.create_task(catalog.images.create(an_image()))
    await asyncio.sleep(0.3)
    assert not writing.done()
    cluster.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = off")
    await writing


# --- too long --------------------------------------------------------------------------------------


async def test_a_statement_that_takes_too_long_is_given_up(opened: Opened) -> None:
    catalog = opened(statement_seconds=0.3)
    for verb in (catalog.engine.read, catalog.engine.write):
        began = time.monotonic()
        with pytest.raises(CatalogBusy, match="too busy"):
            await verb(lambda connection: connection.exec_driver_sql("SELECT pg_sleep(9)").all())
        assert time.monotonic() - began < 3
    await catalog.check()


async def test_a_row_that_another_transaction_holds_is_waited_for_only_so_long(
    opened: Opened,
) -> None:
    patient, hasty = opened(), opened(lock_seconds=0.3)
    image = an_image()
    await patient.images.create(image)
    held, done = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        touch(image)(connection)
        held.set()
        assert done.wait(10)

    holding = asyncio.create_task(patient.engine.write(hold))
    await asyncio.to_thread(held.wait, 10)
    with pytest.raises(CatalogBusy):
        await hasty.engine.write(touch(image))
    # What others hold keeps nobody from reading.
    assert await hasty.images.get(image.id, seen_by=ME) == image
    waiting = asyncio.create_task(patient.engine.write(touch(image)))
    done.set()
    await holding
    assert await waiting == 1


async def test_a_transaction_that_stands_still_loses_what_it_holds(opened: Opened) -> None:
    """A process that is frozen in a transaction must not stop the others for ever."""
    frozen, other = opened(idle_transaction_seconds=0.3), opened()
    image = an_image()
    await other.images.create(image)
    stood, written = threading.Event(), threading.Event()

    def stand(connection: Connection) -> None:
        touch(image)(connection)
        if not stood.is_set():
            stood.set()
            assert written.wait(30)
            connection.exec_driver_sql("SELECT 1")

    standing = asyncio.create_task(frozen.engine.write(stand))
    await asyncio.to_thread(stood.wait, 10)
    # It could not be written while the other held it, and that one still stands.
    assert await other.engine.write(touch(image)) == 1
    written.set()
    # It was done again, from its beginning.
    await standing
    assert (await other.images.get(image.id, seen_by=ME)).revision == 2


async def test_who_waits_too_long_for_a_connection_is_told(opened: Opened) -> None:
    catalog = opened(pool_wait_seconds=0.2)
    held, done = threading.Semaphore(0), threading.Event()

    def hold(connection: Connection) -> None:
        connection.exec_driver_sql("SELECT 1")
        held.release()
        assert done.wait(30)

    slow = []
    for _ in range(4):
        slow.append(asyncio.create_task(catalog.engine.write(hold)))
        assert await asyncio.to_thread(held.acquire, timeout=10)
    late = asyncio.create_task(catalog.images.create(an_image()))
    await asyncio.sleep(0.5)
    done.set()
    with pytest.raises(CatalogBusy):
        await late
    await asyncio.gather(*slow)
    await catalog.images.create(an_image())
