"""A book of rules: the defaults with an operator's file over them, ready to judge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transom.errors import ConfigurationError
from transom.model.image import Image
from transom.policy import foreign, judge, language
from transom.policy.rules import RULES

_Target = Mapping[str, object]


def default_checks(*, new_only: bool) -> dict[str, str]:
    """The check strings of the defaults; with `new_only` off each counts together with the older
    one that it replaced."""
    return {
        rule.name: rule.check
        if new_only or rule.old_check in {None, rule.check} or not rule.check
        else f"({rule.check}) or ({rule.old_check})"
        for rule in RULES
    }


def read_checks(text: str) -> dict[str, object]:
    """The rules of a policy file, YAML or JSON. Raises ConfigurationError with the reason."""
    # Only who has a policy file waits for it to load.
    import yaml

    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"it is neither YAML nor JSON: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigurationError("it must be a mapping of rule names to check strings")
    for name in content:
        if not isinstance(name, str):
            raise ConfigurationError(f"the rule name {name!r} is not text; put it in quotes")
    return content


class RuleBook:
    """Rules that are known to be sound. Never changes: another file makes another book."""

    def __init__(self, overrides: Mapping[str, object], *, new_only: bool) -> None:
        """Raises ConfigurationError for a rule that cannot be read, that refers to a rule which
        does not exist, or that refers to itself."""
        defaults = default_checks(new_only=new_only)
        checks: dict[str, object] = defaults | dict(overrides)
        self._trees = language.parse_rules(checks, foreign.is_foreign)
        language.verify_references(self._trees)
        self._foreign = foreign.ForeignChecks()
        self._for_images: dict[str, judge.Test[Image]] = {}
        self._for_mappings: dict[str, judge.Test[_Target]] = {}
        self.checks = checks
        """Every rule's check as written."""
        self.overridden = frozenset(overrides)
        """Names of rules that come from the operator's file."""

    def __contains__(self, name: str) -> bool:
        return name in self._trees

    @property
    def warnings(self) -> list[str]:
        """What is sound and still looks like a mistake in the operator's rules."""
        return [
            f"rule '{name}' asks for credential '{credential}', which no caller has: "
            "that check never passes"
            for name in sorted(self.overridden)
            for credential in sorted(judge.unknown_credentials([self._trees[name]]))
        ]

    def for_image(self, name: str) -> judge.Test[Image]:
        """The function that judges a rule for an image."""
        test = self._for_images.get(name)
        if test is None:
            test = self._compile(name, judge.read_image, judge.image_target)
            self._for_images[name] = test
        return test

    def for_mapping(self, name: str) -> judge.Test[_Target]:
        """The function that judges a rule for a target given as a mapping."""
        test = self._for_mappings.get(name)
        if test is None:
            test = self._compile(name, judge.read_mapping, dict)
            self._for_mappings[name] = test
        return test

    def _compile(self, name: str, reader: Any, whole: Any) -> Any:
        if name not in self._trees:
            raise LookupError(f"there is no policy rule '{name}'")

        def ask(check: language.Foreign) -> judge.Test[Any]:
            return lambda caller, target: self._foreign.ask(
                name, check, caller.actor, whole(target)
            )

        return judge.compile_tree(self._trees[name], self._trees, reader, ask)
