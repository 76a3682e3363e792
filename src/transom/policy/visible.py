"""Who sees what, told for one image.

The catalog answers the same question inside its SELECT (API §5.4, lifecycle §2); this is the rule
in words, for the policy matrix and for tests that hold the two together.
"""

from __future__ import annotations

from typing import Literal

from transom.model.actor import Actor
from transom.model.image import Image, Visibility
from transom.model.member import MemberStatus

_OPEN = frozenset({Visibility.PUBLIC, Visibility.COMMUNITY})


def reachable(actor: Actor, image: Image) -> bool:
    """Does the image exist for the actor, before policy is asked?

    `image.member_id` says through whose membership the actor reaches it.
    """
    if actor.is_admin or image.visibility in _OPEN or _owns(actor, image):
        return True
    if image.owner is None:
        return image.visibility is not Visibility.PRIVATE
    return image.visibility is Visibility.SHARED and _is_member(actor, image)


def listed(
    actor: Actor,
    image: Image,
    *,
    membership: MemberStatus | None = None,
    asked: Literal["default", "all"] = "default",
) -> bool:
    """Is the image in a list that asks for no visibility, or for all?

    `membership` is what the actor's project made of the image's offer; lists show accepted ones.
    """
    if asked == "all" and (actor.is_admin or image.visibility is Visibility.COMMUNITY):
        return True
    if _owns(actor, image) or image.visibility is Visibility.PUBLIC:
        return True
    if actor.is_admin:
        return image.visibility is not Visibility.COMMUNITY
    return (
        image.visibility is Visibility.SHARED
        and membership is MemberStatus.ACCEPTED
        and _is_member(actor, image)
    )


def _owns(actor: Actor, image: Image) -> bool:
    return image.owner is not None and image.owner == actor.project_id


def _is_member(actor: Actor, image: Image) -> bool:
    return image.member_id is not None and image.member_id == actor.project_id
