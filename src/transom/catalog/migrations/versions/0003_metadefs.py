"""Metadata definitions: namespaces, objects, properties, tags, resource types, associations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"

MOMENT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
WORD = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "metadef_namespaces",
        sa.Column("id", SERIAL, primary_key=True),
        sa.Column("namespace", WORD, nullable=False),
        sa.Column("display_name", sa.Text),
        sa.Column("description", sa.Text),
        sa.Column("visibility", WORD, nullable=False),
        sa.Column("protected", sa.Boolean, nullable=False),
        sa.Column("owner", WORD),
        *_times(),
        sa.UniqueConstraint("namespace"),
        sa.CheckConstraint("visibility IN ('public', 'private')", name="visibility"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_metadef_namespaces_created_at", "metadef_namespaces", ["created_at", "id"])
    op.create_table(
        "metadef_objects",
        sa.Column("id", SERIAL, primary_key=True),
        _namespace(),
        sa.Column("name", WORD, nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("required", sa.Text, nullable=False),
        sa.Column("properties", sa.Text, nullable=False),
        *_times(),
        sa.UniqueConstraint("namespace_id", "name"),
    )
    op.create_table(
        "metadef_properties",
        sa.Column("id", SERIAL, primary_key=True),
        _namespace(),
        sa.Column("name", WORD, nullable=False),
        sa.Column("definition", sa.Text, nullable=False),
        *_times(),
        sa.UniqueConstraint("namespace_id", "name"),
    )
    op.create_table(
        "metadef_tags",
        sa.Column("id", SERIAL, primary_key=True),
        _namespace(),
        sa.Column("name", WORD, nullable=False),
        *_times(),
        sa.UniqueConstraint("namespace_id", "name"),
    )
    op.create_table(
        "metadef_resource_types",
        sa.Column("name", WORD, primary_key=True),
        *_times(),
    )
    op.create_table(
        "metadef_associations",
        sa.Column("id", SERIAL, primary_key=True),
        _namespace(),
        sa.Column("name", WORD, sa.ForeignKey("metadef_resource_types.name"), nullable=False),
        sa.Column("prefix", sa.Text),
        sa.Column("properties_target", sa.Text),
        *_times(),
        sa.UniqueConstraint("namespace_id", "name"),
    )
    op.create_index("ix_metadef_associations_name", "metadef_associations", ["name"])


def _times() -> tuple[sa.Column[int], ...]:
    return tuple(sa.Column(name, MOMENT, nullable=False) for name in ("created_at", "updated_at"))


def _namespace() -> sa.Column[int]:
    return sa.Column(
        "namespace_id",
        SERIAL,
        sa.ForeignKey("metadef_namespaces.id", ondelete="CASCADE"),
        nullable=False,
    )
