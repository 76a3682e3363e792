"""What the nodes have in their caches, and what they are to fetch."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from transom.catalog.cache_tables import cached_images
from transom.catalog.engine import Engine, lock
from transom.catalog.schema import ONE


class Cached(msgspec.Struct, frozen=True, kw_only=True):
    """One image in the cache of one node, or waiting to be."""

    node: str
    image_id: str
    is_queued: bool
    size_bytes: int
    hits: int


class Caches:
    """The caches of all nodes. Every method may raise CatalogUnavailable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def of_node(self, node: str) -> list[Cached]:
        """What a node has and waits for, oldest first."""
        statement = (
            sa.select(cached_images)
            .where(cached_images.c.node == node)
            .order_by(cached_images.c.since, cached_images.c.image_id)
        )
        return await self._engine.read(
            lambda connection: [
                Cached(
                    node=row.node,
                    image_id=row.image_id,
                    is_queued=row.state == "queued",
                    size_bytes=row.size_bytes,
                    hits=row.hits,
                )
                for row in connection.execute(statement)
            ]
        )

    async def nodes_of(self, image_id: str) -> list[str]:
        """The nodes that have the image in their cache."""
        statement = (
            sa.select(cached_images.c.node)
            .where(cached_images.c.image_id == image_id, cached_images.c.state == "cached")
            .order_by(cached_images.c.node)
        )
        return await self._engine.read(
            lambda connection: list(connection.execute(statement).scalars())
        )

    async def queue(self, node: str, image_id: str, now: dt.datetime) -> None:
        """Have a node fetch an image; one that it has or waits for stays as it is."""

        def work(connection: Connection) -> None:
            _hold(connection, node, image_id)
            mine = sa.select(ONE).where(_is(node, image_id))
            if connection.execute(mine).first() is None:
                _insert(connection, node, image_id, "queued", 0, now)

        await self._engine.write(work)

    async def put(self, node: str, image_id: str, size_bytes: int, now: dt.datetime) -> None:
        """A node has the image now (bytes)."""

        def work(connection: Connection) -> None:
            _hold(connection, node, image_id)
            values = {"state": "cached", "size_bytes": size_bytes}
            mine = sa.update(cached_images).where(_is(node, image_id)).values(values)
            if connection.execute(mine).rowcount == 0:
                _insert(connection, node, image_id, "cached", size_bytes, now)

        await self._engine.write(work)

    async def add_hits(self, node: str, hits: Mapping[str, int]) -> None:
        """Count reads from a node's cache, by image."""

        def work(connection: Connection) -> None:
            # In one order, so that processes of one node do not wait for each other.
            for image_id, number in sorted(hits.items()):
                connection.execute(
                    sa.update(cached_images)
                    .where(_is(node, image_id))
                    .values(hits=cached_images.c.hits + number)
                )

        await self._engine.write(work)

    async def forget(self, node: str, image_ids: Collection[str]) -> None:
        """A node has these images no more, and waits for none of them."""
        statement = sa.delete(cached_images).where(
            cached_images.c.node == node, cached_images.c.image_id.in_(list(image_ids))
        )
        await self._engine.write(lambda connection: connection.execute(statement).rowcount)


def _is(node: str, image_id: str) -> Any:
    return sa.and_(cached_images.c.node == node, cached_images.c.image_id == image_id)


def _hold(connection: Connection, node: str, image_id: str) -> None:
    # A row that is not there yet cannot be locked, and the processes of a node share its rows.
    lock(connection, f"image {image_id} in the cache of {node}")


def _insert(
    connection: Connection, node: str, image_id: str, state: str, size_bytes: int, now: dt.datetime
) -> None:
    connection.execute(
        sa.insert(cached_images),
        {
            "node": node,
            "image_id": image_id,
            "state": state,
            "size_bytes": size_bytes,
            "hits": 0,
            "since": now,
        },
    )
