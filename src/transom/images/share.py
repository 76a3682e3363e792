"""Share an image with other projects (API §11)."""

from __future__ import annotations

from typing import Any

from transom.errors import InvalidBody, MemberNotFound, NotShared
from transom.events.payloads import member_notice
from transom.images.attributes import checked
from transom.images.change import refuse_anonymous
from transom.images.clock import now
from transom.model.actor import Actor
from transom.model.image import Image, Visibility
from transom.model.member import Member, MemberStatus
from transom.registry import Registry


async def add_member(registry: Registry, actor: Actor, image_id: str, member_id: Any) -> Member:
    """Offer the image to a project.

    Raises ImageNotFound, NotShared, PolicyRefused, InvalidValue, DuplicateMember, QuotaExceeded.
    """
    checked("owner", member_id, registry.settings)
    if not member_id:
        raise InvalidBody("'member' must be the id of the project to share the image with.")
    image = await _shared(registry, actor, image_id)
    registry.policy.check_image(actor, "add_member", image)
    moment = now()
    member = Member(image_id=image_id, member_id=member_id, created_at=moment, updated_at=moment)
    with registry.events.telling(lambda _, __: [member_notice("image.member.create", member)]):
        await registry.catalog.members.add(member, registry.settings.limits.image_members_max)
    return member


async def list_members(registry: Registry, actor: Actor, image_id: str) -> list[Member]:
    """The projects that the image is shared with; a member sees only itself.

    Raises ImageNotFound, NotShared, PolicyRefused.
    """
    image = await _shared(registry, actor, image_id, reading=True)
    registry.policy.check_image(actor, "get_members", image)
    members = await registry.catalog.members.list(image_id)
    return [member for member in members if _sees(actor, image, member.member_id)]


async def show_member(registry: Registry, actor: Actor, image_id: str, member_id: str) -> Member:
    """One membership. Raises ImageNotFound, MemberNotFound, PolicyRefused."""
    try:
        image = await _shared(registry, actor, image_id, reading=True)
    except NotShared as refused:
        raise MemberNotFound(image_id, member_id) from refused
    registry.policy.check_image(actor, "get_member", image)
    return await _membership(registry, actor, image, member_id)


async def answer_offer(
    registry: Registry, actor: Actor, image_id: str, member_id: str, status: Any
) -> Member:
    """Accept, reject, or leave open an offer: the member project's answer.

    Raises InvalidBody, ImageNotFound, NotShared, PolicyRefused, MemberNotFound.
    """
    if status not in tuple(MemberStatus):
        raise InvalidBody(f"'status' must be one of: {', '.join(MemberStatus)}.")
    image = await _shared(registry, actor, image_id)
    registry.policy.check_image(actor, "modify_member", image)
    await _membership(registry, actor, image, member_id)
    with registry.events.telling(lambda made, _: [member_notice("image.member.update", made)]):
        return await registry.catalog.members.set_status(
            image_id, member_id, MemberStatus(status), now=now()
        )


async def remove_member(registry: Registry, actor: Actor, image_id: str, member_id: str) -> None:
    """Withdraw the image from a project.

    Raises ImageNotFound, NotShared, PolicyRefused, MemberNotFound.
    """
    image = await _shared(registry, actor, image_id)
    registry.policy.check_image(actor, "delete_member", image)
    if not registry.events.wants("image.member.delete"):
        await registry.catalog.members.remove(image_id, member_id)
        return
    member, moment = await registry.catalog.members.get(image_id, member_id), now()
    with registry.events.telling(
        lambda _, __: [member_notice("image.member.delete", member, moment)]
    ):
        await registry.catalog.members.remove(image_id, member_id)


async def _shared(
    registry: Registry, actor: Actor, image_id: str, *, reading: bool = False
) -> Image:
    if not reading:
        refuse_anonymous(actor)
    image = await registry.catalog.images.get(image_id, seen_by=actor)
    if image.visibility is not Visibility.SHARED:
        raise NotShared(image_id)
    return image


async def _membership(registry: Registry, actor: Actor, image: Image, member_id: str) -> Member:
    if not _sees(actor, image, member_id):
        raise MemberNotFound(image.id, member_id)
    return await registry.catalog.members.get(image.id, member_id)


def _sees(actor: Actor, image: Image, member_id: str) -> bool:
    return actor.is_admin or actor.project_id in (image.owner, member_id)
