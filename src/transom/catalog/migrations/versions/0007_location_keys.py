"""Locations are found by store and key: sweeps ask whether an object is known."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Create the index."""
    op.create_index("ix_image_locations_store", "image_locations", ["store", "key"])
