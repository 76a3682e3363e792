"""Property protections: who may create, read, change and delete which custom property.

An INI file of sections; each section's name is a regular expression, and the first section whose
expression is found anywhere in a property's name decides (lifecycle §10).
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec
import structlog

from transom.errors import ConfigurationError
from transom.metrics.table import POLICY_RELOADS
from transom.model.actor import Actor
from transom.policy.check import Policy
from transom.policy.watch import WatchedFile
from transom.settings import Settings

log = structlog.get_logger(__name__)

Operation = Literal["create", "read", "update", "delete"]
OPERATIONS: tuple[Operation, ...] = ("create", "read", "update", "delete")
Format = Literal["roles", "policies"]

INTERNAL = "os_glance"
"""Properties of the service itself begin so; protections never concern them."""

_KEY = "policy.property_protections"
_NAMES_REMEMBERED = 4096

Verdict = Callable[[Actor], bool]


class _Section(msgspec.Struct, frozen=True):
    pattern: re.Pattern[str]
    verdicts: dict[Operation, Verdict]


class Protections:
    """The protections in force. Without a file everything is allowed, and `active` is False."""

    def __init__(
        self, file: Path | None = None, *, form: Format = "roles", policy: Policy | None = None
    ) -> None:
        """`policy` is needed for the format `policies`. Raises ConfigurationError."""
        self._file = WatchedFile(file, _KEY) if file else None
        self._form = form
        self._policy = policy
        self._problem = ""
        self._sections = self._read()
        self._of_name: dict[str, _Section | None] = {}

    @classmethod
    def open(cls, settings: Settings, policy: Policy | None = None) -> Protections:
        """The protections that the configuration asks for.

        Raises ConfigurationError when the file cannot be read or is malformed; it names file,
        section and cause.
        """
        name = settings.policy.property_protections
        if not name:
            return cls()
        form = settings.policy.property_protection_format
        if form == "policies" and policy is None:
            policy = Policy.open(settings)
        return cls(Path(name), form=form, policy=policy)

    @property
    def active(self) -> bool:
        """False when no property is protected from anybody."""
        return self._file is not None

    def creatable(self, actor: Actor, name: str) -> bool:
        """May the actor give an image a property of this name?"""
        return self._allows(actor, name, "create")

    def readable(self, actor: Actor, name: str) -> bool:
        """May the actor see the property?"""
        return self._allows(actor, name, "read")

    def updatable(self, actor: Actor, name: str) -> bool:
        """May the actor change the property's value?"""
        return self._allows(actor, name, "update")

    def deletable(self, actor: Actor, name: str) -> bool:
        """May the actor take the property off an image?"""
        return self._allows(actor, name, "delete")

    def problems(self) -> list[str]:
        """Why the file is not in force as it stands now; empty when it is."""
        self._look()
        return [self._problem] if self._problem else []

    # --- inside ---

    def _allows(self, actor: Actor, name: str, operation: Operation) -> bool:
        if self._file is None or name.startswith(INTERNAL):
            return True
        self._look()
        section = self._of_name[name] if name in self._of_name else self._find(name)
        return section is not None and section.verdicts[operation](actor)

    def _find(self, name: str) -> _Section | None:
        found = next((one for one in self._sections if one.pattern.search(name)), None)
        if len(self._of_name) >= _NAMES_REMEMBERED:
            # Names come from clients: forget all rather than grow without end.
            self._of_name = {}
        self._of_name[name] = found
        return found

    def _look(self) -> None:
        if self._file is None or not self._file.changed():
            return
        try:
            self._sections = self._read()
        except ConfigurationError as error:
            self._problem = f"{error}; the protections read before stay in force"
            POLICY_RELOADS.at("property_protections", "failure").add()
            log.error("property protections refused", problem=self._problem)  # noqa: TRY400
            return
        self._of_name = {}
        self._problem = ""
        POLICY_RELOADS.at("property_protections", "success").add()
        log.info("property protections read again", sections=len(self._sections))

    def _read(self) -> list[_Section]:
        if self._file is None:
            return []
        text = self._file.read()
        try:
            return self._parse(text)
        except (configparser.Error, ConfigurationError) as error:
            reason = str(error).replace("\n", " ")
            raise ConfigurationError(f"{_KEY}: {self._file.path}: {reason}") from error

    def _parse(self, text: str) -> list[_Section]:
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_string(text, source="the file")
        return [self._section(parser[name]) for name in parser.sections() if not _is_internal(name)]

    def _section(self, section: configparser.SectionProxy) -> _Section:
        try:
            pattern = re.compile(section.name)
        except re.error as error:
            raise ConfigurationError(
                f"[{section.name}] is not a regular expression: {error}"
            ) from error
        verdicts: dict[Operation, Verdict] = {}
        for operation in OPERATIONS:
            value = section.get(operation)
            where = f"[{section.name}] {operation}"
            if value is None:
                raise ConfigurationError(
                    f"{where} is missing; write '{operation} = !' to allow it to nobody"
                )
            if not value.strip():
                log.warning("property protection without a value: nobody", where=where)
            verdicts[operation] = self._verdict(where, value)
        return _Section(pattern, verdicts)

    def _verdict(self, where: str, value: str) -> Verdict:
        names = [name.strip() for name in value.split(",") if name.strip()]
        if {"@", "!"} & set(names):
            if len(names) > 1:
                raise ConfigurationError(
                    f"{where} = {value}: '@' (everyone) and '!' (nobody) stand alone"
                )
            verdict = names == ["@"]
            return lambda _actor: verdict
        if not names:
            return lambda _actor: False
        if self._form == "roles":
            return _has_role(frozenset(name.lower() for name in names))
        if len(names) > 1:
            raise ConfigurationError(
                f"{where} = {value}: name one policy rule; combine rules in the policy file"
            )
        return self._passes_rule(where, names[0])

    def _passes_rule(self, where: str, rule: str) -> Verdict:
        policy = self._policy
        if policy is None or rule not in policy:
            raise ConfigurationError(
                f"{where} = {rule}: there is no policy rule '{rule}'; add it to the policy file"
            )

        def verdict(actor: Actor) -> bool:
            # The policy file may have lost the rule since: then nobody passes it.
            return rule in policy and policy.allows(actor, rule, {})

        return verdict


def _is_internal(section: str) -> bool:
    return section.startswith(INTERNAL)


def _has_role(wanted: frozenset[str]) -> Verdict:
    def verdict(actor: Actor) -> bool:
        # A service that calls in a user's name brings its own roles along.
        return any(role.lower() in wanted for role in actor.roles) or any(
            role.lower() in wanted for role in actor.service_roles
        )

    return verdict
