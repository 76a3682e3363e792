"""What the operator's commands about images share: the parts of a deployment, opened beside it."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from transom import telemetry
from transom.cli.options import settings_of
from transom.errors import ConfigurationError

if TYPE_CHECKING:
    from transom.registry import Registry
    from transom.settings import Settings

Task = Callable[[argparse.Namespace, "Registry"], Awaitable[int]]


def run(args: argparse.Namespace, task: Task) -> int:
    """Run a task on the deployment that the arguments name, which may be serving meanwhile; gives
    the task's exit code. Raises ConfigurationError where there is no catalog of this version."""
    telemetry.configure("error")
    settings = settings_of(args)
    require_catalog(settings)
    return asyncio.run(with_registry(settings, lambda registry: task(args, registry)))


def require_catalog(settings: Settings) -> None:
    """Raise ConfigurationError unless there is a catalog and its schema is this version's."""
    from transom.catalog import Catalog, migrations

    if settings.database.url.startswith("sqlite:") and not settings.data_path.is_dir():
        raise ConfigurationError(
            f"There is no data folder {settings.data_path}; name the right one with --data, or "
            "start `transom serve` once, which makes it."
        )
    catalog = Catalog.open(settings)
    try:
        found, newest = catalog.current_revision(), migrations.head()
    finally:
        catalog.close()
    if not migrations.serves(found):
        raise ConfigurationError(
            f"The database is at revision {found or 'none'}, this version needs {newest}; "
            "start `transom serve` once or run `transom db upgrade`."
        )


async def with_registry(settings: Settings, task: Callable[[Registry], Awaitable[int]]) -> int:
    """What the task gives, on a registry that is open meanwhile."""
    from transom.app import open_registry

    registry = open_registry(settings)
    try:
        return await task(registry)
    finally:
        await registry.stores.close()
        await registry.identity.close()
        registry.catalog.close()
