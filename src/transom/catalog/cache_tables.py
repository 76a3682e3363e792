"""The table of what the nodes of a deployment have in their caches."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Table

from transom.catalog.schema import Moment, metadata, word

cached_images = Table(
    "cached_images",
    metadata,
    Column("node", word(), primary_key=True),
    # No foreign key: a node learns by the missing image that its copy has to go.
    Column("image_id", word(), primary_key=True),
    Column("state", word(), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("hits", BigInteger, nullable=False),
    Column("since", Moment, nullable=False),
    CheckConstraint("state IN ('queued', 'cached')", name="state"),
)

Index("ix_cached_images_image_id", cached_images.c.image_id)
