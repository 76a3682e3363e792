"""Who sees which images, as part of the WHERE clause (lifecycle §2, API §5.4)."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import ColumnElement

from transom.catalog.schema import image_members, images
from transom.model.actor import Actor
from transom.model.image import GONE, Visibility
from transom.model.member import MemberStatus

PROJECT = "project"
"""The parameter that holds the caller's project."""

# A name of its own, because a statement may start from the table too.
_member = image_members.alias("shared")

_GONE = ", ".join(f"'{status}'" for status in sorted(GONE))
is_there: ColumnElement[bool] = sa.literal_column(f"images.status NOT IN ({_GONE})")
"""The image can be reached by an API call."""


def caller_of(actor: Actor | None) -> str:
    """What counts of a caller for the shape of a statement: `anyone` (no check), `admin`,
    `system` (an administrator without project), `project`, `stranger` (no project)."""
    if actor is None:
        return "anyone"
    if actor.is_admin:
        return "system" if actor.project_id is None else "admin"
    return "stranger" if actor.project_id is None else "project"


def project_of(actor: Actor | None) -> str | None:
    """The value of PROJECT."""
    return None if actor is None else actor.project_id


def word(value: str) -> ColumnElement[str]:
    """A constant of ours in a statement's text, where the planner sees it."""
    return sa.literal_column(f"'{value}'", sa.Text)


def is_member(status: str = "all") -> ColumnElement[bool]:
    """The image is shared with the caller's project, which made `status` of the offer."""
    shared = (
        sa.exists()
        .where(
            _member.c.image_id == images.c.id,
            _member.c.member_id == sa.bindparam(PROJECT, required=True),
        )
        .correlate(images)
    )
    if status != "all":
        shared = shared.where(_member.c.status == word(status))
    return sa.and_(images.c.visibility == word("shared"), shared)


def member_id() -> ColumnElement[str | None]:
    """The caller's project when the image is shared with it, else null."""
    membership = (
        sa.select(_member.c.member_id)
        .where(
            _member.c.image_id == images.c.id,
            _member.c.member_id == sa.bindparam(PROJECT, required=True),
        )
        .correlate(images)
        .scalar_subquery()
    )
    return sa.case((images.c.visibility == word("shared"), membership))


def may_show(caller: str) -> ColumnElement[bool]:
    """The caller may be shown the image when it asks for it by id."""
    if caller in ("anyone", "admin", "system"):
        return sa.true()
    open_to_all = sa.or_(
        images.c.visibility.in_([word("public"), word("community")]),
        sa.and_(images.c.owner.is_(None), images.c.visibility != word("private")),
    )
    if caller == "stranger":
        return open_to_all
    return sa.or_(images.c.owner == sa.bindparam(PROJECT, required=True), open_to_all, is_member())


def may_list(caller: str, visibility: str | None, member_status: str) -> ColumnElement[bool]:
    """The image belongs into the caller's list (API §5.4)."""
    asked = visibility or "default"
    if caller in ("admin", "system"):
        return _admin_lists(caller, asked)
    parts: list[ColumnElement[bool]] = []
    if asked in ("default", "all", "public"):
        parts.append(images.c.visibility == word("public"))
    if asked in ("all", "community"):
        parts.append(images.c.visibility == word("community"))
    if caller == "project":
        own = images.c.owner == sa.bindparam(PROJECT, required=True)
        if asked in ("default", "all"):
            parts.append(own)
        if asked in ("shared", "private"):
            parts.append(sa.and_(own, images.c.visibility == word(asked)))
        if asked in ("default", "all", "shared"):
            parts.append(is_member(member_status))
    return sa.or_(*parts) if parts else sa.false()


def _admin_lists(caller: str, asked: str) -> ColumnElement[bool]:
    if asked == "all":
        return sa.true()
    if asked != "default":
        return images.c.visibility == word(asked)
    of_others = images.c.visibility != word("community")
    if caller == "system":
        return of_others
    return sa.or_(of_others, images.c.owner == sa.bindparam(PROJECT, required=True))


def sets_of(caller: str, visibility: str | None, member_status: str) -> list[tuple[str, str]]:
    """`may_list` as sets that have no image in common: `open` (all of a visibility), `own` (the
    caller's of a visibility), `member` (other projects' shared images, by what the caller's project
    made of the offer)."""
    asked = visibility or "default"
    statuses = list(MemberStatus) if member_status == "all" else [member_status]
    members = [("member", str(status)) for status in statuses]
    if caller in ("admin", "system"):
        if asked in ("default", "all"):
            opened = [("open", str(each)) for each in Visibility]
            if asked == "all":
                return opened
            opened.remove(("open", "community"))
            return opened if caller == "system" else [*opened, ("own", "community")]
        return [("open", asked)]
    opened = []
    if asked in ("default", "all", "public"):
        opened.append(("open", "public"))
    if asked in ("all", "community"):
        opened.append(("open", "community"))
    if caller != "project":
        return opened
    own = {
        "default": ("community", "shared", "private"),
        "all": ("shared", "private"),
        "shared": ("shared",),
        "private": ("private",),
    }.get(asked, ())
    found = [*opened, *(("own", each) for each in own)]
    return found + members if asked in ("default", "all", "shared") else found
