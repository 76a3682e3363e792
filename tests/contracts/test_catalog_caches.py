"""What the catalog promises about the caches of nodes, on every database."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid

from tests.support.catalogs import NOON
from transom.catalog import Catalog
from transom.catalog.caches import Cached

SECOND = dt.timedelta(seconds=1)


def an_id() -> str:
    return str(uuid.uuid4())


async def test_what_a_node_has_and_waits_for_is_told_oldest_first(catalog: Catalog) -> None:
    waiting, held, elsewhere = an_id(), an_id(), an_id()
    await catalog.caches.put("here", held, 7, NOON + SECOND)
    await catalog.caches.queue("here", waiting, NOON)
    await catalog.caches.put("there", elsewhere, 9, NOON)

    assert await catalog.caches.of_node("here") == [
        Cached(node="here", image_id=waiting, is_queued=True, size_bytes=0, hits=0),
        Cached(node="here", image_id=held, is_queued=False, size_bytes=7, hits=0),
    ]


async def test_the_nodes_that_have_an_image_are_told_not_those_that_wait(catalog: Catalog) -> None:
    image_id = an_id()
    await catalog.caches.put("b", image_id, 7, NOON)
    await catalog.caches.put("a", image_id, 7, NOON)
    await catalog.caches.queue("c", image_id, NOON)

    assert await catalog.caches.nodes_of(image_id) == ["a", "b"]
    assert await catalog.caches.nodes_of(an_id()) == []


async def test_what_was_waited_for_is_there_and_is_not_waited_for_again(catalog: Catalog) -> None:
    image_id = an_id()
    await catalog.caches.queue("here", image_id, NOON)
    await catalog.caches.put("here", image_id, 7, NOON + SECOND)
    await catalog.caches.queue("here", image_id, NOON + SECOND)

    [only] = await catalog.caches.of_node("here")
    assert (only.is_queued, only.size_bytes) == (False, 7)


async def test_hits_are_added_for_what_the_node_has(catalog: Catalog) -> None:
    one, other = an_id(), an_id()
    await catalog.caches.put("here", one, 7, NOON)
    await catalog.caches.put("there", one, 7, NOON)
    await catalog.caches.put("here", other, 7, NOON + SECOND)

    await catalog.caches.add_hits("here", {one: 2, other: 1, an_id(): 5})
    await catalog.caches.add_hits("here", {one: 3})

    assert [row.hits for row in await catalog.caches.of_node("here")] == [5, 1]
    assert [row.hits for row in await catalog.caches.of_node("there")] == [0]


async def test_what_a_node_forgets_other_nodes_still_have(catalog: Catalog) -> None:
    one, other, waiting = an_id(), an_id(), an_id()
    for node in ("here", "there"):
        await catalog.caches.put(node, one, 7, NOON)
        await catalog.caches.put(node, other, 7, NOON)
        await catalog.caches.queue(node, waiting, NOON)

    await catalog.caches.forget("here", [one, waiting])
    await catalog.caches.forget("here", [])

    assert [row.image_id for row in await catalog.caches.of_node("here")] == [other]
    assert len(await catalog.caches.of_node("there")) == 3


async def test_processes_of_a_node_may_tell_of_one_image_at_once(catalog: Catalog) -> None:
    for _ in range(10):
        image_id = an_id()
        await asyncio.gather(
            *(catalog.caches.queue("here", image_id, NOON) for _ in range(4)),
            *(catalog.caches.put("here", image_id, 7, NOON) for _ in range(4)),
        )
        assert await catalog.caches.nodes_of(image_id) == ["here"]
