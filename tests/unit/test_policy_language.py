"""The policy language means here what it means to oslo.policy."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oslo_config import cfg
from oslo_policy import policy as oslo

from transom.errors import ConfigurationError
from transom.model.actor import Actor
from transom.policy import judge
from transom.policy.book import RuleBook, read_checks
from transom.policy.foreign import is_foreign
from transom.policy.judge import Caller, credentials
from transom.policy.language import Always, Foreign, Template, parse
from transom.policy.rules import RULES

DEFAULTS = json.loads((Path(__file__).parent / "glance-policy-defaults.json").read_text())

ROLES = ["admin", "member", "reader", "Member", "service", "p1"]
PROJECTS = ["p1", "p2", "None", "shared"]


def oslo_conf() -> Any:
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    return conf


def oslo_verdict(checks: dict[str, Any], rule: str, target: Any, actor: Actor) -> bool:
    """What oslo.policy itself says."""
    enforcer = oslo.Enforcer(oslo_conf(), rules=oslo.Rules.from_dict(checks), use_conf=False)
    return bool(enforcer.enforce(rule, target, credentials(actor)))


def our_verdict(checks: dict[str, Any], rule: str, target: Any, actor: Actor) -> bool:
    return RuleBook(checks, new_only=True).for_mapping(rule)(Caller(actor), target)


actors = st.builds(
    Actor,
    user_id=st.sampled_from(["u1", "u2", None]),
    project_id=st.sampled_from([*PROJECTS, None]),
    domain_id=st.sampled_from([None, "d1"]),
    system_scope=st.sampled_from([None, "all"]),
    roles=st.frozensets(st.sampled_from(ROLES)),
    service_roles=st.frozensets(st.sampled_from(["service", "admin"])),
)
KEYS = ["project_id", "owner", "member_id", "visibility", "is_free", "size"]
targets = st.dictionaries(
    st.sampled_from(KEYS),
    st.one_of(st.sampled_from([*PROJECTS, "public", "u1"]), st.none(), st.booleans(), st.just(7)),
)
templates = st.one_of(
    st.sampled_from(KEYS).map(lambda key: f"%({key})s"),
    st.sampled_from([*PROJECTS, *ROLES, "public", "all", "True", "None", "7", ""]),
    st.tuples(st.sampled_from(KEYS), st.sampled_from(KEYS)).map(
        lambda two: "%({})s-%({})s".format(*two)
    ),
    st.sampled_from(["a%%b", "x(1)y"]),
)
kinds = st.one_of(
    st.sampled_from([*judge.CREDENTIALS, *judge.CREDENTIAL_SETS, "system", "is_admin", "no.such"]),
    st.sampled_from(["'public'", '"p1"', "True", "None", "7", "'None'"]),
)
leaves = st.one_of(
    st.sampled_from(["@", "!"]),
    templates.map(lambda match: f"role:{match}"),
    st.tuples(kinds, templates).map(":".join),
    st.sampled_from(["rule:one", "rule:two"]),
)
blanks = st.sampled_from([" ", "  ", "\n\t"])
checks = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(inner, blanks, st.sampled_from(["and", "AND"]), inner).map(
            lambda four: f"{four[0]}{four[1]}{four[2]} {four[3]}"
        ),
        st.tuples(inner, st.sampled_from(["or", "Or"]), inner).map(" ".join),
        inner.map(lambda check: f"not {check}"),
        inner.map(lambda check: f"({check})"),
        inner.map(lambda check: f"( {check} )"),
    ),
    max_leaves=8,
)
list_checks = st.lists(st.one_of(leaves, st.lists(leaves, max_size=3)), max_size=3)


@settings(max_examples=400)
@given(check=st.one_of(checks, list_checks), actor=actors, target=targets)
def test_every_verdict_is_that_of_oslo_policy(check: Any, actor: Actor, target: Any) -> None:
    table = {"asked": check, "one": "role:member", "two": "project_id:%(owner)s or role:admin"}

    assert our_verdict(table, "asked", target, actor) == oslo_verdict(table, "asked", target, actor)


@settings(max_examples=400)
@given(
    words=st.lists(
        st.sampled_from(
            ["and", "or", "not", "(", ")", "role:member", "@", "!", "(role:a", "b:c))"]
        ),
        min_size=1,
        max_size=7,
    ),
    actor=actors,
)
def test_what_oslo_policy_cannot_read_is_refused_and_nothing_else(
    words: list[str], actor: Actor
) -> None:
    check = " ".join(words)
    heard = _Heard()
    logging.getLogger("oslo_policy._parser").addHandler(heard)
    try:
        reference = oslo.Rules.from_dict({"asked": check})
    finally:
        logging.getLogger("oslo_policy._parser").removeHandler(heard)

    try:
        parse(check, is_foreign)
    except ConfigurationError:
        assert heard.errors
    else:
        assert not heard.errors
        assert our_verdict({"asked": check}, "asked", {}, actor) == bool(
            oslo.Enforcer(oslo_conf(), rules=reference, use_conf=False).enforce(
                "asked", {}, credentials(actor)
            )
        )


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.errors.append(record.getMessage())


@pytest.mark.parametrize("new_only", [True, False])
def test_every_default_rule_judges_as_oslo_policy_with_the_same_defaults(*, new_only: bool) -> None:
    conf = oslo_conf()
    enforcer = oslo.Enforcer(conf)
    conf.set_override("enforce_new_defaults", new_only, "oslo_policy")
    enforcer.suppress_default_change_warnings = True
    for row in DEFAULTS:
        old = row.get("old_default")
        enforcer.register_default(
            oslo.RuleDefault(
                row["name"],
                row["check_str"],
                deprecated_rule=oslo.DeprecatedRule(
                    old["name"],
                    old["check_str"],
                    deprecated_reason="older",
                    deprecated_since="before",
                )
                if old
                else None,
            )
        )
    book = RuleBook({}, new_only=new_only)
    people = [
        Actor(project_id=project, roles=frozenset(roles))
        for project in ("p1", "p2", None)
        for roles in ((), ("reader",), ("reader", "member"), ("service",), ("ADMIN",))
    ]
    things: list[dict[str, object]] = [
        {"project_id": owner, "owner": owner, "member_id": member, "visibility": visibility}
        for owner in ("p1", None)
        for member in ("p2", None)
        for visibility in ("public", "community", "shared", "private")
    ]
    allowed = 0
    for rule in RULES:
        test = book.for_mapping(rule.name)
        for actor in people:
            for target in [*things, {}]:
                verdict = test(Caller(actor), target)
                allowed += verdict
                assert verdict == bool(enforcer.enforce(rule.name, target, credentials(actor))), (
                    rule.name,
                    actor,
                    target,
                )
    assert allowed > 1000


def test_the_defaults_are_the_rules_of_glance_row_for_row() -> None:
    ours = []
    for rule in RULES:
        row: dict[str, Any] = {"name": rule.name, "check_str": rule.check}
        if rule.scope_types:
            row["scope_types"] = list(rule.scope_types)
        if rule.operations:
            row["operations"] = [
                {"method": method, "path": path} for method, path in rule.operations
            ]
        if rule.old_check is not None:
            row["old_default"] = {"name": rule.name, "check_str": rule.old_check}
        ours.append(row)

    assert ours == DEFAULTS
    assert all(rule.about.endswith(".") for rule in RULES)


@pytest.mark.parametrize(
    ("check", "reason"),
    [
        ("role:member and", "ends where a check is expected"),
        ("role:member or or role:admin", "'or' stands where a check is expected"),
        ("(role:member", "a ')' is missing"),
        ("role:member)", "')' is not expected there"),
        ("role:member role:admin", "'role:admin' is not expected there"),
        ("member", "write what is compared, for example role:member"),
        ("   ", "ends where a check is expected"),
        ("project_id:%(owner)d", "write %% for the character itself"),
        ("project_id:100%", "write %% for the character itself"),
        ("9lives:%(owner)s", "neither a credential nor a quoted text"),
        (True, "is not a check string"),
        (["role:a", 7], "is not a list of checks"),
    ],
)
def test_a_check_that_cannot_be_read_is_refused_with_the_reason(check: Any, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason.replace("(", r"\(").replace(")", r"\)")):
        parse(check, is_foreign)


def test_nothing_and_the_empty_string_permit_as_in_oslo_policy() -> None:
    assert parse("", is_foreign) == parse(None, is_foreign) == parse([], is_foreign)
    assert parse("", is_foreign) == Always(verdict=True)


def test_a_rule_that_does_not_exist_cannot_be_referred_to() -> None:
    with pytest.raises(
        ConfigurationError, match="'get_image' refers to rule 'nobody_wrote_it', which does not"
    ):
        RuleBook({"get_image": "not rule:nobody_wrote_it"}, new_only=True)


def test_rules_cannot_refer_to_themselves_over_any_way() -> None:
    with pytest.raises(ConfigurationError, match="refers to itself: a -> b -> c -> a"):
        RuleBook({"a": "rule:b", "b": "role:x or not rule:c", "c": "rule:a"}, new_only=True)


def test_a_rule_may_be_referred_to_twice() -> None:
    book = RuleBook({"a": "rule:b and rule:b", "b": "role:x"}, new_only=True)

    assert book.for_mapping("a")(Caller(Actor(roles=frozenset({"x"}))), {})


def test_a_credential_that_nobody_has_is_warned_of() -> None:
    book = RuleBook({"get_image": "is_admin:True or tenant:%(owner)s"}, new_only=True)

    assert [warning.split("'")[3] for warning in book.warnings] == ["is_admin", "tenant"]
    assert RuleBook({}, new_only=True).warnings == []


def test_remote_checks_are_left_to_oslo_policy() -> None:
    assert parse("http://127.0.0.1:1/%(owner)s", is_foreign) == Foreign(
        "http", "//127.0.0.1:1/%(owner)s"
    )
    assert not is_foreign("project_id")
    assert not is_foreign("'public'")


def test_templates_tell_what_they_read() -> None:
    assert Template(("", "owner", "")).key == "owner"
    assert Template(("x",)).text == "x"
    assert Template(("a", "owner", "b", "size", "")).keys == ("owner", "size")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [", "neither YAML nor JSON"),
        ("- role:admin", "a mapping of rule names"),
        ("just words", "a mapping of rule names"),
        ("7: role:admin", "the rule name 7 is not text"),
    ],
)
def test_a_policy_file_that_is_no_table_of_rules_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        read_checks(text)


def test_a_policy_file_may_be_yaml_json_or_empty() -> None:
    assert read_checks('get_image: "role:x"\n') == {"get_image": "role:x"}
    assert read_checks('{"get_image": "role:x"}') == {"get_image": "role:x"}
    assert read_checks("# nothing yet\n") == {}
