"""Events on their way to their targets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"

MOMENT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
WORD = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "events",
        sa.Column("number", SERIAL, primary_key=True),
        sa.Column("target", WORD, nullable=False),
        sa.Column("event_id", WORD, nullable=False),
        sa.Column("type", WORD, nullable=False),
        sa.Column("subject", WORD, nullable=False),
        sa.Column("priority", WORD, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("request_id", WORD, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due_at", MOMENT, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.CheckConstraint("state IN ('waiting', 'dead')", name="state"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "event_targets",
        sa.Column("target", WORD, primary_key=True),
        sa.Column("held_by", WORD, nullable=False),
        sa.Column("held_until", MOMENT, nullable=False),
    )
    op.create_index("ix_events_subject", "events", ["target", "state", "subject", "number"])
    op.create_index("ix_events_state", "events", ["state", "number"])
