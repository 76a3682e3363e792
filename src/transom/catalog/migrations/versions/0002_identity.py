"""The local identity: users, projects, roles, grants, credentials, revocations, signing keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"

MOMENT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
WORD = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "identity_state",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("founded_at", MOMENT, nullable=False),
    )
    op.create_table(
        "identity_keys",
        sa.Column("id", SERIAL, primary_key=True),
        sa.Column("secret", sa.LargeBinary, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "identity_users",
        sa.Column("id", WORD, primary_key=True),
        sa.Column("name", WORD, nullable=False),
        sa.Column("is_enabled", sa.Boolean, nullable=False),
        sa.Column("password_hash", sa.Text),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("default_project_id", WORD),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "identity_projects",
        sa.Column("id", WORD, primary_key=True),
        sa.Column("name", WORD, nullable=False),
        sa.Column("is_enabled", sa.Boolean, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "identity_roles",
        sa.Column("id", WORD, primary_key=True),
        sa.Column("name", WORD, nullable=False),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "identity_grants",
        sa.Column("id", SERIAL, primary_key=True),
        _parent("user_id", "identity_users"),
        _parent("project_id", "identity_projects"),
        _parent("role_id", "identity_roles"),
        sa.UniqueConstraint("user_id", "project_id", "role_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_identity_grants_project_id", "identity_grants", ["project_id"])
    op.create_index("ix_identity_grants_role_id", "identity_grants", ["role_id"])
    op.create_table(
        "identity_credentials",
        sa.Column("id", WORD, primary_key=True),
        _parent("user_id", "identity_users"),
        _parent("project_id", "identity_projects"),
        sa.Column("name", WORD, nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("secret_hash", sa.Text, nullable=False),
        sa.Column("expires_at", MOMENT),
        sa.Column("is_unrestricted", sa.Boolean, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.UniqueConstraint("user_id", "name"),
    )
    op.create_index("ix_identity_credentials_project_id", "identity_credentials", ["project_id"])
    op.create_table(
        "identity_credential_roles",
        _parent("credential_id", "identity_credentials", primary_key=True),
        _parent("role_id", "identity_roles", primary_key=True),
    )
    op.create_index(
        "ix_identity_credential_roles_role_id", "identity_credential_roles", ["role_id"]
    )
    op.create_table(
        "identity_revocations",
        sa.Column("audit_id", sa.LargeBinary, primary_key=True),
        sa.Column("expires_at", MOMENT, nullable=False),
    )
    op.create_index("ix_identity_revocations_expires_at", "identity_revocations", ["expires_at"])


def _parent(name: str, table: str, *, primary_key: bool = False) -> sa.Column[str]:
    return sa.Column(
        name,
        WORD,
        sa.ForeignKey(f"{table}.id", ondelete="CASCADE"),
        primary_key=primary_key,
        nullable=False,
    )
