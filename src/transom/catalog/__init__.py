"""The catalog: what images there are, remembered in SQL. The only floor that knows SQLAlchemy."""

from __future__ import annotations

from typing import Self

import sqlalchemy as sa

from transom.catalog import migrations
from transom.catalog.caches import Caches
from transom.catalog.consistency import Consistency
from transom.catalog.engine import Engine, Patience
from transom.catalog.identity import Identities
from transom.catalog.images import Images
from transom.catalog.intakes import Intakes
from transom.catalog.inventory import Inventory
from transom.catalog.locations import Locations
from transom.catalog.members import Members
from transom.catalog.metadef_loading import MetadefLoading
from transom.catalog.metadefs import Metadefs
from transom.catalog.outbox import Outbox
from transom.catalog.processes import Processes
from transom.catalog.tasks import Tasks
from transom.settings import Settings


class Catalog:
    """Everything that is remembered about images, over one database.

    Every method of its parts is one hop to a thread and one transaction. Every one of them may
    raise CatalogUnavailable.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.images = Images(engine)
        self.members = Members(engine)
        self.intakes = Intakes(engine)
        self.processes = Processes(engine)
        self.inventory = Inventory(engine)
        self.consistency = Consistency(engine)
        self.tasks = Tasks(engine)
        self.caches = Caches(engine)
        self.outbox = Outbox(engine)
        self.locations = Locations(engine)
        self.identity = Identities(engine)
        self.metadefs = Metadefs(engine)
        self.metadef_loading = MetadefLoading(engine)

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """The catalog that the settings name. Quick: connects at the first question. Raises
        ConfigurationError for a database.url of an unknown kind."""
        database = settings.database
        return cls(
            Engine(
                database.url.replace("<data>", str(settings.data_path)),
                pool_size=database.pool_size,
                write_pool_size=database.write_pool_size,
                patience=Patience(
                    statement_seconds=database.statement_timeout_seconds,
                    lock_seconds=database.lock_timeout_seconds,
                    idle_transaction_seconds=database.idle_transaction_timeout_seconds,
                    connect_seconds=database.connect_timeout_seconds,
                    pool_wait_seconds=database.pool_wait_seconds,
                    outage_seconds=database.outage_seconds,
                ),
                is_measured=bool(settings.metrics.bind),
            )
        )

    def upgrade(self) -> None:
        """Bring the schema to the newest revision; quick when it is there already. Safe when
        several processes start at once. A schema that a newer release has brought further, by steps
        that only add, stays as it is. Raises ConfigurationError for one of a newer generation."""
        if self.current_revision() != migrations.head():
            self.engine.exclusively(migrations.upgrade)

    def current_revision(self) -> str | None:
        """The revision of the database's schema; None when the database is empty."""
        return self.engine.read_now(migrations.current)

    async def check(self) -> None:
        """Raise CatalogUnavailable unless the database answers now (readiness)."""
        await self.engine.read(lambda connection: connection.execute(sa.text("SELECT 1")).scalar())

    def close(self) -> None:
        """Finish what is under way and close the connections."""
        self.engine.close()
