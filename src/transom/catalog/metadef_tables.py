"""The tables of metadata definitions: namespaces, and what stands in them.

Names are unique where they are looked up, and what a namespace holds goes with it: the database
keeps both. A definition itself is JSON text, because nobody ever asks for a part of one.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Table,
    Text,
    UniqueConstraint,
)

from transom.catalog.schema import Moment, metadata, one_of, serial, word
from transom.model.metadef import NamespaceVisibility

namespaces = Table(
    "metadef_namespaces",
    metadata,
    # Contents refer to the number, so that a namespace can be given another name.
    Column("id", serial(), primary_key=True),
    Column("namespace", word(), nullable=False),
    Column("display_name", Text),
    Column("description", Text),
    Column("visibility", word(), nullable=False),
    Column("protected", Boolean, nullable=False),
    Column("owner", word()),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    UniqueConstraint("namespace"),
    CheckConstraint(one_of("visibility", NamespaceVisibility), name="visibility"),
    # A writer that looked a namespace up must not meet another one under the same number.
    sqlite_autoincrement=True,
)


def _namespace() -> Column[int]:
    """Where a row belongs; it goes with its namespace."""
    return Column(
        "namespace_id",
        serial(),
        ForeignKey(namespaces.c.id, ondelete="CASCADE"),
        nullable=False,
    )


objects = Table(
    "metadef_objects",
    metadata,
    Column("id", serial(), primary_key=True),
    _namespace(),
    Column("name", word(), nullable=False),
    Column("description", Text),
    # JSON: an array of names, and an object of definitions by name.
    Column("required", Text, nullable=False),
    Column("properties", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    UniqueConstraint("namespace_id", "name"),
)

properties = Table(
    "metadef_properties",
    metadata,
    Column("id", serial(), primary_key=True),
    _namespace(),
    Column("name", word(), nullable=False),
    # JSON: the definition without its name.
    Column("definition", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    UniqueConstraint("namespace_id", "name"),
)

tags = Table(
    "metadef_tags",
    metadata,
    Column("id", serial(), primary_key=True),
    _namespace(),
    Column("name", word(), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    UniqueConstraint("namespace_id", "name"),
)

resource_types = Table(
    "metadef_resource_types",
    metadata,
    # Every type that was ever associated; the last association that goes leaves its row.
    Column("name", word(), primary_key=True),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
)

associations = Table(
    "metadef_associations",
    metadata,
    Column("id", serial(), primary_key=True),
    _namespace(),
    # The resource type.
    Column("name", word(), ForeignKey(resource_types.c.name), nullable=False),
    Column("prefix", Text),
    Column("properties_target", Text),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    UniqueConstraint("namespace_id", "name"),
)

# Lists are read in the order of creation, and filtered by resource type.
Index("ix_metadef_namespaces_created_at", namespaces.c.created_at, namespaces.c.id)
Index("ix_metadef_associations_name", associations.c.name)
