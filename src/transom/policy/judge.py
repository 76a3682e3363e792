"""Trees of the policy language to functions that judge.

A tree becomes nested closures once; a verdict then costs about a microsecond and reads only the
attributes that the rule names. There is nothing to remember between two verdicts and so nothing
to forget when rules change. `docs/decisions/0030` has the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any, TypeVar

import msgspec

from transom.model.actor import Actor
from transom.model.image import Image
from transom.policy.language import (
    Always,
    Both,
    Either,
    Equals,
    Foreign,
    Literal,
    Named,
    Node,
    Not,
    Role,
    Template,
)

T = TypeVar("T")


class Caller:
    """An actor as checks see it: role names in lower case, because they compare so."""

    __slots__ = ("_other", "actor", "roles")

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        self.roles = frozenset(role.lower() for role in actor.roles)
        self._other: Actor | None = None

    def as_admin(self, *, is_admin: bool) -> Actor:
        """The actor with this verdict on whether it is an administrator; the same one each time."""
        if is_admin == self.actor.is_admin:
            return self.actor
        if self._other is None:
            self._other = msgspec.structs.replace(self.actor, is_admin=is_admin)
        return self._other


Test = Callable[[Caller, T], bool]
Get = Callable[[T], object]
"""Reads one key of a target; raises KeyError when the target does not have it."""
Reader = Callable[[str], Get[T]]
"""Gives the reader of a key."""
ForeignCheck = Callable[[Foreign], Test[T]]
"""Gives the function that asks oslo.policy."""

CREDENTIALS: dict[str, Callable[[Caller], object]] = {
    "user_id": attrgetter("actor.user_id"),
    "user_domain_id": attrgetter("actor.user_domain_id"),
    "project_id": attrgetter("actor.project_id"),
    "project_domain_id": attrgetter("actor.project_domain_id"),
    "domain_id": attrgetter("actor.domain_id"),
    "system_scope": attrgetter("actor.system_scope"),
    # Keystone's oldest way to mark a cloud administrator; every project counts where it is unused.
    "is_admin_project": lambda _: True,
}
"""Single-valued credentials that a check may name, as oslo.context gives them to Glance."""

CREDENTIAL_SETS: dict[str, Callable[[Caller], frozenset[str]]] = {
    "roles": attrgetter("actor.roles"),
    "service_roles": attrgetter("actor.service_roles"),
}
"""Credentials with several values, of which one must be the wanted one."""


def credentials(actor: Actor) -> dict[str, object]:
    """All credentials of an actor, for a check that judges by itself."""
    caller = Caller(actor)
    values: dict[str, object] = {name: get(caller) for name, get in CREDENTIALS.items()}
    values |= {name: sorted(get(caller)) for name, get in CREDENTIAL_SETS.items()}
    if actor.system_scope:
        values["system"] = actor.system_scope
    return values


# --- targets -------------------------------------------------------------------------------------

IMAGE_KEYS: dict[str, str] = {
    "project_id": "owner",
    "image_id": "id",
    "member": "member_id",
} | {
    name: name
    for name in (
        "id", "owner", "member_id", "visibility", "name", "status", "disk_format",
        "container_format", "size", "virtual_size", "checksum", "os_hash_algo", "os_hash_value",
        "os_hidden", "protected", "min_disk", "min_ram", "created_at", "updated_at", "tags",
    )
}  # fmt: skip
"""Keys of an image as a target and the attributes behind them (API §22)."""


def read_image(key: str) -> Get[Image]:
    """Reads a key of an image: an attribute, else a custom property."""
    if key in IMAGE_KEYS:
        return attrgetter(IMAGE_KEYS[key])

    def read(image: Image) -> object:
        return image.properties[key]

    return read


def read_mapping(key: str) -> Get[Mapping[str, object]]:
    """Reads a key of a target given as a mapping."""

    def read(target: Mapping[str, object]) -> object:
        return target[key]

    return read


def image_target(image: Image) -> dict[str, object]:
    """An image with all its keys, for a check that judges by itself."""
    target: dict[str, object] = dict(image.properties)
    target.update((key, getattr(image, name)) for key, name in IMAGE_KEYS.items())
    target["tags"] = list(image.tags)
    return target


# --- trees to functions ---------------------------------------------------------------------------


def compile_tree(
    node: Node, trees: Mapping[str, Node], reader: Reader[T], foreign: ForeignCheck[T]
) -> Test[T]:
    """The function that judges by a tree. The rules that it refers to must be in `trees`."""

    def build(node: Node) -> Test[T]:
        match node:
            case Always(verdict):
                return lambda _caller, _target: verdict
            case Named(name):
                return build(trees[name])
            case Role(match):
                return _role(match, reader)
            case Equals(credential, match):
                return _equals(credential, match, reader)
            case Literal(text, match):
                return _literal(text, match, reader)
            case Foreign():
                return foreign(node)
            case Both(parts):
                return _both([build(part) for part in parts])
            case Either(parts):
                return _either([build(part) for part in parts])
            case Not(part):
                inner = build(part)
                return lambda caller, target: not inner(caller, target)

    return build(node)


def _both(tests: list[Test[T]]) -> Test[T]:
    if len(tests) == 2:
        one, two = tests
        return lambda caller, target: one(caller, target) and two(caller, target)

    def judge(caller: Caller, target: T) -> bool:
        for test in tests:  # noqa: SIM110 - all() over a generator costs twice as much
            if not test(caller, target):
                return False
        return True

    return judge


def _either(tests: list[Test[T]]) -> Test[T]:
    if len(tests) == 2:
        one, two = tests
        return lambda caller, target: one(caller, target) or two(caller, target)

    def judge(caller: Caller, target: T) -> bool:
        for test in tests:  # noqa: SIM110 - any() over a generator costs twice as much
            if test(caller, target):
                return True
        return False

    return judge


def _filled(template: Template, reader: Reader[T]) -> Callable[[T], str]:
    """Fills a template from a target; raises KeyError for what the target does not have."""
    if template.text is not None:
        text = template.text
        return lambda _target: text
    if template.key is not None:
        read = reader(template.key)
        return lambda target: str(read(target))
    texts = template.pieces[0::2]
    reads = [reader(key) for key in template.keys]

    def fill(target: T) -> str:
        filled = texts[0]
        for read, text in zip(reads, texts[1:], strict=True):
            filled += str(read(target)) + text
        return filled

    return fill


def _never(_caller: Caller, _target: object) -> bool:
    return False


def _role(match: Template, reader: Reader[T]) -> Test[T]:
    if match.text is not None:
        wanted = match.text.lower()
        return lambda caller, _target: wanted in caller.roles
    fill = _filled(match, reader)

    def judge(caller: Caller, target: T) -> bool:
        try:
            return fill(target).lower() in caller.roles
        except KeyError:
            return False

    return judge


def _equals(credential: str, match: Template, reader: Reader[T]) -> Test[T]:
    fill = _filled(match, reader)
    if credential in CREDENTIAL_SETS:
        values = CREDENTIAL_SETS[credential]

        def judge_set(caller: Caller, target: T) -> bool:
            try:
                return fill(target) in values(caller)
            except KeyError:
                return False

        return judge_set
    if credential == "system":
        # Only a system-scoped token has this credential at all.
        def judge_system(caller: Caller, target: T) -> bool:
            scope = caller.actor.system_scope
            try:
                return bool(scope) and scope == fill(target)
            except KeyError:
                return False

        return judge_system
    if credential not in CREDENTIALS:
        return _never
    value = CREDENTIALS[credential]

    def judge(caller: Caller, target: T) -> bool:
        try:
            return str(value(caller)) == fill(target)
        except KeyError:
            return False

    return judge


def _literal(text: str, match: Template, reader: Reader[T]) -> Test[T]:
    fill = _filled(match, reader)

    def judge(_caller: Caller, target: T) -> bool:
        try:
            return fill(target) == text
        except KeyError:
            return False

    return judge


def unknown_credentials(nodes: Iterable[Node]) -> set[str]:
    """Credentials that checks ask for and that no caller has: such checks never pass."""
    found: set[str] = set()

    def visit(node: Node) -> None:
        match node:
            case Equals(credential, _):
                if credential not in CREDENTIALS | CREDENTIAL_SETS | {"system": Any}:
                    found.add(credential)
            case Both(parts) | Either(parts):
                for part in parts:
                    visit(part)
            case Not(part):
                visit(part)

    for node in nodes:
        visit(node)
    return found
