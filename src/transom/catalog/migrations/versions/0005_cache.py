"""What the nodes have in their caches."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"

MOMENT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
WORD = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "cached_images",
        sa.Column("node", WORD, primary_key=True),
        sa.Column("image_id", WORD, primary_key=True),
        sa.Column("state", WORD, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("hits", sa.BigInteger, nullable=False),
        sa.Column("since", MOMENT, nullable=False),
        sa.CheckConstraint("state IN ('queued', 'cached')", name="state"),
    )
    op.create_index("ix_cached_images_image_id", "cached_images", ["image_id"])
