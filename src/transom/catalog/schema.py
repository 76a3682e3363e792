"""The tables: what the catalog remembers, and the invariants that the database itself keeps.

One schema for SQLite and PostgreSQL; `migrations/` builds the same one step by step, and a test
compares the two. Text is compared byte by byte on both engines. Nothing is ever deleted from
`images`: a deleted image stays as a tombstone, so that its id is never used again.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import (
    TIMESTAMP,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    TypeDecorator,
    literal_column,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import ColumnElement, UnaryExpression
from sqlalchemy.types import TypeEngine

from transom.model.image import Status, Visibility
from transom.model.member import MemberStatus

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MICROSECOND = dt.timedelta(microseconds=1)

INTEGER_MAX = 2**63 - 1
"""Largest number that an integer column holds."""


class Moment(TypeDecorator[dt.datetime]):
    """A point in time: aware UTC in Python, microseconds since the epoch in SQLite (so that it
    sorts and compares as a number), TIMESTAMPTZ in PostgreSQL."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """TIMESTAMPTZ where the database has it, a 64-bit integer elsewhere."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(TIMESTAMP(timezone=True))
        return dialect.type_descriptor(BigInteger())

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> Any:
        """What the driver is handed."""
        if value is None or dialect.name == "postgresql":
            return value
        return (value - EPOCH) // MICROSECOND

    def process_result_value(self, value: Any, dialect: Dialect) -> dt.datetime | None:
        """What the program is handed."""
        if value is None:
            return None
        if dialect.name == "postgresql":
            moment: dt.datetime = value.astimezone(dt.UTC)
            return moment
        return EPOCH + dt.timedelta(microseconds=value)


class Word(Text):
    """Text, also in the form of a member of an enumeration.

    SQLAlchemy would ask its object-relational part what such a member is, and an empty list too. We
    do not use that part, but the library of the tasks does, and loads it late and in a thread: half
    loaded, it has no answer, and every statement with such a value failed for as long."""

    def coerce_compared_value(self, _op: operators.OperatorType | None, _value: Any) -> Any:
        """What a value is that is compared with one of ours: text."""
        return self


ONE: ColumnElement[int] = literal_column("1", Integer)
"""What is selected where only counts whether there is a row. A plain 1 would be asked about, as a
member of an enumeration (`Word`)."""


def word() -> TypeEngine[str]:
    """Text that is compared and sorted byte by byte on every engine."""
    return Word().with_variant(Word(collation="C"), "postgresql")


def serial() -> TypeEngine[int]:
    """A number that the database counts up itself."""
    return BigInteger().with_variant(Integer(), "sqlite")


def one_of(column: str, values: Any) -> str:
    """The condition that a text column holds one of the given words."""
    return f"{column} IN ({', '.join(repr(str(value)) for value in values)})"


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

SHELF = (
    "CASE WHEN status = 'killed' THEN 4 "
    "WHEN status IN ('pending_delete', 'deleted') THEN CASE WHEN os_hidden THEN 3 ELSE 2 END "
    "WHEN os_hidden THEN 1 ELSE 0 END"
)

images = Table(
    "images",
    metadata,
    Column("id", word(), primary_key=True),
    # Which lists show the image: 0 = ordinary ones, 1 = those that ask for hidden images, 2 and 3 =
    # the same for images that are gone, 4 = none. It leads the indexes, so that hidden and deleted
    # images cost a list nothing.
    Column("shelf", SmallInteger, Computed(SHELF, persisted=True), nullable=False),
    Column("owner", word()),
    Column("visibility", word(), nullable=False),
    Column("status", word(), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("deleted_at", Moment),
    Column("os_hidden", Boolean, nullable=False),
    Column("protected", Boolean, nullable=False),
    Column("name", word()),
    Column("disk_format", word()),
    Column("container_format", word()),
    Column("size", BigInteger),
    Column("virtual_size", BigInteger),
    Column("min_disk", BigInteger, nullable=False),
    Column("min_ram", BigInteger, nullable=False),
    Column("checksum", word()),
    Column("os_hash_algo", word()),
    Column("os_hash_value", word()),
    # Complete copies of the data: what the quota multiplies the size with. 0 on tombstones.
    Column("copies", Integer, nullable=False),
    # True while `os_glance_importing_to_stores` names stores: such images count as staged.
    Column("copying", Boolean, nullable=False),
    Column("revision", BigInteger, nullable=False),
    # Folded copies (JSON) of what the rows of the tables below say, so that one SELECT reads a
    # page. They are last: SQLite then need not read them to judge the columns before.
    Column("tags", Text, nullable=False),
    Column("properties", Text, nullable=False),
    Column("locations", Text, nullable=False),
    CheckConstraint(one_of("status", Status), name="status"),
    CheckConstraint(one_of("visibility", Visibility), name="visibility"),
    CheckConstraint("size >= 0", name="size"),
    CheckConstraint("copies >= 0", name="copies"),
)

image_properties = Table(
    "image_properties",
    metadata,
    Column("image_id", word(), ForeignKey(images.c.id, ondelete="CASCADE"), primary_key=True),
    Column("name", word(), primary_key=True),
    # 128 bits of BLAKE2 over name and value: equality of values of any length through a small
    # index. The value itself is folded into the image's row.
    Column("digest", LargeBinary, nullable=False),
    # Copies of the image's columns, so that the index below can be walked in the order of a page.
    Column("shelf", SmallInteger, nullable=False),
    Column("visibility", word(), nullable=False),
    Column("created_at", Moment, nullable=False),
    sqlite_with_rowid=False,
)

image_tags = Table(
    "image_tags",
    metadata,
    Column("image_id", word(), ForeignKey(images.c.id, ondelete="CASCADE"), primary_key=True),
    Column("tag", word(), primary_key=True),
    Column("shelf", SmallInteger, nullable=False),
    Column("visibility", word(), nullable=False),
    Column("created_at", Moment, nullable=False),
    sqlite_with_rowid=False,
)

image_members = Table(
    "image_members",
    metadata,
    Column("image_id", word(), ForeignKey(images.c.id, ondelete="CASCADE"), primary_key=True),
    Column("member_id", word(), primary_key=True),
    Column("status", word(), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("shelf", SmallInteger, nullable=False),
    Column("image_created_at", Moment, nullable=False),
    CheckConstraint(one_of("status", MemberStatus), name="status"),
    sqlite_with_rowid=False,
)

image_locations = Table(
    "image_locations",
    metadata,
    Column("number", serial(), primary_key=True),
    Column("image_id", word(), ForeignKey(images.c.id), nullable=False),
    Column("position", Integer, nullable=False),
    Column("store", word(), nullable=False),
    Column("key", word(), nullable=False),
    Column("url", word(), nullable=False),
    Column("metadata", Text, nullable=False),
    Column("status", word(), nullable=False),
    # When the location was marked for removal: the scrubber waits from here.
    Column("doomed_at", Moment),
    # `removing`: a sweep has begun to remove the data, so nobody can have it back.
    CheckConstraint("status IN ('active', 'pending_delete', 'removing')", name="status"),
    CheckConstraint("(status = 'active') = (doomed_at IS NULL)", name="doomed_at"),
)

processes = Table(
    "processes",
    metadata,
    Column("process_id", word(), primary_key=True),
    Column("host", word(), nullable=False),
    Column("pid", BigInteger, nullable=False),
    # When the process began, in the words of its machine: tells it from a later one with its pid.
    Column("started", word(), nullable=False),
    Column("joined_at", Moment, nullable=False),
    Column("beat_at", Moment, nullable=False),
)

intakes = Table(
    "intakes",
    metadata,
    # One intake per image at a time. No foreign key on processes: an intake outlives the row of
    # the process that died on it, until the sweeper has put the image back.
    Column("image_id", word(), ForeignKey(images.c.id), primary_key=True),
    Column("kind", word(), nullable=False),
    Column("store", word(), nullable=False),
    Column("key", word(), nullable=False),
    Column("token", Text, nullable=False),
    Column("process_id", word(), nullable=False),
    Column("reserved_bytes", BigInteger, nullable=False),
    Column("started_at", Moment, nullable=False),
    CheckConstraint("kind IN ('saving', 'uploading')", name="kind"),
    CheckConstraint("reserved_bytes >= 0", name="reserved_bytes"),
)

# --- the orders of pages ---------------------------------------------------------------------------
# Each index is equalities, then the order of a page (created_at, id), so that a page is read from
# its first row to its last and no further (decision 0045).


class _Nulls(UnaryExpression[Any]):
    """A column of an index or an order, with the place of null in words."""

    inherit_cache = True


@compiles(_Nulls)
def _in_words(element: _Nulls, compiler: Any, **options: Any) -> str:
    words = "FIRST" if element.modifier is operators.nulls_first_op else "LAST"
    return f"{compiler.process(element.element, **options)} NULLS {words}"


@compiles(_Nulls, "sqlite")
def _by_nature(element: _Nulls, compiler: Any, **options: Any) -> str:
    return str(compiler.process(element.element, **options))


def upwards(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The column in ascending order, null as the smallest value (API §5.1). SQLite orders so by
    nature, and knows no words for it in an index."""
    return _Nulls(column, modifier=operators.nulls_first_op)


def downwards(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The column in descending order, null as the smallest value."""
    return _Nulls(column.desc(), modifier=operators.nulls_last_op)


_i, _p, _t, _m = images.c, image_properties.c, image_tags.c, image_members.c
_shelf_of = (_i.shelf, _i.visibility)
_page = (_i.created_at, _i.id)

Index("ix_images_visibility", *_shelf_of, *_page)
Index("ix_images_owner", _i.shelf, _i.owner, _i.visibility, *_page)
Index("ix_images_status", *_shelf_of, _i.status, *_page)
Index("ix_images_disk_format", *_shelf_of, _i.disk_format, *_page)
Index("ix_images_container_format", *_shelf_of, _i.container_format, *_page)
Index("ix_images_protected", *_shelf_of, _i.protected, *_page)
# `openstack image list` sorts by name upwards and then by creation downwards.
Index("ix_images_name", _i.shelf, upwards(_i.name), _i.created_at.desc(), _i.id.desc())
Index("ix_images_size", _i.shelf, upwards(_i.size), *_page)
Index("ix_images_updated_at", _i.shelf, _i.updated_at, *_page)
# No filter may read every image only to find that none matches.
Index("ix_images_virtual_size", _i.shelf, _i.virtual_size)
Index("ix_images_min_disk", _i.shelf, _i.min_disk)
Index("ix_images_min_ram", _i.shelf, _i.min_ram)
Index("ix_images_checksum", _i.checksum)
Index("ix_images_os_hash_algo", _i.shelf, _i.os_hash_algo)
Index("ix_images_os_hash_value", _i.os_hash_value)
# The last three say what a project uses, without reading its images.
Index(
    "ix_images_owner_status",
    *(_i.shelf, _i.owner, _i.status),
    *_page,
    *(_i.copying, _i.copies, _i.size),
)
Index("ix_image_properties_digest", _p.digest, _p.shelf, _p.visibility, _p.created_at, _p.image_id)
Index("ix_image_tags_tag", _t.tag, _t.shelf, _t.visibility, _t.created_at, _t.image_id)
Index(
    "ix_image_members_member", _m.member_id, _m.shelf, _m.status, _m.image_created_at, _m.image_id
)
Index("ix_image_locations_image_id", image_locations.c.image_id)
Index("ix_image_locations_doomed_at", image_locations.c.doomed_at)
# Whether an object is known: a sweep asks for thousands of keys at once.
Index("ix_image_locations_store", image_locations.c.store, image_locations.c.key)
Index("ix_intakes_process_id", intakes.c.process_id)
