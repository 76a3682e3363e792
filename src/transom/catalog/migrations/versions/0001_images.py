"""Images and what hangs on them, intakes, and the leases of processes.

Written out in full: this file says what the schema was, while `schema.py` says what it is.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

MOMENT = sa.BigInteger().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")
WORD = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Build the first schema."""
    _images()
    _around_images()
    _intakes()
    _indexes()


def _images() -> None:
    op.create_table(
        "images",
        sa.Column("id", WORD, nullable=False),
        sa.Column(
            "shelf",
            sa.SmallInteger(),
            sa.Computed(
                "CASE WHEN status = 'killed' THEN 4 "
                "WHEN status IN ('pending_delete', 'deleted') "
                "THEN CASE WHEN os_hidden THEN 3 ELSE 2 END "
                "WHEN os_hidden THEN 1 ELSE 0 END",
                persisted=True,
            ),
            nullable=False,
        ),
        sa.Column("owner", WORD),
        sa.Column("visibility", WORD, nullable=False),
        sa.Column("status", WORD, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("deleted_at", MOMENT),
        sa.Column("os_hidden", sa.Boolean(), nullable=False),
        sa.Column("protected", sa.Boolean(), nullable=False),
        sa.Column("name", WORD),
        sa.Column("disk_format", WORD),
        sa.Column("container_format", WORD),
        sa.Column("size", sa.BigInteger()),
        sa.Column("virtual_size", sa.BigInteger()),
        sa.Column("min_disk", sa.BigInteger(), nullable=False),
        sa.Column("min_ram", sa.BigInteger(), nullable=False),
        sa.Column("checksum", WORD),
        sa.Column("os_hash_algo", WORD),
        sa.Column("os_hash_value", WORD),
        sa.Column("copies", sa.Integer(), nullable=False),
        sa.Column("copying", sa.Boolean(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("properties", sa.Text(), nullable=False),
        sa.Column("locations", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_images"),
        sa.CheckConstraint(
            "status IN ('queued', 'saving', 'uploading', 'importing', 'active', 'deactivated', "
            "'killed', 'pending_delete', 'deleted')",
            name=op.f("ck_images_status"),
        ),
        sa.CheckConstraint(
            "visibility IN ('public', 'community', 'shared', 'private')",
            name=op.f("ck_images_visibility"),
        ),
        sa.CheckConstraint("size >= 0", name=op.f("ck_images_size")),
        sa.CheckConstraint("copies >= 0", name=op.f("ck_images_copies")),
    )


def _around_images() -> None:
    op.create_table(
        "image_properties",
        sa.Column("image_id", WORD, nullable=False),
        sa.Column("name", WORD, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("shelf", sa.SmallInteger(), nullable=False),
        sa.Column("visibility", WORD, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("image_id", "name", name="pk_image_properties"),
        _of_image("image_properties", ondelete="CASCADE"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "image_tags",
        sa.Column("image_id", WORD, nullable=False),
        sa.Column("tag", WORD, nullable=False),
        sa.Column("shelf", sa.SmallInteger(), nullable=False),
        sa.Column("visibility", WORD, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("image_id", "tag", name="pk_image_tags"),
        _of_image("image_tags", ondelete="CASCADE"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "image_members",
        sa.Column("image_id", WORD, nullable=False),
        sa.Column("member_id", WORD, nullable=False),
        sa.Column("status", WORD, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("shelf", sa.SmallInteger(), nullable=False),
        sa.Column("image_created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("image_id", "member_id", name="pk_image_members"),
        _of_image("image_members", ondelete="CASCADE"),
        sa.CheckConstraint(
            "status IN ('pending', 'accepted', 'rejected')", name=op.f("ck_image_members_status")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "image_locations",
        sa.Column("number", SERIAL, nullable=False),
        sa.Column("image_id", WORD, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("store", WORD, nullable=False),
        sa.Column("key", WORD, nullable=False),
        sa.Column("url", WORD, nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("status", WORD, nullable=False),
        sa.Column("doomed_at", MOMENT),
        sa.PrimaryKeyConstraint("number", name="pk_image_locations"),
        _of_image("image_locations"),
        sa.CheckConstraint(
            "status IN ('active', 'pending_delete', 'removing')",
            name=op.f("ck_image_locations_status"),
        ),
        sa.CheckConstraint(
            "(status = 'active') = (doomed_at IS NULL)", name=op.f("ck_image_locations_doomed_at")
        ),
    )


def _intakes() -> None:
    op.create_table(
        "processes",
        sa.Column("process_id", WORD, nullable=False),
        sa.Column("host", WORD, nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("started", WORD, nullable=False),
        sa.Column("joined_at", MOMENT, nullable=False),
        sa.Column("beat_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("process_id", name="pk_processes"),
    )
    op.create_table(
        "intakes",
        sa.Column("image_id", WORD, nullable=False),
        sa.Column("kind", WORD, nullable=False),
        sa.Column("store", WORD, nullable=False),
        sa.Column("key", WORD, nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("process_id", WORD, nullable=False),
        sa.Column("reserved_bytes", sa.BigInteger(), nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("image_id", name="pk_intakes"),
        _of_image("intakes"),
        sa.CheckConstraint("kind IN ('saving', 'uploading')", name=op.f("ck_intakes_kind")),
        sa.CheckConstraint("reserved_bytes >= 0", name=op.f("ck_intakes_reserved_bytes")),
    )


def _of_image(table: str, **options: Any) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["image_id"], ["images.id"], name=f"fk_{table}_image_id", **options
    )


def _indexes() -> None:
    # Null is the smallest value on every engine; SQLite orders so by itself.
    first = " NULLS FIRST" if op.get_context().dialect.name == "postgresql" else ""
    shelf = ("shelf", "visibility")
    page = ("created_at", "id")
    for name, table, columns in (
        ("ix_images_visibility", "images", (*shelf, *page)),
        ("ix_images_owner", "images", ("shelf", "owner", "visibility", *page)),
        ("ix_images_status", "images", (*shelf, "status", *page)),
        ("ix_images_disk_format", "images", (*shelf, "disk_format", *page)),
        ("ix_images_container_format", "images", (*shelf, "container_format", *page)),
        ("ix_images_protected", "images", (*shelf, "protected", *page)),
        ("ix_images_name", "images", ("shelf", f"name{first}", "created_at DESC", "id DESC")),
        ("ix_images_size", "images", ("shelf", f"size{first}", *page)),
        ("ix_images_updated_at", "images", ("shelf", "updated_at", *page)),
        ("ix_images_virtual_size", "images", ("shelf", "virtual_size")),
        ("ix_images_min_disk", "images", ("shelf", "min_disk")),
        ("ix_images_min_ram", "images", ("shelf", "min_ram")),
        ("ix_images_checksum", "images", ("checksum",)),
        ("ix_images_os_hash_algo", "images", ("shelf", "os_hash_algo")),
        ("ix_images_os_hash_value", "images", ("os_hash_value",)),
        (
            "ix_images_owner_status",
            "images",
            ("shelf", "owner", "status", *page, "copying", "copies", "size"),
        ),
        (
            "ix_image_properties_digest",
            "image_properties",
            ("digest", *shelf, "created_at", "image_id"),
        ),
        ("ix_image_tags_tag", "image_tags", ("tag", *shelf, "created_at", "image_id")),
        (
            "ix_image_members_member",
            "image_members",
            ("member_id", "shelf", "status", "image_created_at", "image_id"),
        ),
        ("ix_image_locations_image_id", "image_locations", ("image_id",)),
        ("ix_image_locations_doomed_at", "image_locations", ("doomed_at",)),
        ("ix_intakes_process_id", "intakes", ("process_id",)),
    ):
        op.create_index(
            name, table, [sa.text(column) if " " in column else column for column in columns]
        )
