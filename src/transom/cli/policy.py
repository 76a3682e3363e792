"""`transom policy`: show who may do what, and ask about one case."""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import sys
from typing import TYPE_CHECKING

from transom.cli.options import add_location, settings_of
from transom.errors import ConfigurationError, PolicyRefused
from transom.model.actor import Actor
from transom.model.image import Image, Visibility
from transom.policy import Policy
from transom.policy.matrix import IMAGE_RULES, markdown
from transom.policy.rules import BY_NAME
from transom.policy.visible import reachable

if TYPE_CHECKING:
    from transom.settings import Settings


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("policy", help="show who may do what")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    matrix = verbs.add_parser("matrix", help="print who may do what, as Markdown tables")
    add_location(matrix)
    matrix.set_defaults(func=_matrix)

    rules = verbs.add_parser("rules", help="print the rules in force, as a policy file")
    add_location(rules)
    rules.set_defaults(func=_rules)

    check = verbs.add_parser(
        "check",
        help="tell whether a rule lets a caller through",
        description="Exit code 0: allowed. 1: refused. The caller is described by the options, or "
        "is the one that a token speaks for.",
    )
    check.add_argument("rule", help="name of the rule, for example modify_image")
    caller = check.add_argument_group("the caller")
    caller.add_argument("--token", help="ask for whom this token speaks for; - reads it from stdin")
    caller.add_argument("--roles", default="", help="roles, comma-separated")
    caller.add_argument("--service-roles", default="", help="roles of a service token")
    caller.add_argument("--user", help="id of the user")
    scope = caller.add_mutually_exclusive_group()
    scope.add_argument("--project", help="id of the project that the token is scoped to")
    scope.add_argument("--domain", help="id of the domain that the token is scoped to")
    scope.add_argument("--system", action="store_true", help="the token is scoped to the system")
    image = check.add_argument_group("the image, or what else it is about")
    image.add_argument("--owner", help="id of the project that owns it; default: the caller's")
    image.add_argument("--visibility", choices=[one.value for one in Visibility], default="private")
    image.add_argument("--member", help="id of a project that the image is shared with")
    image.add_argument(
        "--property",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a custom property of the image; may be repeated",
    )
    add_location(check)
    check.set_defaults(func=_check)


def _matrix(args: argparse.Namespace) -> int:
    print(markdown(Policy.open(settings_of(args))), end="")
    return 0


def _rules(args: argparse.Namespace) -> int:
    policy = Policy.open(settings_of(args))
    overridden = policy.overridden()
    for name, check in policy.rules().items():
        rule = BY_NAME.get(name)
        source = "from the policy file" if name in overridden else "default"
        print(f"# {rule.about if rule else 'A rule of the policy file.'} ({source})")
        for method, path in rule.operations if rule else ():
            print(f"#   {method} {path}")
        print(f"{_quoted(name)}: {_quoted(check)}\n")
    return 0


def _quoted(value: object) -> str:
    # JSON text is YAML text, and quotes keep words such as `@` and `!` from meaning something else.
    return json.dumps(value, ensure_ascii=False)


def _check(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    policy = Policy.open(settings)
    rule = args.rule
    if rule not in policy:
        raise ConfigurationError(
            f"There is no policy rule '{rule}'; `transom policy rules` prints them all."
        )
    actor = policy.recognise(
        asyncio.run(_behind(settings, args.token)) if args.token else _described(args)
    )
    image = _image(args, actor)
    refusal = _refusal(policy, actor, rule, image)
    print(f"caller: {_told(actor)}")
    print(f"rule:   {rule}: {_quoted(policy.rules()[rule])}")
    print(refusal or "allowed")
    return 1 if refusal else 0


def _refusal(policy: Policy, actor: Actor, rule: str, image: Image) -> str:
    """Why the rule does not let the actor through; empty when it does."""
    try:
        policy.check_scope(actor, rule)
    except PolicyRefused:
        how = "refused with 404" if rule in IMAGE_RULES else "refused"
        return f"{how}: the rule needs a token that is scoped to a project"
    if rule not in IMAGE_RULES:
        return "" if policy.allows_image(actor, rule, image) else "refused"
    if not reachable(actor, image):
        return "refused with 404: for this caller the image does not exist"
    if policy.allows_image(actor, rule, image):
        return ""
    if rule != "get_image" and policy.allows_image(actor, "get_image", image):
        return "refused with 403"
    return "refused with 404: get_image is refused too, so the image is hidden"


def _described(args: argparse.Namespace) -> Actor:
    return Actor(
        user_id=args.user,
        project_id=args.project,
        domain_id=args.domain,
        system_scope="all" if args.system else None,
        roles=_names(args.roles),
        service_roles=_names(args.service_roles),
    )


async def _behind(settings: Settings, token: str) -> Actor:
    from transom.auth import open_authenticator
    from transom.catalog import Catalog

    catalog = Catalog.open(settings)
    try:
        authenticator = open_authenticator(settings, catalog)
        try:
            return await authenticator.authenticate(
                sys.stdin.readline().strip() if token == "-" else token  # noqa: S105 - not a secret
            )
        finally:
            await authenticator.close()
    finally:
        catalog.close()


def _image(args: argparse.Namespace, actor: Actor) -> Image:
    properties: dict[str, str | None] = {}
    for text in args.property:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigurationError(f"--property {text}: write it as NAME=VALUE.")
        properties[name] = value
    moment = dt.datetime.now(dt.UTC)
    return Image(
        id="image",
        created_at=moment,
        updated_at=moment,
        owner=args.owner or actor.project_id,
        visibility=Visibility(args.visibility),
        # An image carries the membership through which its reader sees it, nobody else's.
        member_id=args.member if args.member == actor.project_id else None,
        properties=properties,
    )


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip() for name in text.split(",") if name.strip())


def _told(actor: Actor) -> str:
    facts = {
        "user": actor.user_id,
        "project": actor.project_id,
        "domain": actor.domain_id,
        "system": actor.system_scope,
        "roles": ",".join(sorted(actor.roles)) or "none",
        "service roles": ",".join(sorted(actor.service_roles)),
    }
    told = ", ".join(f"{name} {value}" for name, value in facts.items() if value)
    return told + (", an administrator" if actor.is_admin else "")
