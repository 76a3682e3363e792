"""API §5 read line by line: which images a list holds, and in what order. Slow and plain, to hold
the catalog's answers against."""

from __future__ import annotations

import datetime as dt
import functools
import operator
from collections.abc import Iterable, Sequence
from typing import Any

from transom.model.actor import Actor
from transom.model.image import Image, Status, Visibility
from transom.model.member import Member
from transom.model.query import ImageQuery, TimeFilter

_COMPARE = {
    "eq": operator.eq,
    "neq": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


def all_pages(
    images: Iterable[Image], members: Iterable[Member], query: ImageQuery, actor: Actor
) -> list[Image]:
    """Everything that the query finds, on however many pages, in order."""
    shared = list(members)
    found = [image for image in images if _holds(image, shared, query, actor)]
    return sorted(found, key=functools.cmp_to_key(functools.partial(_order, query.sort)))


def _holds(image: Image, members: Sequence[Member], query: ImageQuery, actor: Actor) -> bool:
    if query.matches_nothing:
        return False
    if image.status is Status.KILLED:
        return False
    if image.status in (Status.DELETED, Status.PENDING_DELETE) and query.changed_since is None:
        return False
    if query.changed_since is not None and image.updated_at < query.changed_since:
        return False
    return (
        _listed_for(image, members, query, actor)
        and image.os_hidden == query.os_hidden
        and query.protected in (None, image.protected)
        and all(tag in image.tags for tag in query.tags)
        and all(getattr(image, column) == value for column, value in query.equals)
        and all(getattr(image, column) == value for column, value in query.integers)
        and all(getattr(image, column) in values for column, values in query.one_of)
        and all(image.properties.get(name) == value for name, value in query.properties)
        and all(
            (value := getattr(image, each.column)) is not None
            and (value >= each.value if each.bound == "min" else value <= each.value)
            for each in query.ranges
        )
        and all(_time(image, each) for each in query.times)
    )


def _time(image: Image, time: TimeFilter) -> bool:
    shown: dt.datetime = getattr(image, time.column).replace(microsecond=0)
    return bool(_COMPARE[time.operator](shown, time.moment))


def _listed_for(image: Image, members: Sequence[Member], query: ImageQuery, actor: Actor) -> bool:
    own = image.owner is not None and image.owner == actor.project_id
    shared_with_me = (
        not own
        and image.visibility is Visibility.SHARED
        and any(
            member.image_id == image.id
            and member.member_id == actor.project_id
            and query.member_status in ("all", str(member.status))
            for member in members
        )
    )
    if actor.is_admin:
        match query.visibility:
            case None:
                return image.visibility is not Visibility.COMMUNITY or own
            case "all":
                return True
            case visibility:
                return str(image.visibility) == visibility
    match query.visibility:
        case None:
            return own or image.visibility is Visibility.PUBLIC or shared_with_me
        case "public":
            return image.visibility is Visibility.PUBLIC
        case "community":
            return image.visibility is Visibility.COMMUNITY
        case "shared":
            return (own and image.visibility is Visibility.SHARED) or shared_with_me
        case "private":
            return own and image.visibility is Visibility.PRIVATE
        case _:
            return (
                own
                or shared_with_me
                or image.visibility in (Visibility.PUBLIC, Visibility.COMMUNITY)
            )


def _order(sort: Sequence[tuple[str, str]], left: Image, right: Image) -> int:
    for column, direction in sort:
        sign = _compare(getattr(left, column), getattr(right, column))
        if sign:
            return sign if direction == "asc" else -sign
    return 0


def _compare(left: Any, right: Any) -> int:
    """-1, 0, 1; null is the smallest value, and text is compared byte by byte."""
    if left is None or right is None:
        return (left is not None) - (right is not None)
    if isinstance(left, str):
        left, right = left.encode(), right.encode()
    return (left > right) - (left < right)
