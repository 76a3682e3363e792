"""Ways into the images: each finds a set of them through one index.

A way starts from `images` or from one of the tables around it, which repeat what they need of the
image so that their indexes are in the order of a page as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement
from sqlalchemy.sql import visitors

from transom.catalog.filters import Term, term_condition
from transom.catalog.schema import image_members, image_properties, image_tags, images
from transom.catalog.visibility import PROJECT, word
from transom.model.image import Visibility

_BY_ID = "sqlite_autoindex_images_1"
_VISIBILITIES = [word(visibility) for visibility in Visibility]
_TERM_INDEXES = {
    "name": "ix_images_name",
    "status": "ix_images_status",
    "protected": "ix_images_protected",
    "disk_format": "ix_images_disk_format",
    "container_format": "ix_images_container_format",
    "size": "ix_images_size",
    "virtual_size": "ix_images_virtual_size",
    "min_disk": "ix_images_min_disk",
    "min_ram": "ix_images_min_ram",
    "checksum": "ix_images_checksum",
    "os_hash_algo": "ix_images_os_hash_algo",
    "os_hash_value": "ix_images_os_hash_value",
    "created_at": "ix_images_visibility",
    "updated_at": "ix_images_updated_at",
    "id": _BY_ID,
}
_UNDER_VISIBILITY = frozenset(
    {"status", "protected", "disk_format", "container_format", "created_at"}
)
"""Columns whose index has the visibility before them."""
_WITHOUT_SHELF = frozenset({"checksum", "os_hash_value", "id"})
"""Columns whose values are so rare that their index holds nothing else."""
ORDERED = ("property", "tag", "protected", "status", "disk_format", "container_format")
"""Terms whose index, under one visibility, is in the order of a page; the one that usually leaves
the fewest images first."""
_IN_ORDER_OF_OWNER = frozenset({Term("equal", "owner"), Term("equal", "status")})
"""Terms by which the images of an owner are found in the order of a page."""
_STEADY = frozenset({*ORDERED, "owner"})


@dataclass(frozen=True)
class Way:
    """A set of images and the index that finds them."""

    table: sa.Table
    index: str
    where: tuple[ColumnElement[bool], ...]
    """What the index itself answers."""
    also: tuple[ColumnElement[bool], ...] = ()
    """What has to be looked up in the image's row."""
    columns: dict[str, ColumnElement[Any]] = field(default_factory=dict)
    """Columns of the image that the table repeats."""

    def column(self, name: str) -> ColumnElement[Any]:
        """A column of the image, from the index where it has it."""
        return self.columns.get(name, images.c[name])

    def select(
        self, *columns: ColumnElement[Any], where: Iterable[ColumnElement[bool]] = ()
    ) -> sa.Select[Any]:
        """The columns of the set, of those images that meet all conditions. The hints keep SQLite,
        which knows little of its data, on the way; PostgreSQL finds it by its statistics."""
        conditions = (*self.where, *self.also, *where)
        statement = sa.select(*columns).where(*conditions)
        statement = statement.with_hint(self.table, self.index, "sqlite")
        if self.table is images or not _reads_images((*columns, *conditions)):
            return statement.select_from(self.table)
        return statement.select_from(
            self.table.join(images, images.c.id == self.table.c.image_id)
        ).with_hint(images, _BY_ID, "sqlite")

    def some(self) -> sa.Select[Any]:
        """One row for each entry of the index, without a look at the images."""
        return (
            sa.select(sa.literal_column("1", sa.Integer).label("one"))
            .select_from(self.table)
            .where(*self.where)
            .with_hint(self.table, self.index, "sqlite")
        )


def _reads_images(parts: Iterable[ColumnElement[Any]]) -> bool:
    """True when one of the parts needs the image's own row."""
    return any(
        isinstance(element, sa.Column) and element.table is images
        for part in parts
        for element in visitors.iterate(part)
    )


def on_shelf(table: sa.Table, shelf: int) -> ColumnElement[bool]:
    """The images of one shelf."""
    column: ColumnElement[Any] = table.c.shelf
    return column == sa.literal_column(str(shelf), sa.SmallInteger)


def open_to(visibility: str, shelf: int) -> Way:
    """All images of one visibility."""
    return Way(
        images,
        "ix_images_visibility",
        (on_shelf(images, shelf), images.c.visibility == word(visibility)),
    )


def owned_by(parameter: str, visibility: str, shelf: int, status: str | None = None) -> Way:
    """One project's images of one visibility; those in one status, if a parameter for it is
    named."""
    of_owner = (
        on_shelf(images, shelf),
        images.c.owner == sa.bindparam(parameter, required=True),
    )
    visible = images.c.visibility == word(visibility)
    if status is None:
        return Way(images, "ix_images_owner", (*of_owner, visible))
    in_status = images.c.status == sa.bindparam(status, required=True)
    return Way(images, "ix_images_owner_status", (*of_owner, in_status), (visible,))


def shared_with_caller(status: str, shelf: int) -> Way:
    """Other projects' images that are shared with the caller's, by what it made of the offer."""
    caller: ColumnElement[Any] = sa.bindparam(PROJECT, required=True)
    return Way(
        image_members,
        "ix_image_members_member",
        (
            image_members.c.member_id == caller,
            on_shelf(image_members, shelf),
            image_members.c.status == word(status),
        ),
        (
            images.c.visibility == word("shared"),
            images.c.owner.is_distinct_from(caller),
        ),
        {"created_at": image_members.c.image_created_at, "id": image_members.c.image_id},
    )


def meeting(
    term: Term, number: int, dialect: str, shelf: int, visibility: str | None = None
) -> Way | None:
    """All images that meet a term, or those of one visibility among them; None when no index
    knows them."""
    if term.kind in ("tag", "property"):
        return _through(
            image_tags if term.kind == "tag" else image_properties, term, number, shelf, visibility
        )
    of_visibility = (
        images.c.visibility.in_(_VISIBILITIES)
        if visibility is None
        else images.c.visibility == word(visibility)
    )
    condition = term_condition(term, f"f{number}", dialect)
    index = _TERM_INDEXES.get(term.column)
    if index is None or term.kind == "outside":
        return None
    if term.column in _WITHOUT_SHELF:
        where: tuple[ColumnElement[bool], ...] = (condition,)
        return Way(images, index, where, (on_shelf(images, shelf),))
    if term.column in _UNDER_VISIBILITY:
        where = (on_shelf(images, shelf), of_visibility, condition)
    else:
        where = (on_shelf(images, shelf), condition)
    return Way(images, index, where)


def _through(table: sa.Table, term: Term, number: int, shelf: int, visibility: str | None) -> Way:
    value: ColumnElement[Any] = sa.bindparam(f"f{number}", required=True)
    key = table.c.tag if term.kind == "tag" else table.c.digest
    where: list[ColumnElement[bool]] = [key == value, on_shelf(table, shelf)]
    if visibility is not None:
        where.append(table.c.visibility == word(visibility))
    return Way(
        table,
        f"ix_{table.name}_{key.name}",
        tuple(where),
        (),
        {"created_at": table.c.created_at, "id": table.c.image_id},
    )


def best_ordered(terms: Iterable[Term]) -> list[int]:
    """The numbers of the terms that can lead a page in its order, the most promising first."""
    found = [
        (ORDERED.index(name), number)
        for number, term in enumerate(terms)
        if (name := term.kind if term.kind in ORDERED else term.column) in ORDERED
        and term.kind in ("tag", "property", "equal")
    ]
    return [number for _, number in sorted(found)]


def is_steady(terms: Sequence[Term], lead: int | None) -> bool:
    """True when a walk is the best plan whatever the values are, as far as PostgreSQL can tell:
    no other index looks better to it for one of the terms that do not lead."""
    others = {
        term
        for number, term in enumerate(terms)
        if number != lead and term.kind not in ("tag", "property")
    }
    if lead is None:
        return others <= _IN_ORDER_OF_OWNER
    if terms[lead].kind in ("tag", "property"):
        return all(term.kind == "equal" and term.column in _STEADY for term in others)
    return not others or {terms[lead], *others} <= _IN_ORDER_OF_OWNER
