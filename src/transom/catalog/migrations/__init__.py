"""The steps that lead from any older schema to the present one, and the way to take them.

A step is a file `versions/NNNN_title.py` with `revision = "NNNN"`; the file with the highest
number is the head. Alembic itself is imported only when there is something to do, because it
would double the time that a start takes.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import Connection

from transom.errors import ConfigurationError

FOLDER = Path(__file__).parent


def head() -> str:
    """The newest revision that this program knows."""
    return max(path.name[:4] for path in (FOLDER / "versions").glob("[0-9]*.py"))


def current(connection: Connection) -> str | None:
    """The revision of the database; None when it is empty."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.execute(
        sa.text("SELECT version_num FROM alembic_version")
    ).scalar()
    return revision


def upgrade(connection: Connection) -> None:
    """Take every step that is missing, in the transaction of the connection. Raises
    ConfigurationError when the database is newer than this program."""
    revision, newest = current(connection), head()
    if revision == newest:
        return
    if revision is not None and revision > newest:
        raise ConfigurationError(
            f"The database is at revision {revision}, this version of Transom knows {newest}; "
            "install the newer version again, or restore an older backup of the database."
        )
    import alembic.command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    alembic.command.upgrade(config, "head")
