"""The steps that lead from any older schema to the present one, and the way to take them.

A step is a file `versions/NNNN_title.py` with `revision = "NNNN"`; the file with the highest
number is the head. The first two digits are the *generation*: within one, steps only add, so that
releases can run side by side on one database, and a program serves a database that is ahead of it.
A step that takes away what an older release needs begins the next generation (decision 0141).

Alembic is imported only when an older database has to change, because that
would double the time that a start takes. An empty database gets the present schema at once; a
test compares it with what the steps make.
"""

from __future__ import annotations

import logging
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import Connection

from transom.catalog.schema import metadata
from transom.errors import ConfigurationError

FOLDER = Path(__file__).parent
_GENERATION = 2
"""How many digits of a revision name its generation."""

logger = logging.getLogger("transom.catalog")

_version = sa.Table(
    "alembic_version",
    sa.MetaData(),
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


def revisions() -> list[str]:
    """The revisions that this program knows, oldest first."""
    return sorted(path.name[:4] for path in (FOLDER / "versions").glob("[0-9]*.py"))


def head() -> str:
    """The newest revision that this program knows."""
    return revisions()[-1]


def serves(revision: str | None) -> bool:
    """True when this program can work with a database at this revision: its own head, or one that a
    newer release of the same generation has brought further."""
    newest = head()
    if revision is None or not revision.isdecimal() or len(revision) != len(newest):
        return False
    return revision >= newest and revision[:_GENERATION] == newest[:_GENERATION]


def current(connection: Connection) -> str | None:
    """The revision of the database; None when it has none."""
    if not sa.inspect(connection).has_table(_version.name):
        return None
    revision: str | None = connection.execute(sa.select(_version.c.version_num)).scalar()
    return revision


def upgrade(connection: Connection) -> None:
    """Bring the schema to the head, in the transaction of the connection; one that is ahead, of the
    same generation, stays as it is. Raises ConfigurationError when the database is not Transom's, or
    of a newer generation."""
    revision, known = current(connection), revisions()
    if revision == known[-1]:
        return
    if revision is None and not sa.inspect(connection).get_table_names():
        _create(connection)
        return
    if revision is None:
        raise ConfigurationError(
            "The database of database.url holds tables that are not Transom's; give Transom an "
            "empty database of its own."
        )
    if revision not in known and serves(revision):
        logger.warning(
            "The database is at revision %s, made by a newer release; this one knows up to %s and "
            "serves it all the same. Upgrade this replica too.",
            revision,
            known[-1],
        )
        return
    if revision not in known:
        raise ConfigurationError(
            f"The database is at revision {revision}, which this version of Transom does not know "
            f"(it knows up to {known[-1]}): it belongs to a newer version or to another program. "
            "Install the newer version, or give Transom a database of its own."
        )
    take_steps(connection, known[-1])


def _create(connection: Connection) -> None:
    """The present schema in an empty database."""
    metadata.create_all(connection, checkfirst=False)
    _version.create(connection)
    connection.execute(sa.insert(_version), {"version_num": head()})


def take_steps(connection: Connection, revision: str) -> None:
    """Take every step up to a revision that is missing."""
    import alembic.command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    alembic.command.upgrade(config, revision)
