"""Property protections: who may do what with which custom property (lifecycle §10)."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from transom.errors import ConfigurationError
from transom.model.actor import Actor
from transom.policy.protections import Protections
from transom.settings import PolicySettings, Settings

ADMIN = Actor(project_id="p1", roles=frozenset({"admin"}))
SPL = Actor(project_id="p1", roles=frozenset({"SPL_Role"}))
MEMBER = Actor(project_id="p1", roles=frozenset({"member"}))

ROLES = """
[^x_owner_.*]
create = admin,spl_role
read = admin,member
update = admin
delete = !

[x_none]
create = !
read = !
update = !
delete = !

[x_.*]
create = @
read = @
update = member
delete = admin , member
"""


def protections(path: Path, text: str, form: str = "roles", policy_file: str = "") -> Protections:
    path.write_text(text)
    return Protections.open(
        Settings(
            policy=PolicySettings(
                property_protections=str(path),
                property_protection_format=form,  # type: ignore[arg-type]
                file=policy_file,
            )
        )
    )


@pytest.fixture
def by_roles(tmp_path: Path) -> Protections:
    return protections(tmp_path / "protections.conf", ROLES)


def test_without_a_file_everything_is_allowed() -> None:
    none = Protections.open(Settings())

    assert not none.active
    assert none.creatable(MEMBER, "anything")
    assert none.readable(MEMBER, "anything")
    assert none.updatable(MEMBER, "anything")
    assert none.deletable(MEMBER, "anything")


def test_each_operation_has_its_own_roles(by_roles: Protections) -> None:
    assert by_roles.active
    assert by_roles.creatable(SPL, "x_owner_name")
    assert not by_roles.readable(SPL, "x_owner_name")
    assert by_roles.readable(MEMBER, "x_owner_name")
    assert not by_roles.updatable(MEMBER, "x_owner_name")
    assert by_roles.updatable(ADMIN, "x_owner_name")


def test_nobody_means_administrators_too(by_roles: Protections) -> None:
    assert not by_roles.deletable(ADMIN, "x_owner_name")
    assert not by_roles.readable(ADMIN, "x_none")


def test_everyone_means_callers_without_a_role_too(by_roles: Protections) -> None:
    assert by_roles.readable(Actor(), "x_free")
    assert by_roles.creatable(Actor(), "x_free")


def test_the_first_section_that_matches_anywhere_decides(by_roles: Protections) -> None:
    assert not by_roles.readable(ADMIN, "my_x_none_at_all")
    assert by_roles.readable(MEMBER, "prefix_x_free")
    assert by_roles.updatable(MEMBER, "not_at_start_x_owner_")


def test_a_name_that_no_section_matches_is_closed_to_all(by_roles: Protections) -> None:
    assert not by_roles.readable(ADMIN, "colour")
    assert not by_roles.creatable(ADMIN, "colour")
    assert not by_roles.updatable(ADMIN, "colour")
    assert not by_roles.deletable(ADMIN, "colour")


def test_roles_compare_in_any_case_and_blanks_around_them_do_not_matter(
    by_roles: Protections,
) -> None:
    assert by_roles.creatable(Actor(roles=frozenset({"Spl_ROLE"})), "x_owner_name")
    assert by_roles.deletable(MEMBER, "x_free")


def test_the_roles_of_the_service_token_count_too(by_roles: Protections) -> None:
    through_service = Actor(roles=frozenset({"member"}), service_roles=frozenset({"admin"}))

    assert by_roles.updatable(through_service, "x_owner_name")


def test_internal_properties_are_never_concerned(tmp_path: Path) -> None:
    closed = protections(
        tmp_path / "protections.conf",
        "[os_glance_.*]\ncreate = !\nread = !\nupdate = !\ndelete = !\n"
        "[.*]\ncreate = !\nread = !\nupdate = !\ndelete = !\n",
    )

    assert closed.readable(MEMBER, "os_glance_import_task")
    assert not closed.readable(MEMBER, "os_type")


def test_policies_name_rules_of_the_policy_file(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text('vendors: "role:spl_role and project_id:p1"')
    by_policies = protections(
        tmp_path / "protections.conf",
        "[x_.*]\ncreate = vendors\nread = @\nupdate = context_is_admin\ndelete = !\n",
        "policies",
        str(tmp_path / "policy.yaml"),
    )

    assert by_policies.creatable(SPL, "x_a")
    assert not by_policies.creatable(MEMBER, "x_a")
    assert not by_policies.creatable(Actor(project_id="p2", roles=SPL.roles), "x_a")
    assert by_policies.updatable(ADMIN, "x_a")
    assert by_policies.readable(MEMBER, "x_a")
    assert not by_policies.deletable(ADMIN, "x_a")


@pytest.mark.parametrize(
    ("form", "text", "reason"),
    [
        ("roles", "no section", "File contains no section headers"),
        ("roles", "[a(]\ncreate=@\nread=@\nupdate=@\ndelete=@\n", "not a regular expression"),
        ("roles", "[a]\ncreate=@\nread=@\nupdate=@\n", r"\[a\] delete is missing"),
        ("roles", "[a]\ncreate=@,admin\nread=@\nupdate=@\ndelete=@\n", "stand alone"),
        ("roles", "[a]\ncreate=@\nread=@\nupdate=@\ndelete=!,@\n", "stand alone"),
        ("roles", "[a]\nread=@\n[a]\nread=@\n", "already exists"),
        ("policies", "[a]\ncreate=x,y\nread=@\nupdate=@\ndelete=@\n", "name one policy rule"),
        (
            "policies",
            "[a]\ncreate=no_such\nread=@\nupdate=@\ndelete=@\n",
            "no policy rule 'no_such'",
        ),
    ],
)
def test_a_malformed_file_is_refused_at_start_with_section_and_cause(
    tmp_path: Path, form: str, text: str, reason: str
) -> None:
    with pytest.raises(ConfigurationError, match=r"policy\.property_protections: .*" + reason):
        protections(tmp_path / "protections.conf", text, form)


def test_an_unreadable_file_is_refused_at_start(tmp_path: Path) -> None:
    settings = Settings(policy=PolicySettings(property_protections=str(tmp_path / "absent")))

    with pytest.raises(ConfigurationError, match="cannot read"):
        Protections.open(settings)


def test_an_empty_value_allows_nobody(tmp_path: Path) -> None:
    silent = protections(
        tmp_path / "protections.conf", "[a]\ncreate =\nread = @\nupdate =\ndelete =\n"
    )

    assert not silent.creatable(ADMIN, "a")
    assert silent.readable(MEMBER, "a")


def rewrite(path: Path, text: str) -> None:
    path.write_text(text)
    before = time.time() - 5
    os.utime(path, (before, before))


def test_a_changed_file_is_in_force_within_about_a_second(tmp_path: Path) -> None:
    path = tmp_path / "protections.conf"
    rules = protections(path, ROLES)
    assert not rules.readable(ADMIN, "colour")

    rewrite(path, "[colour]\ncreate=@\nread=@\nupdate=@\ndelete=@\n")

    deadline = time.monotonic() + 5
    while not rules.readable(ADMIN, "colour"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not rules.readable(MEMBER, "x_free")


def test_a_changed_file_that_is_broken_leaves_the_last_good_one(tmp_path: Path) -> None:
    path = tmp_path / "protections.conf"
    rules = protections(path, ROLES)

    rewrite(path, "[x_free]\nread = @\n")

    deadline = time.monotonic() + 5
    while not rules.problems():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "create is missing" in rules.problems()[0]
    assert rules.updatable(ADMIN, "x_owner_name")
    assert not rules.deletable(ADMIN, "x_owner_name")


def test_names_made_up_by_clients_do_not_fill_the_memory(by_roles: Protections) -> None:
    for number in range(10_000):
        by_roles.readable(MEMBER, f"x_{number}")

    assert len(by_roles._of_name) <= 4096
    assert by_roles.readable(MEMBER, "x_free")
