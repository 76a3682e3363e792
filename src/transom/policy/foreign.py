"""Checks that oslo.policy judges: remote ones (`http:`, `https:`) and those of its plug-ins.

oslo.policy takes about 0.4 s to load, so it is loaded when a rule needs it and not before. Such a
check is asked anew each time, and it blocks the process while the remote server thinks: keep
these servers near.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from transom.errors import Unavailable
from transom.policy.judge import CREDENTIAL_SETS, CREDENTIALS, credentials
from transom.policy.language import Foreign

if TYPE_CHECKING:
    from transom.model.actor import Actor

REMOTE_TIMEOUT_SECONDS = 5.0
"""Longest time that a remote check may take."""

_KNOWN = {*CREDENTIALS, *CREDENTIAL_SETS, "system"}


def is_foreign(kind: str) -> bool:
    """True when checks of this kind belong to oslo.policy or a plug-in of it."""
    return kind in {"http", "https"} or (
        kind.isidentifier() and kind not in _KNOWN and kind in _plugins()
    )


@cache
def _plugins() -> frozenset[str]:
    import importlib.metadata

    return frozenset(
        entry.name for entry in importlib.metadata.entry_points(group="oslo.policy.rule_checks")
    )


class ForeignChecks:
    """Asks oslo.policy."""

    def __init__(self) -> None:
        self._enforcers: dict[tuple[str, Foreign], Any] = {}

    def ask(self, rule: str, check: Foreign, actor: Actor, target: Mapping[str, object]) -> bool:
        """The verdict of one check, asked for the sake of a rule.

        Raises Unavailable when it cannot be had, so that nobody takes a broken policy server for
        a refusal or, behind a `not`, for a permission.
        """
        try:
            enforcer = self._enforcer(rule, check)
            return bool(enforcer.enforce(rule, dict(target), credentials(actor)))
        except Exception as error:
            # Whatever a plug-in raises means that there is no verdict.
            raise Unavailable(
                f"The policy check {check.kind}:{check.match} of rule {rule} gave no answer "
                f"({type(error).__name__}); try again later."
            ) from error

    def _enforcer(self, rule: str, check: Foreign) -> Any:
        key = (rule, check)
        if key not in self._enforcers:
            from oslo_config import cfg
            from oslo_policy import policy

            conf = cfg.ConfigOpts()
            conf([], default_config_files=[], default_config_dirs=[])
            enforcer = policy.Enforcer(
                conf,
                # The check stands under the name of the rule that is asked for, because the name
                # is part of what a remote server is told.
                rules=policy.Rules.from_dict({rule: f"{check.kind}:{check.match}"}),
                use_conf=False,
            )
            conf.set_override("remote_timeout", REMOTE_TIMEOUT_SECONDS, "oslo_policy")
            self._enforcers[key] = enforcer
        return self._enforcers[key]
