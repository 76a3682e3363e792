"""Copies of an image's data in further stores, made behind the service's back.

Tests of several locations need images that have them, whatever the service can copy by itself.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable
from typing import TypeVar

import msgspec

from tests.support.server import ServerProcess
from transom.catalog import Catalog
from transom.model.image import Location
from transom.registry import Registry
from transom.settings import Settings, load
from transom.stores import open_store

T = TypeVar("T")


def settings_of(server: ServerProcess) -> Settings:
    """The settings that the server runs with."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRANSOM_")}
    return load(server.config_path, server.data, kept)


def catalog_of(server: ServerProcess) -> Catalog:
    """The catalog of a server, opened beside it."""
    return Catalog.open(settings_of(server))


def with_catalog(server: ServerProcess, work: Callable[[Catalog], T]) -> T:
    """What the work gives on the catalog of a server."""
    catalog = catalog_of(server)
    try:
        return work(catalog)
    finally:
        catalog.close()


def registry_of(server: ServerProcess) -> Registry:
    """The parts of a second process over the same data; close its catalog and stores."""
    from transom.app import open_registry

    return open_registry(settings_of(server))


def locations_of(server: ServerProcess, image_id: str) -> tuple[Location, ...]:
    """Where a living image's data is, as the catalog says."""
    return with_catalog(
        server, lambda catalog: asyncio.run(catalog.images.get(image_id, seen_by=None))
    ).locations


def add_copy(server: ServerProcess, image_id: str, store_name: str) -> Location:
    """Copy the data of an active image into another file store, and say so in the catalog."""
    settings = settings_of(server)

    async def work(catalog: Catalog) -> Location:
        image = await catalog.images.get(image_id, seen_by=None)
        stores = {
            name: open_store(name, settings.stores.named[name], settings.data_path)
            for name in (image.locations[0].store, store_name)
        }
        key = f"{image_id}.{secrets.token_hex(4)}"
        try:
            async with stores[store_name].writer(key) as writer:
                async for piece in await stores[image.locations[0].store].read(
                    image.locations[0].key
                ):
                    await writer.write(piece)
                stored = await writer.commit()
            location = Location(store=store_name, key=key, url=stored.url)
            await catalog.images.replace(
                image, msgspec.structs.replace(image, locations=(*image.locations, location))
            )
        finally:
            for store in stores.values():
                await store.close()
        return location

    return with_catalog(server, lambda catalog: asyncio.run(work(catalog)))
