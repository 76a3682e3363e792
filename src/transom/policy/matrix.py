"""The policy as a table: who may do what to which image.

`transom policy matrix` prints it; `docs/reference/policy-matrix.md` is what the defaults give, and
a change of a rule shows there as a diff.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from transom.errors import Forbidden, ImageNotFound
from transom.model.actor import ANONYMOUS, Actor
from transom.model.image import Image, Visibility
from transom.model.member import MemberStatus
from transom.policy.check import Policy
from transom.policy.visible import listed, reachable

OWNER_PROJECT = "owner"
SHARED_PROJECT = "shared-with"
OTHER_PROJECT = "other"

_MEMBER = frozenset({"member", "reader"})
_READER = frozenset({"reader"})
_ADMIN = frozenset({"admin", "member", "reader"})

YES = "yes"
REFUSED = "403"
HIDDEN = "404"


@dataclass(frozen=True, slots=True)
class Persona:
    """A kind of caller."""

    name: str
    about: str
    actor: Actor
    membership: MemberStatus | None = None
    """What the persona's project made of the offer of an image that is shared with it."""


PERSONAS: tuple[Persona, ...] = (
    Persona("admin", "role admin in some project", Actor(project_id=OTHER_PROJECT, roles=_ADMIN)),
    Persona(
        "owner",
        "role member in the owning project",
        Actor(project_id=OWNER_PROJECT, roles=_MEMBER),
    ),
    Persona(
        "owner reader",
        "only role reader in the owning project",
        Actor(project_id=OWNER_PROJECT, roles=_READER),
    ),
    *(
        Persona(
            status.value,
            f"role member in a project that the image is shared with: {status.value}",
            Actor(project_id=SHARED_PROJECT, roles=_MEMBER),
            status,
        )
        for status in (MemberStatus.ACCEPTED, MemberStatus.PENDING, MemberStatus.REJECTED)
    ),
    Persona(
        "accepted reader",
        "only role reader in a project that the image is shared with: accepted",
        Actor(project_id=SHARED_PROJECT, roles=_READER),
        MemberStatus.ACCEPTED,
    ),
    Persona(
        "stranger",
        "role member in another project",
        Actor(project_id=OTHER_PROJECT, roles=_MEMBER),
    ),
    Persona(
        "stranger reader",
        "only role reader in another project",
        Actor(project_id=OTHER_PROJECT, roles=_READER),
    ),
    Persona(
        "service",
        "only role service, in another project",
        Actor(project_id=OTHER_PROJECT, roles=frozenset({"service"})),
    ),
    Persona("no role", "no role, in another project", Actor(project_id=OTHER_PROJECT)),
    Persona("system admin", "role admin on the system", Actor(system_scope="all", roles=_ADMIN)),
    Persona("domain admin", "role admin on a domain", Actor(domain_id="domain", roles=_ADMIN)),
    Persona("anonymous", "no token, where `identity.allow_anonymous` is on", ANONYMOUS),
)

IMAGE_RULES: tuple[str, ...] = (
    "get_image", "download_image", "download_from_store", "modify_image", "publicize_image",
    "communitize_image", "upload_image", "delete_image", "deactivate", "reactivate", "copy_image",
    "add_member", "get_members", "get_member", "modify_member", "delete_member",
    "get_image_location", "set_image_location", "delete_image_location", "add_image_location",
    "fetch_image_location", "list_cached_nodes", "cache_image", "cache_delete",
)  # fmt: skip
"""Rules that are asked about an image that exists."""

DEPLOYMENT_RULES: tuple[str, ...] = (
    "stores_info_detail", "cache_list", "cache_clean", "cache_prune", "manage_image_cache",
    "tasks_api_access", "get_tasks", "get_task", "add_task", "modify_task",
)  # fmt: skip
"""Rules that are asked about nothing in particular."""

METADEF_READS: tuple[str, ...] = (
    "get_metadef_namespace", "get_metadef_object", "get_metadef_objects",
    "list_metadef_resource_types", "get_metadef_resource_type", "get_metadef_property",
    "get_metadef_properties", "get_metadef_tag", "get_metadef_tags",
)  # fmt: skip
METADEF_WRITES: tuple[str, ...] = (
    "modify_metadef_namespace", "delete_metadef_namespace",
    "add_metadef_object", "modify_metadef_object", "delete_metadef_object",
    "add_metadef_property", "modify_metadef_property", "remove_metadef_property",
    "add_metadef_tag", "add_metadef_tags", "modify_metadef_tag", "delete_metadef_tag",
    "delete_metadef_tags", "add_metadef_resource_type_association",
    "remove_metadef_resource_type_association",
)  # fmt: skip


def example(visibility: Visibility, persona: Persona) -> Image:
    """An image of the owning project as the persona meets it."""
    made = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    is_member = persona.membership is not None
    return Image(
        id="image",
        owner=OWNER_PROJECT,
        visibility=visibility,
        created_at=made,
        updated_at=made,
        member_id=persona.actor.project_id if is_member else None,
    )


def image_verdict(policy: Policy, persona: Persona, rule: str, visibility: Visibility) -> str:
    """What the persona is told when it asks for this: `yes`, `403`, or `404` for "no such image"."""
    actor = policy.recognise(persona.actor)
    image = example(visibility, persona)
    try:
        if not reachable(actor, image):
            return HIDDEN
        policy.check_image(actor, rule, image)
    except ImageNotFound:
        return HIDDEN
    except Forbidden:
        return REFUSED
    return YES


def list_verdict(policy: Policy, persona: Persona, visibility: Visibility, *, every: bool) -> str:
    """Is the image in the persona's list: `yes`, `no`, or `403` when it may list nothing?"""
    actor = policy.recognise(persona.actor)
    image = example(visibility, persona)
    if not policy.allows(actor, "get_images", {"project_id": actor.project_id}):
        return REFUSED
    shown = listed(actor, image, membership=persona.membership, asked="all" if every else "default")
    return YES if shown and policy.visible(actor, [image]) else "no"


def verdict(policy: Policy, persona: Persona, rule: str, target: dict[str, object]) -> str:
    """What the persona is told about something that is no image: `yes` or `403`."""
    return YES if policy.allows(policy.recognise(persona.actor), rule, target) else REFUSED


def metadef_verdict(policy: Policy, persona: Persona, rule: str, target: dict[str, object]) -> str:
    """What the persona is told about something in a namespace: `yes`, `403`, or `404` when it may
    not even see the namespace."""
    actor = policy.recognise(persona.actor)
    try:
        policy.check_scope(actor, rule)
    except Forbidden:
        return REFUSED
    if policy.allows(actor, rule, target):
        return YES
    return REFUSED if policy.allows(actor, "get_metadef_namespace", target) else HIDDEN


def markdown(policy: Policy) -> str:
    """The whole matrix as a Markdown page."""
    return "\n".join(_page(policy)) + "\n"


def _page(policy: Policy) -> Iterator[str]:
    yield "# Who may do what"
    yield ""
    yield (
        "Made by `transom policy matrix` from the rules in force. `yes`: the rule lets the caller "
        "through. `403`: refused. `404`: refused as if there were nothing there, because the "
        "caller may not even see it. The state of the image, quotas and property protections may "
        "still say no. A deactivated image is downloaded by administrators alone."
    )
    yield ""
    yield "| Caller | is |"
    yield "|---|---|"
    for persona in PERSONAS:
        yield f"| {persona.name} | {persona.about} |"
    for visibility in Visibility:
        yield from _image_table(policy, visibility)
    yield from _other_tables(policy)


def _image_table(policy: Policy, visibility: Visibility) -> Iterator[str]:
    yield from _head(f"A {visibility.value} image of the owning project")
    for label, every in (("*in a list*", False), ("*in a list with `visibility=all`*", True)):
        yield _row(label, (list_verdict(policy, one, visibility, every=every) for one in PERSONAS))
    for rule in IMAGE_RULES:
        yield _row(f"`{rule}`", (image_verdict(policy, one, rule, visibility) for one in PERSONAS))


def _other_tables(policy: Policy) -> Iterator[str]:
    yield from _head("Lists, and what does not exist yet")
    for rule in ("get_images", "get_metadef_namespaces"):
        yield _row(
            f"`{rule}`",
            (verdict(policy, one, rule, {"project_id": one.actor.project_id}) for one in PERSONAS),
        )
    for label, rule, visibility, owned in (
        ("`add_image` for the caller's project", "add_image", "private", True),
        ("`add_image` for another project", "add_image", "private", False),
        ("`publicize_image` on creation", "publicize_image", "public", True),
        ("`communitize_image` on creation", "communitize_image", "community", True),
    ):
        yield _row(
            label,
            (
                verdict(policy, one, rule, _create_target(one, visibility, owned=owned))
                for one in PERSONAS
            ),
        )
    yield _row(
        "`add_metadef_namespace`",
        (
            verdict(policy, one, "add_metadef_namespace", _create_target(one, "private"))
            for one in PERSONAS
        ),
    )
    yield from _head("The deployment")
    for rule in DEPLOYMENT_RULES:
        yield _row(f"`{rule}`", (verdict(policy, one, rule, {}) for one in PERSONAS))
    for visibility in ("public", "private"):
        target: dict[str, object] = {
            "project_id": OWNER_PROJECT,
            "visibility": visibility,
            "namespace": "namespace",
        }
        yield from _head(f"A {visibility} metadata definition namespace of the owning project")
        for rule in (*METADEF_READS, *METADEF_WRITES):
            yield _row(
                f"`{rule}`", (metadef_verdict(policy, one, rule, target) for one in PERSONAS)
            )


def _create_target(persona: Persona, visibility: str, *, owned: bool = True) -> dict[str, object]:
    owner = persona.actor.project_id if owned else "somebody else"
    return {"project_id": owner, "owner": owner, "visibility": visibility}


def _head(title: str) -> Iterator[str]:
    yield ""
    yield f"## {title}"
    yield ""
    yield _row("Rule", (persona.name for persona in PERSONAS))
    yield "|---" * (len(PERSONAS) + 1) + "|"


def _row(label: str, cells: Iterable[str]) -> str:
    return "| " + " | ".join([label, *cells]) + " |"
