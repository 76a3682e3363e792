"""Who may do what, by the defaults and by an operator's file."""

from __future__ import annotations

import datetime as dt
import http.server
import os
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from transom.errors import ConfigurationError, ImageNotFound, PolicyRefused, Unavailable
from transom.model.actor import ANONYMOUS, Actor
from transom.model.image import Image, Visibility
from transom.policy import Policy
from transom.policy.check import CALLERS_MAX
from transom.settings import PolicySettings, Settings

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
OWNER = Actor(project_id="p1", roles=frozenset({"member", "reader"}))
READER = Actor(project_id="p1", roles=frozenset({"reader"}))
STRANGER = Actor(project_id="p2", roles=frozenset({"member", "reader"}))
NOBODY = Actor(project_id="p1")
ADMIN = Actor(project_id="p9", roles=frozenset({"admin", "member", "reader"}), is_admin=True)
SERVICE = Actor(project_id="p8", roles=frozenset({"service"}))


def image(visibility: str = "private", **values: Any) -> Image:
    values = {"id": "i1", "owner": "p1", "created_at": NOW, "updated_at": NOW} | values
    return Image(visibility=Visibility(visibility), **values)


def policy(**settings: Any) -> Policy:
    return Policy.open(Settings(policy=PolicySettings(**settings)))


def policy_of(path: Path, text: str, **settings: Any) -> Policy:
    path.write_text(text)
    return policy(file=str(path), **settings)


def rewrite(path: Path, text: str) -> None:
    """Write a file as if it had been done a while ago, so that it counts as finished."""
    path.write_text(text)
    before = time.time() - 5
    os.utime(path, (before, before))


# --- images and hiding ---


def test_a_refusal_on_an_image_that_the_caller_sees_is_a_refusal() -> None:
    with pytest.raises(PolicyRefused) as refused:
        policy().check_image(READER, "modify_image", image())

    assert refused.value.action == "modify_image"


@pytest.mark.parametrize("rule", ["get_image", "modify_image", "delete_image", "download_image"])
@pytest.mark.parametrize("actor", [STRANGER, NOBODY, SERVICE, ANONYMOUS])
def test_an_image_that_the_caller_may_not_see_does_not_exist(rule: str, actor: Actor) -> None:
    with pytest.raises(ImageNotFound) as missing:
        policy().check_image(actor, rule, image())

    assert str(missing.value) == str(ImageNotFound("i1"))


def test_what_is_allowed_raises_nothing() -> None:
    rules = policy()

    rules.check_image(OWNER, "modify_image", image())
    rules.check_image(STRANGER, "download_image", image("public"))
    rules.check_image(ADMIN, "publicize_image", image())


def test_an_image_member_sees_and_downloads_and_changes_nothing() -> None:
    rules = policy()
    shared = image("shared", member_id="p2")

    assert rules.allows_image(STRANGER, "get_image", shared)
    assert rules.allows_image(STRANGER, "download_image", shared)
    assert not rules.allows_image(STRANGER, "modify_image", shared)
    assert rules.allows_image(STRANGER, "modify_member", shared)
    assert not rules.allows_image(OWNER, "modify_member", shared)


def test_a_page_keeps_its_order_and_loses_what_is_not_visible() -> None:
    page = [image("public", id="1"), image(id="2"), image("community", id="3")]

    assert [one.id for one in policy().visible(STRANGER, page)] == ["1", "3"]
    assert policy().visible(SERVICE, page) == []


def test_custom_properties_and_attributes_can_be_named_in_rules(tmp_path: Path) -> None:
    rules = policy_of(
        tmp_path / "policy.yaml",
        """
        download_image: "role:member and 'gold':%(tier)s and 'qcow2':%(disk_format)s"
        delete_image: "'i1':%(image_id)s and not 'True':%(protected)s"
        """,
    )

    gold = image("public", disk_format="qcow2", properties={"tier": "gold"})
    assert rules.allows_image(STRANGER, "download_image", gold)
    assert not rules.allows_image(STRANGER, "download_image", image("public", disk_format="qcow2"))
    assert rules.allows_image(STRANGER, "delete_image", image())
    assert not rules.allows_image(STRANGER, "delete_image", image(protected=True))


def test_a_property_cannot_pass_itself_off_as_an_attribute(tmp_path: Path) -> None:
    rules = policy()

    disguised = image(properties={"owner": "p2", "project_id": "p2", "visibility": "public"})
    assert not rules.allows_image(STRANGER, "get_image", disguised)


# --- administrators ---


def test_the_rule_context_is_admin_makes_administrators(tmp_path: Path) -> None:
    rules = policy_of(tmp_path / "policy.yaml", 'context_is_admin: "role:image_admin"')

    assert rules.recognise(Actor(roles=frozenset({"Image_Admin"}))).is_admin
    assert not rules.recognise(ADMIN).is_admin
    assert policy().recognise(ADMIN) is ADMIN


def test_context_is_admin_may_look_at_the_callers_own_credentials(tmp_path: Path) -> None:
    rules = policy_of(
        tmp_path / "policy.yaml", "context_is_admin: \"'ops':%(project_id)s and role:admin\""
    )

    assert rules.recognise(Actor(project_id="ops", roles=frozenset({"admin"}))).is_admin
    assert not rules.recognise(Actor(project_id="p1", roles=frozenset({"admin"}))).is_admin


def test_no_caller_is_taken_for_one_that_is_gone() -> None:
    # Many more than are remembered, each gone before the next one takes its place in memory.
    rules = policy()
    for number in range(3 * CALLERS_MAX):
        role = ("admin", "member", "reader")[number % 3]
        actor = rules.recognise(Actor(user_id=f"u{number}", roles=frozenset({role})))
        assert actor.user_id == f"u{number}"
        assert actor.is_admin == (role == "admin")


# --- scope ---

SYSTEM_ADMIN = Actor(system_scope="all", roles=frozenset({"admin", "member", "reader"}))
DOMAIN_ADMIN = Actor(domain_id="d1", roles=frozenset({"admin", "member", "reader"}))
UNSCOPED = Actor(user_id="u1")


@pytest.mark.parametrize("actor", [SYSTEM_ADMIN, DOMAIN_ADMIN, UNSCOPED])
def test_tokens_without_a_project_are_refused_whatever_their_roles(actor: Actor) -> None:
    rules = policy()
    actor = rules.recognise(actor)

    with pytest.raises(PolicyRefused):
        rules.check(actor, "get_images", {"project_id": actor.project_id})
    for rule in ("get_image", "modify_image"):
        with pytest.raises(ImageNotFound):
            rules.check_image(actor, rule, image("public"))
    with pytest.raises(PolicyRefused):
        rules.check_scope(actor)
    assert rules.visible(actor, [image("public")]) == []


def test_scope_can_be_left_unenforced() -> None:
    rules = policy(enforce_scope=False)

    rules.check_scope(SYSTEM_ADMIN)
    assert rules.allows(SYSTEM_ADMIN, "get_images", {})
    assert not rules.allows(UNSCOPED, "get_images", {})


def test_a_caller_without_identity_is_refused_by_the_rules_and_not_by_scope() -> None:
    rules = policy()

    rules.check_scope(ANONYMOUS)
    with pytest.raises(PolicyRefused):
        rules.check(ANONYMOUS, "get_images", {"project_id": None})
    with pytest.raises(ImageNotFound):
        rules.check_image(ANONYMOUS, "get_image", image("public"))


def test_an_administrator_without_a_project_is_let_in() -> None:
    nobody_else = Actor(roles=frozenset({"admin", "member", "reader"}))

    assert policy().allows_image(nobody_else, "delete_image", image())


# --- the older defaults ---


def test_older_defaults_open_the_rules_and_the_owner_is_asked_for_besides() -> None:
    rules = policy(enforce_new_defaults=False, enforce_scope=False)

    assert rules.allows_image(NOBODY, "modify_image", image())
    assert rules.allows_image(STRANGER, "get_image", image("public"))
    with pytest.raises(PolicyRefused):
        rules.check_image(STRANGER, "modify_image", image("public"))
    with pytest.raises(PolicyRefused):
        rules.check_image(STRANGER, "modify_image", image("public", owner=None))
    rules.check_image(ADMIN, "modify_image", image("public", owner=None))


@pytest.mark.parametrize(
    "rule",
    ["delete_image", "upload_image", "deactivate", "reactivate", "add_member", "delete_member"],
)
def test_older_defaults_let_no_stranger_change_an_image(rule: str) -> None:
    rules = policy(enforce_new_defaults=False, enforce_scope=False)

    assert rules.allows_image(NOBODY, rule, image("shared"))
    assert not rules.allows_image(STRANGER, rule, image("shared"))


def test_a_rule_in_the_file_is_not_opened_by_its_older_default(tmp_path: Path) -> None:
    rules = policy_of(
        tmp_path / "policy.yaml", 'modify_image: "role:boss"', enforce_new_defaults=False
    )

    assert not rules.allows_image(OWNER, "modify_image", image())


# --- the file ---


def test_the_file_lies_over_the_defaults(tmp_path: Path) -> None:
    rules = policy_of(
        tmp_path / "policy.yaml",
        '{"publicize_image": "rule:context_is_admin or role:publisher", "helper": "role:x"}',
    )

    publisher = Actor(project_id="p1", roles=frozenset({"publisher", "reader"}))
    assert rules.allows_image(publisher, "publicize_image", image())
    assert not rules.allows_image(publisher, "modify_image", image())
    assert rules.overridden() == {"publicize_image", "helper"}
    assert "helper" in rules
    assert "no_such_rule" not in rules
    assert rules.rules()["helper"] == "role:x"


def test_an_unknown_rule_is_never_allowed_by_accident() -> None:
    with pytest.raises(LookupError, match="there is no policy rule 'get_imgae'"):
        policy().allows(ADMIN, "get_imgae", {})


def test_a_change_of_the_file_is_in_force_without_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    rules = policy_of(path, "{}")
    assert not rules.allows_image(READER, "modify_image", image())

    rewrite(path, 'modify_image: "role:reader"')
    rules.reload()

    assert rules.allows_image(READER, "modify_image", image())
    assert rules.problems() == []


def test_a_change_is_noticed_within_about_a_second_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    rules = policy_of(path, "{}")
    path.write_text('modify_image: "role:reader"')

    deadline = time.monotonic() + 5
    while not rules.allows_image(READER, "modify_image", image()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_file_that_is_just_being_written_is_left_alone_for_a_moment(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    rules = policy_of(path, 'modify_image: "role:reader"')

    path.write_text("")
    rules.reload()

    assert rules.allows_image(READER, "modify_image", image())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("modify_image: [", "neither YAML nor JSON"),
        ('modify_image: "rule:no_such"', "refers to rule 'no_such', which does not exist"),
        ('modify_image: "rule:modify_image"', "refers to itself"),
        ('modify_image: "role:member and"', "rule 'modify_image': cannot read"),
    ],
)
def test_a_broken_file_leaves_the_last_good_rules_in_force_and_says_so(
    tmp_path: Path, text: str, reason: str
) -> None:
    path = tmp_path / "policy.yaml"
    rules = policy_of(path, 'modify_image: "role:reader"')

    rewrite(path, text)
    rules.reload()

    assert rules.allows_image(READER, "modify_image", image())
    [problem] = rules.problems()
    assert str(path) in problem
    assert reason in problem
    assert "stay in force" in problem

    rewrite(path, "modify_image: '!'")
    rules.reload()
    assert rules.problems() == []
    assert not rules.allows_image(READER, "modify_image", image())


def test_a_file_that_goes_away_leaves_the_last_good_rules_in_force(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    rules = policy_of(path, 'modify_image: "role:reader"')

    path.unlink()
    rules.reload()

    assert rules.allows_image(READER, "modify_image", image())
    assert "cannot read" in rules.problems()[0]


@pytest.mark.parametrize("text", ["modify_image: [", 'modify_image: "rule:no_such"', "\udcff"])
def test_a_broken_file_at_start_is_refused_with_file_and_cause(tmp_path: Path, text: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))

    with pytest.raises(ConfigurationError, match=r"policy\.file: .*policy\.yaml"):
        policy(file=str(path))


def test_a_missing_file_at_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot read .*name a readable file"):
        policy(file=str(tmp_path / "absent.yaml"))


# --- remote checks ---


class _Judge(http.server.BaseHTTPRequestHandler):
    asked: list[dict[str, list[str]]] = []
    answer = b"True"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        self.asked.append(urllib.parse.parse_qs(body))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def judge_url() -> Iterator[str]:
    _Judge.asked, _Judge.answer = [], b"True"
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Judge)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_remote_check_is_asked_each_time_with_rule_target_and_credentials(
    tmp_path: Path, judge_url: str
) -> None:
    rules = policy_of(
        tmp_path / "policy.yaml", f'helper: "{judge_url}/%(owner)s"\ndelete_image: "rule:helper"'
    )

    assert rules.allows_image(OWNER, "delete_image", image(properties={"colour": "red"}))
    _Judge.answer = b"False"
    assert not rules.allows_image(OWNER, "delete_image", image())

    assert len(_Judge.asked) == 2
    assert _Judge.asked[0]["rule"] == ['"delete_image"']
    assert '"colour": "red"' in _Judge.asked[0]["target"][0]
    assert '"project_id": "p1"' in _Judge.asked[0]["credentials"][0]


def test_a_remote_check_without_an_answer_is_neither_yes_nor_no(tmp_path: Path) -> None:
    rules = policy_of(tmp_path / "policy.yaml", 'delete_image: "not http://127.0.0.1:9/x"')

    with pytest.raises(Unavailable, match="rule delete_image gave no answer"):
        rules.allows_image(OWNER, "delete_image", image())


# --- cost ---


def test_a_page_is_checked_in_microseconds() -> None:
    rules = policy()
    page = [image(id=str(number)) for number in range(25)]
    rules.visible(OWNER, page)

    best = min(_timed(lambda: rules.visible(OWNER, page)) for _ in range(50))

    # About 10 microseconds; the bound leaves room for slow machines, not for another design.
    assert best < 0.0005


def _timed(call: Any) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin
