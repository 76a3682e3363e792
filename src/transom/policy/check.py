"""May this caller do that?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import structlog

from transom.errors import (
    ConfigurationError,
    ImageNotFound,
    NamespaceNotFound,
    PolicyRefused,
)
from transom.metrics.table import POLICY_RELOADS
from transom.model.actor import Actor
from transom.model.image import Image
from transom.model.metadef import Namespace
from transom.policy.book import RuleBook, read_checks
from transom.policy.judge import Caller, credentials
from transom.policy.rules import MUTATING, PROJECT_RULES
from transom.policy.watch import WatchedFile
from transom.settings import PolicySettings, Settings

log = structlog.get_logger(__name__)

CALLERS_MAX = 1024
"""Actors that are remembered with what rules ask about them."""


class Policy:
    """The rules in force: Glance's defaults with the operator's policy file over them.

    Every question is answered from memory, in microseconds and without I/O, except that the file
    is looked at once a second, and that `http:` checks ask their server.
    """

    def __init__(self, settings: PolicySettings, *, file: Path | None = None) -> None:
        self._enforce_scope = settings.enforce_scope
        self._new_only = settings.enforce_new_defaults
        self._file = WatchedFile(file, "policy.file") if file else None
        self._problem = ""
        self._book = self._read()
        self._callers: dict[int, Caller] = {}
        for warning in self._book.warnings:
            log.warning("policy looks wrong", file=str(file), problem=warning)

    @classmethod
    def open(cls, settings: Settings) -> Policy:
        """The policy that the configuration asks for.

        Raises ConfigurationError when the policy file cannot be used; it names file and cause.
        """
        name = settings.policy.file
        return cls(settings.policy, file=Path(name) if name else None)

    # --- questions ---

    def allows(self, actor: Actor, rule: str, target: Mapping[str, object]) -> bool:
        """Does the rule let the actor do this to the target? The keys of targets are API §22.

        Raises LookupError for a rule that does not exist.
        """
        book = self._current()
        test = book.for_mapping(rule)
        return self._scope_fits(actor, rule) and test(self._caller_of(actor), target)

    def check(self, actor: Actor, rule: str, target: Mapping[str, object]) -> None:
        """As `allows`, but raises PolicyRefused."""
        if not self.allows(actor, rule, target):
            raise PolicyRefused(rule)

    def allows_image(self, actor: Actor, rule: str, image: Image) -> bool:
        """Does the rule let the actor do this to the image?"""
        book = self._current()
        test = book.for_image(rule)
        return (
            self._scope_fits(actor, rule)
            and test(self._caller_of(actor), image)
            and (self._new_only or rule not in MUTATING or _is_owner_or_admin(actor, image))
        )

    def check_image(self, actor: Actor, rule: str, image: Image) -> None:
        """As `allows_image`, but raises.

        ImageNotFound when the actor may not even see the image, so that a refusal never tells
        that an image exists (API §1.4); else PolicyRefused. For a token of the wrong scope there
        are no images.
        """
        if self.allows_image(actor, rule, image):
            return
        if rule == "get_image" or not self.allows_image(actor, "get_image", image):
            raise ImageNotFound(image.id)
        raise PolicyRefused(rule)

    def check_namespace(self, actor: Actor, rule: str, namespace: Namespace) -> None:
        """As `check`, about something in a namespace of metadata definitions.

        Raises NamespaceNotFound when the actor may not even see the namespace, so that a refusal
        never tells that it exists (API §1.4); else PolicyRefused.
        """
        target = namespace_target(namespace)
        if self.allows(actor, rule, target):
            return
        self.check_scope(actor, rule)
        if rule == "get_metadef_namespace" or not self.allows(
            actor, "get_metadef_namespace", target
        ):
            raise NamespaceNotFound(namespace.namespace)
        raise PolicyRefused(rule)

    def visible(self, actor: Actor, images: Iterable[Image]) -> list[Image]:
        """Those of the images that `get_image` lets the actor see, in the same order."""
        if not self._scope_fits(actor, "get_image"):
            return []
        test = self._current().for_image("get_image")
        caller = self._caller_of(actor)
        return [image for image in images if test(caller, image)]

    def recognise(self, actor: Actor) -> Actor:
        """The actor with `is_admin` filled in by rule `context_is_admin`."""
        test = self._current().for_mapping("context_is_admin")
        caller = self._caller_of(actor)
        return caller.as_admin(is_admin=test(caller, _OwnCredentials(actor)))

    def check_scope(self, actor: Actor, rule: str = "get_image") -> None:
        """Raises PolicyRefused when the actor's token has not the scope that the rule needs.

        To be asked before an image is looked up: then tokens of other scopes learn nothing about
        images, not even whether they exist.
        """
        if not self._scope_fits(actor, rule):
            raise PolicyRefused(rule)

    # --- the rules themselves ---

    def __contains__(self, rule: str) -> bool:
        """Is there a rule of this name, by default or in the operator's file?"""
        return rule in self._current()

    def rules(self) -> dict[str, object]:
        """Every rule in force and its check, as written."""
        return dict(self._current().checks)

    def overridden(self) -> frozenset[str]:
        """Names of the rules that come from the operator's file."""
        return self._current().overridden

    def problems(self) -> list[str]:
        """Why the policy file is not in force as it stands now; empty when it is."""
        self._current()
        return [self._problem] if self._problem else []

    def reload(self) -> None:
        """Look at the file now, not within the next second."""
        if self._file:
            self._file.look_now()
        self._current()

    # --- inside ---

    def _current(self) -> RuleBook:
        if self._file is not None and self._file.changed():
            self._reread()
        return self._book

    def _reread(self) -> None:
        try:
            self._book = self._read()
        except ConfigurationError as error:
            self._problem = f"{error}; the rules read before stay in force"
            POLICY_RELOADS.at("policy", "failure").add()
            log.error("policy file refused", problem=self._problem)  # noqa: TRY400 - no traceback
            return
        self._problem = ""
        POLICY_RELOADS.at("policy", "success").add()
        log.info("policy file read again", overridden=len(self._book.overridden))
        for warning in self._book.warnings:
            log.warning("policy looks wrong", problem=warning)

    def _read(self) -> RuleBook:
        if self._file is None:
            return RuleBook({}, new_only=self._new_only)
        text = self._file.read()
        try:
            return RuleBook(read_checks(text), new_only=self._new_only)
        except ConfigurationError as error:
            raise ConfigurationError(f"policy.file: {self._file.path}: {error}") from error

    def _caller_of(self, actor: Actor) -> Caller:
        # A request asks several times, and identity backends give the same actor for the same token.
        # An actor that stands here lives, so nobody else has its id.
        caller = self._callers.get(id(actor))
        if caller is None:
            if len(self._callers) >= CALLERS_MAX:
                self._callers.clear()
            caller = self._callers[id(actor)] = Caller(actor)
        return caller

    def _scope_fits(self, actor: Actor, rule: str) -> bool:
        if not self._enforce_scope or rule not in PROJECT_RULES:
            return True
        if actor.system_scope or actor.domain_id:
            return False
        # Neither project nor roles: an unscoped token. Callers without identity are not that; for
        # them the rule itself decides.
        return actor.project_id is not None or bool(actor.roles) or actor.is_anonymous


def namespace_target(namespace: Namespace) -> dict[str, object]:
    """What rules may ask about a namespace and all that stands in it (API §22)."""
    return {
        "project_id": namespace.owner,
        "visibility": str(namespace.visibility),
        "namespace": namespace.namespace,
    }


class _OwnCredentials(Mapping[str, object]):
    """The actor as the target of `context_is_admin`, laid out only if the rule reads it."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor

    def __getitem__(self, key: str) -> object:
        return credentials(self._actor)[key]

    def __iter__(self) -> Iterator[str]:
        return iter(credentials(self._actor))

    def __len__(self) -> int:
        return len(credentials(self._actor))


def _is_owner_or_admin(actor: Actor, image: Image) -> bool:
    return actor.is_admin or (actor.project_id is not None and actor.project_id == image.owner)
