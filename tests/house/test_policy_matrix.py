"""Who may do what, as a page whose changes are reviewed, and as the contract has it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.tree import ROOT
from transom.cli.main import main
from transom.model.image import Visibility
from transom.policy import Policy
from transom.policy.matrix import (
    DEPLOYMENT_RULES,
    IMAGE_RULES,
    METADEF_READS,
    METADEF_WRITES,
    PERSONAS,
    image_verdict,
    list_verdict,
    markdown,
)
from transom.policy.rules import BY_NAME, RULES
from transom.settings import Settings

PAGE = ROOT / "docs/reference/policy-matrix.md"
POLICY = Policy.open(Settings())
PERSONA = {persona.name: persona for persona in PERSONAS}


def test_the_matrix_page_is_what_the_rules_say_now() -> None:
    assert PAGE.read_text() == markdown(POLICY), (
        "the policy changed: review the difference, then "
        "`transom policy matrix > docs/reference/policy-matrix.md`"
    )


def test_every_rule_has_a_row() -> None:
    helpers = {"default", "context_is_admin", "service_api", "metadef_default", "metadef_admin"}
    others = {"get_images", "get_metadef_namespaces", "add_image", "add_metadef_namespace"}
    rows = {*IMAGE_RULES, *DEPLOYMENT_RULES, *METADEF_READS, *METADEF_WRITES, *others}

    assert rows | helpers == {rule.name for rule in RULES}
    page = PAGE.read_text()
    assert all(f"`{rule}`" in page for rule in rows)


def test_every_endpoint_asks_a_rule_that_exists() -> None:
    from transom.api.routes import ROUTES

    asked = {route.action for route in ROUTES if route.action}

    assert asked <= set(BY_NAME)


# The measured truth table of lifecycle §2: show, download, modify, and `GET locations`, then the
# default list and the list of all. `members` is left to the tests over HTTP: that the image must
# be shared comes before policy.
TRUTH = """
public    | owner           | yes yes yes 403 | yes yes
public    | owner reader    | yes 403 403 403 | yes yes
public    | accepted        | yes yes 403 403 | yes yes
public    | stranger        | yes yes 403 403 | yes yes
public    | accepted reader | yes 403 403 403 | yes yes
public    | stranger reader | yes 403 403 403 | yes yes
public    | admin           | yes yes yes yes | yes yes
public    | service         | 404 404 404 yes | 403 403
public    | no role         | 404 404 404 404 | 403 403
community | owner           | yes yes yes 403 | yes yes
community | owner reader    | yes 403 403 403 | yes yes
community | accepted        | yes yes 403 403 | no  yes
community | stranger        | yes yes 403 403 | no  yes
community | stranger reader | yes 403 403 403 | no  yes
community | admin           | yes yes yes yes | no  yes
community | service         | 404 404 404 yes | 403 403
community | no role         | 404 404 404 404 | 403 403
shared    | owner           | yes yes yes 403 | yes yes
shared    | owner reader    | yes 403 403 403 | yes yes
shared    | accepted        | yes yes 403 403 | yes yes
shared    | pending         | yes yes 403 403 | no  no
shared    | rejected        | yes yes 403 403 | no  no
shared    | accepted reader | yes 403 403 403 | yes yes
shared    | stranger        | 404 404 404 404 | no  no
shared    | stranger reader | 404 404 404 404 | no  no
shared    | admin           | yes yes yes yes | yes yes
shared    | service         | 404 404 404 404 | 403 403
shared    | no role         | 404 404 404 404 | 403 403
private   | owner           | yes yes yes 403 | yes yes
private   | owner reader    | yes 403 403 403 | yes yes
private   | accepted        | 404 404 404 404 | no  no
private   | stranger        | 404 404 404 404 | no  no
private   | admin           | yes yes yes yes | yes yes
private   | service         | 404 404 404 404 | 403 403
private   | no role         | 404 404 404 404 | 403 403
"""


@pytest.mark.parametrize("row", TRUTH.strip().splitlines())
def test_the_matrix_tells_the_truth_table(row: str) -> None:
    visibility, name, image, lists = (part.strip() for part in row.split("|"))
    persona = PERSONA[name]
    rules = ("get_image", "download_image", "modify_image", "fetch_image_location")

    assert [
        image_verdict(POLICY, persona, rule, Visibility(visibility)) for rule in rules
    ] == image.split()
    assert [
        list_verdict(POLICY, persona, Visibility(visibility), every=every)
        for every in (False, True)
    ] == lists.split()


@pytest.mark.parametrize("visibility", list(Visibility))
@pytest.mark.parametrize("name", ["system admin", "domain admin"])
def test_tokens_of_another_scope_are_told_the_same_about_every_image(
    name: str, visibility: Visibility
) -> None:
    told = {image_verdict(POLICY, PERSONA[name], rule, visibility) for rule in IMAGE_RULES}

    assert told == {"404"}


# --- the command ---


def test_the_command_prints_the_matrix_of_the_rules_in_force(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "policy.yaml").write_text('publicize_image: "role:member"')
    (tmp_path / "transom.toml").write_text(f'[policy]\nfile = "{tmp_path / "policy.yaml"}"\n')

    assert main(["policy", "matrix", "--config", str(tmp_path / "transom.toml")]) == 0

    printed = capsys.readouterr().out
    assert printed != PAGE.read_text()
    [before], [after] = (
        [line for line in text.splitlines() if line.startswith("| `publicize_image` on creation")]
        for text in (PAGE.read_text(), printed)
    )
    assert before.split(" | ")[2] == "403"
    assert after.split(" | ")[2] == "yes"


@pytest.mark.parametrize(
    ("arguments", "code", "answer"),
    [
        ("modify_image --roles member,reader --project p1", 0, "allowed"),
        ("modify_image --roles reader --project p1", 1, "refused with 403"),
        (
            "modify_image --roles member,reader --project p1 --owner p2",
            1,
            "refused with 404: for this caller the image does not exist",
        ),
        (
            "get_image --roles service --project p1 --visibility public",
            1,
            "refused with 404: get_image is refused too, so the image is hidden",
        ),
        (
            (
                "download_image --roles member,reader --project p1 --owner p2 --visibility shared "
                "--member p1"
            ),
            0,
            "allowed",
        ),
        ("get_images --roles admin --system", 1, "needs a token that is scoped to a project"),
        ("get_images --roles admin --domain d1", 1, "needs a token that is scoped to a project"),
        ("stores_info_detail --roles service --project p1", 0, "allowed"),
        ("cache_list --roles member --project p1", 1, "refused"),
    ],
)
def test_the_command_answers_one_case(
    arguments: str, code: int, answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["policy", "check", *arguments.split()]) == code

    assert answer in capsys.readouterr().out.splitlines()[-1]


def test_the_command_judges_by_custom_properties(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "policy.yaml").write_text("download_image: \"'gold':%(tier)s\"")
    (tmp_path / "transom.toml").write_text(f'[policy]\nfile = "{tmp_path / "policy.yaml"}"\n')
    asked = ["policy", "check", "download_image", "--config", str(tmp_path / "transom.toml")]
    who = ["--roles", "reader", "--project", "p1"]

    assert main([*asked, *who, "--property", "tier=gold"]) == 0
    assert main([*asked, *who, "--property", "tier=iron"]) == 1
    assert main([*asked, *who, "--property", "tier"]) == 1
    assert "write it as NAME=VALUE" in capsys.readouterr().err


def test_the_command_names_the_way_out_for_an_unknown_rule(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["policy", "check", "get_imgae", "--roles", "admin"]) == 1

    assert "transom policy rules" in capsys.readouterr().err


def test_the_printed_rules_are_a_policy_file_of_the_same_meaning(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["policy", "rules"]) == 0
    (tmp_path / "policy.yaml").write_text(capsys.readouterr().out)
    (tmp_path / "transom.toml").write_text(f'[policy]\nfile = "{tmp_path / "policy.yaml"}"\n')

    assert main(["policy", "matrix", "--config", str(tmp_path / "transom.toml")]) == 0

    assert capsys.readouterr().out == PAGE.read_text()


def test_the_policy_needs_neither_oslo_policy_nor_the_web_to_start() -> None:
    """oslo.policy takes longer to load than the whole service may take to start."""
    program = (
        "import sys, json; from transom.policy import Policy; from transom.settings import Settings;"
        "policy = Policy.open(Settings());"
        "print(json.dumps([name for name in sys.modules if name.startswith(('oslo', 'requests'))]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert json.loads(done.stdout) == []
