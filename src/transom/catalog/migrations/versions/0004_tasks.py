"""Tasks, and bytes on their way into images."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"

MOMENT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
WORD = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "tasks",
        sa.Column("id", WORD, primary_key=True),
        sa.Column("type", WORD, nullable=False),
        sa.Column("status", WORD, nullable=False),
        sa.Column("owner", WORD),
        sa.Column("user_id", WORD),
        sa.Column("request_id", WORD),
        sa.Column("image_id", WORD),
        sa.Column("input", sa.Text, nullable=False),
        sa.Column("result", sa.Text),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("started_at", MOMENT),
        sa.Column("expires_at", MOMENT),
        sa.Column("process_id", WORD),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("is_cancelled", sa.Boolean, nullable=False),
        sa.Column("phase", sa.Text, nullable=False),
        sa.Column("done_bytes", sa.BigInteger, nullable=False),
        sa.Column("total_bytes", sa.BigInteger),
        sa.Column("rate_bytes", sa.BigInteger, nullable=False),
        sa.Column("notes", sa.Text, nullable=False),
        sa.CheckConstraint(
            "type IN ('import', 'api_image_import', 'location_import')", name="type"
        ),
        sa.CheckConstraint(
            "status IN ('pending', 'processing', 'success', 'failure')", name="status"
        ),
        sa.CheckConstraint(
            "(status IN ('success', 'failure')) = (expires_at IS NOT NULL)", name="expires_at"
        ),
    )
    op.create_table(
        "task_objects",
        sa.Column("store", WORD, primary_key=True),
        sa.Column("key", WORD, primary_key=True),
        sa.Column("task_id", WORD, nullable=False),
        sa.Column("token", sa.Text, nullable=False),
        sa.Column("is_placed", sa.Boolean, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
    )
    op.create_table(
        "staged",
        sa.Column("image_id", WORD, sa.ForeignKey("images.id"), primary_key=True),
        sa.Column("store", WORD, nullable=False),
        sa.Column("key", WORD, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("staged_at", MOMENT, nullable=False),
        sa.CheckConstraint("size_bytes >= 0", name="size_bytes"),
    )
    op.create_index("ix_tasks_created_at", "tasks", ["created_at", "id"])
    op.create_index("ix_tasks_image_id", "tasks", ["image_id", "created_at"])
    op.create_index("ix_tasks_expires_at", "tasks", ["expires_at"])
    op.create_index("ix_tasks_status", "tasks", ["status", "created_at"])
    op.create_index("ix_task_objects_task_id", "task_objects", ["task_id"])
